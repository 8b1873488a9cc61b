"""What an administrator wrote as listings: documents that `apply` takes back, with a status."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from aiqueue.cli.ages import age
from aiqueue.cli.listings.query import Answer, Query, instant, limit, namespaced, with_status
from aiqueue.cli.printers import Column, Listing, Row
from aiqueue.queue.store import views
from aiqueue.queue.units import format_amount, format_duration


def tenants(connection: Connection, query: Query, now: datetime) -> Answer:
    """Tenants that match."""
    columns = [
        Column("NAME"),
        Column("PARENT", long=True),
        Column("WEIGHT"),
        Column("STATE"),
        Column("PENDING"),
        Column("RUNNING"),
    ]
    columns += [
        Column("USED/NOMINAL", long=True),
        Column("AGE"),
        Column("QUEUEING", wide=True),
        Column("ORDER", wide=True, long=True),
    ]
    rows = []
    for view in views.list_tenants(connection, query.name):
        tenant = view.record
        pairs = dict.fromkeys([*view.nominal, *view.used])
        used = ",".join(
            f"{flavor}:{resource}={format_amount(resource, view.used.get((flavor, resource), 0))}"
            f"/{format_amount(resource, view.nominal.get((flavor, resource), 0))}"
            for flavor, resource in pairs
        )
        status = {
            "createdAt": instant(view.created_at),
            "pending": view.pending,
            "running": view.admitted,
            "capacity": [
                {
                    "flavor": flavor,
                    "resource": resource,
                    "nominal": format_amount(resource, view.nominal.get((flavor, resource), 0)),
                    "used": format_amount(resource, view.used.get((flavor, resource), 0)),
                }
                for flavor, resource in pairs
            ],
        }
        cells = (
            tenant.name,
            tenant.parent or "",
            f"{float(tenant.weight):g}",
            str(tenant.state),
            str(view.pending),
            str(view.admitted),
            used,
            age(view.created_at, now),
            str(tenant.queueing),
            ",".join(tenant.order),
        )
        rows.append(Row(f"tenant/{tenant.name}", cells, with_status(tenant, status)))
    return Answer(Listing(columns, rows, single=query.name is not None))


def queues(connection: Connection, query: Query, now: datetime) -> Answer:
    """Queues that match."""
    columns = [
        Column("NAME"),
        Column("TENANT", long=True),
        Column("STATE"),
        Column("PENDING"),
        Column("RUNNING"),
        Column("AGE"),
    ]
    columns += [Column("WEIGHT", wide=True), Column("DEFAULT", wide=True), Column("CLASSES", wide=True, long=True)]
    rows = []
    for view in views.list_queues(connection, namespace=query.namespace, name=query.name, tenant=query.tenant):
        queue = view.record
        status = {"createdAt": instant(view.created_at), "pending": view.pending, "running": view.admitted}
        cells = (
            queue.name,
            queue.tenant,
            str(queue.state),
            str(view.pending),
            str(view.admitted),
            age(view.created_at, now),
            f"{float(queue.weight):g}",
            queue.default_class or "",
            "all" if queue.allowed_classes is None else ",".join(queue.allowed_classes),
        )
        rows.append((queue.namespace, Row(f"queue/{queue.namespace}/{queue.name}", cells, with_status(queue, status))))
    return Answer(namespaced(columns, rows, query))


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
