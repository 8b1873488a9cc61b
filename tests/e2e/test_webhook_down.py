"""A webhook that nobody answers for: what waits for it, and that nothing else does.

The configuration points at a port where nobody listens. With failurePolicy Fail, which is never shipped, every request that
asks the webhook is refused; so whatever goes through then was not asked about at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from aiqueue.cli import resources
from aiqueue.cli.harness import manifests, ports
from aiqueue.cli.harness.errors import HarnessError
from fix_controller import Stage, job

pytestmark = pytest.mark.e2e

Register = Callable[[str], None]
CLASS = "{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: brief}, spec: {gracePeriod: 1s}}"
QUEUE = """{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: train, namespace: {namespace}}},
            spec: {{tenant: research, state: {state}}}}}"""


def dry_run(stage: Stage, **options: Any) -> str:
    """What the API server says to a new Job; "" where it accepts it."""
    path = f"/apis/batch/v1/namespaces/{stage.namespace}/jobs?dryRun=All"
    answer = stage.cluster.api.ask("POST", path, job(stage.namespace, "probe", **options))
    return "" if answer.status == 201 else str(answer.json()["message"])


@pytest.fixture
def register(stage: Stage) -> Iterator[Register]:
    """Register the dead webhook for this namespace with a failurePolicy, and return once the API server acts on it."""
    content = yaml.safe_load((resources.manifests_path() / "webhook" / "configuration.yaml").read_text())
    content["metadata"]["name"] = stage.namespace
    (webhook,) = content["webhooks"]
    (port,) = ports.choose(1)
    webhook["clientConfig"] = {"url": f"https://{ports.LOOPBACK}:{port}{manifests.WEBHOOK_PATH}"}
    webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": stage.namespace}}

    def put(policy: str) -> None:
        webhook["failurePolicy"] = policy
        stage.cluster.kubectl("apply", "--filename=-", stdin=json.dumps(content))
        stage.until(lambda: ("failed calling webhook" in dry_run(stage)) is (policy == "Fail"), f"failurePolicy {policy}")

    yield put
    stage.cluster.kubectl("delete", "validatingwebhookconfiguration", stage.namespace, "--ignore-not-found")


def delete(stage: Stage, name: str, cascade: str = "foreground") -> None:
    """Delete a Job and wait until it is gone."""
    where = ("job", name, f"-n={stage.namespace}")
    stage.cluster.kubectl("delete", *where, f"--cascade={cascade}", "--timeout=110s")


def test_labelled_jobs_are_held_and_wait_and_are_admitted(stage: Stage, register: Register) -> None:
    stage.tenants(gpus=8)
    stage.lead()
    register("Fail")
    register("Ignore")
    first = stage.create_job("first")
    assert first["spec"]["suspend"] is True
    assert first["metadata"]["annotations"]["aiqueue.dev/user"]
    await_ready(stage, "first")
    for made in (stage.create_job("second"), stage.create_job("lost", queue="nowhere"), stage.create_job("huge", pods=100)):
        assert made["spec"]["suspend"] is True
    # What the webhook would have refused waits with the same reason.
    for name, reason in {"second": "WaitingForQuota", "lost": "QueueNotFound", "huge": "ExceedsCeiling"}.items():
        await_reason(stage, name, reason)
        assert stage.job(name)["spec"]["suspend"] is True
        assert stage.pods(name) == []
    delete(stage, "first")
    await_ready(stage, "second")


def await_reason(stage: Stage, name: str, reason: str) -> None:
    """Wait until a workload waits for this reason."""
    statement = """
        SELECT coalesce(own.reason, d.reason) AS reason FROM workload w
          LEFT JOIN workload_decision own ON own.workload_id = w.id LEFT JOIN shape_decision d ON d.shape = w.shape
         WHERE w.name = :name"""
    stage.until(lambda: {row["reason"] for row in stage.rows(statement, name=name)} == {reason}, f"{name} to wait: {reason}")


def await_ready(stage: Stage, name: str, pods: int = 1) -> None:
    """Wait until so many pods of a Job are ready."""
    stage.until_running(name, pods)


def test_nothing_else_asks_it(stage: Stage, register: Register) -> None:
    """Unlabelled Jobs, admissions, evictions, deletions and the removal of finalizers go on; a new labelled Job would not."""
    stage.tenants()
    stage.apply(CLASS)
    stage.lead()
    brief = {"aiqueue.dev/class": "brief"}
    for name in ("evicted", "deleted", "orphaned", "finalized"):
        stage.create_job(name, labels=brief)
    for name in ("evicted", "deleted", "orphaned", "finalized"):
        await_ready(stage, name)
    stage.create_job("waiting", pods=4, labels=brief)
    register("Fail")

    plain = stage.create_job("plain", queue=None, gpus=0, pods=2)
    assert plain["spec"]["suspend"] is False
    assert "aiqueue.dev/user" not in plain["metadata"].get("annotations", {})
    for change in ({"suspend": True}, {"suspend": False}, {"parallelism": 1}, {"parallelism": 2}):
        patch(stage, "plain", {"spec": change})
    await_ready(stage, "plain", 2)
    delete(stage, "plain")

    # A finalizer of somebody else's, put there and taken off while the Job is being deleted.
    patch(stage, "finalized", {"metadata": {"finalizers": ["example.com/wait"]}})
    stage.cluster.kubectl("delete", "job", "finalized", f"-n={stage.namespace}", "--cascade=foreground", "--wait=false")
    stage.until(lambda: stage.pods("finalized") == [], "the pods to go")
    patch(stage, "finalized", {"metadata": {"finalizers": None}})
    delete(stage, "deleted")
    delete(stage, "orphaned", cascade="orphan")

    stage.apply(QUEUE.format(namespace=stage.namespace, state="Drain"), allow_drain=True)
    stage.until(lambda: stage.job("evicted")["spec"]["suspend"], "the run to be evicted")
    stage.until(lambda: stage.runs("evicted")[0]["closed_at"], "its quota to come back")
    with pytest.raises(HarnessError, match="failed calling webhook"):
        stage.create_job("new")


def patch(stage: Stage, name: str, change: dict[str, Any]) -> None:
    """Merge-patch a Job as cluster-admin."""
    path = f"/apis/batch/v1/namespaces/{stage.namespace}/jobs/{name}"
    stage.cluster.api.call("PATCH", path, change, content_type="application/merge-patch+json")
