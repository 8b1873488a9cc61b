"""Committing a Plan on a real ledger: whole or not at all, once, on the configuration it was decided on."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError

from aiqueue.cli.harness.waiting import until
from aiqueue.queue import documents
from aiqueue.queue.database import transaction
from aiqueue.queue.errors import ConfigurationMoved, LedgerConflict
from aiqueue.queue.records import Allocation, Decision, Holder, Shortfall
from aiqueue.queue.store import actions, configuration, housekeeping, known, observing, plans, work
from aiqueue.queue.store.changes import Changes, ClosedRun, NewWorkload
from aiqueue.queue.store.codec import evidence_from_json
from aiqueue.queue.store.plans import AdmissionRow, Committed, EvictionRow, PlanRows
from aiqueue.queue.words import ActionKind, PreemptionRule, Reason, RunOutcome, WorkloadState
from fix_follow import GPU, make_seen
from fix_terms import take_over

pytestmark = pytest.mark.integration

WAIT_SECONDS = 60.0
DECIDED = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
ORIGINAL = {"main": {"nodeSelector": {"mine": "yes"}, "tolerations": []}}
INJECTED = {"main": {"nodeSelector": {"pool": "h100"}, "tolerations": []}}


@pytest.fixture
def writer(controller_ledger: Engine) -> Engine:
    """The ledger under term 1, with workloads 1 and 2 pending."""
    assert take_over(controller_ledger) == 1
    with transaction(controller_ledger) as connection:
        new = [NewWorkload(make_seen(uid=f"uid-{number}", name=f"job-{number}")) for number in (1, 2)]
        observing.write(connection, 1, 1, Changes(new=new))
    return controller_ledger


def admission(workload_id: int = 1, **changes: Any) -> AdmissionRow:
    row = AdmissionRow(
        workload_id,
        1,
        "research",
        "team-a",
        "train",
        f"{workload_id}00",
        (Allocation("main", "h100", GPU, 8),),
        ORIGINAL,
        INJECTED,
    )
    return replace(row, **changes)


def eviction(run_id: int, workload_id: int = 1, **changes: Any) -> EvictionRow:
    row = EvictionRow(run_id, workload_id, 1, RunOutcome.PREEMPTED, "for team-b/big", DECIDED, preempted_by=2)
    return replace(row, **changes)


def commit(writer: Engine, seq: int = 1, *, replace_decisions: bool = False, **rows: Any) -> Committed:
    with transaction(writer) as connection:
        values: dict[str, Any] = {"config_revision": configuration.revision(connection), "decided_at": DECIDED} | rows
        return plans.commit(connection, 1, 1, PlanRows(seq, **values), replace_decisions=replace_decisions)


def rows(owner: Engine, statement: str) -> list[Mapping[str, Any]]:
    with transaction(owner) as connection:
        return [dict(row) for row in connection.execute(text(statement)).mappings()]


def counts(owner: Engine) -> list[int]:
    return [len(rows(owner, f"SELECT 1 FROM {table}")) for table in ("plan", "run", "allocation", "action")]  # noqa: S608


def test_an_admission_takes_quota_and_leaves_word_of_what_is_to_be_done(writer: Engine) -> None:
    committed = commit(writer, admissions=[admission(2), admission(1)])
    with transaction(writer) as connection:
        runs = {run.id: run for run in work.load_open_runs(connection)}
        assert housekeeping.usage(connection) == {("research", "h100", GPU): 16}
        todo = {action.id: action for action in actions.load_open(connection, 1)}
        assert work.load_pending(connection) == []
        assert {row.state for row in known.load(connection, 1).values()} == {WorkloadState.ADMITTED}
    assert [runs[run_id].workload.id for run_id in committed.run_ids] == [2, 1]
    unsuspends = [todo[action_id] for action_id in committed.unsuspend_ids]
    assert [(each.workload_id, each.resource_version, each.run_id) for each in unsuspends] == [
        (2, "200", committed.run_ids[0]),
        (1, "100", committed.run_ids[1]),
    ]
    assert {each.kind for each in unsuspends} == {ActionKind.UNSUSPEND}
    (first, _) = unsuspends
    assert (first.original, first.injected) == (ORIGINAL, INJECTED)
    assert first.stamp is not None
    assert (first.stamp.run_id, first.stamp.attempt) == (first.run_id, 1)
    assert {run.opened_at for run in runs.values()} == {committed.now}


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempt": 2},
        {"workload_id": 99},
        {"tenant": "nobody"},
        {"queue_name": "closed"},
        {"allocations": (Allocation("main", "gone", GPU, 8),)},
    ],
)
def test_a_plan_that_does_not_fit_the_rows_is_a_conflict_and_leaves_nothing(
    ledger: Engine, writer: Engine, wrong: dict[str, Any]
) -> None:
    with pytest.raises(LedgerConflict):
        commit(writer, admissions=[admission(2), admission(**wrong)])
    assert counts(ledger) == [0, 0, 0, 0]
    assert rows(ledger, "SELECT DISTINCT state FROM workload") == [{"state": "Pending"}]


@pytest.mark.parametrize("column", ["owner_suspended", "hold_requested"])
def test_what_its_owner_holds_is_not_admitted(ledger: Engine, writer: Engine, column: str) -> None:
    with transaction(ledger) as connection:
        connection.execute(text(f"UPDATE workload SET {column} = true WHERE id = 1"))  # noqa: S608 -- our own names
    with pytest.raises(LedgerConflict):
        commit(writer, admissions=[admission()])


def test_nobody_is_admitted_twice(ledger: Engine, writer: Engine) -> None:
    commit(writer, admissions=[admission()])
    for again in (admission(), admission(attempt=2)):
        with pytest.raises(LedgerConflict):
            commit(writer, seq=2, admissions=[again])
    with transaction(ledger) as connection:  # whatever the state says: the open run speaks
        connection.execute(text("UPDATE workload SET state = 'Pending' WHERE id = 1"))
    with pytest.raises(IntegrityError, match="uq_run_open_workload"):
        commit(writer, seq=2, admissions=[admission(attempt=2)])
    assert counts(ledger) == [1, 1, 1, 1]


def test_a_plan_is_committed_once_and_can_be_asked_for(ledger: Engine, writer: Engine) -> None:
    with transaction(writer) as connection:
        revision = configuration.revision(connection)
        plans.commit(connection, 1, 1, PlanRows(7, revision, DECIDED, admissions=[admission()]))
        connection.rollback()
    with transaction(writer) as connection:
        assert not plans.was_committed(connection, 1, 7)
    commit(writer, seq=7, admissions=[admission()])
    with transaction(writer) as connection:
        assert plans.was_committed(connection, 1, 7)
        assert not plans.was_committed(connection, 1, 8)
        assert not plans.was_committed(connection, 2, 7)
    with pytest.raises(IntegrityError, match="pk_plan"):
        commit(writer, seq=7)
    assert rows(ledger, "SELECT admissions, evictions, decided_at FROM plan") == [
        {"admissions": 1, "evictions": 0, "decided_at": DECIDED}
    ]


def administer(owner: Engine, state: str) -> None:
    queue = f"{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: train, namespace: team-a}}, spec: {{tenant: research, state: {state}}}}}"
    with transaction(owner) as connection:
        configuration.apply(connection, documents.read_documents(queue, "test"), claimed_by="test")


def test_a_plan_on_an_older_configuration_is_not_committed(ledger: Engine, writer: Engine) -> None:
    with transaction(writer) as connection:
        decided_on = configuration.revision(connection)
    administer(ledger, "Hold")
    with pytest.raises(ConfigurationMoved, match=f"at revision {decided_on + 1}, the Plan was decided on {decided_on}"):
        commit(writer, config_revision=decided_on, admissions=[admission()])
    assert counts(ledger) == [0, 0, 0, 0]


def test_a_plan_waits_for_an_administrator_who_is_writing_and_then_finds_the_configuration_moved(
    ledger: Engine, writer: Engine
) -> None:
    with transaction(writer) as connection:
        decided_on = configuration.revision(connection)
    raised = list[type[BaseException]]()

    def decide() -> None:
        try:
            commit(writer, config_revision=decided_on, admissions=[admission()])
        except ConfigurationMoved as error:
            raised.append(type(error))

    committing = threading.Thread(target=decide)
    queue = documents.read_documents(
        "{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {name: more, namespace: team-a}, spec: {tenant: research}}", "test"
    )
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%config_revision%'"
    with transaction(ledger) as connection:
        configuration.apply(connection, queue, claimed_by="test")
        committing.start()
        until(lambda: rows(writer, waits), seconds=WAIT_SECONDS, what="the Plan to wait")
    committing.join(WAIT_SECONDS)
    assert raised == [ConfigurationMoved]
    assert counts(ledger) == [0, 0, 0, 0]


def test_an_eviction_leaves_word_and_keeps_the_quota(ledger: Engine, writer: Engine) -> None:
    (run_id,) = commit(writer, admissions=[admission()]).run_ids
    committed = commit(writer, seq=2, evictions=[eviction(run_id)])
    with transaction(writer) as connection:
        (suspend,) = actions.load_open(connection, 1, list(committed.eviction_action_ids))
        assert housekeeping.usage(connection) == {("research", "h100", GPU): 8}
        row = known.load(connection, 1)["uid-1"]
    assert (suspend.kind, suspend.not_before, suspend.run_id) == (ActionKind.SUSPEND, DECIDED, run_id)
    assert row.state is WorkloadState.EVICTING
    assert row.run is not None
    assert (row.run.evict_at, row.run.evict_outcome, row.run.evict_message) == (DECIDED, RunOutcome.PREEMPTED, "for team-b/big")
    assert rows(ledger, "SELECT preempted_by FROM run") == [{"preempted_by": 2}]


HOUR = timedelta(hours=1)
SUSPEND, EXPIRE, ANNOUNCE = ActionKind.SUSPEND, ActionKind.EXPIRE, ActionKind.ANNOUNCE


def soon(writer: Engine) -> datetime:
    """An hour from now by the ledger's clock."""
    with transaction(writer) as connection:
        now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now + HOUR


