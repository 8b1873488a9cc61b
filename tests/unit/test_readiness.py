"""What is made of a Job's status: whether its gang is wholly ready, is so no more, and what a run that was not ready leads to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from aiqueue.admission.controller import news, readiness
from aiqueue.admission.controller.follow import Batch, follow
from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.plan import Eviction
from aiqueue.admission.kube.jobs import observe
from aiqueue.admission.kube.objects import Job
from aiqueue.queue.observations import Observation
from aiqueue.queue.records import Class, PodSet
from aiqueue.queue.store.changes import Changes, ClosedRun, PutBack, Stood
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import EventReason, RunOutcome, WorkloadState
from fix_follow import AFTER, ATTEMPT, BEFORE, GPU, OURS, RUN, make_context, make_known, make_running, make_seen

READY: dict[str, Any] = {"ready_at": AFTER}
LOST: dict[str, Any] = {**READY, "unready_since": AFTER + timedelta(seconds=5)}
GANG = (PodSet("main", 4, {GPU: 1}),)


def seen_running(**changes: Any) -> Observation:
    """A gang of four of four completions that runs under our stamp."""
    return make_seen(GANG, **({"stamp": OURS, "suspended": False, "completions": 4} | changes))


def looked(seen: Observation, *, before: tuple[int, int] = (0, 0), **run: Any) -> list[Stood]:
    """What an observation says of the gang of a run whose Job was last seen with so many ready and succeeded."""
    ready, succeeded = before
    known = make_running(run=run, status=(False, 4, 0, ready, succeeded, 0))
    batch = Batch()
    follow(batch, seen, known, make_context())
    assert (seen.uid in batch.touched) or not batch.changes.stood
    return batch.changes.stood


@pytest.mark.parametrize(
    ("changes", "succeeded_before", "ready"),
    [
        ({"ready": 3}, 0, False),
        ({"ready": 4}, 0, True),
        ({"ready": 3, "succeeded": 1}, 0, True),  # one was so quick that it is over
        ({"ready": 0, "succeeded": 3}, 0, False),
        ({"ready": 2, "succeeded": 2}, 2, True),  # two are left of an earlier run
        ({"ready": 1, "succeeded": 2}, 2, False),
        ({"ready": 0, "succeeded": 50, "completions": 100}, 50, False),  # what an earlier run did says nothing of this one
        ({"ready": 2, "succeeded": 52, "completions": 100}, 50, True),
        ({"ready": 3, "failed_indexes": 1}, 0, True),  # nobody makes its pod again
        ({"ready": 3, "completions": None}, 0, False),
        ({"ready": 4, "completions": None}, 0, True),
        ({"ready": 0, "succeeded": 1, "completions": None}, 0, True),  # a work queue makes no more pods
        ({"ready": 0, "ending": True}, 0, True),
    ],
)
def test_when_a_gang_is_wholly_ready(changes: dict[str, Any], succeeded_before: int, ready: bool) -> None:
    assert looked(seen_running(**changes), succeeded_before=succeeded_before) == [Stood(RUN, ready=True)] * ready


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ready": 4}, []),
        ({"ready": 3}, [Stood(RUN, ready=False)]),
        ({"ready": 1, "succeeded": 3}, []),  # they come to an end one by one
        ({"ready": 0, "succeeded": 3}, [Stood(RUN, ready=False)]),
        ({"ready": 3, "failed_indexes": 1}, []),
        ({"ready": 3, "completions": None}, [Stood(RUN, ready=False)]),
        ({"ready": 0, "succeeded": 1, "completions": None}, []),
        ({"ready": 0, "ending": True}, []),
        ({"ready": 3, "deleting": True}, []),
        ({"ready": 0, "finished": WorkloadState.FAILED}, []),
    ],
)
def test_when_it_is_so_no_more(changes: dict[str, Any], expected: list[Stood]) -> None:
    assert looked(seen_running(**changes), **READY) == expected


def test_a_pod_that_succeeded_is_not_missed_while_its_job_has_yet_to_count_it() -> None:
    written = {
        "metadata": {"name": "job-1", "namespace": "team-a", "uid": "uid-1", "resourceVersion": "1"},
        "spec": {"template": {"spec": {}}, "parallelism": 4, "completions": 4},
        "status": {"ready": 2, "succeeded": 1, "uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["b", "c"]}},
    }
    seen = observe(msgspec.convert(written, Job), cluster="default")
    assert (seen.succeeded, seen.failed, readiness.wanted(seen)) == (2, 0, 2)


def test_it_recovers_and_begins_anew_with_each_that_succeeds_where_others_take_their_places() -> None:
    assert looked(seen_running(ready=3), before=(3, 0), **LOST) == [], "it is known"
    assert looked(seen_running(ready=4), before=(3, 0), **LOST) == [Stood(RUN, ready=True)]
    many = {"completions": 100}
    assert looked(seen_running(ready=3, succeeded=11, **many), before=(3, 10), **LOST) == [Stood(RUN, ready=False)]
    assert looked(seen_running(ready=3, succeeded=10, **many), before=(2, 10), **LOST) == []
    assert looked(seen_running(ready=2, succeeded=1), before=(3, 0), **LOST) == [], "no other takes its place"


@pytest.mark.parametrize("run", [{"evict_at": AFTER}, {"stopped": True}])
def test_nobody_asks_for_the_gang_of_a_run_that_is_to_end(run: dict[str, Any]) -> None:
    assert looked(seen_running(ready=4), **run) == []
    assert looked(seen_running(ready=3), **run, **READY) == []


def test_nobody_asks_for_pods_that_another_started() -> None:
    assert looked(seen_running(ready=4, stamp=None)) == []
    assert looked(seen_running(ready=4, stamp=None), adopted=True) == [Stood(RUN, ready=True)]


@pytest.mark.parametrize("ready", [0, 4])
def test_who_is_adopted_is_ready_from_the_start_or_has_its_time(ready: int) -> None:
    batch = Batch()
    follow(batch, seen_running(ready=ready, stamp=None, created_at=BEFORE), None, make_context())
    (adopted,) = batch.changes.adopted
    assert adopted.ready is (ready == 4)


def closed(known: Known, limit: int | None, outcome: RunOutcome = RunOutcome.NOT_READY, **changes: Any) -> Changes:
    """What follows when the run of a workload is closed under a class that requeues so often; None for a class that is gone."""
    configuration = make_context().configuration
    if limit is not None:
        configuration = replace(configuration, classes={"slow": Class("slow", requeue_limit=limit)})
    changed = Changes()
    values: dict[str, Any] = {"state": WorkloadState.PENDING, "message": "why"} | changes
    changed.closed.append(ClosedRun(RUN, known.id, outcome, values["message"], values["state"]))
    readiness.put_back(changed, [None, known], configuration)
    return changed


def test_each_time_it_waits_twice_as_long_up_to_an_hour_and_is_held_in_the_end() -> None:
    pauses = []
    for requeues in range(9):
        changes = closed(make_known(requeues=requeues, class_name="slow"), 8)
        (put_back,) = changes.put_back
        assert (put_back.workload_id, put_back.requeues, put_back.limit) == (11, requeues + 1, 8)
        pauses.append(put_back.pause_seconds)
        assert changes.closed[0].state is (WorkloadState.HELD if requeues == 8 else WorkloadState.PENDING)
    assert pauses == [60, 120, 240, 480, 960, 1920, 3600, 3600, None]
    assert closed(make_known(requeues=10**6, class_name="slow"), 10**7).put_back[0].pause_seconds == 3600


@pytest.mark.parametrize("limit", [0, 1, 8])
@pytest.mark.parametrize("requeues", [0, 8])
def test_who_was_released_while_it_still_ran_is_never_held_for_it_and_waits_a_minute(requeues: int, limit: int) -> None:
    changes = closed(make_known(requeues=requeues, class_name="slow", release_requested=True), limit)
    assert changes.put_back == [PutBack(11, 1, limit, 60)]
    assert changes.closed[0].state is WorkloadState.PENDING


def test_a_class_that_is_gone_requeues_as_the_built_in_one() -> None:
    assert [closed(make_known(requeues=n, class_name="slow"), None).closed[0].state for n in (4, 5)] == ["Pending", "Held"]


def test_only_who_waits_again_and_was_not_ready_is_put_back() -> None:
    known = make_known(class_name="slow")
    assert closed(known, 0, RunOutcome.PREEMPTED).put_back == []
    assert closed(known, 0, state=WorkloadState.CANCELLED).put_back == []
    held = closed(known, 5, state=WorkloadState.HELD)  # by its owner, meanwhile
    assert (held.put_back[0].pause_seconds, held.closed[0].state) == (60, WorkloadState.HELD)


def test_who_runs_on_by_a_later_run_is_not_put_back() -> None:
    """The ledger was restored from a backup in which the run was told to end; the Job runs for another by now."""
    told = {"evict_at": AFTER, "evict_outcome": RunOutcome.NOT_READY}
    known = make_running(run=told, state=WorkloadState.EVICTING, requeues=5)
    batch = Batch()
    follow(batch, seen_running(stamp=replace(OURS, run_id=RUN + 1)), known, make_context())
    assert [(each.run_id, each.outcome) for each in batch.changes.closed] == [(RUN, RunOutcome.NOT_READY)]
    readiness.put_back(batch.changes, [known], make_context().configuration)
    assert batch.changes.put_back == []
    assert batch.changes.closed[0].state is WorkloadState.PENDING


@pytest.mark.parametrize(
    ("changes", "requeues", "released"),
    [
        ({"released_by_owner": True}, 3, [11]),
        ({"released_by_owner": True}, 0, []),
        ({"held_by_owner": True}, 3, []),
        ({}, 3, []),
    ],
)
def test_a_release_forgets_what_was_counted(changes: dict[str, Any], requeues: int, released: list[int]) -> None:
    for state in (WorkloadState.HELD, WorkloadState.PENDING):
        batch = Batch()
        known = make_known(state=state, requeues=requeues, owner_suspended=state is WorkloadState.HELD)
        follow(batch, make_seen(**changes), known, make_context())
        assert batch.changes.released == released
    batch = Batch()
    follow(batch, make_seen(**changes), make_known(requeues=requeues, release_requested=True), make_context())
    assert batch.changes.released == [], "once for each time that it is set"


def test_what_is_told_of_it() -> None:
    eviction = Eviction(RUN, 11, ATTEMPT, RunOutcome.NOT_READY, AFTER, "too late")
    assert readiness.why(eviction, lambda: seen_running(ready=3)) == "too late: 3 of 4 pods were ready"
    assert readiness.why(eviction, lambda: None) == "too late"
    looked_at: list[Observation] = []
    assert readiness.why(replace(eviction, outcome=RunOutcome.DRAINED), looked_at.pop) == "too late", "nobody looks at it"
    for put_back, reason, text in (
        (PutBack(11, 2, 5, 120), EventReason.REQUEUED, "waits again as if it were new, for 2m at least (requeue 2 of 5): why"),
        (PutBack(11, 1, 0, 60), EventReason.REQUEUED, "for 1m at least (its owner released it while it still ran): why"),
        (PutBack(11, 6, 5, None), EventReason.HELD, "why; its class requeues it 5 times at most (requeueLimit); it is held"),
    ):
        state = WorkloadState.PENDING if put_back.pause_seconds else WorkloadState.HELD
        changes = Changes(closed=[ClosedRun(RUN, 11, RunOutcome.NOT_READY, "why", state)], put_back=[put_back])
        (told,) = news.of_changes(changes, [make_known()])
        assert told.reason is reason
        assert text in told.note


def test_who_waits_is_told_which_try_comes_next() -> None:
    for requeues, limit, told in (
        (2, 5, "its gang was not ready, requeue 2 of 5 (requeueLimit)"),
        (1, 0, "its gang was not ready, requeue 1"),  # released in time, or the limit was lowered meanwhile
        (3, 2, "its gang was not ready, requeue 3"),
    ):
        message, would_change = reasons.backoff(AFTER, requeues, limit)
        assert message == f"waits after an eviction until {AFTER.isoformat()}: {told}"
        assert would_change == f"time, or {reasons.RELEASE}"
