"""Who is admitted: worked examples, with figures."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from fractions import Fraction

import pytest

from aiqueue.admission.engine import (
    ConfigurationChanged,
    Engine,
    Plan,
    PlanNotCurrent,
    RunClosed,
    RunOpened,
    WorkloadGone,
    WorkloadPending,
)
from aiqueue.queue.errors import NotFound
from aiqueue.queue.records import Class, Configuration, PodSet, Quota, Tenant, Workload
from aiqueue.queue.words import Fungibility, ObjectState, OrderKey, Queueing, Reason, RunOutcome
from fix_builders import GPU, START, at, make_configuration, make_queue, make_run, make_tenant, make_workload
from fix_engine_lasting import lasting

NOW = at(100)


def engine_of(configuration: Configuration, workloads: Sequence[Workload] = (), **bounds: int) -> Engine:
    engine = Engine(**bounds, tells=True)
    engine.observe(ConfigurationChanged(lasting(configuration)))
    for workload in workloads:
        engine.observe(WorkloadPending(workload))
    return engine


def names(plan: Plan) -> list[str]:
    return [admission.workload.name for admission in plan.admissions]


def settle(engine: Engine, now: datetime = NOW) -> Plan:
    """Decide and confirm; the run of workload 7's second attempt is 2007."""
    plan = engine.decide(now)
    engine.confirm(plan, [1000 * admission.attempt + admission.workload.id for admission in plan.admissions])
    return plan


def reason(engine: Engine, workload_id: int) -> Reason:
    verdict = engine.verdict(workload_id)
    assert verdict is not None
    return verdict.reason


def test_many_are_admitted_in_one_plan_and_each_whole() -> None:
    engine = engine_of(
        make_configuration(), [make_workload(1, gpus=8, pods=2), make_workload(2, gpus=24), make_workload(3, gpus=16)]
    )
    plan = settle(engine)
    assert names(plan) == ["job-1", "job-3"]
    assert plan.admissions[0].counts == {"main": 2}
    assert plan.admissions[0].flavors == {"main": {GPU: "h100"}}
    assert plan.admissions[0].attempt == 1
    assert engine.usage() == {("research", "h100", GPU): 32}
    assert reason(engine, 2) is Reason.WAITING_FOR_QUOTA


def test_an_attempt_is_one_more_than_the_last() -> None:
    engine = engine_of(make_configuration(), [make_workload(1, attempt=3)])
    assert settle(engine).admissions[0].attempt == 4


def test_several_of_one_shape_are_admitted_in_one_plan() -> None:
    engine = engine_of(make_configuration(), [make_workload(number, gpus=8) for number in range(1, 7)])
    assert names(settle(engine)) == ["job-1", "job-2", "job-3", "job-4"]
    assert engine.position(5) == (1, 2)


def test_the_next_flavor_is_taken_when_the_first_is_full() -> None:
    tenant = make_tenant(quotas={"h100": {GPU: 8}, "a100": {GPU: 16}})
    engine = engine_of(make_configuration([tenant]), [make_workload(number, gpus=8) for number in (1, 2, 3, 4)])
    plan = settle(engine)
    assert [admission.flavors["main"][GPU] for admission in plan.admissions] == ["h100", "a100", "a100"]


def test_a_pod_set_takes_all_resources_of_a_group_from_one_flavor() -> None:
    tenant = make_tenant(quotas={"h100": {GPU: 8, "cpu": 4000}, "a100": {GPU: 8, "cpu": 64000}})
    engine = engine_of(make_configuration([tenant]), [make_workload(1, requests={GPU: 4, "cpu": 8000})])
    assert settle(engine).admissions[0].flavors == {"main": {"cpu": "a100", GPU: "a100"}}


def test_groups_are_taken_from_different_flavors() -> None:
    tenant = make_tenant(quotas={"h100": {GPU: 8}, "disk": {"ephemeral-storage": 1024}})
    engine = engine_of(make_configuration([tenant]), [make_workload(1, requests={GPU: 4, "ephemeral-storage": 512})])
    assert settle(engine).admissions[0].flavors == {"main": {"ephemeral-storage": "disk", GPU: "h100"}}


