"""How fast waiting Jobs are let in, against the plain rate of the API server: prints one JSON line.

    python tests/bench/bench_admission.py [--jobs 1000,5000,20000] [--policies]

For each number of Jobs a real etcd, API server and Postgres begin anew. Suspended Jobs of 50 shapes wait in 30 tenants of 5 trees that are
held, so nothing is decided. The clock starts before the hold is lifted and stops when the ledger has seen the last Job started;
then every Job is listed, and one that is suspended fails the benchmark. Postgres waits for its disk at each commit.

Before and after it the raw rate is measured on the same API server, without a controller: the same patch for other Jobs, as
fast as it goes, by aiqueue's own client and by an aiohttp process of 64 connections. The better of them counts. The Jobs that wait
are there at the time, since a patch costs the server more the more it holds; `raw_empty` is the rate before they were created.

Before all that, on a system that is idle, Jobs are created one by one, and each is timed from when its create is sent to when a watch
shows it unsuspended.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from admission import lone, world
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.errors import AiqueueError
from aiqueue.queue.words import ObjectState
from stand import jobs, sender
from stand.parts import Costs, Stand, stand
from stand.places import NAMESPACES
from stand.printing import OfMachine, Say, percentile, progress, rounded

#: As many as aiqueue's controller has in flight.
OWN_CONNECTIONS = 16
AIOHTTP_CONNECTIONS = 64
SECONDS_A_JOB = 0.05
SECONDS_MORE = 60.0


@dataclass(frozen=True, slots=True)
class Raw:
    """Patches a second without a controller, by client."""

    aiohttp: float
    ours: float

    @property
    def better(self) -> float:
        return max(self.aiohttp, self.ours)


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured with one number of Jobs."""

    jobs: int
    created_per_second: float
    seconds: float
    raw: tuple[Raw, Raw]
    raw_empty: Raw
    costs: Costs
    observing: Costs
    plans: int

    def told(self) -> dict[str, Any]:
        """For the line of JSON."""
        per_second = self.jobs / self.seconds
        raw = sum(each.better for each in self.raw) / len(self.raw)
        return {
            "jobs": self.jobs,
            "seconds": round(self.seconds, 2),
            "per_second": round(per_second),
            "raw_per_second": round(raw),
            "of_raw": round(per_second / raw, 3),
            "raw": [rounded(asdict(each), 0) for each in self.raw],
            "raw_empty": rounded(asdict(self.raw_empty), 0),
            "plans": self.plans,
            **self.costs.told(),
            "create": {"per_second": round(self.created_per_second)},
            "take_in": {"per_second": round(self.jobs / self.observing.seconds), **self.observing.told()},
        }


def options() -> argparse.Namespace:
    """What was asked on the command line."""
    parser = argparse.ArgumentParser(description="Measure how fast waiting Jobs are let in.")
    parser.add_argument("--jobs", default="1000,5000,20000", help="how many wait (default %(default)s)")
    parser.add_argument(
        "--raw", type=int, default=3000, help="patches of each raw rate, at most as many as Jobs (default %(default)s)"
    )
    parser.add_argument("--lone", type=int, default=300, help="Jobs created one by one (default %(default)s)")
    parser.add_argument("--rate", type=float, default=10, help="of these, a second (default %(default)s)")
    parser.add_argument("--policies", action="store_true", help="have aiqueue's policies in force")
    chosen = parser.parse_args()
    chosen.jobs = [int(each) for each in chosen.jobs.split(",")]
    for name, values, most in (("jobs", chosen.jobs, 100_000), ("raw", [chosen.raw], 20_000), ("lone", [chosen.lone], 10_000)):
        for value in values:
            if not 0 < value <= most:
                parser.error(f"--{name} {value}: write a whole number from 1 to {most}")
    if not 0 < chosen.rate <= 1000:
        parser.error(f"--rate {chosen.rate:g}: write more than 0 and at most 1000")
    return chosen


def create(ground: Stand, count: int, name: str) -> tuple[sender.Outcome, list[tuple[str, str]]]:
    """Create so many Jobs; returns what came of it, and (namespace, name) of each."""
    made = [world.job(number, name) for number in range(count)]
    outcome = sender.send(
        ground.order([jobs.create(place.namespace, content) for place, content in made], status=201, keep=True)
    )
    return outcome, [(place.namespace, str(content["metadata"]["name"])) for place, content in made]


def raw(ground: Stand, count: int, name: str) -> Raw:
    """Patch so many fresh Jobs by either client, and delete them."""
    rates: dict[str, float] = {}
    for client, connections in (("aiohttp", AIOHTTP_CONNECTIONS), ("ours", OWN_CONNECTIONS)):
        made, names = create(ground, count, f"{name}-{client}")
        patches = [jobs.unsuspend(*name, *kept, world.NODE_LABELS) for name, kept in zip(names, made.kept, strict=True)]
        token = ground.controller_token
        done = sender.send(ground.order(patches, client=client, connections=connections, token=token))
        rates[client] = count / done.seconds
        sender.send(ground.order([("DELETE", jobs.path(*name), {"propagationPolicy": "Background"}) for name in names]))
    return Raw(**rates)


