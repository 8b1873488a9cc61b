"""Configuration objects with what uses them: tenants, queues, classes and flavors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from aiqueue.queue.consistency import children_of
from aiqueue.queue.documents import ObjectName
from aiqueue.queue.records import Class, Configuration, Flavor, Queue, Tenant
from aiqueue.queue.store import usage
from aiqueue.queue.usage import Usage, normalised, totals_of_trees
from aiqueue.queue.words import LIVE_STATES, WorkloadState, quoted

Pair = tuple[str, str]  # (flavor, resource)

_CREATED = """
SELECT 'Flavor', '', name, created_at FROM flavor UNION ALL SELECT 'Class', '', name, created_at FROM class
UNION ALL SELECT 'Tenant', '', name, created_at FROM tenant UNION ALL SELECT 'Queue', namespace, name, created_at FROM queue
"""
_USED = """
SELECT t.name, f.name, a.resource, sum(a.amount) FROM run r JOIN tenant t ON t.id = r.tenant_id
  JOIN allocation a ON a.run_id = r.id JOIN flavor f ON f.id = a.flavor_id
 WHERE r.closed_at IS NULL GROUP BY 1, 2, 3
"""
_OPEN_RUNS = "SELECT t.name, count(*) FROM run r JOIN tenant t ON t.id = r.tenant_id WHERE r.closed_at IS NULL GROUP BY 1"
_COUNTS = f"""
SELECT w.namespace, w.queue_name, w.state, count(*) FROM workload w WHERE w.state IN ({quoted(LIVE_STATES)}) GROUP BY 1, 2, 3
"""
_WAITING = (WorkloadState.PENDING, WorkloadState.HELD)


@dataclass(frozen=True, slots=True)
class TenantView:
    """A tenant with its subtree's figures.

    Attributes:
        depth: 0 for a root.
        nominal, used: by (flavor, resource) in base units, sums over the tenant and all below it. `used` is what open runs
            hold, also of pairs that are listed no more.
        own_used: the part of it that the tenant's own queues hold.
        pending: workloads that wait (Pending or Held) in queues of the subtree. `admitted`: open runs of the subtree.
    """

    record: Tenant
    created_at: datetime
    depth: int
    nominal: Mapping[Pair, int]
    used: Mapping[Pair, int]
    own_used: Mapping[Pair, int]
    pending: int
    admitted: int


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue with counts of its live workloads, those that wait and all others, and with what it used.

    Attributes:
        usages: by resource, as folded last.
        usage_millionths: at the time of reading, as the queues of a tenant are compared by it: see `normalised`.
    """

    record: Queue
    created_at: datetime
    pending: int
    admitted: int
    usages: Mapping[str, Usage]
    usage_millionths: int


@dataclass(frozen=True, slots=True)
class ClassView:
    """A class."""

    record: Class
    created_at: datetime


@dataclass(frozen=True, slots=True)
class FlavorView:
    """A flavor with what all tenants own of it and what open runs hold, by resource, in base units."""

    record: Flavor
    created_at: datetime
    nominal: Mapping[str, int]
    used: Mapping[str, int]


def list_tenants(connection: Connection, name: str | None = None) -> list[TenantView]:
    """Tenants depth first, siblings by name; only the one of `name` if given."""
    configuration, created = _configuration(connection), _created(connection)
    children = children_of(configuration.tenants)
    own_used: dict[str, dict[Pair, int]] = {}
    for tenant, flavor, resource, amount in connection.execute(text(_USED)):
        own_used.setdefault(tenant, {})[flavor, resource] = int(amount)
    admitted: dict[str, int] = {tenant: count for tenant, count in connection.execute(text(_OPEN_RUNS))}  # noqa: C416 -- typed rows
    pending: dict[str, int] = {}
    for (namespace, queue), (waiting, _) in _counts(connection).items():
        record = configuration.queues.get((namespace, queue))
        if record is not None:
            pending[record.tenant] = pending.get(record.tenant, 0) + waiting
    order: list[tuple[str, int]] = []
    stack = [(root, 0) for root in sorted((t.name for t in configuration.tenants.values() if t.parent is None), reverse=True)]
    while stack:
        at, depth = stack.pop()
        order.append((at, depth))
        stack.extend((child, depth + 1) for child in reversed(children.get(at, [])))
    views: dict[str, TenantView] = {}
    for at, depth in reversed(order):
        below = [views[child] for child in children.get(at, [])]
        tenant_record = configuration.tenants[at]
        views[at] = TenantView(
            record=tenant_record,
            created_at=created[ObjectName("Tenant", at)],
            depth=depth,
            nominal=_sum([{(q.flavor, q.resource): q.nominal for q in tenant_record.quotas}, *(v.nominal for v in below)]),
            used=_sum([own_used.get(at, {}), *(view.used for view in below)]),
            own_used=own_used.get(at, {}),
            pending=pending.get(at, 0) + sum(view.pending for view in below),
            admitted=admitted.get(at, 0) + sum(view.admitted for view in below),
        )
    return [views[at] for at, _ in order if name in (None, at)]


