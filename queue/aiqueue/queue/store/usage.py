"""What queues used, folded in the very transaction that opens, closes or shrinks runs, so that it is the exact integral of what they held.

A fold is one SELECT and one upsert, however many runs and queues it moves; the arithmetic is `aiqueue.queue.usage`, so the figures are
those that the engine and the simulator work out, to the last bit. Between folds nothing is written: a queue's half-life, its weight
and its tenant are looked at where it is folded next. Runs whose queue does not exist any more are counted nowhere.

The rate of a queue is a sum over its open runs again, so it can be compared (`differing`) and, where something opened or closed runs
without folding, counted again from the runs that the ledger still holds (`repair`): an open one as if it had always held what it does
now, one that is over as if it had held to its end what it did at first, which is all that the archive says of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aiqueue.queue.errors import LedgerConflict
from aiqueue.queue.store import leadership
from aiqueue.queue.store.codec import to_json
from aiqueue.queue.store.statements import text
from aiqueue.queue.usage import Usage, folded

#: (namespace, queue, resource)
UsageKey = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class QueueChange:
    """So much more of a resource is held by the runs of a queue from now on, or less."""

    queue_id: int
    resource: str
    change: int


_KNOWN = """
SELECT q.id, q.namespace, q.name, moved.resource, moved.change, t.usage_half_life_seconds,
       u.value, u.rate, u.half_life_seconds, u.as_of
  FROM ({moved}) AS moved
  JOIN queue q ON q.id = moved.queue_id
  JOIN tenant t ON t.id = q.tenant_id
  LEFT JOIN queue_usage u ON u.queue_id = q.id AND u.resource = moved.resource
 ORDER BY q.id, moved.resource
"""
# A run of `ids` that is open by now was opened, one that is closed by now was closed.
_MOVED = text(
    _KNOWN.format(
        moved="SELECT r.queue_id, a.resource, sum(CASE WHEN r.closed_at IS NULL THEN a.amount ELSE -a.amount END)::bigint AS change"
        " FROM run r JOIN allocation a ON a.run_id = r.id WHERE r.id = ANY(:ids) GROUP BY r.queue_id, a.resource"
    )
)
_CHANGED = text(
    _KNOWN.format(
        moved="SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(queue_id bigint, resource text, change bigint)"
    )
)
_KEEP = text(
    """
INSERT INTO queue_usage (queue_id, resource, value, rate, half_life_seconds, as_of)
SELECT queue_id, resource, value, rate, half_life_seconds, as_of
  FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(queue_id bigint, resource text, value double precision, rate bigint,
       half_life_seconds bigint, as_of timestamptz)
ON CONFLICT (queue_id, resource) DO UPDATE
   SET value = excluded.value, rate = excluded.rate, half_life_seconds = excluded.half_life_seconds, as_of = excluded.as_of
"""
)
_WRONG = """
SELECT coalesce(u.queue_id, held.queue_id) AS queue_id, coalesce(u.resource, held.resource) AS resource,
       coalesce(held.amount, 0) AS rate
  FROM queue_usage u
  FULL JOIN (SELECT r.queue_id, a.resource, sum(a.amount) AS amount FROM run r JOIN allocation a ON a.run_id = r.id
              WHERE r.closed_at IS NULL AND r.queue_id IS NOT NULL GROUP BY r.queue_id, a.resource) AS held
    ON held.queue_id = u.queue_id AND held.resource = u.resource
 WHERE coalesce(u.rate, 0) <> coalesce(held.amount, 0)
"""
# The sum of what each run left: amount * h/ln 2 * (2^(-end/h) - 2^(-start/h)), ages in seconds. Exponents are bounded, since Postgres
# refuses to raise to powers that are as good as nothing.
_REPAIR = text(
    f"""
WITH wrong AS ({_WRONG}),
held AS (
  SELECT r.queue_id, a.resource, CASE WHEN r.closed_at IS NULL THEN a.amount ELSE coalesce(a.opened_amount, a.amount) END AS amount,
         r.opened_at, r.closed_at
    FROM run r JOIN allocation a ON a.run_id = r.id WHERE r.queue_id IN (SELECT queue_id FROM wrong)
  UNION ALL
  SELECT q.id, item ->> 2, (item ->> 3)::bigint, r.opened_at, r.closed_at
    FROM archived_run r JOIN archived_workload w ON w.id = r.workload_id
    JOIN queue q ON q.namespace = w.namespace AND q.name = w.queue_name AND q.created_at <= r.opened_at
   CROSS JOIN jsonb_array_elements(r.allocations) AS item
   WHERE q.id IN (SELECT queue_id FROM wrong)),
