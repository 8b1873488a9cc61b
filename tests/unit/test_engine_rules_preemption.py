"""Worked examples of who has to make room for whom, by which right and until when, with figures: in its tenant, and in general.

Within its tenant a workload puts out lower priorities or, where that is the policy, also what is as high and younger. Who is first:
lower priority, less work lost (time since the start or the last checkpoint, times the scarcest resource asked for), later opened,
id. From other tenants: `test_engine_rules_reclaim`.
"""

from typing import Any

import pytest

from aiqueue.queue.records import Class, Flavor, PodSet, Tenant
from aiqueue.queue.words import ObjectState, PreemptionRule, Reclaim, RunOutcome, WithinTenant
from fix_builders import GPU, at, make_queue, make_quotas, make_tenant, make_workload
from fix_preempting import ASKS, CLASSES, NOMINAL, WITHIN, alone, asks, lab
from fix_rules import NOW, Stage, claimed, contested, leaf, put_out, quota


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
