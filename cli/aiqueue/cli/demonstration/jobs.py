"""The Jobs of the story: ordinary ones, as `kubectl create` takes them."""

from __future__ import annotations

from typing import Any

GPU = "nvidia.com/gpu"
QUEUE_LABEL, CLASS_LABEL = "aiqueue.dev/queue", "aiqueue.dev/class"
CHECKPOINT, EVICT_AT = "aiqueue.dev/checkpoint", "aiqueue.dev/evict-at"
NAMESPACE = "default"
#: How long pods run on the fake nodes. Where the story looks at what runs, they run until this annotation says that they end.
_RUNTIME = "aiqueue.dev/dev-runtime"
ENDS_NOW = "aiqueue.dev/dev-end=now"


def job(
    name: str,
    pods: int,
    limits: dict[str, str],
    *,
    queue: str | None,
    runtime: str = "forever",
    class_name: str | None = None,
    checkpoint: str | None = None,
) -> dict[str, Any]:
    """A Job of pods that run side by side; managed if it names a queue. `checkpoint` says how often it saves its work."""
    metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE}
    if queue is not None:
        metadata["labels"] = {QUEUE_LABEL: queue}
    if class_name is not None:
        metadata["labels"][CLASS_LABEL] = class_name
    if checkpoint is not None:
        metadata["annotations"] = {CHECKPOINT: checkpoint}
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

#: Of the tenant that lends.
EVALUATE = job("evaluate", 2, {GPU: "8", "cpu": "16"}, queue="product")
TUNE = job("tune", 1, {GPU: "8", "cpu": "16"}, queue="train", class_name="batch", checkpoint="1s")
DISTILL = job("distill", 1, {GPU: "8", "cpu": "16"}, queue="train", class_name="batch")
HOTFIX = job("hotfix", 1, {GPU: "8", "cpu": "16"}, queue="train", class_name="urgent")

#: No queue is called that.
TYPO = job("typo", 1, {GPU: "8"}, queue="trian")
#: A node more than its tenant, and the cluster, have.
OVERSIZED = job("oversized", 5, {GPU: "8", "cpu": "16"}, queue="train")