def test_pod_sets_add_up_on_a_flavor_and_an_earlier_one_makes_room_for_a_later() -> None:
    """Leader and workers each fit h100, but not both; the workers can only have h100, so the leader goes to a100."""
    tenant = make_tenant(quotas={"h100": {GPU: 8, "cpu": 8000}, "a100": {GPU: 2, "cpu": 8000}})
    sets = (PodSet("leader", 1, {GPU: 1}), PodSet("workers", 4, {GPU: 2}))
    engine = engine_of(make_configuration([tenant]), [make_workload(1, pod_sets=sets)])
    assert settle(engine).admissions[0].flavors == {"leader": {GPU: "a100"}, "workers": {GPU: "h100"}}


def test_pods_are_counted_where_they_are_listed() -> None:
    tenant = make_tenant(quotas={"h100": {GPU: 32, "pods": 4}})
    engine = engine_of(make_configuration([tenant]), [make_workload(1, pods=3), make_workload(2, pods=2), make_workload(3)])
    assert names(settle(engine)) == ["job-1", "job-3"]


def test_cpu_is_limited_only_where_it_is_listed() -> None:
    engine = engine_of(make_configuration(), [make_workload(1, requests={GPU: 1, "cpu": 10**9})])
    plan = settle(engine)
    assert [each.resource for each in plan.admissions[0].allocations] == [GPU]


def test_a_request_of_nothing_is_admitted_without_allocations() -> None:
    engine = engine_of(make_configuration(), [make_workload(1, requests={})])
    assert settle(engine).admissions[0].allocations == ()
    assert engine.usage() == {}


def test_priority_comes_before_age_and_weight_0_last() -> None:
    configuration = make_configuration(
        [make_tenant(quotas={"h100": {GPU: 1}})],
        [make_queue(), make_queue("leftovers", weight=Fraction(0))],
        classes=[Class("low", -1), Class("high", 10)],
    )
    workloads = [
        make_workload(1, queue="leftovers", class_name="high"),
        make_workload(2, class_name="low"),
        make_workload(3),
        make_workload(4, class_name="high"),
    ]
    engine = engine_of(configuration, workloads)
    assert [engine.position(number) for number in (4, 3, 2, 1)] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert names(settle(engine)) == ["job-4"]


def test_an_order_without_priority_is_by_age() -> None:
    tenant = make_tenant(quotas={"h100": {GPU: 1}}, order=(OrderKey.SUBMITTED,))
    engine = engine_of(
        make_configuration([tenant], classes=[Class("high", 10)]), [make_workload(1), make_workload(2, class_name="high")]
    )
    assert names(settle(engine)) == ["job-1"]


def test_a_queues_default_class_decides_priority() -> None:
    configuration = make_configuration(
        [make_tenant(quotas={"h100": {GPU: 1}})],
        [make_queue(), make_queue("fast", default_class="high")],
        classes=[Class("high", 10)],
    )
    assert names(settle(engine_of(configuration, [make_workload(1), make_workload(2, queue="fast")]))) == ["job-2"]


def test_strict_stops_at_the_first_that_does_not_fit() -> None:
    engine = engine_of(
        make_configuration([make_tenant(queueing=Queueing.STRICT)]),
        [make_workload(1, gpus=20), make_workload(2, gpus=20), make_workload(3, gpus=1)],
    )
    assert names(settle(engine)) == ["job-1"]
    assert [reason(engine, number) for number in (2, 3)] == [Reason.WAITING_FOR_QUOTA, Reason.BEHIND_HEAD]


def test_strict_passes_over_what_can_never_fit_or_may_not_go() -> None:
    engine = engine_of(
        make_configuration([make_tenant(queueing=Queueing.STRICT)]),
        [
            make_workload(1, gpus=64),
            make_workload(2, held_by_owner=True),
            make_workload(3, not_before=at(500)),
            make_workload(4),
        ],
    )
    assert names(settle(engine)) == ["job-4"]


