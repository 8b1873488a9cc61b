"""Jobs as they are submitted, and a judge of them that knows one configuration.

`Source` stands for the follower, which has tests of its own against Postgres: it answers what a test gave it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiqueue.admission.engine import Door
from aiqueue.admission.webhook import reviews
from aiqueue.admission.webhook.judge import Judge, Known
from aiqueue.admission.webhook.reviews import Answer, Review
from aiqueue.queue.errors import LedgerError
from aiqueue.queue.records import Class, Configuration, Queue, Tenant
from aiqueue.queue.words import ObjectState
from fix_builders import GPU, make_configuration, make_queue, make_tenant

NAMESPACE = "team-a"
QUEUE = "aiqueue.dev/queue"
CLASS = "aiqueue.dev/class"
NOTE = "aiqueue.dev/"  # prefix of annotations
#: Fields of a Job that are left out.
ABSENT = object()


def submitted_job(
    queue: str | None = "train",
    class_name: str | None = None,
    *,
    name: str = "fit",
    gpus: Any = 1,
    pods: Any = 1,
    labels: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
    pod: Mapping[str, Any] | None = None,
    suspend: bool = True,
    status: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A Job of `pods` pods that ask for GPUs each; `notes` are annotations without the prefix of aiqueue's."""
    named = {key: value for key, value in ((QUEUE, queue), (CLASS, class_name)) if value is not None}
    containers = [
        {"name": "main", "image": "registry.example/main:1", "resources": {"requests": {GPU: gpus}, "limits": {GPU: gpus}}}
    ]
    content: dict[str, Any] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": named | dict(labels or {}),
            "annotations": {NOTE + key: value for key, value in (notes or {}).items()},
            **(metadata or {}),
        },
        "spec": {
            "parallelism": pods,
            "suspend": suspend,
            "template": {"spec": {"restartPolicy": "Never", "containers": containers, **(pod or {})}},
            **spec,
        },
        "status": dict(status or {}),
    }
    for part in (content["metadata"], content["spec"]):
        for key in [key for key, value in part.items() if value is ABSENT]:
            del part[key]
    return content


def asked(content: Any, old: Any = None, **request: Any) -> bytes:
    """The body of a review about creating a Job, or changing it from `old`; `request` replaces fields of the request."""
    return json.dumps(
        {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "batch", "version": "v1", "kind": "Job"},
                "resource": {"group": "batch", "version": "v1", "resource": "jobs"},
                "namespace": NAMESPACE,
                "operation": "CREATE" if old is None else "UPDATE",
                "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
                "object": content,
                "oldObject": old,
                "dryRun": False,
                **request,
            },
        }
    ).encode()


def review_of(content: Any, old: Any = None, **request: Any) -> Review:
    """A review as the judge gets it."""
    return reviews.decode(asked(content, old, **request))


@dataclass
class Source:
    """Knows `memory`; the ledger holds `ledger`, or does not answer."""

    memory: Configuration | None
    ledger: Configuration | None
    unconfirmed_seconds: float = 0.0
    reads: int = field(default=0)

    @classmethod
    def of(cls, configuration: Configuration) -> Source:
        """One that is up to date."""
        return cls(configuration, configuration)

    def current(self) -> Known | None:
        return None if self.memory is None else Known(self.memory, Door(self.memory), self.unconfirmed_seconds)

    def read_through(self) -> Known:
        self.reads += 1
        if self.ledger is None:
            raise LedgerError("the ledger did not answer within 1 s")
        return Known(self.ledger, Door(self.ledger), 0.0)


def team_configuration(
    queues: tuple[Queue, ...] = (), *, tenant: Tenant | None = None, state: ObjectState = ObjectState.ACTIVE
) -> Configuration:
    """Queue team-a/train of tenant research (32 GPUs), default class normal, which allows 24 h; classes normal and urgent."""
    return make_configuration(
        [tenant or make_tenant(state=state)],
        [make_queue(default_class="normal", allowed_classes=("normal",)), make_queue("open"), *queues],
        classes=[Class("normal", 100, max_runtime_seconds=86400), Class("urgent", 1000)],
    )


def judged(content: Any, old: Any = None, *, configuration: Configuration | None = None, **request: Any) -> Answer:
    """What is answered where the ledger and memory hold the same."""
    known = team_configuration() if configuration is None else configuration
    return Judge(Source.of(known)).thorough(review_of(content, old, **request))
