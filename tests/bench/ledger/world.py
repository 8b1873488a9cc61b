"""Five trees of tenants, queues in their namespaces, and Jobs as they are observed: names and requests as people write them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from aiqueue.queue.documents import Record
from aiqueue.queue.observations import Observation
from aiqueue.queue.records import Allocation, Class, Flavor, PodSet, Queue, Quota, Tenant, shape_of

TREES = 5
LEAVES = 6
TENANTS = TREES * LEAVES
SHAPES = 50
GPU = "nvidia.com/gpu"
FLAVOR = "h100"
NODE_LABELS = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
PLENTY = 10**15
#: Digits at the end of a Job's name, which tell it from others.
DIGITS = 8
_GIB = 2**30
_MILLI = 1000
_KINDS = ("train-llama-70b", "finetune-mistral-7b", "eval-nightly", "preprocess-tokens", "sweep-learning-rate")
_CREATED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
_NAMES = uuid.UUID("6f1c9a52-0f0e-4a6e-8f0b-1d1f4f7c2b10")


@dataclass(frozen=True, slots=True)
class Place:
    """A queue and the tenant that it feeds."""

    namespace: str
    queue: str
    tenant: str


def tenant(number: int) -> str:
    """The name of a leaf tenant."""
    return f"tree-{number // LEAVES % TREES}-team-{number % LEAVES}"


def places(queues: int) -> list[Place]:
    """So many queues, up to ten in a namespace, shared out among the tenants."""
    return [Place(f"team-{number % max(1, queues // 10):03}", f"queue-{number:04}", tenant(number)) for number in range(queues)]


def records(queues: int, nominal: Mapping[str, Mapping[str, int]] | None = None) -> list[Record]:
    """Tenants and their queues; `nominal` by tenant and resource, without it there is room for everything."""
    found: list[Record] = [
        Flavor(FLAVOR, node_labels=NODE_LABELS),
        Class("normal", priority=100),
        Class("urgent", priority=1000),
    ]
    found += [Tenant(f"tree-{tree}") for tree in range(TREES)]
    for number in range(TENANTS):
        of_tenant = (nominal or {}).get(tenant(number), {})
        quotas = tuple(Quota(FLAVOR, name, PLENTY if nominal is None else of_tenant.get(name, 0)) for name in requests(0))
        found.append(Tenant(tenant(number), parent=f"tree-{number // LEAVES}", quotas=quotas))
    found += [Queue(place.namespace, place.queue, place.tenant, default_class="normal") for place in places(queues)]
    return found


def requests(number: int) -> dict[str, int]:
    """What a pod of the Job of this number asks for."""
    kind = number % SHAPES
    return {GPU: 1 + kind % 8, "cpu": (1 + kind) * _MILLI, "memory": 16 * (1 + kind % 4) * _GIB}


def observation(number: int, place: Place) -> Observation:
    """A Job that waits, as it is observed."""
    pod_sets = (PodSet("main", 1 + number % 4, requests(number)),)
    class_name = "urgent" if number % SHAPES == 0 else None
    return Observation(
        cluster="bench",
        uid=str(uuid.uuid5(_NAMES, str(number))),
        namespace=place.namespace,
        name=f"{_KINDS[number % len(_KINDS)]}-{number:0{DIGITS}}",
        resource_version=str(1_000_000 + number),
        queue_name=place.queue,
        class_name=class_name,
        pod_sets=pod_sets,
        shape=shape_of(pod_sets, class_name),
        created_at=_CREATED,
        suspended=True,
        user=f"user-{number % 97}@example.com",
    )


def allocations(seen: Observation) -> tuple[Allocation, ...]:
    """What a run of it holds."""
    return tuple(
        Allocation(pod_set.name, FLAVOR, resource, amount * pod_set.count)
        for pod_set in seen.pod_sets
        for resource, amount in pod_set.requests.items()
    )