def test_a_higher_priority_goes_before_a_blocked_strict_head() -> None:
    configuration = make_configuration([make_tenant(queueing=Queueing.STRICT)], classes=[Class("high", 10)])
    engine = engine_of(configuration, [make_workload(1, gpus=20), make_workload(2, gpus=20), make_workload(3)])
    settle(engine)
    engine.observe(WorkloadPending(make_workload(9, gpus=4, class_name="high")))
    assert names(settle(engine)) == ["job-9"]
    assert reason(engine, 3) is Reason.BEHIND_HEAD


def test_room_goes_to_the_waiting_when_a_run_closes() -> None:
    engine = engine_of(make_configuration(), [make_workload(1, gpus=32), make_workload(2, gpus=32)])
    settle(engine)
    engine.observe(RunClosed(1001))
    assert names(settle(engine, at(101))) == ["job-2"]
    assert engine.usage() == {("research", "h100", GPU): 32}


def test_quota_borrowed_in_a_tree_and_the_guaranteed_part_is_not_lent() -> None:
    lab = Tenant("lab")
    research = make_tenant("research", (Quota("h100", GPU, 8, borrowing_limit=6),), parent="lab")
    serving = make_tenant("serving", (Quota("h100", GPU, 8, lending_limit=4),), parent="lab")
    configuration = make_configuration([lab, research, serving], [make_queue(), make_queue("serve", "serving")])
    engine = engine_of(configuration, [make_workload(number) for number in range(1, 20)])
    assert len(settle(engine).admissions) == 12  # 8 of its own and 4 of serving's, though it may borrow 6
    engine.observe(WorkloadPending(make_workload(50, gpus=4, queue="serve")))
    assert names(settle(engine)) == ["job-50"]


def test_who_need_not_borrow_goes_first() -> None:
    lab = Tenant("lab")
    tenants = [lab, make_tenant("a", {"h100": {GPU: 2}}, parent="lab"), make_tenant("b", {"h100": {GPU: 2}}, parent="lab")]
    configuration = make_configuration(tenants, [make_queue("a", "a"), make_queue("b", "b")])
    workloads = [make_workload(number, queue="a") for number in (1, 2, 3)] + [
        make_workload(number, queue="b") for number in (4, 5)
    ]
    assert names(settle(engine_of(configuration, workloads))) == ["job-1", "job-2", "job-4", "job-5"]


@pytest.mark.parametrize(
    ("fungibility", "flavor"), [(Fungibility.MAY_STOP_SEARCH, "h100"), (Fungibility.TRY_NEXT_FLAVOR, "a100")]
)
def test_a_flavor_that_must_be_borrowed_or_the_next(fungibility: Fungibility, flavor: str) -> None:
    lab = Tenant("lab", quotas=(Quota("h100", GPU, 8),))
    tenant = make_tenant(quotas={"h100": {GPU: 0}, "a100": {GPU: 8}}, parent="lab", when_can_borrow=fungibility)
    engine = engine_of(make_configuration([lab, tenant]), [make_workload(1)])
    assert settle(engine).admissions[0].flavors["main"][GPU] == flavor


def test_an_adopted_run_may_leave_usage_above_quota_and_nothing_is_added_to_it() -> None:
    engine = engine_of(make_configuration(), [make_workload(1, gpus=8), make_workload(2, gpus=1)])
    engine.observe(RunOpened(make_run(7, make_workload(1, gpus=8), gpus=40, adopted=True)))
    assert settle(engine).admissions == ()
    assert engine.verdict(1) is None
    assert engine.usage() == {("research", "h100", GPU): 40}
    engine.observe(RunClosed(7))
    assert engine.usage() == {}
    assert names(settle(engine)) == ["job-2"]


def test_usage_survives_configuration_and_counts_tenants_that_are_gone() -> None:
    configuration = make_configuration()
    engine = engine_of(configuration, [make_workload(1, gpus=20)])
    settle(engine)
    engine.observe(ConfigurationChanged(make_configuration([], [], revision=2)))
    assert engine.usage() == {("research", "h100", GPU): 20}
    engine.observe(ConfigurationChanged(replace(configuration, revision=3)))
    engine.observe(WorkloadPending(make_workload(2, gpus=20)))
    assert settle(engine).admissions == ()
    engine.observe(RunClosed(1001))
    assert names(settle(engine)) == ["job-2"]


