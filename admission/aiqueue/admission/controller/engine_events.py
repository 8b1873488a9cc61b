"""What the engine has to hear of workloads and runs, told from how the ledger's rows were and how they are. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from aiqueue.admission.engine.events import Event, RunClosed, RunStanding, WorkloadGone, WorkloadPending
from aiqueue.queue.store.changes import ClosedRun
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import WorkloadState

WAITS = (WorkloadState.PENDING, WorkloadState.HELD)
Rows = Mapping[str, Known]
Before = Mapping[str, Known | None]


def of_rows(closed: Iterable[ClosedRun], before: Before, after: Rows, pending: Iterable[WorkloadPending]) -> Iterator[Event]:
    """Quota that came back, gangs that moved, and workloads that began or ceased to wait, or wait differently.

    Args:
        closed: runs that gave their quota back.
        before: the rows of the workloads concerned, by uid, as they were.
        after: as they are.
        pending: of those that wait now, what they ask for.
    """
    for each in closed:
        yield RunClosed(each.run_id)
    yield from _standings(before, after)
    by_id = {event.workload.id: event for event in pending}
    for uid in sorted(before):
        was, now = before[uid], after.get(uid)
        if now is not None and now.state in WAITS:
            if was is None or was.state not in WAITS or _asks(was) != _asks(now):
                yield by_id[now.id]
        elif was is not None and was.state in WAITS:
            yield WorkloadGone(was.id)


def _standings(before: Before, after: Rows) -> Iterator[RunStanding]:
    """How far the gangs of open runs are, where that moved; adopted ones are told with their run."""
    for uid, now in after.items():
        was = before.get(uid)
        if now.run is not None and was is not None and was.run is not None and was.run.id == now.run.id:
            times = (now.run.started_at, now.run.ready_at, now.run.unready_since)
            if times != (was.run.started_at, was.run.ready_at, was.run.unready_since):
                yield RunStanding(now.run.id, *times)


def _asks(row: Known) -> tuple[object, ...]:
    held = (row.state, row.owner_suspended, row.hold_requested)
    return (row.queue_name, row.class_name, row.shape, row.invalid, row.attempt, held, row.requeues, _times(row))


def _times(row: Known) -> tuple[int | None, int | None]:
    return (row.checkpoint_seconds, row.max_runtime_seconds)


def runs_anew(before: Before, after: Rows) -> list[int]:
    """Open runs whose owner says something else of time than before; the engine takes a run that opens again as the newer truth."""
    return [
        now.run.id
        for uid, now in after.items()
        if now.run is not None and (was := before.get(uid)) is not None and was.run is not None and was.run.id == now.run.id
        if _times(was) != _times(now)
    ]
