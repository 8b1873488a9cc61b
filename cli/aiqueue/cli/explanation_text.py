"""An explanation as lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from aiqueue.cli import making_room_text
from aiqueue.cli.ages import age, human
from aiqueue.cli.explanation import Explanation
from aiqueue.cli.foresight import Foresight
from aiqueue.cli.listings.query import amounts, instant, until
from aiqueue.cli.printers import printable, table_lines
from aiqueue.queue.records import Decision
from aiqueue.queue.store import views
from aiqueue.queue.units import format_amount, format_duration
from aiqueue.queue.words import RunOutcome

_SHOWN_RUNS = 10
_SHOWN_EVICTIONS = 3
_EVICTED = (RunOutcome.PREEMPTED, RunOutcome.DRAINED, RunOutcome.NOT_READY)


def lines(explained: Explanation, now: datetime) -> list[str]:
    """The explanation, without what could move a terminal's cursor."""
    parts = [_who(explained.workload, now)]
    if explained.foresight is not None:
        parts.append(_why(explained, explained.foresight, now))
    if explained.claim is not None:
        parts.append(making_room_text.claim_lines(explained.claim, now))
    if explained.open_run is not None:
        parts.append(_open(explained, explained.open_run, now))
    if past := [run for run in explained.runs if run.closed_at is not None]:
        parts.append(_past(past, now))
        evicted = [run for run in past if run.outcome in _EVICTED]
        parts.extend(making_room_text.eviction_lines(run) for run in evicted[:_SHOWN_EVICTIONS])
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
    if view.requeues:
        often = f"{view.requeues} time{'s' if view.requeues != 1 else ''}"
        yield f"  requeued   {often}, as its gang was not ready: its age counts from {instant(view.requeued_at)}"
    yield f"  waited     {human(view.waited_seconds(now))}" + ("" if view.first_admitted_at else ", never admitted")
    yield f"  asks for   {view.pods} pod{'s' if view.pods != 1 else ''}: {amounts(view.requests) or 'nothing'}"
    for pod_set in view.pod_sets:
        if pod_set.min_count is not None:
            yield f"             at least {pod_set.min_count} of {pod_set.count} pods of {pod_set.name}"
    if view.checkpoint_seconds:
        yield f"  saves      every {format_duration(view.checkpoint_seconds)}"
    if view.max_runtime_seconds is not None:
        yield f"  wants      to run for no longer than {format_duration(view.max_runtime_seconds)} at a time"


def _why(explained: Explanation, foresight: Foresight, now: datetime) -> Iterator[str]:
    yield ""
    if not explained.leader.leads:
        who = f"; {explained.leader.holder} did until {instant(explained.leader.expires_at)}" if explained.leader.holder else ""
        yield f"No controller leads the ledger now{who}: nothing is admitted until one does."
    if foresight.admitted_next:
        yield "It fits: the next Plan admits it."
        return
    if foresight.evicted_next:
        last = max(eviction.evict_at for eviction in foresight.evicted_next)
        runs = f"{len(foresight.evicted_next)} run{'s' if len(foresight.evicted_next) != 1 else ''}"
        yield f"The next Plan has {runs} put out for it, by {instant(last)}, in {until(last, now)}."
    decision = foresight.decision or (explained.stored.decision if explained.stored else None)
    if decision is None:
        yield "Nobody decided on it yet (PendingEvaluation)."
        return
    yield f"It waits: {decision.reason}"
    yield f"  {decision.message}"
    if decision.would_change:
        yield f"  what would change it: {decision.would_change}"
    if foresight.claimant is not None:
        name = decision.details.get("claimant", "the claimant")
        yield f"  {name} {foresight.claimant.message} ({foresight.claimant.reason})"
    if foresight.prospects is not None:
        yield f"  it has nobody put out: {making_room_text.why_nobody(foresight.prospects)}"
    if foresight.position is not None:
        yield f"  place {foresight.position[0]} of {foresight.position[1]} that wait in its tenant"
    yield from _evidence(decision)


