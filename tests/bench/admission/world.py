"""Thirty tenants in five trees, and waiting Jobs of fifty shapes for them."""

from __future__ import annotations

from typing import Any

from aiqueue.queue.documents import Record
from aiqueue.queue.records import Class, Flavor, Queue, Quota, Tenant
from aiqueue.queue.words import ObjectState
from stand import jobs
from stand.places import LEAVES, PLACES, ROOTS, Place

SHAPES = 50
GPU = "nvidia.com/gpu"
NODE_LABELS = {"aiqueue.dev/pool": "h100"}
_GIB = 2**30
_MILLI = 1000


def records(most_jobs: int, state: ObjectState) -> list[Record]:
    """Tenants that have room for so many Jobs, half of it lent among the tenants of a tree.

    `state` is that of every leaf tenant: Hold keeps all of their work waiting.
    """
    found: list[Record] = [Flavor("h100", node_labels=NODE_LABELS), Class("normal", priority=100)]
    # Any tree may have to take what all Jobs ask for at most.
    each = most_jobs // len(PLACES) + 1
    half = tuple(Quota("h100", resource, each * amount // 2 + amount) for resource, amount in _most().items())
    rest = tuple(Quota("h100", resource, LEAVES * (each * amount // 2 + amount)) for resource, amount in _most().items())
    found += [Tenant(root, quotas=rest) for root in ROOTS]
    for place in PLACES:
        found.append(Tenant(place.tenant, parent=place.root, quotas=half, state=state))
        found.append(Queue(place.namespace, place.queue, place.tenant, default_class="normal"))
    return found


def _most() -> dict[str, int]:
    """What the largest Job asks for, in base units."""
    return {GPU: 8, "cpu": SHAPES * _MILLI, "memory": 64 * _GIB}


def shape(number: int) -> dict[str, str]:
    """What a Job asks for."""
    kind = number % SHAPES
    return {GPU: str(1 + kind % 8), "cpu": str(1 + kind), "memory": f"{16 * (1 + kind % 4)}Gi"}


def job(number: int, name: str) -> tuple[Place, dict[str, Any]]:
    """A Job of one pod, and where it goes: each tenant gets as many, each of every shape."""
    place = PLACES[number % len(PLACES)]
    return place, jobs.job(f"{name}-{number:06}", place.queue, shape(number // len(PLACES)))
