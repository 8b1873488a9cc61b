"""How long a decide takes in which one gang has others put out, by how many runs are open.

One tree with twenty leaves, and runs of 8 GPUs of three priorities, opened at various times, of which every third saves its work;
shared out over the leaves, or all in one. A gang of eight such pods waits, and makes eight of them end:

- within: its tenant has no more than its own, and the gang has the higher priority;
- nominal: its tenant has nothing of its nominal, which others borrow;
- share: its tenant has the whole of its nominal and wants more of what others borrow; its share with it is the lesser.

The Plan is never confirmed: something is observed that changes nothing, and the same is decided again. Times are of the processor.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import process_time

from aiqueue.admission.engine import ConfigurationChanged, Engine, RunOpened, UsageMoved, WorkloadPending
from aiqueue.queue.records import (
    Allocation,
    Class,
    Configuration,
    Flavor,
    PodSet,
    Queue,
    Quota,
    Run,
    Tenant,
    Workload,
    shape_of,
)
from aiqueue.queue.words import PreemptionRule

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(days=2)
REPETITIONS = 50
LEAVES = 20
GPU = "nvidia.com/gpu"
GPUS_A_POD = 8
GANG = 8  # pods
CLASSES = {"low": 10, "normal": 100, "high": 200, "urgent": 1000}


@dataclass(frozen=True, slots=True)
class Case:
    """A right by which room is made, and what makes it that one.

    Attributes:
        of_root: which part of all there is stands at the root, as (part, of how many).
        own: whether the tenant of the gang has runs itself.
        class_name: of the gang.
    """

    rule: PreemptionRule
    of_root: tuple[int, int]
    own: bool
    class_name: str


CASES = {
    "within": Case(PreemptionRule.WITHIN_TENANT, (0, 1), True, "urgent"),
    "nominal": Case(PreemptionRule.WITHIN_NOMINAL, (0, 1), False, "normal"),
    "share": Case(PreemptionRule.FINAL_SHARE, (1, 2), True, "normal"),
}


def preempting(size: int) -> dict[str, dict[str, float]]:
    """Every case at one number of open runs, with runs in twenty leaves and in one."""
    return {
        f"{name}_{spread}": _measured(case, size, one_leaf=spread == "one_leaf")
        for spread in ("twenty_leaves", "one_leaf")
        for name, case in CASES.items()
    }


def growth(by_size: dict[int, dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """By case how the median grows from each size to the next, for each time that the size does: 1 is linear, less is better."""
    sizes = sorted(by_size)
    return {
        name: {
            f"{less}_to_{more}": round(by_size[more][name]["p50_ms"] / by_size[less][name]["p50_ms"] * less / more, 3)
            for less, more in pairwise(sizes)
        }
        for name in next(iter(by_size.values()), {})
    }


def _measured(case: Case, size: int, *, one_leaf: bool) -> dict[str, float]:
    engine = Engine()
    runs = _runs(case, size, one_leaf=one_leaf)
    engine.observe(ConfigurationChanged(_configuration(case, runs)))
    for run in runs:
        engine.observe(RunOpened(run))
    engine.decide(NOW)
    engine.observe(WorkloadPending(_gang(case, size + 1)))
    gc.collect()
    gc.freeze()
    took = []
    for _ in range(REPETITIONS):
        began = process_time()
        plan = engine.decide(NOW)
        took.append(process_time() - began)
        found = ([each.workload_id for each in plan.claims], [each.rule for each in plan.evictions])
        if found != ([size + 1], [case.rule] * GANG):
            raise SystemExit(f"of {size} runs were put out, and by which right: {found}: the benchmark measures something else")
        engine.observe(UsageMoved({}))
    gc.unfreeze()
    rest = sorted(took[1:])
    return {
        "first_ms": round(took[0] * 1000, 3),
        "p50_ms": round(rest[len(rest) // 2] * 1000, 3),
        "p99_ms": round(rest[-(-99 * len(rest) // 100) - 1] * 1000, 3),
    }


def _configuration(case: Case, runs: list[Run]) -> Configuration:
    """As much quota as the runs hold, so that none is left; the leaves' parts are such that the case comes about."""
    total = GPUS_A_POD * len(runs)
    part, of = case.of_root
    used = dict.fromkeys(_leaves(), 0)
    for run in runs:
        used[run.tenant] += GPUS_A_POD
    at_root, asker = total * part // of, _leaves()[0]
    own = GPUS_A_POD * GANG if case.rule is PreemptionRule.WITHIN_NOMINAL else used[asker]
    left = total - at_root - own
    quotas = dict.fromkeys(_leaves()[1:], left // (LEAVES - 1))
    quotas[_leaves()[1]] += left - sum(quotas.values())
    tenants = {
        name: Tenant(name, "root", quotas=(Quota("h100", GPU, amount),)) for name, amount in {asker: own, **quotas}.items()
    }
    tenants["root"] = Tenant("root", quotas=(Quota("h100", GPU, at_root),))
    queues = {(name, "main"): Queue(name, "main", name) for name in _leaves()}
    classes = {name: Class(name, priority) for name, priority in CLASSES.items()}
    return Configuration(1, {"h100": Flavor("h100")}, tenants, queues, classes)


def _leaves() -> list[str]:
    return [f"tenant-{number:02}" for number in range(LEAVES)]


def _runs(case: Case, size: int, *, one_leaf: bool) -> list[Run]:
    """Runs of the three lower classes. The first leaf, which is to ask, has some only where the case says so."""
    leaves = _leaves()
    if one_leaf:
        leaves = leaves[:1] if case.rule is PreemptionRule.WITHIN_TENANT else leaves[1:2]
    elif not case.own:
        leaves = leaves[1:]
    return [_run(number, leaves[number % len(leaves)]) for number in range(1, size + 1)]


def _run(number: int, tenant: str) -> Run:
    class_name = ("low", "normal", "high")[number * 7 % 3]
    workload = _workload(number, tenant, class_name, pods=1, checkpoint_seconds=600 if number % 3 == 0 else None)
    opened = START + timedelta(seconds=number * 104_729 % 86_400)
    return Run(number, workload, 1, tenant, opened, (Allocation("main", "h100", GPU, GPUS_A_POD),))


def _gang(case: Case, number: int) -> Workload:
    """Who waits."""
    return _workload(number, _leaves()[0], case.class_name, pods=GANG, checkpoint_seconds=None)


def _workload(number: int, tenant: str, class_name: str, *, pods: int, checkpoint_seconds: int | None) -> Workload:
    pod_sets = (PodSet("main", pods, {GPU: GPUS_A_POD}),)
    created = START + timedelta(seconds=number)
    return Workload(
        number,
        f"uid-{number:08}",
        tenant,
        f"job-{number}",
        "main",
        class_name,
        pod_sets,
        shape_of(pod_sets, class_name),
        created,
        created,
        checkpoint_seconds=checkpoint_seconds,
    )
