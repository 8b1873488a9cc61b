"""Let open runs hold less: their pods come to an end one by one, and what the last ones need no longer is given back at once.

What a run holds of a resource is what one pod asks for times its pods. A run never comes to hold more than it did, however late or often
it is told, so telling it twice changes nothing. What it held at first is remembered (`allocation.opened_amount`), and so is what its owner
asked for (`pod_set`), by which it was admitted.

An adopted run was not: what the ledger has of its owner's wish may be older than what runs, so what counts is what a pod of the running Job
is seen to ask for, as when it was adopted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection

from aiqueue.queue.store import usage
from aiqueue.queue.store.changes import ResizedRun
from aiqueue.queue.store.codec import to_json
from aiqueue.queue.store.statements import text
from aiqueue.queue.store.usage import QueueChange, UsageKey
from aiqueue.queue.usage import Usage

# A pod set's share in one resource is of one flavor, so the pods of a run need not be divided among several rows.
_SHRINK = text(
    """
WITH lesser AS (
  SELECT a.run_id, a.pod_set, a.flavor_id, a.resource, r.queue_id, a.amount AS before,
         (CASE WHEN r.adopted THEN v.requests ELSE p.requests END ->> a.resource)::bigint * v.pods AS amount
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(run_id bigint, workload_id bigint, pod_set text, pods bigint, requests jsonb)
    JOIN run r ON r.id = v.run_id AND r.workload_id = v.workload_id AND r.closed_at IS NULL
    JOIN allocation a ON a.run_id = r.id AND a.pod_set = v.pod_set
    JOIN pod_set p ON p.workload_id = r.workload_id AND p.name = v.pod_set)
UPDATE allocation a SET amount = lesser.amount, opened_amount = coalesce(a.opened_amount, a.amount) FROM lesser
 WHERE a.run_id = lesser.run_id AND a.pod_set = lesser.pod_set AND a.flavor_id = lesser.flavor_id
   AND a.resource = lesser.resource AND lesser.amount < a.amount
RETURNING a.run_id, lesser.queue_id, a.resource, lesser.amount - lesser.before
"""
)


def shrink(
    connection: Connection, resized: Sequence[ResizedRun], now: datetime
) -> tuple[frozenset[int], Mapping[UsageKey, Usage]]:
    """Let runs hold what so many pods need, where that is less, in the caller's transaction.

    Args:
        connection: whose transaction is fenced.
        resized: open runs; one that is closed is passed over.
        now: from when they hold less.

    Returns:
        The runs that hold less than before, and usage as it is from now on of every queue and resource that moved.

    Raises:
        LedgerConflict: more was given back than was counted as held; nothing may be kept.
    """
    rows = [
        {"run_id": item.run_id, "workload_id": item.workload_id, "pod_set": name, "pods": pods, "requests": item.requests[name]}
        for item in resized
        for name, pods in item.counts.items()
    ]
    if not rows:
        return frozenset(), {}
    moved = connection.execute(_SHRINK, {"rows": to_json(rows)}).all()
    changes: dict[tuple[int, str], int] = {}
    for _, queue_id, resource, change in moved:
        if queue_id is not None:
            changes[queue_id, resource] = changes.get((queue_id, resource), 0) + change
    told = [QueueChange(queue_id, resource, change) for (queue_id, resource), change in changes.items()]
    return frozenset(run_id for run_id, *_ in moved), usage.fold_changes(connection, told, now)
