"""What queues used, worked out from the rows of runs alone: slow, and nothing of what it checks."""

from __future__ import annotations

import math
from datetime import datetime

from sqlalchemy import Connection, text

from aiqueue.queue.store.usage import UsageKey

_RUNS = """
SELECT q.namespace, q.name, a.resource, a.amount, r.opened_at, r.closed_at, t.usage_half_life_seconds
  FROM run r JOIN allocation a ON a.run_id = r.id JOIN queue q ON q.id = r.queue_id JOIN tenant t ON t.id = q.tenant_id
UNION ALL
SELECT q.namespace, q.name, item ->> 2, (item ->> 3)::bigint, r.opened_at, r.closed_at, t.usage_half_life_seconds
  FROM archived_run r JOIN archived_workload w ON w.id = r.workload_id
  JOIN queue q ON q.namespace = w.namespace AND q.name = w.queue_name JOIN tenant t ON t.id = q.tenant_id
 CROSS JOIN jsonb_array_elements(r.allocations) AS item
"""


def segment(amount: int, held_seconds: float, since_seconds: float, half_life_seconds: int) -> float:
    """What is left of `amount` held for so long and given back so long ago, by the closed form."""
    decay = math.log(2) / half_life_seconds
    return amount / decay * -math.expm1(-decay * held_seconds) * math.exp(-decay * since_seconds)


def usage_of_runs(connection: Connection, now: datetime) -> dict[UsageKey, tuple[float, int]]:
    """(decayed usage at `now`, held now) by key, from every run that the ledger holds and today's half-lives."""
    found: dict[UsageKey, tuple[float, int]] = {}
    for namespace, name, resource, amount, opened, closed, half_life in connection.execute(text(_RUNS)):
        end = closed or now
        value, rate = found.get((namespace, name, resource), (0.0, 0))
        if half_life:
            value += segment(amount, (end - opened).total_seconds(), (now - end).total_seconds(), half_life)
        found[namespace, name, resource] = (value, rate + (amount if closed is None else 0))
    return found
