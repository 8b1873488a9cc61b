"""A stage for worked examples: an engine, what it was told, and questions to it through its public methods alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aiqueue.admission.engine import ConfigurationChanged, Engine, Plan, RunClosed, WorkloadGone, WorkloadPending
from aiqueue.queue.records import Class, Configuration, Decision, Flavor, Queue, Quota, Tenant, Workload
from aiqueue.queue.words import PreemptionRule, Reason, RunOutcome
from fix_builders import GPU, at, make_configuration, make_queue, make_workload
from fix_engine_lasting import lasting

NOW = 1000.0  # seconds after START: later than the creation of every workload that is not given one
PROBE = 9_000_000
MOST = 64


def quota(nominal: int, borrowing: int | None = None, lending: int | None = None, flavor: str = "h100") -> Quota:
    """GPUs of one flavor."""
    return Quota(flavor, GPU, nominal, borrowing, lending)


def leaf(name: str, *quotas: Quota, parent: str | None = "lab", **changes: Any) -> Tenant:
    """A tenant under `lab`."""
    return Tenant(name, parent, quotas=quotas, **changes)


def configured(
    tenants: Iterable[Tenant],
    queues: Iterable[Queue] | None = None,
    *,
    classes: Iterable[Class] = (),
    flavors: Iterable[Flavor] | None = None,
    revision: int = 1,
) -> Configuration:
    """Tenants and, unless told otherwise, a queue of its own name for each leaf."""
    tenants = list(tenants)
    parents = {tenant.parent for tenant in tenants}
    if queues is None:
        queues = [make_queue(tenant.name, tenant.name) for tenant in tenants if tenant.name not in parents]
    return make_configuration(tenants, queues, classes=classes, flavors=flavors, revision=revision)


@dataclass(slots=True)
class Stage:
    """An engine that is asked, at `NOW` unless told otherwise. Runs have the number of their workload.

    Attributes:
        preempts: whether anybody may have to make room; else the engine is told of classes under which nobody has to.
    """

    configuration: Configuration
    engine: Engine = field(default_factory=Engine)
    preempts: bool = False

    def __post_init__(self) -> None:
        self.tell(self.configuration)

    def tell(self, configuration: Configuration) -> None:
        """Replace the whole configuration."""
        self.configuration = configuration
        self.engine.observe(ConfigurationChanged(configuration if self.preempts else lasting(configuration)))

    def pend(self, *workloads: Workload) -> None:
        """Workloads wait."""
        for workload in workloads:
            self.engine.observe(WorkloadPending(workload))

    def gone(self, *numbers: int) -> None:
        """Workloads wait no longer."""
        for number in numbers:
            self.engine.observe(WorkloadGone(number))

    def close(self, *numbers: int) -> None:
        """Runs give back what they hold."""
        for number in numbers:
            self.engine.observe(RunClosed(number))

    def configure(self, *tenants: Tenant) -> None:
        """Replace tenants, each whole."""
        known = {**self.configuration.tenants, **{tenant.name: tenant for tenant in tenants}}
        self.tell(replace(self.configuration, tenants=known, revision=self.configuration.revision + 1))

    def plan(self, seconds: float = NOW) -> Plan:
        """Decide, and confirm it."""
        plan = self.engine.decide(at(seconds))
        self.engine.confirm(plan, [admission.workload.id for admission in plan.admissions])
        return plan

    def admitted(self, seconds: float = NOW) -> list[int]:
        """Decide and confirm until the engine does not ask to be asked again: the workloads, in their order."""
        found: list[int] = []
        for _ in range(100):
            plan = self.plan(seconds)
            found += [admission.workload.id for admission in plan.admissions]
            if plan.wake_at != at(seconds):
                return found
        raise AssertionError("Plans without end")

    def run(self, number: int, queue: str, gpus: int, **changes: Any) -> None:
        """Have a workload of so many GPUs admitted; run NUMBER."""
        self.pend(make_workload(number, gpus=gpus, queue=queue, **changes))
        assert self.admitted() == [number]

    def flavors(self, workload: Workload, seconds: float = NOW) -> Mapping[str, Mapping[str, str]]:
        """The flavors that a workload, alone, would be given: pod set, resource, flavor. Leaves no trace."""
        self.pend(workload)
        admissions = self.engine.decide(at(seconds)).admissions
        self.gone(workload.id)
        assert [admission.workload.id for admission in admissions] == [workload.id]
        return admissions[0].flavors

    def fits(self, queue: str, gpus: int, **changes: Any) -> bool:
        """Whether one workload of so many GPUs would be admitted now beside what waits. Leaves no trace."""
        self.pend(make_workload(PROBE, gpus=gpus, queue=queue, created=NOW, **changes))
        found = any(admission.workload.id == PROBE for admission in self.engine.decide(at(NOW)).admissions)
        self.gone(PROBE)
        return found

    def room(self, *queues: str, **changes: Any) -> tuple[int, ...]:
        """Of each queue the most GPUs that one workload would be admitted with now."""
        return tuple(max((n for n in range(1, MOST) if self.fits(queue, n, **changes)), default=0) for queue in queues)

    def ceilings(self, *queues: str) -> tuple[int, ...]:
        """Of each queue the most GPUs that do not exceed what its tenant may ever have."""
        return tuple(sum(self._may_ever(queue, gpus) for gpus in range(1, MOST)) for queue in queues)

    def _may_ever(self, queue: str, gpus: int) -> bool:
        self.pend(make_workload(PROBE, gpus=gpus, queue=queue))
        self.engine.decide(at(NOW))
        reason = self.verdict(PROBE).reason
        self.gone(PROBE)
        return reason is not Reason.EXCEEDS_CEILING

    def verdict(self, number: int) -> Decision:
        """Why a workload waits."""
        found = self.engine.verdict(number)
        assert found is not None, f"workload {number} does not wait"
        return found

    def reasons(self, *numbers: int) -> list[Reason]:
        """Why each waits."""
        return [self.verdict(number).reason for number in numbers]


def stage(*tenants: Tenant, **more: Any) -> Stage:
    """A stage with these tenants."""
    return Stage(configured(tenants, **more))


def contested(*tenants: Tenant, **more: Any) -> Stage:
    """A stage with these tenants on which some may have to make room for others."""
    return Stage(configured(tenants, **more), preempts=True)


def put_out(plan: Plan) -> dict[int, PreemptionRule | None]:
    """The runs that a Plan tells to end for others, and by which right."""
    return {each.run_id: each.rule for each in plan.evictions if each.outcome is RunOutcome.PREEMPTED}


def claimed(plan: Plan) -> dict[int, tuple[int, ...]]:
    """The claims that a Plan makes: workload and the runs it waits for."""
    return {claim.workload_id: claim.run_ids for claim in plan.claims}
