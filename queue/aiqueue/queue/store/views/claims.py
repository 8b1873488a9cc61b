"""Claims as people read them: who claims which room, and how far those have come who make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from aiqueue.queue.records import Allocation
from aiqueue.queue.store.views.paging import DEFAULT_LIMIT
from aiqueue.queue.store.views.runs import RunView, runs_by_id

_CLAIMS = """
SELECT c.workload_id, w.namespace, w.name, t.name AS tenant, c.claimed_at, c.counts, c.allocations, c.run_ids
  FROM claim c JOIN workload w ON w.id = c.workload_id JOIN tenant t ON t.id = c.tenant_id
"""


@dataclass(frozen=True, slots=True)
class ClaimView:
    """The room that a pending workload claims.

    Attributes:
        counts: pods by pod set that it will have.
        allocations: what it will hold.
        victims: the runs that make room for it, in the order decided; also those that are gone.
    """

    workload_id: int
    namespace: str
    name: str
    tenant: str
    claimed_at: datetime
    counts: Mapping[str, int]
    allocations: tuple[Allocation, ...]
    victims: tuple[RunView, ...]

    @property
    def left(self) -> tuple[RunView, ...]:
        """The runs that are not gone yet."""
        return tuple(run for run in self.victims if run.closed_at is None)

    @property
    def until(self) -> datetime | None:
        """The latest deadline of those that are not gone yet; None where all are."""
        return max((run.evict_at for run in self.left if run.evict_at is not None), default=None)


def list_claims(
    connection: Connection,
    *,
    namespace: str | None = None,
    name: str | None = None,
    tenant: str | None = None,
    limit: int = DEFAULT_LIMIT,
) -> list[ClaimView]:
    """Claims that stand, the oldest first; None is no condition. `namespace` and `name` are those of the claimant."""
    given = {"w.namespace = :namespace": namespace, "w.name = :name": name, "t.name = :tenant": tenant}
    conditions = [condition for condition, value in given.items() if value is not None]
    values = {"namespace": namespace, "name": name, "tenant": tenant, "limit": limit}
    return _claims(connection, f"WHERE {' AND '.join(conditions) or 'true'}", values)


def claim_of(connection: Connection, workload_id: int) -> ClaimView | None:
    """The claim of a workload, None where it has none."""
    found = _claims(connection, "WHERE c.workload_id = :id", {"id": workload_id, "limit": 1})
    return found[0] if found else None


def _claims(connection: Connection, where: str, values: Mapping[str, Any]) -> list[ClaimView]:
    query = f"{_CLAIMS} {where} ORDER BY c.claimed_at, c.workload_id LIMIT :limit"
    rows = connection.execute(text(query), values).mappings().all()
    runs = runs_by_id(connection, [run_id for row in rows for run_id in row["run_ids"]])
    return [
        ClaimView(
            workload_id=row["workload_id"],
            namespace=row["namespace"],
            name=row["name"],
            tenant=row["tenant"],
            claimed_at=row["claimed_at"],
            counts=row["counts"],
            allocations=tuple(Allocation(*item) for item in row["allocations"]),
            victims=tuple(runs[run_id] for run_id in row["run_ids"] if run_id in runs),
        )
        for row in rows
    ]
