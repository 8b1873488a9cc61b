"""What the engine promises whatever happens: histories of events, Plans confirmed and dropped, configurations changed."""

from dataclasses import replace
from random import Random

from hypothesis import event, given
from hypothesis import strategies as st

from aiqueue.admission.engine import Engine, Plan
from aiqueue.admission.engine.engine import FIGURES_PAUSE
from aiqueue.queue.records import Configuration, Run
from aiqueue.queue.words import OrderKey, Reason
from fix_builders import at
from fix_engine_player import Player
from fix_engine_quotas import Holding, Quotas
from fix_engine_shares import count, counted
from fix_engine_worlds import EXAMPLES, ORDERS, SHAPE_BYTES, WORKLOAD_BYTES, History, Kind, Op, histories, pod_sets, workload

FAR = Kind(bounds=(10**6,))  # nobody starves, so that it does not matter since when work was let in
TIMELESS = Kind(orders=tuple(order for order in ORDERS if OrderKey.USAGE not in order))  # time alone changes no order


def played(history: History, *, drops: bool = True) -> Player:
    configuration, ops = history
    player = Player(configuration, drops=drops)
    for op in ops:
        player.play(op)
    return player


def tell(player: Player) -> None:
    """Count what a history led to."""
    admitted = sum(len(plan.admissions) for plan in player.plans)
    event(f"admitted {min(admitted, 5)}")
    for decision in {verdict.reason for verdict in player.verdicts().values() if verdict is not None}:
        event(f"reason {decision}")
    count(**player.had())


def check_admissions(plan: Plan, before: dict[int, Run], configuration: Configuration) -> None:
    """Each workload whole, on one flavor per group, and none past what the tree allows when its turn came."""
    holdings: list[Holding] = [(run.tenant, run.allocations) for run in before.values()]
    for admission in plan.admissions:
        quotas = Quotas(configuration.tenants, holdings)
        wanted: dict[tuple[str, str], int] = {}
        for each in admission.allocations:
            wanted[each.flavor, each.resource] = wanted.get((each.flavor, each.resource), 0) + each.amount
            assert admission.flavors[each.pod_set][each.resource] == each.flavor
        for pair, amount in wanted.items():
            assert amount <= quotas.available(admission.tenant, pair)
        listed = {quota.resource for quota in configuration.tenants[admission.tenant].quotas}
        for pod_set in admission.workload.pod_sets:
            assert admission.counts[pod_set.name] == pod_set.count
            for resource, per_pod in pod_set.requests.items():
                held = sum(a.amount for a in admission.allocations if (a.pod_set, a.resource) == (pod_set.name, resource))
                assert held == (per_pod * pod_set.count if resource in listed else 0)
        holdings.append((admission.tenant, admission.allocations))


@counted(admits=40, borrows=20, deep=10)
@EXAMPLES
@given(histories(edits=True, reconfigure=True))
def test_gangs_are_whole_quota_holds_and_usage_is_the_sum_of_open_runs(history: History) -> None:
    configuration, ops = history
    player = Player(configuration)
    for op in ops:
        before, plans = dict(player.runs), len(player.plans)
        player.play(op)
        for plan in player.plans[plans:]:
            check_admissions(plan, before, player.configuration)
        held: dict[tuple[str, str, str], int] = {}
        for run in player.runs.values():
            for each in run.allocations:
                held[run.tenant, each.flavor, each.resource] = (
                    held.get((run.tenant, each.flavor, each.resource), 0) + each.amount
                )
        assert player.engine.usage() == {key: amount for key, amount in held.items() if amount}
    tell(player)


@EXAMPLES
@given(histories(edits=True, reconfigure=True))
def test_deciding_twice_gives_the_same_plan(history: History) -> None:
    player = played(history)
    first = player.engine.decide(at(player.now))
    assert player.engine.decide(at(player.now)) == first
    player.verdicts()
    player.engine.usage()
    assert player.engine.decide(at(player.now)) == first
    event(f"empty: {first.empty}")


@counted(borrows=20, deep=10)
@EXAMPLES
@given(histories(kind=TIMELESS))
def test_a_dropped_plan_leaves_no_trace(history: History) -> None:
    with_drops, without = played(history), played(history, drops=False)
    assert with_drops.plans == without.plans
    check_same(with_drops, without)
    tell(with_drops)


