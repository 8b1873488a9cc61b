"""What the API server, its audit log and the ledger say, in the few shapes that the story needs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiqueue.cli.demonstration.jobs import GPU, NAMESPACE
from aiqueue.cli.demonstration.stage import Stage
from aiqueue.cli.harness import manifests

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
class Run:
    """A run as the ledger has it."""

    outcome: str
    gpus: int
    opened_at: datetime
    closed_at: datetime | None


def run_of(stage: Stage, name: str) -> Run:
    """The one run of a workload.

    Raises:
        NotAsTold: it has none, or several.
    """
    items = stage.ledger("get", "runs", name, "-n", NAMESPACE)["items"]
    stage.require(len(items), 1, f"the number of runs of {name}")
    spec, status = items[0]["spec"], items[0]["status"]
    return Run(
        status["outcome"],
        sum(int(each["amount"]) for each in spec["allocations"] if each["resource"] == GPU),
        _instant(status["openedAt"]),
        None if status["closedAt"] is None else _instant(status["closedAt"]),
    )


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
