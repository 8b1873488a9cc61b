"""A day of Jobs that come faster than quota allows, of three priorities: prints one JSON line.

    python tests/bench/bench_baseline.py [--share 0.02] [--seconds 600]

Five trees of six tenants, each with 20 cores of its own and up to 100 more that others do not use. To each tenant come 350 small Jobs (1 core,
200 ms, priority 50, one every 100 ms), 100 medium ones (5 cores, 500 ms, priority 100, every 500 ms) and 50 large ones (20 cores, 1 s,
priority 200, every 1.2 s): 15,000 in all, which need 66 s of all there is. Nobody has notice before an eviction, and work that is
lost by one is done again. etcd, API server, Postgres and controller are real; there are no nodes and no pods, and the executor
(`baseline/executor.py`) writes what the Job controller would into each Job's status.

The wall time is from when the first create is due to when the last Job is complete. Every Job must complete, and every run must be closed in the
ledger. From the ledger's runs it is shown that no tenant ever held more than its quota and no tree more than it has: otherwise
the benchmark fails. Before and after it Jobs of the same four writes (create, unsuspend, start, complete) are put through the
same API server by 64 connections and without a controller: nobody could be faster than that.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from aiqueue.cli.harness.waiting import until
from aiqueue.queue.errors import AiqueueError
from baseline import clients, figures, ledger, requests, world
from baseline.orders import done_by_ten_seconds
from stand.parts import Stand, stand
from stand.places import NAMESPACES
from stand.printing import MIB, OfMachine, Say, progress

STEPS = 4
CLOSING_SECONDS = 60.0


def options() -> argparse.Namespace:
    """What was asked on the command line."""
    parser = argparse.ArgumentParser(description="Measure how fast Jobs of three priorities get through.")
    parser.add_argument("--share", type=float, default=1.0, help="of the Jobs of each class (default all)")
    parser.add_argument("--seconds", type=float, default=600, help="all must be done within these (default %(default)g)")
    parser.add_argument("--raw", type=int, default=1000, help="Jobs of each raw rate (default %(default)s)")
    chosen = parser.parse_args()
    if not 0 < chosen.share <= 1:
        parser.error(f"--share {chosen.share:g}: write more than 0 and at most 1")
    if not 0 < chosen.seconds <= 3600:
        parser.error(f"--seconds {chosen.seconds:g}: write more than 0 and at most 3600")
    if not 0 < chosen.raw <= 20_000:
        parser.error(f"--raw {chosen.raw}: write a whole number from 1 to 20000")
    return chosen


def measure(ground: Stand, chosen: argparse.Namespace, say: Say) -> dict[str, Any]:
    """All there is to print.

    Raises:
        HarnessError: not all Jobs were done, or a tenant had more than its quota.
    """
    say("the raw rate")
    before = clients.raw(ground, chosen.raw, "before")
    ground.apply(world.records())
    controller = ground.start_controller()
    controller.await_ready()
    due = world.schedule(chosen.share)
    say(f"{len(due)} Jobs; raw {before.jobs_per_second:.0f} Jobs a second")
    asked = requests.counted(ground)
    with ground.measured() as costs:
        outcome = clients.execute(ground, due, chosen.seconds)
    until(lambda: _open_runs(ground) == 0, seconds=CLOSING_SECONDS, what="that all runs are closed in the ledger")
    asked = requests.counted(ground) - asked
    kept = ledger.read(ground, len(due))
    plans = ground.number("SELECT count(*) FROM plan")
    controller.kill()
    say("the raw rate again")
    raw = (before, clients.raw(ground, chosen.raw, "after"))
    seconds = figures.wall(outcome)
    per_second = sum(each.jobs_per_second for each in raw) / len(raw)
    told = costs.told()
    return {
        "jobs": len(due),
        "finished": len({run.job for run in kept if run.outcome == "Finished"}),
        "seconds": round(seconds, 2),
        "quota_used": figures.use(due, outcome, kept),
        **figures.admissions(kept),
        "raw": [each.told() for each in raw],
        "raw_seconds": round(len(due) / per_second, 2),
        "seconds_of_raw": round(seconds * per_second / len(due), 2),
        "work_seconds": round(world.cpu_seconds(due) / figures.TOTAL_CPU, 2),
        "creates": figures.lateness(due, outcome),
        "seconds_to_admission": figures.waits(due, outcome, kept),
        "seconds_held": figures.holding(due, outcome, kept),
        "done_by_ten_seconds": done_by_ten_seconds(outcome.jobs),
        "plans": plans,
        "executor": dict(sorted(outcome.counts.items())),
        "requests": dict(asked.most_common()),
        "cpu_seconds": {**told["cpu_seconds"], "executor": round(outcome.cpu_seconds, 2)},
        "resident_mib": {**told["resident_mib"], "executor": round(outcome.resident_bytes / MIB)},
    }


def _open_runs(ground: Stand) -> int:
    return ground.number("SELECT count(*) FROM run WHERE closed_at IS NULL")


def main() -> int:
    """Measure and print."""
    chosen = options()
    machine = OfMachine()
    try:
        with tempfile.TemporaryDirectory(prefix="aiqueue-bench-") as folder, progress(STEPS) as say:
            say("starting etcd, the API server and Postgres")
            with stand(Path(folder)) as ground:
                ground.namespaces(NAMESPACES)
                found = measure(ground, chosen, say)
    except AiqueueError as error:
        print(f"could not measure: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"benchmark": "baseline", "options": vars(chosen), "machine": machine.told(), **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
