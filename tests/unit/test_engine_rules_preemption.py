"""Worked examples of who has to make room for whom, by which right and until when, with figures (design 5, decided points).

Within its tenant a workload puts out lower priorities (or, where that is the policy, also what is as high and younger). From other
tenants of its tree it takes only what they borrow: back to its own nominal from anybody, beyond that by shares, compared between
the two sides below the lowest tenant above both. P is the side of who preempts, with what it asks for; T the other, before and
after the run is gone:

    FinalShare      newP <= newT and newP < oldT
    InitialShare    newP < oldT, for those whom that refused, one of each tenant

Who is first: lower priority, less work lost (time since the start or the last checkpoint, times the scarcest resource asked for),
later opened, id.
"""

from fractions import Fraction
from typing import Any

import pytest

from aiqueue.queue.records import Class, Flavor, PodSet, Tenant
from aiqueue.queue.words import ObjectState, PreemptionRule, Reclaim, RunOutcome, WithinTenant
from fix_builders import GPU, at, make_queue, make_quotas, make_tenant, make_workload
from fix_rules import NOW, Stage, claimed, contested, leaf, put_out, quota

WITHIN, NOMINAL, FINAL, INITIAL = PreemptionRule
ASKS = 50
CLASSES = [
    Class("low", -10),
    Class("high", 10),
    Class("urgent", 20, grace_period_seconds=5),
    Class("solid", -10, preemptible=False),
    Class("sure", -10, min_runtime_seconds=600, grace_period_seconds=60),
    Class("slow", -10, min_runtime_seconds=60, grace_period_seconds=300),
]


def alone(gpus: int = 8, **changes: Any) -> Stage:
    """Tenant b, alone."""
    return contested(make_tenant("b", {"h100": {GPU: gpus}}, **changes), classes=CLASSES)


def lab(*leaves: Tenant, common: int = 0) -> Stage:
    """These tenants under lab, which has some GPUs for all of them."""
    return contested(Tenant("lab", quotas=(quota(common),)), *leaves, classes=CLASSES)


def asks(on: Stage, queue: str, gpus: int, seconds: float = NOW, **changes: Any) -> dict[int, PreemptionRule | None]:
    """Workload `ASKS` asks for so many: whom it puts out, and by which right."""
    on.pend(make_workload(ASKS, gpus=gpus, queue=queue, **changes))
    plan = on.plan(seconds)
    assert plan.admissions == ()
    return put_out(plan)


