"""Decayed usage in a real ledger: what is folded is what the rows of runs tell, whatever happens in between."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, text

from aiqueue.queue import documents
from aiqueue.queue.database import transaction
from aiqueue.queue.errors import LedgerConflict, TermLost
from aiqueue.queue.records import Allocation
from aiqueue.queue.store import configuration, housekeeping, leadership, observing, plans, usage
from aiqueue.queue.store.changes import AdoptedRun, Changes, ClosedRun, NewWorkload, ResizedRun
from aiqueue.queue.store.plans import AdmissionRow, Committed, PlanRows
from aiqueue.queue.store.usage import UsageKey
from aiqueue.queue.usage import Usage
from aiqueue.queue.words import RunOutcome, WorkloadState
from fix_follow import GPU, make_seen
from fix_terms import take_over
from fix_usage import segment, usage_of_runs

pytestmark = pytest.mark.integration

DAY = 86_400
MORE = """
apiVersion: aiqueue.dev/v1
kind: Flavor
metadata: {name: a100}
spec: {}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {name: ops}
spec:
  usageHalfLife: 1h
  quotas:
  - flavor: h100
    resources: [{name: nvidia.com/gpu, nominal: 8}, {name: cpu, nominal: 64}]
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {name: batch, namespace: team-a}
spec: {tenant: research}
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {name: ops, namespace: team-b}
spec: {tenant: ops}
"""
TENANT_OF = {("team-a", "train"): "research", ("team-a", "batch"): "research", ("team-b", "ops"): "ops"}
TRAIN, BATCH, OPS = (("team-a", "train", GPU), ("team-a", "batch", GPU), ("team-b", "ops", GPU))
GPUS = (Allocation("main", "h100", GPU, 8),)


class Book:
    """Opens and closes runs as the controller does, each call a transaction; numbers its workloads."""

    def __init__(self, owner: Engine, database: Engine) -> None:
        self.owner = owner
        self.database = database
        self.seq = 0
        self.workloads = 0

    def pending(self, how_many: int = 1, queue: tuple[str, str] = ("team-a", "train")) -> list[int]:
        """Ids of new workloads."""
        numbers = range(self.workloads, self.workloads + how_many)
        self.workloads += how_many
        seen = [
            make_seen(uid=f"uid-{number}", name=f"job-{number}", namespace=queue[0], queue_name=queue[1]) for number in numbers
        ]
        with transaction(self.database) as connection:
            written = observing.write(connection, 1, 1, Changes(new=[NewWorkload(each) for each in seen]))
        return [written.workload_ids[each.uid] for each in seen]

    def admit(self, admissions: list[AdmissionRow]) -> Committed:
        """Commit a Plan of these."""
        self.seq += 1
        with transaction(self.database) as connection:
            now = leadership.current(connection).now - timedelta(seconds=1)  # decided a while ago
            revision = configuration.revision(connection)
            return plans.commit(connection, 1, 1, PlanRows(self.seq, revision, now, admissions=admissions))

    def open(
        self, queue: tuple[str, str] = ("team-a", "train"), allocations: tuple[Allocation, ...] = GPUS
    ) -> tuple[ClosedRun, Committed]:
        """A run, and what will end it."""
        (workload_id,) = self.pending(1, queue)
        committed = self.admit([admission(workload_id, queue, allocations)])
        return ClosedRun(committed.run_ids[0], workload_id, RunOutcome.FINISHED, "", WorkloadState.FINISHED), committed

    def write(self, **changes: Any) -> observing.Written:
        """Write observations."""
        with transaction(self.database) as connection:
            return observing.write(connection, 1, 1, Changes(**changes))

    def adopt(
        self,
        queue: tuple[str, str] = ("team-a", "train"),
        allocations: tuple[Allocation, ...] = GPUS,
        *,
        closed: tuple[ClosedRun, ...] = (),
    ) -> tuple[ClosedRun, observing.Written]:
        """An adopted run, and what will end it; other runs end in the same transaction."""
        uid = f"uid-{self.workloads}"
        seen = make_seen(uid=uid, name=f"job-{self.workloads}", namespace=queue[0], queue_name=queue[1], suspended=False)
        self.workloads += 1
        run = AdoptedRun(uid, TENANT_OF.get(queue, "research"), queue[0], queue[1], allocations, why="old")
        written = self.write(new=[NewWorkload(seen)], adopted=[run], closed=list(closed))
        run_id, _ = written.adopted[uid]
        return ClosedRun(run_id, written.workload_ids[uid], RunOutcome.FINISHED, "", WorkloadState.FINISHED), written

    def load(self) -> dict[UsageKey, Usage]:
        """Usage as the ledger has it."""
        with transaction(self.database) as connection:
            return usage.load(connection)

    def shift(self, seconds: float) -> None:
        """Let time pass: everything so far happened that much earlier."""
        with transaction(self.owner) as connection:
            for column, table in (
                ("opened_at", "run"),
                ("closed_at", "run"),
                ("as_of", "queue_usage"),
                ("created_at", "queue"),
                ("opened_at", "archived_run"),
                ("closed_at", "archived_run"),
                ("ended_at", "workload"),
            ):
                statement = f"UPDATE {table} SET {column} = {column} - make_interval(secs => :seconds)"  # noqa: S608 -- our own names
                connection.execute(text(statement), {"seconds": seconds})

    def check(self) -> dict[UsageKey, Usage]:
        """That usage is what the rows of runs tell, now and in a while; answers it."""
        found = self.load()
        with transaction(self.database) as connection:
            now = leadership.current(connection).now
            for later in (now, now + timedelta(days=3)):
                wanted = usage_of_runs(connection, later)
                assert {key: kept.at(later) for key, kept in found.items()} == {
                    key: pytest.approx(value, rel=1e-9, abs=1e-9) for key, (value, _) in wanted.items()
                }
            assert {key: kept.rate for key, kept in found.items()} == {key: rate for key, (_, rate) in wanted.items()}
            assert usage.differing(connection) == 0
        return found


def admission(workload_id: int, queue: tuple[str, str], allocations: tuple[Allocation, ...], attempt: int = 1) -> AdmissionRow:
    tenant = TENANT_OF.get(queue, "research")
    return AdmissionRow(workload_id, attempt, tenant, queue[0], queue[1], "1", allocations, {}, {})


@pytest.fixture
def book(ledger: Engine, controller_ledger: Engine) -> Book:
    """The ledger under term 1, with queues of two tenants."""
    apply(ledger, MORE)
    assert take_over(controller_ledger) == 1
    return Book(ledger, controller_ledger)


def apply(owner: Engine, yaml: str) -> None:
    with transaction(owner) as connection:
        configuration.apply(connection, documents.read_documents(yaml, "test"), claimed_by="test")


def test_what_a_plan_opens_is_counted_from_then_on(book: Book) -> None:
    cpu = Allocation("main", "h100", "cpu", 4000)
    of_other_flavor = Allocation("more", "a100", GPU, 3)
    _, committed = book.open(allocations=(*GPUS, cpu, of_other_flavor))
    assert committed.usages == {
        TRAIN: Usage(0.0, 11, 7 * DAY, committed.now),  # over all flavors and pod sets
        ("team-a", "train", "cpu"): Usage(0.0, 4000, 7 * DAY, committed.now),
    }
    assert book.load() == committed.usages
    book.shift(3600)
    book.check()


def test_a_plan_without_admissions_folds_nothing(book: Book) -> None:
    assert book.admit([]).usages == {}
    assert book.write(new=[NewWorkload(make_seen())]).usages == {}
    assert book.load() == {}


def test_what_closes_is_counted_no_longer_and_decays(book: Book) -> None:
    closed, opened = book.open()
    book.shift(DAY)
    written = book.write(closed=[closed])
    (folded,) = written.usages.values()
    assert book.check() == written.usages
    assert (folded.rate, folded.as_of) == (0, written.now)
    assert folded.value == pytest.approx(8 * DAY, rel=0.06)
    assert folded.value < 8 * (written.now - opened.now + timedelta(days=1)).total_seconds()
    book.shift(7 * DAY)
    (later,) = book.check().values()
    assert later.at(written.now) == pytest.approx(folded.value / 2, rel=1e-6)


def test_what_is_adopted_is_counted(book: Book) -> None:
    closed, written = book.adopt(queue=("team-b", "ops"))
    assert written.usages == {OPS: Usage(0.0, 8, 3600, written.now)} == book.load()
    book.shift(600)
    # In one transaction one run ends and another is adopted, of other queues and of the same.
    again, written = book.adopt(queue=("team-b", "ops"), closed=(closed,))
    assert set(written.usages) == {OPS}
    assert book.check()[OPS].rate == 8
    book.shift(600)
    _, written = book.adopt(closed=(again,))
    assert {key: kept.rate for key, kept in written.usages.items()} == {OPS: 0, TRAIN: 8}
    book.check()


def test_what_is_folded_is_told_to_the_last_bit(book: Book) -> None:
    """Whoever was told knows what whoever reads it back does."""
    closed, _ = book.open()
    for seconds in (0.333333, 12345.678901, 3 * DAY):
        book.shift(seconds)
        more, committed = book.open()
        assert book.load() == committed.usages
        assert book.write(closed=[more]).usages == book.load()
    assert book.write(closed=[closed]).usages == book.load()


def test_a_run_is_counted_by_the_half_life_that_its_tenant_has_when_it_moves(ledger: Engine, book: Book) -> None:
    closed, committed = book.open(queue=("team-b", "ops"))
    assert committed.usages[OPS].half_life_seconds == 3600
    book.shift(3600)
    before = book.load()[OPS]
    apply(ledger, MORE.replace("usageHalfLife: 1h", "usageHalfLife: 2d"))
    assert book.load()[OPS] == before  # nothing moves, nothing is written
    written = book.write(closed=[closed])
    assert written.usages[OPS] == before.moved(written.now, -8, 2 * DAY)
    assert book.load() == written.usages


def test_usage_stays_with_the_queue_that_moves_to_another_tenant(ledger: Engine, book: Book) -> None:
    closed, _ = book.open(queue=("team-a", "batch"))
    book.shift(3600)
    before = book.load()[BATCH]
    moved = "{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {name: batch, namespace: team-a}, spec: {tenant: ops}}"
    apply(ledger, moved)
    written = book.write(closed=[closed])
    assert written.usages == {BATCH: before.moved(written.now, -8, 3600)}
    assert book.load() == written.usages


def test_a_queue_without_a_half_life_uses_nothing_and_holds_what_it_holds(ledger: Engine, book: Book) -> None:
    apply(ledger, MORE.replace("usageHalfLife: 1h", "usageHalfLife: 0s\n  order: [priority, submitted]"))
    closed, committed = book.open(queue=("team-b", "ops"))
    assert committed.usages[OPS].rate == 8
    book.shift(3600)
    assert book.write(closed=[closed]).usages[OPS].value == 0.0


def test_a_plan_that_is_rolled_back_counts_nothing(book: Book) -> None:
    _, committed = book.open()
    (workload_id,) = book.pending()
    with transaction(book.database) as connection:
        revision = configuration.revision(connection)
        rows = [admission(workload_id, ("team-a", "train"), GPUS)]
        lost = plans.commit(connection, 1, 1, PlanRows(99, revision, committed.now, admissions=rows))
        assert lost.usages[TRAIN].rate == 16
        connection.rollback()
    assert book.load() == committed.usages
    # A part of what was observed that cannot be written takes the rest with it.
    run = ClosedRun(committed.run_ids[0], 1, RunOutcome.FINISHED, "", WorkloadState.FINISHED)
    with pytest.raises(LedgerConflict):
        book.write(closed=[run, ClosedRun(999, 1, RunOutcome.FINISHED, "", WorkloadState.FINISHED)])
    assert book.load() == committed.usages


def test_what_a_queue_used_goes_with_it(ledger: Engine, book: Book) -> None:
    closed, _ = book.open(queue=("team-a", "batch"))
    book.open()
    book.write(closed=[closed])
    with transaction(ledger) as connection:
        configuration.delete(connection, "Queue", "batch", "team-a", claimed_by="test")
    assert set(book.check()) == {TRAIN}
    apply(ledger, MORE)  # one by the same name begins anew
    assert set(book.load()) == {TRAIN}
    book.open(queue=("team-a", "batch"))
    assert book.load()[BATCH].value == 0.0


def test_a_run_without_a_queue_is_counted_nowhere(book: Book) -> None:
    closed, written = book.adopt(queue=("team-a", "gone"))
    assert written.usages == {}
    assert book.write(closed=[closed]).usages == {}
    assert book.load() == {}


@pytest.mark.parametrize("seed", range(3))
def test_after_any_history_it_is_what_the_rows_of_runs_tell(book: Book, seed: int) -> None:
    chance = random.Random(seed)
    running: list[ClosedRun] = []
    queues = list(TENANT_OF)
    for _ in range(25):
        book.shift(chance.choice([0.5, 60, 3600, DAY]) * chance.random())
        allocations = tuple(
            Allocation(pod_set, flavor, resource, chance.randint(1, 64))
            for pod_set in ("main", "driver")
            for flavor, resource in (("h100", GPU), ("a100", GPU), ("h100", "cpu"))
            if chance.random() < 0.5
        )
        step = chance.choice(["open", "open", "adopt", "close", "close", "both", "archive"])
        chance.shuffle(running)
        ending, rest = running[:2], running[2:]
        if step == "open":
            closed, _ = book.open(chance.choice(queues), allocations)
            running.append(closed)
        elif step == "adopt":
            closed, _ = book.adopt(chance.choice(queues), allocations)
            running.append(closed)
        elif step == "both":
            closed, _ = book.adopt(chance.choice(queues), allocations, closed=tuple(ending))
            running = [*rest, closed]
        elif step == "close":
            book.write(closed=ending)
            running = rest
        else:
            with transaction(book.database) as connection:
                housekeeping.archive(connection, 1, 600)
    found = book.check()
    assert found
    # Counted again from the rows, it is the same.
    with transaction(book.owner) as connection:
        connection.execute(text("DELETE FROM queue_usage"))
        held = sum(kept.rate > 0 for kept in found.values())
        assert usage.differing(connection) == held
        assert usage.repair(connection, 1) == held
    repaired = book.load()
    now = max(kept.as_of for kept in repaired.values()) if repaired else None
    assert set(repaired) == {key for key, kept in found.items() if kept.rate}
    for key, kept in repaired.items():
        assert now is not None
        assert (kept.rate, kept.half_life_seconds) == (found[key].rate, found[key].half_life_seconds)
        assert kept.value == pytest.approx(found[key].at(now), rel=1e-6)


def test_a_rate_that_is_wrong_is_found_and_counted_again(book: Book) -> None:
    closed, _ = book.open()
    book.open(queue=("team-b", "ops"))
    book.shift(3600)
    with transaction(book.owner) as connection:
        connection.execute(text("UPDATE queue_usage SET rate = 3, value = 1e9 WHERE half_life_seconds = 604800"))
    before = book.load()
    with pytest.raises(LedgerConflict, match=r"queue team-a/train gives back 8 of nvidia.com/gpu, but 3 were counted as held"):
        book.write(closed=[closed])
    with transaction(book.database) as connection:
        assert usage.differing(connection) == 1
        assert usage.repair(connection, 1) == 1
    assert book.check()[OPS] == before[OPS]  # what was right is left alone
    book.write(closed=[closed])
    with transaction(book.database) as connection:
        assert usage.repair(connection, 1) == 0
    book.check()


def test_counted_again_a_run_that_shrank_is_what_it_holds_and_when_it_is_over_what_it_held_at_first(book: Book) -> None:
    closed, _ = book.open()
    book.shift(3600)
    book.write(resized=[ResizedRun(closed.run_id, closed.workload_id, {"main": 1}, {"main": {GPU: 4}})])
    book.shift(3600)
    assert counted_again(book) == pytest.approx(segment(4, 7200, 0, 7 * DAY), rel=1e-3)
    assert book.check()[TRAIN].rate == 4
    book.write(closed=[closed])
    book.open(allocations=(Allocation("main", "h100", GPU, 1),))
    book.shift(3600)
    value = counted_again(book)
    assert value == pytest.approx(segment(8, 7200, 3600, 7 * DAY) + segment(1, 3600, 0, 7 * DAY), rel=1e-3)
    assert book.load()[TRAIN].rate == 1
    with transaction(book.database) as connection:  # which is what the archive goes on saying of it
        housekeeping.archive(connection, 1, 600)
    assert counted_again(book) == pytest.approx(value, rel=1e-3)


def counted_again(book: Book) -> float:
    """The usage of a queue, counted again."""
    with transaction(book.owner) as connection:
        connection.execute(text("UPDATE queue_usage SET rate = 3, value = 1e9"))
        assert usage.repair(connection, 1) == 1
    return book.load()[TRAIN].value


def test_only_the_leader_counts_again(book: Book) -> None:
    with pytest.raises(TermLost), transaction(book.database) as connection:
        usage.repair(connection, 2)


def statements(database: Engine, what: Any) -> list[str]:
    """What was sent to the ledger while `what` ran, but for what is not of usage."""
    sent: list[str] = []

    def note(*arguments: Any) -> None:
        sent.append(str(arguments[2]))

    event.listen(database, "before_cursor_execute", note)
    try:
        what()
    finally:
        event.remove(database, "before_cursor_execute", note)
    return [statement for statement in sent if "queue_usage" in statement]


def test_a_fold_is_two_statements_however_much_it_moves(book: Book) -> None:
    rows: list[AdmissionRow] = []
    for queue in TENANT_OF:
        rows += [admission(workload_id, queue, GPUS) for workload_id in book.pending(20, queue)]
    committed: list[Committed] = []
    assert len(statements(book.database, lambda: committed.append(book.admit(rows)))) == 2
    runs = zip(committed[0].run_ids, rows, strict=True)
    closing = [ClosedRun(run, row.workload_id, RunOutcome.FINISHED, "", WorkloadState.FINISHED) for run, row in runs]
    assert len(statements(book.database, lambda: book.write(closed=closing))) == 2
    assert {key: kept.rate for key, kept in book.check().items()} == {TRAIN: 0, BATCH: 0, OPS: 0}


def test_a_clock_that_goes_back_stops_usage_and_takes_nothing(book: Book) -> None:
    closed, committed = book.open()
    ahead: datetime = committed.now + timedelta(hours=1)
    with transaction(book.owner) as connection:
        connection.execute(text("UPDATE queue_usage SET as_of = :ahead, value = 5"), {"ahead": ahead})
    written: Mapping[UsageKey, Usage] = book.write(closed=[closed]).usages
    assert written == {TRAIN: Usage(5.0, 0, 7 * DAY, ahead)}
