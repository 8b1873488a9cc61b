"""What follows from an observation, given what the ledger knows. No I/O: it fills a `Batch`.

A workload is in one of four conditions, and each has one function here:

    first seen      no row yet                                    -> `_first_seen`
    waiting         a live row without an open run                -> `_waiting`
    running         an open run, whatever the row says            -> `_running`
    over            a terminal row without an open run            -> `_over`

A run is closed here only where the status itself proves that no pod is left: the Job finished, or was changed before it ever
started. Every other end becomes a `PodCheck`: pods are listed by the Job's uid until none is alive (`confirm`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from aiqueue.admission.controller import readiness
from aiqueue.admission.controller.shrinking import Sizes, still_needed
from aiqueue.admission.controller.stamps import superseded
from aiqueue.admission.controller.unknown import UnknownJobs
from aiqueue.admission.kube.jobs import observe
from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.patches import EXPIRED_SECONDS
from aiqueue.admission.kube.surroundings import Surroundings
from aiqueue.admission.kube.watches import is_older
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import Allocation, Configuration, PodSet
from aiqueue.queue.store.changes import (
    AdoptedRun,
    Changes,
    ClosedRun,
    NewAction,
    NewWorkload,
    SeenAgain,
    StartedRun,
    StoppedRun,
    Vanished,
)
from aiqueue.queue.store.clusters import Cluster
from aiqueue.queue.store.known import Known, OpenRun
from aiqueue.queue.words import TERMINAL_STATES, ActionKind, RunOutcome, WorkloadState

AssignForAdoption = Callable[[Configuration, str, Sequence[PodSet]], tuple[Allocation, ...]]

DEADLINE_EXCEEDED = "DeadlineExceeded"
_ENDED = {
    WorkloadState.FINISHED: RunOutcome.FINISHED,
    WorkloadState.FAILED: RunOutcome.FAILED,
    WorkloadState.EXPIRED: RunOutcome.EXPIRED,
}
OWNER_SUSPENDED = "suspended by its owner"
JOB_GONE = "the Job was deleted"
CHANGED = "the Job was changed before it started"
NEVER_STARTED = "it was never started"
PASSED_OVER = "the Job was found running for a later run, which the ledger had forgotten"


@dataclass(frozen=True, slots=True)
class PodCheck:
    """Pods of this Job are to be listed until none is alive; then its run is closed."""

    uid: str
    namespace: str
    run_id: int


@dataclass(slots=True)
class Batch:
    """What a round of observations comes to.

    Attributes:
        changes: for the ledger.
        pod_checks: to be asked of the cluster once the changes are committed.
        foreign: uid -> `namespace/name` of running Jobs that carry another ledger's stamp: never touched.
    """

    changes: Changes = field(default_factory=Changes)
    pod_checks: list[PodCheck] = field(default_factory=list)
    foreign: dict[str, str] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Context:
    """What following an observation may look at besides the observation."""

    ledger_uid: str
    cluster: Cluster
    configuration: Configuration
    unknown: UnknownJobs
    assign_for_adoption: AssignForAdoption
    now: datetime
    sizes: Sizes = field(default_factory=Sizes)
    surroundings: Surroundings | None = None

    def see(self, job: Job) -> Observation:
        """What is to be known of a Job of the cluster, by what surrounds it there."""
        return observe(job, cluster=self.cluster.name, surroundings=self.surroundings)


def follow(batch: Batch, seen: Observation, known: Known | None, context: Context) -> None:
    """Add to the batch what follows from one observation."""
    if known is None:
        _first_seen(batch, seen, context)
    elif known.run is not None:
        _running(batch, seen, known, known.run, context)
    elif known.state in TERMINAL_STATES:
        _over(batch, seen, known, context)
    else:
        _waiting(batch, seen, known, context)
    if known is not None:
        readiness.release(batch.changes, seen, known)
    if not seen.running:
        context.unknown.settled(seen.uid)


def gone(batch: Batch, known: Known, context: Context) -> None:
    """Add what follows when the Job of a known workload is confirmed to be gone. Its pods may live on: the run stays open."""
    context.unknown.settled(known.uid)
    outcome, message = RunOutcome.CANCELLED, JOB_GONE
    if known.run is not None:
        in_time = known.run.evict_at is None or context.now < known.run.evict_at
        outcome, message = _outcome(known.run, JOB_GONE if in_time else "")
    if known.state not in TERMINAL_STATES:
        batch.touched.add(known.uid)
        expired = outcome is RunOutcome.EXPIRED
        batch.changes.vanished.append(Vanished(known.id, WorkloadState.EXPIRED if expired else WorkloadState.CANCELLED))
    if known.run is not None:
        if not known.run.stopped:
            batch.touched.add(known.uid)
            batch.changes.stopped.append(StoppedRun(known.run.id, known.id, outcome, message or JOB_GONE))
        batch.pod_checks.append(PodCheck(known.uid, known.namespace, known.run.id))


def pods_gone(batch: Batch, known: Known, run_id: int) -> None:
    """Add what follows when a stopped run was confirmed to have no pod alive: it is closed."""
    run = known.run
    if run is None or run.id != run_id or not run.stopped:
        return
    if known.state not in TERMINAL_STATES and not known.status[0]:  # resumed since they were looked for: more are to come
        return
    batch.touched.add(known.uid)
    state = known.state
    before = OWNER_SUSPENDED if known.owner_suspended else "" if run.started else NEVER_STARTED
    if state in TERMINAL_STATES:
        before = "" if state is WorkloadState.EXPIRED else JOB_GONE
    outcome, message = _outcome(run, before)
    if state not in TERMINAL_STATES:
        held = known.owner_suspended or known.hold_requested
        state = WorkloadState.HELD if held else WorkloadState.PENDING
        if outcome is RunOutcome.EXPIRED:  # its time was up, so it is not taken up again, whoever suspended it then
            state = WorkloadState.EXPIRED
    # Also if it left us: it leaves as it came. What was written last may not have been observed, so act looks whether there is anything.
    batch.changes.actions.append(NewAction(known.uid, run.id, run.attempt, ActionKind.RESTORE))
    batch.changes.closed.append(ClosedRun(run.id, known.id, outcome, message, state))


def _outcome(run: OpenRun, before: str = "") -> tuple[RunOutcome, str]:
    """How a run ends that did not end by itself, and why.

    Args:
        run: the run.
        before: what happened to it before its time was up, "" where nothing did. What was to end it for good did not then.
    """
    if run.evict_outcome is None or (run.evict_outcome is RunOutcome.EXPIRED and before):
        return RunOutcome.CANCELLED, before
    return run.evict_outcome, run.evict_message


def unchanged(seen: Observation, queue_name: str, shape: str) -> bool:
    """Whether a Job that is about to start still asks for what was decided on. The one test for observing and acting.

    While the stamp of an earlier run is there, the template may hold what that run wrote: its shape says nothing then.
    """
    same = seen.queue_name == queue_name and (seen.stamp is not None or seen.shape == shape)
    return same and not (seen.held_by_owner or seen.deleting or seen.invalid)


def counts_otherwise(seen: Observation, queue_name: str, shape: str) -> bool:
    """Whether a Job differs from what was decided on only in what its pods count as: what surrounds it may be why, or its owner."""
    counted_so = replace(seen, shape=shape, invalid=None)
    return not unchanged(seen, queue_name, shape) and unchanged(counted_so, queue_name, shape)


def _first_seen(batch: Batch, seen: Observation, context: Context) -> None:
    if seen.finished or seen.deleting or seen.queue_name is None:
        return
    if seen.running and _is_foreign(seen, context):
        batch.foreign[seen.uid] = f"{seen.namespace}/{seen.name}"
        return
    batch.touched.add(seen.uid)
    state = WorkloadState.HELD if seen.held_by_owner else WorkloadState.PENDING
    batch.changes.new.append(NewWorkload(seen, state))
    if seen.running:
        _runs_without_a_run(batch, seen, 0, context)


def _over(batch: Batch, seen: Observation, known: Known, context: Context) -> None:
    """A Job can come back under its uid: its label was removed, then added again, or its time was up and somebody resumed it."""
    if seen.finished or seen.deleting or seen.queue_name is None:
        return
    if known.state is WorkloadState.CANCELLED:
        _waiting(batch, seen, replace(known, owner_suspended=False), context)
        return
    # A watch may tell a new leader late of how it ran before it was over.
    resumed = seen.running and not is_older(seen.resource_version, known.resource_version)
    if known.state is WorkloadState.EXPIRED and resumed and _runs_without_a_run(batch, seen, known.attempt, context):
        # What is not adopted is to be suspended, and stays over.
        batch.changes.seen.append(SeenAgain(known.id, seen, WorkloadState.PENDING, owner_suspended=False))


def _waiting(batch: Batch, seen: Observation, known: Known, context: Context) -> None:
    owner_suspended = known.owner_suspended and not _released(seen, known)
    if seen.finished is not None:
        state = seen.finished
    elif seen.queue_name is None or seen.deleting or (seen.running and _is_foreign(seen, context)):
        state = WorkloadState.CANCELLED
    elif seen.held_by_owner or owner_suspended:
        state = WorkloadState.HELD
    else:
        state = WorkloadState.PENDING
    # While the stamp is there the template may hold what we injected: what the owner asks for is what the ledger has.
    pristine = seen.stamp is None
    asks_anew = pristine and (
        (seen.queue_name or known.queue_name, seen.class_name, seen.shape, seen.invalid)
        != (known.queue_name, known.class_name, known.shape, known.invalid)
    )
    if state is not known.state or owner_suspended != known.owner_suspended or asks_anew or _status_moved(seen, known):
        batch.touched.add(seen.uid)
        batch.changes.seen.append(SeenAgain(known.id, seen, state, owner_suspended, pod_sets=asks_anew))
    if seen.running and seen.queue_name is not None and not seen.deleting:
        _runs_without_a_run(batch, seen, known.attempt, context)
    elif not seen.running and seen.stamp is not None and str(seen.stamp) != known.stamp:
        # A run was closed while what was done for it was still on its way to the Job.
        put_back(batch, seen, context)


def _running(batch: Batch, seen: Observation, known: Known, run: OpenRun, context: Context) -> None:
    stamp = RunStamp(context.ledger_uid, run.id, run.attempt)
    ours = seen.stamp == stamp
    by_us = seen.stopped == stamp
    state = known.state
    if seen.finished is not None:
        if seen.active == 0 and seen.terminating == 0:
            batch.touched.add(seen.uid)
            expired = run.evict_outcome is RunOutcome.EXPIRED and by_us and seen.end_reason == DEADLINE_EXCEEDED
            state = WorkloadState.EXPIRED if expired else seen.finished
            message = run.evict_message if expired else ""
            batch.changes.seen.append(SeenAgain(known.id, seen, state, known.owner_suspended))
            batch.changes.closed.append(ClosedRun(run.id, known.id, _ENDED[state], message, state))
            return
    elif not seen.suspended:
        if superseded(stamp, seen.stamp) and (seen.namespace, seen.queue_name or "") in context.configuration.queues:
            _passed_over(batch, seen, known, run, context)
            return
        _goes_on(batch, seen, known, run, context, ours=ours, by_us=by_us)
        if context.sizes.look(batch.changes, seen, known, run):
            batch.touched.add(seen.uid)
    elif ours or run.adopted:
        if seen.queue_name is None:  # stopped, then taken out of our hands: nothing more will be heard of it
            gone(batch, known, context)
            return
        _suspended(batch, seen, known, run, by_us)
        state = WorkloadState.RELEASING
    elif not run.started and not unchanged(seen, known.queue_name, known.shape):
        changed_before_start(batch, seen, known, run, context)
        return
    if state is not known.state or _status_moved(seen, known):
        batch.touched.add(seen.uid)
        held = (known.owner_suspended or _by_owner(seen, run, ours, by_us)) and not _released(seen, known)
        batch.changes.seen.append(SeenAgain(known.id, seen, state, held))


def _goes_on(batch: Batch, seen: Observation, known: Known, run: OpenRun, context: Context, *, ours: bool, by_us: bool) -> None:
    """A Job that has a run is not suspended: it was started, or what was to end it has no effect."""
    if not run.started and ours:
        batch.touched.add(seen.uid)
        batch.changes.started.append(StartedRun(run.id))
    if (ours or run.adopted) and readiness.look(batch.changes, seen, known, run):
        batch.touched.add(seen.uid)
    again: list[ActionKind] = []
    expires = run.evict_outcome is RunOutcome.EXPIRED
    # It was suspended, by what was seen or by our mark, and somebody resumed it.
    if run.stopped and (known.status[0] or by_us) and seen.queue_name is not None:
        again.append(ActionKind.SUSPEND)
    elif by_us and expires and seen.deadline_seconds != EXPIRED_SECONDS:
        again.append(ActionKind.EXPIRE)  # somebody took its deadline away
    elif (ours or run.adopted) and not by_us and not run.stopped and _is_up(run, context):
        # Its owner suspended it when it was to be stopped, and resumed it before anybody saw that. Asked for twice is done once.
        again.append(ActionKind.EXPIRE if expires else ActionKind.SUSPEND)
    for kind in again:
        batch.touched.add(seen.uid)
        batch.changes.actions.append(NewAction(seen.uid, run.id, run.attempt, kind))


def _is_up(run: OpenRun, context: Context) -> bool:
    """Whether a run was told to end by now."""
    return run.evict_at is not None and context.now >= run.evict_at


def _passed_over(batch: Batch, seen: Observation, known: Known, run: OpenRun, context: Context) -> None:
    """A Job runs for a later run, of which a restored ledger knows nothing: the run it knows of ended, and this one is adopted."""
    outcome, _ = _outcome(run)
    batch.changes.seen.append(SeenAgain(known.id, seen, WorkloadState.PENDING, known.owner_suspended))
    batch.changes.closed.append(ClosedRun(run.id, known.id, outcome, PASSED_OVER, WorkloadState.PENDING))
    _runs_without_a_run(batch, seen, known.attempt, context)


def _by_owner(seen: Observation, run: OpenRun, ours: bool, by_us: bool) -> bool:
    """Whether an observed suspension is the owner's, also one of a run that was told to end: we would have left our mark."""
    return seen.suspended and seen.finished is None and (ours or run.adopted) and not run.stopped and not by_us