class TestWithinTheTenant:
    @pytest.mark.parametrize(
        ("policy", "class_name", "created", "put_out"),
        [
            (WithinTenant.LOWER_PRIORITY, "high", 900, {1: WITHIN}),
            (WithinTenant.LOWER_PRIORITY, None, 1, {}),  # older, and of the same priority
            (WithinTenant.LOWER_PRIORITY, "low", 1, {}),
            (WithinTenant.NEVER, "high", 900, {}),
            (WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY, "high", 900, {1: WITHIN}),
            (WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY, None, 499, {1: WITHIN}),
            (WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY, None, 501, {}),
            (WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY, "low", 1, {}),
        ],
    )
    def test_the_policy(
        self, policy: WithinTenant, class_name: str | None, created: int, put_out: dict[int, PreemptionRule]
    ) -> None:
        """Run 1 has priority 0 and was created at 500."""
        on = alone(within_tenant=policy)
        on.run(1, "b", 8, created=500)
        assert asks(on, "b", 4, class_name=class_name, created=created) == put_out

    def test_lower_priorities_by_default(self) -> None:
        assert Tenant("t").within_tenant is WithinTenant.LOWER_PRIORITY
        assert Tenant("t").reclaim is Reclaim.ANY
        assert Class("c").preemptible
        assert (Class("c").min_runtime_seconds, Class("c").grace_period_seconds) == (0, 30)

    def test_the_lowest_priority_is_first_whatever_it_loses(self) -> None:
        on = alone()
        on.pend(make_workload(1, gpus=4, queue="b", class_name="low"))
        assert on.admitted(NOW) == [1]
        on.pend(make_workload(2, gpus=4, queue="b"))
        assert on.admitted(NOW + 100) == [2]
        assert asks(on, "b", 4, NOW + 101, class_name="high") == {1: WITHIN}

    def test_of_equal_priorities_the_least_work_lost(self) -> None:
        """At 110: run 1 loses 110 s of 2 GPUs, 220; run 2 loses 50 s of 4, 200; run 3 loses 105 s of 2, 210."""
        on = alone()
        for number, gpus, seconds in ((1, 2, 0), (3, 2, 5), (2, 4, 60)):
            on.pend(make_workload(number, gpus=gpus, queue="b"))
            assert on.admitted(NOW + seconds) == [number]
        assert asks(on, "b", 2, NOW + 110, class_name="high") == {2: WITHIN}

    def test_what_was_saved_is_not_lost(self) -> None:
        """At 110: run 1 loses 110 s; run 2, which saves its work each 50 s, loses 10 s; run 3, each 100 s, loses 10 s and is later."""
        on = alone(6)
        for number, every in ((1, None), (2, 50), (3, 100)):
            on.pend(make_workload(number, gpus=2, queue="b", checkpoint_seconds=every))
        assert on.admitted(NOW) == [1, 2, 3]
        assert asks(on, "b", 2, NOW + 110, class_name="high") == {2: WITHIN}

    def test_at_the_moment_it_saves_it_loses_nothing(self) -> None:
        on = alone(4)
        on.pend(make_workload(1, gpus=2, queue="b", checkpoint_seconds=50))
        assert on.admitted(NOW) == [1]
        on.pend(make_workload(2, gpus=2, queue="b"))
        assert on.admitted(NOW + 99) == [2]
        assert asks(on, "b", 2, NOW + 100, class_name="high") == {1: WITHIN}

    def test_of_equal_losses_the_last_to_be_let_in(self) -> None:
        """Both save their work each 10 s, and lose nothing at 100."""
        on = alone(4)
        for number, seconds in ((1, 0), (2, 50)):
            on.pend(make_workload(number, gpus=2, queue="b", checkpoint_seconds=10))
            assert on.admitted(NOW + seconds) == [number]
        assert asks(on, "b", 2, NOW + 100, class_name="high") == {2: WITHIN}

    def test_no_more_than_it_needs(self) -> None:
        """8 runs of 1: of 3 asked for, 1 is free with 7 running, so 2 go."""
        on = alone()
        on.pend(*(make_workload(number, queue="b") for number in range(1, 8)))
        assert len(on.admitted()) == 7
        assert asks(on, "b", 3, class_name="high") == {1: WITHIN, 2: WITHIN}

    def test_who_turns_out_not_to_be_needed_is_left_alone(self) -> None:
        """Run 1 of 1 GPU loses the least and is taken first; but then 7 more have to be found, and run 2 of 7 is all it takes."""
        on = alone()
        on.run(1, "b", 1)
        on.run(2, "b", 7)
        assert asks(on, "b", 7, NOW + 10, class_name="high") == {2: WITHIN}

    def test_nobody_goes_in_vain(self) -> None:
        """It asks for 6: with run 1 gone there would be 4, and run 2 is as high as it is."""
        on = alone()
        on.run(1, "b", 4)
        on.run(2, "b", 4, class_name="high")
        assert asks(on, "b", 6, class_name="high") == {}

    def test_nobody_goes_where_there_is_room(self) -> None:
        on = alone()
        on.run(1, "b", 4)
        on.pend(make_workload(ASKS, gpus=4, queue="b", class_name="high"))
        plan = on.plan()
        assert [each.workload.id for each in plan.admissions] == [ASKS]
        assert (plan.evictions, plan.claims) == ((), ())

    def test_only_who_holds_what_is_missing(self) -> None:
        """GPUs are short, of cpu there is enough: run 1 holds cpu alone."""
        on = contested(make_tenant("b", {"h100": {GPU: 8, "cpu": 100}}), classes=CLASSES)
        on.pend(make_workload(1, queue="b", requests={"cpu": 50}), make_workload(2, queue="b", gpus=8))
        assert on.admitted() == [1, 2]
        assert asks(on, "b", 4, class_name="high") == {2: WITHIN}


