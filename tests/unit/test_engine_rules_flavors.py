"""Worked examples of which flavor a pod set is given, step by step, with figures (design 5; Kueue's flavor assignment).

The tenant's flavors stand in its order of preference. A flavor is passed over where a taint is not tolerated, where selector or
affinity speak against its own labels, where it could never hold the request, and where it has no room now.
"""

import pytest

from aiqueue.queue.records import Flavor, NodeRequirement, PodSet, Quota, Taint, Tenant, Toleration
from aiqueue.queue.words import Fungibility, Reason
from fix_builders import GPU, make_tenant, make_workload
from fix_rules import PROBE, Stage, leaf, quota, stage

H100 = Flavor("h100", {"gpu": "h100", "generation": "9"})
A100 = Flavor("a100", {"gpu": "a100", "generation": "8"})
BOTH = {"h100": {GPU: 8}, "a100": {GPU: 8}}
SPOT = Taint("spot", "yes")


def one(*flavors: Flavor, quotas: dict[str, dict[str, int]] | None = None) -> Stage:
    """Tenant research, alone, with 8 GPUs of each flavor."""
    quotas = quotas if quotas is not None else {flavor.name: {GPU: 8} for flavor in flavors}
    return stage(make_tenant("research", quotas), flavors=flavors)


def pods(
    name: str = "main",
    count: int = 1,
    requests: dict[str, int] | None = None,
    *,
    selector: dict[str, str] | None = None,
    tolerations: tuple[Toleration, ...] = (),
    terms: tuple[tuple[NodeRequirement, ...], ...] = (),
) -> PodSet:
    return PodSet(name, count, requests or {GPU: 1}, None, selector or {}, tolerations, terms)


def taken(at: Stage, *pod_sets: PodSet, queue: str = "research") -> dict[str, dict[str, str]]:
    """Pod set -> resource -> flavor of a workload that is alone."""
    flavors = at.flavors(make_workload(PROBE, pod_sets=pod_sets, queue=queue))
    return {name: dict(sorted(of_one.items())) for name, of_one in flavors.items()}


def given(at: Stage, pod_set: PodSet) -> str:
    """The flavor of the GPUs of one pod set."""
    return taken(at, pod_set)[pod_set.name][GPU]


class TestTaints:
    @pytest.mark.parametrize(
        ("taint", "tolerations", "flavor"),
        [
            (Taint("spot", "yes", "NoSchedule"), (), "a100"),
            (Taint("spot", "yes", "NoExecute"), (), "a100"),
            (Taint("spot", "yes", "PreferNoSchedule"), (), "h100"),  # repels nobody
            (SPOT, (Toleration("spot", "Equal", "yes"),), "h100"),
            (SPOT, (Toleration("spot", "Equal", "no"),), "a100"),
            (SPOT, (Toleration("spot", "Exists"),), "h100"),
            (SPOT, (Toleration("spot", "Exists", "", "NoExecute"),), "a100"),  # another effect than the taint's
            (SPOT, (Toleration("", "Exists"),), "h100"),
            (SPOT, (Toleration("other", "Exists"),), "a100"),
        ],
    )
    def test_a_taint_that_is_not_tolerated_sends_it_to_the_next(
        self, taint: Taint, tolerations: tuple[Toleration, ...], flavor: str
    ) -> None:
        tainted = Flavor("h100", H100.node_labels, (taint,))
        assert given(one(tainted, A100), pods(tolerations=tolerations)) == flavor

    def test_the_flavors_own_tolerations_count_as_the_pods(self) -> None:
        """They are added to the pods when the Job starts."""
        tainted = Flavor("h100", {}, (SPOT,), (Toleration("spot", "Exists"),))
        assert given(one(tainted, A100), pods()) == "h100"

    def test_every_taint_has_to_be_tolerated(self) -> None:
        tainted = Flavor("h100", {}, (SPOT, Taint("gpu")))
        assert given(one(tainted, A100), pods(tolerations=(Toleration("spot", "Exists"),))) == "a100"


