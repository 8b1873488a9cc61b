"""What the ledger last knew of each Job: the other half of every comparison with what is observed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from sys import intern
from typing import Any

from sqlalchemy import Connection

from aiqueue.queue.store.statements import text
from aiqueue.queue.words import RunOutcome, WorkloadState

_STATES = {str(state): state for state in WorkloadState}


@dataclass(frozen=True, slots=True)
class OpenRun:
    """The open run of a workload.

    Attributes:
        started: the unsuspend was seen to be done (an adopted run always is).
        evict_outcome: how it will have ended, once somebody decided that it shall.
        stopped: the suspend was seen to be done.
        started_at, ready_at, unready_since: when it was started, when its whole gang was first ready, since when it no longer is.
        succeeded_before: pods of the Job that had succeeded in earlier runs.
    """

    id: int
    attempt: int
    started: bool
    adopted: bool = False
    evict_at: datetime | None = None
    evict_outcome: RunOutcome | None = None
    evict_message: str = ""
    stopped: bool = False
    started_at: datetime | None = None
    ready_at: datetime | None = None
    unready_since: datetime | None = None
    succeeded_before: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """A workload row as far as observing needs it. A vanished Job can leave a terminal workload with an open run.

    `checkpoint_seconds` and `max_runtime_seconds` are what its owner said of time, None where nothing. `requeues` is how often it was
    put back because its gang was not ready, since it was last released.
    """

    id: int
    uid: str
    namespace: str
    name: str
    queue_name: str
    class_name: str | None
    shape: str
    state: WorkloadState
    attempt: int
    observed_at: datetime
    resource_version: str
    status: tuple[bool, int, int, int, int, int]  # suspended, active, terminating, ready, succeeded, failed
    stamp: str | None
    hold_requested: bool
    release_requested: bool
    owner_suspended: bool
    invalid: str | None
    checkpoint_seconds: int | None = None
    max_runtime_seconds: int | None = None
    requeues: int = 0
    run: OpenRun | None = None


_COLUMNS = """
SELECT w.id, w.uid, w.namespace, w.name, w.queue_name, w.class_name, w.shape, w.state, w.attempt, w.observed_at,
       w.resource_version, w.suspended, w.active, w.terminating, w.ready, w.succeeded, w.failed, w.stamp, w.hold_requested,
       w.release_requested, w.owner_suspended, w.invalid, w.checkpoint_seconds, w.max_runtime_seconds, w.requeues, r.id AS run_id,
       r.attempt AS run_attempt, r.started_at, r.adopted, r.evict_at, r.evict_outcome, r.evict_message, r.stopped_at, r.ready_at,
       r.unready_since, r.succeeded_before
"""
_KNOWN = f"{_COLUMNS} FROM workload w LEFT JOIN run r ON r.workload_id = w.id AND r.closed_at IS NULL"
# One look into an index for each workload and run. Left to itself Postgres reads both tables whole for a few dozen workloads, as
# long as it has not counted what is in them.
_SOME = text(
    f"{_COLUMNS} FROM unnest(CAST(:uids AS text[])) AS asked(uid)"
    " CROSS JOIN LATERAL (SELECT * FROM workload w WHERE w.cluster_id = :cluster AND w.uid = asked.uid OFFSET 0) AS w"
    " LEFT JOIN LATERAL (SELECT * FROM run r WHERE r.workload_id = w.id AND r.closed_at IS NULL OFFSET 0) AS r ON true"
)


def load(connection: Connection, cluster_id: int, uids: list[str] | None = None) -> dict[str, Known]:
    """Workloads of a cluster in the hot table, by uid; only those of `uids` if given."""
    if uids is None:
        found = connection.execute(text(f"{_KNOWN} WHERE w.cluster_id = :cluster"), {"cluster": cluster_id})
    else:
        found = connection.execute(_SOME, {"cluster": cluster_id, "uids": uids})
    known = map(_known, found)
    return {row.uid: row for row in known}


def _known(row: Sequence[Any]) -> Known:
    """A row of `_COLUMNS`, by place: a start reads all of them before anything is admitted."""
    id_, uid, namespace, name, queue_name, class_name, shape, state, attempt, observed_at, resource_version = row[:11]
    stamp, hold_requested, release_requested, owner_suspended, invalid = row[17:22]
    checkpoint_seconds, max_runtime_seconds, requeues = row[22:25]
    return Known(
        id_,
        uid,
        namespace,
        name,
        queue_name,
        class_name,
        intern(shape),
        _STATES[state],
        attempt,
        observed_at,
        resource_version,
        tuple(row[11:17]),
        stamp,
        hold_requested,
        release_requested,
        owner_suspended,
        invalid,
        checkpoint_seconds,
        max_runtime_seconds,
        requeues,
        _open_run(row[25:]) if row[25] is not None else None,
    )


def _open_run(row: Sequence[Any]) -> OpenRun:
    id_, attempt, started_at, adopted, evict_at, evict_outcome, evict_message, stopped_at, ready_at, unready_since, before = row
    return OpenRun(
        id=id_,
        attempt=attempt,
        started=started_at is not None,
        adopted=adopted,
        evict_at=evict_at,
        evict_outcome=RunOutcome(evict_outcome) if evict_outcome else None,
        evict_message=evict_message or "",
        stopped=stopped_at is not None,
        started_at=started_at,
        ready_at=ready_at,
        unready_since=unready_since,
        succeeded_before=before or 0,
    )
