"""Runs as people read them: what each held, since when, and how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping, text

from aiqueue.queue.records import Allocation
from aiqueue.queue.store.views.paging import DEFAULT_LIMIT, Cursor, Page, collect
from aiqueue.queue.words import PreemptionRule, RunOutcome

_HOT = """
SELECT r.id, r.workload_id, w.namespace, w.name, r.attempt, t.name AS tenant, r.adopted, r.opened_at, r.started_at, r.evict_at,
       r.evict_outcome, r.evict_message, r.evict_rule, r.evict_noticed_at, r.stopped_at, r.closed_at, r.outcome, r.message,
       r.injected, w.checkpoint_seconds, r.ready_at, r.unready_since,
       coalesce(pw.namespace || '/' || pw.name, pa.namespace || '/' || pa.name) AS preempted_by,
       (SELECT json_agg(json_build_array(a.pod_set, f.name, a.resource,
                                         CASE WHEN r.closed_at IS NULL THEN a.amount ELSE coalesce(a.opened_amount, a.amount) END,
                                         coalesce(a.opened_amount, a.amount))
                        ORDER BY a.pod_set, f.name, a.resource)
          FROM allocation a JOIN flavor f ON f.id = a.flavor_id WHERE a.run_id = r.id) AS allocations,
       r.closed_at AS key_at, NULL AS key_state
  FROM run r
  JOIN workload w ON w.id = r.workload_id
  JOIN tenant t ON t.id = r.tenant_id
  LEFT JOIN workload pw ON pw.id = r.preempted_by
  LEFT JOIN archived_workload pa ON pa.id = r.preempted_by
"""
_ARCHIVED = """
SELECT r.id, r.workload_id, w.namespace, w.name, r.attempt, r.tenant, r.adopted, r.opened_at, r.started_at, NULL AS evict_at,
       NULL AS evict_outcome, NULL AS evict_message, r.evict_rule, NULL AS evict_noticed_at, NULL AS stopped_at, r.closed_at,
       r.outcome, r.message, NULL AS injected, NULL AS checkpoint_seconds, r.ready_at, NULL AS unready_since,
       coalesce(pw.namespace || '/' || pw.name, pa.namespace || '/' || pa.name) AS preempted_by, r.allocations,
       r.closed_at AS key_at, NULL AS key_state
  FROM archived_run r
  JOIN archived_workload w ON w.id = r.workload_id
  LEFT JOIN workload pw ON pw.id = r.preempted_by
  LEFT JOIN archived_workload pa ON pa.id = r.preempted_by
"""

_LOSING = (RunOutcome.PREEMPTED, RunOutcome.DRAINED, RunOutcome.NOT_READY)


class Leaving(StrEnum):
    """How far the end of a run has come that was told to end."""

    NOTICED = "Noticed"  # it runs on until its deadline
    SUSPENDING = "Suspending"  # its deadline is past, and its Job was not seen to be suspended yet
    RELEASING = "Releasing"  # its Job is suspended, its pods are going
    GONE = "Gone"  # its pods are gone, its quota is given back


@dataclass(frozen=True, slots=True)
class RunView:
    """A run.

    Attributes:
        evict_at, evict_outcome, evict_message: of a run that was told to end: by when, and why; not known of an archived one.
        evict_rule: by which right it was put out for another.
        evict_noticed_at: when it was told to end; not known of an archived one.
        preempted_by: `namespace/name` of the workload that claimed its room.
        stopped_at: when its Job was seen to be suspended; not known of an archived one.
        allocations: what it holds; of one that is over, what it held at first.
        opened_allocations: what it held at first, before its pods began to come to their end.
        injected: what it adds to the Job's template by pod set; empty for an archived run.
        checkpoint_seconds: how often it saves its work, where that is known.
        ready_at, unready_since: when its whole gang was first ready, and since when it no longer is.
    """

    id: int
    workload_id: int
    namespace: str
    name: str
    attempt: int
    tenant: str
    adopted: bool
    opened_at: datetime
    started_at: datetime | None
    evict_at: datetime | None
    evict_outcome: RunOutcome | None
    evict_message: str | None
    evict_rule: PreemptionRule | None
    evict_noticed_at: datetime | None
    stopped_at: datetime | None
    closed_at: datetime | None
    outcome: RunOutcome
    message: str
    preempted_by: str | None
    allocations: tuple[Allocation, ...]
    opened_allocations: tuple[Allocation, ...]
    injected: Mapping[str, Any]
    checkpoint_seconds: int | None = None
    ready_at: datetime | None = None
    unready_since: datetime | None = None

    @property
    def lost_seconds(self) -> int | None:
        """Work that its eviction lost: since its start or last checkpoint. None where it was not evicted, or was not over yet."""
        ended = self.stopped_at or self.closed_at
        if self.evict_noticed_at is None or ended is None or self.outcome not in _LOSING:
            return None
        ran = max(0, int((ended - self.opened_at).total_seconds()))
        return ran % self.checkpoint_seconds if self.checkpoint_seconds else ran

    def leaving(self, now: datetime) -> Leaving | None:
        """How far its end has come; None where it was not told to end."""
        if self.closed_at is not None:
            return Leaving.GONE
        if self.stopped_at is not None:
            return Leaving.RELEASING
        if self.evict_at is None:
            return None
        return Leaving.NOTICED if now < self.evict_at else Leaving.SUSPENDING

    @property
    def flavors(self) -> dict[str, list[str]]:
        """Flavors that each pod set takes its resources from, sorted."""
        found: dict[str, set[str]] = {}
        for allocation in self.allocations:
            found.setdefault(allocation.pod_set, set()).add(allocation.flavor)
        return {pod_set: sorted(flavors) for pod_set, flavors in sorted(found.items())}

    @property
    def held(self) -> dict[tuple[str, str], int]:
        """Amounts by (flavor, resource), in base units."""
        total: dict[tuple[str, str], int] = {}
        for allocation in self.allocations:
            pair = (allocation.flavor, allocation.resource)
            total[pair] = total.get(pair, 0) + allocation.amount
        return total


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None is no condition. `closed`: also those that are over, from the hot tables, then the archive."""

    namespace: str | None = None
    name: str | None = None
    tenant: str | None = None
    outcome: RunOutcome | None = None
    workload_id: int | None = None
    closed: bool = False


