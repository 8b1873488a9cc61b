"""The ledger: configuration, leadership, work, archive, and the four roles."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


_CONFIGURATION = ("flavor", "class", "tenant", "quota", "queue", "queue_class")
_WORK = (
    "workload",
    "pod_set",
    "run",
    "allocation",
    "shape_decision",
    "workload_decision",
    "action",
    "archived_workload",
    "archived_run",
)
_LEADERSHIP = ("leader", "leader_lease", "leader_backend")
_EVERYTHING = (*_CONFIGURATION, *_WORK, *_LEADERSHIP, "ledger", "config_revision", "cluster", "plan", "audit")
_ROLES = ("aiqueue_admin", "aiqueue_controller", "aiqueue_webhook", "aiqueue_reader")
# What each role may do: (privilege, tables). SELECT ... FOR SHARE needs UPDATE on a column: `id`, which a CHECK fixes at 1.
_GRANTS = {
    "aiqueue_admin": (
        ("SELECT", _EVERYTHING),
        ("INSERT, UPDATE, DELETE", _CONFIGURATION),
        ("UPDATE", ("config_revision",)),
        ("INSERT", ("audit",)),
    ),
    "aiqueue_controller": (
        ("SELECT", (*_CONFIGURATION, *_WORK, *_LEADERSHIP, "ledger", "config_revision", "cluster", "plan")),
        ("UPDATE (id)", ("config_revision",)),
        ("INSERT, UPDATE, DELETE", (*_WORK, "leader_backend")),
        ("UPDATE", ("leader", "leader_lease")),
        ("INSERT", ("cluster", "audit")),
        ("INSERT, DELETE", ("plan",)),
    ),
    "aiqueue_webhook": (("SELECT", (*_CONFIGURATION, "config_revision")),),
    "aiqueue_reader": (("SELECT", _EVERYTHING),),
}


def _create_roles() -> None:
    """Roles are shared by all databases of a server, so one may be there already, or be made by another migration just now."""
    for role in _ROLES:
        op.execute(
            f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        )
    for role, grants in _GRANTS.items():
        op.execute(f"GRANT SELECT ON alembic_version TO {role}")
        for privilege, tables in grants:
            names = ", ".join(f'"{table}"' for table in tables)
            op.execute(f"GRANT {privilege} ON {names} TO {role}")


def _first_rows() -> None:
    """Rows that exist exactly once."""
    op.execute("INSERT INTO ledger DEFAULT VALUES")
    op.execute("INSERT INTO config_revision (revision) VALUES (0)")
    op.execute("INSERT INTO leader (term, holder) VALUES (0, '')")
    op.execute("INSERT INTO leader_lease (term, renewed_at, expires_at) VALUES (0, 'epoch', 'epoch')")


def _create_configuration() -> None:
    """What an administrator writes."""
    op.create_table(
        "flavor",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("node_labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("node_taints", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("tolerations", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("topology_levels", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_flavor")),
        sa.UniqueConstraint("name", name=op.f("uq_flavor_name")),
    )
    op.create_table(
        "class",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("preemptible", sa.Boolean(), nullable=False),
        sa.Column("min_runtime_seconds", sa.BigInteger(), nullable=False),
        sa.Column("grace_period_seconds", sa.BigInteger(), nullable=False),
        sa.Column("max_runtime_seconds", sa.BigInteger(), nullable=True),
        sa.Column("max_total_runtime_seconds", sa.BigInteger(), nullable=True),
        sa.Column("ready_timeout_seconds", sa.BigInteger(), nullable=False),
        sa.Column("recovery_timeout_seconds", sa.BigInteger(), nullable=False),
        sa.Column("requeue_limit", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("grace_period_seconds >= 0", name=op.f("ck_class_grace_period_seconds_not_negative")),
        sa.CheckConstraint("max_runtime_seconds >= 0", name=op.f("ck_class_max_runtime_seconds_not_negative")),
        sa.CheckConstraint("max_total_runtime_seconds >= 0", name=op.f("ck_class_max_total_runtime_seconds_not_negative")),
        sa.CheckConstraint("min_runtime_seconds >= 0", name=op.f("ck_class_min_runtime_seconds_not_negative")),
        sa.CheckConstraint("ready_timeout_seconds >= 0", name=op.f("ck_class_ready_timeout_seconds_not_negative")),
        sa.CheckConstraint("recovery_timeout_seconds >= 0", name=op.f("ck_class_recovery_timeout_seconds_not_negative")),
        sa.CheckConstraint("requeue_limit >= 0", name=op.f("ck_class_requeue_limit_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_class")),
        sa.UniqueConstraint("name", name=op.f("uq_class_name")),
    )
    op.create_table(
        "tenant",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("weight_thousandths", sa.BigInteger(), nullable=False),
        sa.Column("queueing", sa.Text(), nullable=False),
        sa.Column("order", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("when_can_borrow", sa.Text(), nullable=False),
        sa.Column("when_can_preempt", sa.Text(), nullable=False),
        sa.Column("within_tenant", sa.Text(), nullable=False),
        sa.Column("reclaim", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("starvation_bound_seconds", sa.BigInteger(), nullable=False),
        sa.Column("usage_half_life_seconds", sa.BigInteger(), nullable=False),
        sa.Column("usage_weights_thousandths", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("queueing IN ('Strict', 'BestEffort')", name=op.f("ck_tenant_queueing_known")),
        sa.CheckConstraint("reclaim IN ('Never', 'LowerPriority', 'Any')", name=op.f("ck_tenant_reclaim_known")),
        sa.CheckConstraint("state IN ('Active', 'Hold', 'Drain')", name=op.f("ck_tenant_state_known")),
        sa.CheckConstraint(
            "when_can_borrow IN ('MayStopSearch', 'TryNextFlavor')", name=op.f("ck_tenant_when_can_borrow_known")
        ),
        sa.CheckConstraint(
            "when_can_preempt IN ('MayStopSearch', 'TryNextFlavor')", name=op.f("ck_tenant_when_can_preempt_known")
        ),
        sa.CheckConstraint(
            "within_tenant IN ('Never', 'LowerPriority', 'LowerOrNewerEqualPriority')",
            name=op.f("ck_tenant_within_tenant_known"),
        ),
        sa.CheckConstraint('"order"[array_upper("order", 1)] = \'submitted\'', name=op.f("ck_tenant_order_ends_in_submitted")),
        sa.CheckConstraint("parent_id <> id", name=op.f("ck_tenant_not_its_own_parent")),
        sa.CheckConstraint("starvation_bound_seconds >= 0", name=op.f("ck_tenant_starvation_bound_seconds_not_negative")),
        sa.CheckConstraint("usage_half_life_seconds >= 0", name=op.f("ck_tenant_usage_half_life_seconds_not_negative")),
        sa.CheckConstraint("weight_thousandths >= 0", name=op.f("ck_tenant_weight_thousandths_not_negative")),
        sa.ForeignKeyConstraint(["parent_id"], ["tenant.id"], name=op.f("fk_tenant_parent_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant")),
        sa.UniqueConstraint("name", name=op.f("uq_tenant_name")),
    )
    op.create_index(op.f("ix_tenant_parent_id"), "tenant", ["parent_id"], unique=False)
    op.create_table(
        "quota",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("flavor_id", sa.BigInteger(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("nominal", sa.BigInteger(), nullable=False),
        sa.Column("borrowing_limit", sa.BigInteger(), nullable=True),
        sa.Column("lending_limit", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("borrowing_limit >= 0", name=op.f("ck_quota_borrowing_limit_not_negative")),
        sa.CheckConstraint("lending_limit >= 0", name=op.f("ck_quota_lending_limit_not_negative")),
        sa.CheckConstraint("nominal >= 0", name=op.f("ck_quota_nominal_not_negative")),
        sa.ForeignKeyConstraint(["flavor_id"], ["flavor.id"], name=op.f("fk_quota_flavor_id_flavor")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_quota_tenant_id_tenant"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "flavor_id", "resource", name=op.f("pk_quota")),
        sa.UniqueConstraint("tenant_id", "position", name=op.f("uq_quota_tenant_id_position")),
    )
    op.create_index(op.f("ix_quota_flavor_id"), "quota", ["flavor_id"], unique=False)
    op.create_table(
        "queue",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("weight_thousandths", sa.BigInteger(), nullable=False),
        sa.Column("default_class_id", sa.BigInteger(), nullable=True),
        sa.Column("allows_all_classes", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("state IN ('Active', 'Hold', 'Drain')", name=op.f("ck_queue_state_known")),
        sa.CheckConstraint("weight_thousandths >= 0", name=op.f("ck_queue_weight_thousandths_not_negative")),
        sa.ForeignKeyConstraint(["default_class_id"], ["class.id"], name=op.f("fk_queue_default_class_id_class")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_queue_tenant_id_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queue")),
        sa.UniqueConstraint("namespace", "name", name=op.f("uq_queue_namespace_name")),
    )
    op.create_index(op.f("ix_queue_default_class_id"), "queue", ["default_class_id"], unique=False)
    op.create_index(op.f("ix_queue_tenant_id"), "queue", ["tenant_id"], unique=False)
    op.create_table(
        "queue_class",
        sa.Column("queue_id", sa.BigInteger(), nullable=False),
        sa.Column("class_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.ForeignKeyConstraint(["class_id"], ["class.id"], name=op.f("fk_queue_class_class_id_class")),
        sa.ForeignKeyConstraint(["queue_id"], ["queue.id"], name=op.f("fk_queue_class_queue_id_queue"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("queue_id", "class_id", name=op.f("pk_queue_class")),
    )
    op.create_index(op.f("ix_queue_class_class_id"), "queue_class", ["class_id"], unique=False)


def _create_control() -> None:
    """Identity, leadership, clusters, plans and audit."""
    op.create_table(
        "ledger",
        sa.Column("id", sa.SmallInteger(), server_default=sa.text("1"), autoincrement=False, nullable=False),
        sa.Column("uid", sa.UUID(as_uuid=False), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_ledger_only_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger")),
    )
    op.create_table(
        "config_revision",
        sa.Column("id", sa.SmallInteger(), server_default=sa.text("1"), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_config_revision_only_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_config_revision")),
    )
    op.create_table(
        "leader",
        sa.Column("id", sa.SmallInteger(), server_default=sa.text("1"), autoincrement=False, nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("elected_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_leader_only_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leader")),
    )
    op.create_table(
        "leader_lease",
        sa.Column("id", sa.SmallInteger(), server_default=sa.text("1"), autoincrement=False, nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_leader_lease_only_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_leader_lease")),
    )
    op.create_table(
        "leader_backend",
        sa.Column("term", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("pid", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("backend_start", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("term", "pid", "backend_start", name=op.f("pk_leader_backend")),
    )
    op.create_table(
        "cluster",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kube_system_uid", sa.Text(), nullable=False),
        sa.Column("registered_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cluster")),
        sa.UniqueConstraint("kube_system_uid", name=op.f("uq_cluster_kube_system_uid")),
        sa.UniqueConstraint("name", name=op.f("uq_cluster_name")),
    )
    op.create_table(
        "plan",
        sa.Column("term", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("config_revision", sa.BigInteger(), nullable=False),
        sa.Column("admissions", sa.Integer(), nullable=False),
        sa.Column("evictions", sa.Integer(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("committed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("term", "seq", name=op.f("pk_plan")),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("login", sa.Text(), server_default=sa.text("session_user"), nullable=False),
        sa.Column("session_role", sa.Text(), server_default=sa.text("current_user"), nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("before", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("after", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "verb IN ('Created', 'Updated', 'Deleted', 'Adopted', 'Registered')", name=op.f("ck_audit_verb_known")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )


def _create_workloads() -> None:
    """What is submitted."""
    op.create_table(
        "workload",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("cluster_id", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queue_name", sa.Text(), nullable=False),
        sa.Column("class_name", sa.Text(), nullable=True),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("state_since", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("owner_suspended", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("hold_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("release_requested", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("invalid", sa.Text(), nullable=True),
        sa.Column("user_name", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("owner", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("resource_version", sa.Text(), nullable=False),
        sa.Column("suspended", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("terminating", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("ready", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("succeeded", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("stamp", sa.Text(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('Pending', 'Reserved', 'Admitted', 'Evicting', 'Releasing', 'Held', 'Finished', 'Failed', 'Expired', 'Cancelled')",
            name=op.f("ck_workload_state_known"),
        ),
        sa.CheckConstraint("active >= 0", name=op.f("ck_workload_active_not_negative")),
        sa.CheckConstraint("attempt >= 0", name=op.f("ck_workload_attempt_not_negative")),
        sa.CheckConstraint("failed >= 0", name=op.f("ck_workload_failed_not_negative")),
        sa.CheckConstraint("ready >= 0", name=op.f("ck_workload_ready_not_negative")),
        sa.CheckConstraint("succeeded >= 0", name=op.f("ck_workload_succeeded_not_negative")),
        sa.CheckConstraint("terminating >= 0", name=op.f("ck_workload_terminating_not_negative")),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"], name=op.f("fk_workload_cluster_id_cluster")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workload")),
        sa.UniqueConstraint("cluster_id", "uid", name=op.f("uq_workload_cluster_id_uid")),
    )
    op.create_index(
        "ix_workload_live_queue",
        "workload",
        ["namespace", "queue_name"],
        unique=False,
        postgresql_where=sa.text("state IN ('Pending', 'Reserved', 'Admitted', 'Evicting', 'Releasing', 'Held')"),
    )
    op.create_index(
        "ix_workload_live_state",
        "workload",
        ["state", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("state IN ('Pending', 'Reserved', 'Admitted', 'Evicting', 'Releasing', 'Held')"),
    )
    op.create_index(
        "ix_workload_terminal",
        "workload",
        ["ended_at"],
        unique=False,
        postgresql_where=sa.text("NOT (state IN ('Pending', 'Reserved', 'Admitted', 'Evicting', 'Releasing', 'Held'))"),
    )
    op.create_index(
        "uq_workload_live_name",
        "workload",
        ["cluster_id", "namespace", "name"],
        unique=True,
        postgresql_where=sa.text("state IN ('Pending', 'Reserved', 'Admitted', 'Evicting', 'Releasing', 'Held')"),
    )
    op.create_table(
        "pod_set",
        sa.Column("workload_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("min_count", sa.Integer(), nullable=True),
        sa.Column("requests", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("node_selector", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("tolerations", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("affinity_terms", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint("count >= 0", name=op.f("ck_pod_set_count_not_negative")),
        sa.CheckConstraint("min_count >= 0", name=op.f("ck_pod_set_min_count_not_negative")),
        sa.ForeignKeyConstraint(
            ["workload_id"], ["workload.id"], name=op.f("fk_pod_set_workload_id_workload"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("workload_id", "name", name=op.f("pk_pod_set")),
    )


def _create_runs() -> None:
    """What is admitted."""
    op.create_table(
        "run",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("workload_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("cluster_id", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("queue_id", sa.BigInteger(), nullable=True),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("adopted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("evict_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("evict_outcome", sa.Text(), nullable=True),
        sa.Column("evict_message", sa.Text(), nullable=True),
        sa.Column("preempted_by", sa.BigInteger(), nullable=True),
        sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), server_default=sa.text("'Running'"), nullable=False),
        sa.Column("message", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("original", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("injected", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint("(closed_at IS NULL) = (outcome = 'Running')", name=op.f("ck_run_open_is_running")),
        sa.CheckConstraint(
            "evict_outcome IN ('Running', 'Finished', 'Failed', 'Preempted', 'Drained', 'NotReady', 'Expired', 'Cancelled')",
            name=op.f("ck_run_evict_outcome_known"),
        ),
        sa.CheckConstraint(
            "outcome IN ('Running', 'Finished', 'Failed', 'Preempted', 'Drained', 'NotReady', 'Expired', 'Cancelled')",
            name=op.f("ck_run_outcome_known"),
        ),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"], name=op.f("fk_run_cluster_id_cluster")),
        sa.ForeignKeyConstraint(["queue_id"], ["queue.id"], name=op.f("fk_run_queue_id_queue"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_run_tenant_id_tenant")),
        sa.ForeignKeyConstraint(["workload_id"], ["workload.id"], name=op.f("fk_run_workload_id_workload")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sa.UniqueConstraint("workload_id", "attempt", name=op.f("uq_run_workload_id_attempt")),
    )
    op.create_index("ix_run_open_queue", "run", ["queue_id"], unique=False, postgresql_where=sa.text("closed_at IS NULL"))
    op.create_index("ix_run_open_tenant", "run", ["tenant_id"], unique=False, postgresql_where=sa.text("closed_at IS NULL"))
    op.create_index("uq_run_open_workload", "run", ["workload_id"], unique=True, postgresql_where=sa.text("closed_at IS NULL"))
    op.create_table(
        "allocation",
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("pod_set", sa.Text(), nullable=False),
        sa.Column("flavor_id", sa.BigInteger(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("amount >= 0", name=op.f("ck_allocation_amount_not_negative")),
        sa.ForeignKeyConstraint(["flavor_id"], ["flavor.id"], name=op.f("fk_allocation_flavor_id_flavor")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_allocation_run_id_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "pod_set", "flavor_id", "resource", name=op.f("pk_allocation")),
    )
    op.create_index(op.f("ix_allocation_flavor_id"), "allocation", ["flavor_id"], unique=False)


def _create_decisions() -> None:
    """What was decided and is yet to be done."""
    op.create_table(
        "shape_decision",
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("would_change", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "reason IN ('QueueNotFound', 'QueueClosed', 'TenantClosed', 'WorkloadHeld', 'ClassNotAllowed', 'InvalidRequest', 'ResourceNotCovered', 'NoMatchingFlavor', 'ExceedsCeiling', 'WaitingForQuota', 'BehindHead', 'BehindStarvingGang', 'BehindClaim', 'WaitingForVictims', 'Backoff', 'PendingEvaluation')",
            name=op.f("ck_shape_decision_reason_known"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name=op.f("fk_shape_decision_tenant_id_tenant"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "shape", name=op.f("pk_shape_decision")),
    )
    op.create_table(
        "workload_decision",
        sa.Column("workload_id", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("would_change", sa.Text(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "reason IN ('Backoff', 'ClassNotAllowed', 'InvalidRequest', 'QueueClosed', 'QueueNotFound', 'WaitingForVictims', 'WorkloadHeld')",
            name=op.f("ck_workload_decision_reason_known"),
        ),
        sa.ForeignKeyConstraint(
            ["workload_id"], ["workload.id"], name=op.f("fk_workload_decision_workload_id_workload"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("workload_id", name=op.f("pk_workload_decision")),
    )
    op.create_table(
        "action",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("cluster_id", sa.BigInteger(), nullable=False),
        sa.Column("workload_id", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.BigInteger(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.Column("resource_version", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('Unsuspend', 'Suspend', 'Restore')", name=op.f("ck_action_kind_known")),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"], name=op.f("fk_action_cluster_id_cluster")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_action_run_id_run")),
        sa.ForeignKeyConstraint(["workload_id"], ["workload.id"], name=op.f("fk_action_workload_id_workload")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_action")),
        sa.UniqueConstraint("workload_id", "attempt", "kind", name=op.f("uq_action_workload_id_attempt_kind")),
    )
    op.create_index(op.f("ix_action_cluster_id"), "action", ["cluster_id"], unique=False)
    op.create_index(op.f("ix_action_run_id"), "action", ["run_id"], unique=False)
    op.create_index(op.f("ix_action_workload_id"), "action", ["workload_id"], unique=False)


def _create_archive() -> None:
    """What is over."""
    op.create_table(
        "archived_workload",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("cluster_id", sa.BigInteger(), nullable=False),
        sa.Column("uid", sa.Text(), nullable=False),
        sa.Column("namespace", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("queue_name", sa.Text(), nullable=False),
        sa.Column("class_name", sa.Text(), nullable=True),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("user_name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("pod_sets", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "state IN ('Pending', 'Reserved', 'Admitted', 'Evicting', 'Releasing', 'Held', 'Finished', 'Failed', 'Expired', 'Cancelled')",
            name=op.f("ck_archived_workload_state_known"),
        ),
        sa.ForeignKeyConstraint(["cluster_id"], ["cluster.id"], name=op.f("fk_archived_workload_cluster_id_cluster")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archived_workload")),
    )
    op.create_index("ix_archived_workload_ended_at", "archived_workload", ["ended_at"], unique=False)
    op.create_index("ix_archived_workload_name", "archived_workload", ["namespace", "name"], unique=False)
    op.create_index("ix_archived_workload_uid", "archived_workload", ["uid"], unique=False)
    op.create_table(
        "archived_run",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("workload_id", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("adopted", sa.Boolean(), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("preempted_by", sa.BigInteger(), nullable=True),
        sa.Column("allocations", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('Running', 'Finished', 'Failed', 'Preempted', 'Drained', 'NotReady', 'Expired', 'Cancelled')",
            name=op.f("ck_archived_run_outcome_known"),
        ),
        sa.ForeignKeyConstraint(
            ["workload_id"],
            ["archived_workload.id"],
            name=op.f("fk_archived_run_workload_id_archived_workload"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_archived_run")),
    )
    op.create_index("ix_archived_run_closed_at", "archived_run", ["closed_at"], unique=False)
    op.create_index(op.f("ix_archived_run_workload_id"), "archived_run", ["workload_id"], unique=False)


def upgrade() -> None:
    """Create everything."""
    _create_configuration()
    _create_control()
    _create_workloads()
    _create_runs()
    _create_decisions()
    _create_archive()
    _create_roles()
    _first_rows()


def downgrade() -> None:
    """Drop everything but the roles, which other databases of the server may use."""
    for table in (
        "archived_run",
        "archived_workload",
        "action",
        "workload_decision",
        "shape_decision",
        "allocation",
        "run",
        "pod_set",
        "workload",
        "audit",
        "plan",
        "cluster",
        "leader_backend",
        "leader_lease",
        "leader",
        "config_revision",
        "ledger",
        "queue_class",
        "queue",
        "quota",
        "tenant",
        "class",
        "flavor",
    ):
        op.drop_table(table)
    for role in _ROLES:
        op.execute(f"REVOKE ALL ON alembic_version FROM {role}")
