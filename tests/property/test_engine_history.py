"""What the engine promises whatever happens: histories of events, Plans confirmed and dropped, configurations changed."""

from hypothesis import event, given, settings
from hypothesis import strategies as st

from aiqueue.admission.engine import Engine, Plan
from aiqueue.queue.records import Configuration, Run
from aiqueue.queue.words import Reason
from fix_builders import at
from fix_engine_reference import Quotas, Reference
from fix_engine_worlds import Op, Player, histories

EXAMPLES = settings(max_examples=400)
History = tuple[Configuration, list[Op]]


def played(history: History, *, drops: bool = True) -> Player:
    configuration, ops = history
    player = Player(configuration, drops=drops)
    for op in ops:
        player.play(op)
    return player


def count(player: Player) -> None:
    """Tell hypothesis what a history led to."""
    admitted = sum(len(plan.admissions) for plan in player.plans)
    event(f"admitted {min(admitted, 5)}")
    for decision in {verdict.reason for verdict in player.verdicts().values() if verdict is not None}:
        event(f"reason {decision}")


def check_admissions(plan: Plan, before: dict[int, Run], configuration: Configuration) -> None:
    """Each workload whole, on one flavor per group, and none past what the tree allows when its turn came."""
    holdings = [(run.tenant, run.allocations) for run in before.values()]
    for admission in plan.admissions:
        quotas = Quotas(configuration.tenants, list(holdings))
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


@EXAMPLES
@given(histories())
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
    count(player)


@EXAMPLES
@given(histories())
def test_deciding_twice_gives_the_same_plan(history: History) -> None:
    player = played(history)
    first = player.engine.decide(at(player.now))
    assert player.engine.decide(at(player.now)) == first
    player.verdicts()
    player.engine.usage()
    assert player.engine.decide(at(player.now)) == first
    event(f"empty: {first.empty}")


@EXAMPLES
@given(histories())
def test_a_dropped_plan_leaves_no_trace(history: History) -> None:
    with_drops, without = played(history), played(history, drops=False)
    assert with_drops.plans == without.plans
    assert with_drops.decide() == without.decide()
    assert with_drops.verdicts() == without.verdicts()
    event(f"plans {min(len(with_drops.plans), 4)}")


@EXAMPLES
@given(histories())
def test_a_history_decides_as_its_final_state(history: History) -> None:
    player = played(history)
    other = player.rebuilt()
    incremental, fresh = player.decide(), other.decide()
    assert incremental.admissions == fresh.admissions
    assert incremental.evictions == fresh.evictions
    if not any(op.what == "configure" for op in history[1]):  # an engine built later cannot know when a change let work in
        assert incremental.wake_at == fresh.wake_at
    assert player.verdicts() == other.verdicts()
    assert player.engine.usage() == other.engine.usage()
    places = {number: player.engine.position(number) for number in player.pending}
    assert places == {number: other.engine.position(number) for number in other.pending}
    count(player)


@EXAMPLES
@given(histories())
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
@given(histories(), st.data())
def test_places_in_line_are_a_ranking(history: History, data: st.DataObject) -> None:
    player = played(history)
    places: dict[str, list[tuple[int, int]]] = {}
    for number, workload in player.pending.items():
        queue = player.configuration.queues.get(("ns", workload.queue_name))
        line = queue.tenant if queue is not None else workload.queue_name
        places.setdefault(line, []).append(player.engine.position(number))
    for ranked in places.values():
        assert sorted(ranked) == [(place, len(ranked)) for place in range(1, len(ranked) + 1)]
    if len(player.pending) > 1:
        reference = Reference(player.configuration, [], [], at(player.now))
        known = [each for each in player.pending.values() if each.queue_name != "nowhere"]
        for one in known:
            other = data.draw(st.sampled_from(known))
            if reference.tenant(one) == reference.tenant(other):
                ahead = player.engine.position(one.id) < player.engine.position(other.id)
                assert ahead == (reference.key(one) < reference.key(other))


@EXAMPLES
@given(histories(reconfigure=False), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
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
        if plan.wake_at != plan.now:
            break
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
@given(histories(reconfigure=False))
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
