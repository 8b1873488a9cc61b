"""What people read: each function is a few queries that give frozen views, whatever the size of the ledger.

Purpose: the CLI (and later the API) show workloads, runs, objects, verdicts and the audit from here. Nothing is written and
no row is locked; a caller that needs several views to agree reads them in one REPEATABLE READ transaction.

Invariants:
- long lists come in pages by key (`Page`, `Cursor`); a page never costs more than its rows and the index that orders them;
- conditions on live rows are spelled as in the partial indexes;
- why a workload waits is its own verdict, else that of its shape in its tenant, else PendingEvaluation.
"""

from __future__ import annotations

from aiqueue.queue.store.views.claims import ClaimView, claim_of, list_claims
from aiqueue.queue.store.views.control import (
    AuditView,
    ClusterView,
    DecisionView,
    LeaderView,
    decision_of,
    leader,
    list_audit,
    list_clusters,
    list_decisions,
)
from aiqueue.queue.store.views.paging import DEFAULT_LIMIT, Cursor, Page
from aiqueue.queue.store.views.runs import Leaving, RunFilter, RunView, list_runs, runs_by_id, runs_of
from aiqueue.queue.store.views.tenants import (
    ClassView,
    FlavorView,
    QueueView,
    TenantView,
    list_classes,
    list_flavors,
    list_queues,
    list_tenants,
)
from aiqueue.queue.store.views.workloads import WorkloadFilter, WorkloadView, find_workloads, list_workloads

__all__ = [
    "DEFAULT_LIMIT",
    "AuditView",
    "ClaimView",
    "ClassView",
    "ClusterView",
    "Cursor",
    "DecisionView",
    "FlavorView",
    "LeaderView",
    "Leaving",
    "Page",
    "QueueView",
    "RunFilter",
    "RunView",
    "TenantView",
    "WorkloadFilter",
    "WorkloadView",
    "claim_of",
    "decision_of",
    "find_workloads",
    "leader",
    "list_audit",
    "list_claims",
    "list_classes",
    "list_clusters",
    "list_decisions",
    "list_flavors",
    "list_queues",
    "list_runs",
    "list_tenants",
    "list_workloads",
    "runs_by_id",
    "runs_of",
]
