"""Preemption whatever happens: it comes to an end, it is forgotten when it is over, and it does not matter how it came about."""

from dataclasses import replace
from random import Random

from hypothesis import event, given
from hypothesis import strategies as st

from aiqueue.admission.engine import Plan, WorkloadGone
from aiqueue.queue.records import Configuration, Workload
from aiqueue.queue.words import RunOutcome
from fix_builders import at
from fix_engine_contracts import CALM, FAR, PLAIN, Contracts, contracts, demanding, noise, seeds, shapes_of, struggles
from fix_engine_ledger import Ledger, played, seconds
from fix_engine_player import Player
from fix_engine_shares import count, counted
from fix_engine_worlds import EXAMPLES, WORKLOAD_BYTES, History, Kind, Op, workload

LASTING = replace(CALM, elastic=True)
SHARED = 5  # runs of a workload that are put out by the rules on shares, at most
UNSTARVED = Contracts(Kind(bounds=(FAR,)))


# It comes to an end.


@st.composite
def crowds(draw: st.DrawFn, kind: Contracts, most: int = 12) -> tuple[Configuration, list[Workload]]:
    """A configuration, and workloads that never end."""
    configuration = draw(contracts(kind))
    known = shapes_of(draw(seeds()))
    drawn = [noise(seed, 2 * WORKLOAD_BYTES) for seed in draw(st.lists(seeds(), min_size=8, max_size=most))]
    found = [workload(number, data[:WORKLOAD_BYTES], known) for number, data in enumerate(drawn, 1)]
    return configuration, [
        demanding(each, data[WORKLOAD_BYTES:], kind, early=each.id < 6) for each, data in zip(found, drawn, strict=True)
    ]


def settle(ledger: Ledger, bound: int) -> int:
    """Decide, let those who were told to end do so at their deadlines and wait again, until nothing happens; answers preemptions."""
    preemptions = 0
    for _ in range(20 * bound):
        plan = ledger.decide()
        preemptions += sum(eviction.outcome is RunOutcome.PREEMPTED for eviction in plan.evictions)
        assert preemptions <= bound, "goes on for ever"
        told = ledger.told_to_end()
        if told:
            ledger.leave(min(told, key=lambda number: (ledger.runs[number].evict_at or ledger.time, number)))
        elif plan.empty and plan.wake_at is None:
            return preemptions
        elif plan.wake_at is not None:
            ledger.now = max(ledger.now, seconds(plan.wake_at))
    raise AssertionError("never comes to rest")


