"""What the doctor reads of a ledger beyond what a controller does, and how it writes what it mends.

The reads belong into one transaction that sees one instant. Each write is fenced, audits what it changes, and changes only rows that are
as its caller believes.
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
from aiqueue.queue.words import TERMINAL_STATES, ActionKind, AuditVerb, WorkloadState, quoted

_TERMINAL = quoted(TERMINAL_STATES)


@dataclass(frozen=True, slots=True)
class OpenAction:
    """An action that is yet to be done. `due_at` is from when on it may be; `run_open` is False where its run was closed or it has none."""

    id: int
    workload_id: int
    uid: str
    namespace: str
    name: str
    kind: ActionKind
    run_id: int | None
    run_open: bool
    due_at: datetime


@dataclass(frozen=True, slots=True)
class ClaimFact:
    """A claim, the state of who claims, and which of its runs are still open."""

    workload_id: int
    namespace: str
    name: str
    state: WorkloadState
    claimed_at: datetime
    run_ids: tuple[int, ...]
    open_run_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RateFact:
    """A queue whose decayed usage of a resource goes by `rate` though its open runs hold `held`."""

    namespace: str
    queue: str
    resource: str
    rate: int
    held: int


@dataclass(frozen=True, slots=True)
class PastRun:
    """A closed run that is still in the hot table."""

    id: int
    uid: str
    attempt: int


def open_actions(connection: Connection, cluster_id: int) -> list[OpenAction]:
    """Actions of a cluster that are yet to be done, oldest first."""
    rows = connection.execute(
        text(
            "SELECT a.id, a.workload_id, w.uid, w.namespace, w.name, a.kind, a.run_id,"
            " coalesce(r.closed_at IS NULL AND r.id IS NOT NULL, false), greatest(a.created_at, a.not_before)"
            " FROM action a JOIN workload w ON w.id = a.workload_id LEFT JOIN run r ON r.id = a.run_id"
            " WHERE a.cluster_id = :cluster ORDER BY a.id"
        ),
        {"cluster": cluster_id},
    )
    return [
        OpenAction(id_, workload_id, uid, namespace, name, ActionKind(kind), run_id, run_open, due_at)
        for id_, workload_id, uid, namespace, name, kind, run_id, run_open, due_at in rows
    ]


def claims(connection: Connection) -> list[ClaimFact]:
    """All claims, oldest first."""
    rows = connection.execute(
        text(
            "SELECT c.workload_id, w.namespace, w.name, w.state, c.claimed_at, c.run_ids,"
            " ARRAY(SELECT r.id FROM run r WHERE r.id = ANY(c.run_ids) AND r.closed_at IS NULL ORDER BY r.id)"
            " FROM claim c JOIN workload w ON w.id = c.workload_id ORDER BY c.claimed_at, c.workload_id"
        )
    )
    return [
        ClaimFact(id_, namespace, name, WorkloadState(state), claimed_at, tuple(run_ids), tuple(open_ids))
        for id_, namespace, name, state, claimed_at, run_ids, open_ids in rows
    ]


def rates(connection: Connection) -> list[RateFact]:
    """Queues whose rate is not what their open runs hold."""
    rows = connection.execute(
        text(
            "SELECT q.namespace, q.name, coalesce(u.resource, held.resource), coalesce(u.rate, 0), coalesce(held.amount, 0)"
            " FROM queue_usage u FULL JOIN (SELECT r.queue_id, a.resource, sum(a.amount) AS amount FROM run r"
            "  JOIN allocation a ON a.run_id = r.id WHERE r.closed_at IS NULL GROUP BY r.queue_id, a.resource) AS held"
            "  ON held.queue_id = u.queue_id AND held.resource = u.resource"
            " JOIN queue q ON q.id = coalesce(u.queue_id, held.queue_id)"
            " WHERE coalesce(u.rate, 0) <> coalesce(held.amount, 0) ORDER BY 1, 2, 3"
        )
    )
    return [RateFact(namespace, queue, resource, int(rate), int(held)) for namespace, queue, resource, rate, held in rows]


def past_runs(connection: Connection, cluster_id: int, ids: Sequence[int]) -> dict[int, PastRun]:
    """Those of `ids` that are closed and still in the hot table, by id."""
    if not ids:
        return {}
    rows = connection.execute(
        text(
            "SELECT r.id, w.uid, r.attempt FROM run r JOIN workload w ON w.id = r.workload_id"
            " WHERE r.cluster_id = :cluster AND r.id = ANY(:ids) AND r.closed_at IS NOT NULL"
        ),
        {"cluster": cluster_id, "ids": list(ids)},
    )
    return {row[0]: PastRun(*row) for row in rows}


def seize(connection: Connection, holder: str, lease_seconds: float) -> int:
    """Take leadership from whoever has it, in the caller's transaction, and end the sessions of the old term. Returns the new term.

    Raises:
        LedgerConflict: somebody else took it over just now.
        LedgerError: a session of the old term could not be ended.
    """
    connection.execute(text("UPDATE leader_lease SET expires_at = clock_timestamp() WHERE id = 1"))
    term = leadership.take_over(connection, holder, lease_seconds)
    if term is None:
        raise LedgerConflict("leadership could not be taken over: ask again")
    return term


def set_states(connection: Connection, term: int, states: Mapping[int, WorkloadState], *, claimed_by: str) -> int:
    """Give live or ended workloads, by id, the state that their run or the lack of one says. Returns how many rows changed.

    Raises:
        TermLost: another controller leads.
    """
    now = leadership.fence(connection, term)
    return _audited(
        connection,
        f"""
