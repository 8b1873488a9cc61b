"""What the ledger and the engine know of one workload."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aiqueue.admission.engine.engine import Engine
from aiqueue.admission.engine.events import ConfigurationChanged, RunOpened, UsageMoved, WorkloadPending
from aiqueue.cli.listings.control import decision_status
from aiqueue.cli.listings.query import instant
from aiqueue.cli.listings.work import run_document, workload_document
from aiqueue.queue.errors import NotFound
from aiqueue.queue.records import Decision
from aiqueue.queue.store import configuration, usage, views, work
from aiqueue.queue.words import WorkloadState

_WAITING = (WorkloadState.PENDING, WorkloadState.HELD)
#: A Plan is bounded; this many of them settle any backlog that a ledger of one controller has.
MAX_PLANS = 50


@dataclass(frozen=True, slots=True)
class Explanation:
    """One workload.

    Attributes:
        stored: the verdict in the ledger; None if it does not wait or nobody decided yet.
        decision: the verdict as of now, worked out by the engine; None if it does not wait, or would be admitted.
        position: place in its tenant's order from 1, and how many wait there; None if it has none.
        next_in: whether the next Plan admits it.
        runs: the latest first.
        older: workloads of the same name that are over.
    """

    workload: views.WorkloadView
    stored: views.DecisionView | None
    decision: Decision | None
    position: tuple[int, int] | None
    next_in: bool
    runs: tuple[views.RunView, ...]
    older: int
    leader: views.LeaderView


def explain(connection: Connection, namespace: str | None, name: str, now: datetime) -> Explanation:
    """Explain the live workload of that name, else the one that ended last.

    Raises:
        NotFound: the ledger never saw it, or the name is of several namespaces; says what to look at.
    """
    found = views.list_workloads(connection, views.WorkloadFilter(namespace=namespace, name=name, ended=True), limit=100).items
    leader = views.leader(connection)
    if not found:
        raise NotFound(_never_seen(namespace, name, leader))
    namespaces = sorted({view.namespace for view in found})
    if len(namespaces) > 1:
        raise NotFound(f"several namespaces have a workload {name}: say which with -n, of {', '.join(namespaces)}")
    view = found[0]
    stored, decision, position, next_in = None, None, None, False
    if view.state in _WAITING:
        stored = views.decision_of(connection, view.id)
        decision, position, next_in = _decide(connection, view.id, now)
    return Explanation(
        workload=view,
        stored=stored,
        decision=decision,
        position=position,
        next_in=next_in,
        runs=views.runs_of(connection, view.id),
        older=len(found) - 1,
        leader=leader,
    )


def _never_seen(namespace: str | None, name: str, leader: views.LeaderView) -> str:
    where = f"{namespace}/{name}" if namespace else name
    job = f"kubectl{f' -n {namespace}' if namespace else ''} get job {name} --show-labels"
    running = (
        f"controller {leader.holder} runs"
        if leader.leads
        else "no controller runs now, so nothing is seen: see `aiqueue controller`"
    )
    return f"the ledger holds no workload {where}: see that the Job exists and carries the label aiqueue.dev/queue ({job}); {running}"


def _decide(connection: Connection, workload_id: int, now: datetime) -> tuple[Decision | None, tuple[int, int] | None, bool]:
    """(verdict, position, whether it would be admitted) as an engine has it that is told all that the ledger holds."""
    engine = Engine()
    engine.observe(ConfigurationChanged(configuration.load(connection)))
    for run in work.load_open_runs(connection):
        engine.observe(RunOpened(run))
    engine.observe(UsageMoved(usage.load(connection)))
    for pending in work.load_pending(connection):
        engine.observe(WorkloadPending(pending))
    position: tuple[int, int] | None = None
    run_id = 0
    for number in range(MAX_PLANS):
        plan = engine.decide(now)
        if number == 0:  # among all that wait now; before it decided, the engine does not know what time it is
            position = _position(engine, workload_id)
        if any(admission.workload.id == workload_id for admission in plan.admissions):
            return None, position, True
        # Go on as if it were committed; ids of runs that exist nowhere are negative. Usage at `now` is what it was.
        engine.confirm(plan, range(run_id - len(plan.admissions), run_id))
        run_id -= len(plan.admissions)
        if plan.wake_at is None or plan.wake_at > now:
            break
    return engine.verdict(workload_id), position, False


def _position(engine: Engine, workload_id: int) -> tuple[int, int] | None:
    try:
        return engine.position(workload_id)
    except NotFound:
        return None


def document(explained: Explanation, now: datetime) -> dict[str, Any]:
    """The explanation as JSON values."""
    whole = workload_document(explained.workload, now)
    decision = None
    if explained.decision is not None:
        decision = decision_status(views.DecisionView(explained.decision, None, now, 1))
    place, of = explained.position or (None, None)
    whole["explanation"] = {
        "decision": decision,
        "stored": None if explained.stored is None else decision_status(explained.stored),
        "position": place,
        "waitingInTenant": of,
        "admittedNext": explained.next_in,
        "runs": [{**run_document(run), "injected": run.injected} for run in explained.runs],
        "older": explained.older,
        "controller": {
            "leads": explained.leader.leads,
            "holder": explained.leader.holder,
            "until": instant(explained.leader.expires_at),
        },
    }
    return whole
