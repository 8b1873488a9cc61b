"""Rows of the configuration tables to records and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, select, text
from sqlalchemy.dialects.postgresql import insert

from aiqueue.queue.documents import Record
from aiqueue.queue.records import Class, Configuration, Flavor, Queue, Quota, Taint, Tenant
from aiqueue.queue.store.codec import tolerations_from_json, tolerations_to_json
from aiqueue.queue.tables import Base, ClassRow, FlavorRow, QueueClassRow, QueueRow, QuotaRow, TenantRow
from aiqueue.queue.words import Fungibility, ObjectState, OrderKey, Queueing, Reclaim, WithinTenant

# One statement, so that all tables are read at one instant at any isolation level.
_LOAD = text(
    """
SELECT
  (SELECT revision FROM config_revision) AS revision,
  (SELECT coalesce(json_agg(f ORDER BY f.name), '[]') FROM flavor f) AS flavors,
  (SELECT coalesce(json_agg(c ORDER BY c.name), '[]') FROM class c) AS classes,
  (SELECT coalesce(json_agg(t ORDER BY t.name), '[]') FROM (
     SELECT t.*, p.name AS parent,
            (SELECT coalesce(json_agg(json_build_array(f.name, q.resource, q.nominal, q.borrowing_limit, q.lending_limit)
                                      ORDER BY q.position), '[]')
               FROM quota q JOIN flavor f ON f.id = q.flavor_id WHERE q.tenant_id = t.id) AS quotas
       FROM tenant t LEFT JOIN tenant p ON p.id = t.parent_id) t) AS tenants,
  (SELECT coalesce(json_agg(q ORDER BY q.namespace, q.name), '[]') FROM (
     SELECT q.namespace, q.name, t.name AS tenant, q.weight_thousandths, d.name AS default_class, q.allows_all_classes, q.state,
            (SELECT coalesce(json_agg(c.name ORDER BY a.position), '[]')
               FROM queue_class a JOIN class c ON c.id = a.class_id WHERE a.queue_id = q.id) AS allowed
       FROM queue q JOIN tenant t ON t.id = q.tenant_id LEFT JOIN class d ON d.id = q.default_class_id) q) AS queues
