"""Jobs as benchmarks create them, and the patch that starts one without aiqueue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stand.sender import Request

QUEUE_LABEL = "aiqueue.dev/queue"
CLASS_LABEL = "aiqueue.dev/class"


def job(
    name: str,
    queue: str,
    requests: Mapping[str, str],
    *,
    pods: int = 1,
    class_name: str = "",
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A suspended Job with the label of its queue; without policies in force nobody else would suspend it."""
    container = {
        "name": "main",
        "image": "registry.example/team/train:2026-01-15",
        "command": ["python", "train.py"],
        "args": ["--config=/etc/train/config.yaml", "--resume=auto"],
        "resources": {"requests": dict(requests), "limits": dict(requests)},
    }
    labels = {QUEUE_LABEL: queue} | ({CLASS_LABEL: class_name} if class_name else {})
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, "annotations": dict(annotations or {})},
        "spec": {
            "suspend": True,
            "parallelism": pods,
            "completions": pods,
            "completionMode": "Indexed",
            "backoffLimit": 0,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


def path(namespace: str, name: str = "") -> str:
    """Where the API server has the Jobs of a namespace, or one of them."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs" + (f"/{name}" if name else "")


def create(namespace: str, content: dict[str, Any]) -> Request:
    """The request that creates a Job."""
    return "POST", path(namespace), content


def unsuspend(namespace: str, name: str, uid: str, resource_version: str, node_selector: Mapping[str, str]) -> Request:
    """The request that starts a Job, as aiqueue's controller makes it."""
    body = {
        "metadata": {
            "uid": uid,
            "resourceVersion": resource_version,
            "annotations": {"aiqueue.dev/run": "00000000-0000-4000-8000-000000000000/1/1"},
        },
        "spec": {"suspend": False, "template": {"spec": {"nodeSelector": dict(node_selector)}}},
    }
    return "PATCH", path(namespace, name) + "?fieldManager=bench&fieldValidation=Strict", body
