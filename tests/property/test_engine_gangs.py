"""Whose gang is not ready in time is told to end: never before, and always by the Plan at that time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aiqueue.queue.words import RunOutcome
from fix_engine_contracts import FAR, Contracts, struggles
from fix_engine_gangs import due, gangs, played
from fix_engine_ledger import told
from fix_engine_shares import count, counted
from fix_engine_worlds import History, Kind

UNSTARVED = Contracts(Kind(bounds=(FAR,)))
SOME = settings(max_examples=150)


@counted(not_ready=40, again=15, requeues=8, held=10, preempts=10)
@SOME
@given(struggles(), gangs(), st.integers(0, 30))
def test_whose_gang_is_not_ready_in_time_ends_then_and_not_before(history: History, data: bytes, later: int) -> None:
    ledger = played(history, data)
    ledger.now += later
    plan = ledger.decide()
    for before, asked, eviction in told(ledger, RunOutcome.NOT_READY):
        run = before.runs[eviction.run_id]
        by = due(before.configuration, run)
        assert by is not None
        assert by <= asked.now, "it had time left"
        assert (eviction.evict_at, run.evict_at) == (asked.now, None), "at once, and once"
        assert (eviction.preempted_by, eviction.rule) == (None, None)
    for before, asked in zip(ledger.befores, ledger.plans, strict=True):
        told_now = {eviction.run_id for eviction in asked.evictions}
        for run in before.runs.values():
            by = due(before.configuration, run)
            if by is not None and by <= asked.now and run.evict_at is None:
                assert run.id in told_now, "its time is over"
    for run in ledger.runs.values():
        by = due(ledger.configuration, run)
        if by is not None and run.evict_at is None:
            assert plan.wake_at is not None
            assert plan.wake_at <= by, "nobody would ask when its time is over"
    count(**ledger.had())


@counted(not_ready=40, again=15, preempts=8)
@SOME
@given(struggles(UNSTARVED, edits=True), gangs(), st.integers(0, 30))
def test_an_engine_that_is_told_how_things_stand_decides_the_same(history: History, data: bytes, later: int) -> None:
    ledger = played(history, data)
    ledger.now += later
    other = ledger.rebuilt()
    for _ in range(2):
        one, two = ledger.decide(), other.decide()
        assert (one.admissions, one.evictions, one.claims) == (two.admissions, two.evictions, two.claims)
        assert ledger.verdicts() == other.verdicts()
    count(**ledger.had())


@counted(requeues=8)
@SOME
@given(struggles(), gangs())
def test_who_was_not_ready_is_as_old_as_its_eviction(history: History, data: bytes) -> None:
    ledger = played(history, data)
    ledger.now += 1
    ledger.decide()
    places = {number: ledger.engine.position(number)[0] for number in ledger.pending}
    for workload in ledger.pending.values():
        for other in ledger.pending.values():
            alike = (other.queue_name, other.class_name) == (workload.queue_name, workload.class_name)
            if alike and workload.requeued_at is not None and (other.requeued_at or other.created_at) < workload.requeued_at:
                assert places[other.id] < places[workload.id]
    count(**ledger.had())
