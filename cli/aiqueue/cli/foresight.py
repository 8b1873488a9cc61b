"""What the engine says of one workload, when it is told all that the ledger holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from aiqueue.admission.engine.engine import Engine
from aiqueue.admission.engine.exposure import Exposure
from aiqueue.admission.engine.plan import Eviction
from aiqueue.admission.engine.prospects import Prospects
from aiqueue.admission.retelling import Retelling
from aiqueue.queue.errors import NotFound
from aiqueue.queue.records import Decision

#: A Plan is bounded; this many of them settle any backlog that a ledger of one controller has.
MAX_PLANS = 50


@dataclass(frozen=True, slots=True)
class Foresight:
    """What would become of a workload that waits.

    Attributes:
        decision: the verdict as of now; None if it would be admitted.
        position: place in its tenant's order from 1, and how many wait there; None if it has none.
        admitted_next: whether the next Plan admits it.
        evicted_next: the runs that the next Plan has put out for it.
        prospects: what keeps it from having others put out, where it waits for quota.
        claimant: the verdict on the workload whose claim it is behind, where it is behind one.
    """

    decision: Decision | None = None
    position: tuple[int, int] | None = None
    admitted_next: bool = False
    evicted_next: tuple[Eviction, ...] = ()
    prospects: Prospects | None = None
    claimant: Decision | None = None


@dataclass(frozen=True, slots=True)
class Outlook:
    """How a workload stands that runs.

    Attributes:
        exposure: who could have it put out, and from when.
        evicted_next: what the next Plan tells it, where it does.
    """

    exposure: Exposure
    evicted_next: Eviction | None = None


def foresee(connection: Connection, workload_id: int, now: datetime) -> Foresight:
    """What would become of a workload that waits, were nothing to happen but what the engine decides now."""
    engine = _engine(connection)
    position: tuple[int, int] | None = None
    evictions: list[Eviction] = []
    run_id = 0
    for number in range(MAX_PLANS):
        plan = engine.decide(now)
        if number == 0:  # among all that wait now; before it decided, the engine does not know what time it is
            position = _position(engine, workload_id)
        if any(admission.workload.id == workload_id for admission in plan.admissions):
            return Foresight(position=position, admitted_next=True)
        evictions += [eviction for eviction in plan.evictions if eviction.preempted_by == workload_id]
        # Go on as if it were committed; ids of runs that exist nowhere are negative. Usage at `now` is what it was.
        engine.confirm(plan, range(run_id - len(plan.admissions), run_id))
        run_id -= len(plan.admissions)
        if plan.wake_at is None or plan.wake_at > now:
            break
    decision = engine.verdict(workload_id)
    claimant = decision.details.get("claimant_id") if decision is not None else None
    return Foresight(
        decision,
        position,
        evicted_next=tuple(evictions),
        prospects=engine.prospects(workload_id),
        claimant=engine.verdict(claimant) if claimant is not None else None,
    )


def look_out(connection: Connection, workload_id: int, now: datetime) -> Outlook | None:
    """How a workload stands that runs; None where it has no open run."""
    engine = _engine(connection)
    plan = engine.decide(now)
    try:
        exposure = engine.exposure(workload_id)
    except NotFound:
        return None
    return Outlook(exposure, _of(plan.evictions, workload_id))


def _of(evictions: Sequence[Eviction], workload_id: int) -> Eviction | None:
    return next((eviction for eviction in evictions if eviction.workload_id == workload_id), None)


def _engine(connection: Connection) -> Engine:
    """An engine that was told what the controller tells its own when it starts to lead."""
    engine = Engine()
    for event in Retelling.of(connection).events():
        engine.observe(event)
    return engine


def _position(engine: Engine, workload_id: int) -> tuple[int, int] | None:
    try:
        return engine.position(workload_id)
    except NotFound:
        return None
