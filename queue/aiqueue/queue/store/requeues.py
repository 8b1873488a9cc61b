"""How far gangs are, and what is counted against workloads whose gang was not ready: written with what is observed, in its transaction."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from aiqueue.queue.store.changes import Changes
from aiqueue.queue.store.codec import to_json
from aiqueue.queue.store.statements import text

# Told again that its gang is not ready, a run has its time anew.
_STAND = text(
    """
UPDATE run r SET ready_at = CASE WHEN v.ready THEN coalesce(r.ready_at, :now) ELSE r.ready_at END,
       unready_since = CASE WHEN v.ready THEN NULL ELSE CAST(:now AS timestamptz) END
  FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(run_id bigint, ready boolean)
 WHERE r.id = v.run_id AND r.closed_at IS NULL
"""
)
_PUT_BACK = text(
    """
UPDATE workload w SET requeues = v.requeues, requeued_at = :now, not_before = :now + make_interval(secs => v.pause_seconds),
       owner_suspended = w.owner_suspended OR v.pause_seconds IS NULL
  FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(workload_id bigint, requeues integer, pause_seconds integer)
 WHERE w.id = v.workload_id
"""
)
_RELEASE = text("UPDATE workload SET requeues = 0, not_before = NULL WHERE id = ANY(:ids)")


def write(connection: Connection, changes: Changes, now: datetime) -> None:
    """Write what a batch says of gangs, in the caller's transaction, which is fenced.

    Args:
        connection: whose transaction it is.
        changes: the batch, of which only `stood`, `put_back` and `released` are looked at.
        now: the ledger's time.
    """
    if changes.stood:
        stood = [{"run_id": item.run_id, "ready": item.ready} for item in changes.stood]
        connection.execute(_STAND, {"rows": to_json(stood), "now": now})
    if changes.released:
        connection.execute(_RELEASE, {"ids": changes.released})
    if changes.put_back:
        put_back = [
            {"workload_id": item.workload_id, "requeues": item.requeues, "pause_seconds": item.pause_seconds}
            for item in changes.put_back
        ]
        connection.execute(_PUT_BACK, {"rows": to_json(put_back), "now": now})
