"""The algebra of the tenant tree: kept by difference, it is what the definitions sum up to."""

from hypothesis import event, given
from hypothesis import strategies as st

from aiqueue.admission.engine.backlog import Backlog
from aiqueue.admission.engine.ordered import Ordered
from aiqueue.admission.engine.standings import ANY_MOVE
from aiqueue.admission.engine.tree import TenantNode, build_tree
from aiqueue.queue.records import Allocation, Quota, Tenant
from fix_engine_quotas import Quotas
from fix_engine_worlds import EXAMPLES

PAIR = ("a", "gpu")
AMOUNTS = st.integers(0, 9)
LIMITS = st.one_of(st.none(), AMOUNTS)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Tenant]:
    """Up to seven tenants, each under an earlier one or a root."""
    found: dict[str, Tenant] = {}
    for number in range(draw(st.integers(2, 7))):
        parent = draw(st.sampled_from([None, *found])) if number else None
        quota = Quota(*PAIR, draw(AMOUNTS), draw(LIMITS), draw(LIMITS))
        found[f"t{number}"] = Tenant(f"t{number}", parent, quotas=(quota,) if draw(st.booleans()) else ())
    return found


def leaves(nodes: dict[str, TenantNode]) -> list[TenantNode]:
    return [node for node in nodes.values() if not node.children]


@EXAMPLES
@given(trees(), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12), st.booleans()), max_size=12))
def test_kept_by_difference_it_equals_the_definitions(tenants: dict[str, Tenant], changes: list[tuple[int, int, bool]]) -> None:
    nodes = build_tree(tenants)
    fed = leaves(nodes)
    held: list[tuple[str, list[Allocation]]] = []
    for which, amount, adds in changes:
        if adds or not held:
            node = fed[which % len(fed)]
            node.cell(PAIR).add(amount)
            held.append((node.name, [Allocation("main", *PAIR, amount)]))
        else:
            name, [freed] = held.pop(which % len(held))
            nodes[name].cell(PAIR).remove(freed.amount)
    reference = Quotas(tenants, held)
    for name, node in nodes.items():
        cell = node.cell(PAIR)
        assert cell.subtree == reference.subtree(name, PAIR)
        assert cell.guaranteed == reference.guaranteed(name, PAIR)
        assert cell.usage == reference.usage(name, PAIR)
        assert cell.available() == reference.available(name, PAIR)
        assert cell.potential == reference.potential(name, PAIR)
    event(f"tenants {len(tenants)}")


@EXAMPLES
@given(trees(), st.lists(st.tuples(st.integers(0, 6), AMOUNTS), max_size=12))
def test_what_is_admitted_where_it_fits_breaks_no_limit_and_takes_no_guarantee(
    tenants: dict[str, Tenant], wants: list[tuple[int, int]]
) -> None:
    """Whoever takes only what is available leaves every tenant above it within its limits, and every guarantee reachable."""
    nodes = build_tree(tenants)
    fed = leaves(nodes)
    for which, amount in wants:
        cell = fed[which % len(fed)].cell(PAIR)
        if amount <= cell.available():
            cell.add(amount)
    for node in nodes.values():
        cell = node.cell(PAIR)
        assert cell.usage <= cell.potential
        if node.parent is None:
            assert cell.usage <= cell.subtree
        elif cell.borrowing_limit is not None:
            assert cell.usage <= cell.subtree + cell.borrowing_limit
        if not node.children:
            assert cell.available() >= cell.local_available() >= 0


@EXAMPLES
@given(
    trees(),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12)), min_size=1, max_size=10),
    st.integers(0, 6),
    st.integers(1, 12),
)
def test_what_does_not_fit_comes_to_fit_only_when_a_cell_that_blocks_it_moves(
    tenants: dict[str, Tenant], held: list[tuple[int, int]], waits: int, amount: int
) -> None:
    """Closing runs one after another: before the waiting one fits, one of the cells it is parked on had the room asked for."""
    nodes = build_tree(tenants)
    fed = leaves(nodes)
    runs = [(fed[which % len(fed)].cell(PAIR), size) for which, size in held]
    for cell, size in runs:
        cell.add(size)
    waiting = fed[waits % len(fed)].cell(PAIR)
    if amount <= waiting.available():
        event("fits at once")
        return
    lots = dict(Backlog().lots_for({waiting: amount}))
    for cell, size in runs:
        woken = any(lots[each] <= each.room() for each in cell.remove(size) if each in lots)
        assert woken or amount > waiting.available()
        if woken:
            if amount <= waiting.available():
                event("fits when woken")
                return
            lots = dict(Backlog().lots_for({waiting: amount}))
            event("woken in vain" if ANY_MOVE not in lots.values() else "woken by what is guaranteed")


@EXAMPLES
@given(trees(), st.integers(0, 6), AMOUNTS, st.integers(1, 12))
def test_the_borrow_level_is_0_exactly_where_nothing_is_borrowed(
    tenants: dict[str, Tenant], which: int, used: int, amount: int
) -> None:
    fed = leaves(build_tree(tenants))
    node = fed[which % len(fed)]
    cell = node.cell(PAIR)
    cell.add(used)
    height = len(list(node.path())) - 1
    level = cell.borrow_level(amount)
    assert 0 <= level <= height
    assert (level > 0) == (node.parent is not None and cell.usage + amount > cell.subtree)


@EXAMPLES
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3000)), max_size=60), st.integers(0, 4000))
def test_ordered_is_a_sorted_list(changes: list[tuple[bool, int]], filler: int) -> None:
    ordered: Ordered[tuple[int]] = Ordered()
    plain: set[tuple[int]] = set()
    for number in range(0, filler, 3):
        ordered.add((number,))
        plain.add((number,))
    for adds, number in changes:
        if adds and (number,) not in plain:
            ordered.add((number,))
            plain.add((number,))
        elif (number,) in plain:
            ordered.remove((number,))
            plain.remove((number,))
        elif not adds:
            try:
                ordered.remove((number,))
            except KeyError:
                continue
            raise AssertionError(f"{number} was not there")
        assert ordered.rank((number,)) == sum(each < (number,) for each in plain)
    assert list(ordered) == sorted(plain)
    assert len(ordered) == len(plain)
    assert ordered.peek() == min(plain, default=None)
