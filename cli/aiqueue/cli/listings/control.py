"""Clusters, verdicts and the audit as listings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aiqueue.cli.ages import age
from aiqueue.cli.listings.query import Answer, Query, instant
from aiqueue.cli.printers import Column, Listing, Row
from aiqueue.queue.documents import API_VERSION
from aiqueue.queue.store import views
from aiqueue.queue.units import format_amount


def clusters(connection: Connection, query: Query, now: datetime) -> Answer:
    """Clusters that match."""
    columns = [Column("NAME"), Column("WORKLOADS"), Column("RUNS"), Column("AGE"), Column("KUBE-SYSTEM-UID", wide=True)]
    rows = []
    for view in views.list_clusters(connection, query.name):
        document = {
            "apiVersion": API_VERSION,
            "kind": "Cluster",
            "metadata": {"name": view.name},
            "status": {
                "kubeSystemUid": view.kube_system_uid,
                "registeredAt": instant(view.registered_at),
                "workloads": view.workloads,
                "runs": view.runs,
            },
        }
        cells = (view.name, str(view.workloads), str(view.runs), age(view.registered_at, now), view.kube_system_uid)
        rows.append(Row(f"cluster/{view.name}", cells, document))
    return Answer(Listing(columns, rows, single=query.name is not None))


def decisions(connection: Connection, query: Query, now: datetime) -> Answer:
    """Decisions that match."""
    columns = [Column("TENANT", long=True), Column("SHAPE"), Column("WORKLOAD", long=True), Column("REASON"), Column("WAITING")]
    columns += [Column("AGE"), Column("MESSAGE", long=True), Column("WOULD-CHANGE", wide=True, long=True)]
    found = views.list_decisions(connection, tenant=query.tenant, limit=query.limit + 1)
    rows = []
    for view in found[: query.limit]:
        decision = view.decision
        cells = (
            decision.tenant or "",
            decision.shape or "",
            view.workload or "",
            str(decision.reason),
            str(view.waiting),
            age(view.decided_at, now),
            decision.message,
            decision.would_change,
        )
        status = {
            "tenant": decision.tenant,
            "shape": decision.shape,
            "workload": view.workload,
            **decision_status(view),
            "waiting": view.waiting,
        }
        document = {"apiVersion": API_VERSION, "kind": "Decision", "status": status}
        rows.append(Row(f"decision/{view.workload or f'{decision.tenant}/{decision.shape}'}", cells, document))
    return Answer(Listing(columns, rows), len(found) > query.limit)


def decision_status(view: views.DecisionView) -> dict[str, Any]:
    """What a stored verdict says, as JSON values."""
    decision = view.decision
    return {
        "reason": str(decision.reason),
        "message": decision.message,
        "wouldChange": decision.would_change,
        "shortfalls": [
            {
                "tenant": s.tenant,
                "flavor": s.flavor,
                "resource": s.resource,
                "requested": format_amount(s.resource, s.requested),
                "available": format_amount(s.resource, s.available),
            }
            for s in decision.shortfalls
        ],
        "holders": [
            {
                "namespace": h.namespace,
                "name": h.name,
                "flavor": h.flavor,
                "resource": h.resource,
                "amount": format_amount(h.resource, h.amount),
            }
            for h in decision.holders
        ],
        "details": dict(decision.details),
        "decidedAt": instant(view.decided_at),
    }


def audit(connection: Connection, query: Query, now: datetime) -> Answer:
    """Audit that match."""
    columns = [Column("AGE"), Column("VERB"), Column("KIND"), Column("NAME", long=True), Column("LOGIN"), Column("CLAIMED-BY")]
    columns += [Column("ROLE", wide=True), Column("AT", wide=True)]
    found = views.list_audit(connection, name=query.name, limit=query.limit + 1)
    rows = []
    for view in found[: query.limit]:
        document = {
            "apiVersion": API_VERSION,
            "kind": "AuditEntry",
            "status": {
                "id": view.id,
                "at": instant(view.at),
                "login": view.login,
                "role": view.session_role,
                "claimedBy": view.claimed_by,
                "verb": view.verb,
                "kind": view.kind,
                "name": view.name,
                "before": view.before,
                "after": view.after,
            },
        }
        cells = (
            age(view.at, now),
            view.verb,
            view.kind,
            view.name,
            view.login,
            view.claimed_by or "",
            view.session_role,
            instant(view.at) or "",
        )
        rows.append(Row(f"audit/{view.id}", cells, document))
    return Answer(Listing(columns, rows), len(found) > query.limit)
