"""Fair share and what is one's own, stated without a reference: what a tenant gets is plain from the figures alone."""

from collections import Counter
from fractions import Fraction

from hypothesis import assume, event, given
from hypothesis import strategies as st

from aiqueue.queue.records import Configuration, Quota, Tenant, Workload
from aiqueue.queue.words import Queueing
from fix_builders import GPU, make_configuration, make_queue, make_workload
from fix_engine_player import Player
from fix_engine_shares import count, counted
from fix_engine_worlds import EXAMPLES

PAIR = ("a", GPU)
WEIGHTS = st.sampled_from([Fraction(1), Fraction(2), Fraction(1, 2), Fraction(3)])
LIMITS = st.sampled_from([None, None, 0, 2, 4])


def forest(leaves: dict[str, Tenant], inner: dict[str, Tenant]) -> Configuration:
    """These tenants, and to each leaf a queue of its name."""
    return make_configuration([*inner.values(), *leaves.values()], [make_queue(name, name, "ns") for name in leaves])


def tenant(name: str, parent: str | None, nominal: int, weight: Fraction = Fraction(1)) -> Tenant:
    return Tenant(name, parent, weight, (Quota("a", GPU, nominal),))


def size_of(workload: Workload) -> int:
    return workload.pod_sets[0].requests[GPU]


def ask(player: Player, demands: dict[str, list[int]]) -> None:
    """Jobs of these sizes in the queues of these names, submitted one after another in turn."""
    number = 0
    for turn in range(max(map(len, demands.values()), default=0)):
        for name, sizes in demands.items():
            if turn < len(sizes):
                number += 1
                player.pend(make_workload(number, gpus=sizes[turn], queue=name, namespace="ns", created=number % 40))


def drain(player: Player) -> None:
    player.decide()
    assert player.decide().empty


def used(player: Player) -> Counter[str]:
    counts: Counter[str] = Counter()
    for run in player.runs.values():
        counts[run.tenant] += sum(each.amount for each in run.allocations)
    return counts