def list_runs(
    connection: Connection, wanted: RunFilter, *, after: Cursor | None = None, limit: int = DEFAULT_LIMIT
) -> Page[RunView]:
    """A page of runs: open ones first, then closed ones where wanted, the latest first in each."""
    parts: list[Callable[[Cursor | None, int], Sequence[RowMapping]]] = [
        lambda cursor, rows: _part(
            connection, f"{_HOT} WHERE r.closed_at IS NULL", wanted, tenant="t.name", after=cursor, limit=rows
        )
    ]
    if wanted.closed or wanted.outcome not in (None, RunOutcome.RUNNING):
        parts.append(
            lambda cursor, rows: _part(
                connection, f"{_HOT} WHERE r.closed_at IS NOT NULL", wanted, tenant="t.name", after=cursor, limit=rows
            )
        )
        parts.append(
            lambda cursor, rows: _part(
                connection, f"{_ARCHIVED} WHERE true", wanted, tenant="r.tenant", after=cursor, limit=rows
            )
        )
    return collect(parts, _run_of, after=after, limit=limit)


def runs_of(connection: Connection, workload_id: int) -> tuple[RunView, ...]:
    """The runs of one workload, open, closed and archived, the latest first, at most 100."""
    return list_runs(connection, RunFilter(workload_id=workload_id, closed=True), limit=100).items


def runs_by_id(connection: Connection, ids: Sequence[int]) -> dict[int, RunView]:
    """Runs by id, open, closed and archived; ids that are of no run are left out."""
    found: dict[int, RunView] = {}
    for query in (_HOT, _ARCHIVED) if ids else ():
        rows = connection.execute(text(f"{query} WHERE r.id = ANY(:ids)"), {"ids": list(ids)})
        found |= {row["id"]: _run_of(row) for row in rows.mappings()}
    return found


def _part(
    connection: Connection, query: str, wanted: RunFilter, *, tenant: str, after: Cursor | None, limit: int
) -> Sequence[RowMapping]:
    values: dict[str, Any] = {"limit": limit}
    for column, value in (
        ("w.namespace", wanted.namespace),
        ("w.name", wanted.name),
        (tenant, wanted.tenant),
        ("r.outcome", None if wanted.outcome is None else str(wanted.outcome)),
        ("r.workload_id", wanted.workload_id),
    ):
        if value is not None:
            parameter = column.replace(".", "_")
            query += f" AND {column} = :{parameter}"
            values[parameter] = value
    if after is not None:
        query += " AND r.id < :after_id"
        values["after_id"] = after.id
    return connection.execute(text(f"{query} ORDER BY r.id DESC LIMIT :limit"), values).mappings().all()


def _run_of(row: RowMapping) -> RunView:
    told = row["allocations"] or ()  # an archived one does not say twice what it held
    return RunView(
        id=row["id"],
        workload_id=row["workload_id"],
        namespace=row["namespace"],
        name=row["name"],
        attempt=row["attempt"],
        tenant=row["tenant"],
        adopted=row["adopted"],
        opened_at=row["opened_at"],
        started_at=row["started_at"],
        evict_at=row["evict_at"],
        evict_outcome=RunOutcome(row["evict_outcome"]) if row["evict_outcome"] else None,
        evict_message=row["evict_message"],
        evict_rule=PreemptionRule(row["evict_rule"]) if row["evict_rule"] else None,
        evict_noticed_at=row["evict_noticed_at"],
        stopped_at=row["stopped_at"],
        closed_at=row["closed_at"],
        outcome=RunOutcome(row["outcome"]),
        message=row["message"],
        preempted_by=row["preempted_by"],
        allocations=tuple(Allocation(pod_set, flavor, name, now) for pod_set, flavor, name, now, *_ in told),
        opened_allocations=tuple(Allocation(item[0], item[1], item[2], item[-1]) for item in told),
        injected=row["injected"] or {},
        checkpoint_seconds=row["checkpoint_seconds"],
        ready_at=row["ready_at"],
        unready_since=row["unready_since"],
    )
