"""What the benchmark is about: tenants and queues in a given number, and the Jobs that go into them.

A tree of tenants is a team: a root with up to `LEAVES` leaf tenants, each fed by a queue, in a namespace of its own.
"""

from __future__ import annotations

import json
from typing import Any

from aiqueue.queue.documents import Record
from aiqueue.queue.records import Class, Flavor, Queue, Quota, Tenant
from webhook.client import NUMBER

LEAVES = 20
GPU = "nvidia.com/gpu"
QUEUE_LABEL = "aiqueue.dev/queue"
REVIEW_PATH = "/validate/jobs"
NO_SUCH_QUEUE = "no-such-queue"
#: Expected in answers, the first two according to whether the policies are in force.
SUSPENDED = '"suspend":true'
NOT_SUSPENDED = '"suspend":false'
ALLOWED = '"allowed":true'
#: On every Job of the benchmark, so that they can be deleted.
MARK = "aiqueue-bench"
_GIB = 2**30


def places(queues: int) -> list[tuple[str, str]]:
    """Namespace and name of every queue."""
    return [(f"team-{number // LEAVES:03}", f"queue-{number % LEAVES:02}") for number in range(queues)]


def namespaces(queues: int) -> list[str]:
    """The teams, one for every `LEAVES` queues."""
    return sorted({namespace for namespace, _ in places(queues)})


def _quotas(gpus: int) -> tuple[Quota, ...]:
    """Of two kinds of machine, so that a request has more than one place to go."""
    per_gpu = {GPU: 1, "cpu": 16_000, "memory": 128 * _GIB}
    return tuple(
        Quota(flavor, resource, gpus * amount, borrowing_limit=gpus * amount)
        for flavor in ("h100", "a100")
        for resource, amount in per_gpu.items()
    )


def records(queues: int) -> list[Record]:
    """The objects that an administrator would have written."""
    found: list[Record] = [
        Flavor("h100", node_labels={"aiqueue.dev/pool": "h100"}),
        Flavor("a100", node_labels={"aiqueue.dev/pool": "a100"}),
        Class("normal", priority=100, max_runtime_seconds=86_400),
        Class("urgent", priority=1000),
    ]
    found += [Tenant(namespace, quotas=tuple(_uncapped(64))) for namespace in namespaces(queues)]
    for namespace, name in places(queues):
        tenant = f"{namespace}-{name}"
        found.append(Tenant(tenant, parent=namespace, quotas=_quotas(64)))
        found.append(Queue(namespace, name, tenant, default_class="normal", allowed_classes=("normal", "urgent")))
    return found


def _uncapped(gpus: int) -> list[Quota]:
    """A root has nobody to borrow from."""
    return [Quota(each.flavor, each.resource, each.nominal) for each in _quotas(gpus)]


def job(namespace: str, queue: str) -> dict[str, Any]:
    """A training Job of four pods of 8 GPUs, as long as such Jobs usually are."""
    resources = {"cpu": "96", "memory": "768Gi", GPU: "8"}
    variables = {
        "NCCL_DEBUG": "WARN",
        "MASTER_PORT": "29500",
        "DATASET": "s3://datasets/corpus-2026-01/shards",
        "CHECKPOINT_FOLDER": "/checkpoints/run",
    }
    container = {
        "name": "main",
        "image": "registry.example/team/train:2026-01-15",
        "command": ["torchrun", "--nnodes=4", "--nproc-per-node=8", "--rdzv-backend=c10d", "train.py"],
        "args": ["--config=/etc/train/config.yaml", "--resume=auto", "--log-every=50"],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "resources": {"requests": resources, "limits": resources},
        "volumeMounts": [
            {"name": "checkpoints", "mountPath": "/checkpoints"},
            {"name": "shared-memory", "mountPath": "/scratch"},
        ],
    }
    volumes = [
        {"name": "checkpoints", "persistentVolumeClaim": {"claimName": "checkpoints"}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "64Gi"}},
    ]
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": volumes, "nodeSelector": {"zone": "a"}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"train-{NUMBER}",
            "namespace": namespace,
            "labels": {QUEUE_LABEL: queue, "aiqueue.dev/class": "urgent", "app": MARK},
            "annotations": {
                "aiqueue.dev/min-parallelism": "2",
                "aiqueue.dev/max-runtime": "12h",
                "aiqueue.dev/checkpoint": "30m",
            },
        },
        "spec": {
            "parallelism": 4,
            "completions": 4,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "template": {"metadata": {"labels": {"app": MARK}}, "spec": pod},
        },
    }


def creates(queues: int) -> list[tuple[str, str]]:
    """For each queue, path and body of a create."""
    return [(_jobs_path(namespace), _text(job(namespace, name))) for namespace, name in places(queues)]


def refused_creates(queues: int) -> list[tuple[str, str]]:
    """For each namespace, path and body of a create that names a queue that is not there."""
    return [(_jobs_path(namespace), _text(job(namespace, NO_SUCH_QUEUE))) for namespace in namespaces(queues)]


def reviews(queues: int) -> list[tuple[str, str]]:
    """For each queue, path and body of what the API server asks the webhook about such a create."""
    return [(REVIEW_PATH, _text(_review(job(namespace, name)))) for namespace, name in places(queues)]


def _jobs_path(namespace: str) -> str:
    return f"/apis/batch/v1/namespaces/{namespace}/jobs"


def _review(asked: dict[str, Any]) -> dict[str, Any]:
    kind = {"group": "batch", "version": "v1", "kind": "Job"}
    resource = {"group": "batch", "version": "v1", "resource": "jobs"}
    namespace, name = asked["metadata"]["namespace"], asked["metadata"]["name"]
    uid = f"00000000-0000-4000-8000-00000{NUMBER}"
    asked["metadata"] |= {"uid": uid, "creationTimestamp": "2026-01-15T12:00:00Z", "generation": 1}
    asked["metadata"]["managedFields"] = [_written_by(asked)]
    asked["spec"] |= {"suspend": True, "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": False}
    asked["status"] = {}
    request = {
        "uid": uid,
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "name": name,
        "namespace": namespace,
        "operation": "CREATE",
        "userInfo": {"username": "bench", "groups": ["system:authenticated"]},
        "object": asked,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    return {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}


def _written_by(content: dict[str, Any]) -> dict[str, Any]:
    """An entry of managedFields: half of what the API server sends is that."""
    fields = {"f:metadata": _fields(content["metadata"]), "f:spec": _fields(content["spec"])}
    return {
        "manager": "bench",
        "operation": "Update",
        "apiVersion": "batch/v1",
        "time": "2026-01-15T12:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }


def _fields(value: object) -> dict[str, Any]:
    if isinstance(value, dict):
        return {f"f:{key}": _fields(each) for key, each in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {f'k:{{"name":"{each.get("name", "")}"}}': _fields(each) for each in value}
    return {}


def _text(content: dict[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"))