@counted(borrows=20, deep=10)
@EXAMPLES
@given(histories(edits=True, reconfigure=True, kind=FAR))
def test_a_dropped_plan_leaves_no_trace_where_the_configuration_changes(history: History) -> None:
    with_drops, without = played(history), played(history, drops=False)
    check_same(with_drops, without)
    tell(with_drops)


def check_same(one: Player, other: Player) -> None:
    """All was decided alike, but for when to ask again: when queues change places by their usage is only looked for from now on."""
    assert [replace(plan, wake_at=None) for plan in one.plans] == [replace(plan, wake_at=None) for plan in other.plans]
    assert replace(one.decide(), wake_at=None) == replace(other.decide(), wake_at=None)
    assert one.verdicts() == other.verdicts()


def check_rebuilt(player: Player) -> None:
    """An engine built from how things stand decides the same, and so it says."""
    other = player.rebuilt()
    incremental, fresh = player.engine.decide(at(player.now)), other.engine.decide(at(player.now))
    assert incremental.admissions == fresh.admissions
    assert incremental.evictions == fresh.evictions
    places = {number: player.engine.position(number) for number in player.pending}
    assert places == {number: other.engine.position(number) for number in other.pending}
    assert player.decide().admissions == other.decide().admissions
    assert player.verdicts() == other.verdicts()
    assert player.engine.usage() == other.engine.usage()


@counted(borrows=20, deep=10)
@EXAMPLES
@given(histories())
def test_a_history_decides_as_its_final_state(history: History) -> None:
    player = played(history)
    check_rebuilt(player)
    tell(player)


@EXAMPLES
@given(histories(kind=TIMELESS))
def test_a_history_wakes_when_its_final_state_would(history: History) -> None:
    player = played(history)
    other = player.rebuilt()
    assert player.engine.decide(at(player.now)).wake_at == other.engine.decide(at(player.now)).wake_at


@counted(borrows=20, deep=10)
@EXAMPLES
@given(histories(edits=True, reconfigure=True, kind=FAR))
def test_a_history_of_configurations_decides_as_its_final_state(history: History) -> None:
    player = played(history)
    check_rebuilt(player)
    tell(player)


@EXAMPLES
@given(histories(edits=True, reconfigure=True))
def test_everything_pending_has_one_verdict_and_the_confirmed_ones_give_it_back(history: History) -> None:
    player = played(history)
    player.decide()
    verdicts = player.verdicts()
    assert {number: player.told(number) for number in player.pending} == verdicts
    for number, verdict in verdicts.items():
        assert verdict is not None
        assert verdict.reason is not Reason.PENDING_EVALUATION
        assert verdict.message
        assert verdict.would_change
        assert verdict.workload_id in (None, number)
    assert set(player.overrides) <= set(player.pending)
    shapes = {workload.shape for workload in player.pending.values()}
    assert {shape for _, shape in player.shapes} <= shapes
    assert player.decide().empty


@EXAMPLES
@given(histories(edits=True, reconfigure=True))
def test_places_in_line_are_a_ranking(history: History) -> None:
    player = played(history)
    player.engine.decide(at(player.now))
    places: dict[str, list[tuple[int, int]]] = {}
    for number, pending in player.pending.items():
        queue = player.configuration.queues.get(("ns", pending.queue_name))
        line = queue.tenant if queue is not None else pending.queue_name
        places.setdefault(line, []).append(player.engine.position(number))
    for ranked in places.values():
        assert sorted(ranked) == [(place, len(ranked)) for place in range(1, len(ranked) + 1)]
    reference = player.reference()
    known = [each for each in player.pending.values() if each.queue_name != "nowhere"]
    for tenant in sorted({reference.tenant(each) for each in known}):
        of_one = [each for each in known if reference.tenant(each) == tenant]
        by_place = sorted(of_one, key=lambda each: player.engine.position(each.id))
        assert [each.id for each in by_place] == [each.id for each in sorted(of_one, key=lambda each: reference.keys[each.id])]
    event(f"pending {min(len(known), 5)}")


