"""How fast the engine decides, and that an event costs the same however much is pending: prints one JSON line.

    python tests/bench/bench_engine.py [--only MEASUREMENT] [SIZE ...]

A thousand leaf tenants in fifty trees, a queue each, and work of fifty shapes. For each size, in a process of its own:

- drain: everything fits; Plans are confirmed until nothing is left. From the tenants' own quota; all of it borrowed; and all of it
  borrowed by work that has waited for longer than the starvation bound, where everybody waits for the champion of its tree.
- stuck: nothing fits, and who is there makes room for nobody; the first decide, then deciding after one arrival, after many, and with nothing new.
- churn: the cluster is full; one run ends, the engine decides, the Plan is confirmed, and again. By shares that may have others put
  out as well, who leave at once and wait again.
- tenants: the size is how many leaf tenants there are, each with a queue and twenty workloads that wait: telling the engine of a change of the
  configuration, letting one workload in, and one arrival where nothing fits.
- preempting: how long one gang that has others put out takes, by how many runs are open; see `preempting.py`. Has sizes of its own.

Times are of the processor, so that other work on the machine disturbs them less.
"""

import argparse
import gc
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import islice
from time import process_time
from typing import Any

from aiqueue.admission.engine import RunClosed, WorkloadGone, WorkloadPending
from aiqueue.queue.records import Workload
from driving import LEAVES, PLENTY, SHAPES, START, TREES, Driver, configuration, shapes, workloads
from preempting import growth, preempting
from widening import tenants

SIZES = (10_000, 30_000, 100_000)
EVENTS = 2_000  # ends of runs timed at each size
LONG = timedelta(days=1)  # longer than every starvation bound


def drain(size: int, *, borrowed: bool, waited: timedelta = timedelta()) -> dict[str, float]:
    """Everything fits."""
    now = START + timedelta(milliseconds=size) + waited
    driver = Driver(configuration(0, PLENTY) if borrowed else configuration(PLENTY), now)
    driver.observe(map(WorkloadPending, islice(workloads(), size)))
    began = process_time()
    admitted, plans = driver.settle()
    took = process_time() - began
    if admitted != size:
        raise SystemExit(f"admitted {admitted} of {size}: the engine left out what fits")
    return {"admissions_per_second": round(admitted / took), "plan_ms": round(took / plans * 1000, 2)}


def stuck(size: int) -> dict[str, float]:
    """Nothing fits: every tree is full."""
    driver = Driver(configuration(0, 50), START + LONG)
    engine = driver.engine
    source = workloads()
    driver.observe(map(WorkloadPending, _fillers()))
    driver.settle()
    gc.collect()
    before = process_time()
    driver.observe(map(WorkloadPending, islice(source, size)))
    observing = process_time() - before
    first = _timed(driver.settle)
    driver.settle()
    after_one = []
    for workload in islice(source, 200):
        began = process_time()
        engine.observe(WorkloadPending(workload))
        driver.decide()
        after_one.append(process_time() - began)
    many = list(islice(source, EVENTS))
    driver.observe(map(WorkloadPending, many))
    after_many = _timed(driver.decide)
    driver.settle()
    idle = min(_timed(driver.decide) for _ in range(20))
    leaving = _timed(lambda: driver.observe(WorkloadGone(each.id) for each in many))
    return {
        "observe_us": round(observing / size * 1e6, 2),
        "first_decide_ms": round(first * 1000, 1),
        "decide_after_one_p99_ms": round(_p99(after_one) * 1000, 3),
        "decide_after_2000_ms": round(after_many * 1000, 2),
        "decide_idle_ms": round(idle * 1000, 4),
        "leave_us": round(leaving / EVENTS * 1e6, 2),
    }


def _fillers() -> Iterator[Workload]:
    """One of 50 GPUs for each tree."""
    pod_sets, shape = shapes()[-1]
    for tree in range(TREES):
        name = f"tenant-{tree * LEAVES:04}"
        yield Workload(10**8 + tree, f"filler-{tree}", name, "filler", "main", "fixed", pod_sets, shape, START, START)