def test_a_configuration_that_only_counts_up_changes_nothing_but_the_revision() -> None:
    engine = engine_of(make_configuration(), [make_workload(1, gpus=32), make_workload(2)])
    settle(engine)
    engine.observe(ConfigurationChanged(make_configuration(revision=2)))
    plan = engine.decide(NOW)
    assert plan.empty
    assert plan.config_revision == 2


def test_more_quota_lets_in_what_exceeded_the_ceiling() -> None:
    engine = engine_of(make_configuration(), [make_workload(1, gpus=64)])
    assert settle(engine).admissions == ()
    engine.observe(ConfigurationChanged(make_configuration([make_tenant(quotas={"h100": {GPU: 64}})], revision=2)))
    assert names(settle(engine)) == ["job-1"]


def test_a_full_plan_is_cut_and_the_rest_follows() -> None:
    engine = engine_of(make_configuration(), [make_workload(number) for number in range(1, 6)], max_admissions=2)
    first = settle(engine)
    assert names(first) == ["job-1", "job-2"]
    assert first.wake_at == NOW
    assert reason(engine, 3) is Reason.PENDING_EVALUATION
    assert names(settle(engine)) == ["job-3", "job-4"]
    last = settle(engine)
    assert names(last) == ["job-5"]
    assert last.wake_at is None


def test_bounds_on_trials_and_verdicts_are_caught_up_by_deciding_again_though_nothing_is_confirmed() -> None:
    workloads = [make_workload(number, gpus=number) for number in range(1, 30)]
    engine = engine_of(make_configuration([make_tenant(quotas={"h100": {GPU: 32}})]), max_trials=2, max_decisions=3)
    engine.observe(RunOpened(make_run(7, make_workload(99), gpus=32)))
    for workload in workloads:
        engine.observe(WorkloadPending(workload))
    for _ in range(30):
        plan = engine.decide(NOW)
        assert len(plan.decisions) <= 3
        if plan.empty:
            continue
        engine.confirm(plan, [])
        if plan.wake_at != NOW:
            break
    assert plan.wake_at != NOW
    assert {reason(engine, workload.id) for workload in workloads} == {Reason.WAITING_FOR_QUOTA}


def test_a_workload_whose_run_is_still_open_waits_until_it_is_closed() -> None:
    engine = engine_of(make_configuration(), [make_workload(1)])
    settle(engine)
    engine.observe(WorkloadPending(make_workload(1, attempt=1)))
    assert settle(engine).admissions == ()
    assert engine.verdict(1) is None
    engine.observe(RunClosed(1001))
    plan = settle(engine)
    assert (names(plan), plan.admissions[0].attempt) == (["job-1"], 2)


def test_a_workload_that_is_gone_is_not_admitted_and_unknown_ids_are_ignored() -> None:
    engine = engine_of(make_configuration(), [make_workload(1)])
    for event in (WorkloadGone(1), WorkloadGone(77), RunClosed(77)):
        engine.observe(event)
    assert settle(engine).empty
    with pytest.raises(NotFound, match="workload 1 is not pending"):
        engine.position(1)


def test_a_replaced_workload_is_decided_as_it_is_now() -> None:
    engine = engine_of(make_configuration(), [make_workload(1, gpus=64)])
    settle(engine)
    engine.observe(WorkloadPending(make_workload(1, gpus=8)))
    plan = settle(engine)
    assert plan.admissions[0].allocations[0].amount == 8
    assert len(plan.withdrawn_shapes) == 1


