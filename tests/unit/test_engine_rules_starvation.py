"""Worked examples of how long a gang may be passed over, with figures.

In a BestEffort tenant others pass one that does not fit until it has waited for the starvation bound. From then on nobody behind it
takes what it may need, and nobody in its tree borrows it. What a Strict tenant's head waits for is not borrowed either.
"""

from fractions import Fraction
from typing import Any

import pytest

from aiqueue.admission.engine import RunOpened
from aiqueue.queue.records import Class, Flavor, PodSet, Tenant
from aiqueue.queue.words import Queueing, Reason, Reclaim
from fix_builders import GPU, at, make_run, make_tenant, make_workload
from fix_rules import Stage, leaf, quota, stage

GANG = 10
BOUND = 100
CLASSES = [Class("high", 10)]
FLAVORS = [Flavor("h100", {"gpu": "h100"}), Flavor("a100", {"gpu": "a100"})]


class TestStarvationInTheTenant:
    """b, alone, has 8 GPUs, of which 4 run; the gang wants all 8 from second 10 on; the bound is 100 s."""

    def waiting(self, **changes: Any) -> Stage:
        record = make_tenant("b", {"h100": {GPU: 8}}, starvation_bound_seconds=BOUND)
        on = stage(record, classes=CLASSES)
        on.engine.observe(RunOpened(make_run(1, make_workload(1, queue="b"), gpus=4, tenant="b")))
        on.pend(make_workload(GANG, gpus=8, queue="b", **changes))
        return on

    @pytest.mark.parametrize(("seconds", "admitted"), [(109.999999, [20]), (110.0, []), (110.000001, [])])
    def test_it_is_passed_over_until_the_bound_to_the_microsecond(self, seconds: float, admitted: list[int]) -> None:
        on = self.waiting()
        on.pend(make_workload(20, queue="b"))
        assert on.admitted(seconds) == admitted
        if not admitted:
            assert on.reasons(GANG, 20) == [Reason.WAITING_FOR_QUOTA, Reason.BEHIND_STARVING_GANG]

    def test_the_engine_asks_to_be_woken_then(self) -> None:
        assert self.waiting().plan(50).wake_at == at(10 + BOUND)

    @pytest.mark.parametrize(
        ("changes", "deadline"),
        [
            ({"created": 30.0}, 130.0),  # since it was created
            ({"not_before": at(70)}, 170.0),  # since its back-off ended
            ({"not_before": at(5)}, 110.0),
        ],
    )
    def test_since_when_it_counts(self, changes: dict[str, Any], deadline: float) -> None:
        on = self.waiting(**changes)
        on.plan(80)
        on.pend(make_workload(40, queue="b"))
        assert on.admitted(deadline - 0.000001) == [40]
        on.pend(make_workload(41, queue="b"))
        assert on.admitted(deadline) == []

    def test_it_counts_from_when_the_configuration_let_it_in(self) -> None:
        """9 were more than the tenant could ever have until 10 were configured, which the decide at 500 found."""
        on = self.waiting()
        on.gone(GANG)
        on.pend(make_workload(GANG, gpus=9, queue="b"), make_workload(20, queue="b"))
        assert on.admitted(400) == [20]
        on.configure(make_tenant("b", {"h100": {GPU: 10}}, starvation_bound_seconds=BOUND))
        assert on.plan(500).wake_at == at(600)
        on.pend(make_workload(21, queue="b"))
        assert on.admitted(599.999999) == [21]
        on.pend(make_workload(22, queue="b"))
        assert on.admitted(600) == []

    def test_a_bound_of_0_lets_nobody_pass(self) -> None:
        on = self.waiting()
        on.configure(make_tenant("b", {"h100": {GPU: 8}}, starvation_bound_seconds=0))
        on.pend(make_workload(20, queue="b"))
        assert on.admitted(20) == []

    def test_those_before_it_pass_and_when_it_is_admitted_those_behind_follow(self) -> None:
        on = self.waiting()
        on.pend(make_workload(20, queue="b"), make_workload(21, queue="b", class_name="high"))
        assert on.admitted() == [21]
        on.close(1, 21)
        assert on.admitted() == [GANG]
        on.close(GANG)
        assert on.admitted() == [20]

    def test_what_any_of_several_may_need_is_left_alone(self) -> None:
        """One gang can only have h100, the other only a100: the 1 behind both gets neither, the 1 of cpu does."""
        on = stage(
            make_tenant("b", {"h100": {GPU: 8}, "a100": {GPU: 8}, "any": {"cpu": 8000}}, starvation_bound_seconds=BOUND),
            flavors=[*FLAVORS, Flavor("any")],
        )
        for number, flavor in ((1, "h100"), (2, "a100")):
            on.run(number, "b", 4, pod_sets=(PodSet("main", 1, {GPU: 4}, node_selector={"gpu": flavor}),))
            gang = (PodSet("main", 1, {GPU: 8}, node_selector={"gpu": flavor}),)
            on.pend(make_workload(GANG + number, queue="b", pod_sets=gang))
        on.pend(make_workload(20, queue="b"), make_workload(21, queue="b", requests={"cpu": 1000}))
        assert on.admitted() == [21]
        assert on.reasons(11, 12, 20) == [Reason.WAITING_FOR_QUOTA, Reason.WAITING_FOR_QUOTA, Reason.BEHIND_STARVING_GANG]