class TestTheContract:
    def test_who_is_not_preemptible_stays(self) -> None:
        on = alone()
        on.run(1, "b", 8, class_name="solid")
        assert asks(on, "b", 4, class_name="urgent") == {}

    def test_the_next_of_its_order_goes_instead(self) -> None:
        on = alone()
        on.run(1, "b", 4, class_name="solid")
        on.run(2, "b", 4)
        assert asks(on, "b", 4, class_name="high") == {2: WITHIN}

    @pytest.mark.parametrize(("class_name", "grace"), [(None, 30), ("low", 30), ("high", 30)])
    def test_it_has_the_grace_of_its_own_class(self, class_name: str | None, grace: int) -> None:
        on = alone()
        on.run(1, "b", 8, class_name=class_name)
        on.pend(make_workload(ASKS, gpus=4, queue="b", class_name="urgent"))
        [eviction] = on.plan(NOW + 100).evictions
        assert eviction.evict_at == at(NOW + 100 + grace)
        assert (eviction.outcome, eviction.preempted_by) == (RunOutcome.PREEMPTED, ASKS)
        assert (eviction.run_id, eviction.workload_id, eviction.attempt) == (1, 1, 1)

    @pytest.mark.parametrize(
        ("class_name", "after", "ends"),
        [
            ("sure", 539.999999, None),
            ("sure", 540, 600),  # a grace of 60 ends with its minimal runtime
            ("sure", 550, 610),
            ("slow", 0, 300),  # a grace of 300 is longer than its minimal runtime
            ("slow", 100, 400),
        ],
    )
    def test_until_its_minimal_runtime_is_over_it_is_left_alone(
        self, class_name: str, after: float, ends: float | None
    ) -> None:
        on = alone()
        on.run(1, "b", 8, class_name=class_name)
        on.pend(make_workload(ASKS, gpus=4, queue="b", class_name="high"))
        evictions = on.plan(NOW + after).evictions
        assert [each.evict_at for each in evictions] == ([] if ends is None else [at(NOW + ends)])

    def test_the_engine_asks_to_be_asked_when_that_is_over(self) -> None:
        on = alone()
        on.run(1, "b", 8, class_name="sure")
        on.pend(make_workload(ASKS, gpus=4, queue="b", class_name="high"))
        plan = on.plan(NOW + 1)
        assert plan.wake_at == at(NOW + 540)
        assert put_out(on.plan(NOW + 540)) == {1: WITHIN}

    def test_it_begins_anew_with_each_run(self) -> None:
        on = alone()
        on.run(1, "b", 8, class_name="sure")
        assert asks(on, "b", 8, NOW + 540, class_name="high") == {1: WITHIN}
        on.close(1)
        on.pend(make_workload(1, gpus=8, queue="b", class_name="sure", attempt=1))
        assert on.admitted(NOW + 600) == [ASKS]
        on.close(ASKS)
        assert on.admitted(NOW + 700) == [1]
        assert asks(on, "b", 8, NOW + 700 + 539, class_name="high") == {}
        assert put_out(on.plan(NOW + 700 + 540)) == {1: WITHIN}

    def test_draining_does_not_mind_it(self) -> None:
        on = alone()
        on.run(1, "b", 8, class_name="sure")
        on.configure(make_tenant("b", {"h100": {GPU: 8}}, state=ObjectState.DRAIN))
        [eviction] = on.plan(NOW + 1).evictions
        assert (eviction.outcome, eviction.evict_at) == (RunOutcome.DRAINED, at(NOW + 61))
        assert (eviction.preempted_by, eviction.rule) == (None, None)

    def test_it_is_said_for_whom_and_by_which_right(self) -> None:
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)))
        on.run(1, "b", 8)
        on.pend(make_workload(ASKS, gpus=4, queue="a"))
        [eviction] = on.plan().evictions
        assert "team-a/job-50 of tenant a" in eviction.message
        assert "nominal" in eviction.message


