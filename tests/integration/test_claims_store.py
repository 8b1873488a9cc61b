"""Claims on a real ledger: kept with the Plan that makes them, and gone with whatever ends them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from aiqueue.queue import documents
from aiqueue.queue.database import transaction
from aiqueue.queue.errors import LedgerConflict, TermLost
from aiqueue.queue.records import Allocation, Claim
from aiqueue.queue.store import configuration, housekeeping, observing, plans, work
from aiqueue.queue.store.changes import AdoptedRun, Changes, NewWorkload, SeenAgain, Vanished
from aiqueue.queue.store.plans import AdmissionRow, PlanRows
from aiqueue.queue.words import WorkloadState
from fix_follow import GPU, make_seen
from fix_terms import expire, take_over

pytestmark = pytest.mark.integration

CLAIMED = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
TAKEN = (
    Allocation("main", "h100", GPU, 2**53 + 1),
    Allocation("main", "h100", "cpu", 0),
    Allocation("tools", "h100", "cpu", 10),
)
TEMPLATE: dict[str, Any] = {"main": {"nodeSelector": {}, "tolerations": []}}


@pytest.fixture
def writer(controller_ledger: Engine) -> Engine:
    """The ledger under term 1, with workloads 1, 2 and 3 pending."""
    assert take_over(controller_ledger) == 1
    write(controller_ledger, new=[NewWorkload(make_seen(uid=f"uid-{n}", name=f"job-{n}")) for n in (1, 2, 3)])
    return controller_ledger


def write(writer: Engine, **changes: Any) -> None:
    with transaction(writer) as connection:
        observing.write(connection, 1, 1, Changes(**changes))


def claim(workload_id: int = 1, **changes: Any) -> Claim:
    made = Claim(workload_id, "research", TAKEN, {"main": 3, "tools": 1}, (7, 2**40), CLAIMED)
    return replace(made, **changes)


def commit(writer: Engine, seq: int = 1, **rows: Any) -> None:
    with transaction(writer) as connection:
        revision = configuration.revision(connection)
        plans.commit(connection, 1, 1, PlanRows(seq, revision, CLAIMED, **rows))


def admission(workload_id: int) -> AdmissionRow:
    taken = (Allocation("main", "h100", GPU, 8),)
    return AdmissionRow(workload_id, 1, "research", "team-a", "train", "100", taken, TEMPLATE, TEMPLATE)


def stand(writer: Engine) -> list[Claim]:
    with transaction(writer) as connection:
        return work.load_claims(connection)


def test_a_claim_is_read_back_as_it_was_made_and_holds_nothing(writer: Engine) -> None:
    later, smallest = claim(2, claimed_at=CLAIMED + timedelta(microseconds=1)), claim(3, counts={}, allocations=(), run_ids=())
    commit(writer, claims=[later, smallest, claim(1)])
    assert stand(writer) == [claim(1), smallest, later]
    with transaction(writer) as connection:
        assert housekeeping.usage(connection) == {}
        assert [workload.state for workload in work.load_pending(connection)] == [WorkloadState.PENDING] * 3


def test_a_claim_takes_the_place_of_the_one_before(writer: Engine) -> None:
    commit(writer, claims=[claim(1), claim(2)])
    anew = claim(1, allocations=TAKEN[:1], counts={"main": 1}, run_ids=(9,), claimed_at=CLAIMED + timedelta(hours=1))
    commit(writer, seq=2, claims=[anew], withdrawn_claims=[1])
    assert stand(writer) == [claim(2), anew]


def test_a_claim_is_withdrawn_and_one_that_is_not_there_is_passed_over(writer: Engine) -> None:
    commit(writer, claims=[claim(1), claim(2)])
    commit(writer, seq=2, withdrawn_claims=[1, 3, 99])
    assert stand(writer) == [claim(2)]


def test_an_admission_ends_the_claim_of_its_workload_and_no_other(writer: Engine) -> None:
    commit(writer, claims=[claim(1), claim(2)])
    commit(writer, seq=2, admissions=[admission(1), admission(3)])
    assert stand(writer) == [claim(2)]


@pytest.mark.parametrize("why", ["held", "admitted", "admitted now", "over", "unknown", "without tenant"])
def test_only_who_is_pending_gets_a_claim_and_otherwise_nothing_of_the_plan_is_kept(
    ledger: Engine, writer: Engine, why: str
) -> None:
    together: dict[str, Any] = {}
    wrong = claim(1)
    match why:
        case "held":
            write(writer, seen=[SeenAgain(1, make_seen(held_by_owner=True), WorkloadState.HELD, False)])
        case "admitted":
            commit(writer, admissions=[admission(1)])
        case "admitted now":
            together["admissions"] = [admission(1)]
        case "over":
            write(writer, vanished=[Vanished(1)])
        case "unknown":
            wrong = claim(99)
        case "without tenant":
            wrong = claim(1, tenant="nobody")
    with pytest.raises(LedgerConflict, match="2 workloads were to get a claim, 1 of them"):
        commit(writer, seq=2, claims=[claim(2), wrong], **together)
    assert stand(writer) == []
    with transaction(ledger) as connection:
        assert connection.execute(text("SELECT count(*) FROM plan WHERE seq = 2")).scalar_one() == 0


def adopt(writer: Engine) -> None:
    write(writer, adopted=[AdoptedRun("uid-1", "research", "team-a", "train", (Allocation("main", "h100", GPU, 8),), "old")])


def delete(owner: Engine) -> None:
    with transaction(owner) as connection:
        connection.execute(text("DELETE FROM workload WHERE id = 1"))


ENDS: dict[str, Callable[[Engine, Engine], None]] = {
    "vanished": lambda writer, _: write(writer, vanished=[Vanished(1)]),
    "finished": lambda writer, _: write(writer, seen=[SeenAgain(1, make_seen(), WorkloadState.FINISHED, False)]),
    "held": lambda writer, _: write(writer, seen=[SeenAgain(1, make_seen(held_by_owner=True), WorkloadState.HELD, False)]),
    "adopted": lambda writer, _: adopt(writer),
    "deleted": lambda _, owner: delete(owner),
}


@pytest.mark.parametrize("how", ENDS)
def test_who_waits_no_longer_has_no_claim(ledger: Engine, writer: Engine, how: str) -> None:
    commit(writer, claims=[claim(1), claim(2)])
    ENDS[how](writer, ledger)
    assert stand(writer) == [claim(2)]


def test_who_is_seen_again_and_waits_keeps_its_claim(writer: Engine) -> None:
    commit(writer, claims=[claim(1)])
    write(writer, seen=[SeenAgain(1, make_seen(queue_name="other"), WorkloadState.PENDING, False, pod_sets=True)])
    assert stand(writer) == [claim(1)]


def test_what_an_older_controller_leaves_behind_is_archived_all_the_same(ledger: Engine, writer: Engine) -> None:
    commit(writer, claims=[claim(1), claim(2)])
    with transaction(ledger) as connection:
        connection.execute(text("UPDATE workload SET state = 'Cancelled', ended_at = clock_timestamp() WHERE id = 1"))
    assert len(stand(writer)) == 2
    with transaction(writer) as connection:
        assert housekeeping.archive(connection, 1, after_seconds=-1) == ["uid-1"]
    assert stand(writer) == [claim(2)]


def test_a_tenant_that_nothing_is_submitted_to_any_more_is_deleted_with_the_claims_in_it(
    ledger: Engine, writer: Engine
) -> None:
    """Its queue feeds another tenant now; the engine withdraws such a claim when it hears of that."""
    commit(writer, claims=[claim(1)])
    tenant = "{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {name: other}}"
    queue = "{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {name: train, namespace: team-a}, spec: {tenant: other}}"
    other = f"{tenant}\n---\n{queue}\n"
    with transaction(ledger) as connection:
        configuration.apply(connection, documents.read_documents(other, "test"), claimed_by="test")
        configuration.delete(connection, "Tenant", "research", claimed_by="test")
    assert stand(writer) == []


def test_the_claims_of_a_term_that_is_over_leave_no_trace(ledger: Engine, writer: Engine) -> None:
    commit(writer, claims=[claim(1)])
    expire(ledger)
    take_over(writer, "two")
    with pytest.raises(TermLost):
        commit(writer, seq=2, claims=[claim(2)], withdrawn_claims=[1])
    assert stand(writer) == [claim(1)]


def test_many_claims_cost_as_many_statements_as_one(ledger: Engine, writer: Engine) -> None:
    write(writer, new=[NewWorkload(make_seen(uid=f"more-{n}", name=f"more-{n}")) for n in range(500)])
    with transaction(ledger) as connection:
        ids = list(connection.execute(text("SELECT id FROM workload WHERE uid LIKE 'more-%' ORDER BY id")).scalars())
    sent: list[list[str]] = []
    for seq, some in enumerate((ids[:1], ids), start=1):
        statements: list[str] = []

        def note(*arguments: Any, into: list[str] = statements) -> None:
            into.append(arguments[2])

        event.listen(writer, "before_cursor_execute", note)
        commit(writer, seq=seq, claims=[claim(each) for each in some])
        event.remove(writer, "before_cursor_execute", note)
        sent.append(statements)
    assert len(sent[0]) == len(sent[1])
    assert [each.workload_id for each in stand(writer)] == ids