@EXAMPLES
@given(histories(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_small_bounds_only_cut_the_work_into_pieces(history: History, admissions: int, decisions: int, trials: int) -> None:
    """Bounded Plans come to an end, say when they were cut, and leave nothing that fits."""
    configuration, ops = history
    bounded = Player(configuration, Engine(max_admissions=admissions, max_decisions=decisions, max_trials=trials))
    for op in ops:
        bounded.play(op)
    for _ in range(500):
        plan = bounded.decide()
        assert len(plan.admissions) <= admissions
        assert len(plan.evictions) <= admissions
        assert len(plan.decisions) <= decisions
        if plan.wake_at is None or plan.wake_at > plan.now + FIGURES_PAUSE:
            break
        if plan.wake_at > plan.now:  # figures are left to bring up to date, a second later
            bounded.now += 1
    else:
        raise AssertionError("never comes to rest")
    assert bounded.rebuilt().decide().admissions == ()
    assert set(bounded.overrides) <= set(bounded.pending)
    assert {shape for _, shape in bounded.shapes} <= {workload.shape for workload in bounded.pending.values()}
    for number, verdict in bounded.verdicts().items():
        assert verdict == bounded.told(number)
        assert verdict is not None
        assert verdict.reason is not Reason.PENDING_EVALUATION


@EXAMPLES
@given(histories(kind=TIMELESS))
def test_wake_at_is_when_something_next_happens_by_itself(history: History) -> None:
    """Asked just before, the engine has nothing new; it names a time only when that lies ahead."""
    player = played(history)
    player.decide()
    plan = player.decide()
    event(f"wakes: {plan.wake_at is not None}")
    if plan.wake_at is not None:
        assert plan.wake_at > plan.now
        assert player.engine.decide(plan.wake_at - (plan.wake_at - plan.now) / 2).empty
    else:
        assert player.engine.decide(at(player.now + 10**7)).empty


@counted(borrows=20, deep=10)
@EXAMPLES
@given(histories(adopts=False))
def test_no_tenant_comes_to_use_more_than_it_may_and_no_guarantee_is_lent(history: History) -> None:
    """Where nothing is adopted and no quota lowered: every tenant within its limits, what is guaranteed there for the taking."""
    configuration, ops = history
    player = Player(configuration)
    for op in ops:
        plans = len(player.plans)
        player.play(op)
        if len(player.plans) > plans:
            check_limits(player.quotas())
    tell(player)


def check_limits(quotas: Quotas) -> None:
    for name, tenant in quotas.tree.tenants.items():
        for pair in quotas.tree.known(quotas.tree.root(name)):
            usage, subtree = quotas.usage(name, pair), quotas.subtree(name, pair)
            borrowing = quotas.limits(name, pair)[1]
            assert usage <= quotas.potential(name, pair)
            if tenant.parent is None:
                assert usage <= subtree
            elif borrowing is not None:
                assert usage <= subtree + borrowing
            assert quotas.available(name, pair) >= quotas.left(name, pair)


@counted(borrows=20, deep=10)
@EXAMPLES
@given(histories(), st.binary(min_size=8 * WORKLOAD_BYTES, max_size=8 * WORKLOAD_BYTES), st.randoms(use_true_random=False))
def test_events_of_one_instant_may_come_in_any_order(history: History, data: bytes, dice: Random) -> None:
    """Arrivals, departures and runs that close, all at once."""
    one, other = played(history), played(history)
    events = burst(one, data)
    for op in events:
        one.move(op)
    dice.shuffle(events)
    for op in events:
        other.move(op)
    assert repr(one.engine.decide(at(one.now + 3))) == repr(other.engine.decide(at(other.now + 3)))
    one.now, other.now = one.now + 3, other.now + 3
    check_same(one, other)
    tell(one)


def burst(player: Player, data: bytes) -> list[Op]:
    """Events that have nothing to do with each other: some runs close, some of those that wait go, others come."""
    shapes = [pod_sets(data[start : start + SHAPE_BYTES]) for start in range(0, 3 * SHAPE_BYTES, SHAPE_BYTES)]
    shapes += [each.pod_sets for each in player.pending.values()]
    events = [Op("end", run_id) for run_id in list(player.runs)[::2]]
    events += [Op("gone", number) for number in list(player.pending)[::3]]
    for index in range(3, 8):
        bytes_of_one = data[index * WORKLOAD_BYTES : (index + 1) * WORKLOAD_BYTES]
        events.append(Op("pend", workload(50 + index, bytes_of_one, shapes)))
    return events
