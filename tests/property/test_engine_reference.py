"""The engine against the slow reference: same admissions, same reasons, at every decide of a history."""

from hypothesis import assume, event, given
from hypothesis import strategies as st

from aiqueue.queue.records import Configuration, Decision, Workload
from aiqueue.queue.words import Reason
from fix_engine_player import Player
from fix_engine_reference import Outcome
from fix_engine_shares import count, counted
from fix_engine_worlds import EPOCHS, EXAMPLES, History, Kind, Op, backlogs, configurations, histories


def agree(player: Player) -> int:
    """One decide; answers how many were admitted."""
    expected = player.expected()
    plan = player.decide()
    assert [(each.workload.id, each.allocations) for each in plan.admissions] == expected.admitted
    verdicts = player.verdicts()
    assert {number: verdict.reason for number, verdict in verdicts.items() if verdict} == expected.reasons
    for verdict in verdicts.values():
        if verdict is not None:
            check_figures(verdict, expected, player)
            event(f"reason {verdict.reason}")
    return len(plan.admissions)


def check_figures(verdict: Decision, expected: Outcome, player: Player) -> None:
    """What is said to be missing is missing, and those who are said to hold it hold it."""
    for short in verdict.shortfalls:
        pair = (short.flavor, short.resource)
        limit = expected.ceiling if verdict.reason is Reason.EXCEEDS_CEILING else expected.available
        assert short.available == max(0, limit(short.tenant, pair))
        assert short.short > 0
    held = {
        (run.workload.namespace, run.workload.name, each.flavor, each.resource): 0
        for run in player.runs.values()
        for each in run.allocations
    }
    for run in player.runs.values():
        for each in run.allocations:
            held[run.workload.namespace, run.workload.name, each.flavor, each.resource] += each.amount
    assert len(verdict.holders) <= 5
    for holder in verdict.holders:
        assert held[holder.namespace, holder.name, holder.flavor, holder.resource] >= holder.amount > 0
    assert [each.amount for each in verdict.holders] == sorted((each.amount for each in verdict.holders), reverse=True)
    if verdict.reason is Reason.WAITING_FOR_QUOTA:
        assert verdict.shortfalls


def play_and_agree(history: History, *, starves: bool = True) -> Player:
    """Every decide of a history does what looking at everything afresh would do.

    Where work starves, a history in which an edit lets work in is passed over: since when it starves is nobody else's to know.
    """
    configuration, ops = history
    player = Player(configuration)
    for op in [*ops, Op("decide", 1)]:
        if op.what == "decide" and isinstance(op.about, int):
            player.now += op.about
            agree(player)
        else:
            player.play(op)
            assume(not (player.let_in and starves))
    return player


@counted(admits=40)
@EXAMPLES
@given(configurations(Kind(trees=False)), backlogs(), st.integers(0, 60))
def test_one_decide_of_tenants_that_stand_alone(configuration: Configuration, backlog: list[Workload], later: int) -> None:
    player = Player(configuration, now=EPOCHS + later)
    for workload in backlog:
        player.play(Op("pend", workload))
    event(f"admitted {min(5, agree(player))}")
    count(**player.had_all())


@counted(admits=40, borrows=20, deep=10, starving=10, strict_head=5)
@EXAMPLES
@given(configurations(Kind(trees=True)), backlogs(), st.integers(0, 60))
def test_one_decide_in_trees(configuration: Configuration, backlog: list[Workload], later: int) -> None:
    player = Player(configuration, now=EPOCHS + later)
    for workload in backlog:
        player.play(Op("pend", workload))
    event(f"admitted {min(5, agree(player))}")
    count(**player.had_all())


@counted(borrows=20, deep=10, starving=10, kept_back=1, strict_head=5, reserved=1, usage=1)
@EXAMPLES
@given(histories())
def test_no_wake_up_is_lost_in_a_history(history: History) -> None:
    """Whatever was parked, and however often: every decide does what looking at everything afresh would do."""
    count(**play_and_agree(history).had_all())


@counted(borrows=20, deep=10, strict_head=5, usage=1)
@EXAMPLES
@given(histories(edits=True, reconfigure=True, kind=Kind(bounds=(10**6,))))
def test_none_is_lost_where_everything_is_configured_anew(history: History) -> None:
    count(**play_and_agree(history, starves=False).had_all())


@counted(borrows=20, deep=10, starving=10, strict_head=5, usage=1)
@EXAMPLES
@given(histories(edits=True, kind=Kind(closed=False)))
def test_none_is_lost_where_quota_is_edited_while_work_starves(history: History) -> None:
    count(**play_and_agree(history).had_all())
