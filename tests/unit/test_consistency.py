"""Whether objects fit together, without a ledger: the simulator asks the same questions."""

from hypothesis import given
from hypothesis import strategies as st

from aiqueue.queue.consistency import check, children_of, find, listed, with_objects
from aiqueue.queue.documents import ObjectName
from aiqueue.queue.records import Class, Configuration, Flavor, Queue, Quota, Tenant

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
