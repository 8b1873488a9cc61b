"""A ledger restored from an older backup has runs open that Jobs have left behind: nothing is done to a Job in their name."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aiqueue.admission.controller.facts import Result
from aiqueue.admission.controller.stamps import SUPERSEDED
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.store.actions import Action
from aiqueue.queue.words import ActionKind, RunOutcome
from fix_workbench import Bench, result

pytestmark = pytest.mark.e2e


def earlier(action: Action, kind: ActionKind, **more: object) -> Action:
    """What the run before this one would have done to the Job."""
    assert action.stamp is not None
    stamp = RunStamp(action.stamp.ledger, action.stamp.run_id - 1, action.stamp.attempt)
    return replace(action, kind=kind, stamp=stamp, **more)  # type: ignore[arg-type]  # fields that the test names


def marks(seen: Observation) -> tuple[object, ...]:
    return (seen.suspended, seen.stamp, seen.stopped, seen.deadline_seconds, seen.pod_sets)


def test_a_job_that_runs_for_a_later_run_is_not_ended(bench: Bench) -> None:
    action = bench.admit()
    assert result(bench.hands(action)) is Result.DONE
    before = marks(bench.seen())
    notice = {
        "adopted": True,  # of which nobody expects that the Job carries its stamp
        "evict_at": datetime.now(UTC) + timedelta(hours=1),
        "evict_outcome": RunOutcome.PREEMPTED,
        "evict_message": "preempted",
    }
    for kind, more in ((ActionKind.SUSPEND, {}), (ActionKind.EXPIRE, {}), (ActionKind.ANNOUNCE, notice)):
        assert bench.hands(earlier(action, kind, **more)) == (Result.MOOT, SUPERSEDED)
        assert marks(bench.seen()) == before


def test_what_a_later_run_left_in_a_template_is_not_an_earlier_ones_to_restore(bench: Bench) -> None:
    action = bench.admit()
    assert result(bench.hands(action)) is Result.DONE
    assert result(bench.until_done(bench.evict(action))[-1]) is Result.DONE
    before = marks(bench.seen())
    restoration = bench.restoration(action)
    assert result(bench.hands(earlier(restoration, ActionKind.RESTORE))) is Result.MOOT
    assert marks(bench.seen()) == before
    assert result(bench.until_done(restoration)[-1]) is Result.DONE
    assert bench.seen().stamp is None
