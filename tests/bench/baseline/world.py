"""Thirty tenants in five trees, and the Jobs that come to them: of three classes, each of its own size, run time and interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiqueue.queue.documents import Record
from aiqueue.queue.records import Class, Flavor, Queue, Quota, Tenant
from aiqueue.queue.words import Reclaim, WithinTenant
from stand import jobs
from stand.places import PLACES, ROOTS, Place

#: Of each leaf tenant, in cores.
NOMINAL_CPU = 20
BORROWING_CPU = 100
FLAVOR = "any"
NODE_LABELS = {"aiqueue.dev/pool": "any"}
MILLI = 1000


@dataclass(frozen=True, slots=True)
class Kind:
    """Jobs of one class. One comes to each tenant every `interval_seconds`, `count` in all."""

    name: str
    count: int
    cpu: int
    run_seconds: float
    priority: int
    interval_seconds: float


KINDS = (
    Kind("small", 350, 1, 0.2, 50, 0.1),
    Kind("medium", 100, 5, 0.5, 100, 0.5),
    Kind("large", 50, 20, 1.0, 200, 1.2),
)


#: The tenant above each leaf.
TREE_OF = {place.tenant: place.root for place in PLACES}


@dataclass(frozen=True, slots=True)
class Due:
    """A Job and when it is to be created, from the beginning."""

    seconds: float
    place: Place
    kind: int
    name: str

    def content(self) -> dict[str, Any]:
        """The Job."""
        kind = KINDS[self.kind]
        return jobs.job(self.name, self.place.queue, {"cpu": str(kind.cpu)}, class_name=kind.name)


def schedule(share: float) -> list[Due]:
    """All Jobs, by when they are due: of each class that share of its Jobs, at least one for each tenant."""
    found = [
        Due(number * kind.interval_seconds, place, which, f"{kind.name}-{place.leaf}-{number:03}")
        for which, kind in enumerate(KINDS)
        for number in range(max(1, math.ceil(kind.count * share)))
        for place in PLACES
    ]
    return sorted(found, key=lambda due: (due.seconds, due.kind))


def cpu_seconds(due: Sequence[Due]) -> float:
    """What these Jobs need, if none is put out."""
    return sum(KINDS[each.kind].cpu * KINDS[each.kind].run_seconds for each in due)


def records() -> list[Record]:
    """The configuration: nobody has notice, and nothing runs protected."""
    found: list[Record] = [Flavor(FLAVOR, node_labels=NODE_LABELS)]
    found += [Class(kind.name, priority=kind.priority, grace_period_seconds=0) for kind in KINDS]
    found += [Tenant(root) for root in ROOTS]
    quota = Quota(FLAVOR, "cpu", NOMINAL_CPU * MILLI, borrowing_limit=BORROWING_CPU * MILLI)
    for place in PLACES:
        found.append(
            Tenant(
                place.tenant,
                parent=place.root,
                quotas=(quota,),
                within_tenant=WithinTenant.LOWER_PRIORITY,
                reclaim=Reclaim.ANY,
            )
        )
        found.append(Queue(place.namespace, place.queue, place.tenant))
    return found
