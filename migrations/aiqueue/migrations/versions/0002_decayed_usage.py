"""What each queue used, older use counting for less: one row for each queue and resource.

Existing ledgers are filled from the runs that they still hold, open, closed and archived, as the exact integral of what each held. Two
things that the rows do not tell are taken as they are now: the half-life, and the queue of an archived workload, found by its name
(one that was made after the run counts it not). A controller of the version before opens and closes runs without counting them
here; the next one finds that at its start by the rates, and counts again whatever differs.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Exponents are bounded, since Postgres refuses to raise to powers that are as good as nothing.
_FILL = """
INSERT INTO queue_usage (queue_id, resource, value, rate, half_life_seconds, as_of)
SELECT q.id, held.resource,
       coalesce(sum(held.amount * h.seconds / ln(2::double precision)
                    * (power(2::double precision, -least(held.until_seconds_ago / h.seconds, 1000))
                       - power(2::double precision, -least(held.since_seconds_ago / h.seconds, 1000)))), 0),
       coalesce(sum(held.amount) FILTER (WHERE held.open), 0), t.usage_half_life_seconds, now()
  FROM (SELECT r.queue_id, a.resource, a.amount, r.closed_at IS NULL AS open,
               greatest(0, extract(epoch FROM now() - r.opened_at)::double precision) AS since_seconds_ago,
               greatest(0, extract(epoch FROM now() - coalesce(r.closed_at, now()))::double precision) AS until_seconds_ago
          FROM run r JOIN allocation a ON a.run_id = r.id
        UNION ALL
        SELECT q.id, item ->> 2, (item ->> 3)::bigint, false,
               greatest(0, extract(epoch FROM now() - r.opened_at)::double precision),
               greatest(0, extract(epoch FROM now() - r.closed_at)::double precision)
          FROM archived_run r JOIN archived_workload w ON w.id = r.workload_id
          JOIN queue q ON q.namespace = w.namespace AND q.name = w.queue_name AND q.created_at <= r.opened_at
         CROSS JOIN jsonb_array_elements(r.allocations) AS item) AS held
  JOIN queue q ON q.id = held.queue_id
  JOIN tenant t ON t.id = q.tenant_id
 CROSS JOIN LATERAL (SELECT nullif(t.usage_half_life_seconds, 0)::double precision AS seconds) AS h
 GROUP BY q.id, held.resource, t.usage_half_life_seconds
"""


def upgrade() -> None:
    """Create the table and fill it."""
    op.create_table(
        "queue_usage",
        sa.Column("queue_id", sa.BigInteger(), nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("rate", sa.BigInteger(), nullable=False),
        sa.Column("half_life_seconds", sa.BigInteger(), nullable=False),
        sa.Column("as_of", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("half_life_seconds >= 0", name=op.f("ck_queue_usage_half_life_seconds_not_negative")),
        sa.CheckConstraint("rate >= 0", name=op.f("ck_queue_usage_rate_not_negative")),
        sa.CheckConstraint("value >= 0", name=op.f("ck_queue_usage_value_not_negative")),
        sa.ForeignKeyConstraint(["queue_id"], ["queue.id"], name=op.f("fk_queue_usage_queue_id_queue"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("queue_id", "resource", name=op.f("pk_queue_usage")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON queue_usage TO aiqueue_controller")
    op.execute("GRANT SELECT ON queue_usage TO aiqueue_admin, aiqueue_reader")
    op.execute(_FILL)


def downgrade() -> None:
    """Forget what was used."""
    op.drop_table("queue_usage")
