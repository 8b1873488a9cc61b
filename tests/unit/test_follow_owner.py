"""What follows where an owner acts while a run is on its way out, and where what was done for a run comes late."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from aiqueue.admission.controller import follow
from aiqueue.admission.controller.follow import Batch
from aiqueue.queue.observations import Observation
from aiqueue.queue.store.changes import NewAction
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import ActionKind, RunOutcome, WorkloadState
from fix_follow import (
    AFTER,
    ATTEMPT,
    BEFORE,
    CHANGED,
    FOREIGN,
    OLDER,
    OURS,
    RUN,
    STEERED,
    make_context,
    make_known,
    make_running,
    make_seen,
)

SUSPEND_AGAIN = NewAction("uid-1", RUN, ATTEMPT, ActionKind.SUSPEND)


def followed(seen: Observation, known: Known, **context: Any) -> Batch:
    """The batch that one observation fills."""
    batch = Batch()
    follow.follow(batch, seen, known, make_context(**context))
    return batch


def test_what_is_released_while_its_pods_are_going_waits_when_they_are_gone() -> None:
    seen = make_seen(stamp=OURS, released_by_owner=True, terminating=1)
    (again,) = followed(seen, make_running(run={"stopped": True}, owner_suspended=True)).changes.seen
    assert not again.owner_suspended


def test_suspended_and_released_at_once_it_is_not_held() -> None:
    batch = followed(make_seen(stamp=OURS, released_by_owner=True), make_running())
    (stopped,) = batch.changes.stopped
    assert not stopped.owner_suspended
    assert not batch.changes.seen[0].owner_suspended


def test_a_stamp_that_came_when_its_run_was_closed_already_is_taken_off() -> None:
    (action,) = followed(make_seen(stamp=OURS), make_known(attempt=ATTEMPT)).changes.actions
    assert (action.kind, action.run_id, action.attempt) == (ActionKind.RESTORE, RUN, ATTEMPT)


@pytest.mark.parametrize(
    ("seen", "stamp"),
    [(make_seen(stamp=OURS), str(OURS)), (make_seen(stamp=FOREIGN), None), (make_seen(stamp=OURS, active=1), str(OURS))],
    ids=["known, and so on its way", "another ledger's", "known, with another status"],
)
def test_a_stamp_that_is_known_or_of_another_ledger_is_not(seen: Observation, stamp: str | None) -> None:
    assert followed(seen, make_known(stamp=stamp)).changes.actions == []


def test_a_job_that_was_moved_while_it_goes_is_known_by_its_new_queue() -> None:
    batch = followed(make_seen(stamp=OURS, queue_name="other"), make_running(run={"stopped": True}, stamp=str(OURS)))
    assert [again.observation.queue_name for again in batch.changes.seen] == ["other"]


def test_whoever_is_adopted_by_its_stamp_has_what_that_run_wrote() -> None:
    (adopted,) = followed(make_seen(stamp=OLDER, suspended=False), make_known()).changes.adopted
    assert adopted.stamped_by == OLDER.run_id


def test_who_resumes_his_job_just_when_it_was_stopped_is_stopped_again() -> None:
    """Nobody saw it suspended, but the mark of the stop is on it."""
    known = make_running(run={"stopped": True}, state=WorkloadState.RELEASING)
    seen = make_seen(STEERED, suspended=False, stamp=OURS, stopped=OURS, active=2, ready=2)
    assert followed(seen, known).changes.actions == [SUSPEND_AGAIN]


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize(
    ("outcome", "kind"), [(RunOutcome.PREEMPTED, ActionKind.SUSPEND), (RunOutcome.EXPIRED, ActionKind.EXPIRE)]
)
@pytest.mark.parametrize(("ahead", "again"), [(timedelta(), True), (timedelta(microseconds=1), False)])
def test_who_was_suspended_unseen_when_his_time_was_up_is_ended_all_the_same(
    outcome: RunOutcome, kind: ActionKind, ahead: timedelta, again: bool, adopted: bool
) -> None:
    """What was to end the run found the Job suspended by its owner and was content; he resumed it before that was seen."""
    told = {"evict_at": AFTER + ahead, "evict_outcome": outcome, "adopted": adopted}
    known = make_running(run=told, state=WorkloadState.EVICTING)
    batch = followed(make_seen(suspended=False, stamp=None if adopted else OURS, active=2, ready=2), known)
    assert batch.changes.actions == ([NewAction("uid-1", RUN, ATTEMPT, kind)] if again else [])


def test_no_pods_mean_nothing_for_a_job_that_was_resumed_since_they_were_looked_for() -> None:
    """They were found gone before its owner resumed it: those that come now need the room, and it is stopped again."""
    run = {"stopped": True, "evict_outcome": RunOutcome.PREEMPTED}
    batch = Batch()
    follow.pods_gone(batch, make_running(run=run, state=WorkloadState.RELEASING, status=(False, 0, 0, 0, 0, 0)), RUN)
    assert batch.changes.empty
    follow.pods_gone(batch, make_running(run=run, state=WorkloadState.CANCELLED), RUN)  # of a Job that is gone none come
    assert [closed.run_id for closed in batch.changes.closed] == [RUN]


@pytest.mark.parametrize(
    ("seen", "only"),
    [
        (make_seen(), False),
        (make_seen(CHANGED), True),
        (make_seen(invalid="no such RuntimeClass"), True),
        (make_seen(CHANGED, queue_name="other"), False),
        (make_seen(CHANGED, held_by_owner=True), False),
        (make_seen(CHANGED, deleting=True), False),
    ],
)
def test_whether_what_surrounds_a_job_may_be_all_that_is_new(seen: Observation, only: bool) -> None:
    known = make_known()
    assert follow.counts_otherwise(seen, known.queue_name, known.shape) is only


EXPIRED: dict[str, Any] = {"state": WorkloadState.EXPIRED, "attempt": ATTEMPT, "owner_suspended": True}


@pytest.mark.parametrize("seen", [make_seen(stamp=OURS), make_seen(stamp=OURS, stopped=OURS), make_seen(created_at=BEFORE)])
def test_who_resumes_a_job_whose_time_was_up_has_it_adopted_where_others_are(seen: Observation) -> None:
    batch = followed(replace(seen, suspended=False, active=2), make_known(**EXPIRED))
    (again,), (adopted,) = batch.changes.seen, batch.changes.adopted
    assert (again.state, again.owner_suspended, adopted.uid) == (WorkloadState.PENDING, False, "uid-1")
    assert batch.touched == {"uid-1"}


def test_who_resumes_a_job_whose_time_was_up_has_it_suspended_where_others_are_and_it_stays_over() -> None:
    batch = followed(make_seen(suspended=False, active=2), make_known(**EXPIRED))
    assert batch.changes.actions == [NewAction("uid-1", None, ATTEMPT, ActionKind.SUSPEND, "100")]
    assert (batch.changes.seen, batch.changes.adopted) == ([], [])
    assert followed(make_seen(), make_known(**EXPIRED)).changes.empty, "it is not taken up again"


@pytest.mark.parametrize(
    "seen",
    [
        make_seen(suspended=False, stamp=OURS, resource_version="99"),  # as it stood before it was over
        make_seen(suspended=False, stamp=OURS, finished=WorkloadState.FAILED),
        make_seen(suspended=False, stamp=OURS, deleting=True),
        make_seen(suspended=False, stamp=OURS, queue_name=None),
    ],
)
def test_a_job_that_is_over_is_left_alone(seen: Observation) -> None:
    assert followed(seen, make_known(**EXPIRED)).changes.empty


def test_what_another_ledger_resumed_after_its_time_was_up_is_its_own() -> None:
    batch = followed(make_seen(suspended=False, stamp=FOREIGN), make_known(**EXPIRED))
    assert (batch.foreign, batch.changes.empty) == ({"uid-1": "team-a/job-1"}, True)