class TestReclaim:
    """a and b have 4 each; b runs 6 or 8, and so borrows."""

    @pytest.mark.parametrize(
        ("reclaim", "class_name", "put_out"),
        [
            (Reclaim.ANY, None, {1: NOMINAL}),
            (Reclaim.ANY, "low", {1: NOMINAL}),  # of a lower priority than run 1
            (Reclaim.LOWER_PRIORITY, "high", {1: NOMINAL}),
            (Reclaim.LOWER_PRIORITY, None, {}),
            (Reclaim.NEVER, "high", {}),
        ],
    )
    def test_the_policy_of_who_takes_back(
        self, reclaim: Reclaim, class_name: str | None, put_out: dict[int, PreemptionRule]
    ) -> None:
        on = lab(
            leaf("a", quota(4), reclaim=reclaim), leaf("b", quota(4), reclaim=Reclaim.NEVER, within_tenant=WithinTenant.NEVER)
        )
        on.run(1, "b", 8)
        assert asks(on, "a", 4, class_name=class_name) == put_out

    def test_only_what_is_borrowed(self) -> None:
        """b runs 2, 2 and 2 of its 4: it borrows 2. a asks for its 4, and 2 are free: one of b's has to go."""
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)))
        for number in (1, 2, 3):
            on.run(number, "b", 2)
        assert asks(on, "a", 4) == {1: NOMINAL}

    def test_who_borrows_nothing_is_safe(self) -> None:
        """c runs its own 4, b 4 of its own and 4 of a's. a asks for 4: c's runs lose less, and stay."""
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)), leaf("c", quota(4)))
        on.run(1, "b", 8)
        on.run(2, "c", 4, class_name="low")
        assert asks(on, "a", 4, class_name="urgent") == {1: NOMINAL}

    def test_even_where_nobody_else_could_be_put_out(self) -> None:
        """b has all that it borrows under a class that is not preemptible; c runs its own."""
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)), leaf("c", quota(4)))
        on.run(1, "b", 8, class_name="solid")
        on.run(2, "c", 4, class_name="low")
        assert asks(on, "a", 4, class_name="urgent") == {}

    def test_once_it_borrows_nothing_more_the_rest_is_safe(self) -> None:
        """b runs 2, 2, 2 and 2. a asks for 5 of its 4 and one of c's: two of b's leave 4, the fifth would be b's own."""
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)), leaf("c", quota(1)))
        on.run(9, "c", 1)
        for number in (1, 2, 3, 4):
            on.run(number, "b", 2)
        assert asks(on, "a", 5) == {}

    def test_also_where_others_keep_what_they_borrow(self) -> None:
        """b borrows 2 of a's 4 and c 2, which c has under a class that is not preemptible: of b's 2, 2 and 2 only one could go."""
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)), leaf("c", quota(0)))
        on.run(9, "c", 2, class_name="solid")
        for number in (1, 2, 3):
            on.run(number, "b", 2)
        assert asks(on, "a", 4) == {}
        on.gone(ASKS)
        on.pend(make_workload(51, gpus=2, queue="a"))
        assert put_out(on.plan()) == {1: NOMINAL}

    def test_whoever_has_the_larger_share_is_first(self) -> None:
        """a 6; b borrows 4, c borrows 2. a asks for 2: b's share is the larger, though c's run is of lower priority."""
        on = lab(leaf("a", quota(6)), leaf("b", quota(1)), leaf("c", quota(1)))
        on.run(1, "b", 5)
        on.run(2, "c", 3, class_name="low")
        assert asks(on, "a", 2) == {1: NOMINAL}

    def test_and_then_it_is_looked_at_anew(self) -> None:
        """a 6; b borrows 3 of it by runs of 2 and 2, c borrows 2 by 3. After one of b's, b borrows 1 and c 2: then c's goes."""
        on = lab(leaf("a", quota(6)), leaf("b", quota(1)), leaf("c", quota(1)))
        on.run(1, "b", 2)
        on.run(2, "b", 2)
        on.run(3, "c", 3)
        assert asks(on, "a", 5) == {1: NOMINAL, 3: NOMINAL}

    def test_a_weight_counts(self) -> None:
        """b borrows 4 with weight 4, c borrows 2 with weight 1: 1 against 2."""
        on = lab(leaf("a", quota(6)), leaf("b", quota(1), weight=Fraction(4)), leaf("c", quota(1)))
        on.run(1, "b", 5)
        on.run(2, "c", 3)
        assert asks(on, "a", 2) == {2: NOMINAL}

    def test_weight_0_is_first_and_keeps_what_is_its_own(self) -> None:
        """b, of weight 0, borrows 1 of a's 6 and runs 2 of its own besides; c borrows 5. a asks for 1, then for 1 more."""
        on = lab(leaf("a", quota(6)), leaf("b", quota(2), weight=Fraction(0)), leaf("c", quota(1)))
        for number in (1, 2, 3):
            on.run(number, "b", 1)
        on.run(4, "c", 6)
        assert asks(on, "a", 1) == {1: NOMINAL}
        on.close(1)
        assert on.admitted() == [ASKS]
        on.pend(make_workload(51, queue="a"))
        assert put_out(on.plan()) == {4: NOMINAL}

    def test_what_is_not_lent_is_not_reclaimed(self) -> None:
        """b keeps its 4, runs them and 2 of lab's 4, of which a borrows 2: a's 2 more would have to be b's by shares, and are not
        a's own: its share 4/4 is larger than b's 2/4.
        """
        on = lab(leaf("a", quota(0)), leaf("b", quota(4, None, 0)), common=4)
        on.run(1, "b", 6)
        on.run(2, "a", 2)
        assert asks(on, "a", 2) == {}

    def test_trees_do_not_take_from_each_other(self) -> None:
        on = contested(Tenant("lab"), leaf("a", quota(4)), Tenant("org", quotas=(quota(8),)), leaf("b", quota(0), parent="org"))
        on.run(1, "b", 8)
        on.run(2, "a", 4)
        assert asks(on, "a", 4) == {}


