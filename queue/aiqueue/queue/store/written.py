"""What the runs of a workload wrote into its Job, and what they found there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text


@dataclass(frozen=True, slots=True)
class Written:
    """Of one run, by pod set: `original` is what the owner had there, `injected` what the run wrote."""

    original: Mapping[str, Any]
    injected: Mapping[str, Any]


def last(connection: Connection, cluster_id: int, uid: str) -> Written | None:
    """Of the last run, open or closed, of a Job; None where the ledger has none, or one that was adopted and wrote nothing."""
    row = connection.execute(
        text(
            "SELECT r.original, r.injected FROM run r JOIN workload w ON w.id = r.workload_id"
            " WHERE w.cluster_id = :cluster AND w.uid = :uid ORDER BY r.attempt DESC LIMIT 1"
        ),
        {"cluster": cluster_id, "uid": uid},
    ).one_or_none()
    return Written(row.original, row.injected) if row is not None and row.original else None