class TestLabels:
    @pytest.mark.parametrize(
        ("selector", "flavor"),
        [
            ({"gpu": "a100"}, "a100"),
            ({"zone": "b"}, "h100"),  # no flavor carries that label: the scheduler's business
            ({"zone": "b", "gpu": "a100"}, "a100"),
        ],
    )
    def test_a_selector_counts_on_the_flavors_own_keys_only(self, selector: dict[str, str], flavor: str) -> None:
        assert given(one(H100, A100), pods(selector=selector)) == flavor

    @pytest.mark.parametrize(
        ("requirement", "flavor"),
        [
            (NodeRequirement("gpu", "In", ("a100", "v100")), "a100"),
            (NodeRequirement("gpu", "NotIn", ("h100",)), "a100"),
            (NodeRequirement("gpu", "Exists"), "h100"),
            (NodeRequirement("generation", "Lt", ("9",)), "a100"),
            (NodeRequirement("generation", "Gt", ("8",)), "h100"),
            (NodeRequirement("zone", "In", ("b",)), "h100"),
            (NodeRequirement("zone", "DoesNotExist"), "h100"),  # h100's nodes may well have no zone
            (NodeRequirement("zone", "Gt", ("5",)), "h100"),
        ],
    )
    def test_required_affinity_counts_on_the_flavors_own_keys_only(self, requirement: NodeRequirement, flavor: str) -> None:
        assert given(one(H100, A100), pods(terms=((requirement,),))) == flavor

    def test_terms_are_alternatives_and_requirements_of_one_are_not(self) -> None:
        """(gpu is h100 and generation below 9) or (gpu is a100): no h100 meets both halves of the first."""
        first = (NodeRequirement("gpu", "In", ("h100",)), NodeRequirement("generation", "Lt", ("9",)))
        second = (NodeRequirement("gpu", "In", ("a100",)),)
        assert given(one(H100, A100), pods(terms=(first, second))) == "a100"

    def test_a_term_of_which_nothing_is_left_matches_everything(self) -> None:
        """Of (zone is b) or (gpu is a100), the first says nothing of h100's own labels, so h100 may do."""
        terms = ((NodeRequirement("zone", "In", ("b",)),), (NodeRequirement("gpu", "In", ("a100",)),))
        assert given(one(H100, A100), pods(terms=terms)) == "h100"

    def test_a_flavor_without_labels_takes_everybody(self) -> None:
        anywhere = Flavor("anywhere")
        assert given(one(anywhere, A100), pods(selector={"gpu": "a100"})) == "anywhere"

    def test_where_no_flavor_matches_each_says_why(self) -> None:
        at = one(H100, Flavor("spot", {}, (SPOT,)))
        at.pend(make_workload(1, pod_sets=(pods(selector={"gpu": "v100"}),), queue="research"))
        assert at.admitted() == []
        assert at.reasons(1) == [Reason.NO_MATCHING_FLAVOR]
        assert at.verdict(1).message == (
            "pod set main may run on no flavor of tenant research: h100: node selector gpu=v100 does not match h100; "
            "spot: taint spot=yes:NoSchedule is not tolerated"
        )