class TestShares:
    """lab has 8 for a and b, which have nothing of their own."""

    def both(self, *sizes: int, **changes: Any) -> Stage:
        """b runs these."""
        on = lab(leaf("a", quota(0), **changes), leaf("b", quota(0)), common=8)
        for number, gpus in enumerate(sizes, 1):
            on.run(number, "b", gpus)
        return on

    def test_until_both_have_the_same(self) -> None:
        """a comes to 2/8 of b's 6/8, then to 4/8 of 4/8; with 6/8 it would have more than b has."""
        on = self.both(2, 2, 2, 2)
        assert asks(on, "a", 2) == {1: FINAL}
        on.close(1)
        assert on.admitted() == [ASKS]
        on.pend(make_workload(51, gpus=2, queue="a"))
        assert put_out(on.plan()) == {2: FINAL}
        on.close(2)
        assert on.admitted() == [51]
        on.pend(make_workload(52, gpus=2, queue="a"))
        assert put_out(on.plan()) == {}

    def test_a_run_larger_than_that_by_the_share_before_it_goes(self) -> None:
        """2/8 is more than the 0 that b would be left with, and less than the 8/8 that it has."""
        assert asks(self.both(8), "a", 2) == {1: INITIAL}

    def test_and_it_does_not_come_back_the_same_way(self) -> None:
        on = self.both(8)
        assert asks(on, "a", 2) == {1: INITIAL}
        on.close(1)
        on.pend(make_workload(1, gpus=8, queue="b", attempt=1))
        assert on.admitted() == [ASKS]
        assert put_out(on.plan(NOW + 1000)) == {}

    def test_equal_shares_are_not_traded(self) -> None:
        """4/8 would leave b with 4/8 - but b has 4/8: who is there stays."""
        on = lab(leaf("a", quota(0)), leaf("b", quota(0)), leaf("c", quota(0)), common=8)
        on.run(1, "b", 4)
        on.run(2, "c", 4)
        assert asks(on, "a", 4) == {}

    def test_who_would_have_less_even_then_goes_first(self) -> None:
        """Of b's 6 and 2: asked for 4, newP 4/8. Without run 2, b has 6/8: final. Then 6/8 without run 1 is 0: 4/8 < 6/8, initial.
        Run 1 alone is room enough, so run 2 stays.
        """
        on = lab(leaf("a", quota(0)), leaf("b", quota(0)), common=8)
        on.run(1, "b", 6)
        on.run(2, "b", 2)
        assert asks(on, "a", 4) == {1: INITIAL}

    def test_priority_does_not_matter_to_any(self) -> None:
        on = lab(leaf("a", quota(0)), leaf("b", quota(0)), common=8)
        on.run(1, "b", 4, class_name="urgent")
        on.run(2, "b", 4, class_name="urgent")
        assert asks(on, "a", 4, class_name="low") == {1: FINAL}

    def test_twice_the_weight_takes_twice_as_much(self) -> None:
        """a has weight 2: with 4, 2/8; with 6, 3/8 - and b would have 2/8 left, but has 4/8."""
        on = self.both(2, 2, 2, 2, weight=Fraction(2))
        for number in (50, 51):
            on.pend(make_workload(number, gpus=2, queue="a"))
            [victim] = put_out(on.plan())
            on.close(victim)
            assert on.admitted() == [number]
        on.pend(make_workload(52, gpus=2, queue="a"))
        assert list(put_out(on.plan()).values()) == [INITIAL]

    def test_shares_are_compared_where_the_two_ways_part(self) -> None:
        """org 8; wing with a and c, and b. c runs 4, b 4. a asks for 2: wing would have 6/8, b has 4/8. Of c, its sibling, it may
        take: 2/8 against the 4/8 that c has, and 0 without it.
        """
        on = contested(
            Tenant("org", quotas=(quota(8),)),
            Tenant("wing", "org"),
            leaf("a", quota(0), parent="wing"),
            leaf("c", quota(0), parent="wing"),
            leaf("b", quota(0), parent="org"),
        )
        on.run(1, "c", 4)
        on.run(2, "b", 4)
        assert asks(on, "a", 2) == {1: INITIAL}

    def test_a_wing_is_safe_as_long_as_it_borrows_nothing(self) -> None:
        """wing has 4, its c runs them and nothing beyond. b 4 of org's 4. a, beside wing, has nothing: b's is what it may take."""
        on = contested(
            Tenant("org", quotas=(quota(4),)),
            Tenant("wing", "org", quotas=(quota(4),)),
            leaf("c", quota(0), parent="wing"),
            leaf("b", quota(0), parent="org"),
            leaf("a", quota(0), parent="org"),
            classes=CLASSES,
        )
        on.run(1, "c", 4, class_name="low")
        on.run(2, "b", 2)
        on.run(3, "b", 2)
        assert asks(on, "a", 2, class_name="high") == {2: FINAL}