def ends(writer: Engine, ids: tuple[int, ...] | None = None) -> list[tuple[int, ActionKind, datetime | None]]:
    """What is yet to be done to end runs, in the order in which it is done."""
    with transaction(writer) as connection:
        found = actions.load_open(connection, 1, None if ids is None else list(ids))
    return [(each.workload_id, each.kind, each.not_before) for each in found if each.kind is not ActionKind.UNSUSPEND]


def test_notice_is_given_before_a_run_is_ended_and_says_by_when_and_why(writer: Engine) -> None:
    runs = commit(writer, admissions=[admission(2), admission(1)]).run_ids
    later = soon(writer)
    evictions = [
        eviction(runs[1], 1, evict_at=later),
        eviction(runs[0], 2, evict_at=later, outcome=RunOutcome.EXPIRED, preempted_by=None, message="its time is up"),
    ]
    committed = commit(writer, seq=2, evictions=evictions)
    told = ends(writer, committed.eviction_action_ids)
    assert [each for each in told if each[0] == 1] == [(1, ANNOUNCE, None), (1, SUSPEND, later)]
    assert [each for each in told if each[0] == 2] == [(2, ANNOUNCE, None), (2, EXPIRE, later)]
    assert list(committed.eviction_action_ids) == sorted(set(committed.eviction_action_ids))
    with transaction(writer) as connection:
        todo = actions.load_open(connection, 1, list(committed.eviction_action_ids))
    assert {(each.workload_id, each.evict_at, each.evict_outcome, each.evict_message) for each in todo} == {
        (1, later, RunOutcome.PREEMPTED, "for team-b/big"),
        (2, later, RunOutcome.EXPIRED, "its time is up"),
    }