class TestGroups:
    def test_all_resources_of_a_group_come_from_one_flavor(self) -> None:
        """h100 has the GPUs and not the cpu for it: 4 x 2000 of 6000 millicores. So the GPUs come from a100 too."""
        at = one(H100, A100, quotas={"h100": {GPU: 8, "cpu": 6000}, "a100": {GPU: 8, "cpu": 8000}})
        assert taken(at, pods(count=4, requests={GPU: 1, "cpu": 2000})) == {"main": {"cpu": "a100", GPU: "a100"}}
        assert taken(at, pods(count=3, requests={GPU: 1, "cpu": 2000})) == {"main": {"cpu": "h100", GPU: "h100"}}

    def test_flavors_that_list_the_same_resources_are_one_group_wherever_they_stand(self) -> None:
        """h100 and a100 list {gpu, cpu} in another order, with disk's {storage} between them: two groups."""
        quotas = {"h100": {GPU: 1, "cpu": 9000}, "disk": {"ephemeral-storage": 100}, "a100": {"cpu": 9000, GPU: 8}}
        at = one(H100, Flavor("disk"), A100, quotas=quotas)
        assert taken(at, pods(count=2, requests={GPU: 1, "cpu": 1, "ephemeral-storage": 50})) == {
            "main": {"cpu": "a100", "ephemeral-storage": "disk", GPU: "a100"}
        }

    def test_a_resource_is_taken_from_its_own_group_only(self) -> None:
        """No cpu is asked of disk, which lists none, though it is first."""
        at = one(Flavor("disk"), H100, quotas={"disk": {"ephemeral-storage": 1}, "h100": {"cpu": 4000}})
        assert taken(at, pods(requests={"cpu": 4000})) == {"main": {"cpu": "h100"}}

    def test_one_full_group_keeps_all_of_it_out(self) -> None:
        at = one(H100, Flavor("disk"), quotas={"h100": {GPU: 8}, "disk": {"ephemeral-storage": 100}})
        at.run(1, "research", 1, requests={"ephemeral-storage": 60})
        at.pend(make_workload(2, requests={GPU: 1, "ephemeral-storage": 50}, queue="research"))
        assert at.admitted() == []
        assert [(each.flavor, each.resource, each.short) for each in at.verdict(2).shortfalls] == [
            ("disk", "ephemeral-storage", 10)
        ]
        assert at.engine.usage() == {("research", "disk", "ephemeral-storage"): 60}


class TestContradictions:
    """Two flavors of one pod set are labels of one node: where they contradict each other there is no such node."""

    A, B = Flavor("a", {"pool": "a", "zone": "z"}), Flavor("b", {"pool": "b"})
    DISK_A, DISK_B, DISK = Flavor("disk-a", {"pool": "a"}), Flavor("disk-b", {"pool": "b"}), Flavor("disk", {"zone": "z"})
    WANTED = pods(requests={GPU: 1, "ephemeral-storage": 10})

    def with_disks(self, *disks: Flavor) -> Stage:
        quotas = {"a": {GPU: 8}, "b": {GPU: 8}} | {disk.name: {"ephemeral-storage": 100} for disk in disks}
        return one(self.A, self.B, *disks, quotas=quotas)

    def test_the_second_group_follows_the_first(self) -> None:
        """disk-b is preferred, and no node is of pool a and pool b."""
        at = self.with_disks(self.DISK_B, self.DISK_A)
        assert taken(at, self.WANTED) == {"main": {"ephemeral-storage": "disk-a", GPU: "a"}}

    def test_the_first_group_goes_back_where_the_second_cannot_follow(self) -> None:
        assert taken(self.with_disks(self.DISK_B), self.WANTED) == {"main": {"ephemeral-storage": "disk-b", GPU: "b"}}

    def test_the_same_value_or_another_key_is_no_contradiction(self) -> None:
        assert taken(self.with_disks(self.DISK), self.WANTED) == {"main": {"ephemeral-storage": "disk", GPU: "a"}}

    def test_other_pod_sets_are_other_pods(self) -> None:
        at = self.with_disks(self.DISK_B)
        leader, workers = pods("leader", requests={"ephemeral-storage": 1}), pods("workers")
        assert taken(at, leader, workers) == {"leader": {"ephemeral-storage": "disk-b"}, "workers": {GPU: "a"}}

    def test_where_nothing_is_left_no_flavor_matches(self) -> None:
        at = self.with_disks(Flavor("disk-c", {"pool": "c"}))
        at.pend(make_workload(1, pod_sets=(self.WANTED,), queue="research"))
        assert at.admitted() == []
        assert at.reasons(1) == [Reason.NO_MATCHING_FLAVOR]

    def test_where_the_only_one_that_goes_together_is_full_it_waits(self) -> None:
        """a's GPUs are gone; b's are free and cannot be had with disk-a."""
        at = self.with_disks(self.DISK_A)
        at.run(1, "research", 8)
        at.pend(make_workload(2, pod_sets=(self.WANTED,), queue="research"))
        assert at.admitted() == []
        assert at.reasons(2) == [Reason.WAITING_FOR_QUOTA]
        at.close(1)
        assert at.admitted() == [2]


