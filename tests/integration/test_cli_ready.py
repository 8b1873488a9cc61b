"""What `aiqueue get` and `aiqueue explain` say of gangs that are not ready."""

import json
import re
from typing import Any

import pytest

from aiqueue.queue.words import RunOutcome, WorkloadState
from fix_command import Command
from fix_rows import Rows, at

pytestmark = pytest.mark.integration

GPU = "nvidia.com/gpu"


def running(rows: Rows, name: str, *, injected: dict[str, Any] | None = None, **run: Any) -> None:
    """A gang of eight of which three are ready."""
    workload = rows.workload(name, pods=8, requests={GPU: 0}, state=WorkloadState.ADMITTED, ready=3, suspended=False)
    rows.run(workload, tenant="research", injected=injected or {}, **{"started_at": at(1), **run})


def test_how_much_of_a_gang_is_ready_and_until_when_the_rest_has_to_be(applied: Command, rows: Rows) -> None:
    running(rows, "late")
    running(rows, "whole", ready_at=at(2))
    running(rows, "lost", ready_at=at(2), unready_since=at(30))
    running(rows, "smaller", injected={"main": {"parallelism": 4}})
    running(rows, "waits", started_at=None)
    _, *lines = applied("get", "workloads", "-n", "team-a").out.splitlines()
    shown = {line.split()[0]: re.findall(r" (\d+/\d+) ", line) for line in lines}
    assert shown == {"late": ["3/8"], "whole": ["3/8"], "lost": ["3/8"], "smaller": ["3/4"], "waits": []}

    def ready(name: str) -> list[str]:
        out = applied("explain", "workload", f"team-a/{name}").out
        return [line.split(maxsplit=1)[1] for line in out.splitlines() if line.startswith("  ready ")]

    assert ready("late")[0].startswith("3 of 8 pods; the whole gang has to be by 2026-01-01T12:10:01")
    assert ready("whole")[0].startswith("3 of 8 pods; the whole gang was at 2026-01-01T12:00:02")
    assert ready("lost")[0].startswith("3 of 8 pods, not the whole gang since 2026-01-01T12:00:30")
    assert "it has to be again by 2026-01-01T12:10:30" in ready("lost")[0]
    assert ready("waits") == []
    document = json.loads(applied("explain", "workload", "team-a/lost", "-o", "json").out)
    assert document["status"]["readyPods"] == 3
    assert document["explanation"]["readyBy"] is not None
    assert document["explanation"]["evictedNext"]["outcome"] == "NotReady"


def test_who_was_put_back_is_told_which_try_is_next(applied: Command, rows: Rows) -> None:
    later = at(10**9)
    back = rows.workload("back", requests={GPU: 1}, requeues=2, requeued_at=at(60), not_before=later, attempt=2)
    rows.run(back, tenant="research", closed=60, outcome=RunOutcome.NOT_READY, message="too late", evict_message="too late")
    held = rows.workload(
        "held", requests={GPU: 1}, state=WorkloadState.HELD, requeues=6, requeued_at=at(60), owner_suspended=True, attempt=6
    )
    rows.run(held, tenant="research", closed=60, outcome=RunOutcome.NOT_READY, message="too late")
    waits = applied("explain", "workload", "team-a/back").out
    assert "It waits: Backoff" in waits
    assert "its gang was not ready, requeue 2 of 5 (requeueLimit)" in waits
    assert "requeued   2 times, as its gang was not ready: its age counts from 2026-01-01T12:01:00" in waits
    stays = applied("explain", "workload", "team-a/held").out
    assert "is held: its gang was not ready 6 times, and its class requeues it 5 at most (requeueLimit)" in stays
    assert 'what would change it: the annotation aiqueue.dev/hold set to "false"' in stays
    status = json.loads(applied("get", "workloads", "back", "-n", "team-a", "-o", "json").out)["status"]
    assert (status["requeues"], status["requeuedAt"] is not None, status["notBefore"] is not None) == (2, True, True)