def _evidence(decision: Decision) -> Iterator[str]:
    if decision.shortfalls:
        yield from table_lines(
            "What is short",
            ("TENANT", "FLAVOR", "RESOURCE", "ASKED", "AVAILABLE", "SHORT"),
            [
                (s.tenant, s.flavor, s.resource, *(format_amount(s.resource, a) for a in (s.requested, s.available, s.short)))
                for s in decision.shortfalls
            ],
        )
    if decision.holders:
        yield from table_lines(
            "Who holds it",
            ("WORKLOAD", "FLAVOR", "RESOURCE", "AMOUNT"),
            [(f"{h.namespace}/{h.name}", h.flavor, h.resource, format_amount(h.resource, h.amount)) for h in decision.holders],
        )


def _open(explained: Explanation, run: views.RunView, now: datetime) -> Iterator[str]:
    outlook = explained.outlook
    adopted = ", adopted" if run.adopted else ""
    yield ""
    yield f"Run {run.attempt} of tenant {run.tenant}, opened {instant(run.opened_at)}, {age(run.opened_at, now)} ago{adopted}"
    yield f"  started    {instant(run.started_at) or 'not yet'}"
    if run.started_at is not None and run.evict_at is None and run.stopped_at is None:
        yield f"  ready      {_ready(explained, run, now)}"
    for name, count, of in explained.sizes:
        yield f"  size       {count} of the {of} pods of {name} that it asks for"
    yield from making_room_text.ending_lines(run, now)
    if outlook is not None and outlook.exposure.ends_at is not None and run.evict_at is None:
        ends_at = outlook.exposure.ends_at
        yield f"  limit      {instant(ends_at)}, in {until(ends_at, now)}: then it has run for as long as it may"
    for pod_set, injected in sorted(run.injected.items()):
        selector = injected.get("nodeSelector") if isinstance(injected, dict) else None
        if selector:
            yield f"  nodes      {','.join(f'{key}={value}' for key, value in sorted(selector.items()))} for {pod_set}"
    yield from table_lines(
        "It holds",
        ("POD SET", "FLAVOR", "RESOURCE", "AMOUNT"),
        [
            (now.pod_set, now.flavor, now.resource, _amount(now.resource, now.amount, first.amount))
            for now, first in zip(run.allocations, run.opened_allocations, strict=True)
        ],
    )
    if outlook is None or run.evict_at is not None or run.stopped_at is not None:
        return
    if outlook.evicted_next is not None:
        yield ""
        yield making_room_text.told_next(outlook.evicted_next, now)
    else:
        yield from making_room_text.exposure_lines(outlook.exposure, run.tenant, now)


def _ready(explained: Explanation, run: views.RunView, now: datetime) -> str:
    """How many of its pods are ready, and until when they have to be."""
    view = explained.workload
    ready = f"{view.ready or 0} of {view.admitted_pods or view.pods} pods"
    by = explained.outlook.exposure.ready_by if explained.outlook is not None else None
    if by is None:
        return f"{ready}; the whole gang was at {instant(run.ready_at)}" if run.ready_at is not None else ready
    if run.ready_at is None:
        return f"{ready}; the whole gang has to be by {instant(by)}, in {until(by, now)} (readyTimeout)"
    since = f"not the whole gang since {instant(run.unready_since)}"
    return f"{ready}, {since}; it has to be again by {instant(by)}, in {until(by, now)} (recoveryTimeout)"


def _amount(resource: str, amount: int, first: int) -> str:
    """What a run holds, and what it did before its first pods came to their end."""
    held = format_amount(resource, amount)
    return held if amount == first else f"{held}, at first {format_amount(resource, first)}"


def _past(runs: Sequence[views.RunView], now: datetime) -> Iterator[str]:
    yield from table_lines(
        "Runs that are over",
        ("ATTEMPT", "OUTCOME", "OPENED", "RAN", "FLAVORS", "MESSAGE"),
        [
            (
                str(run.attempt),
                str(run.outcome),
                f"{age(run.opened_at, now)} ago",
                human(((run.closed_at or now) - run.opened_at).total_seconds()),
                ",".join(sorted({allocation.flavor for allocation in run.allocations})),
                run.message
                + (f" (for {run.preempted_by})" if run.preempted_by and run.preempted_by not in run.message else ""),
            )
            for run in runs[:_SHOWN_RUNS]
        ],
    )
    if len(runs) > _SHOWN_RUNS:
        yield f"  and {len(runs) - _SHOWN_RUNS} older ones"
