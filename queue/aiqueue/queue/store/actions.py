"""The outbox: what the cluster must be made to see, read back by whoever leads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aiqueue.queue.observations import RunStamp
from aiqueue.queue.store import leadership
from aiqueue.queue.store.statements import text
from aiqueue.queue.words import ActionKind, RunOutcome


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to be done to one Job, with all that is needed to do it.

    Attributes:
        stamp: the run annotation; None for a Job that is stopped though no run of ours ever started it.
        queue_name, shape: what the workload asked for when it was decided on.
        original, injected: by pod set, `nodeSelector` and `tolerations` of the template before the run, and what the run adds.
        not_before: carried out at this time (the database's clock), at once if None.
        evict_at, evict_outcome, evict_message: of a run that was told to end: by when, how, and why.
        adopted: the run was opened for a Job that ran already, which it wrote nothing into.
    """

    id: int
    workload_id: int
    uid: str
    namespace: str
    name: str
    queue_name: str
    run_id: int | None
    attempt: int
    kind: ActionKind
    resource_version: str
    shape: str
    stamp: RunStamp | None
    original: dict[str, Any]
    injected: dict[str, Any]
    not_before: datetime | None = None
    evict_at: datetime | None = None
    evict_outcome: RunOutcome | None = None
    evict_message: str = ""
    adopted: bool = False


def load_open(connection: Connection, cluster_id: int, ids: list[int] | None = None) -> list[Action]:
    """Actions of a cluster that are yet to be done, oldest first; only those of `ids` if given."""
    rows = connection.execute(
        text(
            "SELECT a.id, a.workload_id, w.uid, w.namespace, w.name, w.queue_name, a.run_id, a.attempt, a.kind, a.resource_version, w.shape,"
            " l.uid AS ledger, r.original, r.injected, a.not_before, r.evict_at, r.evict_outcome, r.evict_message, r.adopted"
            " FROM action a JOIN workload w ON w.id = a.workload_id LEFT JOIN run r ON r.id = a.run_id CROSS JOIN ledger l"
            f" WHERE a.cluster_id = :cluster {'AND a.id = ANY(:ids)' if ids is not None else ''} ORDER BY a.id"
        ),
        {"cluster": cluster_id, **({"ids": ids} if ids is not None else {})},
    )
    return [
        Action(
            id=row["id"],
            workload_id=row["workload_id"],
            uid=row["uid"],
            namespace=row["namespace"],
            name=row["name"],
            queue_name=row["queue_name"],
            run_id=row["run_id"],
            attempt=row["attempt"],
            kind=ActionKind(row["kind"]),
            resource_version=row["resource_version"],
            shape=row["shape"],
            stamp=RunStamp(str(row["ledger"]), row["run_id"], row["attempt"]) if row["run_id"] is not None else None,
            original=row["original"] or {},
            injected=row["injected"] or {},
            not_before=row["not_before"],
            evict_at=row["evict_at"],
            evict_outcome=RunOutcome(row["evict_outcome"]) if row["evict_outcome"] else None,
            evict_message=row["evict_message"] or "",
            adopted=bool(row["adopted"]),
        )
        for row in rows.mappings()
    ]


def may_still_start(connection: Connection, term: int, action_id: int) -> bool:
    """Whether an unsuspend is still wanted: its run is open, nobody has asked for its end, and `term` still leads.

    Raises:
        TermLost: another controller leads.
    """
    leadership.fence(connection, term)
    found = connection.execute(
        text(
            "SELECT 1 FROM action a JOIN run r ON r.id = a.run_id"
            " WHERE a.id = :id AND r.closed_at IS NULL AND r.evict_at IS NULL AND r.stopped_at IS NULL"
        ),
        {"id": action_id},
    )
    return found.one_or_none() is not None