@EXAMPLES
@given(st.tuples(st.integers(1, 3), st.integers(1, 3)), st.integers(0, 6), st.integers(0, 30), st.integers(1, 4), WEIGHTS)
def test_equal_weights_and_equal_demand_end_within_one_job(
    size_of_tree: tuple[int, int], nominal: int, common: int, size: int, weight: Fraction
) -> None:
    """At every level of the tree, however much is common."""
    wings, leaves = size_of_tree
    inner = {"lab": tenant("lab", None, common)}
    found = {}
    for wing in range(wings):
        inner[f"w{wing}"] = tenant(f"w{wing}", "lab", 0, weight)
        for leaf in range(leaves):
            found[f"w{wing}t{leaf}"] = tenant(f"w{wing}t{leaf}", f"w{wing}", nominal, weight)
    player = Player(forest(found, inner))
    capacity = common + nominal * wings * leaves
    ask(player, {name: [size] * (capacity // size + 1) for name in found})
    drain(player)
    got = used(player)
    assert sum(got.values()) == capacity // size * size
    amounts = [got[name] for name in found]
    of_wings = [sum(got[f"w{wing}t{leaf}"] for leaf in range(leaves)) for wing in range(wings)]
    assert max(of_wings) - min(of_wings) <= size
    assert max(amounts) - min(amounts) <= size
    event(f"borrowed {any(amount > nominal for amount in amounts)}")


@counted(borrows=40)
@EXAMPLES
@given(
    st.lists(st.tuples(st.integers(0, 6), WEIGHTS, st.lists(st.integers(1, 5), max_size=12)), min_size=2, max_size=5),
    st.integers(0, 20),
)
def test_nobody_with_more_to_do_would_have_had_a_less_share(asked: list[tuple[int, Fraction, list[int]]], common: int) -> None:
    """Who borrowed never went before one who would still have had the lesser share and for whose next job there was room."""
    leaves = {f"t{index}": tenant(f"t{index}", "lab", nominal, weight) for index, (nominal, weight, _) in enumerate(asked)}
    player = Player(forest(leaves, {"lab": tenant("lab", None, common)}))
    ask(player, {f"t{index}": sizes for index, (_, _, sizes) in enumerate(asked)})
    waiting: dict[str, list[int]] = {name: [] for name in leaves}
    for each in sorted(player.pending.values(), key=lambda each: each.submitted):
        waiting[each.queue_name].append(size_of(each))
    plan = player.decide()
    total = common + sum(nominal for nominal, _, _ in asked)
    got: Counter[str] = Counter()
    borrowed = False

    def share(name: str, amount: int) -> Fraction:
        over = max(0, got[name] + amount - leaves[name].quotas[0].nominal)
        return Fraction(over, total) / leaves[name].weight

    for admission in plan.admissions:
        name, amount = admission.tenant, admission.allocations[0].amount
        room = total - sum(got.values())
        mine = share(name, amount)
        for other, sizes in waiting.items():
            fitting = [size for size in sizes if size <= room]
            if other != name and fitting:
                assert mine <= share(other, fitting[0])
        borrowed = borrowed or mine > 0
        waiting[name].remove(amount)
        got[name] += amount
    count(borrows=borrowed)


@st.composite
def trees(draw: st.DrawFn) -> tuple[dict[str, Tenant], dict[str, Tenant]]:
    """Leaves and inner tenants, up to four levels, with limits everywhere."""
    inner: dict[str, Tenant] = {}
    for index in range(draw(st.integers(1, 3))):
        parent = f"i{index - 1}" if index else None
        quota = Quota("a", GPU, draw(st.integers(0, 6)), draw(LIMITS), draw(LIMITS))
        inner[f"i{index}"] = Tenant(f"i{index}", parent, draw(WEIGHTS), (quota,))
    leaves = {}
    for index in range(draw(st.integers(2, 5))):
        quota = Quota("a", GPU, draw(st.integers(0, 8)), draw(LIMITS), draw(LIMITS))
        parent = f"i{draw(st.integers(0, len(inner) - 1))}" if index else f"i{len(inner) - 1}"
        strict = draw(st.sampled_from([Queueing.BEST_EFFORT, Queueing.STRICT]))
        leaves[f"t{index}"] = Tenant(f"t{index}", parent, draw(WEIGHTS), (quota,), strict)
    return leaves, inner


@counted(deep=10, borrows=30)
@EXAMPLES
@given(trees(), st.data())
def test_who_asks_for_no_more_than_is_its_own_gets_it_whatever_the_others_ask(
    tree: tuple[dict[str, Tenant], dict[str, Tenant]], data: st.DataObject
) -> None:
    leaves, inner = tree
    player = Player(forest(leaves, inner))
    modest = data.draw(st.sampled_from(sorted(leaves)))
    own = leaves[modest].quotas[0].nominal
    assume(own > 0)
    sizes: list[int] = []
    while sum(sizes) < own and len(sizes) < 6:
        sizes.append(data.draw(st.integers(1, own - sum(sizes))))
    greedy = {name: data.draw(st.lists(st.integers(1, 6), max_size=8)) for name in leaves if name != modest}
    ask(player, {**greedy, modest: sizes})
    drain(player)
    assert used(player)[modest] == sum(sizes)
    count(**player.had())


@counted(deep=10, borrows=30)
@EXAMPLES
@given(trees(), st.data())
def test_nothing_that_fits_is_left(tree: tuple[dict[str, Tenant], dict[str, Tenant]], data: st.DataObject) -> None:
    """One decide drains a tenant until something does not fit, not one head after another."""
    leaves, inner = tree
    player = Player(forest(leaves, inner))
    ask(player, {name: data.draw(st.lists(st.integers(1, 6), max_size=10)) for name in leaves})
    drain(player)
    quotas = player.quotas()
    for name, record in leaves.items():
        left = sorted((each for each in player.pending.values() if each.queue_name == name), key=lambda each: each.submitted)
        possible = [each for each in left if size_of(each) <= quotas.potential(name, PAIR)]
        for each in possible[:1] if record.queueing is Queueing.STRICT else possible:
            assert not quotas.fits(name, {PAIR: size_of(each)})
    count(**player.had())
