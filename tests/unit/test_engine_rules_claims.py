"""Worked examples of claims, limits, drains and sizes, with figures (design 5, promise 5 and decided points).

A claim is what a workload will hold once those have left who make room for it. As agreed it counts already and they count no more;
actually it is the other way round, and what is let in has to fit both.
"""

from fractions import Fraction
from typing import Any

import pytest

from aiqueue.admission.engine import ClaimHeld, ConfigurationChanged, Engine, RunOpened, WorkloadPending
from aiqueue.queue.records import Allocation, Claim, Class, PodSet, Tenant
from aiqueue.queue.words import ObjectState, PreemptionRule, Queueing, Reason, Reclaim, RunOutcome
from fix_builders import GPU, at, make_queue, make_run, make_tenant, make_workload
from fix_rules import NOW, Stage, claimed, configured, contested, leaf, put_out, quota

WITHIN, NOMINAL, _, _ = PreemptionRule
ASKS = 50
CLASSES = [
    Class("low", -10),
    Class("high", 10),
    Class("urgent", 20, grace_period_seconds=5),
    Class("brief", -10, max_runtime_seconds=100, grace_period_seconds=20),
    Class("spent", -10, max_total_runtime_seconds=100, grace_period_seconds=20),
    Class("sudden", -10, max_runtime_seconds=10, min_runtime_seconds=500, grace_period_seconds=60),
]


def alone(gpus: int = 8, **changes: Any) -> Stage:
    """Tenant b, alone."""
    return contested(make_tenant("b", {"h100": {GPU: gpus}}, **changes), classes=CLASSES)


def claiming(gpus: int = 6, *, runs: tuple[int, ...] = (4, 4), class_name: str = "high", **changes: Any) -> Stage:
    """b has 8 and runs 1 and 2, of 4 GPUs each; workload 50 claims so many."""
    on = alone(**changes)
    for number, amount in enumerate(runs, 1):
        on.run(number, "b", amount)
    on.pend(make_workload(ASKS, gpus=gpus, queue="b", class_name=class_name))
    assert claimed(on.plan()).keys() == {ASKS}
    return on


class TestWhatAClaimIs:
    def test_it_says_what_it_will_hold_and_for_whom_it_waits(self) -> None:
        on = alone()
        on.run(1, "b", 4)
        on.run(2, "b", 4)
        on.pend(make_workload(ASKS, pods=3, gpus=2, queue="b", class_name="high"))
        plan = on.plan(NOW + 5)
        allocations = (Allocation("main", "h100", GPU, 6),)
        assert plan.claims == (Claim(ASKS, "b", allocations, {"main": 3}, (1, 2), at(NOW + 5)),)
        assert on.engine.claims() == {ASKS: plan.claims[0]}
        assert on.reasons(ASKS) == [Reason.WAITING_FOR_VICTIMS]
        assert on.verdict(ASKS).workload_id == ASKS

    def test_it_is_no_usage_until_it_is_let_in(self) -> None:
        assert claiming().engine.usage() == {("b", "h100", GPU): 8}

    def test_it_is_let_in_when_all_have_left(self) -> None:
        on = claiming()
        on.close(1)
        assert on.admitted(NOW + 1) == []
        on.close(2)
        assert on.admitted(NOW + 2) == [ASKS]
        assert on.engine.claims() == {}

    def test_one_who_ends_by_himself_leaves_his_room_to_it_at_once(self) -> None:
        on = claiming(4)
        on.close(1)
        assert on.admitted(NOW + 1) == [ASKS]

    def test_other_room_will_do_as_well(self) -> None:
        """It claims 4 and waits for run 1; run 2, which nobody told to end, ends first. Run 1 goes on leaving."""
        on = claiming(4)
        [run_id] = on.engine.claims()[ASKS].run_ids
        on.close(3 - run_id)
        assert on.admitted(NOW + 1) == [ASKS]
        assert on.plan(NOW + 2).evictions == ()

    def test_nobody_is_told_twice(self) -> None:
        on = claiming()
        for seconds in (1, 20, 1000):
            assert on.plan(NOW + seconds).evictions == ()

    def test_a_plan_that_is_dropped_claims_nothing(self) -> None:
        on = alone()
        on.run(1, "b", 8)
        on.pend(make_workload(ASKS, gpus=8, queue="b", class_name="high"))
        first = on.engine.decide(at(NOW))
        assert on.engine.decide(at(NOW)) == first
        assert on.engine.claims() == {}
        on.gone(ASKS)
        plan = on.plan()
        assert (plan.evictions, plan.claims, plan.withdrawn_claims) == ((), (), ())


