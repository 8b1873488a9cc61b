"""A run may come to hold less while it is open; what it held when it was opened is remembered.

`allocation.amount` is what a run holds now, as ever, and what it held last once it is closed. `opened_amount` is set where that came to
be less than what it held at first, and NULL where it never did. Lists of runs that are over, and the archive, say what they held at first.

One column is added, which takes no time. A controller of the version before runs on this schema: it does not let runs hold less, and
does not look at the column.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("allocation", sa.Column("opened_amount", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Forget what runs held at first; those that are open hold what they hold now."""
    op.drop_column("allocation", "opened_amount")
