"""Claims on room that is being vacated, by which right a run was preempted, and what limits how long a workload runs.

Existing ledgers are filled with how long the closed runs of each workload were open. What its owner says of checkpoints and of the
longest runtime is taken from the Job when it is next seen, which a controller of this version does with every Job at its start.

A controller of the version before runs on this schema as long as it meets no action of the new kinds, which it cannot read: where one
leads after a newer one gave notice of an eviction, it stops with an error until those actions are done. Upgrade the standby too
before a newer controller leads. It knows no claims either: it admits whoever comes first, and leaves behind claims that the next newer
one withdraws. The time of runs that it closes is not counted towards maxTotalRuntime.

Going down, claims and notices are forgotten, and runs that were to end because their time is up go on: the version before knows no
such limit. Other evictions that are under way are finished.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_RULES = "evict_rule IN ('WithinTenant', 'WithinNominal', 'FinalShare', 'InitialShare')"
_FILL = """
UPDATE workload w SET ran_seconds = closed.seconds
  FROM (SELECT workload_id, sum(greatest(0, ceil(extract(epoch FROM closed_at - opened_at))))::bigint AS seconds
          FROM run WHERE closed_at IS NOT NULL GROUP BY workload_id) AS closed
 WHERE w.id = closed.workload_id AND closed.seconds > 0
"""


def upgrade() -> None:
    """Create the table, add the columns and fill them."""
    op.create_table(
        "claim",
        sa.Column("workload_id", sa.BigInteger(), nullable=False),
        sa.Column("tenant_id", sa.BigInteger(), nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("allocations", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("run_ids", postgresql.ARRAY(sa.BigInteger()), nullable=False),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("term", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_claim_tenant_id_tenant"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["workload_id"], ["workload.id"], name=op.f("fk_claim_workload_id_workload"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("workload_id", name=op.f("pk_claim")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON claim TO aiqueue_controller")
    op.execute("GRANT SELECT ON claim TO aiqueue_admin, aiqueue_reader")
    for table in ("run", "archived_run"):
        op.add_column(table, sa.Column("evict_rule", sa.Text(), nullable=True))
        op.create_check_constraint(op.f(f"ck_{table}_evict_rule_known"), table, _RULES)
    op.add_column("run", sa.Column("evict_noticed_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_run_preempted_by", "run", ["preempted_by"], unique=False, postgresql_where=sa.text("preempted_by IS NOT NULL")
    )
    op.add_column("workload", sa.Column("checkpoint_seconds", sa.BigInteger(), nullable=True))
    op.add_column("workload", sa.Column("max_runtime_seconds", sa.BigInteger(), nullable=True))
    op.add_column("workload", sa.Column("ran_seconds", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    for column in ("checkpoint_seconds", "max_runtime_seconds", "ran_seconds"):
        op.create_check_constraint(op.f(f"ck_workload_{column}_not_negative"), "workload", f"{column} >= 0")
    _kinds("'Unsuspend', 'Suspend', 'Restore', 'Announce', 'Expire'")
    op.execute(_FILL)


def downgrade() -> None:
    """Forget claims, notices and limits."""
    op.execute(
        "UPDATE workload w SET state = 'Admitted', state_since = now() FROM run r"
        " WHERE r.workload_id = w.id AND r.closed_at IS NULL AND r.evict_outcome = 'Expired' AND w.state = 'Evicting'"
    )
    op.execute(
        "UPDATE run SET evict_at = NULL, evict_outcome = NULL, evict_message = NULL"
        " WHERE closed_at IS NULL AND stopped_at IS NULL AND evict_outcome = 'Expired'"
    )
    op.execute("DELETE FROM action WHERE kind IN ('Announce', 'Expire')")
    _kinds("'Unsuspend', 'Suspend', 'Restore'")
    for column in ("ran_seconds", "max_runtime_seconds", "checkpoint_seconds"):
        op.drop_column("workload", column)
    op.drop_index("ix_run_preempted_by", table_name="run")
    op.drop_column("run", "evict_noticed_at")
    for table in ("archived_run", "run"):
        op.drop_column(table, "evict_rule")
    op.drop_table("claim")


def _kinds(kinds: str) -> None:
    op.drop_constraint(op.f("ck_action_kind_known"), "action")
    op.create_check_constraint(op.f("ck_action_kind_known"), "action", f"kind IN ({kinds})")
