"""What the API server, its audit log and the ledger say, in the few shapes that the story needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiqueue.cli.demonstration.jobs import EVICT_AT, GPU, NAMESPACE
from aiqueue.cli.demonstration.stage import Stage
from aiqueue.cli.harness import databases, manifests

_CONTROLLER = f"system:serviceaccount:{manifests.NAMESPACE}:{manifests.SERVICE_ACCOUNT}"
_WRITES = ("create", "update", "patch", "delete")


@dataclass(frozen=True, slots=True)
class NodeUse:
    """A node and the running pods with GPUs on it."""

    name: str
    gpus: int
    used: int
    jobs: tuple[str, ...]


def nodes(stage: Stage) -> list[NodeUse]:
    """The nodes with GPUs, and who uses those."""
    api = stage.cluster.api
    held: dict[str, list[tuple[str, int]]] = {}
    for pod in api.call("GET", "/api/v1/pods")["items"]:
        gpus = sum(int(each.get("resources", {}).get("limits", {}).get(GPU, 0)) for each in pod["spec"]["containers"])
        if gpus and pod["status"].get("phase") == "Running":
            job = pod["metadata"]["labels"].get("batch.kubernetes.io/job-name", "")
            held.setdefault(pod["spec"]["nodeName"], []).append((job, gpus))
    found = []
    for node in api.call("GET", "/api/v1/nodes")["items"]:
        name, gpus = node["metadata"]["name"], int(node["status"]["allocatable"].get(GPU, 0))
        here = held.get(name, [])
        if gpus:
            found.append(NodeUse(name, gpus, sum(used for _, used in here), tuple(sorted({job for job, _ in here}))))
    return found


def free_nodes(use: list[NodeUse]) -> list[str]:
    """The names of nodes of which no GPU is used."""
    return [each.name for each in use if each.used == 0]


def running(stage: Stage, name: str) -> int:
    """How many pods of a Job run."""
    return sum(pod["status"].get("phase") == "Running" for pod in stage.pods(name))


def condition(job: dict[str, Any], kind: str) -> bool:
    """Whether a Job has, or ever had, a condition of this kind."""
    return any(each["type"] == kind for each in job.get("status", {}).get("conditions", []))


def ours(job: dict[str, Any]) -> list[str]:
    """Annotations of aiqueue's on a Job."""
    return sorted(key for key in job["metadata"].get("annotations", {}) if key.startswith("aiqueue.dev/"))


@dataclass(frozen=True, slots=True)
class Write:
    """A request that changed a Job, from the audit log of the API server."""

    verb: str
    by_controller: bool
    received_at: datetime
    answered_at: datetime
    starts: bool
    stops: bool


def writes(stage: Stage, name: str) -> list[Write]:
    """The successful requests that changed a Job, oldest first. An entry may trail its answer by a moment."""
    found = []
    for line in stage.cluster.audit_log.read_text().splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        entry = json.loads(line)
        target = entry.get("objectRef", {})
        if (
            (target.get("resource"), target.get("namespace"), target.get("name")) != ("jobs", NAMESPACE, name)
            or target.get("subresource")
            or entry["verb"] not in _WRITES
            or entry.get("responseStatus", {}).get("code", 500) >= 300
        ):
            continue
        spec = (entry.get("requestObject") or {}).get("spec") or {}
        found.append(
            Write(
                entry["verb"],
                entry["user"]["username"] == _CONTROLLER,
                _instant(entry["requestReceivedTimestamp"]),
                _instant(entry["stageTimestamp"]),
                spec.get("suspend") is False,
                spec.get("suspend") is True,
            )
        )
    return sorted(found, key=lambda each: each.received_at)


def seconds_to_start(stage: Stage, name: str) -> float:
    """From the request that created a managed Job to the answer to the one that started it, by the API server's clock."""

    def both() -> tuple[Write, Write] | None:
        all_writes = writes(stage, name)
        created = next((each for each in all_writes if each.verb == "create"), None)
        started = next((each for each in all_writes if each.by_controller and each.starts), None)
        return (created, started) if created is not None and started is not None else None

    created, started = stage.await_(both, f"the audit entries of Job {name}")
    return (started.answered_at - created.received_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Notice:
    """A Job or a pod of it, and until when it was told that it may run; None if it was not told."""

    what: str
    phase: str
    evict_at: datetime | None


def notices(stage: Stage, name: str) -> list[Notice]:
    """A Job and its pods as the API server has them."""
    job = stage.job(name)
    found = [Notice(f"job/{name}", "suspended" if job["spec"].get("suspend") else "started", _told(job))]
    return found + [
        Notice(f"pod/{pod['metadata']['name']}", pod["status"].get("phase", ""), _told(pod)) for pod in stage.pods(name)
    ]


def _told(document: dict[str, Any]) -> datetime | None:
    said = document["metadata"].get("annotations", {}).get(EVICT_AT)
    return None if said is None else _instant(said)


def event(stage: Stage, name: str, reason: str) -> str | None:
    """What the latest Event of this reason about a Job says; None if there is none. Events may trail what they tell of."""
    where = f"involvedObject.kind%3DJob,involvedObject.name%3D{name},reason%3D{reason}"
    found = stage.cluster.api.call("GET", f"/api/v1/namespaces/{NAMESPACE}/events?fieldSelector={where}")["items"]
    return str(found[-1]["message"]) if found else None


@dataclass(frozen=True, slots=True)
class Run:
    """A run as the ledger has it.

    Attributes:
        rule: by which right it was put out, and `preempted_by` for whom (namespace/name); None if it was not.
        told_at: when it was told to end, and `evict_at` by when.
        lost_seconds: the work that it lost by ending so, once it is over.
    """

    outcome: str
    gpus: int
    opened_at: datetime
    closed_at: datetime | None
    rule: str | None
    preempted_by: str | None
    told_at: datetime | None
    evict_at: datetime | None
    lost_seconds: float | None


def run_of(stage: Stage, name: str) -> Run:
    """The one run of a workload.

    Raises:
        NotAsTold: it has none, or several.
    """
    found = runs_of(stage, name)
    stage.require(len(found), 1, f"the number of runs of {name}")
    return found[0]


def runs_of(stage: Stage, name: str) -> list[Run]:
    """All runs of a workload, the first one first."""
    items = stage.ledger("get", "runs", name, "-n", NAMESPACE)["items"]
    return [_run(each["spec"], each["status"]) for each in sorted(items, key=lambda item: int(item["spec"]["attempt"]))]


def _run(spec: dict[str, Any], status: dict[str, Any]) -> Run:
    def at(key: str) -> datetime | None:
        return None if status[key] is None else _instant(status[key])

    return Run(
        status["outcome"],
        sum(int(each["amount"]) for each in spec["allocations"] if each["resource"] == GPU),
        _instant(status["openedAt"]),
        at("closedAt"),
        status["evictRule"],
        status["preemptedBy"],
        at("noticedAt"),
        at("evictAt"),
        status["lostSeconds"],
    )


def workload(stage: Stage, name: str) -> dict[str, Any]:
    """A workload's status as the ledger has it."""
    status: dict[str, Any] = stage.ledger("get", "workloads", name, "-n", NAMESPACE)["status"]
    return status


def ledger_time(stage: Stage) -> datetime:
    """The time by the ledger's clock."""
    with databases.connection(stage.environment.database_url) as session:
        (found,) = session.execute("SELECT clock_timestamp()").fetchall()
    told: datetime = found[0]
    return told


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
