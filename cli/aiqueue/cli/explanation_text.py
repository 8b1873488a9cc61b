"""An explanation as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from aiqueue.cli.ages import age, human
from aiqueue.cli.explanation import Explanation
from aiqueue.cli.listings.query import amounts, instant
from aiqueue.cli.printers import Column, Listing, PlainPrinter, Row, printable
from aiqueue.queue.store import views
from aiqueue.queue.units import format_amount
from aiqueue.queue.words import WorkloadState

_WAITING = (WorkloadState.PENDING, WorkloadState.HELD)
_SHOWN_RUNS = 10


def lines(explained: Explanation, now: datetime) -> list[str]:
    """The explanation, without what could move a terminal's cursor."""
    parts = [_who(explained.workload, now)]
    open_run = next((run for run in explained.runs if run.closed_at is None), None)
    if explained.workload.state in _WAITING:
        parts.append(_why(explained))
    if open_run is not None:
        parts.append(_open(open_run, now))
    if past := [run for run in explained.runs if run.closed_at is not None]:
        parts.append(_past(past, now))
    if explained.older:
        parts.append(
            iter(["", f"{explained.older} older workloads had this name: aiqueue get workloads NAME --all shows them."])
        )
    return [printable(line) for part in parts for line in part]


def _who(view: views.WorkloadView, now: datetime) -> Iterator[str]:
    yield f"Workload {view.namespace}/{view.name} on cluster {view.cluster}"
    yield f"  state      {view.state} since {instant(view.state_since)}, {age(view.state_since, now)} ago"
    yield f"  queue      {view.queue_name}" + (f" of tenant {view.tenant}" if view.tenant else ", which does not exist")
    yield f"  class      {view.class_name or 'none'}"
    by = f" by {view.user}" if view.user else ""
    yield f"  submitted  {instant(view.created_at)}{by}" + (f" through {view.owner}" if view.owner else "")
    yield f"  waited     {human(view.waited_seconds(now))}" + ("" if view.first_admitted_at else ", never admitted")
    yield f"  asks for   {view.pods} pod{'s' if view.pods != 1 else ''}: {amounts(view.requests) or 'nothing'}"
    for pod_set in view.pod_sets:
        if pod_set.min_count is not None:
            yield f"             at least {pod_set.min_count} of {pod_set.count} pods of {pod_set.name}"


def _why(explained: Explanation) -> Iterator[str]:
    yield ""
    if not explained.leader.leads:
        who = f"; {explained.leader.holder} did until {instant(explained.leader.expires_at)}" if explained.leader.holder else ""
        yield f"No controller leads the ledger now{who}: nothing is admitted until one does."
    if explained.next_in:
        yield "It fits: the next Plan admits it."
        return
    decision = explained.decision or (explained.stored.decision if explained.stored else None)
    if decision is None:
        yield "Nobody decided on it yet (PendingEvaluation)."
        return
    yield f"It waits: {decision.reason}"
    yield f"  {decision.message}"
    if decision.would_change:
        yield f"  what would change it: {decision.would_change}"
    if explained.position is not None:
        yield f"  place {explained.position[0]} of {explained.position[1]} that wait in its tenant"
    if decision.shortfalls:
        yield from _table(
            "What is short",
            ("TENANT", "FLAVOR", "RESOURCE", "ASKED", "AVAILABLE", "SHORT"),
            [
                (s.tenant, s.flavor, s.resource, *(format_amount(s.resource, a) for a in (s.requested, s.available, s.short)))
                for s in decision.shortfalls
            ],
        )
    if decision.holders:
        yield from _table(
            "Who holds it",
            ("WORKLOAD", "FLAVOR", "RESOURCE", "AMOUNT"),
            [(f"{h.namespace}/{h.name}", h.flavor, h.resource, format_amount(h.resource, h.amount)) for h in decision.holders],
        )


def _open(run: views.RunView, now: datetime) -> Iterator[str]:
    adopted = ", adopted" if run.adopted else ""
    yield ""
    yield f"Run {run.attempt} of tenant {run.tenant}, opened {instant(run.opened_at)}, {age(run.opened_at, now)} ago{adopted}"
    yield f"  started    {instant(run.started_at) or 'not yet'}"
    if run.evict_at is not None:
        why = f": {run.evict_message}" if run.evict_message else ""
        by = f" for {run.preempted_by}" if run.preempted_by else ""
        yield f"  must end   by {instant(run.evict_at)} ({run.evict_outcome}{by}){why}"
    for pod_set, injected in sorted(run.injected.items()):
        selector = injected.get("nodeSelector") if isinstance(injected, dict) else None
        if selector:
            yield f"  nodes      {','.join(f'{key}={value}' for key, value in sorted(selector.items()))} for {pod_set}"
    yield from _table(
        "It holds",
        ("POD SET", "FLAVOR", "RESOURCE", "AMOUNT"),
        [(a.pod_set, a.flavor, a.resource, format_amount(a.resource, a.amount)) for a in run.allocations],
    )


def _past(runs: Sequence[views.RunView], now: datetime) -> Iterator[str]:
    yield from _table(
        "Runs that are over",
        ("ATTEMPT", "OUTCOME", "OPENED", "RAN", "FLAVORS", "MESSAGE"),
        [
            (
                str(run.attempt),
                str(run.outcome),
                f"{age(run.opened_at, now)} ago",
                human(((run.closed_at or now) - run.opened_at).total_seconds()),
                ",".join(sorted({allocation.flavor for allocation in run.allocations})),
                run.message + (f" (for {run.preempted_by})" if run.preempted_by else ""),
            )
            for run in runs[:_SHOWN_RUNS]
        ],
    )
    if len(runs) > _SHOWN_RUNS:
        yield f"  and {len(runs) - _SHOWN_RUNS} older ones"


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    listing = Listing([Column(column) for column in columns], [Row("", row, {}) for row in rows])
    yield ""
    yield title
    yield from (f"  {line}" for line in PlainPrinter().lines(listing))
