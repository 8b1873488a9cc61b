"""Who leads or looks may read which ids runs were given.

A controller compares them with what Jobs carry, and so finds out that its ledger was restored from an older backup, without drawing
from the sequence. A controller of the version before runs on this schema: it does not look. Going down takes the right away again.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give the right."""
    op.execute("GRANT SELECT ON SEQUENCE run_id_seq TO aiqueue_admin, aiqueue_controller, aiqueue_reader")


def downgrade() -> None:
    """Take it away."""
    op.execute("REVOKE SELECT ON SEQUENCE run_id_seq FROM aiqueue_admin, aiqueue_controller, aiqueue_reader")
