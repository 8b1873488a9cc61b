"""What refers to an object of the configuration, as phrases for the person who wants to delete it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from aiqueue.queue.documents import ObjectName
from aiqueue.queue.words import LIVE_STATES, quoted

MAX_REFERRERS = 5
_LIVE = f"w.state IN ({quoted(LIVE_STATES)})"
_RUN = "SELECT DISTINCT w.namespace || '/' || w.name FROM run r JOIN workload w ON w.id = r.workload_id"

# kind -> (noun, query for names of referrers). Each query gives its names sorted.
_QUERIES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Flavor": (
        ("quota of tenant", "SELECT DISTINCT t.name FROM quota q JOIN tenant t ON t.id = q.tenant_id WHERE q.flavor_id = :id"),
        (
            "open run of workload",
            f"{_RUN} JOIN allocation a ON a.run_id = r.id WHERE a.flavor_id = :id AND r.closed_at IS NULL",
        ),
        (
            "ended run, not yet archived, of workload",
            f"{_RUN} JOIN allocation a ON a.run_id = r.id WHERE a.flavor_id = :id AND r.closed_at IS NOT NULL",
        ),
    ),
    "Class": (
        (
            "queue",
            (
                "SELECT q.namespace || '/' || q.name FROM queue q WHERE q.default_class_id = :id"
                " OR EXISTS (SELECT FROM queue_class a WHERE a.queue_id = q.id AND a.class_id = :id)"
            ),
        ),
        ("live workload", f"SELECT w.namespace || '/' || w.name FROM workload w WHERE {_LIVE} AND w.class_name = :name"),
    ),
    "Tenant": (
        ("child", "SELECT name FROM tenant WHERE parent_id = :id"),
        ("queue", "SELECT namespace || '/' || name FROM queue WHERE tenant_id = :id"),
        ("open run of workload", f"{_RUN} WHERE r.tenant_id = :id AND r.closed_at IS NULL"),
        ("ended run, not yet archived, of workload", f"{_RUN} WHERE r.tenant_id = :id AND r.closed_at IS NOT NULL"),
    ),
    "Queue": (
        (
            "live workload",
            (
                f"SELECT w.namespace || '/' || w.name FROM workload w WHERE {_LIVE}"
                " AND w.namespace = :namespace AND w.queue_name = :name"
            ),
        ),
        ("open run of workload", f"{_RUN} WHERE r.queue_id = :id AND r.closed_at IS NULL"),
    ),
}


def referrers_to(connection: Connection, name: ObjectName, row_id: int) -> list[str]:
    """Who refers to the object, at most `MAX_REFERRERS` of each sort, as phrases such as `queue team-a/train`."""
    found: list[str] = []
    parameters: dict[str, Any] = {"id": row_id, "name": name.name, "namespace": name.namespace}
    for noun, query in _QUERIES[name.kind]:
        limited = text(f"SELECT * FROM ({query}) AS referrer(name) ORDER BY name LIMIT {MAX_REFERRERS + 1}")
        used = {key: value for key, value in parameters.items() if f":{key}" in query}
        names = list(connection.execute(limited, used).scalars())
        found.extend(f"{noun} {each}" for each in names[:MAX_REFERRERS])
        if len(names) > MAX_REFERRERS:
            found.append(f"more of the sort {noun}")
    return found
