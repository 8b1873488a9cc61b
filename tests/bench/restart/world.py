"""Thirty tenants in five trees that are full, each with a Job that holds all of its GPUs, and Jobs of fifty shapes behind them."""

from __future__ import annotations

from typing import Any

from admission.world import GPU, NODE_LABELS
from aiqueue.queue.documents import Record
from aiqueue.queue.records import Class, Flavor, Queue, Quota, Tenant
from stand import jobs
from stand.places import PLACES, ROOTS, Place

GPUS = 8
_GIB = 2**30
# Only GPUs are scarce: of the rest there is enough for as many Jobs as ever run at once.
_PLENTY = {"cpu": 1_000_000, "memory": 10_000 * _GIB}


def records() -> list[Record]:
    """What an administrator writes: every leaf tenant has the GPUs of one filler, and those above have none of their own."""
    # Who borrowed a part of what came free may have to give it back, and does so at once.
    found: list[Record] = [Flavor("h100", node_labels=NODE_LABELS), Class("normal", priority=100, grace_period_seconds=0)]
    quotas = tuple(Quota("h100", resource, amount) for resource, amount in ({GPU: GPUS} | _PLENTY).items())
    found += [Tenant(root) for root in ROOTS]
    for place in PLACES:
        found.append(Tenant(place.tenant, parent=place.root, quotas=quotas))
        found.append(Queue(place.namespace, place.queue, place.tenant, default_class="normal"))
    return found


def filler_name(place: Place) -> str:
    """Of the Job that fills a tenant."""
    return f"filler-{place.leaf}"


def filler(place: Place) -> dict[str, Any]:
    """The Job that fills a tenant: it holds all of its GPUs."""
    return jobs.job(filler_name(place), place.queue, {GPU: str(GPUS), "cpu": "1", "memory": "1Gi"})


def completion(now: str) -> dict[str, Any]:
    """The patch that makes a Job of one pod complete, as the Job controller would; `now` as RFC 3339 has it."""
    done = [
        {"type": kind, "status": "True", "reason": "CompletionsReached", "lastProbeTime": now, "lastTransitionTime": now}
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    return {"status": {"startTime": now, "completionTime": now, "succeeded": 1, "completedIndexes": "0", "conditions": done}}