def _released(seen: Observation, known: Known) -> bool:
    """Whether the owner just now released what he had suspended; he may do so while its pods are still going."""
    return seen.released_by_owner and not known.release_requested


def _suspended(batch: Batch, seen: Observation, known: Known, run: OpenRun, by_us: bool) -> None:
    """A Job that ran is suspended: by us at the end of its grace, or by its owner."""
    if not run.stopped:
        batch.touched.add(seen.uid)
        outcome, message = _outcome(run, "" if by_us else OWNER_SUSPENDED)
        held = not by_us and not _released(seen, known)
        batch.changes.stopped.append(StoppedRun(run.id, known.id, outcome, message or OWNER_SUSPENDED, held))
    if seen.active == 0 and seen.terminating == 0:
        batch.pod_checks.append(PodCheck(seen.uid, seen.namespace, run.id))


def changed_before_start(batch: Batch, seen: Observation, known: Known, run: OpenRun, context: Context) -> None:
    """Close a run that was decided on something else. Nobody is at its start, and a patch on its way carries a resourceVersion that is gone."""
    batch.touched.add(seen.uid)
    if seen.queue_name is None or seen.deleting:
        state = WorkloadState.CANCELLED
    else:
        state = WorkloadState.HELD if seen.held_by_owner else WorkloadState.PENDING
    batch.changes.seen.append(SeenAgain(known.id, seen, state, known.owner_suspended, pod_sets=seen.stamp is None))
    outcome, message = _outcome(run, CHANGED)
    batch.changes.closed.append(ClosedRun(run.id, known.id, outcome, message or CHANGED, state))
    put_back(batch, seen, context)


