"""Putting aiqueue's own manifests on a cluster of the harness, and knowing when its policies are in force.

The API server loads policies some time after it has stored them, so storing them is not enough: `await_policies` asks
for things that the policies change or refuse, without storing any, until it gets the answers they give.
"""

from __future__ import annotations

import base64
import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from aiqueue.admission.kube import names
from aiqueue.cli import resources
from aiqueue.cli.harness.api import Answer, Api
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.ports import LOOPBACK
from aiqueue.cli.harness.waiting import until

POLICIES_SECONDS = 60.0
NAMESPACE = "aiqueue-system"
SERVICE_ACCOUNT = "aiqueue-controller"
#: The annotation that the mutating policy writes.
USER_ANNOTATION = "aiqueue.dev/user"
_QUEUE_LABEL = "aiqueue.dev/queue"
_DRY_RUN_PATH = "/apis/batch/v1/namespaces/default/jobs?dryRun=All"
#: Where the webhook is asked about Jobs.
WEBHOOK_PATH = "/validate/jobs"
_NO_SUCH_QUEUE = "aiqueue-probe-no-such-queue"
_BY_THE_WEBHOOK = b'admission webhook \\"jobs.aiqueue.dev\\" denied the request'


def apply_dev(cluster: DevCluster, *, seconds: float = POLICIES_SECONDS) -> None:
    """Apply the overlay for a controller outside the cluster, and return when its policies are in force.

    The controller then authenticates as `NAMESPACE`/`SERVICE_ACCOUNT`. Applying again changes nothing.

    Args:
        cluster: a running cluster.
        seconds: how long the API server may take to load the policies.

    Raises:
        HarnessError: the server refused the manifests, or the policies were not in force in time.
    """
    cluster.kubectl("apply", "--kustomize", str(resources.manifests_path() / "overlays" / "dev"))
    await_policies(cluster.api, seconds=seconds)


def hand_over(api: Api, ledger_uid: str) -> None:
    """Give the cluster to a ledger, whoever had it before: controllers of that one do not lead any more, or not for long.

    Raises:
        HarnessError: the server refused, or the manifests were not applied.
    """
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{names.CLAIM}"
    api.call("PATCH", path, {"data": {names.CLAIM_LEDGER: ledger_uid}}, content_type="application/merge-patch+json")


def await_policies(api: Api, *, seconds: float = POLICIES_SECONDS) -> None:
    """Return when each of the policies is in force; nothing is stored.

    Raises:
        HarnessError: one of them was not in time; says which, and what the server answered.
    """
    lacking = ""

    def all_in_force() -> bool:
        nonlocal lacking
        lacking = _lacking(api)
        return not lacking

    try:
        until(all_in_force, seconds=seconds, what="the API server's loading of aiqueue's policies")
    except HarnessError as error:
        raise HarnessError(f"{error}: {lacking}; see `kubectl get validatingadmissionpolicies -o yaml`") from error


def register_webhook(
    cluster: DevCluster, port: int, ca_file: Path, *, name: str = "aiqueue", namespace: str | None = None, **change: Any
) -> None:
    """Have the API server ask a webhook that listens on loopback, and return once it does.

    Args:
        cluster: a running cluster on which the policies are in force.
        port: of the webhook, which is ready.
        ca_file: who signed its certificate.
        name: of the configuration; several may stand side by side for different namespaces.
        namespace: the only one it is asked about; D all.
        change: fields of the webhook that differ from the manifest, for example failurePolicy.

    Raises:
        HarnessError: the server refused the configuration, or does not ask in time.
    """
    content = yaml.safe_load((resources.manifests_path() / "webhook" / "configuration.yaml").read_text())
    content["metadata"]["name"] = name
    (webhook,) = content["webhooks"]
    bundle = base64.b64encode(ca_file.read_bytes()).decode()
    webhook["clientConfig"] = {"url": f"https://{LOOPBACK}:{port}{WEBHOOK_PATH}", "caBundle": bundle}
    if namespace is not None:
        webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    webhook.update(change)
    cluster.kubectl("apply", "--filename=-", stdin=json.dumps(content))
    probe = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "aiqueue-probe-", "labels": {_QUEUE_LABEL: _NO_SUCH_QUEUE}},
        "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "probe"}]}}},
    }
    path = f"/apis/batch/v1/namespaces/{namespace or 'default'}/jobs?dryRun=All"

    said = ""

    def asks() -> bool:
        nonlocal said
        answer = cluster.api.ask("POST", path, probe)
        said = _said(answer)
        return answer.status >= HTTPStatus.BAD_REQUEST and _NO_SUCH_QUEUE.encode() in answer.body

    try:
        until(asks, seconds=POLICIES_SECONDS, what="the API server's asking of the webhook")
    except HarnessError as error:
        raise HarnessError(f"{error}: a Job that names no queue there is was answered {said}") from error


def _lacking(api: Api) -> str:
    """What is not in force yet, as a phrase; empty when everything is."""
    foreign = _ask(api, labels={_QUEUE_LABEL: "probe"}, managed_by="aiqueue.dev/probe")
    if b"'aiqueue-managed-jobs'" not in foreign.body:
        return f"a Job with the label and a foreign spec.managedBy is not refused, answer {_said(foreign)}"
    labelled = _ask(api, labels={_QUEUE_LABEL: "probe"})
    # Asked after all policies, a webhook only sees what the one that is in force has found suspended and stamped.
    if labelled.status != HTTPStatus.CREATED and _BY_THE_WEBHOOK not in labelled.body:
        return f"a Job with the label {_QUEUE_LABEL} is refused, answer {_said(labelled)}"
    if labelled.status == HTTPStatus.CREATED:
        stored = labelled.json()
        if not stored["spec"].get("suspend") or USER_ANNOTATION not in stored["metadata"].get("annotations", {}):
            return f"a Job with the label {_QUEUE_LABEL} is not suspended and stamped"
    forged = _ask(api, annotations={"aiqueue.dev/run": "probe"})
    if b"'aiqueue-unmanaged-jobs'" not in forged.body:
        return f"a Job with a forged annotation aiqueue.dev/run is not refused, answer {_said(forged)}"
    return ""


def _ask(
    api: Api, *, labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, managed_by: str | None = None
) -> Answer:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "probe"}]}
    spec: dict[str, Any] = {"template": {"spec": pod}}
    if managed_by is not None:
        spec["managedBy"] = managed_by
    metadata = {"generateName": "aiqueue-probe-", "labels": labels or {}, "annotations": annotations or {}}
    return api.ask("POST", _DRY_RUN_PATH, {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})


def _said(answer: Answer) -> str:
    return f"{answer.status}: {answer.body.decode(errors='replace')[:300]}"