class TestFlavors:
    FLAVORS = (Flavor("h100", {"gpu": "h100"}), Flavor("a100", {"gpu": "a100"}))

    def two(self, **changes: Any) -> Stage:
        """Tenant b has 4 of each of two flavors, and runs 4 of each: run 1 on h100, run 2 on a100."""
        record = Tenant("b", quotas=make_quotas({"h100": {GPU: 4}, "a100": {GPU: 4}}), **changes)
        on = contested(record, classes=CLASSES, flavors=self.FLAVORS)
        for number, flavor in ((1, "h100"), (2, "a100")):
            on.pend(make_workload(number, queue="b", class_name="low", pod_sets=self.on(flavor, 4)))
        assert on.admitted() == [1, 2]
        return on

    def on(self, flavor: str, gpus: int) -> tuple[PodSet, ...]:
        return (PodSet("main", 1, {GPU: gpus}, node_selector={"gpu": flavor}),)

    def test_who_holds_another_flavor_stays(self) -> None:
        on = self.two()
        on.pend(make_workload(ASKS, queue="b", pod_sets=self.on("a100", 2), class_name="high"))
        assert put_out(on.plan()) == {2: WITHIN}

    def test_a_flavor_with_room_is_preferred_to_putting_somebody_out(self) -> None:
        on = self.two()
        on.close(2)
        on.pend(make_workload(ASKS, gpus=4, queue="b", class_name="high"))
        plan = on.plan()
        assert [each.flavors["main"][GPU] for each in plan.admissions] == ["a100"]
        assert plan.evictions == ()

    def test_the_claim_names_the_flavor_that_it_will_have(self) -> None:
        on = self.two()
        on.pend(make_workload(ASKS, queue="b", pod_sets=self.on("a100", 2), class_name="high"))
        [claim] = on.plan().claims
        assert [(each.flavor, each.resource, each.amount) for each in claim.allocations] == [("a100", GPU, 2)]


class TestSeveralAtOnce:
    def test_two_who_preempt_in_one_plan_do_not_share_those_they_put_out(self) -> None:
        on = alone()
        on.pend(*(make_workload(number, gpus=2, queue="b") for number in (1, 2, 3, 4)))
        assert len(on.admitted()) == 4
        on.pend(*(make_workload(number, gpus=4, queue="b", class_name="high") for number in (50, 51)))
        plan = on.plan()
        assert claimed(plan) == {50: (1, 2), 51: (3, 4)}
        assert len(put_out(plan)) == 4

    def test_of_two_tenants(self) -> None:
        """lab has 4 for all, b runs 8 of which its own are 2; a and c take back 2 each."""
        on = lab(leaf("a", quota(2)), leaf("b", quota(2)), leaf("c", quota(2)), common=2)
        for number in (1, 2, 3, 4):
            on.run(number, "b", 2)
        on.pend(make_workload(50, gpus=2, queue="a"), make_workload(51, gpus=2, queue="c"))
        plan = on.plan()
        assert claimed(plan) == {50: (1,), 51: (2,)}
        assert put_out(plan) == {1: NOMINAL, 2: NOMINAL}

    def test_who_fits_is_let_in_in_the_same_plan(self) -> None:
        on = alone(9)
        on.run(1, "b", 8)
        on.pend(make_workload(50, gpus=8, queue="b", class_name="high"), make_workload(51, queue="b", class_name="urgent"))
        plan = on.plan()
        assert [each.workload.id for each in plan.admissions] == [51]
        assert put_out(plan) == {1: WITHIN}

    def test_through_several_queues_of_a_tenant(self) -> None:
        record = make_tenant("b", {"h100": {GPU: 4}})
        on = contested(record, queues=[make_queue("x", "b"), make_queue("y", "b")], classes=CLASSES)
        on.run(1, "x", 4)
        assert asks(on, "y", 2, class_name="high") == {1: WITHIN}
