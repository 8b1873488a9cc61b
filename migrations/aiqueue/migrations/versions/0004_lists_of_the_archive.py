"""The archive says whose a workload was, and has indexes by which its lists find their first page.

A workload that is archived from now on says of which tenant its last run was, and nothing ('') if it never had one. In those that a
controller of the version before archived it is NULL. Lists look those up as before; the controller fills them in by and by, some at
each of its rounds of housekeeping, so this version only adds a column and builds indexes. `aiqueue db upgrade` does both ahead of it, the
indexes without keeping those who read or write the archive waiting.

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

AHEAD = (
    "ALTER TABLE archived_workload ADD COLUMN IF NOT EXISTS tenant text",
    *(
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table} ({', '.join(columns)}){f' WHERE {condition}' if condition else ''}"
        for name, (table, columns, condition) in _INDEXES.items()
    ),
)


def upgrade() -> None:
    """Add the column and the indexes, where they are not there yet."""
    op.add_column("archived_workload", sa.Column("tenant", sa.Text(), nullable=True), if_not_exists=True)
    for name, (table, columns, condition) in _INDEXES.items():
        where = None if condition is None else sa.text(condition)
        op.create_index(name, table, columns, unique=False, postgresql_where=where, if_not_exists=True)


def downgrade() -> None:
    """Drop them."""
    for name, (table, _, _) in reversed(_INDEXES.items()):
        op.drop_index(name, table_name=table)
    op.drop_column("archived_workload", "tenant")