def test_what_is_to_end_at_once_gets_no_notice(writer: Engine) -> None:
    runs = commit(writer, admissions=[admission(1), admission(2)]).run_ids
    over = eviction(runs[1], 2, outcome=RunOutcome.EXPIRED)
    committed = commit(writer, seq=2, evictions=[eviction(runs[0]), over])
    assert sorted(ends(writer, committed.eviction_action_ids)) == [(1, SUSPEND, DECIDED), (2, EXPIRE, DECIDED)]


@pytest.mark.parametrize("rule", [None, *PreemptionRule])
def test_by_which_right_a_run_was_preempted_is_kept_for_ever(
    ledger: Engine, writer: Engine, rule: PreemptionRule | None
) -> None:
    (run_id,) = commit(writer, admissions=[admission()]).run_ids
    commit(writer, seq=2, evictions=[eviction(run_id, rule=rule)])
    assert rows(ledger, "SELECT preempted_by, evict_rule FROM run") == [{"preempted_by": 2, "evict_rule": rule}]
    with transaction(writer) as connection:
        closed = ClosedRun(run_id, 1, RunOutcome.PREEMPTED, "", WorkloadState.FAILED)
        observing.write(connection, 1, 1, Changes(closed=[closed]))
        assert housekeeping.archive(connection, 1, after_seconds=-1) == ["uid-1"]
    assert rows(ledger, "SELECT preempted_by, evict_rule FROM archived_run") == [{"preempted_by": 2, "evict_rule": rule}]


