"""How long after a crash of the leader the next Job is admitted: prints one JSON line.

    python tests/bench/bench_restart.py [--jobs 100000] [--rounds 3] [--kinds cold,standby]

A real etcd, API server and Postgres begin anew for each number of Jobs. Thirty tenants in five trees are each filled by one running
Job, and so many suspended Jobs of 50 shapes wait behind them, stored by the API server and taken into the ledger by the controller
itself. Nothing is held: were there room, they would run.

In each round the leader is killed with SIGKILL; while nobody leads, one running Job ends, so that there is something to admit. The next
leader is a controller that starts at that moment (`cold`) or one that has been standing by (`standby`). The clock stops when another
session of the ledger sees the first run of a newer term, and when a watch shows the first Job unsuspended. The lease of the old
leader, 4 s, has to run out first, as the controller is shipped. Postgres waits for its disk at each commit.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from admission.world import job
from aiqueue.cli.harness import ports
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.errors import AiqueueError
from restart import world
from restart.crash import Crash, crash
from stand import jobs, sender
from stand.parts import Controller, Costs, Stand, stand
from stand.places import NAMESPACES, PLACES
from stand.printing import OfMachine, Say, progress

KINDS = ("cold", "standby")
SECONDS_A_JOB = 0.02
SECONDS_MORE = 60.0
AT_ONCE = 10_000


@dataclass(frozen=True, slots=True)
class Filled:
    """How long it took to create all Jobs, in seconds, and what it cost a new controller to take them into the ledger."""

    created_seconds: float
    taking_in: Costs


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured with one number of Jobs."""

    jobs: int
    filled: Filled
    crashes: Sequence[Crash]

    def told(self) -> dict[str, Any]:
        """For the line of JSON."""
        worst = {
            kind: max(each.at["admitted"] for each in self.crashes if each.kind == kind)
            for kind in KINDS
            if any(each.kind == kind for each in self.crashes)
        }
        return {
            "jobs": self.jobs,
            "worst_admitted_seconds": {kind: round(seconds, 2) for kind, seconds in worst.items()},
            "crashes": [each.told() for each in self.crashes],
            "created_per_second": round(self.jobs / self.filled.created_seconds),
            "taken_in": {"seconds": round(self.filled.taking_in.seconds, 1), **self.filled.taking_in.told()},
        }


def options() -> argparse.Namespace:
    """What was asked on the command line."""
    parser = argparse.ArgumentParser(description="Measure how long after a crash the next Job is admitted.")
    parser.add_argument("--jobs", default="100000", help="how many wait (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="crashes of each kind (default %(default)s)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="who leads next (default %(default)s)")
    chosen = parser.parse_args()
    chosen.jobs = [int(each) for each in chosen.jobs.split(",")]
    chosen.kinds = chosen.kinds.split(",")
    for value in chosen.jobs:
        if not len(PLACES) <= value <= 200_000:
            parser.error(f"--jobs {value}: write a whole number from {len(PLACES)} to 200000")
    for kind in chosen.kinds:
        if kind not in KINDS:
            parser.error(f"--kinds {kind}: write cold, standby or both with a comma between them")
    most = len(PLACES) // len(chosen.kinds)
    if not 0 < chosen.rounds <= most:
        parser.error(f"--rounds {chosen.rounds}: write a whole number from 1 to {most}, since each takes a tenant of its own")
    return chosen


def fill(ground: Stand, count: int, say: Say) -> Filled:
    """Fill the tenants, and have so many Jobs wait behind: created while no controller runs, which is quicker, then taken in by one."""
    ground.namespaces(NAMESPACES)
    ground.apply(world.records())
    controller = ground.start_controller()
    controller.await_ready()
    sender.send(ground.order([jobs.create(place.namespace, world.filler(place)) for place in PLACES], status=201))
    until(lambda: _started(ground) == len(PLACES), seconds=SECONDS_MORE, what="that all tenants are full")
    controller.kill()
    created = 0.0
    for first in range(0, count, AT_ONCE):
        say(f"{count} Jobs: creating them, {first} are there")
        made = [job(number, "wait") for number in range(first, min(first + AT_ONCE, count))]
        requests = [jobs.create(place.namespace, content) for place, content in made]
        created += sender.send(ground.order(requests, status=201)).seconds
    say(f"{count} Jobs: taking them in")
    ground.start_controller()
    most = SECONDS_MORE + count * SECONDS_A_JOB
    with ground.measured() as costs:
        until(lambda: _all_wait(ground, count), seconds=most, what=f"that {count} Jobs wait")
    return Filled(created, costs)


