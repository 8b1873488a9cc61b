"""Worked examples of partial size: what elastic work asks for at each size, and the largest at which it fits."""

import pytest

from aiqueue.admission.engine.needs import Needs, Placement
from aiqueue.admission.engine.search import search
from aiqueue.admission.engine.sizes import REMEMBERED, Sizes
from aiqueue.admission.engine.tree import TenantNode, build_tree
from aiqueue.queue.records import Allocation, Decision, Flavor, PodSet, Tenant
from aiqueue.queue.words import Reason
from fix_builders import GPU, make_tenant

FLAVORS = {name: Flavor(name) for name in ("h100", "a100")}


def pods(count: int, least: int | None, requests: dict[str, int] | None = None, name: str = "main") -> PodSet:
    return PodSet(name, count, requests or {GPU: 1}, least)


def node_of(tenant: Tenant | None = None) -> TenantNode:
    tenant = tenant or make_tenant(quotas={"h100": {GPU: 8}})
    return build_tree({tenant.name: tenant})[tenant.name]


def sizes_of(node: TenantNode, *pod_sets: PodSet) -> Sizes:
    found = Sizes.of(node, FLAVORS, pod_sets, "shape")
    assert found is not None
    return found


def use(node: TenantNode, amount: int, flavor: str = "h100") -> None:
    node.cell((flavor, GPU)).add(amount)


def test_work_of_one_size_has_no_sizes() -> None:
    assert Sizes.of(node_of(), FLAVORS, [pods(4, None)], "shape") is None
    assert Sizes.of(node_of(), FLAVORS, [pods(4, 4)], "shape") is None
    assert Sizes.of(node_of(), FLAVORS, [pods(4, None), pods(2, 1, name="more")], "shape") is not None


@pytest.mark.parametrize(("used", "pods_admitted"), [(0, 6), (2, 6), (3, 5), (4, 4), (6, 2), (7, None), (9, None)])
def test_the_largest_size_that_fits(used: int, pods_admitted: int | None) -> None:
    """Six pods of a GPU, or at least two, where there are eight."""
    node = node_of()
    use(node, used)
    found = sizes_of(node, pods(6, 2)).largest(search)
    if pods_admitted is None:
        assert found is None
    else:
        assert found is not None
        assert found.counts == {"main": pods_admitted}
        assert found.allocations == (Allocation("main", "h100", GPU, pods_admitted),)


def test_pod_sets_shrink_together() -> None:
    """Eight of ten and one of three: two steps of the larger for each of the smaller, and what shrinks not at all stays."""
    sizes = sizes_of(node_of(), pods(10, 2), pods(5, 1, name="side"), pods(1, None, name="head"))
    assert sizes.last == 12
    assert sizes.counts(0) == {"main": 10, "side": 5, "head": 1}
    assert sizes.counts(6) == {"main": 6, "side": 3, "head": 1}
    assert sizes.counts(12) == {"main": 2, "side": 1, "head": 1}
    assert [sizes.counts(step)["main"] for step in range(13)] == [10, 10, 9, 8, 8, 7, 6, 6, 5, 4, 4, 3, 2]


def test_what_could_never_fit_whole_is_asked_for_at_the_largest_size_that_could() -> None:
    sizes = sizes_of(node_of(), pods(100, 3))
    assert isinstance(sizes.most, Needs)
    assert sizes.most.counts == {"main": 8}
    assert sizes.top == 92
    assert isinstance(sizes.at(91), Decision)


def test_what_could_never_fit_even_at_its_minimum_says_so_of_the_minimum() -> None:
    sizes = sizes_of(node_of(), pods(100, 9))
    assert isinstance(sizes.most, Decision)
    assert sizes.most is sizes.least
    assert sizes.most.reason is Reason.EXCEEDS_CEILING
    assert "needs 9 nvidia.com/gpu of flavor h100" in sizes.most.message
    assert sizes.largest(search) is None


def test_what_no_quota_covers_is_told_as_it_is() -> None:
    found = sizes_of(node_of(), pods(100, 3, {"example.com/other": 1})).most
    assert isinstance(found, Decision)
    assert found.reason is Reason.RESOURCE_NOT_COVERED


def test_a_larger_size_in_a_later_flavor_comes_before_a_smaller_one_in_the_first() -> None:
    node = node_of(make_tenant(quotas={"h100": {GPU: 8}, "a100": {GPU: 8}}))
    use(node, 5)
    use(node, 3, "a100")
    found = sizes_of(node, pods(6, 2)).largest(search)
    assert found is not None
    assert (found.counts, found.flavors) == ({"main": 5}, {"main": {GPU: "a100"}})
    use(node, 3, "a100")
    found = sizes_of(node, pods(6, 2)).largest(search)
    assert found is not None
    assert (found.counts, found.flavors) == ({"main": 3}, {"main": {GPU: "h100"}})


@pytest.mark.parametrize(("least", "pods_admitted"), [(2, 5), (4, 5), (5, 5), (6, None), (7, None)])
def test_no_less_than_what_was_claimed(least: int, pods_admitted: int | None) -> None:
    node = node_of()
    use(node, 3)
    found = sizes_of(node, pods(6, 2)).largest(search, at_least={"main": least})
    assert (found.counts["main"] if found is not None else None) == pods_admitted


def test_what_was_claimed_and_could_never_fit_any_more() -> None:
    """The quota was lowered meanwhile."""
    assert sizes_of(node_of(), pods(20, 2)).largest(search, at_least={"main": 9}) is None


def test_a_million_sizes_are_asked_for_a_few_times_and_few_are_kept() -> None:
    node = node_of(make_tenant(quotas={"h100": {GPU: 10**6}}))
    use(node, 333_333)
    sizes = sizes_of(node, pods(10**6, 1))
    asked: list[Needs] = []

    def counting(needs: Needs) -> Placement | None:
        asked.append(needs)
        return search(needs)

    found = sizes.largest(counting)
    assert found is not None
    assert found.counts == {"main": 666_667}
    assert len(asked) <= 22
    first = {id(needs) for needs in asked}
    asked.clear()
    sizes.largest(counting)
    assert {id(needs) for needs in asked} == first
    for step in range(3 * REMEMBERED):
        assert sizes.at(step) is sizes.at(step)