@pytest.mark.parametrize("first", [SUSPEND, EXPIRE])
def test_a_run_that_is_told_twice_ends_at_the_earlier_time_and_as_was_said_with_it(
    ledger: Engine, writer: Engine, first: ActionKind
) -> None:
    (run_id,) = commit(writer, admissions=[admission()]).run_ids
    later = soon(writer)
    preempted = eviction(run_id, rule=PreemptionRule.FINAL_SHARE)
    expired = eviction(run_id, outcome=RunOutcome.EXPIRED, message="its time is up", preempted_by=None)
    one, other = (preempted, expired) if first is SUSPEND else (expired, preempted)
    commit(writer, seq=2, evictions=[replace(one, evict_at=later)])
    said = rows(ledger, "SELECT evict_at, evict_outcome, evict_message, preempted_by, evict_rule FROM run")
    notice = (1, ANNOUNCE, None)
    again = commit(writer, seq=3, evictions=[replace(other, evict_at=later + HOUR)])
    assert ends(writer) == ends(writer, again.eviction_action_ids) == [notice, (1, first, later)]
    assert rows(ledger, "SELECT evict_at, evict_outcome, evict_message, preempted_by, evict_rule FROM run") == said
    sooner = later - HOUR / 2
    commit(writer, seq=4, evictions=[replace(other, evict_at=sooner)])
    assert ends(writer) == [notice, (1, EXPIRE if first is SUSPEND else SUSPEND, sooner)]
    assert rows(ledger, "SELECT evict_at, evict_outcome FROM run") == [{"evict_at": sooner, "evict_outcome": other.outcome}]


def test_an_eviction_asked_for_again_is_the_same_action_at_the_earlier_time(writer: Engine) -> None:
    (run_id,) = commit(writer, admissions=[admission()]).run_ids
    first = commit(writer, seq=2, evictions=[eviction(run_id)]).eviction_action_ids
    for seq, moved in ((3, timedelta(hours=1)), (4, timedelta(hours=-1))):
        assert commit(writer, seq=seq, evictions=[eviction(run_id, evict_at=DECIDED + moved)]).eviction_action_ids == first
    with transaction(writer) as connection:
        (suspend,) = actions.load_open(connection, 1, list(first))
    assert suspend.not_before == DECIDED - timedelta(hours=1)


def test_a_closed_run_is_not_evicted(ledger: Engine, writer: Engine) -> None:
    (run_id,) = commit(writer, admissions=[admission()]).run_ids
    with transaction(writer) as connection:
        closed = ClosedRun(run_id, 1, RunOutcome.FINISHED, "", WorkloadState.FINISHED)
        observing.write(connection, 1, 1, Changes(closed=[closed]))
    with pytest.raises(LedgerConflict, match="to be evicted"):
        commit(writer, seq=2, admissions=[admission(2)], evictions=[eviction(run_id)])
    assert counts(ledger)[:2] == [1, 1]


def test_an_eviction_told_twice_in_a_plan_is_a_conflict(writer: Engine) -> None:
    (run_id,) = commit(writer, admissions=[admission()]).run_ids
    with pytest.raises(LedgerConflict, match="to be evicted"):
        commit(writer, seq=2, evictions=[eviction(run_id), eviction(run_id)])