class TestWhoseRoomItIs:
    def test_nobody_slips_into_what_was_vacated(self) -> None:
        """Run 1 of 4 has left, and 6 are claimed: workload 60 asks for 2."""
        on = claiming()
        on.close(1)
        on.pend(make_workload(60, gpus=2, queue="b", created=1))
        assert on.admitted(NOW + 1) == [60]  # 8 - 6 = 2 are nobody's
        on.pend(make_workload(61, queue="b", created=2))
        assert on.admitted(NOW + 1) == []
        assert on.reasons(61) == [Reason.BEHIND_CLAIM]

    def test_nor_into_what_was_free_and_is_counted_on(self) -> None:
        """2 of 8 are free; 50 claims 4 of them and run 1's."""
        on = claiming(4, runs=(2, 2, 2))
        on.pend(make_workload(60, gpus=2, queue="b", created=1))
        assert on.admitted() == []
        assert on.reasons(60) == [Reason.BEHIND_CLAIM]

    def test_what_is_not_vacated_yet_is_nobodys(self) -> None:
        """As agreed 50 has 6 of 8; actually both runs are there: nothing of the 2 that will be over may be had yet."""
        on = claiming()
        on.pend(make_workload(60, gpus=2, queue="b"))
        assert on.admitted() == []

    def test_other_tenants_do_not_slip_in_either(self) -> None:
        on = contested(Tenant("lab"), leaf("a", quota(4)), leaf("b", quota(4)), leaf("c", quota(0)), classes=CLASSES)
        on.run(1, "b", 4)
        on.run(2, "b", 4)
        on.pend(make_workload(ASKS, gpus=4, queue="a"))
        assert put_out(on.plan()) == {1: NOMINAL}
        on.pend(make_workload(60, queue="c", class_name="urgent", created=1))
        on.close(1)
        assert on.admitted() == [ASKS]
        assert on.reasons(60) == [Reason.WAITING_FOR_QUOTA]

    def test_a_strict_tenant_keeps_back_who_comes_after_it(self) -> None:
        on = claiming(queueing=Queueing.STRICT)
        on.close(1)
        on.pend(make_workload(60, gpus=1, queue="b"))
        assert on.admitted() == []
        assert on.reasons(60) == [Reason.BEHIND_HEAD]

    def test_a_higher_priority_does_not_take_it_over(self) -> None:
        """51 waits until 50 is in, and then has it put out."""
        on = claiming()
        on.pend(make_workload(51, gpus=8, queue="b", class_name="urgent"))
        plan = on.plan(NOW + 1)
        assert (claimed(plan), plan.withdrawn_claims, plan.evictions) == ({}, (), ())
        on.close(1, 2)
        assert on.admitted(NOW + 2) == [ASKS]
        assert on.engine.claims().keys() == {51}

    def test_its_equal_does_not(self) -> None:
        on = claiming(8)
        on.pend(make_workload(51, gpus=8, queue="b", class_name="high", created=1))
        assert claimed(on.plan(NOW + 1)) == {}

    def test_nor_is_it_kept_for_a_strict_head_that_comes_later(self) -> None:
        """a claims 9 of 9. b, Strict, has 4 of these as its own, and takes nothing back: what it keeps for its head is not a's."""
        strict = leaf("b", quota(4), queueing=Queueing.STRICT, reclaim=Reclaim.NEVER)
        on = contested(Tenant("lab"), leaf("a", quota(5), weight=Fraction(3)), strict, classes=CLASSES)
        on.run(1, "b", 6)
        on.pend(make_workload(ASKS, gpus=9, queue="a"))
        assert claimed(on.plan()) == {ASKS: (1,)}
        on.pend(make_workload(60, gpus=3, queue="b", class_name="high"))
        for _ in range(2):
            plan = on.plan()
            assert (plan.claims, plan.withdrawn_claims) == ((), ())
        on.close(1)
        assert on.admitted() == [ASKS]


