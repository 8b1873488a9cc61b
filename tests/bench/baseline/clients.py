"""Starts the executor and waits for it; and how fast the API server takes the same writes when nobody else asks anything of it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from aiqueue.cli.harness.errors import HarnessError
from baseline import executor, statuses, world
from baseline.orders import Order, Outcome, Planned
from stand import jobs, sender
from stand.parts import Stand
from stand.places import PLACES
from stand.printing import rounded

BENCH = Path(__file__).parents[1]
CONNECTIONS = 64
_LOOK_SECONDS = 1.0
_MORE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Raw:
    """Seconds that each of the writes of a Job's life took for so many Jobs, one kind after the other."""

    jobs: int
    create: float
    unsuspend: float
    start: float
    complete: float

    @property
    def jobs_per_second(self) -> float:
        """Whole lives a second."""
        return self.jobs / (self.create + self.unsuspend + self.start + self.complete)

    def told(self) -> dict[str, float]:
        """For the line of JSON: of each write how many a second."""
        seconds = {name: getattr(self, name) for name in ("create", "unsuspend", "start", "complete")}
        return rounded({"jobs": self.jobs_per_second} | {name: self.jobs / each for name, each in seconds.items()}, 0)


def raw(ground: Stand, count: int, name: str) -> Raw:
    """Have so many Jobs live, with 64 connections and without a controller, and delete them."""
    places = [PLACES[number % len(PLACES)] for number in range(count)]
    names = [(place.namespace, f"{name}-{number:05}") for number, place in enumerate(places)]
    contents = [
        jobs.job(job, place.queue, {"cpu": "1"}, class_name=world.KINDS[0].name)
        for place, (_, job) in zip(places, names, strict=True)
    ]
    creates = [jobs.create(place.namespace, content) for place, content in zip(places, contents, strict=True)]
    made = sender.send(ground.order(creates, status=201, keep=True))
    token = ground.controller_token
    patches = [jobs.unsuspend(*job, *kept, world.NODE_LABELS) for job, kept in zip(names, made.kept, strict=True)]
    freed = sender.send(ground.order(patches, keep=True, token=token))
    seconds = []
    versions = [version for _, version in freed.kept]
    for body in (statuses.start, statuses.complete):
        now = time.time()
        patches = [
            ("PATCH", statuses.path(jobs.path(*job)), msgspec.json.decode(body(version, now, resumed=False)))
            for job, version in zip(names, versions, strict=True)
        ]
        done = sender.send(ground.order(patches, keep=True))
        versions = [version for _, version in done.kept]
        seconds.append(done.seconds)
    sender.send(ground.order([("DELETE", jobs.path(*job), {"propagationPolicy": "Background"}) for job in names]))
    return Raw(count, made.seconds, freed.seconds, *seconds)


def execute(ground: Stand, due: Sequence[world.Due], most_seconds: float) -> Outcome:
    """Have the executor create these Jobs and run them.

    Raises:
        HarnessError: it failed, the controller ended, or not all Jobs were done in time.
    """
    order = Order(
        ground.server_port,
        str(ground.cluster.ca_file),
        ground.admin_token,
        [_planned(each) for each in due],
        most_seconds,
    )
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        source.write(msgspec.json.encode(order))
        source.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-m", executor.__name__], cwd=BENCH, stdin=source, stdout=output, stderr=errors
        )
        try:
            _await(ground, process, most_seconds + _MORE_SECONDS)
        finally:
            process.kill()
            process.wait(10)
        if process.returncode != 0:
            errors.seek(0)
            raise HarnessError(f"the executor failed: {errors.read().decode(errors='replace').strip()[-1000:]}")
        output.seek(0)
        return msgspec.json.decode(output.read(), type=Outcome)


def _await(ground: Stand, process: subprocess.Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    controller = ground.controllers[-1]
    while process.poll() is None:
        if controller.process.poll() is not None:
            raise HarnessError(f"the controller ended with {controller.process.returncode}: {controller.said()[-1000:]}")
        if time.monotonic() > deadline:
            raise HarnessError(f"the executor did not end within {seconds:g} s")
        try:
            process.wait(_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            continue


def _planned(due: world.Due) -> Planned:
    path = jobs.path(due.place.namespace)
    body = msgspec.json.encode(due.content()).decode()
    return Planned(due.seconds, path, f"{path}/{due.name}", body, world.KINDS[due.kind].run_seconds)