def _started(ground: Stand) -> int:
    return ground.number("SELECT count(*) FROM run WHERE started_at IS NOT NULL AND closed_at IS NULL")


def _all_wait(ground: Stand, count: int) -> bool:
    """Whether all Jobs are in the ledger, and the engine has said of each why it waits."""
    if ground.number("SELECT count(*) FROM workload WHERE state = 'Pending'") != count:
        return False
    explained = ground.number(
        "SELECT count(*) FROM workload w JOIN queue q ON q.namespace = w.namespace AND q.name = w.queue_name"
        " JOIN shape_decision d ON d.tenant_id = q.tenant_id AND d.shape = w.shape WHERE w.state = 'Pending'"
    )
    return explained == count


def _settle(ground: Stand) -> None:
    """Wait until the leader has done all that there was to do."""
    ground.controllers[-1].await_ready()
    until(
        lambda: ground.number("SELECT count(*) FROM action") == 0,
        seconds=SECONDS_MORE,
        what="that the leader has nothing left to do",
    )


def _stand_by(ground: Stand) -> Controller:
    """Start a controller beside the leader, and wait until it could take over."""
    standby = ground.start_controller()

    def ready() -> bool:
        try:
            with urlopen(f"http://{ports.LOOPBACK}:{standby.health_port}/readyz", timeout=5) as got:
                return bool(got.status == HTTPStatus.OK)
        except OSError:
            return False

    until(ready, seconds=SECONDS_MORE, what="that the standby is ready")
    return standby


def restart(ground: Stand, chosen: argparse.Namespace, count: int, say: Say) -> Found:
    """Crash the leader again and again.

    Raises:
        HarnessError: nobody went on.
    """
    filled = fill(ground, count, say)
    crashes = []
    places = iter(PLACES)
    for kind in chosen.kinds:
        for number in range(chosen.rounds):
            say(f"{count} Jobs: crash {number + 1} of {chosen.rounds}, {kind}")
            _settle(ground)
            crashes.append(crash(ground, next(places), _stand_by(ground) if kind == "standby" else None))
    _settle(ground)
    _require_whole(ground, count)
    return Found(count, filled, crashes)


def _require_whole(ground: Stand, count: int) -> None:
    """Nothing may be lost or started twice: ledger and cluster come to say the same of every Job.

    Runs may still be put out meanwhile for others that lent their quota, so two readings need not be of one moment.

    Raises:
        HarnessError: the ledger and the cluster differ, and go on to.
    """
    said = ""

    def whole() -> bool:
        nonlocal said
        waiting, running = ground.number("SELECT count(*) FROM workload WHERE state = 'Pending'"), _started(ground)
        done = ground.number("SELECT count(*) FROM workload WHERE state = 'Finished'")
        lists = [ground.api.call("GET", jobs.path(each) + "?labelSelector=aiqueue.dev%2Fqueue")["items"] for each in NAMESPACES]
        unsuspended = sum(not each["spec"]["suspend"] for items in lists for each in items)
        said = (
            f"{waiting} Jobs wait, {running} run and {done} are done, of {count + len(PLACES)}; {unsuspended} are not suspended"
        )
        return (waiting + running + done, unsuspended) == (count + len(PLACES), running + done)

    try:
        until(whole, seconds=SECONDS_MORE, what="that ledger and cluster say the same")
    except HarnessError as error:
        raise HarnessError(f"{error}: {said}") from error


def measure(chosen: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """All there is to print."""
    found = []
    for count in chosen.jobs:
        say(f"{count} Jobs: starting etcd, the API server and Postgres")
        with stand(folder / str(count)) as ground:
            found.append(restart(ground, chosen, count, say))
    return {"sizes": [each.told() for each in found]}


def main() -> int:
    """Measure and print."""
    chosen = options()
    machine = OfMachine()
    steps = sum(2 + -(-count // AT_ONCE) + chosen.rounds * len(chosen.kinds) for count in chosen.jobs)
    try:
        with tempfile.TemporaryDirectory(prefix="aiqueue-bench-") as folder, progress(steps) as say:
            found = measure(chosen, Path(folder), say)
    except AiqueueError as error:
        print(f"could not measure: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"benchmark": "restart", "options": vars(chosen), "machine": machine.told(), **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
