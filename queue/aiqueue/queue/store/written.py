"""What the runs of a workload wrote into its Job, and what they found there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from aiqueue.queue.store.codec import to_json
from aiqueue.queue.store.statements import text


@dataclass(frozen=True, slots=True)
class Written:
    """Of one run, by pod set: `original` is what the owner had there, `injected` what the run wrote."""

    original: Mapping[str, Any]
    injected: Mapping[str, Any]


def last(connection: Connection, cluster_id: int, uids: Iterable[str]) -> dict[str, Written]:
    """Of the last run, open or closed, of each of these Jobs; nothing of those where nobody kept what was there before."""
    rows = connection.execute(
        text(
            "SELECT w.uid, r.original, r.injected FROM unnest(CAST(:uids AS text[])) AS asked(uid)"
            " CROSS JOIN LATERAL (SELECT * FROM workload w WHERE w.cluster_id = :cluster AND w.uid = asked.uid OFFSET 0) AS w"
            " CROSS JOIN LATERAL (SELECT * FROM run r WHERE r.workload_id = w.id ORDER BY r.attempt DESC LIMIT 1) AS r"
        ),
        {"cluster": cluster_id, "uids": list(uids)},
    )
    return {row.uid: Written(row.original, row.injected) for row in rows if row.original}


def correct(connection: Connection, run_id: int, original: Mapping[str, Any]) -> None:
    """Keep what the owner has by now in a Job that this run is yet to write into."""
    connection.execute(
        text("UPDATE run SET original = CAST(:original AS jsonb) WHERE id = :id AND started_at IS NULL AND closed_at IS NULL"),
        {"id": run_id, "original": to_json(original)},
    )
