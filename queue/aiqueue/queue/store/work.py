"""Read live work back: pending workloads, open runs and claims, as the engine is told of them.

A controller that starts reads all of it before it admits anything, so it has to be quick: plain rows in the order of their columns, and
what many workloads have in common (pod sets, and the texts that name things) is made once and shared.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, text

from aiqueue.queue.records import Allocation, Claim, PodSet, Run, Workload
from aiqueue.queue.store.codec import pod_set_from_json
from aiqueue.queue.words import WorkloadState

_WORKLOADS = """
SELECT w.id, w.uid, w.namespace, w.name, w.queue_name, w.class_name, w.shape, w.created_at, w.observed_at, w.state, w.attempt,
       w.owner_suspended OR w.hold_requested, w.invalid, w.not_before, w.user_name, c.name,
       w.checkpoint_seconds, w.max_runtime_seconds, w.ran_seconds, w.requeues, w.requeued_at
  FROM workload w JOIN cluster c ON c.id = w.cluster_id
"""
# JSON comes as text: rows that say the same are decoded once.
_POD_SETS = """
SELECT p.workload_id, p.name, p.count, p.min_count, p.requests::text, p.node_selector::text, p.tolerations::text,
       p.affinity_terms::text
  FROM pod_set p
"""
_JSON = ("requests", "node_selector", "tolerations", "affinity_terms")
_STATES = {str(state): state for state in WorkloadState}


def _workloads(connection: Connection, condition: str, order: str, ids: list[int] | None) -> list[Workload]:
    """Workloads `w` that meet a condition, in this order; only those of `ids` if given."""
    if ids is None:
        values: dict[str, Any] = {}
        pod_sets = _pod_sets(connection, f"JOIN workload w ON w.id = p.workload_id WHERE {condition}", values)
    else:
        values = {"ids": ids}
        condition += " AND w.id = ANY(:ids)"
        pod_sets = _pod_sets(connection, "WHERE p.workload_id = ANY(:ids)", values)
    found: list[Workload] = []
    shared: dict[str, str] = {}
    share = shared.setdefault
    for (
        id_,
        uid,
        namespace,
        name,
        queue_name,
        class_name,
        shape,
        created_at,
        observed_at,
        state,
        attempt,
        held,
        invalid,
        not_before,
        user,
        cluster,
        checkpoint_seconds,
        max_runtime_seconds,
        ran_seconds,
        requeues,
        requeued_at,
    ) in connection.execute(text(f"{_WORKLOADS} WHERE {condition} {order}"), values):
        found.append(
            Workload(
                id_,
                uid,
                share(namespace, namespace),
                name,
                share(queue_name, queue_name),
                class_name if class_name is None else share(class_name, class_name),
                pod_sets.get(id_, ()),
                share(shape, shape),
                created_at,
                observed_at,
                _STATES[state],
                attempt,
                share(cluster, cluster),
                held,
                invalid,
                not_before,
                share(user, user),
                checkpoint_seconds,
                max_runtime_seconds,
                ran_seconds,
                requeues,
                requeued_at,
            )
        )
    return found


def _pod_sets(connection: Connection, which: str, values: dict[str, Any]) -> dict[int, tuple[PodSet, ...]]:
    """The pod sets of some workloads, in order, by workload."""
    made: dict[tuple[Any, ...], tuple[PodSet, ...]] = {}
    found: dict[int, tuple[PodSet, ...]] = {}
    rows = connection.execute(text(f"{_POD_SETS} {which} ORDER BY p.workload_id, p.position, p.name"), values)
    for workload_id, *asked in rows:
        key = tuple(asked)
        one = made.get(key)
        if one is None:
            one = made[key] = (_pod_set(key),)
        before = found.get(workload_id)
        found[workload_id] = one if before is None else before + one
    return found


def _pod_set(row: tuple[Any, ...]) -> PodSet:
    names = ("name", "count", "min_count", "requests", "node_selector", "tolerations", "affinity_terms")
    told = dict(zip(names, row, strict=True))
    return pod_set_from_json({name: json.loads(value) if name in _JSON else value for name, value in told.items()})


def load_pending(connection: Connection, *, ids: list[int] | None = None) -> list[Workload]:
    """Workloads that are Pending or Held, oldest first; only those of `ids` if given."""
    condition = f"w.state IN ('{WorkloadState.PENDING}', '{WorkloadState.HELD}')"
    return _workloads(connection, condition, "ORDER BY coalesce(w.requeued_at, w.created_at), w.observed_at, w.uid", ids)


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
            "SELECT r.id, r.workload_id, r.attempt, t.name, r.opened_at, r.adopted, r.evict_at, r.started_at, r.ready_at,"
            " r.unready_since FROM run r"
            f" JOIN tenant t ON t.id = r.tenant_id WHERE r.closed_at IS NULL{only} ORDER BY r.id"
        ),
        values,
    ).all()
    if not runs:
        return []
    whose = _workloads(connection, "true", "", [run.workload_id for run in runs])
    workloads = {workload.id: workload for workload in whose}
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
            started_at=started_at,
            ready_at=ready_at,
            unready_since=unready_since,
        )
        for run_id, workload_id, attempt, tenant, opened_at, adopted, evict_at, started_at, ready_at, unready_since in runs
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
