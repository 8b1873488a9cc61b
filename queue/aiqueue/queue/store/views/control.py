"""Decisions, clusters and the audit as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from aiqueue.queue.records import Decision
from aiqueue.queue.store.codec import evidence_from_json
from aiqueue.queue.store.views.paging import DEFAULT_LIMIT
from aiqueue.queue.words import LIVE_STATES, Reason, WorkloadState, quoted

_LIVE = f"w.state IN ({quoted(LIVE_STATES)})"
_SHAPES = """
SELECT t.name AS tenant, d.shape, NULL::bigint AS workload_id, NULL AS workload, d.reason, d.message, d.would_change, d.evidence,
       d.decided_at, coalesce(c.waiting, 0) AS waiting
  FROM shape_decision d JOIN tenant t ON t.id = d.tenant_id
"""
_WAIT = f"""
  FROM queue q JOIN workload w ON w.namespace = q.namespace AND w.queue_name = q.name
 WHERE {_LIVE} AND w.state = '{WorkloadState.PENDING}'
   AND NOT EXISTS (SELECT FROM workload_decision o WHERE o.workload_id = w.id)
"""
# All that wait are counted at once, or those alone that one verdict is on.
_COUNTED = f"LEFT JOIN (SELECT q.tenant_id, w.shape, count(*) AS waiting {_WAIT} %s GROUP BY 1, 2) c USING (tenant_id, shape)"
_COUNTED_ONE = f"CROSS JOIN LATERAL (SELECT count(*) AS waiting {_WAIT} AND q.tenant_id = d.tenant_id AND w.shape = d.shape) c"
_OVERRIDES = """
SELECT t.name AS tenant, w.shape, w.id AS workload_id, w.namespace || '/' || w.name AS workload, d.reason, d.message,
       d.would_change, d.evidence, d.decided_at, 1 AS waiting
  FROM workload_decision d JOIN workload w ON w.id = d.workload_id
  LEFT JOIN queue q ON q.namespace = w.namespace AND q.name = w.queue_name LEFT JOIN tenant t ON t.id = q.tenant_id
"""


@dataclass(frozen=True, slots=True)
class DecisionView:
    """A stored verdict. `workload` is `namespace/name` for one that concerns it alone; `waiting` workloads wait by it."""

    decision: Decision
    workload: str | None
    decided_at: datetime
    waiting: int


@dataclass(frozen=True, slots=True)
class ClusterView:
    """A registered cluster, with its live workloads and open runs."""

    name: str
    kube_system_uid: str
    registered_at: datetime
    workloads: int
    runs: int


@dataclass(frozen=True, slots=True)
class LeaderView:
    """Who leads: `holder` is empty if nobody ever did. The term is over at `expires_at` unless renewed."""

    term: int
    holder: str
    expires_at: datetime
    now: datetime

    @property
    def leads(self) -> bool:
        """Whether a controller held the lease at `now`, the ledger's clock."""
        return self.expires_at > self.now


@dataclass(frozen=True, slots=True)
class AuditView:
    """One entry of the audit."""

    id: int
    at: datetime
    login: str
    session_role: str
    claimed_by: str | None
    verb: str
    kind: str
    name: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


def list_decisions(connection: Connection, *, tenant: str | None = None, limit: int = DEFAULT_LIMIT) -> list[DecisionView]:
    """Stored verdicts, those by which most wait first; only of `tenant` if given."""
    condition = "" if tenant is None else "WHERE tenant = :tenant"
    counted = _COUNTED % ("" if tenant is None else "AND q.tenant_id = (SELECT id FROM tenant WHERE name = :tenant)")
    every = f"{_SHAPES} {counted} UNION ALL {_OVERRIDES}"
    query = f"SELECT * FROM ({every}) d {condition} ORDER BY waiting DESC, tenant, shape, workload_id LIMIT :limit"
    return _decisions(connection, query, {"limit": limit} | ({} if tenant is None else {"tenant": tenant}))


def decision_of(connection: Connection, workload_id: int) -> DecisionView | None:
    """The stored verdict by which a workload waits: its own, else that of its shape; None if nobody decided yet."""
    own = _decisions(connection, f"{_OVERRIDES} WHERE w.id = :id", {"id": workload_id})
    shared = f"{_SHAPES} {_COUNTED_ONE} WHERE (t.id, d.shape) IN (SELECT q.tenant_id, w.shape FROM workload w JOIN queue q"
    shared += " ON q.namespace = w.namespace AND q.name = w.queue_name WHERE w.id = :id)"
    found = own or _decisions(connection, shared, {"id": workload_id})
    return found[0] if found else None


def _decisions(connection: Connection, query: str, values: Mapping[str, Any]) -> list[DecisionView]:
    views: list[DecisionView] = []
    for row in connection.execute(text(query), values).mappings():
        shortfalls, holders, details = evidence_from_json(row["evidence"])
        decision = Decision(
            reason=Reason(row["reason"]),
            message=row["message"],
            would_change=row["would_change"],
            tenant=row["tenant"],
            shape=row["shape"],
            workload_id=row["workload_id"],
            shortfalls=shortfalls,
            holders=holders,
            details=details,
        )
        views.append(DecisionView(decision, row["workload"], row["decided_at"], row["waiting"]))
    return views


def list_clusters(connection: Connection, name: str | None = None) -> list[ClusterView]:
    """Registered clusters by name."""
    query = f"""
    SELECT c.name, c.kube_system_uid, c.registered_at,
           (SELECT count(*) FROM workload w WHERE w.cluster_id = c.id AND {_LIVE}),
           (SELECT count(*) FROM run r WHERE r.cluster_id = c.id AND r.closed_at IS NULL)
      FROM cluster c ORDER BY c.name
    """
    views = [ClusterView(*row) for row in connection.execute(text(query))]
    return [view for view in views if name in (None, view.name)]


def leader(connection: Connection) -> LeaderView:
    """Who leads the ledger, by its own clock."""
    query = "SELECT l.term, l.holder, e.expires_at, clock_timestamp() FROM leader l, leader_lease e"
    return LeaderView(*connection.execute(text(query)).one())


def list_audit(
    connection: Connection,
    *,
    kind: str | None = None,
    name: str | None = None,
    before_id: int | None = None,
    limit: int = DEFAULT_LIMIT,
) -> list[AuditView]:
    """Entries of the audit, the latest first; those older than `before_id` if given."""
    given = {"kind = :kind": kind, "name = :name": name, "id < :before_id": before_id}
    conditions = [condition for condition, value in given.items() if value is not None]
    values = {condition.rpartition(":")[2]: value for condition, value in given.items() if value is not None}
    query = (
        "SELECT id, at, login, session_role, claimed_by, verb, kind, name, before, after FROM audit"
        f" WHERE {' AND '.join(conditions) or 'true'} ORDER BY id DESC LIMIT :limit"
    )
    return [AuditView(*row) for row in connection.execute(text(query), {**values, "limit": limit})]