class TestPodSets:
    def test_each_counts_on_top_of_those_before_it(self) -> None:
        """6 of h100's 8, then 3 more do not fit beside them: 6 + 3 > 8."""
        sets = (pods("workers", 6), pods("evaluators", 3))
        assert taken(one(H100, A100), *sets) == {"workers": {GPU: "h100"}, "evaluators": {GPU: "a100"}}

    def test_an_earlier_one_makes_room_where_a_later_one_has_no_choice(self) -> None:
        """The leader would have h100; the workers can have nothing else, and 1 + 8 > 8."""
        sets = (pods("leader"), pods("workers", 8, selector={"gpu": "h100"}))
        assert taken(one(H100, A100), *sets) == {"leader": {GPU: "a100"}, "workers": {GPU: "h100"}}

    def test_together_they_may_exceed_what_each_does_not(self) -> None:
        at = one(H100)
        at.pend(make_workload(1, pod_sets=(pods("a", 5), pods("b", 4)), queue="research"))
        assert at.reasons(1) == [Reason.EXCEEDS_CEILING]

    def test_all_of_them_are_admitted_or_none(self) -> None:
        at = one(H100)
        at.run(1, "research", 2)
        at.pend(make_workload(2, pod_sets=(pods("a", 4), pods("b", 3)), queue="research"))
        assert at.admitted() == []
        assert at.engine.usage() == {("research", "h100", GPU): 2}


