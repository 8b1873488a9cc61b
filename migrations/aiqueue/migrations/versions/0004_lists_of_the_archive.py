"""The archive says whose a workload was, and has indexes by which its lists find their first page.

A workload that is archived from now on says of which tenant its last run was, and nothing ('') if it never had one. In those that a
controller of the version before archived it is NULL. Lists look those up as before; the controller fills them in by and by, some at
each of its rounds of housekeeping, so this version only adds a column and builds indexes. Until it is done the archive is locked, about
seven seconds with a million workloads in it: lists that read it wait, and so does a controller that is about to archive, which builds
its engine anew where that takes longer than its statements may.

A controller of the version before runs on this schema. Going down, what the archive says of tenants is forgotten; its runs know it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# name -> table, columns, condition
_INDEXES = {
    "ix_archived_workload_tenant": ("archived_workload", ["tenant", "ended_at", "id"], None),
    "ix_archived_workload_untold": ("archived_workload", ["ended_at", "id"], "tenant IS NULL"),
    "ix_archived_workload_queue": ("archived_workload", ["namespace", "queue_name", "ended_at"], None),
    "ix_archived_workload_other": ("archived_workload", ["state", "ended_at", "id"], "state <> 'Finished'"),
    "ix_archived_run_tenant": ("archived_run", ["tenant", "id"], None),
    "ix_archived_run_other": ("archived_run", ["outcome", "id"], "outcome <> 'Finished'"),
}


def upgrade() -> None:
    """Add the column and the indexes."""
    op.add_column("archived_workload", sa.Column("tenant", sa.Text(), nullable=True))
    for name, (table, columns, condition) in _INDEXES.items():
        op.create_index(name, table, columns, unique=False, postgresql_where=None if condition is None else sa.text(condition))


def downgrade() -> None:
    """Drop them."""
    for name, (table, _, _) in reversed(_INDEXES.items()):
        op.drop_index(name, table_name=table)
    op.drop_column("archived_workload", "tenant")
