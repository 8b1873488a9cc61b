"""What the ledger and the engine know of one workload."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from aiqueue.cli.foresight import Foresight, Outlook, foresee, look_out
from aiqueue.queue.errors import NotFound
from aiqueue.queue.store import views
from aiqueue.queue.words import WorkloadState

WAITING = (WorkloadState.PENDING, WorkloadState.HELD)


@dataclass(frozen=True, slots=True)
class Explanation:
    """One workload.

    Attributes:
        stored: the verdict in the ledger; None if it does not wait or nobody decided yet.
        foresight: what the engine makes of it as of now, if it waits.
        claim: the room that it claims, if it does, with who makes it.
        outlook: how its run stands towards those who may need its room, if it has one.
        runs: the latest first.
        older: workloads of the same name that are over.
    """

    workload: views.WorkloadView
    stored: views.DecisionView | None
    foresight: Foresight | None
    claim: views.ClaimView | None
    outlook: Outlook | None
    runs: tuple[views.RunView, ...]
    older: int
    leader: views.LeaderView

    @property
    def open_run(self) -> views.RunView | None:
        """The run that holds quota now."""
        return next((run for run in self.runs if run.closed_at is None), None)

    @property
    def sizes(self) -> tuple[tuple[str, int, int], ...]:
        """Pod sets that run with fewer pods than they ask for, as (pod set, pods admitted, pods asked for)."""
        run = self.open_run
        if run is None:
            return ()
        held: dict[tuple[str, str], int] = {}
        for each in run.opened_allocations:
            key = (each.pod_set, each.resource)
            held[key] = held.get(key, 0) + each.amount
        found: list[tuple[str, int, int]] = []
        for pod_set in self.workload.pod_sets:
            requests = {(pod_set.name, resource): amount for resource, amount in pod_set.requests.items() if amount}
            counts = [held[key] // amount for key, amount in requests.items() if key in held]
            if pod_set.min_count is not None and counts and max(counts) < pod_set.count:
                found.append((pod_set.name, max(counts), pod_set.count))
        return tuple(found)


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
    waits = view.state in WAITING
    runs = views.runs_of(connection, view.id)
    return Explanation(
        workload=view,
        stored=views.decision_of(connection, view.id) if waits else None,
        foresight=foresee(connection, view.id, now) if waits else None,
        claim=views.claim_of(connection, view.id) if waits else None,
        outlook=look_out(connection, view.id, now) if any(run.closed_at is None for run in runs) else None,
        runs=runs,
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