class TestPodsAndUncovered:
    def test_pods_are_counted_where_they_are_listed(self) -> None:
        """4 pods of 8 GPUs: 3 + 1 pods fit, a fifth does not, whatever GPUs are left."""
        at = one(H100, quotas={"h100": {GPU: 8, "pods": 4}})
        at.run(1, "research", 1, pods=3)
        at.run(2, "research", 1)
        assert at.engine.usage() == {("research", "h100", GPU): 4, ("research", "h100", "pods"): 4}
        assert at.room("research") == (0,)

    def test_pods_decide_the_flavor_too(self) -> None:
        at = one(H100, A100, quotas={"h100": {GPU: 8, "pods": 2}, "a100": {GPU: 8, "pods": 4}})
        assert taken(at, pods(count=3)) == {"main": {GPU: "a100", "pods": "a100"}}

    def test_a_pod_set_that_asks_for_nothing_is_counted_by_its_pods(self) -> None:
        at = one(H100, quotas={"h100": {"pods": 2}})
        assert taken(at, PodSet("main", 2, {})) == {"main": {"pods": "h100"}}
        at.pend(make_workload(1, pod_sets=(PodSet("main", 3, {}),), queue="research"))
        assert at.reasons(1) == [Reason.EXCEEDS_CEILING]

    @pytest.mark.parametrize("resource", ["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "pods"])
    def test_what_every_pod_uses_is_free_where_it_is_not_listed(self, resource: str) -> None:
        assert taken(one(H100), pods(requests={GPU: 1, resource: 10**12})) == {"main": {GPU: "h100"}}

    def test_an_extended_resource_never_is(self) -> None:
        at = one(H100)
        at.pend(make_workload(1, requests={"example.com/fpga": 1, GPU: 1}, queue="research"))
        assert at.reasons(1) == [Reason.RESOURCE_NOT_COVERED]
        assert taken(at, pods(requests={"example.com/fpga": 0, GPU: 1})) == {"main": {GPU: "h100"}}  # none of it is asked for


class TestCeilings:
    def test_a_flavor_too_small_for_it_is_passed_over(self) -> None:
        at = one(H100, A100, quotas={"h100": {GPU: 4}, "a100": {GPU: 8}})
        assert given(at, pods(count=5)) == "a100"

    def test_where_all_are_too_small_each_says_by_how_much(self) -> None:
        at = one(H100, A100, quotas={"h100": {GPU: 4}, "a100": {GPU: 8}})
        at.pend(make_workload(1, gpus=11, queue="research"))
        assert at.reasons(1) == [Reason.EXCEEDS_CEILING]
        assert [(each.flavor, each.short) for each in at.verdict(1).shortfalls] == [("h100", 7), ("a100", 3)]

    def test_one_that_has_no_room_now_is_passed_over(self) -> None:
        at = one(H100, A100)
        at.run(1, "research", 5)
        assert given(at, pods(count=3)) == "h100"
        assert given(at, pods(count=4)) == "a100"


class TestFungibility:
    """May it borrow the flavor it prefers, or should it take its own of the next?"""

    def shared(self, word: Fungibility, *own: Quota) -> Stage:
        """org has h100, a100 and l4; lab has a100 and l4; research has what is given."""
        org = Tenant("org", quotas=tuple(quota(8, flavor=name) for name in ("h100", "a100", "l4")))
        lab = leaf("lab", quota(8, flavor="a100"), quota(8, flavor="l4"), parent="org")
        return stage(org, lab, leaf("research", *own, when_can_borrow=word))

    @pytest.mark.parametrize(("word", "flavor"), [(Fungibility.MAY_STOP_SEARCH, "h100"), (Fungibility.TRY_NEXT_FLAVOR, "a100")])
    def test_the_first_though_borrowed_or_the_next_that_is_its_own(self, word: Fungibility, flavor: str) -> None:
        at = self.shared(word, quota(1), quota(2, flavor="a100"))
        assert given(at, pods(count=2)) == flavor  # 2 > 1 of its own h100

    def test_the_first_is_taken_where_it_need_not_be_borrowed(self) -> None:
        assert given(self.shared(Fungibility.TRY_NEXT_FLAVOR, quota(2), quota(2, flavor="a100")), pods(count=2)) == "h100"

    def test_of_those_that_must_all_be_borrowed_the_nearest_lender_is_best(self) -> None:
        """h100 would come from org, two levels up (lab has none of its own), a100 from lab, one level up."""
        at = self.shared(Fungibility.TRY_NEXT_FLAVOR, quota(0), quota(0, flavor="a100"), quota(0, flavor="l4"))
        assert given(at, pods(count=2)) == "a100"
        at.run(1, "research", 8)  # lab's a100 are gone: l4 is still its neighbour's
        assert given(at, pods(count=2)) == "l4"
        at.run(2, "research", 8)  # all would come from org now: the order decides
        assert given(at, pods(count=2)) == "h100"

    def test_where_the_next_has_no_room_the_first_is_borrowed_after_all(self) -> None:
        at = self.shared(Fungibility.TRY_NEXT_FLAVOR, quota(1), quota(2, 0, flavor="a100"))
        assert given(at, pods(count=3)) == "h100"

    def test_a_tenant_that_stands_alone_takes_the_first(self) -> None:
        tenant = make_tenant("research", BOTH, when_can_borrow=Fungibility.TRY_NEXT_FLAVOR)
        assert given(stage(tenant), pods(count=8)) == "h100"

    @pytest.mark.parametrize("word", list(Fungibility))
    def test_what_to_do_where_it_could_preempt_changes_nothing_while_something_is_free(self, word: Fungibility) -> None:
        at = stage(make_tenant("research", BOTH, when_can_preempt=word))
        at.run(1, "research", 8)
        assert given(at, pods()) == "a100"