class TestItsEnd:
    @pytest.mark.parametrize("how", ["gone", "held", "other"])
    def test_it_ends_with_what_was_asked(self, how: str) -> None:
        """Gone, held, or asking for something else. Those who were told leave all the same, and their room is free for all."""
        on = claiming(8)
        if how == "gone":
            on.gone(ASKS)
        else:
            changes: dict[str, Any] = {"held_by_owner": True, "gpus": 8} if how == "held" else {"gpus": 9}
            on.pend(make_workload(ASKS, queue="b", class_name="high", **changes))
        plan = on.plan(NOW + 1)
        assert plan.withdrawn_claims == (ASKS,)
        assert plan.evictions == ()
        assert on.engine.claims() == {}
        on.close(1)
        on.pend(make_workload(60, gpus=4, queue="b", class_name="low"))
        assert on.admitted(NOW + 2) == [60]

    def test_it_stands_while_nothing_of_it_changed(self) -> None:
        on = claiming(8)
        on.pend(make_workload(ASKS, gpus=8, queue="b", class_name="high", user="bob"))
        plan = on.plan(NOW + 1)
        assert (plan.withdrawn_claims, plan.claims) == ((), ())
        assert on.engine.claims().keys() == {ASKS}

    def test_it_ends_when_it_can_no_longer_be_met(self) -> None:
        """b is left with 5, and 50 claims 6."""
        on = claiming()
        on.configure(make_tenant("b", {"h100": {GPU: 5}}))
        assert on.plan(NOW + 1).withdrawn_claims == (ASKS,)

    def test_where_what_is_agreed_is_too_much_it_is_made_anew(self) -> None:
        """50 claims 4 and run 2 keeps 4: 8 of the 7 that b is left with. So run 2 has to go as well."""
        on = claiming(4)
        on.configure(make_tenant("b", {"h100": {GPU: 7}}))
        plan = on.plan(NOW + 1)
        assert put_out(plan) == {2: WITHIN}
        assert claimed(plan) == {ASKS: (1, 2)}

    def test_it_ends_when_its_tenant_is_closed(self) -> None:
        on = claiming()
        on.configure(make_tenant("b", {"h100": {GPU: 8}}, state=ObjectState.HOLD))
        assert on.plan(NOW + 1).withdrawn_claims == (ASKS,)

    def test_room_of_who_was_told_for_it_is_for_whoever_comes_first_by_then(self) -> None:
        """Run 1 and 2 leave anyway: 51, of no priority over them, claims nothing, and nobody is told anything."""
        on = claiming(8)
        on.gone(ASKS)
        on.pend(make_workload(51, gpus=8, queue="b", class_name="low"))
        plan = on.plan(NOW + 1)
        assert (claimed(plan), plan.evictions) == ({}, ())
        on.close(1, 2)
        assert on.admitted(NOW + 2) == [51]


class TestAfterARestart:
    def rebuilt(self, *claims: Claim) -> Stage:
        """Run 1 of 8 has been told to end; 50 waits."""
        on = alone()
        on.engine = Engine()
        on.engine.observe(ConfigurationChanged(on.configuration))
        run = make_run(1, make_workload(1, gpus=8, queue="b"), gpus=8, tenant="b", evict_at=at(NOW + 30))
        on.engine.observe(RunOpened(run))
        on.engine.observe(WorkloadPending(make_workload(ASKS, gpus=8, queue="b", class_name="high")))
        for claim in claims:
            on.engine.observe(ClaimHeld(claim))
        return on

    def test_a_claim_of_the_ledger_stands(self) -> None:
        claim = Claim(ASKS, "b", (Allocation("main", "h100", GPU, 8),), {"main": 1}, (1,), at(NOW - 1))
        on = self.rebuilt(claim)
        plan = on.plan()
        assert (plan.evictions, plan.claims, plan.withdrawn_claims) == ((), (), ())
        assert on.reasons(ASKS) == [Reason.WAITING_FOR_VICTIMS]
        on.close(1)
        assert on.admitted(NOW + 1) == [ASKS]

    def test_one_that_means_nothing_any_more_is_withdrawn(self) -> None:
        claim = Claim(77, "b", (Allocation("main", "h100", GPU, 8),), {"main": 1}, (1,), at(NOW - 1))
        on = self.rebuilt(claim)
        plan = on.plan()
        assert plan.withdrawn_claims == (77,)
        assert (claimed(plan), plan.evictions) == ({}, ())  # run 1 leaves anyway, and nobody else is put out

    def test_one_whose_runs_have_all_left_is_let_in(self) -> None:
        claim = Claim(ASKS, "b", (Allocation("main", "h100", GPU, 8),), {"main": 1}, (1, 9), at(NOW - 1))
        on = self.rebuilt(claim)
        on.close(1)
        assert on.admitted() == [ASKS]