@pytest.mark.parametrize("ended", [None, "evict_at", "stopped_at", "closed"])
def test_an_unsuspend_is_wanted_as_long_as_nobody_asked_for_the_end_of_its_run(
    ledger: Engine, writer: Engine, ended: str | None
) -> None:
    committed = commit(writer, admissions=[admission()])
    end = {
        None: "SELECT 1",
        "evict_at": "UPDATE run SET evict_at = clock_timestamp()",
        "stopped_at": "UPDATE run SET stopped_at = clock_timestamp()",
        "closed": "UPDATE run SET closed_at = clock_timestamp(), outcome = 'Finished'",
    }[ended]
    with transaction(ledger) as connection:
        connection.execute(text(end))
    with transaction(writer) as connection:
        assert actions.may_still_start(connection, 1, committed.unsuspend_ids[0]) is (ended is None)
        assert not actions.may_still_start(connection, 1, committed.unsuspend_ids[0] + 1)


def shape_decision(shape: str, reason: Reason = Reason.WAITING_FOR_QUOTA) -> Decision:
    return Decision(
        reason,
        f"because of {reason}",
        "more quota",
        tenant="research",
        shape=shape,
        shortfalls=(Shortfall("research", "h100", GPU, 8, 2),),
        holders=(Holder("team-a", "job-2", "h100", GPU, 6),),
        details={"position": 1},
    )


def override(workload_id: int, reason: Reason = Reason.WORKLOAD_HELD) -> Decision:
    return Decision(reason, "held", "release it", workload_id=workload_id)


def verdicts(owner: Engine) -> dict[Any, str]:
    shapes = {row["shape"]: row["reason"] for row in rows(owner, "SELECT * FROM shape_decision")}
    return shapes | {row["workload_id"]: row["reason"] for row in rows(owner, "SELECT * FROM workload_decision")}


def test_decisions_are_replaced_where_they_changed_and_withdrawn_where_nothing_waits(ledger: Engine, writer: Engine) -> None:
    commit(writer, decisions=[shape_decision("a"), shape_decision("b"), override(1), override(2)])
    assert verdicts(ledger) == {"a": "WaitingForQuota", "b": "WaitingForQuota", 1: "WorkloadHeld", 2: "WorkloadHeld"}
    (row,) = rows(ledger, "SELECT evidence FROM shape_decision WHERE shape = 'a'")
    decided = shape_decision("a")
    assert evidence_from_json(row["evidence"]) == (decided.shortfalls, decided.holders, decided.details)
    commit(
        writer,
        seq=2,
        decisions=[shape_decision("a", Reason.EXCEEDS_CEILING), override(1, Reason.BACKOFF)],
        withdrawn_shapes=[("research", "b"), ("nobody", "a"), ("research", "never")],
        withdrawn_workloads=[2, 99],
    )
    assert verdicts(ledger) == {"a": "ExceedsCeiling", 1: "Backoff"}


def test_the_first_plan_of_an_engine_replaces_every_decision(ledger: Engine, writer: Engine) -> None:
    commit(writer, decisions=[shape_decision("a"), override(1)])
    commit(writer, seq=2, replace_decisions=True, decisions=[shape_decision("b")])
    assert verdicts(ledger) == {"b": "WaitingForQuota"}


def test_decisions_on_what_is_no_longer_there_are_passed_over(ledger: Engine, writer: Engine) -> None:
    commit(writer, decisions=[override(99), replace(shape_decision("a"), tenant="nobody")])
    assert verdicts(ledger) == {}


def test_old_plans_are_forgotten_and_those_that_may_be_asked_for_are_kept(ledger: Engine, writer: Engine) -> None:
    with transaction(ledger) as connection:
        connection.execute(
            text(
                "INSERT INTO plan (term, seq, config_revision, admissions, evictions, decided_at)"
                " SELECT term, seq, 1, 0, 0, now() FROM generate_series(0, 1) term, generate_series(1, 1500) seq"
            )
        )
    with transaction(writer) as connection:
        assert housekeeping.forget_plans(connection, 1) == 1500 + 499
        assert plans.was_committed(connection, 1, 1500)