class TestStarvationOverTheTree:
    """lab: a has 4 and a gang of 8 that waits since second 0, with a bound of 100 s; b has 4 and runs 2. One of 3 more would borrow 1."""

    def waiting(self, *, a: Tenant | None = None, b: Tenant | None = None, others: tuple[Tenant, ...] = ()) -> Stage:
        on = stage(
            Tenant("lab"),
            a or leaf("a", quota(4), starvation_bound_seconds=BOUND),
            b or leaf("b", quota(4), starvation_bound_seconds=10**6),
            *others,
            classes=CLASSES,
        )
        on.engine.observe(RunOpened(make_run(1, make_workload(1, queue="b"), gpus=2, tenant="b")))
        on.pend(make_workload(GANG, gpus=8, queue="a", created=0.0))
        return on

    @pytest.mark.parametrize(("seconds", "admitted"), [(99.999999, [20]), (100.0, [])])
    def test_others_borrow_until_the_bound_to_the_microsecond(self, seconds: float, admitted: list[int]) -> None:
        on = self.waiting()
        assert on.plan(50).wake_at == at(100)
        on.pend(make_workload(20, gpus=3, queue="b", created=60.0))
        assert on.admitted(seconds) == admitted
        if not admitted:
            assert on.reasons(20) == [Reason.BEHIND_STARVING_GANG]
            assert on.verdict(20).details["gang"] == "team-a/job-10"

    def test_what_they_own_they_may_go_on_using(self) -> None:
        """2 + 2 = 4 are b's own; one more is not."""
        on = self.waiting()
        on.pend(make_workload(20, gpus=2, queue="b", created=60.0), make_workload(21, queue="b", created=61.0))
        assert on.admitted() == [20]
        assert on.reasons(21) == [Reason.BEHIND_STARVING_GANG]

    def test_they_borrow_again_when_it_is_gone(self) -> None:
        on = self.waiting()
        on.pend(make_workload(20, gpus=3, queue="b", created=60.0))
        assert on.admitted() == []
        on.gone(GANG)
        assert on.admitted() == [20]

    def test_it_is_admitted_when_what_they_own_comes_free(self) -> None:
        """b's 2 end: 8 are left, the gang has them, since the 5 that wait in b would still borrow 1."""
        on = self.waiting()
        on.pend(make_workload(20, gpus=5, queue="b", created=60.0))
        assert on.admitted() == []
        on.close(1)
        assert on.admitted() == [GANG]
        assert on.reasons(20) == [Reason.WAITING_FOR_QUOTA]

    def test_another_tree_is_another_matter(self) -> None:
        on = self.waiting(others=(Tenant("elsewhere", quotas=(quota(4),)), leaf("c", quota(0), parent="elsewhere")))
        on.pend(make_workload(20, gpus=4, queue="c", created=60.0))
        assert on.admitted() == [20]

    def test_a_flavor_that_it_may_not_have_is_free_to_borrow(self) -> None:
        """a lists h100 only. b may borrow lab's a100, and takes that where its selector does not forbid."""
        on = stage(
            Tenant("lab", quotas=(quota(8, flavor="a100"),)),
            leaf("a", quota(4), starvation_bound_seconds=BOUND),
            leaf("b", quota(4), quota(0, flavor="a100")),
            flavors=FLAVORS,
        )
        on.engine.observe(RunOpened(make_run(1, make_workload(1, queue="b"), gpus=2, tenant="b")))
        on.pend(make_workload(GANG, gpus=8, queue="a", created=0.0))
        on.pend(make_workload(20, gpus=3, queue="b", created=60.0))
        [admission] = on.plan().admissions
        assert (admission.workload.id, admission.flavors["main"][GPU]) == (20, "a100")

    def test_a_gang_that_waits_for_what_it_is_guaranteed_keeps_nobody_from_anything(self) -> None:
        """a guarantees itself all 8 and runs 1: nothing that anybody could borrow would help. lab has 4 of its own."""
        on = stage(
            Tenant("lab", quotas=(quota(4),)), leaf("a", quota(8, None, 0), starvation_bound_seconds=BOUND), leaf("b", quota(0))
        )
        on.engine.observe(RunOpened(make_run(1, make_workload(1, queue="a"), gpus=5, tenant="a")))
        on.pend(make_workload(GANG, gpus=8, queue="a", created=0.0), make_workload(20, gpus=4, queue="b", created=60.0))
        assert on.admitted() == [20]
        # The gang itself would have fitted with 1 of lab's 4: 3 guaranteed + 4 = 7 < 8.
        assert on.reasons(GANG) == [Reason.WAITING_FOR_QUOTA]

    def test_what_is_borrowed_below_where_they_meet_is_free(self) -> None:
        """wing guarantees its own 8 to c: c borrows of wing, and none of that ever reaches org, where the gang's way goes."""
        on = stage(
            Tenant("org", quotas=(quota(3),)),
            Tenant("wing", "org", quotas=(quota(8, None, 0),)),
            leaf("a", quota(1), parent="org", starvation_bound_seconds=BOUND),
            leaf("b", quota(0), parent="org"),
            leaf("c", quota(0), parent="wing"),
        )
        on.run(1, "b", 2)
        on.pend(make_workload(GANG, gpus=4, queue="a", created=0.0))
        on.pend(make_workload(20, gpus=8, queue="c", created=60.0), make_workload(21, queue="b", created=61.0))
        assert on.admitted() == [20]
        on.close(20)
        assert on.fits("c", 8)
        assert not on.fits("c", 9)  # one of org's would be among them
        assert on.reasons(21) == [Reason.BEHIND_STARVING_GANG]

    @pytest.mark.parametrize(
        ("own", "runs", "created", "admitted"),
        [
            (0, 2, 60.0, []),  # neither borrows, and the gang asks for more
            (0, 2, -1.0, []),  # nor is it now, but it asks for more: room for 3 comes by sooner
            (0, 5, -1.0, []),  # b borrows 1 of 20, a nothing: the gang's turn, though it would then have 4 of 20
            (5, 4, 60.0, [20]),  # a borrows 1 of 20, b nothing
            (5, 5, 60.0, []),  # both 1 of 20
            (5, 5, -1.0, []),
            (0, 2, 100.0, []),  # not overdue before 150
        ],
    )
    def test_of_those_who_are_overdue_the_lowest_share_is_next_however_much_it_asks_for(
        self, own: int, runs: int, created: float, admitted: list[int]
    ) -> None:
        """b's own bound is 50 s; its next wants 3. Of the 20 that there are in all less than 8 are left."""
        on = stage(
            Tenant("lab"),
            leaf("a", quota(4), starvation_bound_seconds=BOUND),
            leaf("b", quota(4), starvation_bound_seconds=50),
            leaf("idle", quota(12)),
        )
        for number, (tenant, gpus) in enumerate((("a", own), ("b", runs), ("idle", 13 - own - runs + 3)), 1):
            on.engine.observe(RunOpened(make_run(number, make_workload(number, queue=tenant), gpus=gpus, tenant=tenant)))
        on.pend(make_workload(GANG, gpus=8, queue="a", created=0.0))
        on.pend(make_workload(20, gpus=3, queue="b", created=created))
        assert on.admitted(149) == admitted

    def test_who_comes_before_it_in_its_own_tenant_passes(self) -> None:
        on = self.waiting()
        on.pend(make_workload(20, gpus=5, queue="a", class_name="high"))
        assert on.admitted() == [20]

    def test_who_comes_after_it_in_its_own_tenant_does_not(self) -> None:
        on = self.waiting()
        on.pend(make_workload(20, queue="a"))
        assert on.admitted() == []
        assert on.reasons(20) == [Reason.BEHIND_STARVING_GANG]

    @pytest.mark.parametrize("reclaim", [Reclaim.ANY, Reclaim.NEVER])
    def test_the_head_of_a_strict_tenant_starves_as_any_other(self, reclaim: Reclaim) -> None:
        """With reclaim Never it has reserved its own 4 besides, from the start."""
        on = self.waiting(a=leaf("a", quota(4), queueing=Queueing.STRICT, reclaim=reclaim, starvation_bound_seconds=BOUND))
        on.pend(make_workload(20, gpus=3, queue="b", created=60.0))
        assert on.admitted(100) == []
        on.pend(make_workload(21, gpus=2, queue="b", created=61.0))
        assert on.admitted(101) == [21]

    def test_a_strict_head_holds_nobody_up_before_its_bound_but_by_its_reservation(self) -> None:
        """2 of b's 4 run, so 6 are left: with reclaim Any b may have all, with Never 2, since min(8, 4) are reserved."""
        for reclaim, gpus in ((Reclaim.ANY, 6), (Reclaim.NEVER, 2)):
            strict = leaf("a", quota(4), queueing=Queueing.STRICT, reclaim=reclaim, starvation_bound_seconds=BOUND)
            on = self.waiting(a=strict)
            on.pend(make_workload(21, gpus=gpus, queue="b", created=60.0))
            assert on.admitted(70) == [21]
            on.pend(make_workload(22, queue="b", created=60.0))
            assert on.admitted(71) == []

    def test_of_two_that_starve_the_champion_is_kept_back_by_nobody(self) -> None:
        """Neither borrows yet, and c's gang asks for 8 of 8, a's for 4 beyond its own: c's is the champion. When b's 2 end both fit."""
        on = self.waiting(others=(leaf("c", quota(0), starvation_bound_seconds=BOUND),))
        on.pend(make_workload(30, gpus=8, queue="c", created=50.0))
        assert on.admitted(200) == []
        on.close(1)
        assert on.admitted(201) == [30]
        assert on.reasons(GANG) == [Reason.WAITING_FOR_QUOTA]

    def test_one_that_is_kept_back_itself_keeps_others_back_all_the_same(self) -> None:
        """a's first gang can only have h100. Its second wants 1 h100 and 8 a100 and waits for the first; b may borrow neither."""
        on = stage(
            Tenant("lab"),
            leaf("a", quota(4), quota(4, flavor="a100"), starvation_bound_seconds=BOUND),
            leaf("b", quota(4), quota(4, flavor="a100")),
            flavors=FLAVORS,
        )
        on.run(1, "b", 2)
        on.run(2, "b", 1, pod_sets=self.of(a100=1))
        on.pend(make_workload(10, queue="a", created=0.0, pod_sets=self.of(h100=8)))
        on.pend(make_workload(11, queue="a", created=1.0, pod_sets=self.of(h100=1, a100=8)))
        on.pend(make_workload(20, queue="b", created=60.0, pod_sets=self.of(h100=3)))
        on.pend(make_workload(21, queue="b", created=61.0, pod_sets=self.of(a100=4)))
        assert on.admitted() == []
        assert on.reasons(20, 21) == [Reason.BEHIND_STARVING_GANG, Reason.BEHIND_STARVING_GANG]
        on.gone(11)
        assert on.admitted() == [21]
        assert on.reasons(20) == [Reason.BEHIND_STARVING_GANG]

    def of(self, **gpus: int) -> tuple[PodSet, ...]:
        """A pod set for each flavor, with that many of its GPUs."""
        return tuple(PodSet(name, 1, {GPU: count}, node_selector={"gpu": name}) for name, count in gpus.items())

    def test_one_that_came_to_starve_while_others_ran_is_counted_from_its_own_deadline(self) -> None:
        """b borrows at 99 s, and no more from 100 on, though what it gave back is there."""
        on = self.waiting()
        on.pend(make_workload(20, gpus=4, queue="b", created=60.0), make_workload(21, gpus=3, queue="b", created=61.0))
        assert on.admitted(99) == [20]
        on.close(20)
        assert on.admitted(101) == []
        on.close(1)
        assert on.admitted(102) == [21]  # 3 of b's own 4, now that nothing of it runs
        on.close(21)
        assert on.admitted(103) == [GANG]

    def test_a_weight_or_a_priority_does_not_help_against_it(self) -> None:
        on = self.waiting(b=leaf("b", quota(4), weight=Fraction(1000)))
        on.pend(make_workload(20, gpus=3, queue="b", created=60.0, class_name="high"))
        assert on.admitted() == []
