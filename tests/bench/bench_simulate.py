"""How fast whole traces are replayed, and that a job costs the same in a long trace as in a short one: prints one JSON line.

    python tests/bench/bench_simulate.py [--traces FOLDER] [JOBS ...]

Replays the first JOBS jobs of each trace (10,000 and 30,000 unless told otherwise) and then all of it, in one run: philly as a
cohort, sdsc_blue_2001 as a single Strict tenant, of which the mean wait must be that of first-come first-served by the book.
Seconds are of wall clock and of this process's CPU; what reading and telling cost stands beside what playing costs. Where the
traces are absent the line says so.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, TypeVar

from aiqueue.admission.simulate import report
from aiqueue.admission.simulate.figures import figures_of
from aiqueue.admission.simulate.loop import simulate
from aiqueue.admission.simulate.outcome import Outcome
from aiqueue.admission.simulate.scenario import Scenario
from aiqueue.admission.simulate.tenancy import Tenancy, read_cluster, scenario_of
from aiqueue.admission.simulate.traces import read_trace
from aiqueue.queue.words import Queueing

FOLDER = Path(__file__).parents[3] / "shared" / "traces"
SIZES = (10_000, 30_000)
REPLAYS = (
    ("philly", Tenancy.COHORT, Queueing.BEST_EFFORT),
    ("sdsc_blue_2001", Tenancy.SINGLE, Queueing.STRICT),
)
Answer = TypeVar("Answer")
#: What first-come first-served by the book comes to, by trace and number of jobs, in seconds.
MEAN_WAIT = {("sdsc_blue_2001", 89_296): 83_053.389402}


def measured(step: Callable[[], Answer]) -> tuple[Answer, dict[str, float]]:
    """What a step answers, and what it took."""
    wall, cpu = perf_counter(), process_time()
    answer = step()
    return answer, {"wall_s": round(perf_counter() - wall, 3), "cpu_s": round(process_time() - cpu, 3)}


def load(folder: Path, name: str, tenants: Tenancy, queueing: Queueing) -> Scenario:
    """Read a trace and its cluster."""
    trace, cluster = read_trace(folder / f"{name}.csv.gz"), read_cluster(folder / f"{name}.json")
    return scenario_of(trace, cluster, tenants=tenants, queueing=queueing)


def play(scenario: Scenario, jobs: int) -> tuple[Outcome, dict[str, float]]:
    """Replay the first so many jobs."""
    gc.collect()
    return measured(lambda: simulate(replace(scenario, jobs=scenario.jobs[:jobs])))


def replayed(folder: Path, name: str, tenants: Tenancy, queueing: Queueing, sizes: list[int]) -> dict[str, Any]:
    """One trace: short pieces of it, then the whole."""
    scenario, loading = measured(lambda: load(folder, name, tenants, queueing))
    count = len(scenario.jobs)
    pieces = {str(size): play(scenario, size)[1] for size in sizes if size < count}
    outcome, playing = play(scenario, count)
    text, telling = measured(lambda: report.encoded(outcome))
    waits = figures_of(outcome).waits
    expected = MEAN_WAIT.get((name, count), waits.mean())
    if abs(waits.mean() - expected) > 1e-6:
        raise SystemExit(f"{name}: the mean wait is {waits.mean()} s, by the book it is {expected} s: the engine is wrong")
    pieces[str(count)] = playing
    per_job = {size: round(took["cpu_s"] / int(size) * 1e6, 1) for size, took in pieces.items()}
    return {
        "jobs": count,
        "tenants": tenants,
        "queueing": queueing,
        "load": loading,
        "simulate": playing,
        "report": {**telling, "mib": round(len(text) / 2**20, 1)},
        "all_wall_s": round(sum(each["wall_s"] for each in (loading, playing, telling)), 3),
        "mean_wait_s": waits.mean(),
        "cpu_us_per_job": per_job,
        "all_to_shortest": round(per_job[str(count)] / next(iter(per_job.values())), 2),
    }


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="How fast whole traces are replayed.")
    parser.add_argument("--traces", type=Path, default=FOLDER, help="folder of the traces")
    parser.add_argument("jobs", type=int, nargs="*", help="sizes of the shorter pieces")
    options = parser.parse_args()
    found: dict[str, Any] = {"benchmark": "simulate"}
    for name, tenants, queueing in REPLAYS:
        if (options.traces / f"{name}.csv.gz").is_file() and (options.traces / f"{name}.json").is_file():
            found[name] = replayed(options.traces, name, tenants, queueing, options.jobs or list(SIZES))
        else:
            found[name] = f"skipped: the trace is not in {options.traces}"
    found["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
