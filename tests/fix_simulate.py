"""Small simulations: documents as people write them, played, and what came of them in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from aiqueue.admission.engine import Engine
from aiqueue.admission.simulate.loop import simulate
from aiqueue.admission.simulate.outcome import JobOutcome, Outcome
from aiqueue.admission.simulate.reading import Reading, read

GPU = "nvidia.com/gpu"
NAMESPACE = "team-a"
SECOND = 1_000_000

Document = dict[str, Any]
Stretch = tuple[float, float | None, str]  # admitted, ended, outcome


def _ours(kind: str, name: str, spec: Mapping[str, Any], at: str | None, **metadata: str) -> Document:
    annotations = {} if at is None else {"annotations": {"simulate.aiqueue.dev/at": at}}
    return {
        "apiVersion": "aiqueue.dev/v1",
        "kind": kind,
        "metadata": {"name": name, **metadata, **annotations},
        "spec": dict(spec),
    }


def flavor(name: str = "h100", *, at: str | None = None, **spec: Any) -> Document:
    """A flavor."""
    return _ours("Flavor", name, spec, at)


def tenant(name: str = "research", gpus: int | None = 1, *, at: str | None = None, **spec: Any) -> Document:
    """A tenant with so many GPUs of flavor h100; keywords as in its spec."""
    if gpus is not None:
        spec.setdefault("quotas", [{"flavor": "h100", "resources": [{"name": GPU, "nominal": gpus}]}])
    return _ours("Tenant", name, spec, at)


def queue(
    name: str = "train", of: str = "research", *, at: str | None = None, namespace: str = NAMESPACE, **spec: Any
) -> Document:
    """A queue."""
    return _ours("Queue", name, {"tenant": of, **spec}, at, namespace=namespace)


def class_(name: str = "normal", *, at: str | None = None, **spec: Any) -> Document:
    """A class."""
    return _ours("Class", name, spec, at)


def job(
    name: str,
    gpus: int = 1,
    *,
    runtime: str | None = "5m",
    arrival: str | None = None,
    pods: int = 1,
    queue: str | None = "train",
    of_class: str | None = None,
    namespace: str | None = NAMESPACE,
    annotations: Mapping[str, Any] | None = None,
    **simulated: str,
) -> Document:
    """A Job of `pods` pods with so many GPUs each; keywords without a name of their own become annotations of the simulator."""
    notes: dict[str, Any] = {f"simulate.aiqueue.dev/{key}": value for key, value in simulated.items()}
    for key, value in (("runtime", runtime), ("arrival", arrival)):
        if value is not None:
            notes[f"simulate.aiqueue.dev/{key}"] = value
    labels = {"aiqueue.dev/queue": queue, "aiqueue.dev/class": of_class}
    metadata = {
        "name": name,
        "labels": {key: value for key, value in labels.items() if value is not None},
        "annotations": notes | dict(annotations or {}),
    }
    if namespace is not None:
        metadata["namespace"] = namespace
    container = {"name": "main", "image": "registry.example/main:1", "resources": {"limits": {GPU: gpus}}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"parallelism": pods, "completions": pods, "template": {"spec": {"containers": [container]}}},
    }


def one_tenant(gpus: int = 1, **spec: Any) -> list[Document]:
    """Queue train of tenant research."""
    return [flavor(), tenant(gpus=gpus, **spec), queue()]


def text_of(*documents: Document) -> str:
    """As one file."""
    return yaml.safe_dump_all(documents, sort_keys=False)


def reading(*documents: Document) -> Reading:
    """Read them."""
    return read([("scene.yaml", text_of(*documents))])


def played(*documents: Document, until: float | None = None, engine: Engine | None = None) -> Outcome:
    """Read and play them."""
    until_us = None if until is None else round(until * SECOND)
    return simulate(reading(*documents).scenario, until_us=until_us, engine=engine)


def of(outcome: Outcome, name: str) -> JobOutcome:
    """What became of the job of that name."""
    (found,) = (each for each in outcome.jobs if each.job.name == name)
    return found


def history(outcome: Outcome) -> dict[str, list[Stretch]]:
    """The runs of each job, in seconds."""
    return {
        each.job.name: [
            (run.admitted_us / SECOND, None if run.ended_us is None else run.ended_us / SECOND, str(run.outcome))
            for run in each.runs
        ]
        for each in outcome.jobs
    }


def room_made(outcome: Outcome) -> dict[str, list[tuple[str, str]]]:
    """Of the jobs that had to make room, or have to: for whom and by which rule, by run."""
    told = {
        each.job.name: [(run.preempted_by.rpartition("/")[2], str(run.rule)) for run in each.runs if run.preempted_by]
        for each in outcome.jobs
    }
    return {name: rooms for name, rooms in told.items() if rooms}


def states(outcome: Outcome) -> dict[str, str]:
    """The state of each job, with its reason where it waits."""
    return {
        each.job.name: f"{each.state} {each.reason}" if each.reason is not None else str(each.state) for each in outcome.jobs
    }
