"""How far the gang of a run is, and what becomes of a workload whose gang was not ready. No I/O: it fills `Changes`.

Readiness is what a Job's status says of it; pods are not looked at. A gang has as many pods as run at once, and is

    wholly ready       once as many pods are ready, or have succeeded in this run, as it has
    ready no more      afterwards, while fewer are ready than it has or, towards the end, than are left to complete

A pod that succeeded is not missed: of a Job with more completions than pods another takes its place, and the time that this one has to
become ready begins anew with each that succeeded. Of a Job without completions (a work queue) nobody is missed once a pod has succeeded.
An index that failed for good is not waited for. Nor is anybody while the Job is coming to its end.

What is told too late changes nothing but how early it is: times are the ledger's, of the transaction that first has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from aiqueue.admission.engine.plan import Eviction
from aiqueue.admission.engine.routes import BUILT_IN_CLASS, class_of
from aiqueue.queue.observations import Observation
from aiqueue.queue.records import Configuration
from aiqueue.queue.store.changes import Changes, PutBack, Stood
from aiqueue.queue.store.known import Known, OpenRun
from aiqueue.queue.words import TERMINAL_STATES, RunOutcome, WorkloadState

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 60, 3600


def gang_of(seen: Observation) -> int:
    """How many pods of a Job run at once."""
    return sum(pod_set.count for pod_set in seen.pod_sets)


def wanted(seen: Observation) -> int:
    """How many pods should be ready now, of a gang that is under way."""
    if seen.completions is None:
        return 0 if seen.succeeded else gang_of(seen)
    return min(gang_of(seen), max(0, seen.completions - seen.succeeded - seen.failed_indexes))


def is_wholly_ready(seen: Observation, succeeded_before: int = 0) -> bool:
    """Whether a gang is wholly ready for the first time in a run that began when so many of its Job's pods had succeeded."""
    if seen.ending:
        return True
    if seen.completions is None:
        return bool(seen.succeeded) or seen.ready >= gang_of(seen)
    left = max(0, seen.completions - succeeded_before - seen.failed_indexes)
    return seen.ready + max(0, seen.succeeded - succeeded_before) >= min(gang_of(seen), left)


def look(changes: Changes, seen: Observation, known: Known, run: OpenRun) -> bool:
    """Add what an observation of a Job that runs by this run says of its gang; answers whether it says anything new.

    Of a run that was told to end nobody asks any more.
    """
    if run.evict_at is not None or run.stopped or seen.deleting:
        return False
    if run.ready_at is None:
        told = Stood(run.id, ready=True) if is_wholly_ready(seen, run.succeeded_before) else None
    elif seen.ending or seen.ready >= wanted(seen):
        told = Stood(run.id, ready=True) if run.unready_since is not None else None
    elif run.unready_since is None:
        told = Stood(run.id, ready=False)
    else:
        replaced = seen.completions is None or seen.completions > gang_of(seen)
        told = Stood(run.id, ready=False) if replaced and seen.succeeded > known.status[4] else None
    if told is not None:
        changes.stood.append(told)
    return told is not None


def why(eviction: Eviction, latest: Callable[[], Observation | None]) -> str:
    """Why a run is told to end, with how many pods were ready where that is why and its Job is at hand.

    Only then is its Job looked at: a Plan may put out hundreds for other reasons.
    """
    seen = latest() if eviction.outcome is RunOutcome.NOT_READY else None
    if seen is None:
        return eviction.message
    return f"{eviction.message}: {seen.ready} of {wanted(seen)} pods were ready"


def put_back(changes: Changes, rows: Iterable[Known | None], configuration: Configuration) -> None:
    """Add what follows for workloads that wait again after a run whose gang was not ready.

    Who runs on, by a later run, does not wait. Each time one has to wait twice as long as the last time, from a minute to an hour. After
    so many times as its class lets it, it is held until its owner releases it. Who was released while it still ran is not: the start
    took off what was said before it, so it was said of this run. It waits as after the first time, since it may be said of every run.

    Args:
        changes: of which the runs are closed.
        rows: of the workloads concerned, as they were before.
        configuration: what their classes say.
    """
    if not any(closed.outcome is RunOutcome.NOT_READY for closed in changes.closed):
        return
    adopted = {each.uid for each in changes.adopted}
    known = {row.id: row for row in rows if row is not None and row.uid not in adopted}
    for number, closed in enumerate(changes.closed):
        row = known.get(closed.workload_id)
        if row is None or closed.outcome is not RunOutcome.NOT_READY or closed.state in TERMINAL_STATES:
            continue
        limit = (class_of(configuration, row) or BUILT_IN_CLASS).requeue_limit
        released = row.release_requested
        requeues = 1 if released else row.requeues + 1
        held = requeues > limit and not released
        if held:
            changes.closed[number] = replace(closed, state=WorkloadState.HELD)
        pause = min(FIRST_PAUSE_SECONDS << min(requeues - 1, 16), LONGEST_PAUSE_SECONDS)
        changes.put_back.append(PutBack(row.id, requeues, limit, None if held else pause))


def release(changes: Changes, seen: Observation, known: Known) -> None:
    """Add that the owner just now released a workload: what was counted against it is forgotten, and it need not wait."""
    if known.requeues and seen.released_by_owner and not known.release_requested:
        changes.released.append(known.id)
