"""The tenants of the soak, and the administrator who lowers their quotas, drains their queues and opens them again.

Every edit is kept with the time at which it held by the ledger's clock, so that each admission can be held against the quotas of its
time. The time is read after the edit holds the lock on the configuration: a Plan that is committed before it has an earlier one.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy import Engine, text

from aiqueue.queue.database import transaction
from aiqueue.queue.records import Class, Configuration, Flavor, Queue, Quota, Tenant, Toleration
from aiqueue.queue.store import configuration
from aiqueue.queue.words import ObjectState, Queueing

GPU = "nvidia.com/gpu"
FLAVOR = Flavor(
    "h100", node_labels={"aiqueue.dev/pool": "h100"}, tolerations=(Toleration("nvidia.com/gpu", operator="Exists"),)
)
CLASSES = (
    Class("low", priority=0, grace_period_seconds=1),
    Class("normal", priority=100, grace_period_seconds=2, ready_timeout_seconds=3600),
    Class("lasting", priority=100, min_runtime_seconds=2, grace_period_seconds=1),
    Class("urgent", priority=1000, grace_period_seconds=1),
)
#: For gangs that are not ready, or no more: they are put out soon, wait, and are held in the end.
IMPATIENT = (
    Class("once", priority=100, grace_period_seconds=1, ready_timeout_seconds=2, recovery_timeout_seconds=1, requeue_limit=0),
    Class("twice", priority=100, grace_period_seconds=1, ready_timeout_seconds=3, recovery_timeout_seconds=2, requeue_limit=1),
)
#: Queue -> its tenant; each namespace has all of them.
QUEUES = {"train": "research", "tune": "research", "serve": "product", "steps": "ops"}
_GPUS = {"lab": 4, "research": 12, "product": 8, "ops": 8}
TOTAL_GPUS = sum(_GPUS.values())


@dataclass(frozen=True, slots=True)
class Edit:
    """The tenants as they were from a time on, by the ledger's clock."""

    at: datetime
    tenants: Mapping[str, Tenant]


def _quotas(gpus: int, lent: int | None = None, borrowed: int | None = None) -> tuple[Quota, ...]:
    return (Quota(FLAVOR.name, GPU, gpus, borrowed, lent), Quota(FLAVOR.name, "cpu", 4000 * gpus))


def tree() -> dict[str, Tenant]:
    """A root that lends all of its own, and three leaves: one keeps a part for itself, one borrows little and is strict."""
    return {
        "lab": Tenant("lab", quotas=_quotas(_GPUS["lab"])),
        "research": Tenant("research", "lab", quotas=_quotas(_GPUS["research"], lent=8)),
        "product": Tenant("product", "lab", quotas=_quotas(_GPUS["product"])),
        "ops": Tenant("ops", "lab", quotas=_quotas(_GPUS["ops"], borrowed=4), queueing=Queueing.STRICT),
    }


@dataclass(slots=True)
class Administrator:
    """Edits the configuration, as the owner of the ledger. `undisturbed`: nobody stops a server while it is held."""

    ledger: Engine
    namespaces: tuple[str, ...]
    undisturbed: threading.Lock
    edits: list[Edit] = field(default_factory=list)
    _tenants: dict[str, Tenant] = field(default_factory=tree)
    _queues: dict[tuple[str, str], Queue] = field(default_factory=dict)

    def begin(self) -> None:
        """Write everything for the first time."""
        for namespace in self.namespaces:
            for name, tenant in QUEUES.items():
                self._queues[namespace, name] = Queue(namespace, name, tenant, default_class="normal")
        self._write(FLAVOR, *CLASSES, *IMPATIENT, *self._tenants.values(), *self._queues.values())

    def edit(self, rng: random.Random) -> str:
        """Change something at random; answers what, in words."""
        if rng.random() < 0.5:
            return self.turn(rng.choice(sorted(self._queues)), rng.choice([*ObjectState, ObjectState.ACTIVE]))
        name = rng.choice(["research", "product", "ops"])
        if rng.random() < 0.25:
            state = ObjectState.ACTIVE if self._tenants[name].state is not ObjectState.ACTIVE else ObjectState.HOLD
            self._put(replace(self._tenants[name], state=state))
            return f"tenant {name} is {state}"
        gpus = rng.choice([_GPUS[name], _GPUS[name] // 2, _GPUS[name] // 4, _GPUS[name]])
        first, *others = self._tenants[name].quotas
        lent = None if first.lending_limit is None else min(gpus, 8)
        self._put(replace(self._tenants[name], quotas=(replace(first, nominal=gpus, lending_limit=lent), *others)))
        return f"tenant {name} has {gpus} GPUs"

    def open_up(self) -> None:
        """Open all there is, with all its quota."""
        self._tenants = tree()
        self._queues = {key: replace(queue, state=ObjectState.ACTIVE) for key, queue in self._queues.items()}
        self._write(*self._tenants.values(), *self._queues.values())

    def turn(self, key: tuple[str, str], state: ObjectState) -> str:
        """Drain a queue, hold it or open it."""
        self._queues[key] = replace(self._queues[key], state=state)
        self._write(self._queues[key])
        return f"queue {'/'.join(key)} is {state}"

    def _put(self, tenant: Tenant) -> None:
        self._tenants[tenant.name] = tenant
        self._write(tenant)

    def _write(self, *given: Flavor | Class | Tenant | Queue) -> None:
        with self.undisturbed, transaction(self.ledger) as connection:
            configuration.apply(connection, given, claimed_by="soak", allow_drain=True)
            at = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            loaded: Configuration = configuration.load(connection)
        self.edits.append(Edit(at, loaded.tenants))
