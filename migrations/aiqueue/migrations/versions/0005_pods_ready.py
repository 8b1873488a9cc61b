"""When a run's gang was wholly ready, since when it no longer is, and how often its workload was put back for it.

Runs that are under way when this comes count as having been wholly ready at that moment: nobody looked until now. Those whose gang is
not ready when a controller of this version first sees them get their class's recoveryTimeout from then on.

Only columns are added, and one of them is filled for the open runs, so that a running controller waits for this no longer than it takes
to read the live workloads and to write the open runs once. A controller of the version before runs on this schema: it leaves the
columns as they are, so a run that starts under it counts, once a newer one leads, as never ready until that one sees it ready. Upgrade
the rest of the controllers within the shortest readyTimeout, or gangs of which a pod is just being replaced at that moment may be put
back.

Going down, what is known of readiness is forgotten; runs that were to end for it go on, and workloads that wait for their next try, or
are held after too many, stay as they are.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, and count what runs as ready."""
    op.add_column("run", sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("run", sa.Column("unready_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column("run", sa.Column("succeeded_before", sa.Integer(), nullable=True))
    op.add_column("archived_run", sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("workload", sa.Column("requeues", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("workload", sa.Column("requeued_at", sa.DateTime(timezone=True), nullable=True))
    op.create_check_constraint(op.f("ck_workload_requeues_not_negative"), "workload", "requeues >= 0")
    op.execute("UPDATE run SET ready_at = now() WHERE closed_at IS NULL AND started_at IS NOT NULL")


def downgrade() -> None:
    """Forget readiness."""
    op.execute(
        "UPDATE workload w SET state = 'Admitted', state_since = now() FROM run r"
        " WHERE r.workload_id = w.id AND r.closed_at IS NULL AND r.stopped_at IS NULL AND r.evict_outcome = 'NotReady'"
        " AND w.state = 'Evicting'"
    )
    op.execute(
        "UPDATE run SET evict_at = NULL, evict_outcome = NULL, evict_message = NULL, evict_noticed_at = NULL"
        " WHERE closed_at IS NULL AND stopped_at IS NULL AND evict_outcome = 'NotReady'"
    )
    op.drop_column("workload", "requeued_at")
    op.drop_column("workload", "requeues")
    op.drop_column("archived_run", "ready_at")
    op.drop_column("run", "succeeded_before")
    op.drop_column("run", "unready_since")
    op.drop_column("run", "ready_at")
