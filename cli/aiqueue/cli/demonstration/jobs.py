"""The Jobs of the story: ordinary ones, as `kubectl create` takes them."""

from __future__ import annotations

from typing import Any

GPU = "nvidia.com/gpu"
QUEUE_LABEL = "aiqueue.dev/queue"
NAMESPACE = "default"
#: How long pods run on the fake nodes. Where the story looks at what runs, they run until this annotation says that they end.
_RUNTIME = "aiqueue.dev/dev-runtime"
ENDS_NOW = "aiqueue.dev/dev-end=now"


def job(name: str, pods: int, limits: dict[str, str], *, queue: str | None, runtime: str = "forever") -> dict[str, Any]:
    """A Job of pods that run side by side; managed if it names a queue."""
    metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE}
    if queue is not None:
        metadata["labels"] = {QUEUE_LABEL: queue}
    container = {"name": "worker", "image": "registry.example/worker:1", "resources": {"limits": limits}}
    template = {
        "metadata": {"annotations": {_RUNTIME: runtime}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    spec = {"completionMode": "Indexed", "completions": pods, "parallelism": pods, "backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


FINETUNE = job("finetune", 2, {GPU: "8", "cpu": "16"}, queue="train")
PRETRAIN = job("pretrain", 4, {GPU: "8", "cpu": "16"}, queue="train")
REINDEX = job("reindex", 4, {"cpu": "8"}, queue="ops", runtime="1s")
BACKUP = job("backup", 1, {"cpu": "1"}, queue=None, runtime="1s")

#: No queue is called that.
TYPO = job("typo", 1, {GPU: "8"}, queue="trian")
#: A node more than its tenant, and the cluster, have.
OVERSIZED = job("oversized", 5, {GPU: "8", "cpu": "16"}, queue="train")