left_by AS (
  SELECT held.queue_id, held.resource,
         sum(held.amount * h.seconds / ln(2::double precision)
             * (power(2::double precision, -least(greatest(0, age.ended) / h.seconds, 1000))
                - power(2::double precision, -least(greatest(0, age.opened) / h.seconds, 1000)))) AS value
    FROM held JOIN queue q ON q.id = held.queue_id JOIN tenant t ON t.id = q.tenant_id
   CROSS JOIN LATERAL (SELECT nullif(t.usage_half_life_seconds, 0)::double precision AS seconds) AS h
   CROSS JOIN LATERAL (SELECT extract(epoch FROM :now - held.opened_at)::double precision AS opened,
                              extract(epoch FROM :now - coalesce(held.closed_at, :now))::double precision AS ended) age
   GROUP BY held.queue_id, held.resource)
INSERT INTO queue_usage (queue_id, resource, value, rate, half_life_seconds, as_of)
SELECT wrong.queue_id, wrong.resource, coalesce(left_by.value, 0), wrong.rate, t.usage_half_life_seconds, :now
  FROM wrong JOIN queue q ON q.id = wrong.queue_id JOIN tenant t ON t.id = q.tenant_id
  LEFT JOIN left_by ON left_by.queue_id = wrong.queue_id AND left_by.resource = wrong.resource
ON CONFLICT (queue_id, resource) DO UPDATE
   SET value = excluded.value, rate = excluded.rate, half_life_seconds = excluded.half_life_seconds, as_of = excluded.as_of
"""
)


def load(connection: Connection) -> dict[UsageKey, Usage]:
    """What every queue that there is used, by (namespace, queue, resource)."""
    rows = connection.execute(
        text(
            "SELECT q.namespace, q.name, u.resource, u.value, u.rate, u.half_life_seconds, u.as_of"
            " FROM queue_usage u JOIN queue q ON q.id = u.queue_id ORDER BY 1, 2, 3"
        )
    )
    return {
        (namespace, name, resource): Usage(value, rate, half_life_seconds, as_of)
        for namespace, name, resource, value, rate, half_life_seconds, as_of in rows
    }


def fold(connection: Connection, run_ids: Sequence[int], now: datetime) -> Mapping[UsageKey, Usage]:
    """Count runs that the caller's transaction opened or closed, all at `now`, which is what their rows say too.

    Returns:
        Usage as it is from now on, of every queue and resource that moved.

    Raises:
        LedgerConflict: more was given back than was counted: something moved runs without folding. Rebuilding repairs it.
    """
    return _fold(connection, connection.execute(_MOVED, {"ids": list(run_ids)}), now) if run_ids else {}


def fold_changes(connection: Connection, changes: Sequence[QueueChange], now: datetime) -> Mapping[UsageKey, Usage]:
    """The same where open runs came to hold another amount at `now`. Each queue and resource is named once.

    Raises:
        LedgerConflict: as `fold`.
    """
    if not changes:
        return {}
    rows = [{"queue_id": each.queue_id, "resource": each.resource, "change": each.change} for each in changes]
    return _fold(connection, connection.execute(_CHANGED, {"rows": to_json(rows)}), now)


def _fold(connection: Connection, moves: Iterable[Sequence[Any]], now: datetime) -> dict[UsageKey, Usage]:
    """Fold what `_KNOWN` told, and keep it."""
    found: dict[UsageKey, Usage] = {}
    rows = []
    for queue_id, namespace, name, resource, change, half_life, *known in moves:
        usage = folded(None if known[0] is None else Usage(*known), now, change, half_life)
        if usage.rate < 0:
            held = usage.rate - change
            raise LedgerConflict(
                f"queue {namespace}/{name} gives back {-change} of {resource}, but {held} were counted as held"
            )
        found[namespace, name, resource] = usage
        rows.append(
            {
                "queue_id": queue_id,
                "resource": resource,
                "value": usage.value,
                "rate": usage.rate,
                "half_life_seconds": usage.half_life_seconds,
                "as_of": usage.as_of.isoformat(),
            }
        )
    if rows:
        connection.execute(_KEEP, {"rows": to_json(rows)})
    return found


def differing(connection: Connection) -> int:
    """How many (queue, resource) have a rate that is not what the open runs of the queue hold."""
    return int(connection.execute(text(f"SELECT count(*) FROM ({_WRONG}) AS wrong")).scalar_one())


def repair(connection: Connection, term: int) -> int:
    """Count again, from all runs that the ledger holds and by today's half-life, where the rate is not what open runs hold.

    Returns how many (queue, resource) that were.

    Raises:
        TermLost: another controller leads.
    """
    now = leadership.fence(connection, term)
    return connection.execute(_REPAIR, {"now": now}).rowcount