def churn(size: int) -> dict[str, float]:
    """Full, and runs end one after another: observe the end, decide, confirm."""
    driver = Driver(configuration(64, 320), START + LONG)
    source = workloads()
    driver.observe(map(WorkloadPending, islice(source, size)))
    driver.settle()
    while driver.engine.decide(driver.now).decisions:  # until nothing is left to say of what happened so far
        driver.decide()
        driver.now += timedelta(seconds=1)
    resident_mb = _resident_mb()
    gc.collect()
    gc.freeze()
    took: list[float] = []
    admitted = 0
    for run in list(islice(driver.open, EVENTS)):
        driver.now += timedelta(milliseconds=10)
        began = process_time()
        driver.open.pop(run, None)
        driver.engine.observe(RunClosed(run))
        more, _ = driver.decide()
        took.append(process_time() - began)
        admitted += more
    if admitted < EVENTS // 2:
        raise SystemExit(f"{EVENTS} runs ended and {admitted} workloads took their place: the cluster is not full")
    return {
        "event_p50_ms": round(sorted(took)[len(took) // 2] * 1000, 3),
        "event_p99_ms": round(_p99(took) * 1000, 3),
        "admitted_per_event": round(admitted / EVENTS, 2),
        "resident_mb": resident_mb,
    }


def _timed(step: object) -> float:
    began = process_time()
    assert callable(step)
    step()
    return process_time() - began


def _p99(values: list[float]) -> float:
    return sorted(values)[max(0, -(-99 * len(values) // 100) - 1)]


def _resident_mb() -> int:
    """The most memory this process ever had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 if sys.platform != "darwin" else 1024**2))


#: Each with the sizes at which it is measured unless told otherwise.
MEASUREMENTS: dict[str, tuple[Callable[[int], object], tuple[int, ...]]] = {
    "churn": (churn, SIZES),
    "drain": (lambda size: drain(size, borrowed=False), SIZES),
    "drain_borrowed": (lambda size: drain(size, borrowed=True), SIZES),
    "drain_overdue": (lambda size: drain(size, borrowed=True, waited=LONG), SIZES),
    "stuck": (stuck, SIZES),
    "tenants": (tenants, (100, 1_000, 10_000)),
    "preempting": (preempting, (1_000, 10_000, 100_000)),
}


def measured(names: list[str], size: int) -> dict[str, Any]:
    """Measurements at one size, in a process of their own, so that memory and garbage of one size are not those of another."""
    command = [sys.executable, __file__, "--here", *(f"--only={name}" for name in names), str(size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def options() -> argparse.Namespace:
    """What was asked on the command line."""
    parser = argparse.ArgumentParser(description="Measure how fast the engine decides.")
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, help="measure this; may be given several times")
    parser.add_argument("--here", action="store_true", help="in this process, and print nothing but the figures")
    parser.add_argument("sizes", type=int, nargs="*", metavar="SIZE", help="how much is pending, or how many runs are open")
    return parser.parse_args()


def main() -> None:
    """Measure, and print."""
    asked = options()
    names: list[str] = asked.only or list(MEASUREMENTS)
    if asked.here:
        print(json.dumps({name: MEASUREMENTS[name][0](asked.sizes[0]) for name in names}))
        return
    by_size: dict[int, list[str]] = {}
    for name in names:
        for size in asked.sizes or MEASUREMENTS[name][1]:
            by_size.setdefault(size, []).append(name)
    report = {size: measured(of_size, size) for size, of_size in sorted(by_size.items())}
    found: dict[str, Any] = {
        "benchmark": "engine",
        "trees": TREES,
        "leaf_tenants": TREES * LEAVES,
        "shapes": SHAPES,
        "sizes": report,
    }
    if "preempting" in names:
        found["preempting_growth"] = growth({size: each["preempting"] for size, each in report.items() if "preempting" in each})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
