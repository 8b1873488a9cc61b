"""Whether objects fit together, without a ledger: the simulator asks the same questions."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from aiqueue.queue.consistency import (
    MAX_DEPTH,
    check,
    check_change,
    children_of,
    drained_by_move,
    find,
    listed,
    with_objects,
)
from aiqueue.queue.documents import ObjectName, Record, name_of
from aiqueue.queue.records import Class, Configuration, Flavor, Queue, Quota, Tenant
from aiqueue.queue.units import MAX_AMOUNT
from aiqueue.queue.words import ObjectState

EMPTY = Configuration(0)


def test_objects_are_added_and_replaced_whole() -> None:
    once = with_objects(EMPTY, [Tenant("t", quotas=(Quota("f", "cpu", 1),)), Class("c"), Flavor("f"), Queue("n", "q", "t")])
    twice = with_objects(once, [Tenant("t"), Class("c", 5)])
    assert once.tenants["t"].quotas != ()
    assert (twice.tenants["t"], twice.classes["c"], twice.flavors, twice.queues) == (
        Tenant("t"),
        Class("c", 5),
        once.flavors,
        once.queues,
    )
    assert EMPTY.tenants == {}


def test_objects_are_found_by_name() -> None:
    configuration = with_objects(EMPTY, [Queue("n", "q", "t"), Class("q")])
    assert find(configuration, ObjectName("Queue", "q", "n")) == Queue("n", "q", "t")
    assert find(configuration, ObjectName("Queue", "q", "other")) is None
    assert find(configuration, ObjectName("Class", "q")) == Class("q")
    assert find(configuration, ObjectName("Tenant", "q")) is None


def test_children_are_sorted() -> None:
    tenants = {name: Tenant(name, parent=parent) for name, parent in (("b", "top"), ("a", "top"), ("top", None))}
    assert children_of(tenants) == {"top": ["a", "b"]}


def test_long_lists_are_cut() -> None:
    assert listed("abc") == "a, b, c"
    assert listed("abcdefg") == "a, b, c, d, e and 2 more"


def test_an_older_queue_under_a_new_parent_is_the_childs_mistake() -> None:
    configuration = with_objects(EMPTY, [Tenant("t"), Tenant("kid", parent="t"), Queue("n", "q", "t")])
    (error,) = check(configuration, {ObjectName("Tenant", "kid"): "kid.yaml"})
    assert str(error) == "kid.yaml: spec.parent is 't': choose a parent without queues: queue n/q feeds t"
    (error,) = check(configuration, {ObjectName("Tenant", "kid"): "kid.yaml", ObjectName("Queue", "q", "n"): "q.yaml"})
    assert str(error) == "q.yaml: spec.tenant is 't': name a tenant without children: t has kid"


@given(st.lists(st.tuples(st.integers(0, 8), st.one_of(st.none(), st.integers(0, 8))), max_size=12))
def test_a_circle_is_found_exactly_when_there_is_one(edges: list[tuple[int, int | None]]) -> None:
    parents = dict(edges)
    tenants = [Tenant(f"t{name}", parent=None if parent is None else f"t{parent}") for name, parent in parents.items()]

    def is_on_circle(start: int) -> bool:
        at = parents.get(start)
        for _ in range(len(parents)):
            if at == start:
                return True
            at = None if at is None else parents.get(at)
        return False

    errors = [error for error in check(with_objects(EMPTY, tenants)) if "break the circle" in error.fix]
    named = {name for error in errors for name in error.fix.removeprefix("break the circle ").split(" -> ")}
    assert named == {f"t{name}" for name in parents if is_on_circle(name)}


def refusals(*records: Record, stored: Iterable[Record] = ()) -> list[str]:
    """What is said against writing `records` over what is stored."""
    before = with_objects(EMPTY, stored)
    places = {name_of(record): f"{name_of(record).name}.yaml" for record in records}
    return [str(error) for error in check_change(before, with_objects(before, records), places)]


def chain(length: int) -> list[Tenant]:
    return [Tenant(f"t{level}", parent=f"t{level - 1}" if level > 1 else None) for level in range(1, length + 1)]


def test_a_tree_has_a_greatest_depth_and_only_the_first_below_it_is_told() -> None:
    assert check(with_objects(EMPTY, chain(MAX_DEPTH))) == []
    (sentence,) = refusals(Tenant("deep", parent=f"t{MAX_DEPTH}"), Tenant("deeper", parent="deep"), stored=chain(MAX_DEPTH))
    assert sentence == (
        f"deep.yaml: spec.parent is 't{MAX_DEPTH}': choose a parent nearer to the root: this would be level {MAX_DEPTH + 1},"
        f" and a tree has at most {MAX_DEPTH}"
    )


def test_a_tree_does_not_have_more_of_something_than_can_be_counted() -> None:
    half = MAX_AMOUNT // 2 + 1  # twice that is one more than the most
    stored: list[Record] = [Flavor("f"), Tenant("lab"), Tenant("a", parent="lab", quotas=(Quota("f", "memory", half),))]
    mine = Tenant("b", parent="lab", quotas=(Quota("f", "memory", half - 1), Quota("f", "cpu", MAX_AMOUNT)))
    assert refusals(mine, stored=stored) == []
    (sentence,) = refusals(Tenant("b", parent="lab", quotas=(Quota("f", "memory", half),)), stored=stored)
    assert sentence == (
        "b.yaml: nominal of f memory is '4Ei': lower it: all of the tree under lab would have 9223372036854775808 base units,"
        " and at most 9223372036854775807 can be counted"
    )
    assert refusals(Tenant("b", quotas=(Quota("f", "memory", half),)), stored=stored) == []  # a tree of its own


def test_what_was_wrong_before_with_others_refuses_nothing() -> None:
    """A child was deleted: its parent now lends more than there is, which nobody who applies something else can help."""
    stored: list[Record] = [
        Flavor("f"),
        Tenant("lab"),
        Tenant("wing", parent="lab", quotas=(Quota("f", "cpu", 1000, None, 3000),)),
    ]
    assert refusals(Class("c"), stored=stored) == []
    (sentence,) = refusals(stored[-1], stored=stored)
    assert sentence == "wing.yaml: lendingLimit of f cpu is '3': write at most its nominal, 1"
    kid = Tenant("kid", parent="wing", quotas=(Quota("f", "cpu", 1000),))
    (sentence,) = refusals(kid, stored=stored)  # still too much, and now it is of this change
    assert sentence == "Tenant wing: lendingLimit of f cpu is '3': write at most what it and its children offer, 2"


def test_a_circle_that_only_the_stored_closes_is_refused() -> None:
    (sentence,) = refusals(Tenant("a", parent="c"), stored=[Tenant("a"), Tenant("b", parent="a"), Tenant("c", parent="b")])
    assert sentence == "a.yaml: spec.parent is 'c': break the circle a -> c -> b -> a"


def test_objects_of_one_change_are_judged_together() -> None:
    """What one of them alone would make wrong another makes right: the queue moves away as its tenant gets a child."""
    stored: list[Record] = [Tenant("t"), Queue("n", "q", "t")]
    kid = Tenant("kid", parent="t")
    assert refusals(kid, stored=stored) == ["kid.yaml: spec.parent is 't': choose a parent without queues: queue n/q feeds t"]
    assert refusals(kid, Queue("n", "q", "kid"), stored=stored) == []


class TestMovesUnderDrain:
    stored = with_objects(
        EMPTY,
        [Tenant("old", state=ObjectState.DRAIN), Tenant("lab"), Tenant("wing", parent="lab"), Tenant("kid", parent="wing")],
    )

    def moved(self, *tenants: Tenant, stored: Configuration | None = None) -> dict[str, str]:
        before = stored or self.stored
        return drained_by_move(before, with_objects(before, tenants))

    def test_a_new_parent_that_is_drained_or_lies_under_one(self) -> None:
        assert self.moved(Tenant("lab", parent="old")) == {"lab": "old"}
        assert self.moved(Tenant("wing", parent="old"), Tenant("kid", parent="lab")) == {"wing": "old"}
        below = with_objects(self.stored, [Tenant("cellar", parent="old")])
        assert self.moved(Tenant("kid", parent="cellar"), stored=below) == {"kid": "old"}

    def test_what_drains_already_or_is_new_or_asks_for_it_is_no_move(self) -> None:
        assert self.moved(Tenant("new", parent="old")) == {}
        assert self.moved(Tenant("lab", parent="old", state=ObjectState.DRAIN)) == {}
        assert self.moved(Tenant("kid", parent="lab")) == {}
        draining = with_objects(self.stored, [Tenant("lab", state=ObjectState.DRAIN)])
        assert self.moved(Tenant("wing", parent="old"), stored=draining) == {}