class TestDrain:
    def draining(self, **changes: ObjectState) -> Engine:
        tenant = make_tenant(state=changes.get("tenant", ObjectState.ACTIVE))
        queue = make_queue(default_class="slow", state=changes.get("queue", ObjectState.ACTIVE))
        engine = engine_of(make_configuration([tenant], [queue], classes=[Class("slow", grace_period_seconds=45)]))
        engine.observe(RunOpened(make_run(7, make_workload(1))))
        return engine

    @pytest.mark.parametrize("what", ["tenant", "queue"])
    def test_each_run_is_told_once_with_its_classes_grace(self, what: str) -> None:
        engine = self.draining(**{what: ObjectState.DRAIN})
        plan = engine.decide(NOW)
        [eviction] = plan.evictions
        assert (eviction.run_id, eviction.workload_id, eviction.attempt) == (7, 1, 1)
        assert (eviction.outcome, eviction.evict_at) == (RunOutcome.DRAINED, at(145))
        assert eviction.message.endswith("is being drained")
        assert engine.decide(NOW) == plan
        engine.confirm(engine.decide(NOW), [])
        assert engine.decide(at(101)).evictions == ()
        assert engine.usage() == {("research", "h100", GPU): 1}

    def test_hold_evicts_nobody(self) -> None:
        assert self.draining(tenant=ObjectState.HOLD).decide(NOW).evictions == ()

    def test_a_run_that_was_told_before_a_restart_is_not_told_again(self) -> None:
        engine = engine_of(make_configuration([make_tenant(state=ObjectState.DRAIN)]))
        engine.observe(RunOpened(make_run(7, make_workload(1), evict_at=at(130))))
        assert engine.decide(NOW).evictions == ()

    def test_draining_a_tenant_drains_those_under_it(self) -> None:
        tenants = [Tenant("lab", state=ObjectState.DRAIN), make_tenant(parent="lab")]
        engine = engine_of(make_configuration(tenants))
        engine.observe(RunOpened(make_run(7, make_workload(1))))
        assert engine.decide(NOW).evictions[0].message == "tenant lab is being drained"

    def test_evictions_of_a_plan_are_bounded(self) -> None:
        engine = engine_of(make_configuration([make_tenant(state=ObjectState.DRAIN)]), max_admissions=2)
        for number in (5, 4, 3):
            engine.observe(RunOpened(make_run(number, make_workload(number))))
        plan = engine.decide(NOW)
        assert [each.run_id for each in plan.evictions] == [3, 4]
        assert plan.wake_at == NOW
        engine.confirm(plan, [])
        plan = engine.decide(NOW)
        assert [each.run_id for each in plan.evictions] == [5]
        assert plan.wake_at is None


class TestConfirm:
    def test_only_the_last_plan(self) -> None:
        engine = engine_of(make_configuration(), [make_workload(1)])
        stale = engine.decide(NOW)
        engine.decide(NOW)
        with pytest.raises(PlanNotCurrent):
            engine.confirm(stale, [1])
        fresh = engine.decide(NOW)
        engine.observe(WorkloadGone(77))
        with pytest.raises(PlanNotCurrent):
            engine.confirm(fresh, [1])

    def test_only_once(self) -> None:
        engine = engine_of(make_configuration(), [make_workload(1)])
        plan = settle(engine)
        with pytest.raises(PlanNotCurrent):
            engine.confirm(plan, [1])

    @pytest.mark.parametrize("run_ids", [[], [1], [1, 1], [1, 2, 3], [1, 7]])
    def test_run_ids_must_be_as_many_and_new(self, run_ids: list[int]) -> None:
        engine = engine_of(make_configuration(), [make_workload(1), make_workload(2)])
        engine.observe(RunOpened(make_run(7, make_workload(9))))
        plan = engine.decide(NOW)
        with pytest.raises(ValueError, match="run"):
            engine.confirm(plan, run_ids)
        engine.confirm(plan, [1, 2])
        assert engine.usage() == {("research", "h100", GPU): 3}

    def test_looking_between_decide_and_confirm_shows_what_is_confirmed_and_costs_nothing(self) -> None:
        engine = engine_of(make_configuration(), [make_workload(1, gpus=32), make_workload(2, gpus=32)])
        plan = engine.decide(NOW)
        assert engine.usage() == {}
        assert engine.position(2) == (2, 2)
        assert reason(engine, 1) is Reason.PENDING_EVALUATION
        engine.confirm(plan, [1])
        assert engine.position(2) == (1, 1)
        assert reason(engine, 2) is Reason.WAITING_FOR_QUOTA


def test_time_never_goes_backward_and_is_aware() -> None:
    engine = engine_of(make_configuration())
    engine.decide(NOW)
    with pytest.raises(ValueError, match="never goes backward"):
        engine.decide(START)
    with pytest.raises(ValueError, match="aware"):
        engine.decide(NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="at least 1"):
        Engine(max_admissions=0)
