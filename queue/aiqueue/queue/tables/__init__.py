"""Tables of the ledger, as SQLAlchemy mapped classes.

`configuration` holds what an administrator writes, `work` what is submitted, admitted and decided, `control` what keeps
several processes and several clusters from hurting one another. Alembic compares `Base.metadata` with the migrated schema.

Invariants that the schema itself keeps:

- amounts are BIGINT base units of zero or more, states and outcomes are of the closed lists in `words`;
- a workload is one (cluster, uid); a name is unique among live workloads of a cluster and namespace;
- a workload has at most one open run (`uq_run_open_workload`), and (workload, attempt) names a run for ever;
- quota is held by exactly the allocations of open runs: what is used now is a sum over them, kept nowhere else; what was used, older
  use counting for less, is kept in `queue_usage`, whose rates are such sums again and are compared with them;
- a workload has at most one claim; only a Pending one has any, and nothing is held by it: a claim is about room, not quota taken;
- a row that live work or configuration refers to cannot be deleted (foreign keys without cascade);
- a leader term is one row: writes of a controller lock it FOR SHARE, a take-over updates it.

Live workloads are few and hot, so their indexes are partial; rows of terminal workloads move to `archived_workload` and
`archived_run`, which nothing of the controller reads.
"""

from aiqueue.queue.tables.base import Base
from aiqueue.queue.tables.configuration import ClassRow, FlavorRow, QueueClassRow, QueueRow, QuotaRow, TenantRow
from aiqueue.queue.tables.control import (
    AuditRow,
    ClusterRow,
    ConfigRevisionRow,
    LeaderBackendRow,
    LeaderLeaseRow,
    LeaderRow,
    LedgerRow,
    PlanRow,
)
from aiqueue.queue.tables.work import (
    ActionRow,
    AllocationRow,
    ArchivedRunRow,
    ArchivedWorkloadRow,
    ClaimRow,
    PodSetRow,
    QueueUsageRow,
    RunRow,
    ShapeDecisionRow,
    WorkloadDecisionRow,
    WorkloadRow,
)

__all__ = [
    "ActionRow",
    "AllocationRow",
    "ArchivedRunRow",
    "ArchivedWorkloadRow",
    "AuditRow",
    "Base",
    "ClaimRow",
    "ClassRow",
    "ClusterRow",
    "ConfigRevisionRow",
    "FlavorRow",
    "LeaderBackendRow",
    "LeaderLeaseRow",
    "LeaderRow",
    "LedgerRow",
    "PlanRow",
    "PodSetRow",
    "QueueClassRow",
    "QueueRow",
    "QueueUsageRow",
    "QuotaRow",
    "RunRow",
    "ShapeDecisionRow",
    "TenantRow",
    "WorkloadDecisionRow",
    "WorkloadRow",
]
