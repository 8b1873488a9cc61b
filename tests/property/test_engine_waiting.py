"""What waits: whom it keeps back and whom not, for how long, and that it is looked at only where something moved."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hypothesis import assume, event, given
from hypothesis import strategies as st

from aiqueue.admission.engine import WorkloadGone, contest
from aiqueue.admission.engine.needs import Needs
from aiqueue.admission.engine.search import search
from aiqueue.queue.records import Configuration, Quota, Tenant, Workload
from aiqueue.queue.words import OrderKey, Queueing, Reason, Reclaim
from fix_builders import GPU, make_configuration, make_queue, make_workload
from fix_engine_player import Player
from fix_engine_quotas import total
from fix_engine_shares import count, counted
from fix_engine_worlds import EXAMPLES, ORDERS, History, Kind, Op, backlogs, configurations, histories

TIMELESS = tuple(order for order in ORDERS if OrderKey.USAGE not in order)
NOBODY_KEEPS = Kind(bounds=(10**6,), reclaims=(Reclaim.ANY,))  # nobody starves, nobody reserves
STILL = Kind(bounds=(10**6,), orders=TIMELESS)  # nothing happens by time alone
CANNOT_GO = frozenset(Reason) - {Reason.WAITING_FOR_QUOTA, Reason.BEHIND_HEAD, Reason.BEHIND_STARVING_GANG}


def decided(configuration: Configuration, backlog: list[Workload]) -> Player:
    player = Player(configuration)
    for workload in backlog:
        player.pend(workload)
    player.decide()
    return player


def admitted(player: Player) -> list[tuple[int, Any]]:
    return [(each.workload.id, each.allocations) for plan in player.plans for each in plan.admissions]


def played(history: History) -> Player:
    configuration, ops = history
    player = Player(configuration)
    for op in ops:
        player.play(op)
    return player


def lines(player: Player) -> dict[str, list[Workload]]:
    """Of each tenant those that may go at all, in their order."""
    reference = player.reference()
    found: dict[str, list[Workload]] = {}
    for workload in reference.pending:
        if reference.refusal(workload) is None:
            found.setdefault(reference.tenant(workload), []).append(workload)
    return {name: sorted(line, key=lambda each: reference.keys[each.id]) for name, line in found.items()}


# Whom it keeps back.


@counted(borrows=20, deep=10)
@EXAMPLES
@given(histories(kind=NOBODY_KEEPS))
def test_what_does_not_fit_keeps_back_nobody_but_those_behind_it_in_a_strict_tenant(history: History) -> None:
    """Without all that does not fit, and all behind it where a tenant is Strict, the same goes, in the same order, to the same places."""
    player = played(history)
    reference, now = player.reference(), player.quotas()
    without = player.rebuilt()
    behind: list[Workload] = []
    for tenant, line in lines(player).items():
        blocked = False
        for workload in line:
            places = reference.places.all(tenant, workload)
            if blocked or not any(now.fits(tenant, total(place)) for place in places):
                if player.configuration.tenants[tenant].queueing is Queueing.STRICT:
                    behind += [workload] if blocked else []
                    blocked = True
                without.engine.observe(WorkloadGone(workload.id))
    assert player.engine.decide(player.time).admissions == without.engine.decide(player.time).admissions
    count(**player.had(), strict_head=bool(behind))


@counted(borrows=20, deep=10, never=10)
@EXAMPLES
@given(configurations(Kind()), backlogs(20))
def test_what_can_never_go_keeps_back_nobody(configuration: Configuration, backlog: list[Workload]) -> None:
    player = decided(configuration, backlog)
    verdicts = player.verdicts()
    never = {number for number, verdict in verdicts.items() if verdict is not None and verdict.reason in CANNOT_GO}
    others = decided(configuration, [each for each in backlog if each.id not in never])
    assert admitted(player) == admitted(others)
    assert {number: verdicts[number] for number in others.pending} == others.verdicts()
    count(**player.had(), never=bool(never))


@EXAMPLES
@given(histories())
def test_a_strict_tenant_goes_strictly_in_its_order(history: History) -> None:
    """Of those that may go at all, whoever is left comes after whoever was admitted."""
    configuration, ops = history
    player = Player(configuration)
    for op in ops:
        if op.what != "decide" or not isinstance(op.about, int):
            player.play(op)
            continue
        player.now += op.about
        before = lines(player)
        plan = player.decide()
        gone = {each.workload.id for each in plan.admissions}
        for name, line in before.items():
            if player.configuration.tenants[name].queueing is Queueing.STRICT:
                went = [each.id in gone for each in line]
                assert went == sorted(went, reverse=True)
                event(f"a strict tenant admitted {min(3, sum(went))} of {min(4, len(went))}")


# For how long.


@counted(tree=20)
@EXAMPLES
@given(st.integers(2, 8), st.lists(st.integers(1, 3), min_size=1, max_size=6), st.booleans(), st.integers(1, 60), st.booleans())
def test_a_gang_that_could_fit_is_passed_over_only_until_its_bound(
    nominal: int, sizes: list[int], in_tree: bool, bound: int, strict: bool
) -> None:
    """Small work comes without end, here and from neighbours who borrow; once the bound is over nothing gets in before the gang."""
    quota = (Quota("a", GPU, nominal),)
    queueing = Queueing.STRICT if strict and in_tree else Queueing.BEST_EFFORT
    own = Tenant("own", "lab" if in_tree else None, quotas=quota, queueing=queueing, starvation_bound_seconds=bound)
    next_door = Tenant("next", "lab" if in_tree else None, quotas=(Quota("a", GPU, 0),), starvation_bound_seconds=10**6)
    lab = [Tenant("lab")] if in_tree else []
    player = Player(make_configuration([*lab, own, next_door], [make_queue(name, name, "ns") for name in ("own", "next")]))
    number = 0

    def more() -> None:
        nonlocal number
        for queue in ("own", "next") if not strict else ("next",):
            for size in sizes:
                number += 1
                player.pend(make_workload(number, gpus=size, queue=queue, namespace="ns", created=player.now))

    more()
    player.decide()
    gang = make_workload(10**6, gpus=nominal, queue="own", namespace="ns", created=player.now - 1)
    player.pend(gang)
    deadline = player.now - 1 + bound
    for _ in range(200):
        player.now += 1
        more()
        running = dict(player.runs)
        player.decide()
        if gang.id not in player.pending:
            break
        if player.now >= deadline:
            assert running.keys() == player.runs.keys(), "something was admitted that delays the gang further"
        if player.runs:
            player.close(min(player.runs), back=False)
    assert gang.id not in player.pending
    assert player.now <= deadline + nominal + 1
    count(tree=in_tree)


# When it is looked at.


@contextmanager
def looks() -> Iterator[list[Needs]]:
    """What the engine looks for a place for, meanwhile."""
    seen: list[Needs] = []

    def counting(needs: Needs, *args: Any, **kwargs: Any) -> Any:
        seen.append(needs)
        return search(needs, *args, **kwargs)

    with patch.object(contest, "search", counting):
        yield seen


def at_rest(history: History) -> Player:
    """A player whose engine has nothing left to look at."""
    player = played(history)
    player.decide()
    player.decide()
    return player


@counted(borrows=20, deep=10, parked=5)
@EXAMPLES
@given(histories(kind=STILL, edits=True), st.integers(0, 20))
def test_nothing_is_looked_at_unless_something_moved(history: History, later: int) -> None:
    player = at_rest(history)
    player.now += later
    reasons = {verdict.reason for verdict in player.verdicts().values() if verdict is not None}
    assume(Reason.BACKOFF not in reasons)
    with looks() as seen:
        player.decide()
        player.play(Op("gone", 10**6))
        player.decide()
    assert not seen
    count(**player.had(), parked=Reason.WAITING_FOR_QUOTA in reasons)


@counted(borrows=20, deep=10, looked=5)
@EXAMPLES
@given(histories(kind=STILL), st.integers(0, 40))
def test_what_closes_or_comes_has_only_its_own_tree_looked_at(history: History, which: int) -> None:
    player = at_rest(history)
    assume(player.runs)
    run = player.runs[sorted(player.runs)[which % len(player.runs)]]
    tree = player.reference().tree
    assume(run.tenant in tree.tenants)
    with looks() as seen:
        player.close(run.id, back=which % 2 == 1)
        player.engine.decide(player.time)
    door = player.configuration.queues.get(("ns", run.workload.queue_name))
    moved = {tree.root(run.tenant)} | ({tree.root(door.tenant)} if door is not None else set())
    assert {tree.root(cell.tenant) for needs in seen for cell in needs.cells} <= moved
    count(**player.had(), looked=bool(seen))


@counted(looked=3)
@EXAMPLES
@given(histories(kind=STILL), st.integers(0, 40))
def test_looking_does_not_grow_with_the_backlog(history: History, which: int) -> None:
    """A run closes: what is looked at is bounded by the shapes that wait and by what is admitted, however many wait."""
    player = at_rest(history)
    assume(player.runs)
    kinds = list(player.pending.values())
    for copy in range(1, 30):
        for each in kinds:
            late = replace(each, id=each.id + 1000 * copy, uid=f"{each.uid}-{copy}", name=f"{each.name}-{copy}")
            player.pend(late)
    player.decide()
    player.decide()
    doors = {(each.queue_name, each.shape) for each in player.pending.values()}
    with looks() as seen:
        player.close(sorted(player.runs)[which % len(player.runs)], back=False)
        plan = player.engine.decide(player.time)
    assert len(seen) <= 3 * len(doors) * (1 + len(plan.admissions))
    count(looked=bool(seen))
