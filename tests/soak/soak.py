"""A soak: the parts together, and the moments at which everything is checked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.database import transaction
from soak import evidence, invariants
from soak.auditlog import Starts
from soak.breaking import Breaker
from soak.door import Door
from soak.evidence import Evidence
from soak.fleet import Fleet
from soak.outages import Outages
from soak.owners import Owners
from soak.pods import PodWatch
from soak.tenants import Administrator
from soak.world import World

_KINDS_OF_RUNS = """
SELECT outcome, count(*) AS runs, count(*) FILTER (WHERE adopted) AS adopted
  FROM (SELECT outcome, adopted FROM run UNION ALL SELECT outcome, adopted FROM archived_run) AS every GROUP BY outcome"""
_PUT_BACK = "SELECT requeues, count(*) AS times FROM soak.put_back GROUP BY requeues ORDER BY requeues"


@dataclass(slots=True)
class Soak:
    """Everything of one soak. Made by `begun`."""

    world: World
    seed: str
    administrator: Administrator
    owners: Owners
    fleet: Fleet
    breaker: Breaker
    pods: PodWatch
    starts: Starts
    door: Door
    outages: Outages
    checks: int = 0

    def evidence(self, damage: str | None = None) -> Evidence:
        """Everything as it stands now; with `damage` as if the ledger had been damaged so, which is taken back."""
        seen = Evidence()
        with transaction(self.world.ledger) as connection, connection.begin_nested() as damaged:
            if damage is not None:
                for statement in damage.split(";"):
                    connection.execute(text(statement))
            evidence.read_ledger(connection, seen)
            damaged.rollback()
        evidence.read_cluster(self.world.api, self.world.namespaces, seen)
        seen.lives = self.pods.lives()
        self.starts.update(self.world.ledger_uid)
        seen.unsuspends, seen.claims = dict(self.starts.unsuspends), frozenset(self.starts.claims)
        seen.edits = list(self.administrator.edits)
        seen.wishes = dict(self.owners.wishes)
        seen.complaints = list(self.door.complaints)
        seen.unexpected = list(self.fleet.unexpected)
        return seen

    def check(self, seconds: float) -> dict[str, list[str]]:
        """Let everything come to rest, and answer which invariants do not hold, with sentences.

        Controllers are kept up meanwhile, and only those that were armed before may still break.
        """
        self.owners.rest()
        self.breaker.calm()
        last: dict[str, list[str]] = {}

        def at_rest() -> bool:
            nonlocal last
            self.breaker.step()
            last = invariants.broken(self.evidence(), invariants.AT_REST)
            return not last

        with suppress(HarnessError):  # `last` says why
            until(at_rest, seconds=seconds, what="rest", longest_pause_seconds=0.5)
        found = last | self._always(seconds=5.0)
        self.checks += 1
        if not found:
            self.breaker.storm()
            self.owners.work()
        return found

    def _always(self, seconds: float) -> dict[str, list[str]]:
        """The audit log trails its answers by a moment: what it lacks is waited for."""
        last: dict[str, list[str]] = {}

        def holds() -> bool:
            nonlocal last
            last = invariants.broken(self.evidence(), invariants.ALWAYS)
            return not last

        with suppress(HarnessError):
            until(holds, seconds=seconds, what="the audit log")
        return last

    def told(self) -> dict[str, Any]:
        """Figures for the line of JSON."""
        tally = self.breaker.tally
        outcomes = self.world.rows(_KINDS_OF_RUNS)
        runs = {row["outcome"]: row["runs"] for row in outcomes}
        return {
            "seed": self.seed,
            "kills": tally.killed,
            "kills_of_leaders": tally.of_leaders,
            "kills_by_point": dict(sorted(tally.kills.items())),
            "breaks": dict(sorted(tally.kinds.items())),
            "outages": dict(sorted(self.outages.tally.items())),
            "webhook": dict(sorted(self.door.tally.items())),
            "checks": self.checks,
            "acts": dict(sorted(self.owners.acts.items())),
            "jobs": len(self.owners.wishes),
            "pods": len(self.pods.lives()),
            "runs": sum(runs.values()),
            "runs_by_outcome": runs,
            "evictions": runs.get("Preempted", 0) + runs.get("Drained", 0) + runs.get("NotReady", 0),
            "put_back": {str(row["requeues"]): row["times"] for row in self.world.rows(_PUT_BACK)},
            "held_as_not_ready": self.world.rows("SELECT count(*) AS times FROM soak.put_back WHERE held")[0]["times"],
            "adoptions": sum(row["adopted"] for row in outcomes),
            "takeover_seconds": _spread(tally.takeovers),
            "hindered_takeover_seconds": _spread(tally.hindered),
            "engine_built_seconds": _spread(tally.built),
        }

    def keep_evidence(self, found: dict[str, list[str]]) -> None:
        """Write down what there is for a person to look at."""
        seen = self.evidence()
        for name, content in (("broken", found), ("figures", self.told()), ("jobs", seen.jobs), ("pods", seen.pods)):
            (self.world.folder / f"{name}.json").write_text(json.dumps(content, indent=1, default=str))
        tables = {
            table: self.world.rows(f"SELECT * FROM {table}")  # noqa: S608 -- names from here
            for table in ("workload", "run", "allocation", "action", "claim", "queue_usage", "archived_run", "audit", "plan")
        }
        (self.world.folder / "ledger.json").write_text(json.dumps(tables, indent=1, default=str))
        lines = [f"{life.name} {life.job_uid} {life.seen_at} {life.ended_at}" for life in seen.lives]
        (self.world.folder / "lives.txt").write_text("\n".join(lines))


def _spread(seconds: list[float]) -> dict[str, float]:
    """Percentiles by nearest rank."""
    ordered = sorted(seconds)
    if not ordered:
        return {}
    at = {name: ordered[max(0, -int(-len(ordered) * share // 100) - 1)] for name, share in (("p50", 50), ("p99", 99))}
    return {"times": len(ordered), **{name: round(value, 2) for name, value in at.items()}, "worst": round(ordered[-1], 2)}


@contextmanager
def begun(world: World, seed: str, *, outages: bool = True, **breaking: Any) -> Iterator[Soak]:
    """A soak in which owners act and controllers run; all of it ends with the block.

    Args:
        world: where.
        seed: of all choices.
        outages: whether servers are away as a whole of themselves, now and then.
        breaking: for `Breaker`.
    """
    with ExitStack() as stack:
        administrator = Administrator(world.ledger, world.namespaces, world.undisturbed)
        administrator.begin()
        pods = stack.enter_context(PodWatch(world.cluster, world.namespaces))
        owners = stack.enter_context(Owners(world, administrator, seed))
        fleet = Fleet(world)
        stack.callback(fleet.end)
        breaker = Breaker(fleet, seed, provoke=owners.provoke, **breaking)
        door = Door(world, fleet.nursery, seed).open()
        stack.callback(door.close)
        owners.door = door
        away = Outages(world, seed, door.disturb, due=outages)
        breaker.hazards += [door, away]
        made = Soak(world, seed, administrator, owners, fleet, breaker, pods, Starts(world.cluster.audit_log), door, away)
        owners.work()
        yield made


def drive(soak: Soak, seconds: float, every: int, say: Callable[[str], None], *, rest_seconds: float) -> dict[str, list[str]]:
    """Break for so long, check after every so many kills and at the end; answers the first invariants that do not hold."""
    ends = time.monotonic() + seconds
    tally = soak.breaker.tally
    while True:
        enough = tally.killed + every
        soak.breaker.run(lambda most=enough: tally.killed >= most or time.monotonic() >= ends)  # type: ignore[misc]
        began = time.monotonic()
        found = soak.check(rest_seconds)
        left = ends - time.monotonic()
        say(
            f"{tally.killed} kills, {len(soak.owners.wishes)} Jobs, check {soak.checks}: at rest after {time.monotonic() - began:.1f} s,"
            f" {max(0.0, left):.0f} s to go"
        )
        if found or left <= 0:
            return found