WITH v AS (SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(id bigint, state text)),
was AS (SELECT w.id, w.namespace, w.name, w.state FROM workload w JOIN v ON v.id = w.id WHERE w.state <> v.state FOR UPDATE OF w),
done AS (
  UPDATE workload w SET state = v.state, state_since = :now,
         ended_at = CASE WHEN v.state IN ({_TERMINAL}) THEN coalesce(w.ended_at, :now) END
    FROM v JOIN was ON was.id = v.id WHERE w.id = v.id RETURNING w.id, w.state)
SELECT 'Workload', was.namespace || '/' || was.name, jsonb_build_object('state', was.state), jsonb_build_object('state', done.state)
  FROM done JOIN was ON was.id = done.id""",
        AuditVerb.UPDATED,
        claimed_by,
        rows=to_json([{"id": id_, "state": state} for id_, state in states.items()]),
        now=now,
    )


def delete_actions(connection: Connection, term: int, ids: Iterable[int], *, claimed_by: str) -> int:
    """Delete actions that mean nothing any more. Returns how many there were.

    Raises:
        TermLost: another controller leads.
    """
    leadership.fence(connection, term)
    return _audited(
        connection,
        """
WITH gone AS (DELETE FROM action WHERE id = ANY(:ids) RETURNING id, workload_id, run_id, kind)
SELECT 'Action', w.namespace || '/' || w.name,
       jsonb_build_object('id', gone.id, 'kind', gone.kind, 'run', gone.run_id), CAST(NULL AS jsonb)
  FROM gone JOIN workload w ON w.id = gone.workload_id""",
        AuditVerb.DELETED,
        claimed_by,
        ids=list(ids),
    )


def delete_claims(connection: Connection, term: int, workload_ids: Iterable[int], *, claimed_by: str) -> int:
    """Delete claims that mean nothing any more. Returns how many there were.

    Raises:
        TermLost: another controller leads.
    """
    leadership.fence(connection, term)
    return _audited(
        connection,
        """
WITH gone AS (DELETE FROM claim WHERE workload_id = ANY(:ids) RETURNING workload_id, run_ids, allocations)
SELECT 'Claim', w.namespace || '/' || w.name,
       jsonb_build_object('runs', gone.run_ids, 'allocations', gone.allocations), CAST(NULL AS jsonb)
  FROM gone JOIN workload w ON w.id = gone.workload_id""",
        AuditVerb.DELETED,
        claimed_by,
        ids=list(workload_ids),
    )


def note(
    connection: Connection,
    verb: AuditVerb,
    kind: str,
    name: str,
    *,
    before: Mapping[str, Any] | None,
    after: Mapping[str, Any] | None,
    claimed_by: str,
) -> None:
    """Write a row of the audit for what the caller's transaction mended by the controller's own writes."""
    connection.execute(
        text(
            "INSERT INTO audit (verb, kind, name, claimed_by, before, after) VALUES (:verb, :kind, :name, :claimed_by,"
            " CAST(:before AS jsonb), CAST(:after AS jsonb))"
        ),
        {
            "verb": verb,
            "kind": kind,
            "name": name,
            "claimed_by": claimed_by,
            "before": None if before is None else to_json(before),
            "after": None if after is None else to_json(after),
        },
    )


def _audited(connection: Connection, changes: str, verb: AuditVerb, claimed_by: str, **values: Any) -> int:
    """Run a statement that changes rows and answers (kind, name, before, after) of each, and audit them."""
    rows = connection.execute(text(changes), values).all()
    for kind, name, before, after in rows:
        note(connection, verb, kind, name, before=before, after=after, claimed_by=claimed_by)
    return len(rows)
