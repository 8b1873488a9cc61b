"""Read live work back: pending workloads, open runs and claims, as the engine is told of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from aiqueue.queue.records import Allocation, Claim, PodSet, Run, Workload
from aiqueue.queue.store.codec import pod_set_from_json
from aiqueue.queue.words import WorkloadState

_WORKLOADS = """
SELECT w.id, w.uid, w.namespace, w.name, w.queue_name, w.class_name, w.shape, w.created_at, w.observed_at, w.state, w.attempt,
       w.owner_suspended OR w.hold_requested AS held, w.invalid, w.not_before, w.user_name, c.name AS cluster,
       w.checkpoint_seconds, w.max_runtime_seconds, w.ran_seconds,
       (SELECT json_agg(json_build_object('name', p.name, 'count', p.count, 'min_count', p.min_count, 'requests', p.requests,
               'node_selector', p.node_selector, 'tolerations', p.tolerations, 'affinity_terms', p.affinity_terms)
               ORDER BY p.position, p.name)
          FROM pod_set p WHERE p.workload_id = w.id) AS pod_sets
  FROM workload w JOIN cluster c ON c.id = w.cluster_id
"""


def workload_of(row: RowMapping) -> Workload:
    """A row of `_WORKLOADS` as a record."""
    return Workload(
        id=row["id"],
        uid=row["uid"],
        namespace=row["namespace"],
        name=row["name"],
        queue_name=row["queue_name"],
        class_name=row["class_name"],
        pod_sets=_pod_sets(row["pod_sets"] or ()),
        shape=row["shape"],
        created_at=row["created_at"],
        observed_at=row["observed_at"],
        state=WorkloadState(row["state"]),
        attempt=row["attempt"],
        cluster=row["cluster"],
        held_by_owner=row["held"],
        invalid=row["invalid"],
        not_before=row["not_before"],
        user=row["user_name"],
        checkpoint_seconds=row["checkpoint_seconds"],
        max_runtime_seconds=row["max_runtime_seconds"],
        ran_seconds=row["ran_seconds"],
    )


def _pod_sets(items: Iterable[Mapping[str, Any]]) -> tuple[PodSet, ...]:
    return tuple(pod_set_from_json(item) for item in items)


def load_pending(connection: Connection, *, ids: list[int] | None = None) -> list[Workload]:
    """Workloads that are Pending or Held, oldest first; only those of `ids` if given."""
    condition = f"WHERE w.state IN ('{WorkloadState.PENDING}', '{WorkloadState.HELD}')"
    only = " AND w.id = ANY(:ids)" if ids is not None else ""
    rows = connection.execute(
        text(f"{_WORKLOADS} {condition}{only} ORDER BY w.created_at, w.observed_at, w.uid"),
        {"ids": ids} if ids is not None else {},
    )
    return [workload_of(row) for row in rows.mappings()]


def load_open_runs(connection: Connection, *, ids: list[int] | None = None) -> list[Run]:
    """Runs that hold quota, oldest first, with what they hold; only those of `ids` if given."""
    only = " AND r.id = ANY(:ids)" if ids is not None else ""
    values = {"ids": ids} if ids is not None else {}
    held: dict[int, list[Allocation]] = {}
    for run_id, pod_set, flavor, resource, amount in connection.execute(
        text(
            "SELECT a.run_id, a.pod_set, f.name, a.resource, a.amount FROM allocation a JOIN flavor f ON f.id = a.flavor_id"
            f" JOIN run r ON r.id = a.run_id WHERE r.closed_at IS NULL{only} ORDER BY a.run_id, a.pod_set, f.name, a.resource"
        ),
        values,
    ):
        held.setdefault(run_id, []).append(Allocation(pod_set, flavor, resource, amount))
    runs = connection.execute(
        text(
            "SELECT r.id, r.workload_id, r.attempt, t.name, r.opened_at, r.adopted, r.evict_at FROM run r"
            f" JOIN tenant t ON t.id = r.tenant_id WHERE r.closed_at IS NULL{only} ORDER BY r.id"
        ),
        values,
    ).all()
    if not runs:
        return []
    rows = connection.execute(
        text(f"{_WORKLOADS} WHERE w.id = ANY(:ids)"),
        {"ids": [run.workload_id for run in runs]},
    )
    workloads = {row["id"]: workload_of(row) for row in rows.mappings()}
    return [
        Run(
            id=run_id,
            workload=workloads[workload_id],
            attempt=attempt,
            tenant=tenant,
            opened_at=opened_at,
            allocations=tuple(held.get(run_id, ())),
            adopted=adopted,
            evict_at=evict_at,
        )
        for run_id, workload_id, attempt, tenant, opened_at, adopted, evict_at in runs
    ]


def load_claims(connection: Connection) -> list[Claim]:
    """Claims that stand, oldest first."""
    rows = connection.execute(
        text(
            "SELECT c.workload_id, t.name AS tenant, c.counts, c.allocations, c.run_ids, c.claimed_at"
            " FROM claim c JOIN tenant t ON t.id = c.tenant_id ORDER BY c.claimed_at, c.workload_id"
        )
    )
    return [
        Claim(
            workload_id=row["workload_id"],
            tenant=row["tenant"],
            allocations=tuple(Allocation(*item) for item in row["allocations"]),
            counts=row["counts"],
            run_ids=tuple(row["run_ids"]),
            claimed_at=row["claimed_at"],
        )
        for row in rows.mappings()
    ]