def admit(ground: Stand, count: int, raw_count: int, say: Say) -> Found:
    """Let so many waiting Jobs in.

    Raises:
        HarnessError: not all of them were.
    """
    say(f"{count} Jobs: creating them")
    empty = raw(ground, raw_count, "empty")
    created, _ = create(ground, count, "wait")
    say(f"{count} Jobs: the raw rate")
    before = raw(ground, raw_count, "before")
    ground.apply(world.records(count, ObjectState.HOLD))
    say(f"{count} Jobs: taking them in")
    seconds = SECONDS_MORE + count * SECONDS_A_JOB
    controller = ground.start_controller()
    with ground.measured() as observing:
        controller.await_ready(seconds)
        until(lambda: _all_wait(ground, count), seconds=seconds, what=f"that {count} Jobs wait")
    say(f"{count} Jobs: letting them in")
    with ground.measured() as costs:
        began = time.monotonic()
        ground.apply(world.records(count, ObjectState.ACTIVE))
        until(lambda: _started(ground) == count, seconds=seconds, what=f"that {count} Jobs run", longest_pause_seconds=0.1)
        took = time.monotonic() - began
    _require_running(ground, count)
    plans = ground.number("SELECT count(*) FROM plan WHERE admissions > 0")
    controller.kill()
    say(f"{count} Jobs: the raw rate again")
    after = raw(ground, raw_count, "after")
    return Found(count, count / created.seconds, took, (before, after), empty, costs, observing, plans)


def _all_wait(ground: Stand, count: int) -> bool:
    """Whether all Jobs are in the ledger, and the engine has said of each why it waits."""
    if ground.number("SELECT count(*) FROM workload WHERE state = 'Pending'") != count:
        return False
    explained = ground.number(
        "SELECT count(*) FROM workload w JOIN queue q ON q.namespace = w.namespace AND q.name = w.queue_name"
        " JOIN shape_decision d ON d.tenant_id = q.tenant_id AND d.shape = w.shape"
    )
    return explained == count


def _started(ground: Stand) -> int:
    """How many runs the ledger has seen started; nought while some are yet to be, which costs less to ask."""
    if ground.number("SELECT count(*) FROM (SELECT FROM action LIMIT 1) AS found"):
        return 0
    return ground.number("SELECT count(*) FROM run WHERE started_at IS NOT NULL")


def _require_running(ground: Stand, count: int) -> None:
    """Ask the API server itself.

    Raises:
        HarnessError: a Job is suspended, was started twice, or is not there.
    """
    unsuspended = 0
    for namespace in NAMESPACES:
        for each in ground.api.call("GET", jobs.path(namespace))["items"]:
            if each["spec"]["suspend"]:
                raise HarnessError(f"Job {namespace}/{each['metadata']['name']} is suspended, though its run is open")
            unsuspended += 1
    attempts = ground.number("SELECT count(*) FROM run")
    if (unsuspended, attempts) != (count, count):
        raise HarnessError(f"of {count} Jobs {unsuspended} run, in {attempts} runs")


def alone(folder: Path, count: int, rate: float, say: Say, *, doors: bool) -> dict[str, Any]:
    """Create Jobs one by one, and see each start."""
    say(f"{count} Jobs one by one")
    with stand(folder, doors=doors) as ground:
        ground.namespaces(NAMESPACES)
        ground.apply(world.records(count, ObjectState.ACTIVE))
        ground.start_controller().await_ready()
        made = [world.job(number, "lone") for number in range(count)]
        requests = [jobs.create(place.namespace, content) for place, content in made]
        with ground.measured() as costs:
            latencies = lone.follow(ground.order(requests, status=201), rate)
    return {
        "jobs": count,
        "per_second": rate,
        **{f"p{percent}_ms": round(percentile(latencies, percent), 1) for percent in (50, 90, 99)},
        "max_ms": round(max(latencies), 1),
        **costs.told(),
    }


def measure(chosen: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """All there is to print."""
    sizes: Sequence[int] = chosen.jobs
    # First, while the machine is still idle: after the others its disk has much to write.
    lonely = alone(folder / "lone", chosen.lone, chosen.rate, say, doors=chosen.policies)
    found = []
    for count in sizes:
        say(f"{count} Jobs: starting etcd, the API server and Postgres")
        with stand(folder / str(count), doors=chosen.policies) as ground:
            ground.namespaces(NAMESPACES)
            found.append(admit(ground, count, min(count, chosen.raw), say))
    lines = [each.told() for each in found]
    return {
        "sizes": lines,
        "per_second_largest_to_smallest": round(lines[-1]["per_second"] / lines[0]["per_second"], 3),
        "create_to_unsuspend": lonely,
    }


def main() -> int:
    """Measure and print."""
    chosen = options()
    machine = OfMachine()
    try:
        with tempfile.TemporaryDirectory(prefix="aiqueue-bench-") as folder, progress(6 * len(chosen.jobs) + 1) as say:
            found = measure(chosen, Path(folder), say)
    except AiqueueError as error:
        print(f"could not measure: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"benchmark": "admission", "options": vars(chosen), "machine": machine.told(), **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
