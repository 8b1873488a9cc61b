"""One crash of the leader: from SIGKILL to the first Job that the next one admits, and where the time went.

All clocks are the machine's: the ledger's, the controller's log and the benchmark's are one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import text

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.database import transaction
from restart import world
from restart.witness import Witness
from stand import jobs, meters
from stand.parts import Controller, Stand
from stand.places import Place

MOST_SECONDS = 180.0
_POLL_SECONDS = 0.02
_FIRST_RUN = text(
    "SELECT r.id, extract(epoch FROM r.opened_at)::float8, extract(epoch FROM p.decided_at)::float8,"
    " extract(epoch FROM l.elected_at)::float8"
    " FROM run r JOIN leader l ON l.term = r.term"
    " JOIN LATERAL (SELECT min(decided_at) AS decided_at FROM plan WHERE term = r.term AND admissions > 0) p ON true"
    " WHERE r.term > :term ORDER BY r.id LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a controller's log."""

    event: str
    at: float
    seconds: dict[str, float]


@dataclass(slots=True)
class Crash:
    """What was measured of one crash; times are seconds from SIGKILL.

    Attributes:
        at: when each was reached: `elected`, `listed`, `engine_built`, `decided`, `opened` (both by the ledger's clock),
            `admitted` (committed, as another session sees it) and `unsuspended` (as a watch tells).
        steps: how long the new leader says that parts of its start took.
        cpu_seconds: of each program from SIGKILL to the first Job started; a standby's alone from then on too.
        peak_bytes: most memory that the new leader had resident by then.
        lease_seconds: what was left of the old lease at SIGKILL.
    """

    kind: str
    at: dict[str, float] = field(default_factory=dict)
    steps: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    lease_seconds: float = 0.0

    def told(self) -> dict[str, Any]:
        """For the line of JSON."""
        return {
            "kind": self.kind,
            "admitted_seconds": round(self.at["admitted"], 2),
            "unsuspended_seconds": round(self.at["unsuspended"], 2),
            "lease_left_seconds": round(self.lease_seconds, 2),
            "at_seconds": {name: round(at, 2) for name, at in sorted(self.at.items(), key=lambda item: item[1])},
            "steps_seconds": {name: round(seconds, 2) for name, seconds in self.steps.items()},
            "cpu_seconds": {name: round(each, 2) for name, each in self.cpu_seconds.items()},
            "peak_mib": round(self.peak_bytes / 2**20),
        }


def crash(ground: Stand, place: Place, standby: Controller | None) -> Crash:
    """Kill the leader, let one running Job end while nobody leads, and time the next leader: `standby`, or one that starts now.

    Raises:
        HarnessError: nothing was admitted in time, or the first Job that was started is not of the first run.
    """
    leader = ground.controllers[-1] if standby is None else ground.controllers[-2]
    term, newest = ground.number("SELECT term FROM leader"), ground.number("SELECT coalesce(max(id), 0) FROM run")
    # Any list says how far the cluster has come, and one of Jobs would be a large one.
    now = ground.api.call("GET", "/api/v1/namespaces?limit=1")["metadata"]["resourceVersion"]
    witness = Witness(ground.installed.controller_kubeconfig, now, newer_than_run=newest, seconds=int(MOST_SECONDS))
    try:
        found = Crash("cold" if standby is None else "standby")
        found.lease_seconds = _lease_left(ground)
        before = _used(ground, standby)
        if standby is not None:
            meters.forget_peak(standby.pid)
        killed = time.time()
        leader.kill()
        follower = standby or ground.start_controller()
        _complete(ground, place)
        run_id, opened, decided, elected = _first_run(ground, term)
        found.at |= {"admitted": time.time() - killed, "opened": opened - killed, "decided": decided - killed}
        found.at["elected"] = elected - killed
        started = witness.started(MOST_SECONDS)
        found.at["unsuspended"] = started.at - killed
        found.cpu_seconds = {name: used - before.get(name, 0.0) for name, used in _used(ground, follower).items()}
        found.peak_bytes = meters.peak_bytes(follower.pid)
    finally:
        witness.close()
    if started.run_id < run_id:
        raise HarnessError(f"run {started.run_id} was started, though the first of the new term is {run_id}")
    for line in _log(follower):
        if line.event in ("Jobs listed", "engine built"):
            found.at["listed" if line.event == "Jobs listed" else "engine_built"] = line.at - killed
        if line.at >= killed:
            found.steps |= line.seconds
    return found


def _lease_left(ground: Stand) -> float:
    return ground.number("SELECT (extract(epoch FROM expires_at - clock_timestamp()) * 1000)::bigint FROM leader_lease") / 1000


def _used(ground: Stand, controller: Controller | None) -> dict[str, float]:
    pids = {name: pid for name, pid in ground.pids().items() if name != "controller"}
    if controller is not None:
        pids["controller"] = controller.pid
    return {name: meters.usage(pid).cpu_seconds for name, pid in pids.items()}


def _complete(ground: Stand, place: Place) -> None:
    """Let the Job that fills a tenant end, as the Job controller would."""
    path = jobs.path(place.namespace, world.filler_name(place)) + "/status"
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ground.api.call("PATCH", path, world.completion(now), content_type="application/merge-patch+json")


def _first_run(ground: Stand, term: int) -> tuple[int, float, float, float]:
    def ask() -> tuple[int, float, float, float] | None:
        with transaction(ground.ledger) as connection:
            row = connection.execute(_FIRST_RUN, {"term": term}).one_or_none()
        return None if row is None else (row[0], row[1], row[2], row[3])

    return until(ask, seconds=MOST_SECONDS, what="an admission by the next leader", longest_pause_seconds=_POLL_SECONDS)


def _log(controller: Controller) -> list[Line]:
    """Its log; what is not a line of the log in JSON is left out. Keys that end in `_seconds` tell how long a step took."""
    found = []
    for text_line in controller.said().splitlines():
        if not text_line.startswith("{"):
            continue
        values = msgspec.json.decode(text_line, type=dict[str, Any])
        at = datetime.fromisoformat(values["timestamp"]).timestamp()
        steps = {key: float(value) for key, value in values.items() if key.endswith("_seconds")}
        found.append(Line(values["event"], at, steps))
    return found
