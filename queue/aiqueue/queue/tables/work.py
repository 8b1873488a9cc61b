"""What is submitted, admitted and decided: workloads with pod sets, runs with allocations, claims, usage, decisions, actions, archives."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from aiqueue.queue.tables.base import (
    Amount,
    Base,
    Id,
    Instant,
    Json,
    JsonList,
    Name,
    Recorded,
    not_negative,
    one_of,
)
from aiqueue.queue.words import (
    LIVE_STATES,
    OVERRIDE_REASONS,
    ActionKind,
    PreemptionRule,
    Reason,
    RunOutcome,
    WorkloadState,
    quoted,
)

_LIVE = f"state IN ({quoted(LIVE_STATES)})"


class WorkloadRow(Base):
    """What is admitted whole.

    `submitted` is (created_at, observed_at, uid). The columns from `resource_version` to `stamp` are the last observation.
    `owner_suspended` holds the workload after its owner suspended a run; `hold_requested` and `release_requested` mirror the
    annotation, which releases it when it turns "false". `checkpoint_seconds` and `max_runtime_seconds` follow their annotations
    also while it runs; `ran_seconds` is how long its closed runs were open, in all, each rounded up. `requeues` is how often it was put
    back because its gang was not ready, since somebody last released it, and `requeued_at` when that last was: it is as old as that.
    """

    __tablename__ = "workload"
    id: Mapped[Id]
    cluster_id: Mapped[int] = mapped_column(ForeignKey("cluster.id"))
    uid: Mapped[Name]
    namespace: Mapped[Name]
    name: Mapped[Name]
    queue_name: Mapped[Name]
    class_name: Mapped[str | None] = mapped_column(Text)
    shape: Mapped[Name]
    created_at: Mapped[Instant]
    observed_at: Mapped[Recorded]
    state: Mapped[Name]
    state_since: Mapped[Recorded]
    attempt: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    owner_suspended: Mapped[bool] = mapped_column(server_default=text("false"))
    hold_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    release_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    not_before: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    invalid: Mapped[str | None] = mapped_column(Text)
    user_name: Mapped[Name] = mapped_column(server_default=text("''"))
    owner: Mapped[Name] = mapped_column(server_default=text("''"))
    resource_version: Mapped[Name]
    suspended: Mapped[bool]
    active: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    terminating: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    ready: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    succeeded: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    failed: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    stamp: Mapped[str | None] = mapped_column(Text)
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    checkpoint_seconds: Mapped[int | None] = mapped_column(BigInteger)
    max_runtime_seconds: Mapped[int | None] = mapped_column(BigInteger)
    ran_seconds: Mapped[Amount] = mapped_column(server_default=text("0"))
    requeues: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    requeued_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    __table_args__ = (
        UniqueConstraint("cluster_id", "uid"),
        one_of("state", WorkloadState),
        *not_negative("attempt", "active", "terminating", "ready", "succeeded", "failed"),
        *not_negative("checkpoint_seconds", "max_runtime_seconds", "ran_seconds", "requeues"),
        Index("uq_workload_live_name", "cluster_id", "namespace", "name", unique=True, postgresql_where=text(_LIVE)),
        Index("ix_workload_live_state", "state", "created_at", "id", postgresql_where=text(_LIVE)),
        Index("ix_workload_live_queue", "namespace", "queue_name", postgresql_where=text(_LIVE)),
        Index("ix_workload_terminal", "ended_at", postgresql_where=text(f"NOT ({_LIVE})")),
    )


class PodSetRow(Base):
    """Pods of one template of a workload, as its owner wrote them. `requests` are per pod in base units."""

    __tablename__ = "pod_set"
    workload_id: Mapped[int] = mapped_column(ForeignKey("workload.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[Name] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    count: Mapped[int] = mapped_column(Integer)
    min_count: Mapped[int | None] = mapped_column(Integer)
    requests: Mapped[Json]
    node_selector: Mapped[Json]
    tolerations: Mapped[JsonList]
    affinity_terms: Mapped[JsonList]
    __table_args__ = (*not_negative("count", "min_count"),)


class RunRow(Base):
    """One admission of a workload, from quota taken to quota given back. Open while `closed_at` is NULL.

    `started_at` is when the unsuspend was seen to be done, `evict_at` .. `evict_rule` what was decided about its end (the workload
    that it makes room for, and by which right, where it was preempted) at `evict_noticed_at`, `stopped_at` when the suspend was
    seen to be done. `ready_at` is when its whole gang was first seen to be ready, `unready_since` since when it no longer is,
    `succeeded_before` how many pods of the Job had succeeded in earlier runs.
    `original` is what the template held before we wrote to it, `injected` what we wrote.
    """

    __tablename__ = "run"
    id: Mapped[Id]
    workload_id: Mapped[int] = mapped_column(ForeignKey("workload.id"))
    attempt: Mapped[int] = mapped_column(Integer)
    cluster_id: Mapped[int] = mapped_column(ForeignKey("cluster.id"))
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenant.id"))
    queue_id: Mapped[int | None] = mapped_column(ForeignKey("queue.id", ondelete="SET NULL"))
    term: Mapped[int] = mapped_column(BigInteger)
    adopted: Mapped[bool] = mapped_column(server_default=text("false"))
    opened_at: Mapped[Instant]
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    evict_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    evict_outcome: Mapped[str | None] = mapped_column(Text)
    evict_message: Mapped[str | None] = mapped_column(Text)
    preempted_by: Mapped[int | None] = mapped_column(BigInteger)
    evict_rule: Mapped[str | None] = mapped_column(Text)
    evict_noticed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    stopped_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    closed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    outcome: Mapped[Name] = mapped_column(server_default=text(f"'{RunOutcome.RUNNING}'"))
    message: Mapped[Name] = mapped_column(server_default=text("''"))
    original: Mapped[Json]
    injected: Mapped[Json]
    ready_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    unready_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    succeeded_before: Mapped[int | None] = mapped_column(Integer)
    __table_args__ = (
        UniqueConstraint("workload_id", "attempt"),
        one_of("outcome", RunOutcome),
        one_of("evict_outcome", RunOutcome),
        one_of("evict_rule", PreemptionRule),
        CheckConstraint(f"(closed_at IS NULL) = (outcome = '{RunOutcome.RUNNING}')", name="open_is_running"),
        Index("uq_run_open_workload", "workload_id", unique=True, postgresql_where=text("closed_at IS NULL")),
        Index("ix_run_open_tenant", "tenant_id", postgresql_where=text("closed_at IS NULL")),
        Index("ix_run_open_queue", "queue_id", postgresql_where=text("closed_at IS NULL")),
        Index("ix_run_preempted_by", "preempted_by", postgresql_where=text("preempted_by IS NOT NULL")),
    )


class AllocationRow(Base):
    """What a run holds of one resource of one flavor for one pod set: the total over its pods.

    `opened_amount` is what it held at first, NULL where that is what it still holds, or held to its end.
    """

    __tablename__ = "allocation"
    run_id: Mapped[int] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), primary_key=True)
    pod_set: Mapped[Name] = mapped_column(primary_key=True)
    flavor_id: Mapped[int] = mapped_column(ForeignKey("flavor.id"), primary_key=True, index=True)
    resource: Mapped[Name] = mapped_column(primary_key=True)
    amount: Mapped[Amount]
    opened_amount: Mapped[int | None] = mapped_column(BigInteger)
    __table_args__ = (*not_negative("amount"),)


class ClaimRow(Base):
    """Room that belongs to a Pending workload while others vacate it: see `aiqueue.queue.records.Claim`.

    `counts` are pods by pod set, `allocations` as [pod set, flavor, resource, amount], `run_ids` the runs that are to make room.
    """

    __tablename__ = "claim"
    workload_id: Mapped[int] = mapped_column(ForeignKey("workload.id", ondelete="CASCADE"), primary_key=True)
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    counts: Mapped[Json]
    allocations: Mapped[JsonList]
    run_ids: Mapped[list[int]] = mapped_column(ARRAY(BigInteger))
    claimed_at: Mapped[Instant]
    term: Mapped[int] = mapped_column(BigInteger)


class QueueUsageRow(Base):
    """What a queue used of one resource, over all flavors, older use counting for less: see `aiqueue.queue.usage`.

    `rate` is what its open runs hold since `as_of`. Folded in the transaction that opens or closes a run, and nowhere else.
    """

    __tablename__ = "queue_usage"
    queue_id: Mapped[int] = mapped_column(ForeignKey("queue.id", ondelete="CASCADE"), primary_key=True)
    resource: Mapped[Name] = mapped_column(primary_key=True)
    value: Mapped[float] = mapped_column(Double)
    rate: Mapped[Amount]
    half_life_seconds: Mapped[Amount]
    as_of: Mapped[Instant]
    __table_args__ = (*not_negative("value", "rate", "half_life_seconds"),)


class ShapeDecisionRow(Base):
    """The latest verdict on all pending workloads of one shape in one tenant."""

    __tablename__ = "shape_decision"
    tenant_id: Mapped[int] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"), primary_key=True)
    shape: Mapped[Name] = mapped_column(primary_key=True)
    reason: Mapped[Name]
    message: Mapped[Name]
    would_change: Mapped[Name]
    evidence: Mapped[Json]
    decided_at: Mapped[Instant]
    __table_args__ = (one_of("reason", Reason),)


class WorkloadDecisionRow(Base):
    """A verdict that concerns one workload alone and overrides that of its shape."""

    __tablename__ = "workload_decision"
    workload_id: Mapped[int] = mapped_column(ForeignKey("workload.id", ondelete="CASCADE"), primary_key=True)
    reason: Mapped[Name]
    message: Mapped[Name]
    would_change: Mapped[Name]
    evidence: Mapped[Json]
    decided_at: Mapped[Instant]
    __table_args__ = (one_of("reason", sorted(OVERRIDE_REASONS)),)


class ActionRow(Base):
    """What the cluster must be made to see; carried out in order of id for one workload, then deleted.

    `resource_version` is that of the Job whose spec the run was decided on. `run_id` is NULL for a Job that is stopped though
    no run of ours ever started it. Done actions are deleted in batches: a row is something yet to be done.
    """

    __tablename__ = "action"
    id: Mapped[Id]
    cluster_id: Mapped[int] = mapped_column(ForeignKey("cluster.id"), index=True)
    workload_id: Mapped[int] = mapped_column(ForeignKey("workload.id"), index=True)
    run_id: Mapped[int | None] = mapped_column(ForeignKey("run.id"), index=True)
    attempt: Mapped[int] = mapped_column(Integer)
    kind: Mapped[Name]
    term: Mapped[int] = mapped_column(BigInteger)
    resource_version: Mapped[Name] = mapped_column(server_default=text("''"))
    created_at: Mapped[Recorded]
    not_before: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    __table_args__ = (
        one_of("kind", ActionKind),
        UniqueConstraint("workload_id", "attempt", "kind"),
    )


class ArchivedWorkloadRow(Base):
    """A terminal workload, out of the hot table. `pod_sets` as they were.

    `tenant` is that of its last run, "" if it had none; NULL where an older version archived it, until it is filled in.
    """

    __tablename__ = "archived_workload"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    cluster_id: Mapped[int] = mapped_column(ForeignKey("cluster.id"))
    uid: Mapped[Name]
    namespace: Mapped[Name]
    name: Mapped[Name]
    queue_name: Mapped[Name]
    class_name: Mapped[str | None] = mapped_column(Text)
    shape: Mapped[Name]
    user_name: Mapped[Name]
    owner: Mapped[Name]
    created_at: Mapped[Instant]
    observed_at: Mapped[Instant]
    ended_at: Mapped[Instant]
    state: Mapped[Name]
    attempt: Mapped[int] = mapped_column(Integer)
    pod_sets: Mapped[JsonList]
    tenant: Mapped[str | None] = mapped_column(Text)
    __table_args__ = (
        one_of("state", WorkloadState),
        Index("ix_archived_workload_name", "namespace", "name"),
        Index("ix_archived_workload_ended_at", "ended_at"),
        Index("ix_archived_workload_uid", "uid"),
        Index("ix_archived_workload_tenant", "tenant", "ended_at", "id"),
        Index("ix_archived_workload_untold", "ended_at", "id", postgresql_where=text("tenant IS NULL")),
        Index("ix_archived_workload_queue", "namespace", "queue_name", "ended_at"),
        Index(
            "ix_archived_workload_other",
            "state",
            "ended_at",
            "id",
            postgresql_where=text(f"state <> '{WorkloadState.FINISHED}'"),
        ),
    )


class ArchivedRunRow(Base):
    """A closed run of an archived workload. `allocations` as [pod set, flavor, resource, amount]."""

    __tablename__ = "archived_run"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    workload_id: Mapped[int] = mapped_column(ForeignKey("archived_workload.id", ondelete="CASCADE"), index=True)
    attempt: Mapped[int] = mapped_column(Integer)
    tenant: Mapped[Name]
    adopted: Mapped[bool]
    opened_at: Mapped[Instant]
    started_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    closed_at: Mapped[Instant]
    outcome: Mapped[Name]
    message: Mapped[Name]
    preempted_by: Mapped[int | None] = mapped_column(BigInteger)
    allocations: Mapped[JsonList]
    evict_rule: Mapped[str | None] = mapped_column(Text)
    ready_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    __table_args__ = (
        one_of("outcome", RunOutcome),
        one_of("evict_rule", PreemptionRule),
        Index("ix_archived_run_closed_at", "closed_at"),
        Index("ix_archived_run_tenant", "tenant", "id"),
        Index("ix_archived_run_other", "outcome", "id", postgresql_where=text(f"outcome <> '{RunOutcome.FINISHED}'")),
    )
