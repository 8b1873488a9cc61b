"""Why a workload waits: for each reason its sentence, its evidence and what would change it, with figures."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from aiqueue.admission.engine import ConfigurationChanged, Engine, Plan, RunClosed, RunOpened, WorkloadGone, WorkloadPending
from aiqueue.queue.records import (
    Class,
    Configuration,
    Decision,
    Flavor,
    Holder,
    PodSet,
    Quota,
    Shortfall,
    Taint,
    Tenant,
    Workload,
)
from aiqueue.queue.words import ObjectState, Queueing, Reason, Reclaim, WorkloadState
from fix_builders import GPU, at, make_configuration, make_queue, make_run, make_tenant, make_workload

NOW = at(100)


def decided(configuration: Configuration, *workloads: Workload) -> Engine:
    """An engine that decided and was confirmed once."""
    engine = Engine()
    engine.observe(ConfigurationChanged(configuration))
    for workload in workloads:
        engine.observe(WorkloadPending(workload))
    confirm(engine)
    return engine


def confirm(engine: Engine, seconds: float = 100) -> Plan:
    plan = engine.decide(at(seconds))
    engine.confirm(plan, [1000 * admission.attempt + admission.workload.id for admission in plan.admissions])
    return plan


def verdict(engine: Engine, workload_id: int) -> Decision:
    found = engine.verdict(workload_id)
    assert found is not None
    return found


def only(configuration: Configuration, workload: Workload) -> Decision:
    return verdict(decided(configuration, workload), workload.id)


def test_no_such_queue() -> None:
    found = only(make_configuration(), make_workload(queue="trian"))
    assert found.reason is Reason.QUEUE_NOT_FOUND
    assert found.message == "there is no queue trian in namespace team-a"
    assert (found.workload_id, found.shape, found.tenant) == (1, None, None)


@pytest.mark.parametrize(
    ("tenants", "message"),
    [
        ([make_tenant(), Tenant("child", "research")], "feeds tenant research, which is no leaf: it has child under it"),
        ([], "feeds tenant research, which does not exist"),
    ],
)
def test_a_queue_that_leads_nowhere(tenants: list[Tenant], message: str) -> None:
    found = only(make_configuration(tenants), make_workload())
    assert found.reason is Reason.QUEUE_NOT_FOUND
    assert found.message == f"queue team-a/train {message}"


@pytest.mark.parametrize("state", [ObjectState.HOLD, ObjectState.DRAIN])
def test_a_closed_queue(state: ObjectState) -> None:
    found = only(make_configuration(queues=[make_queue(state=state)]), make_workload())
    assert (found.reason, found.workload_id, found.tenant) == (Reason.QUEUE_CLOSED, 1, "research")
    assert (found.message, found.would_change) == (
        f"queue team-a/train is in state {state}",
        "queue team-a/train set to Active",
    )


@pytest.mark.parametrize("state", [ObjectState.HOLD, ObjectState.DRAIN])
def test_a_closed_tenant_or_one_above_it(state: ObjectState) -> None:
    found = only(make_configuration([Tenant("lab", state=state), make_tenant(parent="lab")]), make_workload())
    assert (found.reason, found.tenant, found.workload_id) == (Reason.TENANT_CLOSED, "research", None)
    assert (found.message, found.would_change) == (f"tenant lab is in state {state}", "tenant lab set to Active")
    assert found.shape == make_workload().shape


@pytest.mark.parametrize(
    ("tenants", "why"),
    [
        ([make_tenant(parent="gone")], "tenant research takes no work: its parent gone does not exist"),
        (
            [make_tenant(parent="a"), Tenant("a", "b"), Tenant("b", "a")],
            "tenant research takes no work: its parents go round in a circle: research under a under b under a",
        ),
    ],
)
def test_parents_that_make_no_tree_close_the_tenant(tenants: list[Tenant], why: str) -> None:
    found = only(make_configuration(tenants), make_workload())
    assert (found.reason, found.message) == (Reason.TENANT_CLOSED, why)


@pytest.mark.parametrize("changes", [{"held_by_owner": True}, {"state": WorkloadState.HELD}])
def test_held(changes: dict[str, Any]) -> None:
    found = only(make_configuration(), replace(make_workload(), **changes))
    assert (found.reason, found.message, found.would_change) == (Reason.WORKLOAD_HELD, "is held", "the hold released")


def test_a_class_that_does_not_exist_or_is_not_allowed() -> None:
    queue = make_queue(allowed_classes=("normal", "urgent"))
    configuration = make_configuration(queues=[queue], classes=[Class("normal"), Class("vip")])
    found = only(configuration, make_workload(class_name="vip"))
    assert found.reason is Reason.CLASS_NOT_ALLOWED
    assert found.message == "queue team-a/train does not allow class vip; it allows one of normal, urgent"
    found = only(configuration, make_workload(class_name="urgent"))
    assert (found.reason, found.message) == (
        Reason.CLASS_NOT_ALLOWED,
        "there is no class urgent, asked for through queue team-a/train",
    )
    assert decided(configuration, make_workload()).verdict(1) is None  # the built-in class


def test_an_invalid_request_says_its_own_sentence() -> None:
    found = only(make_configuration(), make_workload(invalid="parallelism is 0: write 1 or more"))
    assert (found.reason, found.message) == (Reason.INVALID_REQUEST, "parallelism is 0: write 1 or more")


def test_back_off_ends_by_itself() -> None:
    engine = Engine()
    engine.observe(ConfigurationChanged(make_configuration()))
    engine.observe(WorkloadPending(make_workload(1, not_before=at(160))))
    plan = confirm(engine)
    assert plan.wake_at == at(160)
    assert verdict(engine, 1).reason is Reason.BACKOFF
    assert verdict(engine, 1).message == "waits after an eviction until 2026-01-01T12:02:40+00:00"
    assert confirm(engine, 159.999999).empty
    plan = confirm(engine, 160)
    assert len(plan.admissions) == 1
    assert plan.withdrawn_workloads == (1,)


def test_a_resource_that_the_tenant_has_no_quota_for() -> None:
    found = only(make_configuration(), make_workload(requests={"example.com/fpga": 1, GPU: 1}))
    assert found.reason is Reason.RESOURCE_NOT_COVERED
    assert found.message == (
        "pod set main requests example.com/fpga, and tenant research has no quota for that; it has quota for nvidia.com/gpu"
    )


def test_no_flavor_matches() -> None:
    flavors = [Flavor("h100", {"gpu": "h100"}), Flavor("spot", {"gpu": "a100"}, (Taint("spot", "true"),))]
    tenant = make_tenant(quotas={"h100": {GPU: 8}, "spot": {GPU: 8}})
    sets = (PodSet("main", 1, {GPU: 1}, node_selector={"gpu": "a100"}),)
    found = only(make_configuration([tenant], flavors=flavors), make_workload(pod_sets=sets))
    assert found.reason is Reason.NO_MATCHING_FLAVOR
    assert found.message == (
        "pod set main may run on no flavor of tenant research: h100: node selector gpu=a100 does not match h100; "
        "spot: taint spot=true:NoSchedule is not tolerated"
    )


def test_more_than_the_tenant_can_ever_have() -> None:
    tenant = make_tenant(quotas={"h100": {GPU: 32}, "a100": {GPU: 16}})
    found = only(make_configuration([tenant]), make_workload(gpus=8, pods=5))
    assert found.reason is Reason.EXCEEDS_CEILING
    assert found.message == (
        "needs 40 nvidia.com/gpu of flavor h100 and tenant research can never have more than 32: exceeds it by 8; "
        "a100: 24 nvidia.com/gpu too much"
    )
    assert found.would_change == "8 nvidia.com/gpu of h100 less requested, or that much more quota in tenant research"
    assert found.shortfalls == (Shortfall("research", "h100", GPU, 40, 32), Shortfall("research", "a100", GPU, 40, 16))


def test_pod_sets_that_fit_alone_and_never_together() -> None:
    sets = (PodSet("a", 1, {GPU: 20}), PodSet("b", 1, {GPU: 20}))
    found = only(make_configuration(), make_workload(pod_sets=sets))
    assert found.reason is Reason.EXCEEDS_CEILING
    assert found.message == (
        "needs 40 nvidia.com/gpu of flavor h100, counting all pod sets, and tenant research can never have more than 32: exceeds it by 8"
    )


def test_waiting_names_what_is_missing_and_who_holds_it() -> None:
    engine = decided(make_configuration(), make_workload(1, gpus=16), make_workload(2, gpus=32))
    found = verdict(engine, 2)
    assert found.reason is Reason.WAITING_FOR_QUOTA
    assert found.message == "needs 32 nvidia.com/gpu of flavor h100, tenant research has 16 of 32 free: short by 16"
    assert found.would_change == "16 more nvidia.com/gpu of h100 freed in research, or its nominal raised to 48"
    assert found.shortfalls == (Shortfall("research", "h100", GPU, 32, 16),)
    assert found.holders == (Holder("team-a", "job-1", "h100", GPU, 16),)


def test_waiting_names_every_flavor_and_blames_the_least_short() -> None:
    tenant = make_tenant(quotas={"h100": {GPU: 8}, "a100": {GPU: 16}})
    engine = decided(
        make_configuration([tenant]), *(make_workload(number, gpus=6) for number in (1, 2, 3)), make_workload(4, gpus=8)
    )
    found = verdict(engine, 4)
    assert found.message == (
        "needs 8 nvidia.com/gpu of flavor a100, tenant research has 4 of 16 free: short by 4; h100: short by 6 nvidia.com/gpu"
    )
    assert [holder.name for holder in found.holders] == ["job-2", "job-3"]


def test_at_most_five_holders_largest_first_and_then_by_name() -> None:
    workloads = [make_workload(number, gpus=gpus) for number, gpus in enumerate([1, 2, 9, 2, 3, 3, 12], 1)]
    engine = decided(make_configuration(), *workloads, make_workload(8, gpus=1))
    assert [(holder.name, holder.amount) for holder in verdict(engine, 8).holders] == [
        ("job-7", 12),
        ("job-3", 9),
        ("job-5", 3),
        ("job-6", 3),
        ("job-2", 2),
    ]


def test_amounts_are_written_as_people_write_them() -> None:
    gib = 1024**3
    tenant = make_tenant(quotas={"pool": {"cpu": 4000, "memory": 8 * gib}})
    first = make_workload(1, requests={"cpu": 1000, "memory": 7 * gib})
    engine = decided(make_configuration([tenant]), first, make_workload(2, requests={"cpu": 500, "memory": 4 * gib}))
    assert verdict(engine, 2).message == "needs 4Gi memory of flavor pool, tenant research has 1Gi of 8Gi free: short by 3Gi"
    engine = decided(
        make_configuration([tenant]), make_workload(1, requests={"cpu": 3500}), make_workload(2, requests={"cpu": 2000})
    )
    assert verdict(engine, 2).would_change == "1500m more cpu of pool freed in research, or its nominal raised to 5500m"


def test_in_a_tree_the_room_may_have_to_come_from_above() -> None:
    tenants = [
        Tenant("lab"),
        make_tenant("research", parent="lab", reclaim=Reclaim.NEVER),
        make_tenant("serving", parent="lab"),
    ]
    engine = decided(
        make_configuration(tenants, [make_queue(), make_queue("serve", "serving")]), make_workload(1, gpus=48, queue="serve")
    )
    engine.observe(WorkloadPending(make_workload(2, gpus=20)))
    confirm(engine)
    found = verdict(engine, 2)
    assert found.message == "needs 20 nvidia.com/gpu of flavor h100, tenant research has 16 of 64 free: short by 4"
    assert found.would_change == "4 more nvidia.com/gpu of h100 freed in lab, or its nominal raised to 36 in research"
    assert [holder.name for holder in found.holders] == ["job-1"]


def test_behind_the_head_of_a_strict_tenant() -> None:
    configuration = make_configuration([make_tenant(queueing=Queueing.STRICT)])
    engine = decided(configuration, make_workload(1, gpus=16), make_workload(2, gpus=32), make_workload(3, gpus=1))
    found = verdict(engine, 3)
    assert found.reason is Reason.BEHIND_HEAD
    assert found.message == "tenant research is Strict and its head team-a/job-2 waits for quota: nothing behind it is admitted"
    assert found.details["head_id"] == 2
    engine.observe(WorkloadGone(2))
    assert [admission.workload.id for admission in confirm(engine).admissions] == [3]


def test_those_behind_name_the_head_that_came_after() -> None:
    configuration = make_configuration([make_tenant(queueing=Queueing.STRICT)])
    engine = decided(
        configuration, make_workload(1, gpus=8), make_workload(2, gpus=32), make_workload(3, gpus=30), make_workload(4)
    )
    assert verdict(engine, 4).details["head_id"] == 2
    engine.observe(WorkloadGone(2))
    plan = confirm(engine)
    assert [
        (decision.reason, decision.details.get("head_id"))
        for decision in plan.decisions
        if decision.shape == make_workload().shape
    ] == [(Reason.BEHIND_HEAD, 3)]


def test_what_can_never_fit_says_so_even_behind_a_head() -> None:
    configuration = make_configuration([make_tenant(queueing=Queueing.STRICT)])
    engine = decided(configuration, make_workload(1, gpus=16), make_workload(2, gpus=32), make_workload(3, gpus=64))
    assert verdict(engine, 3).reason is Reason.EXCEEDS_CEILING


def test_verdicts_are_shared_by_shape_and_written_once() -> None:
    engine = Engine()
    engine.observe(ConfigurationChanged(make_configuration()))
    for number in range(1, 40):
        engine.observe(WorkloadPending(make_workload(number, gpus=32)))
    plan = confirm(engine)
    assert [(decision.tenant, decision.workload_id) for decision in plan.decisions] == [("research", None)]
    engine.observe(WorkloadPending(make_workload(50, gpus=32)))
    assert confirm(engine).empty


def test_a_verdict_is_written_again_only_when_its_figures_move() -> None:
    engine = decided(make_configuration(), make_workload(1, gpus=8), make_workload(2, gpus=8), make_workload(3, gpus=32))
    assert confirm(engine, 101).empty
    engine.observe(RunClosed(1001))
    plan = confirm(engine, 102)
    assert [decision.message for decision in plan.decisions] == [
        "needs 32 nvidia.com/gpu of flavor h100, tenant research has 24 of 32 free: short by 8"
    ]
    engine.observe(WorkloadGone(3))
    assert confirm(engine, 103).withdrawn_shapes == (("research", make_workload(gpus=32).shape),)


def test_one_shape_of_one_tenant_through_two_queues_has_the_verdict_of_the_first() -> None:
    configuration = make_configuration(
        [make_tenant(queueing=Queueing.STRICT)], [make_queue(), make_queue("slow", weight=Fraction(0))]
    )
    workloads = [make_workload(1, gpus=20), make_workload(2, gpus=20, queue="slow"), make_workload(3, gpus=16)]
    engine = decided(configuration, *workloads)
    assert verdict(engine, 3).reason is Reason.WAITING_FOR_QUOTA
    assert verdict(engine, 2).reason is Reason.BEHIND_HEAD
    engine.observe(WorkloadPending(make_workload(4, gpus=20)))
    confirm(engine)
    assert verdict(engine, 2) == verdict(engine, 4)


def test_what_was_not_looked_at_yet_says_so() -> None:
    engine = Engine()
    engine.observe(ConfigurationChanged(make_configuration()))
    engine.observe(WorkloadPending(make_workload()))
    assert verdict(engine, 1).reason is Reason.PENDING_EVALUATION
    assert engine.verdict(2) is None


def test_closing_a_queue_tells_every_workload_and_opening_it_takes_that_back() -> None:
    engine = decided(make_configuration(), make_workload(1, gpus=32), make_workload(2), make_workload(3))
    closed = make_configuration(queues=[make_queue(state=ObjectState.HOLD)], revision=2)
    engine.observe(ConfigurationChanged(closed))
    plan = confirm(engine, 101)
    assert [(decision.workload_id, decision.reason) for decision in plan.decisions] == [
        (2, Reason.QUEUE_CLOSED),
        (3, Reason.QUEUE_CLOSED),
    ]
    assert plan.withdrawn_shapes == (("research", make_workload().shape),)
    engine.observe(ConfigurationChanged(make_configuration(revision=3)))
    plan = confirm(engine, 102)
    assert plan.withdrawn_workloads == (2, 3)
    assert [decision.reason for decision in plan.decisions] == [Reason.WAITING_FOR_QUOTA]


def test_verdicts_of_a_tenant_that_is_gone_are_taken_back() -> None:
    engine = decided(make_configuration(), make_workload(1, gpus=32), make_workload(2))
    engine.observe(ConfigurationChanged(make_configuration([], revision=2)))
    plan = confirm(engine)
    assert plan.withdrawn_shapes == (("research", make_workload().shape),)
    assert [(decision.workload_id, decision.reason) for decision in plan.decisions] == [(2, Reason.QUEUE_NOT_FOUND)]


def starving(bound: int = 300, **tenant: Any) -> Engine:
    """job-2 waits for all 32 GPUs, of which an adopted run holds 8."""
    engine = Engine()
    record = replace(make_tenant(starvation_bound_seconds=bound), **tenant)
    engine.observe(ConfigurationChanged(make_configuration([record], classes=[Class("high", 10)])))
    engine.observe(RunOpened(make_run(7, make_workload(1), gpus=8)))
    engine.observe(WorkloadPending(make_workload(2, gpus=32)))
    return engine


class TestStarvation:
    def test_others_pass_until_the_bound_and_then_no_more(self) -> None:
        engine = starving()
        engine.observe(WorkloadPending(make_workload(3)))
        plan = confirm(engine)
        assert [admission.workload.id for admission in plan.admissions] == [3]
        assert confirm(engine).wake_at == at(302)
        confirm(engine, 302)
        engine.observe(WorkloadPending(make_workload(4)))
        plan = confirm(engine, 303)
        assert plan.admissions == ()
        found = verdict(engine, 4)
        assert found.reason is Reason.BEHIND_STARVING_GANG
        assert found.message == (
            "would fit, but team-a/job-2 before it has waited for quota longer than the starvation bound 5m of tenant research, "
            "and this would delay it further"
        )

    def test_a_microsecond_before_the_bound_others_still_pass(self) -> None:
        engine = starving()
        confirm(engine)
        engine.observe(WorkloadPending(make_workload(3)))
        assert len(confirm(engine, 301.999999).admissions) == 1

    def test_it_goes_first_when_there_is_room_and_the_others_follow(self) -> None:
        engine = starving()
        confirm(engine, 400)
        engine.observe(WorkloadPending(make_workload(4)))
        assert confirm(engine, 401).admissions == ()
        engine.observe(RunClosed(7))
        assert [admission.workload.id for admission in confirm(engine, 402).admissions] == [2]
        assert verdict(engine, 4).reason is Reason.WAITING_FOR_QUOTA

    def test_those_behind_it_go_when_it_is_gone(self) -> None:
        engine = starving()
        engine.observe(WorkloadPending(make_workload(4, created=399)))
        assert confirm(engine, 400).admissions == ()
        engine.observe(WorkloadGone(2))
        assert [admission.workload.id for admission in confirm(engine, 401).admissions] == [4]

    def test_those_before_it_in_order_are_not_held_back(self) -> None:
        engine = starving()
        confirm(engine, 400)
        engine.observe(WorkloadPending(make_workload(4, class_name="high")))
        assert [admission.workload.id for admission in confirm(engine, 401).admissions] == [4]

    def test_what_takes_nothing_that_it_may_need_passes(self) -> None:
        engine = starving(quotas=(Quota("h100", GPU, 32), Quota("pool", "cpu", 8000)))
        confirm(engine, 400)
        engine.observe(WorkloadPending(make_workload(4, requests={"cpu": 1000})))
        engine.observe(WorkloadPending(make_workload(5, requests={"cpu": 1000, GPU: 1})))
        assert [admission.workload.id for admission in confirm(engine, 401).admissions] == [4]
        assert verdict(engine, 5).reason is Reason.BEHIND_STARVING_GANG

    def test_another_flavor_is_taken_that_it_does_not_need(self) -> None:
        """The gang is too large for a100, so those behind it may have that."""
        engine = starving(quotas=(Quota("h100", GPU, 32), Quota("a100", GPU, 4)))
        confirm(engine, 400)
        engine.observe(WorkloadPending(make_workload(4, gpus=4)))
        [admission] = confirm(engine, 401).admissions
        assert admission.flavors["main"][GPU] == "a100"

    def test_what_could_never_fit_starves_nobody_and_counts_from_when_it_could(self) -> None:
        engine = decided(make_configuration([make_tenant(starvation_bound_seconds=300)]), make_workload(2, gpus=64))
        engine.observe(RunOpened(make_run(7, make_workload(1), gpus=8)))
        engine.observe(WorkloadPending(make_workload(3)))
        assert len(confirm(engine, 5000).admissions) == 1
        larger = make_tenant(quotas={"h100": {GPU: 64}}, starvation_bound_seconds=300)
        engine.observe(ConfigurationChanged(make_configuration([larger], revision=2)))
        engine.observe(WorkloadPending(make_workload(4)))
        plan = confirm(engine, 6000)
        assert [admission.workload.id for admission in plan.admissions] == [4]
        assert confirm(engine, 6000).wake_at == at(6300)

    def test_strict_needs_no_bound(self) -> None:
        engine = starving(queueing=Queueing.STRICT)
        assert confirm(engine).wake_at is None
