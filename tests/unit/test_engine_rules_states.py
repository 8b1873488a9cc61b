"""Worked examples of who may be let in at all: states of tenants, queues and workloads, classes, and weight 0 (design 4, 5)."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from aiqueue.admission.engine import RunClosed, WorkloadPending
from aiqueue.queue.records import Class, Configuration, Queue, Tenant
from aiqueue.queue.words import ObjectState, Queueing, Reason, RunOutcome, WorkloadState
from fix_builders import GPU, at, make_queue, make_tenant, make_workload
from fix_rules import NOW, Stage, configured, leaf, quota, stage

CLOSED = [ObjectState.HOLD, ObjectState.DRAIN]
CLASSES = [Class("low", -10), Class("high", 10, grace_period_seconds=45)]


def change(on: Stage, configuration: Configuration) -> None:
    """Replace the whole configuration."""
    on.tell(replace(configuration, revision=on.configuration.revision + 1))


class TestTenants:
    """org above lab above a; b beside lab. Each leaf has 2 GPUs and wants 1."""

    def tree(self, **states: ObjectState) -> Stage:
        active = ObjectState.ACTIVE
        on = stage(
            Tenant("org", state=states.get("org", active)),
            Tenant("lab", "org", state=states.get("lab", active)),
            leaf("a", quota(2), state=states.get("a", active)),
            leaf("b", quota(2), parent="org", state=states.get("b", active)),
        )
        on.pend(make_workload(1, queue="a"), make_workload(2, queue="b"))
        return on

    @pytest.mark.parametrize("state", CLOSED)
    @pytest.mark.parametrize(("closed", "admitted"), [("a", [2]), ("lab", [2]), ("org", []), ("b", [1])])
    def test_a_closed_tenant_closes_all_under_it_and_nobody_else(
        self, closed: str, admitted: list[int], state: ObjectState
    ) -> None:
        on = self.tree(**{closed: state})
        assert on.admitted() == admitted
        for number in {1, 2}.difference(admitted):
            verdict = on.verdict(number)
            assert (verdict.reason, verdict.details["closed_by"]) == (Reason.TENANT_CLOSED, closed)
            assert verdict.would_change == f"tenant {closed} set to Active"

    def test_the_nearest_that_is_closed_is_named(self) -> None:
        on = self.tree(org=ObjectState.HOLD, lab=ObjectState.DRAIN)
        assert [on.verdict(number).details["closed_by"] for number in (1, 2)] == ["lab", "org"]

    def test_hold_lets_what_runs_go_on_and_lend_what_is_idle(self) -> None:
        """a runs 1 and is then held: its other GPU is b's to borrow, its run stays, and nothing new of its own comes in."""
        on = self.tree()
        assert on.admitted() == [1, 2]
        on.configure(leaf("a", quota(2), state=ObjectState.HOLD))
        on.pend(make_workload(3, queue="a"))
        assert on.plan().evictions == ()
        assert on.room("b") == (2,)
        assert on.engine.usage() == {("a", "h100", GPU): 1, ("b", "h100", GPU): 1}

    def test_active_again_it_takes_work_where_it_stopped(self) -> None:
        on = self.tree(lab=ObjectState.HOLD)
        assert on.admitted() == [2]
        on.configure(Tenant("lab", "org"))
        assert on.admitted() == [1]

    def test_draining_a_tenant_tells_every_run_under_it_once(self) -> None:
        on = self.tree()
        assert on.admitted() == [1, 2]
        on.configure(Tenant("lab", "org", state=ObjectState.DRAIN))
        [eviction] = on.plan().evictions
        assert (eviction.run_id, eviction.outcome, eviction.evict_at) == (1, RunOutcome.DRAINED, at(NOW + 30))
        assert eviction.message == "tenant lab is being drained"
        assert on.plan(NOW + 5).evictions == ()
        assert on.engine.usage()["a", "h100", GPU] == 1  # until the run is closed

    def test_what_was_drained_waits_again_with_its_age(self) -> None:
        on = self.tree()
        assert on.admitted() == [1, 2]
        on.configure(Tenant("lab", "org", state=ObjectState.DRAIN))
        on.plan()
        on.pend(make_workload(1, queue="a", attempt=1), make_workload(3, queue="a"))
        on.close(1)
        assert on.admitted() == []
        assert on.reasons(1, 3) == [Reason.TENANT_CLOSED] * 2
        on.configure(Tenant("lab", "org"))
        assert [on.engine.position(number) for number in (1, 3)] == [(1, 2), (2, 2)]
        assert on.admitted() == [1, 3]


