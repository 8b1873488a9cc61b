"""The scenes of the worked examples of preemption."""

from typing import Any

from aiqueue.queue.records import Class, Tenant
from aiqueue.queue.words import PreemptionRule
from fix_builders import GPU, make_tenant, make_workload
from fix_rules import NOW, Stage, contested, put_out, quota

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