def put_back(batch: Batch, seen: Observation, context: Context) -> None:
    """Have undone what a run wrote into a Job; who was to do that may have left it to a next run, which is not started now."""
    if seen.stamp is not None and not _is_foreign(seen, context):
        batch.touched.add(seen.uid)
        batch.changes.actions.append(NewAction(seen.uid, seen.stamp.run_id, seen.stamp.attempt, ActionKind.RESTORE))


def _runs_without_a_run(batch: Batch, seen: Observation, attempt: int, context: Context) -> bool:
    """Adopt, don't kill: only a Job that provably slipped by is stopped, and only so many. Answers whether it is adopted."""
    if _is_foreign(seen, context):
        batch.foreign[seen.uid] = f"{seen.namespace}/{seen.name}"
        return False
    queue_name = seen.queue_name or ""
    # Creation times are whole seconds, cut off: a Job of the second of the registration is adopted in doubt.
    if seen.stamp is not None or seen.created_at < context.cluster.registered_at:
        queue = context.configuration.queues.get((seen.namespace, queue_name))
        if queue is not None:
            why = "it carries this ledger's run annotation" if seen.stamp else "it ran before this cluster was registered"
            allocations = context.assign_for_adoption(context.configuration, queue.tenant, still_needed(seen))
            batch.touched.add(seen.uid)
            run_id = seen.stamp.run_id if seen.stamp else None
            ready = readiness.is_wholly_ready(seen)
            adopted = AdoptedRun(seen.uid, queue.tenant, seen.namespace, queue_name, allocations, why, run_id, ready)
            batch.changes.adopted.append(adopted)
            context.unknown.settled(seen.uid)
        return queue is not None
    if context.unknown.may_stop(seen.uid, f"{seen.namespace}/{seen.name}", context.now):
        batch.touched.add(seen.uid)
        batch.changes.actions.append(NewAction(seen.uid, None, attempt, ActionKind.SUSPEND, seen.resource_version))
    return False


def _is_foreign(seen: Observation, context: Context) -> bool:
    """Whether the Job was last started by another ledger, or by something that writes what no ledger does."""
    return (seen.stamp is not None and seen.stamp.ledger != context.ledger_uid) or seen.foreign_stamp is not None


def _status_moved(seen: Observation, known: Known) -> bool:
    status = (seen.suspended, seen.active, seen.terminating, seen.ready, seen.succeeded, seen.failed)
    stamp = str(seen.stamp) if seen.stamp else seen.foreign_stamp
    hold = (seen.held_by_owner, seen.released_by_owner)
    times = (seen.checkpoint_seconds, seen.max_runtime_seconds)
    moved = seen.suspended and seen.queue_name not in (None, known.queue_name)
    return (
        status != known.status
        or moved
        or stamp != known.stamp
        or hold != (known.hold_requested, known.release_requested)
        or times != (known.checkpoint_seconds, known.max_runtime_seconds)
    )