class TestQueues:
    """Queues x and y of tenant research, which has 2 GPUs."""

    def doors(self, *queues: Queue, gpus: int = 2, **tenant: Any) -> Stage:
        record = make_tenant(quotas={"h100": {GPU: gpus}}, **tenant)
        return Stage(configured([record], queues or (make_queue("x"), make_queue("y")), classes=CLASSES))

    @pytest.mark.parametrize("state", CLOSED)
    def test_a_closed_queue_closes_itself_alone(self, state: ObjectState) -> None:
        on = self.doors(make_queue("x", state=state), make_queue("y"))
        on.pend(make_workload(1, queue="x"), make_workload(2, queue="y"))
        assert on.admitted() == [2]
        assert on.reasons(1) == [Reason.QUEUE_CLOSED]

    def test_a_closed_queue_blocks_nobody_in_a_strict_tenant(self) -> None:
        on = self.doors(make_queue("x", state=ObjectState.HOLD), make_queue("y"), queueing=Queueing.STRICT)
        on.pend(make_workload(1, gpus=2, queue="x"), make_workload(2, gpus=2, queue="y"))
        assert on.admitted() == [2]

    def test_draining_a_queue_tells_its_own_runs_with_the_grace_of_their_class(self) -> None:
        on = self.doors()
        on.pend(make_workload(1, queue="x", class_name="high"), make_workload(2, queue="y"))
        assert on.admitted() == [1, 2]
        change(on, replace(on.configuration, queues={("team-a", "x"): make_queue("x", state=ObjectState.DRAIN)}))
        [eviction] = on.plan().evictions
        assert (eviction.run_id, eviction.evict_at) == (1, at(NOW + 45))
        assert eviction.message == "queue team-a/x is being drained"

    def test_a_queue_of_weight_0_has_what_the_others_leave(self) -> None:
        """Older and of higher priority, and last all the same; what is left is its."""
        on = self.doors(make_queue("x", weight=Fraction(0)), make_queue("y"))
        on.pend(*(make_workload(number, queue="x", class_name="high") for number in (1, 2, 3)), make_workload(4, queue="y"))
        assert on.engine.position(4) == (1, 4)
        assert on.admitted() == [4, 1]

    def test_an_unknown_queue_and_one_of_another_namespace(self) -> None:
        on = self.doors()
        on.pend(make_workload(1, queue="z"), make_workload(2, queue="x", namespace="team-b"))
        assert on.admitted() == []
        assert on.reasons(1, 2) == [Reason.QUEUE_NOT_FOUND] * 2

    def test_a_queue_that_moves_to_another_tenant_takes_its_work_along(self) -> None:
        on = self.doors()
        on.pend(*(make_workload(number, queue="x") for number in (1, 2, 3)))
        assert on.admitted() == [1, 2]
        other = make_tenant("other", {"h100": {GPU: 1}})
        tenants = {**on.configuration.tenants, "other": other}
        change(on, replace(on.configuration, tenants=tenants, queues={("team-a", "x"): make_queue("x", "other")}))
        assert on.admitted() == [3]
        assert on.engine.usage() == {("research", "h100", GPU): 2, ("other", "h100", GPU): 1}


class TestWorkloads:
    @pytest.mark.parametrize("changes", [{"held_by_owner": True}, {"state": WorkloadState.HELD}])
    def test_one_that_is_held_waits_and_keeps_its_place(self, changes: dict[str, Any]) -> None:
        on = stage(leaf("a", quota(1), parent=None))
        held = make_workload(1, queue="a")
        on.pend(replace(held, **changes), make_workload(2, queue="a"), make_workload(3, queue="a"))
        assert on.admitted() == [2]
        assert on.reasons(1, 3) == [Reason.WORKLOAD_HELD, Reason.WAITING_FOR_QUOTA]
        assert on.engine.position(1) == (1, 2)
        on.pend(held)
        on.close(2)
        assert on.admitted() == [1]

    def test_one_that_backs_off_is_let_in_to_the_microsecond(self) -> None:
        on = stage(leaf("a", quota(1), parent=None))
        on.pend(make_workload(1, queue="a", not_before=at(60)))
        assert on.plan(10).wake_at == at(60)
        assert on.admitted(59.999999) == []
        assert on.reasons(1) == [Reason.BACKOFF]
        assert on.admitted(60) == [1]

    def test_while_its_run_is_open_it_does_not_wait(self) -> None:
        on = stage(leaf("a", quota(2), parent=None))
        on.pend(make_workload(1, queue="a"))
        assert on.admitted() == [1]
        on.engine.observe(WorkloadPending(make_workload(1, queue="a", attempt=1)))
        assert on.admitted() == []
        on.engine.observe(RunClosed(1))
        plan = on.plan()
        assert [(each.workload.id, each.attempt) for each in plan.admissions] == [(1, 2)]