"""
)


def read(connection: Connection) -> Configuration:
    """Everything an administrator wrote, as of one instant."""
    row = connection.execute(_LOAD).mappings().one()
    return Configuration(
        revision=row["revision"],
        flavors={item["name"]: _flavor(item) for item in row["flavors"]},
        tenants={item["name"]: _tenant(item) for item in row["tenants"]},
        queues={(item["namespace"], item["name"]): _queue(item) for item in row["queues"]},
        classes={item["name"]: _class(item) for item in row["classes"]},
    )


def _flavor(item: Mapping[str, Any]) -> Flavor:
    return Flavor(
        name=item["name"],
        node_labels=item["node_labels"],
        node_taints=tuple(Taint(**taint) for taint in item["node_taints"]),
        tolerations=tolerations_from_json(item["tolerations"]),
        topology_levels=tuple(item["topology_levels"]),
    )


def _class(item: Mapping[str, Any]) -> Class:
    return Class(**{name: value for name, value in item.items() if name not in ("id", "created_at")})


def _tenant(item: Mapping[str, Any]) -> Tenant:
    return Tenant(
        name=item["name"],
        parent=item["parent"],
        weight=Fraction(item["weight_thousandths"], 1000),
        quotas=tuple(Quota(*quota) for quota in item["quotas"]),
        queueing=Queueing(item["queueing"]),
        order=tuple(OrderKey(key) for key in item["order"]),
        when_can_borrow=Fungibility(item["when_can_borrow"]),
        when_can_preempt=Fungibility(item["when_can_preempt"]),
        within_tenant=WithinTenant(item["within_tenant"]),
        reclaim=Reclaim(item["reclaim"]),
        state=ObjectState(item["state"]),
        starvation_bound_seconds=item["starvation_bound_seconds"],
        usage_half_life_seconds=item["usage_half_life_seconds"],
        usage_weights={name: Fraction(weight, 1000) for name, weight in item["usage_weights_thousandths"].items()},
    )


def _queue(item: Mapping[str, Any]) -> Queue:
    return Queue(
        namespace=item["namespace"],
        name=item["name"],
        tenant=item["tenant"],
        weight=Fraction(item["weight_thousandths"], 1000),
        default_class=item["default_class"],
        allowed_classes=None if item["allows_all_classes"] else tuple(item["allowed"]),
        state=ObjectState(item["state"]),
    )


def write(connection: Connection, records: Sequence[Record]) -> None:
    """Insert or replace rows. What they refer to is among them or in the ledger already, and fits together.

    A row keeps its id when it is replaced: runs and usage of a tenant outlive edits of its quota.
    """
    _write_flavors(connection, [record for record in records if isinstance(record, Flavor)])
    _write_classes(connection, [record for record in records if isinstance(record, Class)])
    _write_tenants(connection, [record for record in records if isinstance(record, Tenant)])
    _write_queues(connection, [record for record in records if isinstance(record, Queue)])


def _upsert(connection: Connection, row: type[Base], key: Sequence[str], rows: list[dict[str, Any]]) -> None:
    if rows:
        statement = insert(row)
        changes = {name: statement.excluded[name] for name in rows[0] if name not in key}
        connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changes), rows)


def _thousandths(weight: Fraction) -> int:
    return int(weight * 1000)


def _write_flavors(connection: Connection, flavors: Sequence[Flavor]) -> None:
    rows = [
        {
            "name": flavor.name,
            "node_labels": dict(flavor.node_labels),
            "node_taints": [asdict(taint) for taint in flavor.node_taints],
            "tolerations": tolerations_to_json(flavor.tolerations),
            "topology_levels": list(flavor.topology_levels),
        }
        for flavor in flavors
    ]
    _upsert(connection, FlavorRow, ["name"], rows)


def _write_classes(connection: Connection, classes: Sequence[Class]) -> None:
    _upsert(connection, ClassRow, ["name"], [asdict(each) for each in classes])


def _write_tenants(connection: Connection, tenants: Sequence[Tenant]) -> None:
    rows = [
        {
            "name": tenant.name,
            "weight_thousandths": _thousandths(tenant.weight),
            "queueing": str(tenant.queueing),
            "order": [str(key) for key in tenant.order],
            "when_can_borrow": str(tenant.when_can_borrow),
            "when_can_preempt": str(tenant.when_can_preempt),
            "within_tenant": str(tenant.within_tenant),
            "reclaim": str(tenant.reclaim),
            "state": str(tenant.state),
            "starvation_bound_seconds": tenant.starvation_bound_seconds,
            "usage_half_life_seconds": tenant.usage_half_life_seconds,
            "usage_weights_thousandths": {name: _thousandths(weight) for name, weight in tenant.usage_weights.items()},
        }
        for tenant in tenants
    ]
    if not rows:
        return
    _upsert(connection, TenantRow, ["name"], rows)
    # Parents follow when every tenant has its row, whatever order they came in.
    connection.execute(
        text("UPDATE tenant SET parent_id = (SELECT id FROM tenant WHERE name = :parent) WHERE name = :name"),
        [{"name": tenant.name, "parent": tenant.parent} for tenant in tenants],
    )
    tenant_ids, flavor_ids = _ids(connection, TenantRow), _ids(connection, FlavorRow)
    written = [tenant_ids[tenant.name] for tenant in tenants]
    connection.execute(text("DELETE FROM quota WHERE tenant_id = ANY(:ids)"), {"ids": written})
    quotas = [
        {
            "tenant_id": tenant_ids[tenant.name],
            "flavor_id": flavor_ids[quota.flavor],
            "resource": quota.resource,
            "position": position,
            "nominal": quota.nominal,
            "borrowing_limit": quota.borrowing_limit,
            "lending_limit": quota.lending_limit,
        }
        for tenant in tenants
        for position, quota in enumerate(tenant.quotas)
    ]
    if quotas:
        connection.execute(insert(QuotaRow), quotas)


def _write_queues(connection: Connection, queues: Sequence[Queue]) -> None:
    if not queues:
        return
    tenant_ids, class_ids = _ids(connection, TenantRow), _ids(connection, ClassRow)
    rows = [
        {
            "namespace": queue.namespace,
            "name": queue.name,
            "tenant_id": tenant_ids[queue.tenant],
            "weight_thousandths": _thousandths(queue.weight),
            "default_class_id": None if queue.default_class is None else class_ids[queue.default_class],
            "allows_all_classes": queue.allowed_classes is None,
            "state": str(queue.state),
        }
        for queue in queues
    ]
    _upsert(connection, QueueRow, ["namespace", "name"], rows)
    queue_ids = {
        (namespace, name): queue_id
        for queue_id, namespace, name in connection.execute(select(QueueRow.id, QueueRow.namespace, QueueRow.name))
    }
    written = [queue_ids[queue.namespace, queue.name] for queue in queues]
    connection.execute(text("DELETE FROM queue_class WHERE queue_id = ANY(:ids)"), {"ids": written})
    allowed = [
        {"queue_id": queue_ids[queue.namespace, queue.name], "class_id": class_ids[name], "position": position}
        for queue in queues
        for position, name in enumerate(queue.allowed_classes or ())
    ]
    if allowed:
        connection.execute(insert(QueueClassRow), allowed)


def _ids(connection: Connection, row: type[FlavorRow] | type[ClassRow] | type[TenantRow]) -> dict[str, int]:
    return {name: row_id for row_id, name in connection.execute(select(row.id, row.name))}