def list_queues(
    connection: Connection, *, namespace: str | None = None, name: str | None = None, tenant: str | None = None
) -> list[QueueView]:
    """Queues by namespace and name; None is no condition."""
    configuration, created, counts = _configuration(connection), _created(connection), _counts(connection)
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    used: dict[tuple[str, str], dict[str, Usage]] = {}
    for (space, queue_name, resource), each in usage.load(connection).items():
        used.setdefault((space, queue_name), {})[resource] = each
    totals = totals_of_trees(configuration.tenants)
    found = []
    for key, queue in configuration.queues.items():
        if namespace in (None, queue.namespace) and name in (None, queue.name) and tenant in (None, queue.tenant):
            usages, weights = used.get(key, {}), configuration.tenants[queue.tenant].usage_weights
            millionths = normalised(usages, totals[queue.tenant], weights, queue.weight, now)
            made_at = created[ObjectName("Queue", queue.name, queue.namespace)]
            found.append(QueueView(queue, made_at, *counts.get(key, (0, 0)), usages, millionths))
    return found


def list_classes(connection: Connection, name: str | None = None) -> list[ClassView]:
    """Classes, highest priority first."""
    configuration, created = _configuration(connection), _created(connection)
    classes = sorted(configuration.classes.values(), key=lambda each: (-each.priority, each.name))
    return [ClassView(each, created[ObjectName("Class", each.name)]) for each in classes if name in (None, each.name)]


def list_flavors(connection: Connection, name: str | None = None) -> list[FlavorView]:
    """Flavors by name."""
    configuration, created = _configuration(connection), _created(connection)
    nominal: dict[str, dict[str, int]] = {}
    for tenant in configuration.tenants.values():
        for quota in tenant.quotas:
            owned = nominal.setdefault(quota.flavor, {})
            owned[quota.resource] = owned.get(quota.resource, 0) + quota.nominal
    used: dict[str, dict[str, int]] = {}
    for _, flavor, resource, amount in connection.execute(text(_USED)):
        held = used.setdefault(flavor, {})
        held[resource] = held.get(resource, 0) + int(amount)
    return [
        FlavorView(flavor, created[ObjectName("Flavor", flavor.name)], nominal.get(flavor.name, {}), used.get(flavor.name, {}))
        for flavor in configuration.flavors.values()
        if name in (None, flavor.name)
    ]


def _configuration(connection: Connection) -> Configuration:
    # The mapped tables take as long to import as a list of work takes in all, and that does without them.
    from aiqueue.queue.store import objects

    return objects.read(connection)


def _created(connection: Connection) -> dict[ObjectName, datetime]:
    return {
        ObjectName(kind, name, namespace): created_at
        for kind, namespace, name, created_at in connection.execute(text(_CREATED))
    }


def _counts(connection: Connection) -> dict[Pair, tuple[int, int]]:
    """(waiting, others) of each (namespace, queue name) that live workloads name."""
    found: dict[Pair, tuple[int, int]] = {}
    for namespace, queue, state, count in connection.execute(text(_COUNTS)):
        waiting, others = found.get((namespace, queue), (0, 0))
        found[namespace, queue] = (waiting + count, others) if state in _WAITING else (waiting, others + count)
    return found


def _sum(amounts: Iterable[Mapping[Pair, int]]) -> dict[Pair, int]:
    total: dict[Pair, int] = {}
    for mapping in amounts:
        for pair, amount in mapping.items():
            total[pair] = total.get(pair, 0) + amount
    return total
