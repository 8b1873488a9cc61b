"""The engine against the slow reference: same admissions, same reasons, at every decide of a history."""

from hypothesis import event, given, settings
from hypothesis import strategies as st

from aiqueue.queue.records import Configuration, Workload
from fix_builders import at
from fix_engine_reference import Quotas, Reference
from fix_engine_worlds import EPOCHS, Kind, Op, Player, backlogs, configurations, histories

History = tuple[Configuration, list[Op]]


def agree(player: Player) -> int:
    """One decide; answers how many were admitted."""
    holdings = [(run.tenant, run.allocations) for _, run in sorted(player.runs.items())]
    expected = Reference(player.configuration, list(player.pending.values()), list(holdings), at(player.now)).decide()
    plan = player.decide()
    assert [(each.workload.id, each.allocations) for each in plan.admissions] == expected.admitted
    verdicts = player.verdicts()
    assert {number: verdict.reason for number, verdict in verdicts.items() if verdict} == expected.reasons
    after = Quotas(player.configuration.tenants, [(run.tenant, run.allocations) for run in player.runs.values()])
    for verdict in verdicts.values():
        for short in verdict.shortfalls if verdict else ():
            pair = (short.flavor, short.resource)
            limit = after.potential if verdict and verdict.reason == "ExceedsCeiling" else after.available
            assert short.available == max(0, limit(short.tenant, pair))
            assert short.short > 0
        event(f"reason {verdict.reason if verdict else None}")
    return len(plan.admissions)


@settings(max_examples=400)
@given(configurations(Kind(trees=False)), backlogs(), st.integers(0, 60))
def test_one_decide_of_tenants_that_stand_alone(configuration: Configuration, backlog: list[Workload], later: int) -> None:
    player = Player(configuration, now=EPOCHS + later)
    for workload in backlog:
        player.play(Op("pend", workload))
    event(f"admitted {min(5, agree(player))}")


@settings(max_examples=400)
@given(configurations(Kind(trees=True)), backlogs())
def test_one_decide_in_a_tree(configuration: Configuration, backlog: list[Workload]) -> None:
    player = Player(configuration)
    for workload in backlog:
        player.play(Op("pend", workload))
    event(f"admitted {min(5, agree(player))}")


@settings(max_examples=400)
@given(histories(reconfigure=False))
def test_no_wake_up_is_lost_in_a_history(history: History) -> None:
    """Whatever was parked, and however often: every decide does what looking at everything afresh would do."""
    configuration, ops = history
    player = Player(configuration)
    for op in ops:
        if op.what == "decide" and isinstance(op.about, int):
            player.now += op.about
            agree(player)
        else:
            player.play(op)
    agree(player)
