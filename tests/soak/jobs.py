"""What owners submit: Jobs of every kind that the controller has to live with."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from soak.tenants import CLASSES, GPU, IMPATIENT, QUEUES

RUN, EVICT_AT, STOPPED = "aiqueue.dev/run", "aiqueue.dev/evict-at", "aiqueue.dev/stopped"
QUEUE, CLASS, HOLD = "aiqueue.dev/queue", "aiqueue.dev/class", "aiqueue.dev/hold"
DEV_RUNTIME, DEV_END, DEV_READY = "aiqueue.dev/dev-runtime", "aiqueue.dev/dev-end", "aiqueue.dev/dev-ready"
DEV_EXIT_CODE, DEV_ONLY_INDEX = "aiqueue.dev/dev-exit-code", "aiqueue.dev/dev-only-index"
FOREVER = "forever"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the owner of a Job has in it where a run writes."""

    node_selector: Mapping[str, str]
    tolerations: tuple[Mapping[str, Any], ...]
    parallelism: int

    @classmethod
    def of(cls, job: Mapping[str, Any]) -> Wish:
        """As a Job that no run has written to stands."""
        spec = job["spec"]
        pod = spec["template"]["spec"]
        return cls(dict(pod.get("nodeSelector") or {}), tuple(pod.get("tolerations") or ()), int(spec.get("parallelism", 1)))


def path(namespace: str, name: str = "") -> str:
    """Where the API server has the Jobs of a namespace, or one of them."""
    return f"/apis/batch/v1/namespaces/{namespace}/jobs" + (f"/{name}" if name else "")


def make(
    namespace: str,
    name: str,
    *,
    queue: str = "train",
    class_name: str = "normal",
    pods: int = 1,
    gpus: int = 1,
    completions: int | None = None,
    runtime: str = FOREVER,
    annotations: Mapping[str, str] | None = None,
    pod_annotations: Mapping[str, str] | None = None,
    template: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A Job of so many pods side by side, of so many GPUs each."""
    resources = {"cpu": "100m", GPU: str(gpus)}
    container = {"name": "main", "image": "registry.example/main:1", "resources": {"requests": resources, "limits": resources}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {QUEUE: queue, CLASS: class_name},
            "annotations": dict(annotations or {}),
        },
        "spec": {
            "parallelism": pods,
            "completions": pods if completions is None else completions,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": 10,
            "template": {
                "metadata": {"annotations": {DEV_RUNTIME: runtime, **(pod_annotations or {})}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [container],
                    **(template or {}),
                },
            },
            **spec,
        },
    }


def at_random(rng: random.Random, namespace: str, name: str) -> dict[str, Any]:
    """A Job of some kind: small or large, elastic, in waves, short or without end, deaf, failing, limited in time."""
    pods = rng.choice([1, 1, 1, 2, 2, 3, 4, 6])
    annotations: dict[str, str] = {}
    pod_annotations: dict[str, str] = {}
    template: dict[str, Any] = {}
    runtime = f"{rng.choice([500, 1000, 2000, 3000, 5000, 8000])}ms"
    completions = pods
    if pods > 2 and rng.random() < 0.4:
        annotations["aiqueue.dev/min-parallelism"] = str(rng.randrange(1, pods))
    if rng.random() < 0.15:
        completions = pods + rng.randrange(1, 4)
    if rng.random() < 0.2:
        pod_annotations["aiqueue.dev/dev-termination"] = f"{rng.choice([2000, 3000, 4000])}ms"
    kind = rng.random()
    if kind < 0.12:
        pod_annotations[DEV_EXIT_CODE] = "1"
    elif kind < 0.27:
        runtime = FOREVER
        annotations["aiqueue.dev/max-runtime"] = f"{rng.choice([1, 2, 4])}s"
    elif kind < 0.5:
        runtime = FOREVER
    if rng.random() < 0.3:
        annotations["aiqueue.dev/checkpoint"] = "1s"
    if rng.random() < 0.3:
        template["nodeSelector"] = {"kubernetes.io/os": "linux"}
        template["tolerations"] = [{"key": "mine", "operator": "Exists"}]
    more: dict[str, Any] = {"completionMode": "Indexed"} if rng.random() < 0.5 else {}
    return make(
        namespace,
        name,
        queue=rng.choice(sorted(QUEUES)),
        class_name=rng.choice(CLASSES).name,
        pods=pods,
        gpus=rng.choice([1, 1, 2]),
        completions=completions,
        runtime=runtime,
        annotations=annotations,
        pod_annotations=pod_annotations,
        template=template,
        **more,
    )


def unready(rng: random.Random, namespace: str, name: str) -> dict[str, Any]:
    """A Job of an impatient class whose gang is never wholly ready, or is so at first; pods that fail are made again."""
    pods = rng.choice([1, 2, 2, 3])
    notes: dict[str, str] = {}
    kind = rng.random()
    if kind < 0.7:
        notes[DEV_READY] = "never"
    if kind < 0.3:
        notes[DEV_ONLY_INDEX] = str(rng.randrange(pods))
    return make(
        namespace,
        name,
        queue=rng.choice(sorted(QUEUES)),
        class_name=rng.choice(IMPATIENT).name,
        pods=pods,
        pod_annotations=notes,
        backoffLimit=3,
        completionMode="Indexed",
    )


def wrong(rng: random.Random, namespace: str, name: str) -> dict[str, Any]:
    """A Job that the webhook turns away and that, let in, could never start."""
    match rng.randrange(4):
        case 0:
            return make(namespace, name, queue="nowhere")
        case 1:
            return make(namespace, name, class_name="unheard-of")
        case 2:
            return make(namespace, name, annotations={"aiqueue.dev/max-runtime": "soon"})
        case _:
            return make(namespace, name, gpus=1000)


def state_of(job: Mapping[str, Any]) -> str:
    """`Complete` or `Failed` where the Job is over, else an empty text."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return ""


def ending(job: Mapping[str, Any]) -> bool:
    """Whether the Job is over, or its last pods are being waited for."""
    last = ("Complete", "Failed", "SuccessCriteriaMet", "FailureTarget")
    return any(each["type"] in last and each["status"] == "True" for each in job.get("status", {}).get("conditions") or ())