class TestLimits:
    @pytest.mark.parametrize(
        ("class_name", "changes", "told", "ends"),
        [
            ("brief", {}, 80, 100),  # a grace of 20 before the end
            ("brief", {"max_runtime_seconds": 50}, 30, 50),  # the lesser of both
            ("brief", {"max_runtime_seconds": 500}, 80, 100),
            ("low", {"max_runtime_seconds": 50}, 20, 50),
            ("low", {"max_runtime_seconds": 10}, 0, 10),  # shorter than its grace of 30
            ("spent", {"ran_seconds": 40}, 40, 60),  # 100 in all, 40 of which its earlier runs had
            ("sudden", {}, 0, 10),  # whatever minimal runtime it has
        ],
    )
    def test_it_is_told_its_grace_before(self, class_name: str, changes: dict[str, Any], told: int, ends: int) -> None:
        on = alone()
        on.pend(make_workload(1, gpus=4, queue="b", class_name=class_name, **changes))
        plan = on.plan(NOW)
        assert [each.workload.id for each in plan.admissions] == [1]
        assert plan.wake_at == at(NOW + told)
        if told:
            assert on.plan(NOW + told - 0.000001).evictions == ()
        [eviction] = on.plan(NOW + told).evictions
        assert (eviction.outcome, eviction.evict_at) == (RunOutcome.EXPIRED, at(NOW + ends))
        assert (eviction.preempted_by, eviction.rule) == (None, None)
        assert on.plan(NOW + told + 1).evictions == ()

    def test_who_is_leaving_anyway_is_not_told(self) -> None:
        on = alone()
        on.run(1, "b", 8, class_name="brief")
        on.pend(make_workload(ASKS, gpus=8, queue="b", class_name="high"))
        assert put_out(on.plan(NOW + 70)) == {1: WITHIN}
        assert on.plan(NOW + 80).evictions == ()

    def test_its_room_is_claimed_by_whoever_waits(self) -> None:
        """Of no priority over it, and it need not be put out."""
        on = alone()
        on.run(1, "b", 8, class_name="brief")
        on.pend(make_workload(ASKS, gpus=8, queue="b", class_name="low"))
        assert on.plan(NOW + 1).claims == ()
        plan = on.plan(NOW + 80)
        assert claimed(plan) == {ASKS: (1,)}
        assert [each.outcome for each in plan.evictions] == [RunOutcome.EXPIRED]

    def test_who_leaves_anyway_is_taken_before_anybody_is_put_out(self) -> None:
        on = alone()
        on.run(1, "b", 4, class_name="brief")
        on.run(2, "b", 4, class_name="low")
        on.plan(NOW + 80)
        on.pend(make_workload(ASKS, gpus=4, queue="b", class_name="high"))
        plan = on.plan(NOW + 81)
        assert claimed(plan) == {ASKS: (1,)}
        assert plan.evictions == ()


class TestDrain:
    def test_a_drained_queue_makes_room_for_another(self) -> None:
        queues = [make_queue("x", "b"), make_queue("y", "b")]
        on = contested(make_tenant("b", {"h100": {GPU: 8}}), queues=queues, classes=CLASSES)
        on.run(1, "x", 8, class_name="high")
        on.pend(make_workload(ASKS, gpus=8, queue="y"))
        assert on.plan().claims == ()
        drained = [make_queue("x", "b", state=ObjectState.DRAIN), queues[1]]
        on.tell(configured(on.configuration.tenants.values(), drained, classes=CLASSES, revision=2))
        plan = on.plan(NOW + 1)
        [eviction] = plan.evictions
        assert (eviction.outcome, eviction.evict_at, eviction.preempted_by) == (RunOutcome.DRAINED, at(NOW + 31), None)
        assert claimed(plan) == {ASKS: (1,)}

    def test_nobody_is_put_out_for_who_is_closed(self) -> None:
        on = alone()
        on.run(1, "b", 8)
        on.configure(make_tenant("b", {"h100": {GPU: 8}}, state=ObjectState.HOLD))
        on.pend(make_workload(ASKS, gpus=8, queue="b", class_name="high"))
        assert on.plan(NOW + 1).evictions == ()

    def test_lowering_a_quota_puts_nobody_out_by_itself(self) -> None:
        """b runs 8 and is left with 2: nothing happens. Of lab's 8, a has 6 now, and takes back 4 when it asks for them."""
        on = contested(Tenant("lab"), leaf("a", quota(0)), leaf("b", quota(8)), classes=CLASSES)
        on.run(1, "b", 4)
        on.run(2, "b", 4)
        on.configure(leaf("a", quota(6)), leaf("b", quota(2)))
        assert on.plan(NOW + 1).evictions == ()
        on.pend(make_workload(ASKS, gpus=4, queue="a"))
        assert put_out(on.plan(NOW + 2)) == {1: NOMINAL}


