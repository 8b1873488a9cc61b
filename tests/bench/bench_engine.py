"""How fast the engine decides, and that an event costs the same however much is pending: prints one JSON line.

    python tests/bench/bench_engine.py [PENDING ...]

For each size: draining all of it with every Plan confirmed, the cost of an event, and a decide while nothing fits.
"""

import gc
import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from time import process_time

from aiqueue.admission.engine import ConfigurationChanged, Engine, Event, RunClosed, RunOpened, WorkloadGone, WorkloadPending
from aiqueue.queue.records import (
    Allocation,
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

START = datetime(2026, 1, 1, tzinfo=UTC)
SIZES = (10_000, 30_000, 100_000)
TENANTS = 1_000
SHAPES = 50
PROBES = 2_000  # events timed at each size
GPU = "nvidia.com/gpu"


def shapes() -> list[tuple[tuple[PodSet, ...], str]]:
    """1 to 50 GPUs, with cpu."""
    sets = [(PodSet("main", 1, {GPU: gpus, "cpu": 4000 * gpus}),) for gpus in range(1, SHAPES + 1)]
    return [(each, shape_of(each, None)) for each in sets]


def configuration(nominal: int) -> Configuration:
    """A thousand tenants that stand alone, a queue each."""
    names = [f"tenant-{number:04}" for number in range(TENANTS)]
    quotas = (Quota("h100", GPU, nominal), Quota("h100", "cpu", 4000 * nominal))
    return Configuration(
        1,
        {"h100": Flavor("h100")},
        {name: Tenant(name, quotas=quotas) for name in names},
        {(name, "main"): Queue(name, "main", name) for name in names},
    )


def workloads(first: int, count: int) -> list[Workload]:
    """Spread over tenants and shapes, a millisecond apart."""
    known = shapes()
    found: list[Workload] = []
    for number in range(first, first + count):
        pod_sets, shape = known[(number + number // TENANTS * 17) % SHAPES]
        tenant = f"tenant-{number * 104_729 % TENANTS:04}"
        created = START + timedelta(milliseconds=number)
        found.append(
            Workload(number, f"uid-{number:08}", tenant, f"job-{number}", "main", None, pod_sets, shape, created, created)
        )
    return found


def fed(nominal: int, pending: list[Workload]) -> Engine:
    """An engine that knows the configuration and the work."""
    engine = Engine()
    engine.observe(ConfigurationChanged(configuration(nominal)))
    for workload in pending:
        engine.observe(WorkloadPending(workload))
    return engine


def settle(engine: Engine, now: datetime) -> tuple[int, int]:
    """Decide and confirm until there is nothing to do; answers admissions and Plans."""
    admitted = plans = 0
    while True:
        plan = engine.decide(now)
        plans += 1
        engine.confirm(plan, range(admitted + 1, admitted + 1 + len(plan.admissions)))
        admitted += len(plan.admissions)
        if plan.wake_at != now:
            return admitted, plans


def observe_all(engine: Engine, events: Iterable[Event]) -> None:
    """Tell it everything."""
    for event in events:
        engine.observe(event)


def seconds(step: Callable[[], object]) -> float:
    """How long one call takes."""
    began = process_time()
    step()
    return process_time() - began


def drain(count: int) -> dict[str, float]:
    """Everything fits."""
    engine = fed(10**9, workloads(1, count))
    began = process_time()
    admitted, plans = settle(engine, START + timedelta(seconds=count))
    took = process_time() - began
    if admitted != count:
        raise SystemExit(f"admitted {admitted} of {count}: the engine left out what fits")
    return {
        "admissions_per_second": round(admitted / took),
        "plans": plans,
        "plan_ms": round(took / plans * 1000, 2),
    }


def stuck(count: int) -> dict[str, float]:
    """Nothing fits: every tenant is full."""
    pending = workloads(1, count)
    engine = Engine()
    engine.observe(ConfigurationChanged(configuration(64)))
    pod_sets, shape = shapes()[0]
    for number in range(TENANTS):
        name = f"tenant-{number:04}"
        holder = Workload(10**7 + number, f"holder-{number}", name, "holder", "main", None, pod_sets, shape, START, START)
        engine.observe(RunOpened(Run(10**7 + number, holder, 1, name, START, (Allocation("main", "h100", GPU, 64),))))
    observing = seconds(lambda: observe_all(engine, map(WorkloadPending, pending))) / count
    now = START + timedelta(seconds=count // 1000)
    first = seconds(lambda: settle(engine, now))
    idle = min(seconds(lambda: engine.decide(now)) for _ in range(20))
    probes = workloads(count + 1, PROBES)
    arriving = seconds(lambda: observe_all(engine, map(WorkloadPending, probes))) / PROBES
    after = seconds(lambda: engine.decide(now))
    leaving = seconds(lambda: observe_all(engine, (WorkloadGone(each.id) for each in probes))) / PROBES
    settle(engine, now)
    freeing = seconds(lambda: engine.observe(RunClosed(10**7 + 7)))
    deciding = seconds(lambda: settle(engine, now))
    return {
        "observe_us": round(observing * 1e6, 2),
        "arrive_us": round(arriving * 1e6, 2),
        "leave_us": round(leaving * 1e6, 2),
        "close_run_us": round(freeing * 1e6, 2),
        "first_settle_ms": round(first * 1000, 1),
        "decide_idle_ms": round(idle * 1000, 3),
        "decide_after_arrivals_ms": round(after * 1000, 2),
        "decide_after_close_ms": round(deciding * 1000, 2),
    }


def main() -> None:
    """Measure every size."""
    sizes = [int(each) for each in sys.argv[1:]] or list(SIZES)
    report: dict[str, dict[str, dict[str, float]]] = {}
    for size in sizes:
        gc.collect()
        report[str(size)] = {"drain": drain(size), "stuck": stuck(size)}
    print(json.dumps({"benchmark": "engine", "tenants": TENANTS, "shapes": SHAPES, "sizes": report}))


if __name__ == "__main__":
    main()
