"""What follows from an observation, given what the ledger knows: a table of conditions, and the corners between them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aiqueue.admission.controller import follow
from aiqueue.admission.controller.follow import Batch, PodCheck
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.store.changes import ClosedRun, NewAction, StartedRun, StoppedRun, Vanished
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import ActionKind, RunOutcome, WorkloadState
from fix_follow import (
    AFTER,
    ASKED,
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
    make_open_run,
    make_running,
    make_seen,
)

SUSPEND_AGAIN = NewAction("uid-1", RUN, ATTEMPT, ActionKind.SUSPEND)
AT_REST = (True, 0, 0, 0, 0, 0)
CHECK = PodCheck("uid-1", "team-a", RUN)


def followed(seen: Observation, known: Known | None = None, **context: Any) -> Batch:
    """The batch that one observation fills."""
    batch = Batch()
    follow.follow(batch, seen, known, make_context(**context))
    return batch


def states(batch: Batch) -> list[WorkloadState]:
    return [each.state for each in batch.changes.seen]


# First seen


@pytest.mark.parametrize("left_out", [{"finished": WorkloadState.FINISHED}, {"deleting": True}, {"queue_name": None}])
def test_a_job_that_is_over_or_not_ours_is_not_taken_in(left_out: dict[str, Any]) -> None:
    assert followed(make_seen(**left_out)).changes.empty


@pytest.mark.parametrize(("held", "state"), [(False, WorkloadState.PENDING), (True, WorkloadState.HELD)])
def test_a_new_job_waits(held: bool, state: WorkloadState) -> None:
    batch = followed(make_seen(held_by_owner=held))
    assert [new.state for new in batch.changes.new] == [state]
    assert batch.touched == {"uid-1"}
    assert not batch.changes.actions
    assert not batch.changes.adopted


# Running without a run


@pytest.mark.parametrize("known", [None, make_known(), make_known(state=WorkloadState.HELD)])
@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (make_seen(suspended=False, stamp=OLDER), "annotation"),
        (make_seen(suspended=False, created_at=BEFORE), "before this cluster was registered"),
    ],
)
def test_a_running_job_that_may_be_ours_is_adopted_at_its_size(seen: Observation, why: str, known: Known | None) -> None:
    batch = followed(seen, known)
    (adopted,) = batch.changes.adopted
    assert why in adopted.why
    assert (adopted.tenant, adopted.queue_name) == ("research", "train")
    assert [each.amount for each in adopted.allocations] == [8]
    assert batch.changes.actions == []


@pytest.mark.parametrize("seen", [make_seen(suspended=False, stamp=OLDER), make_seen(suspended=False, created_at=BEFORE)])
def test_what_cannot_be_adopted_for_want_of_a_queue_is_not_stopped(seen: Observation) -> None:
    batch = followed(seen, make_known(), queues=())
    assert not batch.changes.adopted
    assert not batch.changes.actions


@pytest.mark.parametrize("known", [None, make_known()])
def test_a_job_that_slipped_by_is_stopped(known: Known | None) -> None:
    batch = followed(make_seen(suspended=False), known)
    assert batch.changes.actions == [NewAction("uid-1", None, 0, ActionKind.SUSPEND, "100")]
    assert batch.changes.adopted == []


def test_slip_bys_beyond_the_ration_are_left_to_run() -> None:
    context = make_context(per_minute=2)
    batch = Batch()
    for number in range(5):
        follow.follow(batch, make_seen(uid=f"uid-{number}", name=f"job-{number}", suspended=False), None, context)
    assert len(batch.changes.actions) == 2
    assert len(batch.changes.new) == 5
    assert context.unknown.too_many
    for number in range(5):
        follow.follow(batch, make_seen(uid=f"uid-{number}", name=f"job-{number}"), make_known(), context)
    assert not context.unknown.too_many


@pytest.mark.parametrize("foreign", [{"stamp": FOREIGN}, {"foreign_stamp": "somebody's"}])
@pytest.mark.parametrize("created_at", [BEFORE, AFTER])
@pytest.mark.parametrize("known", [None, make_known()])
def test_a_running_job_of_another_ledger_is_named_and_left_alone(
    foreign: dict[str, Any], created_at: Any, known: Known | None
) -> None:
    batch = followed(make_seen(suspended=False, created_at=created_at, **foreign), known)
    assert batch.foreign == {"uid-1": "team-a/job-1"}
    assert not batch.changes.actions
    assert not batch.changes.adopted
    assert not batch.changes.new


def test_a_waiting_job_that_another_ledger_started_waits_no_more_for_us() -> None:
    """Else it would be admitted here while it runs there."""
    started = followed(make_seen(suspended=False, stamp=FOREIGN), make_known())
    assert states(started) == [WorkloadState.CANCELLED]
    cancelled = make_known(state=WorkloadState.CANCELLED, status=(False, 0, 0, 0, 0, 0), stamp=str(FOREIGN))
    assert followed(make_seen(suspended=False, stamp=FOREIGN), cancelled).changes.seen == []
    assert states(followed(make_seen(), cancelled)) == [WorkloadState.PENDING]


# Waiting


@pytest.mark.parametrize(
    ("seen", "known", "state"),
    [
        (make_seen(held_by_owner=True), make_known(), WorkloadState.HELD),
        (make_seen(), make_known(state=WorkloadState.HELD, hold_requested=True), WorkloadState.PENDING),
        (make_seen(queue_name=None), make_known(), WorkloadState.CANCELLED),
        (make_seen(deleting=True), make_known(), WorkloadState.CANCELLED),
        (make_seen(finished=WorkloadState.FAILED), make_known(), WorkloadState.FAILED),
        (make_seen(), make_known(state=WorkloadState.CANCELLED), WorkloadState.PENDING),
        (make_seen(released_by_owner=True), make_known(state=WorkloadState.HELD, owner_suspended=True), WorkloadState.PENDING),
    ],
)
def test_a_waiting_job_follows_its_owner(seen: Observation, known: Known, state: WorkloadState) -> None:
    batch = followed(seen, known)
    assert states(batch) == [state]
    assert batch.touched == {"uid-1"}


@pytest.mark.parametrize(
    ("seen", "known"),
    [
        (make_seen(), make_known()),
        (make_seen(resource_version="900"), make_known()),
        (make_seen(), make_known(state=WorkloadState.HELD, owner_suspended=True)),
        (
            make_seen(released_by_owner=True),
            make_known(state=WorkloadState.HELD, owner_suspended=True, release_requested=True),
        ),
        (make_seen(), make_known(state=WorkloadState.FINISHED)),
        (make_seen(finished=WorkloadState.FINISHED), make_known(state=WorkloadState.CANCELLED)),
        (make_seen(deleting=True), make_known(state=WorkloadState.CANCELLED)),
    ],
)
def test_what_changes_nothing_writes_nothing(seen: Observation, known: Known) -> None:
    assert followed(seen, known).changes.empty


@pytest.mark.parametrize(
    "changed", [{"pod_sets": CHANGED}, {"queue_name": "other"}, {"class_name": "urgent"}, {"invalid": "no"}]
)
def test_a_waiting_job_may_ask_anew(changed: dict[str, Any]) -> None:
    (seen,) = followed(make_seen(**changed), make_known()).changes.seen
    assert seen.pod_sets


def test_what_a_run_wrote_into_the_template_is_not_what_the_owner_asks_for() -> None:
    known = make_known(stamp=str(OLDER))
    assert followed(make_seen(STEERED, stamp=OLDER), known).changes.empty


# With a run that has not started


def test_the_decided_run_waits_for_its_unsuspend() -> None:
    assert followed(make_seen(), make_known(make_open_run())).changes.empty


def test_the_unsuspend_is_seen() -> None:
    batch = followed(make_seen(STEERED, suspended=False, stamp=OURS), make_known(make_open_run()))
    assert batch.changes.started == [StartedRun(RUN)]
    assert not batch.changes.closed
    assert not batch.changes.actions


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"pod_sets": CHANGED}, WorkloadState.PENDING),
        ({"queue_name": "other"}, WorkloadState.PENDING),
        ({"invalid": "spec.parallelism is 0"}, WorkloadState.PENDING),
        ({"held_by_owner": True}, WorkloadState.HELD),
        ({"queue_name": None}, WorkloadState.CANCELLED),
        ({"deleting": True}, WorkloadState.CANCELLED),
    ],
)
@pytest.mark.parametrize("evict", [None, RunOutcome.DRAINED])
def test_a_job_changed_before_it_started_gives_its_quota_back(
    changed: dict[str, Any], state: WorkloadState, evict: RunOutcome | None
) -> None:
    batch = followed(make_seen(**changed), make_known(make_open_run(evict_outcome=evict)))
    (closed,) = batch.changes.closed
    assert (closed.run_id, closed.outcome, closed.state) == (RUN, evict or RunOutcome.CANCELLED, state)
    assert states(batch) == [state]


def test_the_traces_of_the_run_before_are_no_change() -> None:
    """Admitted again while the template still holds what the last run wrote: only putting it back is to be awaited."""
    known = make_known(make_open_run(), stamp=str(OLDER))
    assert followed(make_seen(STEERED, stamp=OLDER), known).changes.closed == []
    (closed,) = followed(make_seen(STEERED, stamp=OLDER, queue_name="other"), known).changes.closed
    assert closed.state is WorkloadState.PENDING


# With a run that goes on or ends


@pytest.mark.parametrize(
    ("finished", "outcome"),
    [
        (WorkloadState.FINISHED, RunOutcome.FINISHED),
        (WorkloadState.FAILED, RunOutcome.FAILED),
        (WorkloadState.EXPIRED, RunOutcome.EXPIRED),
    ],
)
@pytest.mark.parametrize("run", [{}, {"evict_outcome": RunOutcome.PREEMPTED}])
def test_a_finished_job_closes_its_run(finished: WorkloadState, outcome: RunOutcome, run: dict[str, Any]) -> None:
    batch = followed(make_seen(suspended=False, stamp=OURS, finished=finished), make_running(run=run))
    assert batch.changes.closed == [ClosedRun(RUN, 11, outcome, "", finished)]
    assert batch.pod_checks == []


@pytest.mark.parametrize("left", [{"active": 1}, {"terminating": 1}])
def test_not_before_its_last_pod_is_gone(left: dict[str, Any]) -> None:
    seen = make_seen(suspended=False, stamp=OURS, finished=WorkloadState.FAILED, **left)
    assert followed(seen, make_running()).changes.closed == []


@pytest.mark.parametrize("adopted", [False, True])
def test_its_owner_suspends_a_running_job(adopted: bool) -> None:
    stamp = None if adopted else OURS
    batch = followed(make_seen(stamp=stamp, active=2), make_running(run={"adopted": adopted}))
    assert batch.changes.stopped == [StoppedRun(RUN, 11, RunOutcome.CANCELLED, follow.OWNER_SUSPENDED, owner_suspended=True)]
    assert states(batch) == [WorkloadState.RELEASING]
    assert batch.changes.seen[0].owner_suspended
    assert batch.changes.closed == []
    assert batch.pod_checks == []


def test_an_eviction_is_not_taken_for_its_owners_will() -> None:
    run = {"evict_outcome": RunOutcome.PREEMPTED, "evict_message": "for team-b/big"}
    batch = followed(make_seen(stamp=OURS, stopped=OURS, active=2), make_running(run=run, state=WorkloadState.EVICTING))
    assert batch.changes.stopped == [StoppedRun(RUN, 11, RunOutcome.PREEMPTED, "for team-b/big")]
    assert not batch.changes.seen[0].owner_suspended


@pytest.mark.parametrize("mark", [None, OLDER])
@pytest.mark.parametrize("adopted", [False, True])
def test_who_is_suspended_by_his_owner_in_his_grace_has_made_room_and_is_held(mark: RunStamp | None, adopted: bool) -> None:
    run = {"evict_outcome": RunOutcome.PREEMPTED, "evict_message": "for team-b/big", "adopted": adopted}
    known = make_running(run=run, state=WorkloadState.EVICTING)
    batch = followed(make_seen(stamp=None if adopted else OURS, stopped=mark, active=2), known)
    assert batch.changes.stopped == [StoppedRun(RUN, 11, RunOutcome.PREEMPTED, "for team-b/big", owner_suspended=True)]
    assert batch.changes.seen[0].owner_suspended


def test_a_run_that_was_stopped_before_we_left_a_mark_was_not_stopped_by_its_owner() -> None:
    run = {"evict_outcome": RunOutcome.PREEMPTED, "stopped": True}
    batch = followed(make_seen(stamp=OURS), make_running(run=run, state=WorkloadState.EVICTING))
    assert not batch.changes.seen[0].owner_suspended


# Over its time


TOLD: dict[str, Any] = {"evict_outcome": RunOutcome.EXPIRED, "evict_message": "its time is up", "evict_at": AFTER}
EXCEEDED: dict[str, Any] = {"finished": WorkloadState.FAILED, "end_reason": "DeadlineExceeded", "stopped": OURS}


def test_a_job_that_we_gave_a_deadline_and_that_ended_by_it_is_expired() -> None:
    batch = followed(make_seen(suspended=False, stamp=OURS, **EXCEEDED), make_running(run=TOLD))
    assert batch.changes.closed == [ClosedRun(RUN, 11, RunOutcome.EXPIRED, "its time is up", WorkloadState.EXPIRED)]
    assert states(batch) == [WorkloadState.EXPIRED]


@pytest.mark.parametrize(
    ("run", "changes"),
    [
        (TOLD, {"stopped": None}),
        (TOLD, {"stopped": OLDER}),
        (TOLD, {"end_reason": "BackoffLimitExceeded"}),
        ({}, {}),
        ({"evict_outcome": RunOutcome.PREEMPTED}, {}),
    ],
    ids=["a deadline of its owner", "a mark of another run", "it failed", "it was not told", "it was told otherwise"],
)
def test_a_job_that_failed_for_reasons_of_its_own_is_failed(run: dict[str, Any], changes: dict[str, Any]) -> None:
    batch = followed(make_seen(suspended=False, stamp=OURS, **(EXCEEDED | changes)), make_running(run=run))
    assert batch.changes.closed == [ClosedRun(RUN, 11, RunOutcome.FAILED, "", WorkloadState.FAILED)]


def test_a_job_that_finished_before_its_deadline_was_felt_is_finished() -> None:
    seen = make_seen(suspended=False, stamp=OURS, stopped=OURS, deadline_seconds=1, finished=WorkloadState.FINISHED)
    assert followed(seen, make_running(run=TOLD)).changes.closed[0].outcome is RunOutcome.FINISHED


@pytest.mark.parametrize(("deadline", "again"), [(1, False), (None, True), (3600, True)])
def test_who_takes_the_deadline_away_is_given_it_again(deadline: int | None, again: bool) -> None:
    seen = make_seen(suspended=False, stamp=OURS, stopped=OURS, deadline_seconds=deadline, active=2, ready=2)
    actions = followed(seen, make_running(run=TOLD)).changes.actions
    assert actions == ([NewAction("uid-1", RUN, ATTEMPT, ActionKind.EXPIRE)] if again else [])


def test_before_its_time_a_deadline_is_the_owners_affair() -> None:
    seen = make_seen(suspended=False, stamp=OURS, deadline_seconds=3600, active=2, ready=2)
    told = TOLD | {"evict_at": AFTER + timedelta(seconds=1)}
    assert followed(seen, make_running(run=told)).changes.actions == []


def test_who_suspends_his_job_before_its_time_is_up_keeps_it() -> None:
    known = make_running(run=TOLD, state=WorkloadState.EVICTING)
    batch = followed(make_seen(stamp=OURS), known)
    assert batch.changes.stopped == [StoppedRun(RUN, 11, RunOutcome.CANCELLED, follow.OWNER_SUSPENDED, owner_suspended=True)]
    batch = Batch()
    follow.pods_gone(batch, make_running(run={**TOLD, "stopped": True}, owner_suspended=True, status=AT_REST), RUN)
    assert batch.changes.closed == [ClosedRun(RUN, 11, RunOutcome.CANCELLED, follow.OWNER_SUSPENDED, WorkloadState.HELD)]


def test_who_suspends_his_job_when_its_time_is_up_does_not_get_it_back() -> None:
    known = make_running(run=TOLD, state=WorkloadState.EVICTING)
    batch = followed(make_seen(stamp=OURS, stopped=OURS, deadline_seconds=1), known)
    assert batch.changes.stopped == [StoppedRun(RUN, 11, RunOutcome.EXPIRED, "its time is up")]
    batch = Batch()
    follow.pods_gone(batch, make_running(run={**TOLD, "stopped": True}, status=AT_REST), RUN)
    assert batch.changes.closed == [ClosedRun(RUN, 11, RunOutcome.EXPIRED, "its time is up", WorkloadState.EXPIRED)]


def test_a_run_that_never_started_was_not_over_its_time() -> None:
    batch = Batch()
    follow.pods_gone(batch, make_known(make_open_run(**TOLD, stopped=True), state=WorkloadState.RELEASING), RUN)
    assert batch.changes.closed == [ClosedRun(RUN, 11, RunOutcome.CANCELLED, follow.NEVER_STARTED, WorkloadState.PENDING)]


@pytest.mark.parametrize(
    ("ahead", "outcome", "state"),
    [
        (timedelta(seconds=1), RunOutcome.CANCELLED, WorkloadState.CANCELLED),
        (timedelta(0), RunOutcome.EXPIRED, WorkloadState.EXPIRED),
    ],
)
def test_a_job_that_is_gone_was_expired_if_its_time_was_up(ahead: timedelta, outcome: RunOutcome, state: WorkloadState) -> None:
    batch = Batch()
    follow.gone(batch, make_running(run={**TOLD, "evict_at": AFTER + ahead}), make_context())
    assert batch.changes.vanished == [Vanished(11, state)]
    assert [each.outcome for each in batch.changes.stopped] == [outcome]
    batch = Batch()
    follow.pods_gone(batch, make_running(run={**TOLD, "stopped": True}, state=state), RUN)
    assert [(each.outcome, each.state) for each in batch.changes.closed] == [(outcome, state)]


@pytest.mark.parametrize(("left", "checks"), [({"active": 1}, []), ({"terminating": 1}, []), ({}, [CHECK])])
def test_pods_are_looked_for_when_the_status_tells_of_none(left: dict[str, Any], checks: list[PodCheck]) -> None:
    batch = followed(make_seen(stamp=OURS, **left), make_running(run={"stopped": True}, state=WorkloadState.RELEASING))
    assert batch.pod_checks == checks
    assert batch.changes.closed == []


def test_a_stale_look_at_the_job_before_its_start_is_not_taken_for_a_stop() -> None:
    assert followed(make_seen(), make_known(make_open_run(started=True))).changes.stopped == []


def test_a_stopped_job_that_somebody_resumed_is_stopped_again() -> None:
    known = make_running(run={"stopped": True}, state=WorkloadState.RELEASING, status=(True, 0, 0, 0, 0, 0))
    assert followed(make_seen(STEERED, suspended=False, stamp=OURS), known).changes.actions == [SUSPEND_AGAIN]


def test_a_stale_look_at_a_job_that_was_stopped_asks_for_nothing() -> None:
    known = make_running(run={"stopped": True}, state=WorkloadState.RELEASING)
    assert followed(make_seen(STEERED, suspended=False, stamp=OURS, active=2, ready=2), known).changes.actions == []


# Gone


def test_a_waiting_job_that_is_gone_is_cancelled() -> None:
    batch = Batch()
    follow.gone(batch, make_known(), make_context())
    assert batch.changes.vanished == [Vanished(11)]
    assert batch.changes.closed == []
    assert batch.pod_checks == []


@pytest.mark.parametrize("stopped", [False, True])
def test_the_run_of_a_job_that_is_gone_stays_open_until_its_pods_are_gone(stopped: bool) -> None:
    batch = Batch()
    follow.gone(batch, make_running(run={"stopped": stopped}), make_context())
    assert batch.changes.vanished == [Vanished(11)]
    assert [each.message for each in batch.changes.stopped] == ([] if stopped else [follow.JOB_GONE])
    assert batch.pod_checks == [CHECK]
    assert batch.changes.closed == []


def test_gone_twice_is_gone_once() -> None:
    batch = Batch()
    follow.gone(batch, make_running(run={"stopped": True}, state=WorkloadState.CANCELLED), make_context())
    assert batch.changes.empty
    assert batch.pod_checks == [CHECK]


# No pod left


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, WorkloadState.PENDING),
        ({"owner_suspended": True}, WorkloadState.HELD),
        ({"hold_requested": True}, WorkloadState.HELD),
        ({"state": WorkloadState.CANCELLED}, WorkloadState.CANCELLED),
    ],
)
def test_a_stopped_run_without_pods_is_closed_and_its_template_put_back(changes: dict[str, Any], state: WorkloadState) -> None:
    run = {"stopped": True, "evict_outcome": RunOutcome.PREEMPTED, "evict_message": "for team-b/big"}
    batch = Batch()
    follow.pods_gone(batch, make_running(run=run, **({"state": WorkloadState.RELEASING, "status": AT_REST} | changes)), RUN)
    assert batch.changes.closed == [ClosedRun(RUN, 11, RunOutcome.PREEMPTED, "for team-b/big", state)]
    assert batch.changes.actions == [NewAction("uid-1", RUN, ATTEMPT, ActionKind.RESTORE)]


@pytest.mark.parametrize(
    ("known", "run_id"),
    [
        (make_running(status=AT_REST), RUN),
        (make_running(run={"stopped": True}, status=AT_REST), RUN - 1),
        (make_known(), RUN),
    ],
)
def test_no_pods_mean_nothing_for_a_run_that_was_not_stopped(known: Known, run_id: int) -> None:
    batch = Batch()
    follow.pods_gone(batch, known, run_id)
    assert batch.changes.empty


# The one test for observing and acting


@pytest.mark.parametrize(
    ("seen", "same"),
    [
        (make_seen(), True),
        (make_seen(CHANGED), False),
        (make_seen(STEERED, stamp=OLDER), True),
        (make_seen(queue_name="other"), False),
        (make_seen(held_by_owner=True), False),
        (make_seen(deleting=True), False),
        (make_seen(invalid="no"), False),
        (make_seen(STEERED, stamp=OLDER, held_by_owner=True), False),
    ],
)
def test_whether_a_job_still_asks_for_what_was_decided(seen: Observation, same: bool) -> None:
    known = make_known()
    assert follow.unchanged(seen, known.queue_name, known.shape) is same


def test_an_unknown_job_is_settled_by_being_suspended() -> None:
    context = make_context(per_minute=1)
    follow.follow(Batch(), make_seen(suspended=False), None, context)
    context.now += timedelta(minutes=2)
    follow.follow(Batch(), make_seen(), make_known(), context)
    assert context.unknown.may_stop("uid-2", "team-a/job-2", context.now)


def test_the_asked_shape_is_that_of_the_known_row() -> None:
    assert make_seen().shape == make_known().shape
    assert make_seen().pod_sets == ASKED