class TestPartialSize:
    def elastic(self, count: int, least: int, gpus: int = 1) -> tuple[PodSet, ...]:
        return (PodSet("main", count, {GPU: gpus}, least),)

    @pytest.mark.parametrize(("free", "pods"), [(8, 6), (6, 6), (5, 5), (2, 2)])
    def test_in_full_if_that_fits_else_as_large_as_fits(self, free: int, pods: int) -> None:
        on = alone()
        if free < 8:
            on.run(1, "b", 8 - free, class_name="low")
        on.pend(make_workload(ASKS, queue="b", pod_sets=self.elastic(6, 2), class_name="high"))
        plan = on.plan()
        assert [each.counts for each in plan.admissions] == [{"main": pods}]
        assert [each.amount for each in plan.admissions[0].allocations] == [pods]
        assert plan.evictions == ()  # nobody is put out so that it be larger

    def test_others_make_room_for_its_least_and_it_takes_all_that_there_is_then(self) -> None:
        """1 of 8 is free, it makes do with 2 of 6 pods: the run of 4 goes, though one of 3 is there, and then 5 are free."""
        on = alone()
        on.run(1, "b", 3)
        on.run(2, "b", 4, class_name="low")
        on.pend(make_workload(ASKS, queue="b", pod_sets=self.elastic(6, 2), class_name="high"))
        plan = on.plan()
        assert put_out(plan) == {2: WITHIN}
        assert [claim.counts for claim in plan.claims] == [{"main": 2}]
        on.close(2)
        assert [each.counts for each in on.plan(NOW + 1).admissions] == [{"main": 5}]

    def test_it_is_let_in_larger_than_it_claimed_where_there_is_more_by_then(self) -> None:
        on = alone()
        on.run(1, "b", 3)
        on.run(2, "b", 4, class_name="low")
        on.pend(make_workload(ASKS, queue="b", pod_sets=self.elastic(6, 2), class_name="high"))
        on.plan()
        on.close(1, 2)
        assert [each.counts for each in on.plan(NOW + 1).admissions] == [{"main": 6}]

    def test_at_its_full_size_above_the_ceiling_it_is_let_in_at_the_largest_that_is_not(self) -> None:
        on = alone()
        on.pend(make_workload(ASKS, queue="b", pod_sets=self.elastic(20, 2)))
        assert [each.counts for each in on.plan().admissions] == [{"main": 8}]

    def test_pod_sets_shrink_together(self) -> None:
        """last = (4 - 2) + (8 - 2) = 8. At step s: 4 - floor(2 s / 8) and 8 - floor(6 s / 8). 9 fit at s = 4: 3 and 5 are 8;
        at s = 3, 4 and 6 are 10.
        """
        on = alone(9)
        sets = (PodSet("one", 4, {GPU: 1}, 2), PodSet("two", 8, {GPU: 1}, 2))
        on.pend(make_workload(ASKS, queue="b", pod_sets=sets))
        assert [each.counts for each in on.plan().admissions] == [{"one": 3, "two": 5}]


def test_reclaim_never_still_lets_room_that_comes_be_claimed() -> None:
    """a may put out nobody; b's run leaves anyway."""
    on = contested(Tenant("lab"), leaf("a", quota(4), reclaim=Reclaim.NEVER), leaf("b", quota(4)), classes=CLASSES)
    on.run(1, "b", 8, class_name="brief")
    on.pend(make_workload(ASKS, gpus=4, queue="a"))
    assert on.plan(NOW + 1).claims == ()
    assert claimed(on.plan(NOW + 80)) == {ASKS: (1,)}
