"""What benchmarks of the engine are about: tenants in trees, work of fifty shapes, and an engine whose Plans are confirmed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import count

from aiqueue.admission.engine import ConfigurationChanged, Engine, Event, RunClosed, WorkloadPending
from aiqueue.queue.records import Class, Configuration, Flavor, PodSet, Queue, Quota, Tenant, Workload, shape_of

START = datetime(2026, 1, 1, tzinfo=UTC)
TREES = 50
LEAVES = 20  # of each tree
SHAPES = 50
GPU = "nvidia.com/gpu"
PLENTY = 10**9


def shapes() -> list[tuple[tuple[PodSet, ...], str]]:
    """1 to 50 GPUs, with cpu."""
    sets = [(PodSet("main", 1, {GPU: gpus, "cpu": 4000 * gpus}),) for gpus in range(1, SHAPES + 1)]
    return [(each, shape_of(each, None)) for each in sets]


def configuration(of_leaf: int, of_root: int = 0, trees: int = TREES) -> Configuration:
    """So many roots with twenty leaves each, of weights 1 to 3."""
    tenants: dict[str, Tenant] = {}
    queues: dict[tuple[str, str], Queue] = {}
    for tree in range(trees):
        root = f"tree-{tree:02}"
        tenants[root] = Tenant(root, quotas=_quotas(of_root))
        for leaf in range(LEAVES):
            name = f"tenant-{tree * LEAVES + leaf:04}"
            tenants[name] = Tenant(name, root, Fraction(1 + leaf % 3), _quotas(of_leaf))
            queues[name, "main"] = Queue(name, "main", name)
    return Configuration(1, {"h100": Flavor("h100")}, tenants, queues, {"fixed": Class("fixed", preemptible=False)})


def _quotas(gpus: int) -> tuple[Quota, ...]:
    return (Quota("h100", GPU, gpus), Quota("h100", "cpu", 4000 * gpus))


def workloads(trees: int = TREES) -> Iterator[Workload]:
    """Without end, spread over the tenants of so many trees and over shapes, a millisecond apart."""
    known, tenants = shapes(), trees * LEAVES
    for number in count(1):
        pod_sets, shape = known[(number + number // tenants * 17) % SHAPES]
        tenant = f"tenant-{number * 104_729 % tenants:04}"
        created = START + timedelta(milliseconds=number)
        yield Workload(number, f"uid-{number:08}", tenant, f"job-{number}", "main", None, pod_sets, shape, created, created)


class Driver:
    """An engine whose Plans are confirmed. Who has to make room does so at once, and waits again."""

    def __init__(self, known: Configuration, now: datetime) -> None:
        self.engine = Engine()
        self.engine.observe(ConfigurationChanged(known))
        self.now = now
        self.runs = 0
        self.evictions = 0
        self.open: dict[int, Workload] = {}

    def observe(self, events: Iterable[Event]) -> None:
        """Tell it everything."""
        for event in events:
            self.engine.observe(event)

    def decide(self) -> tuple[int, bool]:
        """One Plan; answers admissions, and whether the engine wants to be asked again at once."""
        plan = self.engine.decide(self.now)
        self.engine.confirm(plan, range(self.runs + 1, self.runs + 1 + len(plan.admissions)))
        self.open.update(enumerate((each.workload for each in plan.admissions), self.runs + 1))
        self.runs += len(plan.admissions)
        for eviction in plan.evictions:
            victim = self.open.pop(eviction.run_id)
            self.engine.observe(RunClosed(eviction.run_id))
            self.engine.observe(WorkloadPending(replace(victim, attempt=eviction.attempt)))
        self.evictions += len(plan.evictions)
        return len(plan.admissions), plan.wake_at == self.now or bool(plan.evictions)

    def settle(self) -> tuple[int, int]:
        """Decide until there is nothing to do; answers admissions and Plans."""
        admitted = plans = 0
        while True:
            more, again = self.decide()
            admitted, plans = admitted + more, plans + 1
            if not again:
                return admitted, plans
