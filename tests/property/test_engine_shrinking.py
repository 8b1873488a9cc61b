"""Runs that come to hold less while they are open: whatever happens besides, it is as if they had been told so at once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from aiqueue.admission.engine import RunOpened
from aiqueue.queue.records import Allocation, Run
from fix_builders import at
from fix_engine_contracts import CALM, struggles
from fix_engine_ledger import Ledger
from fix_engine_player import Player
from fix_engine_quotas import total
from fix_engine_shares import count, counted
from fix_engine_worlds import EXAMPLES, History, Op, histories

#: After which operation which run comes to hold which part of what it holds, all by number.
SHRINKS = st.lists(st.tuples(st.integers(0, 47), st.integers(0, 20), st.integers(0, 3)), min_size=4, max_size=24)
Shrinks = list[tuple[int, int, int]]


def lesser(run: Run, quarters: int) -> Run:
    """The run at so many quarters of what it holds, rounded up."""
    held = tuple(Allocation(x.pod_set, x.flavor, x.resource, -(-x.amount * quarters // 4)) for x in run.allocations)
    return replace(run, allocations=held)


def shrink(player: Player, number: int, quarters: int) -> bool:
    """Let an open run hold less; answers whether anything did."""
    if not player.runs:
        return False
    before = player.runs[sorted(player.runs)[number % len(player.runs)]]
    after = lesser(before, quarters)
    player.runs[before.id] = after
    player.engine.observe(RunOpened(after))
    player.fold([(replace(before, allocations=_difference(before, after)), -1)])
    return total(before.allocations) != total(after.allocations)


def _difference(before: Run, after: Run) -> tuple[Allocation, ...]:
    pairs = zip(before.allocations, after.allocations, strict=True)
    return tuple(replace(was, amount=was.amount - now.amount) for was, now in pairs)


def play(player: Player, ops: list[Op], shrinks: Shrinks, since: int = 0) -> tuple[bool, bool]:
    """Play operations, numbered from `since`, with shrinks between them; answers whether any run shrank, and any that a claim waits for."""
    any_run = any_victim = False
    for index, op in enumerate(ops, since):
        player.play(op)
        for _, number, quarters in [each for each in shrinks if each[0] == index]:
            waited = player.waited_for() if isinstance(player, Ledger) else set[int]()
            victim = bool(player.runs) and sorted(player.runs)[number % len(player.runs)] in waited
            shrank = shrink(player, number, quarters)
            any_run, any_victim = any_run or shrank, any_victim or (shrank and victim)
            check_usage(player)
    return any_run, any_victim


def check_usage(player: Player) -> None:
    """What is used is what open runs hold."""
    held: dict[tuple[str, str, str], int] = {}
    for run in player.runs.values():
        for (flavor, resource), amount in total(run.allocations).items():
            held[run.tenant, flavor, resource] = held.get((run.tenant, flavor, resource), 0) + amount
    assert player.engine.usage() == {key: amount for key, amount in held.items() if amount}


def check_rebuilt(player: Player) -> None:
    """An engine built from how things stand decides the same, and so it says."""
    other = player.rebuilt()
    ours, theirs = player.engine.decide(at(player.now)), other.engine.decide(at(player.now))
    assert (ours.admissions, ours.evictions, ours.claims) == (theirs.admissions, theirs.evictions, theirs.claims)
    assert player.decide().admissions == other.decide().admissions
    assert player.verdicts() == other.verdicts()
    assert player.engine.usage() == other.engine.usage()
    assert dict(player.engine.claims()) == dict(other.engine.claims())


@counted(admits=40, shrank=25)
@EXAMPLES
@given(histories(), SHRINKS)
def test_a_history_of_shrinks_decides_as_its_final_state(history: History, shrinks: Shrinks) -> None:
    configuration, ops = history
    player = Player(configuration)
    shrank, _ = play(player, ops, shrinks)
    check_rebuilt(player)
    count(**player.had(), shrank=shrank)


@counted(preempts=20, shrank=50, victim=3)
@EXAMPLES
@given(struggles(CALM), SHRINKS)
def test_who_makes_room_may_give_some_of_it_back_before_it_leaves(history: History, shrinks: Shrinks) -> None:
    """The claim that waits for it stands, nobody else gets what it gave back, and a successor sees the same."""
    configuration, ops = history
    ledger = Ledger(configuration)
    shrank, victim = play(ledger, ops, shrinks)
    ledger.decide()  # what a claim comes to is in no ledger before somebody decides
    assert dict(ledger.engine.claims()) == ledger.claims
    check_rebuilt(ledger)
    count(**ledger.had(), shrank=shrank, victim=victim)


@counted(preempts=20, shrank=15)
@EXAMPLES
@given(struggles(CALM, most=24), SHRINKS, st.integers(0, 40))
def test_an_engine_built_in_the_middle_goes_on_as_the_first_would(history: History, shrinks: Shrinks, middle: int) -> None:
    configuration, ops = history
    ledger = Ledger(configuration)
    play(ledger, ops[:middle], shrinks)
    other = ledger.rebuilt()
    plans = len(ledger.plans)
    rest = [*ops[middle:], Op("decide", 1)]
    shrank, _ = play(ledger, rest, shrinks, since=middle)
    play(other, rest, shrinks, since=middle)
    mine, theirs = ledger.plans[plans:], other.plans
    assert [(p.admissions, p.evictions, p.claims) for p in mine] == [(p.admissions, p.evictions, p.claims) for p in theirs]
    assert ledger.verdicts() == other.verdicts()
    count(**ledger.had(), shrank=shrank)


@EXAMPLES
@given(struggles(CALM), SHRINKS)
def test_nothing_is_left_of_runs_that_shrank_and_ended(history: History, shrinks: Shrinks) -> None:
    """Both usages of every cell come back to nothing."""
    configuration, ops = history
    ledger = Ledger(configuration)
    play(ledger, ops, shrinks)
    for number in list(ledger.pending):
        ledger.play(Op("gone", number))
    for _ in range(3):
        ledger.decide()
        for run_id in list(ledger.runs):
            ledger.close(run_id, back=False)
        for number in list(ledger.pending):
            ledger.play(Op("gone", number))
    assert ledger.engine.usage() == {}
    for node in ledger.engine._nodes.values():  # what nobody can see may still be wrong
        for cell in node.cells.values():
            assert (cell.usage, cell.actual) == (0, None)
            assert len(cell.holders) == 0
