"""What follows where an owner acts while a run is on its way out, and where what was done for a run comes late."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aiqueue.admission.controller import follow
from aiqueue.admission.controller.follow import Batch
from aiqueue.queue.observations import Observation
from aiqueue.queue.store.changes import NewAction
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import ActionKind, RunOutcome, WorkloadState
from fix_follow import AFTER, ATTEMPT, FOREIGN, OLDER, OURS, RUN, STEERED, make_context, make_known, make_running, make_seen

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
