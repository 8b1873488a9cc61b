"""Workloads as people read them: where each stands and why it waits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from aiqueue.queue.records import PodSet
from aiqueue.queue.store.codec import pod_set_from_json
from aiqueue.queue.store.views.paging import DEFAULT_LIMIT, Cursor, Page, collect
from aiqueue.queue.words import LIVE_STATES, TERMINAL_STATES, PreemptionRule, Reason, RunOutcome, WorkloadState, quoted

# Spelled as in the partial indexes of `tables.work`, or the planner would not use them.
_LIVE = f"w.state IN ({quoted(LIVE_STATES)})"
_WAITING = quoted((WorkloadState.PENDING, WorkloadState.HELD))
# Begins a query: `subtree` is the tenant with all below it.
_SUBTREE = """WITH RECURSIVE subtree AS (
  SELECT id, name FROM tenant WHERE name = :tenant
  UNION ALL SELECT c.id, c.name FROM tenant c JOIN subtree s ON c.parent_id = s.id)"""

# What a page shows is looked up for its rows only, after `page` has found which they are.
_HOT = f"""
SELECT w.id, w.uid, c.name AS cluster, w.namespace, w.name, w.queue_name, coalesce(rt.name, qt.name) AS tenant,
       coalesce(w.class_name, d.name) AS class_name, w.shape, w.state, w.state_since, w.attempt, w.user_name, w.owner,
       w.created_at, w.ended_at, w.not_before, w.invalid,
       CASE WHEN w.state IN ({_WAITING}) THEN coalesce(wd.reason, sd.reason, '{Reason.PENDING_EVALUATION}') END AS reason,
       CASE WHEN w.state IN ({_WAITING}) THEN coalesce(wd.message, sd.message) END AS message,
       CASE WHEN w.state IN ({_WAITING}) THEN coalesce(wd.would_change, sd.would_change) END AS would_change,
       (SELECT f.opened_at FROM run f WHERE f.workload_id = w.id ORDER BY f.attempt LIMIT 1) AS first_admitted_at,
       (SELECT json_agg(json_build_object('name', p.name, 'count', p.count, 'min_count', p.min_count, 'requests', p.requests,
               'node_selector', p.node_selector, 'tolerations', p.tolerations, 'affinity_terms', p.affinity_terms)
               ORDER BY p.position, p.name)
          FROM pod_set p WHERE p.workload_id = w.id) AS pod_sets,
       r.evict_at, r.evict_outcome, r.evict_rule, r.evict_message,
       coalesce(pw.namespace || '/' || pw.name, pa.namespace || '/' || pa.name) AS preempted_by,
       w.checkpoint_seconds, w.max_runtime_seconds, w.ran_seconds, w.requeues, w.requeued_at,
       CASE WHEN r.started_at IS NOT NULL THEN w.ready END AS ready, (r.injected #>> '{{main,parallelism}}')::integer AS admitted_pods,
       false AS archived, %(key_at)s AS key_at, %(key_state)s AS key_state
  FROM page JOIN workload w ON w.id = page.id
  JOIN cluster c ON c.id = w.cluster_id
  LEFT JOIN queue q ON q.namespace = w.namespace AND q.name = w.queue_name
  LEFT JOIN tenant qt ON qt.id = q.tenant_id
  LEFT JOIN class d ON d.id = q.default_class_id
  LEFT JOIN run r ON r.workload_id = w.id AND r.closed_at IS NULL
  LEFT JOIN tenant rt ON rt.id = r.tenant_id
  LEFT JOIN workload pw ON pw.id = r.preempted_by
  LEFT JOIN archived_workload pa ON pa.id = r.preempted_by
  LEFT JOIN workload_decision wd ON wd.workload_id = w.id
  LEFT JOIN shape_decision sd ON sd.tenant_id = q.tenant_id AND sd.shape = w.shape
"""
_ARCHIVED = """
SELECT w.id, w.uid, c.name AS cluster, w.namespace, w.name, w.queue_name, nullif(coalesce(w.tenant, lr.tenant), '') AS tenant, w.class_name, w.shape, w.state,
       w.ended_at AS state_since, w.attempt, w.user_name, w.owner, w.created_at, w.ended_at, NULL AS not_before, NULL AS invalid,
       NULL AS reason, NULL AS message, NULL AS would_change,
       (SELECT f.opened_at FROM archived_run f WHERE f.workload_id = w.id ORDER BY f.attempt LIMIT 1) AS first_admitted_at,
       w.pod_sets, NULL AS evict_at, NULL AS evict_outcome, NULL AS evict_rule, NULL AS evict_message, NULL AS preempted_by, NULL AS checkpoint_seconds,
       NULL AS max_runtime_seconds, NULL AS ran_seconds, 0 AS requeues, NULL AS requeued_at, NULL AS ready,
       NULL AS admitted_pods, true AS archived, w.ended_at AS key_at, NULL AS key_state
  FROM page JOIN archived_workload w ON w.id = page.id
  JOIN cluster c ON c.id = w.cluster_id
  LEFT JOIN LATERAL (SELECT a.tenant FROM archived_run a WHERE a.workload_id = w.id ORDER BY a.attempt DESC LIMIT 1) lr ON true
"""
# Of the tenant that holds what it runs on, else of the one that its queue feeds.
_OF_TENANT = f"""workload w LEFT JOIN queue q ON q.namespace = w.namespace AND q.name = w.queue_name
  LEFT JOIN run r ON r.workload_id = w.id AND r.closed_at IS NULL
 WHERE coalesce(r.tenant_id, q.tenant_id) = ANY (ARRAY({_SUBTREE} SELECT id FROM subtree)) AND"""
# The latest of each tenant by its index, of which the page takes the latest. Rows that a controller of version 0003 archived do not
# say whose they are.
_ARCHIVED_OF_TENANT = f"""
{_SUBTREE}
SELECT w.id FROM (
  SELECT one.* FROM subtree s CROSS JOIN LATERAL (
    SELECT w.id, w.ended_at FROM archived_workload w
     WHERE w.tenant = s.name AND %(conditions)s %(order)s LIMIT :limit) one
  UNION ALL
  (SELECT w.id, w.ended_at FROM archived_workload w
    WHERE w.tenant IS NULL AND %(conditions)s
      AND (SELECT a.tenant FROM archived_run a WHERE a.workload_id = w.id ORDER BY a.attempt DESC LIMIT 1)
          IN (SELECT name FROM subtree) %(order)s LIMIT :limit)) w
%(order)s LIMIT :limit"""


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """A workload and its verdict.

    Attributes:
        tenant: of its open run, else the one its queue feeds; None if there is no such queue.
        class_name: its own, else the default of its queue.
        reason, message, would_change: why it waits; None where it does not. A workload that nobody decided on yet has the
            reason PendingEvaluation and no message.
        first_admitted_at: when its first run was opened.
        evict_at, evict_outcome, evict_rule, evict_message: of its open run, where that was told to end: by when, how, by which
            right, and why.
        preempted_by: `namespace/name` of the workload that its open run makes room for.
        checkpoint_seconds: how often it saves its work.
        max_runtime_seconds: its owner's limit on each run.
        ran_seconds: how long its closed runs were open, in all; None for an archived workload.
        requeues: how often it was put back because its gang was not ready, since it was last released.
        requeued_at: when that last was, which is when its age counts from.
        ready: how many of its pods are ready, where a run of it was started.
        admitted_pods: how many it runs with, where those are fewer than it asks for.
    """

    id: int
    uid: str
    cluster: str
    namespace: str
    name: str
    queue_name: str
    tenant: str | None
    class_name: str | None
    shape: str
    state: WorkloadState
    state_since: datetime
    attempt: int
    user: str
    owner: str
    created_at: datetime
    ended_at: datetime | None
    not_before: datetime | None
    reason: Reason | None
    message: str | None
    would_change: str | None
    first_admitted_at: datetime | None
    pod_sets: tuple[PodSet, ...]
    archived: bool = False
    evict_at: datetime | None = None
    evict_outcome: RunOutcome | None = None
    evict_rule: PreemptionRule | None = None
    evict_message: str | None = None
    preempted_by: str | None = None
    checkpoint_seconds: int | None = None
    max_runtime_seconds: int | None = None
    ran_seconds: int | None = None
    requeues: int = 0
    requeued_at: datetime | None = None
    ready: int | None = None
    admitted_pods: int | None = None

    @property
    def pods(self) -> int:
        """Pods of the whole gang."""
        return sum(pod_set.count for pod_set in self.pod_sets)

    @property
    def requests(self) -> dict[str, int]:
        """Requests of the whole gang in base units."""
        total: dict[str, int] = {}
        for pod_set in self.pod_sets:
            for resource, amount in pod_set.requests.items():
                total[resource] = total.get(resource, 0) + amount * pod_set.count
        return total

    def waited_seconds(self, now: datetime) -> float:
        """From its creation to its first admission; to its end or to `now` if it was never admitted."""
        until = self.first_admitted_at or self.ended_at or now
        return max(0.0, (until - self.created_at).total_seconds())


@dataclass(frozen=True, slots=True)
class WorkloadFilter:
    """Which workloads to list; None is no condition. A tenant stands for its whole subtree.

    Attributes:
        ended: whether to list workloads that are over, after the live ones: first those in the hot tables, then the archive.
    """

    namespace: str | None = None
    name: str | None = None
    queue: str | None = None
    tenant: str | None = None
    state: WorkloadState | None = None
    ended: bool = False


def list_workloads(
    connection: Connection, wanted: WorkloadFilter, *, after: Cursor | None = None, limit: int = DEFAULT_LIMIT
) -> Page[WorkloadView]:
    """A page of workloads: live ones by state, then age; then, where wanted, those that are over, latest first."""
    parts: list[Callable[[Cursor | None, int], Sequence[RowMapping]]] = [
        lambda cursor, rows: _live(connection, wanted, cursor, rows),
    ]
    if wanted.ended or wanted.state in TERMINAL_STATES:
        parts.append(lambda cursor, rows: _ended(connection, wanted, cursor, rows))
        parts.append(lambda cursor, rows: _archived(connection, wanted, cursor, rows))
    return collect(parts, workload_of, after=after, limit=limit)


def find_workloads(connection: Connection, namespace: str, name: str) -> tuple[WorkloadView, ...]:
    """Every workload of that name: the live one first, then those that are over, latest first, at most 100."""
    return list_workloads(connection, WorkloadFilter(namespace=namespace, name=name, ended=True), limit=100).items


def workload_of(row: RowMapping) -> WorkloadView:
    """A row of one of the queries here."""
    return WorkloadView(
        id=row["id"],
        uid=row["uid"],
        cluster=row["cluster"],
        namespace=row["namespace"],
        name=row["name"],
        queue_name=row["queue_name"],
        tenant=row["tenant"],
        class_name=row["class_name"],
        shape=row["shape"],
        state=WorkloadState(row["state"]),
        state_since=row["state_since"],
        attempt=row["attempt"],
        user=row["user_name"],
        owner=row["owner"],
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        not_before=row["not_before"],
        reason=Reason(row["reason"]) if row["reason"] else None,
        # What is wrong with a request is known before anyone decides on it.
        message=row["message"] or row["invalid"],
        would_change=row["would_change"],
        first_admitted_at=row["first_admitted_at"],
        pod_sets=tuple(pod_set_from_json(item) for item in row["pod_sets"] or ()),
        archived=row["archived"],
        evict_at=row["evict_at"],
        evict_outcome=RunOutcome(row["evict_outcome"]) if row["evict_outcome"] else None,
        evict_rule=PreemptionRule(row["evict_rule"]) if row["evict_rule"] else None,
        evict_message=row["evict_message"],
        preempted_by=row["preempted_by"],
        checkpoint_seconds=row["checkpoint_seconds"],
        max_runtime_seconds=row["max_runtime_seconds"],
        ran_seconds=row["ran_seconds"],
        requeues=row["requeues"],
        requeued_at=row["requeued_at"],
        ready=row["ready"],
        admitted_pods=row["admitted_pods"],
    )


def _conditions(wanted: WorkloadFilter) -> tuple[list[str], dict[str, Any]]:
    """Conditions on the columns that all parts share."""
    conditions: list[str] = []
    values: dict[str, Any] = {}
    for column, value in (("namespace", wanted.namespace), ("name", wanted.name), ("queue_name", wanted.queue)):
        if value is not None:
            conditions.append(f"w.{column} = :{column}")
            values[column] = value
    if wanted.tenant is not None:
        values["tenant"] = wanted.tenant
    if wanted.state is not None:
        conditions.append(f"w.state = '{wanted.state}'")  # a word of ours, spelled out for the partial indexes
    return conditions, values


def _hot(wanted: WorkloadFilter) -> str:
    """Where workloads of the hot table are looked for, up to the conditions."""
    return "workload w WHERE" if wanted.tenant is None else _OF_TENANT


def _live(connection: Connection, wanted: WorkloadFilter, after: Cursor | None, limit: int) -> Sequence[RowMapping]:
    conditions, values = _conditions(wanted)
    conditions.append(_LIVE)
    if wanted.name is not None:
        # Name every cluster, since the index of names begins with it.
        conditions.append("w.cluster_id = ANY (ARRAY(SELECT id FROM cluster))")
    if after is not None:
        conditions.append("(w.state, w.created_at, w.id) > (:after_state, :after_at, :after_id)")
        values |= {"after_state": after.state, "after_at": after.at, "after_id": after.id}
    order = "ORDER BY w.state, w.created_at, w.id"
    page = f"SELECT w.id FROM {_hot(wanted)} {' AND '.join(conditions)} {order} LIMIT :limit"
    shown = _HOT % {"key_at": "w.created_at", "key_state": "w.state"}
    return _page(connection, page, f"{shown} {order}", {**values, "limit": limit})


def _ended(connection: Connection, wanted: WorkloadFilter, after: Cursor | None, limit: int) -> Sequence[RowMapping]:
    conditions, values = _conditions(wanted)
    conditions.append(f"NOT ({_LIVE})")
    if after is not None:
        conditions.append("(w.ended_at, w.id) < (:after_at, :after_id)")
        values |= {"after_at": after.at, "after_id": after.id}
    order = "ORDER BY w.ended_at DESC, w.id DESC"
    page = f"SELECT w.id FROM {_hot(wanted)} {' AND '.join(conditions)} {order} LIMIT :limit"
    shown = _HOT % {"key_at": "w.ended_at", "key_state": "NULL"}
    return _page(connection, page, f"{shown} {order}", {**values, "limit": limit})


def _archived(connection: Connection, wanted: WorkloadFilter, after: Cursor | None, limit: int) -> Sequence[RowMapping]:
    conditions, values = _conditions(wanted)
    if after is not None:
        conditions.append("(w.ended_at, w.id) < (:after_at, :after_id)")
        values |= {"after_at": after.at, "after_id": after.id}
    order = "ORDER BY w.ended_at DESC, w.id DESC"
    if wanted.tenant is None:
        page = f"SELECT w.id FROM archived_workload w WHERE {' AND '.join(conditions) or 'true'} {order} LIMIT :limit"
    else:
        page = _ARCHIVED_OF_TENANT % {"conditions": " AND ".join(["true", *conditions]), "order": order}
    return _page(connection, page, f"{_ARCHIVED} {order}", {**values, "limit": limit})


def _page(connection: Connection, page: str, shown: str, values: Mapping[str, Any]) -> Sequence[RowMapping]:
    return connection.execute(text(f"WITH page AS MATERIALIZED ({page}) {shown}"), values).mappings().all()
