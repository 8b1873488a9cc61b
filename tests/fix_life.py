"""What owners and Kubernetes do to Jobs under a controller at work, and what has to hold of each Job afterwards."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiqueue.cli.harness.errors import HarnessError
from fix_controller import Stage
from fix_managed import JOBS, said, send

MERGE_PATCH = "application/merge-patch+json"
BRIEF = {"aiqueue.dev/class": "brief"}
HOLD = "aiqueue.dev/hold"
QUEUE = "aiqueue.dev/queue"
_CLASSES = "{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: brief}, spec: {gracePeriod: 1s}}"
_FLAVOR = "{apiVersion: aiqueue.dev/v1, kind: Flavor, metadata: {name: h100}, spec: {nodeLabels: {aiqueue.dev/pool: h100}}}"


def give(stage: Stage, name: str, gpus: int, state: str = "Active") -> None:
    """A tenant of so many GPUs with a queue of its name, in this state."""
    quotas = f"[{{flavor: h100, resources: [{{name: nvidia.com/gpu, nominal: {gpus}}}]}}]"
    tenant = f"{{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {{name: {name}}}, spec: {{quotas: {quotas}}}}}"
    door = f"metadata: {{name: {name}, namespace: {stage.namespace}}}, spec: {{tenant: {name}, state: {state}}}"
    queue = f"{{apiVersion: aiqueue.dev/v1, kind: Queue, {door}}}"
    stage.apply(f"{_CLASSES}\n---\n{_FLAVOR}\n---\n{tenant}\n---\n{queue}", allow_drain=True)


def change(stage: Stage, name: str, what: dict[str, Any]) -> dict[str, Any]:
    """Merge-patch a Job as the cluster's administrator, whom the policies bind too."""
    path = f"{JOBS.format(stage.namespace)}/{name}"
    return send(stage.cluster, stage.cluster.kubeconfig, "PATCH", path, what, content_type=MERGE_PATCH)


def refused(stage: Stage, name: str, what: dict[str, Any]) -> str:
    """The sentence of the policy with which this merge patch is refused."""
    try:
        change(stage, name, what)
    except HarnessError as error:
        return said(error)
    raise AssertionError(f"{what} was not refused")


def suspend(stage: Stage, name: str, suspended: bool = True) -> None:
    """Its owner suspends a Job."""
    change(stage, name, {"spec": {"suspend": suspended}})


def annotate(stage: Stage, name: str, **annotations: str | None) -> None:
    """Its owner annotates a Job; names are given without the prefix and with _ for -."""
    written = {f"aiqueue.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
    change(stage, name, {"metadata": {"annotations": written}})


def move(stage: Stage, name: str, queue: str | None) -> None:
    """Its owner moves a Job to another queue, or out of all."""
    change(stage, name, {"metadata": {"labels": {QUEUE: queue}}})


def delete(stage: Stage, name: str, propagation: str = "Background") -> None:
    """Delete a Job; its dependents in the background, before it (Foreground) or not at all (Orphan)."""
    path = f"{JOBS.format(stage.namespace)}/{name}"
    send(stage.cluster, stage.cluster.kubeconfig, "DELETE", path, {"propagationPolicy": propagation})


def exists(stage: Stage, name: str) -> bool:
    """Whether there is a Job of this name."""
    return stage.cluster.api.is_ok(f"{JOBS.format(stage.namespace)}/{name}")


def end_pods(stage: Stage, name: str, index: int | None = None) -> None:
    """Let the pods of a Job end by themselves, or the one of an index."""
    for pod in stage.pods(name):
        notes = pod["metadata"]["annotations"]
        if index is None or notes.get("batch.kubernetes.io/job-completion-index") == str(index):
            path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod['metadata']['name']}"
            end = {"metadata": {"annotations": {"aiqueue.dev/dev-end": "now"}}}
            send(stage.cluster, stage.cluster.kubeconfig, "PATCH", path, end, content_type=MERGE_PATCH)


def ends(stage: Stage, name: str) -> list[str]:
    """How the runs of a Job ended."""
    return [run["outcome"] for run in stage.runs(name)]


def tenants(stage: Stage, name: str) -> list[str]:
    """Who paid for each run of a Job."""
    found = stage.rows(
        "SELECT t.name FROM run r JOIN workload w ON w.id = r.workload_id JOIN tenant t ON t.id = r.tenant_id"
        " WHERE w.namespace = :ns AND w.name = :name ORDER BY r.id",
        ns=stage.namespace,
        name=name,
    )
    return [row["name"] for row in found]


def check(stage: Stage, **runs: list[str]) -> None:
    """Of each Job: its runs ended like this, attempts count up by one, each that was started was started once; nothing is left to do.

    Names are given with _ for -.
    """
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
    for given, outcomes in runs.items():
        name = given.replace("_", "-")
        found = stage.runs(name)
        assert [run["outcome"] for run in found] == outcomes, (name, found)
        assert [run["attempt"] for run in found] == list(range(1, len(outcomes) + 1)), name
        started = len([run for run in found if run["started_at"] is not None and not run["adopted"]])
        stage.until(partial(_heard, stage, str(stage.workload(name)["uid"]), started), "the audit log to be written")
        assert len(stage.unsuspends(str(stage.workload(name)["uid"]))) == started, name


def _heard(stage: Stage, uid: str, number: int) -> bool:
    return len(stage.unsuspends(uid)) >= number
