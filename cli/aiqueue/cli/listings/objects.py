"""What an administrator wrote as listings: documents that `apply` takes back, with a status."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection

from aiqueue.cli.ages import age, human
from aiqueue.cli.listings.query import Answer, Query, instant, limit, namespaced, with_status
from aiqueue.cli.listings.standing import Standing, standings
from aiqueue.cli.printers import Column, Listing, Row
from aiqueue.queue.store import views
from aiqueue.queue.units import base_units_per_unit, format_amount, format_duration, is_bytes

_MILLIONTHS = 1_000_000


def tenants(connection: Connection, query: Query, now: datetime) -> Answer:
    """Tenants that match."""
    columns = [Column("NAME"), Column("PARENT", long=True), Column("STATE"), Column("PENDING"), Column("RUNNING")]
    columns += [Column("USED/NOMINAL", long=True), Column("SHARE"), Column("AGE"), Column("WEIGHT", wide=True)]
    columns += [
        Column("BORROWED", wide=True, long=True),
        Column("QUEUEING", wide=True),
        Column("ORDER", wide=True, long=True),
    ]
    every = views.list_tenants(connection)
    standing = standings(every)  # a share depends on the siblings
    rows = [_tenant(view, standing[view.record.name], now) for view in every if query.name in (None, view.record.name)]
    return Answer(Listing(columns, rows, single=query.name is not None))


def _tenant(view: views.TenantView, standing: Standing, now: datetime) -> Row:
    tenant = view.record
    pairs = dict.fromkeys([*view.nominal, *view.used])
    capacity = [
        {
            "flavor": flavor,
            "resource": resource,
            "nominal": format_amount(resource, view.nominal.get((flavor, resource), 0)),
            "used": format_amount(resource, view.used.get((flavor, resource), 0)),
            "borrowed": format_amount(resource, standing.borrowed.get((flavor, resource), 0)),
        }
        for flavor, resource in pairs
    ]
    status = {
        "createdAt": instant(view.created_at),
        "pending": view.pending,
        "running": view.admitted,
        "capacity": capacity,
        "share": None if standing.share is None else float(standing.share),  # null is infinite
    }
    cells = (
        tenant.name,
        tenant.parent or "",
        str(tenant.state),
        str(view.pending),
        str(view.admitted),
        ",".join(f"{each['flavor']}:{each['resource']}={each['used']}/{each['nominal']}" for each in capacity),
        "" if tenant.parent is None else _share(standing.share),
        age(view.created_at, now),
        f"{float(tenant.weight):g}",
        ",".join(
            f"{flavor}:{resource}={format_amount(resource, amount)}" for (flavor, resource), amount in standing.borrowed.items()
        ),
        str(tenant.queueing),
        ",".join(tenant.order),
    )
    return Row(f"tenant/{tenant.name}", cells, with_status(tenant, status))


def _share(share: Fraction | None) -> str:
    return "infinite" if share is None else f"{float(share):.3g}"


def queues(connection: Connection, query: Query, now: datetime) -> Answer:
    """Queues that match."""
    columns = [Column("NAME"), Column("TENANT", long=True), Column("STATE"), Column("PENDING"), Column("RUNNING")]
    columns += [Column("WEIGHT"), Column("USAGE"), Column("AGE")]
    columns += [Column("USED", wide=True, long=True), Column("DEFAULT", wide=True), Column("CLASSES", wide=True, long=True)]
    rows = []
    for view in views.list_queues(connection, namespace=query.namespace, name=query.name, tenant=query.tenant):
        queue = view.record
        status = {
            "createdAt": instant(view.created_at),
            "pending": view.pending,
            "running": view.admitted,
            "usage": _usage(view, now),
        }
        cells = (
            queue.name,
            queue.tenant,
            str(queue.state),
            str(view.pending),
            str(view.admitted),
            f"{float(queue.weight):g}",
            human(view.usage_millionths / _MILLIONTHS),
            age(view.created_at, now),
            ",".join(_used(resource, used.at(now)) for resource, used in view.usages.items()),
            queue.default_class or "",
            "all" if queue.allowed_classes is None else ",".join(queue.allowed_classes),
        )
        rows.append((queue.namespace, Row(f"queue/{queue.namespace}/{queue.name}", cells, with_status(queue, status))))
    return Answer(namespaced(columns, rows, query))


def _usage(view: views.QueueView, now: datetime) -> dict[str, Any]:
    """Usage as the queues of a tenant are compared by it, in seconds of all that their tree has; and that of each resource."""
    return {
        "treeSeconds": view.usage_millionths / _MILLIONTHS,
        "resources": [
            {
                "resource": resource,
                "held": format_amount(resource, used.rate),
                "baseUnitSeconds": used.at(now),
                "halfLife": format_duration(used.half_life_seconds),
            }
            for resource, used in view.usages.items()
        ],
    }


def _used(resource: str, base_unit_seconds: float) -> str:
    """Decayed use in unit hours: of GPUs, of cores, of GiB."""
    in_bytes = is_bytes(resource)
    hours = base_unit_seconds / 3600 / (2**30 if in_bytes else base_units_per_unit(resource))
    return f"{resource}={hours:.3g}{'Gi' if in_bytes else ''}h"


def classes(connection: Connection, query: Query, now: datetime) -> Answer:
    """Classes that match."""
    columns = [Column("NAME"), Column("PRIORITY"), Column("PREEMPTIBLE"), Column("MIN-RUNTIME"), Column("GRACE")]
    columns += [
        Column("MAX-RUNTIME"),
        Column("AGE"),
        Column("MAX-TOTAL", wide=True),
        Column("READY", wide=True),
        Column("REQUEUES", wide=True),
    ]
    rows = []
    for view in views.list_classes(connection, query.name):
        record = view.record
        cells = (
            record.name,
            str(record.priority),
            "yes" if record.preemptible else "no",
            format_duration(record.min_runtime_seconds),
            format_duration(record.grace_period_seconds),
            limit(record.max_runtime_seconds),
            age(view.created_at, now),
            limit(record.max_total_runtime_seconds),
            format_duration(record.ready_timeout_seconds),
            str(record.requeue_limit),
        )
        rows.append(Row(f"class/{record.name}", cells, with_status(record, {"createdAt": instant(view.created_at)})))
    return Answer(Listing(columns, rows, single=query.name is not None))


def flavors(connection: Connection, query: Query, now: datetime) -> Answer:
    """Flavors that match."""
    columns = [Column("NAME"), Column("USED/NOMINAL", long=True), Column("LABELS", long=True), Column("AGE")]
    columns += [Column("TAINTS", wide=True), Column("TOPOLOGY", wide=True, long=True)]
    rows = []
    for view in views.list_flavors(connection, query.name):
        flavor = view.record
        resources = sorted({*view.nominal, *view.used})
        capacity = [
            {
                "resource": resource,
                "nominal": format_amount(resource, view.nominal.get(resource, 0)),
                "used": format_amount(resource, view.used.get(resource, 0)),
            }
            for resource in resources
        ]
        cells = (
            flavor.name,
            ",".join(f"{each['resource']}={each['used']}/{each['nominal']}" for each in capacity),
            ",".join(f"{key}={value}" for key, value in sorted(flavor.node_labels.items())),
            age(view.created_at, now),
            ",".join(f"{taint.key}={taint.value}:{taint.effect}" for taint in flavor.node_taints),
            ",".join(flavor.topology_levels),
        )
        status = {"createdAt": instant(view.created_at), "capacity": capacity}
        rows.append(Row(f"flavor/{flavor.name}", cells, with_status(flavor, status)))
    return Answer(Listing(columns, rows, single=query.name is not None))
