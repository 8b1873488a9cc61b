"""What invariants are judged by: the ledger and the cluster at one moment, and what was recorded of all the time before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from aiqueue.cli.harness.api import Api
from soak import jobs, pods
from soak.jobs import Wish
from soak.pods import PodLife
from soak.tenants import Edit

Held = Mapping[tuple[str, str], int]  # (flavor, resource) -> amount


@dataclass(frozen=True, slots=True)
class Workload:
    """A row of the hot table, or one that was archived."""

    id: int
    uid: str
    job: str
    state: str
    attempt: int
    live: bool
    owner_suspended: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """A run, open or closed, hot or archived; times that the archive does not keep are None.

    `opened` is what it held at first, `held` what it holds now; of those in the archive the same.
    """

    id: int
    workload_id: int
    uid: str
    job: str
    attempt: int
    tenant: str
    queue: str | None
    adopted: bool
    opened_at: datetime
    started_at: datetime | None
    stopped_at: datetime | None
    closed_at: datetime | None
    outcome: str
    held: Held
    opened: Held

    @property
    def name(self) -> str:
        return f"run {self.id} (attempt {self.attempt}) of {self.job}"


@dataclass(frozen=True, slots=True)
class Action:
    """A row of the outbox. `due` says whether it is to be done by now."""

    id: int
    kind: str
    job: str
    due: bool
    run_open: bool


@dataclass(frozen=True, slots=True)
class Rate:
    """By what a queue is said to use of a resource now."""

    queue: str
    resource: str
    rate: int


@dataclass(frozen=True, slots=True)
class Resize:
    """An open run came to hold another amount."""

    at: datetime
    run_id: int
    flavor: str
    resource: str
    amount: int


@dataclass(frozen=True, slots=True)
class Gang:
    """How far the gang of an open run is that was started and not told to end. `overdue`: it stands past the time it had."""

    run_id: int
    ready: bool
    overdue: bool


@dataclass(slots=True)
class Evidence:
    """All there is to judge by.

    Attributes:
        jobs: uid -> Job, those of the namespaces of the soak.
        pods: uid of the Job -> its pods that exist.
        lives: all pods that ever were.
        unsuspends, claims: see `auditlog.Starts`.
        wishes: uid -> what its owner has in the Job.
        back_offs: (workload, attempt) -> until when it was to wait when this attempt was admitted; of those that were put back.
        complaints: see `door.Door`.
        unexpected: sentences on controllers that ended or complained as nobody meant them to.
    """

    workloads: Sequence[Workload] = ()
    runs: Sequence[Run] = ()
    resizes: Sequence[Resize] = ()
    actions: Sequence[Action] = ()
    rates: Sequence[Rate] = ()
    jobs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pods: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    lives: Sequence[PodLife] = ()
    unsuspends: Mapping[int, tuple[str, int]] = field(default_factory=dict)
    claims: frozenset[int] = frozenset()
    edits: Sequence[Edit] = ()
    wishes: Mapping[str, Wish] = field(default_factory=dict)
    gangs: Sequence[Gang] = ()
    back_offs: Mapping[tuple[int, int], datetime] = field(default_factory=dict)
    complaints: Sequence[str] = ()
    unexpected: Sequence[str] = ()

    def open_runs(self) -> dict[str, Run]:
        """uid -> its open run."""
        return {run.uid: run for run in self.runs if run.closed_at is None}


def requests_of(job: Mapping[str, Any]) -> dict[str, int]:
    """What each pod of a Job of `soak.jobs` asks for, in base units: its only container says it in millicores and whole GPUs."""
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {name: int(amount.removesuffix("m")) for name, amount in container["resources"]["requests"].items()}


def read_ledger(connection: Connection, into: Evidence) -> None:
    """Read workloads, runs, actions and rates, all of them, as the transaction sees them."""
    into.workloads = [
        *(
            Workload(r["id"], r["uid"], r["job"], r["state"], r["attempt"], r["live"], r["owner_suspended"])
            for r in _rows(connection, _WORKLOADS)
        ),
        *(Workload(r["id"], r["uid"], r["job"], r["state"], r["attempt"], live=False) for r in _rows(connection, _ARCHIVED)),
    ]
    held: dict[int, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
    for row in _rows(connection, _ALLOCATIONS):
        held[row["run_id"]][row["flavor"], row["resource"]] += row["amount"]
    opened: dict[int, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
    for row in _rows(connection, _OPENED):
        opened[row["run_id"]][row["flavor"], row["resource"]] += row["amount"]
    found = [
        Run(**row, held=dict(held.get(row["id"], {})), opened=dict(opened.get(row["id"], {})))
        for row in _rows(connection, _RUNS)
    ]
    for row in _rows(connection, _ARCHIVED_RUNS):
        first = dict(opened.get(row["id"], {}))
        found.append(Run(**row, queue=None, stopped_at=None, held=first, opened=first))
    into.runs = sorted(found, key=lambda run: run.id)
    into.resizes = [Resize(**row) for row in _rows(connection, _RESIZES)]
    into.actions = [Action(**row) for row in _rows(connection, _ACTIONS)]
    into.rates = [Rate(**row) for row in _rows(connection, _RATES)]
    into.gangs = [Gang(**row) for row in _rows(connection, _GANGS)]
    into.back_offs = {(row["workload_id"], row["attempt"]): row["not_before"] for row in _rows(connection, _BACK_OFFS)}


def read_cluster(api: Api, namespaces: Iterable[str], into: Evidence) -> None:
    """Read Jobs and pods of these namespaces."""
    found: dict[str, Mapping[str, Any]] = {}
    of_job: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for namespace in namespaces:
        for job in api.call("GET", jobs.path(namespace))["items"]:
            found[job["metadata"]["uid"]] = job
        for pod in api.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]:
            of_job[pod["metadata"].get("labels", {}).get(pods.JOB_UID, "")].append(pod)
    into.jobs, into.pods = found, of_job


def _rows(connection: Connection, statement: str) -> list[dict[str, Any]]:
    return [dict(row) for row in connection.execute(text(statement)).mappings()]


_WORKLOADS = """
SELECT id, uid, namespace || '/' || name AS job, state, attempt, owner_suspended,
       state NOT IN ('Finished', 'Failed', 'Expired', 'Cancelled') AS live FROM workload"""
_ARCHIVED = "SELECT id, uid, namespace || '/' || name AS job, state, attempt FROM archived_workload"
_RUNS = """
SELECT r.id, r.workload_id, w.uid, w.namespace || '/' || w.name AS job, r.attempt, t.name AS tenant,
       q.namespace || '/' || q.name AS queue, r.adopted, r.opened_at, r.started_at, r.stopped_at, r.closed_at, r.outcome
  FROM run r JOIN workload w ON w.id = r.workload_id JOIN tenant t ON t.id = r.tenant_id LEFT JOIN queue q ON q.id = r.queue_id"""
_ALLOCATIONS = "SELECT a.run_id, f.name AS flavor, a.resource, a.amount FROM allocation a JOIN flavor f ON f.id = a.flavor_id"
_OPENED = "SELECT s.run_id, f.name AS flavor, s.resource, s.amount FROM soak.held s JOIN flavor f ON f.id = s.flavor_id WHERE s.opened"
_RESIZES = """
SELECT s.at, s.run_id, f.name AS flavor, s.resource, s.amount FROM soak.held s JOIN flavor f ON f.id = s.flavor_id
 WHERE NOT s.opened ORDER BY s.at"""
_ARCHIVED_RUNS = """
SELECT r.id, r.workload_id, w.uid, w.namespace || '/' || w.name AS job, r.attempt, r.tenant,
       r.adopted, r.opened_at, r.started_at, r.closed_at, r.outcome
  FROM archived_run r JOIN archived_workload w ON w.id = r.workload_id"""
_ACTIONS = """
SELECT a.id, a.kind, w.namespace || '/' || w.name AS job, coalesce(a.not_before <= clock_timestamp(), true) AS due,
       EXISTS (SELECT 1 FROM run r WHERE r.id = a.run_id AND r.closed_at IS NULL) AS run_open
  FROM action a JOIN workload w ON w.id = a.workload_id"""
_RATES = """
SELECT q.namespace || '/' || q.name AS queue, u.resource, u.rate FROM queue_usage u JOIN queue q ON q.id = u.queue_id"""
_GANGS = """
SELECT r.id AS run_id, r.ready_at IS NOT NULL AND r.unready_since IS NULL AS ready,
       coalesce(clock_timestamp() > CASE WHEN r.ready_at IS NULL THEN r.started_at + make_interval(secs => c.ready_timeout_seconds)
                                         ELSE r.unready_since + make_interval(secs => c.recovery_timeout_seconds) END, false) AS overdue
  FROM run r JOIN workload w ON w.id = r.workload_id JOIN class c ON c.name = w.class_name
 WHERE r.closed_at IS NULL AND r.started_at IS NOT NULL AND r.stopped_at IS NULL AND r.evict_at IS NULL"""
_BACK_OFFS = "SELECT workload_id, attempt, not_before FROM soak.admitted"
