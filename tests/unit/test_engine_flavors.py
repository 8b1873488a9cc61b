"""Which flavors pods may run on, how flavors form groups, and what a run that already exists holds."""

import pytest

from aiqueue.admission.engine import assign_for_adoption
from aiqueue.admission.engine.groups import groups_of
from aiqueue.admission.engine.matching import mismatch
from aiqueue.queue.records import Allocation, Flavor, NodeRequirement, PodSet, Taint, Toleration
from fix_builders import GPU, make_configuration, make_quotas, make_tenant

NODE = Flavor("h100", {"gpu": "h100", "generation": "9"}, (Taint("gpu", "h100"), Taint("nice", effect="PreferNoSchedule")))


def pods(
    *tolerations: Toleration, selector: dict[str, str] | None = None, terms: tuple[tuple[NodeRequirement, ...], ...] = ()
) -> PodSet:
    return PodSet("main", 1, {GPU: 1}, None, selector or {}, tolerations or (Toleration(operator="Exists"),), terms)


@pytest.mark.parametrize(
    ("toleration", "tolerates"),
    [
        (Toleration("gpu", "Equal", "h100", "NoSchedule"), True),
        (Toleration("gpu", "Equal", "h100"), True),
        (Toleration("gpu", "", "h100"), True),
        (Toleration("gpu", "Exists"), True),
        (Toleration("", "Exists"), True),
        (Toleration("gpu", "Equal", "a100"), False),
        (Toleration("gpu", "Exists", "", "NoExecute"), False),
        (Toleration("cpu", "Exists"), False),
        (Toleration("", "Equal"), False),
    ],
)
def test_taints_are_tolerated_as_kubernetes_does(toleration: Toleration, tolerates: bool) -> None:
    why = mismatch(NODE, pods(toleration))
    assert why == (None if tolerates else "taint gpu=h100:NoSchedule is not tolerated")


def test_the_flavors_own_tolerations_count() -> None:
    flavor = Flavor("spot", {}, (Taint("spot", effect="NoExecute"),), (Toleration("spot", "Exists"),))
    assert mismatch(flavor, PodSet("main", 1, {})) is None


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        ({}, True),
        ({"gpu": "h100"}, True),
        ({"gpu": "a100"}, False),
        ({"zone": "a"}, True),
        ({"zone": "a", "gpu": "a100"}, False),
    ],
)
def test_a_selector_counts_for_the_flavors_own_labels(selector: dict[str, str], matches: bool) -> None:
    assert (mismatch(NODE, pods(selector=selector)) is None) == matches


@pytest.mark.parametrize(
    ("requirement", "matches"),
    [
        (NodeRequirement("gpu", "In", ("h100", "h200")), True),
        (NodeRequirement("gpu", "In", ("a100",)), False),
        (NodeRequirement("gpu", "NotIn", ("a100",)), True),
        (NodeRequirement("gpu", "NotIn", ("h100",)), False),
        (NodeRequirement("gpu", "Exists"), True),
        (NodeRequirement("gpu", "DoesNotExist"), False),
        (NodeRequirement("generation", "Gt", ("8",)), True),
        (NodeRequirement("generation", "Gt", ("9",)), False),
        (NodeRequirement("generation", "Lt", ("10",)), True),
        (NodeRequirement("generation", "Lt", ("9",)), False),
        (NodeRequirement("gpu", "Gt", ("8",)), False),
        (NodeRequirement("generation", "Lt"), False),
        (NodeRequirement("zone", "In", ("a",)), True),
        (NodeRequirement("zone", "DoesNotExist"), True),
    ],
)
def test_required_affinity(requirement: NodeRequirement, matches: bool) -> None:
    assert (mismatch(NODE, pods(terms=((requirement,),))) is None) == matches


def test_one_term_is_enough_and_all_of_it_is_needed() -> None:
    good, bad = NodeRequirement("gpu", "In", ("h100",)), NodeRequirement("gpu", "In", ("a100",))
    assert mismatch(NODE, pods(terms=((bad,), (good,)))) is None
    assert mismatch(NODE, pods(terms=((good, bad),))) == "required node affinity does not match: gpu In a100, and it is h100"


def test_groups_are_flavors_with_the_same_resources_in_order() -> None:
    quotas = make_quotas({"h100": {GPU: 1, "cpu": 1}, "disk": {"ephemeral-storage": 1}, "a100": {"cpu": 1, GPU: 1}})
    assert groups_of(quotas) == ((("h100", "a100"), ("cpu", GPU)), (("disk",), ("ephemeral-storage",)))


class TestAdoption:
    tenant = make_tenant(quotas={"h100": {GPU: 1, "cpu": 1}, "a100": {GPU: 1, "cpu": 1}, "pool": {"cpu": 10**6}})
    configuration = make_configuration([tenant], flavors=[NODE, Flavor("a100", {"gpu": "a100"}), Flavor("pool")])

    def test_the_first_matching_flavor_whether_or_not_there_is_room(self) -> None:
        sets = (PodSet("main", 8, {GPU: 8, "cpu": 1000, "memory": 5}, node_selector={"gpu": "a100"}),)
        assert assign_for_adoption(self.configuration, "research", sets) == (
            Allocation("main", "a100", "cpu", 8000),
            Allocation("main", "a100", GPU, 64),
        )

    def test_a_resource_in_two_groups_belongs_to_the_first(self) -> None:
        assert assign_for_adoption(self.configuration, "research", (PodSet("main", 1, {"cpu": 1}),))[0].flavor == "a100"

    def test_where_nothing_matches_it_is_counted_all_the_same(self) -> None:
        sets = (PodSet("main", 1, {GPU: 1}, node_selector={"gpu": "b200"}),)
        assert assign_for_adoption(self.configuration, "research", sets) == (Allocation("main", "h100", GPU, 1),)

    def test_of_a_tenant_that_is_not_there_it_holds_nothing(self) -> None:
        assert assign_for_adoption(self.configuration, "gone", (PodSet("main", 1, {GPU: 1}),)) == ()