@counted(preempts=20, deep=10)
@EXAMPLES
@given(crowds(LASTING), st.lists(st.integers(0, 30), max_size=4))
def test_what_never_ends_comes_to_rest(crowd: tuple[Configuration, list[Workload]], pauses: list[int]) -> None:
    """Nobody is put out for ever: of n workloads each is put out at most n times, and by shares and what follows from it ten more.

    Work comes at once or in up to five lots.
    """
    configuration, workloads = crowd
    ledger = Ledger(configuration)
    lots = len(pauses) + 1
    for lot, pause in enumerate([*pauses, 0]):
        for each in workloads[lot::lots]:
            ledger.pend(each)
        if lot < lots - 1:
            ledger.decide()
            ledger.now += pause
    before = sum(eviction.outcome is RunOutcome.PREEMPTED for plan in ledger.plans for eviction in plan.evictions)
    bound = len(workloads) * (len(workloads) + 2 * SHARED)
    preemptions = before + settle(ledger, bound)
    assert preemptions <= bound
    event(f"preemptions {min(preemptions, 12)} of {len(workloads)} workloads")
    assert not ledger.claims
    other = ledger.rebuilt()
    assert not something(other.engine.decide(at(ledger.now)))
    assert not something(other.engine.decide(at(ledger.now + FAR // 2)))
    count(**ledger.had(), several=preemptions > 2)


def something(plan: Plan) -> bool:
    """Whether a Plan does anything but tell why others wait."""
    return bool(plan.admissions or plan.evictions or plan.claims or plan.withdrawn_claims)


# It does not matter how it came about.


def check_same(one: Ledger, other: Ledger) -> None:
    """All was decided alike."""
    assert [replace(plan, wake_at=None) for plan in one.plans] == [replace(plan, wake_at=None) for plan in other.plans]
    assert replace(one.decide(), wake_at=None) == replace(other.decide(), wake_at=None)
    assert one.verdicts() == other.verdicts()
    assert dict(one.engine.claims()) == dict(other.engine.claims())


@counted(preempts=20, borrows=20)
@EXAMPLES
@given(struggles(CALM))
def test_a_dropped_plan_leaves_no_trace(history: History) -> None:
    with_drops, without = played(history), played(history, drops=False)
    assert with_drops.plans == without.plans
    check_same(with_drops, without)
    count(**with_drops.had())


@counted(preempts=20)
@EXAMPLES
@given(struggles(edits=True))
def test_deciding_twice_gives_the_same_plan(history: History) -> None:
    ledger = played(history)
    first = ledger.engine.decide(ledger.time)
    assert ledger.engine.decide(ledger.time) == first
    ledger.verdicts()
    ledger.engine.usage()
    ledger.engine.claims()
    assert ledger.engine.decide(ledger.time) == first
    event(f"preempts now: {any(each.outcome is RunOutcome.PREEMPTED for each in first.evictions)}")
    count(**ledger.had())


def check_rebuilt(ledger: Ledger) -> None:
    """An engine built from how things stand decides the same, and so it says."""
    other = ledger.rebuilt()
    incremental, fresh = ledger.engine.decide(ledger.time), other.engine.decide(ledger.time)
    assert incremental.admissions == fresh.admissions
    assert incremental.evictions == fresh.evictions
    assert incremental.claims == fresh.claims
    assert incremental.withdrawn_claims == fresh.withdrawn_claims
    places = {number: ledger.engine.position(number) for number in ledger.pending}
    assert places == {number: other.engine.position(number) for number in other.pending}
    for _ in range(2):
        one, two = ledger.decide(), other.decide()
        assert (one.admissions, one.evictions, one.claims) == (two.admissions, two.evictions, two.claims)
        assert ledger.verdicts() == other.verdicts()
        assert ledger.engine.usage() == other.engine.usage()
        assert dict(ledger.engine.claims()) == dict(other.engine.claims())


@counted(preempts=20, midway=5)
@EXAMPLES
@given(struggles())
def test_a_history_decides_as_its_final_state(history: History) -> None:
    ledger = played(history)
    midway = bool(ledger.waited_for())
    check_rebuilt(ledger)
    count(**ledger.had(), midway=midway)


@counted(preempts=20, midway=4)
@EXAMPLES
@given(struggles(UNSTARVED, edits=True))
def test_a_history_of_configurations_decides_as_its_final_state(history: History) -> None:
    ledger = played(history)
    midway = bool(ledger.waited_for())
    check_rebuilt(ledger)
    count(**ledger.had(), midway=midway)


@counted(preempts=20)
@EXAMPLES
@given(struggles(CALM, most=24), st.integers(0, 40))
def test_an_engine_built_in_the_middle_goes_on_as_the_first_would(history: History, middle: int) -> None:
    """Whatever step of a preemption the first was lost in."""
    first, ops = history
    ledger = Ledger(first)
    for op in ops[:middle]:
        ledger.play(op)
    other = ledger.rebuilt()
    plans = len(ledger.plans)
    for op in [*ops[middle:], Op("decide", 1)]:
        ledger.play(op)
        other.play(op)
    assert [what(plan) for plan in ledger.plans[plans:]] == [what(plan) for plan in other.plans]
    assert ledger.verdicts() == other.verdicts()
    count(**ledger.had())


def what(plan: Plan) -> Plan:
    """What a Plan does; whom it tells what depends on what was told before."""
    return replace(plan, decisions=(), withdrawn_shapes=(), withdrawn_workloads=(), wake_at=None)


# It is forgotten when it is over.


def check_forgotten(ledger: Ledger) -> None:
    """Nobody waits and nothing runs: nothing is held, claimed, or remembered."""
    assert ledger.engine.usage() == {}
    assert dict(ledger.engine.claims()) == {}
    engine = ledger.engine
    runs, backlog = engine._runs, engine._backlog
    assert (runs.open, runs.of_workload, runs.of_tenant, runs.held) == ({}, {}, {}, {})
    for node in engine._nodes.values():
        for cell in node.cells.values():
            assert cell.usage == 0
            assert cell.actual is None
            assert not len(cell.lot)
            assert not len(cell.holders)
    assert backlog.pending == {}
    assert not len(backlog.alarms)
    assert not len(backlog.turns)


def finish(ledger: Ledger) -> None:
    """Everything that runs ends, and what waits after it; what can never go is taken away."""
    for _ in range(200):
        ledger.decide()
        for run_id in sorted(ledger.runs):
            ledger.close(run_id, back=False)
        plan = ledger.decide()
        if not plan.admissions and not ledger.runs and plan.wake_at is None:
            break
        ledger.now += 1
    for number in sorted(ledger.pending):
        del ledger.pending[number]
        ledger.engine.observe(WorkloadGone(number))
    for _ in range(10):
        if ledger.decide().empty:
            return
    raise AssertionError("never comes to rest")


@counted(preempts=20)
@EXAMPLES
@given(struggles(edits=True))
def test_nothing_is_left_when_everything_is_over(history: History) -> None:
    ledger = played(history)
    finish(ledger)
    check_forgotten(ledger)
    assert (ledger.shapes, ledger.overrides, ledger.claims) == ({}, {}, {})
    count(**ledger.had())


@counted(preempts=20)
@EXAMPLES
@given(struggles(PLAIN, adopts=False), st.integers(0, 1000))
def test_events_of_one_instant_may_come_in_any_order(history: History, seed: int) -> None:
    """Those who were told to end all end at once, some wait again, some who wait go."""
    ledger, other = played(history), played(history)
    events = [Op("end", number) for number in ledger.told_to_end()]
    events += [Op("gone", number) for number in sorted(ledger.pending)[::3]]
    for op in events:
        Player.move(ledger, op)
    Random(seed).shuffle(events)
    for op in events:
        Player.move(other, op)
    ledger.now, other.now = ledger.now + 3, other.now + 3
    check_same(ledger, other)
    count(**ledger.had())
