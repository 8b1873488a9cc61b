"""What is told of a Job in Events: of an admission, and of what a batch of changes means for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiqueue.admission.engine.plan import Admission
from aiqueue.admission.kube.events import Event
from aiqueue.queue.store.changes import Changes, ClosedRun, PutBack
from aiqueue.queue.store.known import Known
from aiqueue.queue.units import format_amount, format_duration
from aiqueue.queue.words import EventReason, RunOutcome, WorkloadState

_EVICTED = (RunOutcome.PREEMPTED, RunOutcome.DRAINED, RunOutcome.NOT_READY)
_RELEASE = 'it is held until its owner releases it with the annotation aiqueue.dev/hold: "false"'


def of_admission(admission: Admission) -> Event:
    """That a run began, at which size and on which flavors."""
    workload = admission.workload
    sizes = [(admission.counts.get(each.name, each.count), each.count) for each in workload.pod_sets]
    admitted, asked = sum(size for size, _ in sizes), sum(count for _, count in sizes)
    pods = f"{admitted} pod{'' if admitted == 1 else 's'}" if admitted == asked else f"{admitted} of {asked} pods"
    amounts: dict[tuple[str, str], int] = {}
    for each in admission.allocations:
        key = (each.flavor, each.resource)
        amounts[key] = amounts.get(key, 0) + each.amount
    taken = ", ".join(
        f"{resource} {format_amount(resource, amount)} of {flavor}" for (flavor, resource), amount in amounts.items()
    )
    note = f"admitted by tenant {admission.tenant}: {pods}{f', {taken}' if taken else ''}"
    return Event(workload.namespace, workload.name, workload.uid, EventReason.ADMITTED, note)


def of_changes(changes: Changes, rows: Iterable[Known]) -> Iterator[Event]:
    """What runs that were stopped or closed mean for the owners of their Jobs.

    Args:
        changes: as they were written.
        rows: of the workloads concerned.
    """
    if not (changes.stopped or changes.closed):
        return
    by_id = {row.id: row for row in rows}
    put_back = {each.workload_id: each for each in changes.put_back}
    gone = {vanished.workload_id for vanished in changes.vanished}
    for stopped in changes.stopped:
        row = by_id.get(stopped.workload_id)
        if row is not None and row.id not in gone and stopped.outcome in _EVICTED and not stopped.owner_suspended:
            yield _event(row, EventReason.EVICTED, f"suspended: {stopped.message}")
    for closed in changes.closed:
        row = by_id.get(closed.workload_id)
        if row is None:
            continue
        if closed.state is WorkloadState.EXPIRED:
            yield _event(row, EventReason.EXPIRED, f"ended for good: {closed.message}")
        elif closed.state is WorkloadState.PENDING and closed.outcome in _EVICTED:
            yield _event(row, EventReason.REQUEUED, _waits_again(closed, put_back.get(row.id)))
        elif closed.state is WorkloadState.HELD:
            yield _event(row, EventReason.HELD, _held(closed, put_back.get(row.id)))


def _waits_again(closed: ClosedRun, put_back: PutBack | None) -> str:
    if put_back is None or put_back.pause_seconds is None:
        return f"its pods are gone and it waits again with its age kept: {closed.message}"
    pause = format_duration(put_back.pause_seconds)
    often = f"requeue {put_back.requeues} of {put_back.limit}"
    if put_back.requeues > put_back.limit:
        often = "its owner released it while it still ran"
    return f"its pods are gone and it waits again as if it were new, for {pause} at least ({often}): {closed.message}"


def _held(closed: ClosedRun, put_back: PutBack | None) -> str:
    why = [closed.message] if closed.message else []
    if put_back is not None and put_back.pause_seconds is None:
        why.append(f"its class requeues it {put_back.limit} times at most (requeueLimit)")
    return "; ".join([*why, _RELEASE])


def _event(row: Known, reason: EventReason, note: str) -> Event:
    return Event(row.namespace, row.name, row.uid, reason, note)