class TestClasses:
    def doors(self, *queues: Queue, classes: tuple[Class, ...] = tuple(CLASSES)) -> Stage:
        return Stage(configured([make_tenant(quotas={"h100": {GPU: 1}})], queues, classes=classes))

    def test_its_own_class_then_its_queues_default_then_priority_0(self) -> None:
        """y's default is high: 3 counts as high, and 2, which asks for low, as low. 1 has no class at all."""
        on = self.doors(make_queue("x"), make_queue("y", default_class="high"))
        on.pend(make_workload(1, queue="x"), make_workload(2, queue="y", class_name="low"), make_workload(3, queue="y"))
        assert [on.engine.position(number)[0] for number in (3, 1, 2)] == [1, 2, 3]
        assert on.admitted() == [3]

    def test_a_class_that_the_queue_does_not_allow(self) -> None:
        on = self.doors(make_queue("x", allowed_classes=("low",)))
        on.pend(make_workload(1, queue="x", class_name="high"), make_workload(2, queue="x", class_name="low"))
        assert on.admitted() == [2]
        assert on.reasons(1) == [Reason.CLASS_NOT_ALLOWED]

    def test_no_class_is_allowed_by_every_queue(self) -> None:
        on = self.doors(make_queue("x", allowed_classes=("low",)))
        on.pend(make_workload(1, queue="x"))
        assert on.admitted() == [1]

    def test_a_class_that_comes_to_exist_lets_its_work_in(self) -> None:
        on = self.doors(make_queue("x"), classes=())
        on.pend(make_workload(1, queue="x", class_name="high"))
        assert on.admitted() == []
        assert on.reasons(1) == [Reason.CLASS_NOT_ALLOWED]
        change(on, replace(on.configuration, classes={"high": CLASSES[1]}))
        assert on.admitted() == [1]

    def test_a_class_that_gains_priority_moves_its_work_forward(self) -> None:
        on = self.doors(make_queue("x"), classes=(Class("odd"),))
        on.pend(make_workload(1, queue="x"), make_workload(2, queue="x", class_name="odd"))
        assert on.engine.position(2) == (2, 2)
        change(on, replace(on.configuration, classes={"odd": Class("odd", 1)}))
        assert on.engine.position(2) == (1, 2)
        assert on.admitted() == [2]


class TestWhichReasonComesFirst:
    """Everything is wrong with the workload; what is put right, one after the other, uncovers the next."""

    def test_the_order_of_reasons(self) -> None:
        wrong = make_workload(
            1, gpus=64, queue="x", class_name="no", held_by_owner=True, invalid="it is wrong", not_before=at(NOW + 60)
        )
        closed = make_tenant(quotas={"h100": {GPU: 1}}, state=ObjectState.HOLD)
        shut = make_queue("x", state=ObjectState.HOLD, allowed_classes=("low",))
        on = Stage(configured([closed], [], classes=CLASSES))
        on.pend(wrong)
        seen = on.reasons(1)
        steps: list[Any] = [
            configured([closed], [shut], classes=CLASSES),
            configured([closed], [make_queue("x", allowed_classes=("low",))], classes=CLASSES),
            configured(
                [replace(closed, state=ObjectState.ACTIVE)], [make_queue("x", allowed_classes=("low",))], classes=CLASSES
            ),
            replace(wrong, held_by_owner=False),
            replace(wrong, held_by_owner=False, class_name="low"),
            replace(wrong, held_by_owner=False, class_name="low", invalid=None),
            replace(wrong, held_by_owner=False, class_name="low", invalid=None, not_before=None),
        ]
        for step in steps:
            if isinstance(step, Configuration):
                change(on, step)
            else:
                on.pend(step)
            on.plan()
            seen += on.reasons(1)
        assert seen == [
            Reason.QUEUE_NOT_FOUND,
            Reason.QUEUE_CLOSED,
            Reason.TENANT_CLOSED,
            Reason.WORKLOAD_HELD,
            Reason.CLASS_NOT_ALLOWED,
            Reason.INVALID_REQUEST,
            Reason.BACKOFF,
            Reason.EXCEEDS_CEILING,
        ]
