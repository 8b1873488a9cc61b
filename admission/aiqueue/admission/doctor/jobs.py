"""Jobs against the ledger: for one Job, what it shows, what the ledger says of it, and whether both can be true.

What the controller is in the middle of is no difference: a start that is still to be done, pods that are going. So each rule asks whether
anything is left that would bring the two together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from aiqueue.admission.controller.stamps import superseded
from aiqueue.admission.doctor.differences import Difference, Mend, counted
from aiqueue.admission.doctor.kinds import Kind, Severity
from aiqueue.admission.doctor.snapshots import LedgerSnapshot, LivePod
from aiqueue.admission.kube.patches import EXPIRED_SECONDS
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.store.clusters import Cluster
from aiqueue.queue.store.doctor import OpenAction
from aiqueue.queue.store.known import Known, OpenRun
from aiqueue.queue.words import TERMINAL_STATES, ActionKind, RunOutcome, WorkloadState

#: A pod that was told to go and is still there after its grace and this is not going.
STUCK_AFTER = timedelta(minutes=5)
#: How long after its time a run may still wait for its action to be written.
_LATE = timedelta(minutes=1)
_WAITS = (WorkloadState.PENDING, WorkloadState.HELD)
_OVER = (WorkloadState.FINISHED, WorkloadState.FAILED)  # of the others a leader finds it out by itself when their Job runs
_ENDS = frozenset({ActionKind.SUSPEND, ActionKind.EXPIRE})
_OF_RUNS = frozenset(
    {
        Kind.RUN_OF_GONE_JOB,
        Kind.RUN_OF_FINISHED_JOB,
        Kind.RUN_OF_SUSPENDED_JOB,
        Kind.RUN_NEVER_STARTED,
        Kind.RUN_NOT_STOPPED,
    }
)


@dataclass(frozen=True, slots=True)
class Case:
    """One Job of a cluster: `seen` is None where it is gone, `known` where the ledger has no row."""

    uid: str
    ledger: LedgerSnapshot
    cluster: Cluster
    seen: Observation | None
    known: Known | None
    pods: Sequence[LivePod] = ()
    actions: Sequence[OpenAction] = ()

    @property
    def name(self) -> str:
        """`namespace/name`."""
        about = self.seen or self.known
        return f"{about.namespace}/{about.name}" if about is not None else self.uid

    @property
    def newer(self) -> bool:
        """Whether the Job carries a run that this ledger has not given out yet."""
        return self.seen is not None and self.seen.forgotten_by(self.ledger.uid, self.ledger.newest_run_id)

    def awaits(self, run_id: int | None) -> set[ActionKind]:
        """What is still to be done for a run, or (None) without one."""
        return {action.kind for action in self.actions if action.run_id == run_id}

    def differs(self, kind: Kind, what: str, cause: str, repair: str, mend: Mend | None, *, row: int = 0) -> Difference:
        """A difference; `row` is the id of the run, or of the workload, that the mend is about."""
        about = "run" if kind in _OF_RUNS else "workload" if self.known is not None else "job"
        name = f"{about}/{self.name}" + (f"/{row}" if about == "run" else "")
        return Difference(kind, Severity.ERROR, name, what, cause, repair, mend, self.uid, row)


def differences(case: Case) -> Iterator[Difference]:
    """What differs of one Job."""
    yield from _orphans(case)
    known, seen = case.known, case.seen
    if known is not None and known.run is not None:
        yield from _of_run(case, known, known.run)
    elif seen is not None:
        yield from _without_run(case, seen)
    elif known is not None and known.state not in TERMINAL_STATES:
        yield case.differs(
            Kind.WORKLOAD_WITHOUT_JOB,
            f"it is {known.state}, and there is no Job of its uid",
            "the Job was deleted while nobody watched, or the ledger is of another time than the cluster",
            "the workload is ended as Cancelled",
            Mend.END_WORKLOAD,
            row=known.id,
        )


def _orphans(case: Case) -> Iterator[Difference]:
    seen = case.seen
    if not case.pods or (seen is not None and not seen.finished and (not seen.suspended or seen.active)):
        return
    left = [pod for pod in case.pods if pod.deleting_since is None or pod.deleting_since + STUCK_AFTER < case.ledger.now]
    if not left:
        return
    how = "is gone" if seen is None else "is over" if seen.finished else "is suspended"
    names = "; ".join(f"{pod.namespace}/{pod.name} on {pod.node or 'no node'}" for pod in left)
    known = case.known
    holds = known is not None and known.run is not None
    yield Difference(
        Kind.ORPHANED_PODS,
        Severity.ERROR if holds or known is not None else Severity.WARNING,
        f"job/{case.name}",
        f"the Job {how} and {counted(len(left), 'pod')} of it may still hold a node: {names}",
        "the node does not answer, a finalizer keeps the pods, or the Job was deleted with --cascade=orphan",
        "see to the nodes, then delete these pods (kubectl delete pod, with --force only where the node is gone for good)"
        + ("; the run gives its quota back when they are gone" if holds else ""),
        uid=case.uid,
    )


def _of_run(case: Case, known: Known, run: OpenRun) -> Iterator[Difference]:
    seen = case.seen
    if case.newer:
        return
    if seen is None:
        found = _of_gone(case, run)
    elif seen.finished is not None:
        found = _of_finished(case, seen, run)
    elif seen.suspended:
        found = _of_suspended(case, seen, run)
    else:
        found = _of_running(case, seen, run)
    if found is None and (known.state in _WAITS or (known.state in TERMINAL_STATES and seen is not None and not seen.finished)):
        found = case.differs(
            Kind.STATE_DIFFERS,
            f"it is {known.state} and has the open run {run.id}",
            "somebody wrote to the ledger by hand",
            "its state becomes what the run says",
            Mend.SET_STATE,
            row=known.id,
        )
    if found is not None:
        yield found


_CLOSED = "the run is closed and its quota given back"


def _of_gone(case: Case, run: OpenRun) -> Difference | None:
    if case.pods:
        return None
    return case.differs(
        Kind.RUN_OF_GONE_JOB,
        "the run is open, and neither its Job nor any pod of it exists",
        _unwatched(case, "the Job was deleted"),
        _CLOSED,
        Mend.CLOSE_RUN,
        row=run.id,
    )


def _of_finished(case: Case, seen: Observation, run: OpenRun) -> Difference | None:
    if seen.active or seen.terminating or case.pods:
        return None
    return case.differs(
        Kind.RUN_OF_FINISHED_JOB,
        f"the run is open, and its Job is {seen.finished} with no pod left",
        _unwatched(case, "the Job ended"),
        _CLOSED,
        Mend.CLOSE_RUN,
        row=run.id,
    )


def _of_suspended(case: Case, seen: Observation, run: OpenRun) -> Difference | None:
    if ActionKind.UNSUSPEND in case.awaits(run.id) or seen.active or seen.terminating or case.pods:
        return None
    if run.started or run.stopped or _carries(case, seen, run):
        return case.differs(
            Kind.RUN_OF_SUSPENDED_JOB,
            "the run is open, its Job is suspended and has no pod, and nothing is to be done for it",
            _unwatched(case, "the Job was suspended"),
            f"{_CLOSED}; the workload waits again, or is held if its owner suspended it",
            Mend.CLOSE_RUN,
            row=run.id,
        )
    return case.differs(
        Kind.RUN_NEVER_STARTED,
        "the run is open, its Job was never started, and no action is left that would start it",
        "the action was deleted by hand, or a defect lost it",
        f"{_CLOSED}; the workload waits again",
        Mend.CLOSE_RUN,
        row=run.id,
    )


def _of_running(case: Case, seen: Observation, run: OpenRun) -> Difference | None:
    awaits = case.awaits(run.id)
    if superseded(RunStamp(case.ledger.uid, run.id, run.attempt), seen.stamp):
        return case.differs(
            Kind.RUNNING_WITHOUT_RUN,
            f"it runs for run {seen.stamp.run_id if seen.stamp else 0}, and the ledger still has run {run.id} open",
            "the ledger was restored from a backup that is older than the later run",
            "when a controller begins to lead the run is closed, and the Job is adopted",
            Mend.LEAD_ANEW,
        )
    if not run.started and ActionKind.UNSUSPEND not in awaits and not _carries(case, seen, run):
        return case.differs(
            Kind.RUN_NEVER_STARTED,
            "its Job runs without this run's annotation, and no action is left that would give it",
            "somebody else unsuspended the Job after the action was lost",
            "an action is written that makes the Job the run's own",
            Mend.WRITE_START,
            row=run.id,
        )
    if awaits & _ENDS:
        return None
    if run.stopped:
        what, cause = "the ledger saw its Job suspended, and the Job runs", "somebody resumed the Job while nobody watched"
    elif run.evict_at is not None and run.evict_at + _LATE < case.ledger.now and not _expiring(case, seen, run):
        what = f"it was to end at {run.evict_at.isoformat()} ({run.evict_outcome}), and its Job runs"
        cause = "the action was deleted by hand, or a defect lost it"
    else:
        return None
    return case.differs(
        Kind.RUN_NOT_STOPPED,
        f"{what}; no action is left that would stop it",
        cause,
        "the action that ends it, as was decided, is written anew",
        Mend.WRITE_STOP,
        row=run.id,
    )


def _carries(case: Case, seen: Observation, run: OpenRun) -> bool:
    return seen.stamp == RunStamp(case.ledger.uid, run.id, run.attempt)


def _expiring(case: Case, seen: Observation, run: OpenRun) -> bool:
    """Whether the Job has the deadline that ends it for good: its controller is at it."""
    by_us = seen.stopped == RunStamp(case.ledger.uid, run.id, run.attempt)
    return run.evict_outcome is RunOutcome.EXPIRED and by_us and seen.deadline_seconds == EXPIRED_SECONDS


def _unwatched(case: Case, event: str) -> str:
    if case.ledger.leader.expired:
        return f"{event} while no controller led"
    return f"{event} unseen: somebody wrote to the ledger by hand, or a defect lost the event"


def _without_run(case: Case, seen: Observation) -> Iterator[Difference]:
    known = case.known
    live = known is not None and known.state not in TERMINAL_STATES
    if seen.finished is not None or seen.queue_name is None:
        if known is not None and live and not seen.deleting:
            yield _over(case, seen, known)
    elif seen.deleting or case.newer:
        return
    elif seen.running:
        if ActionKind.SUSPEND not in case.awaits(None):
            yield _runs(case, seen)
    elif known is None:
        yield case.differs(
            Kind.JOB_UNKNOWN,
            f"a Job waits for queue {seen.queue_name}, and the ledger does not know it",
            _unwatched(case, "it was created"),
            "nothing is to be written: a controller takes it in when it begins to lead",
            Mend.LEAD_ANEW,
        )
    elif not live:
        if known.state is not WorkloadState.EXPIRED:  # which also ends a Job that its owner suspended just then
            yield case.differs(
                Kind.WORKLOAD_ENDED,
                f"it is {known.state} in the ledger, and its Job waits for queue {seen.queue_name}",
                "somebody wrote to the ledger by hand, or the Job got its label back while nobody watched",
                "the workload waits again",
                Mend.SET_STATE,
                row=known.id,
            )
    elif known.state not in _WAITS:
        yield case.differs(
            Kind.STATE_DIFFERS,
            f"it is {known.state} and has no open run",
            "somebody wrote to the ledger by hand",
            "it waits again",
            Mend.SET_STATE,
            row=known.id,
        )
    else:
        yield from _template(case, seen)


def _over(case: Case, seen: Observation, known: Known) -> Difference:
    how = f"its Job is {seen.finished}" if seen.finished else "its Job has no queue label any more"
    return case.differs(
        Kind.WORKLOAD_OF_FINISHED_JOB,
        f"it is {known.state} and has no run, and {how}",
        _unwatched(case, "that happened"),
        "the workload is ended, as its Job is",
        Mend.END_WORKLOAD,
        row=known.id,
    )


def _runs(case: Case, seen: Observation) -> Difference:
    known, stamp = case.known, seen.stamp
    other = stamp.ledger if stamp is not None else seen.foreign_stamp
    if other is not None and other != case.ledger.uid:
        return case.differs(
            Kind.ANOTHER_LEDGERS_JOB,
            f"the Job runs and was started by ledger {other}, this one is {case.ledger.uid}",
            "two ledgers were pointed at this cluster, or this ledger is a copy of a lost one",
            "let the Job end, or point AIQUEUE_DATABASE_URL to the ledger that started it",
            None,
        )
    ended = known is not None and known.state in _OVER
    if stamp is None and seen.created_at >= case.cluster.registered_at:
        what, then = "the Job slipped by", "it is suspended, some such Jobs a minute"
        cause = "it was created or unsuspended while the policies were not in force"
    elif (seen.namespace, seen.queue_name) not in case.ledger.configuration.queues:
        return case.differs(
            Kind.RUNNING_WITHOUT_RUN,
            f"the Job runs and holds no quota, and its queue {seen.namespace}/{seen.queue_name} does not exist",
            "the queue was deleted, or was never applied to this ledger",
            "apply the queue: then a controller adopts the Job",
            None,
        )
    else:
        why = "carries this ledger's annotation" if stamp is not None else "ran before the cluster was registered"
        what, then = f"the Job {why}, so it can be adopted", "it is adopted, over quota if need be"
        cause = "its run was closed by hand, or the ledger was restored from a backup"
    if ended and known is not None:
        what, then = f"{what}; its workload is {known.state}", f"its workload waits again, then {then}"
    return case.differs(
        Kind.RUNNING_WITHOUT_RUN,
        f"it runs and holds no quota: {what}",
        cause,
        f"when a controller begins to lead {then}",
        Mend.SET_STATE if ended else Mend.LEAD_ANEW,
        row=known.id if known is not None else 0,
    )


def _template(case: Case, seen: Observation) -> Iterator[Difference]:
    stamp = seen.stamp
    if stamp is None or stamp.ledger != case.ledger.uid or any(each.kind is ActionKind.RESTORE for each in case.actions):
        return
    past = case.ledger.past_runs.get(stamp.run_id)
    kept = past is not None and past.uid == case.uid
    yield case.differs(
        Kind.TEMPLATE_NOT_RESTORED,
        f"the Job waits, its template still holds what run {stamp.run_id} wrote, and nothing is to put it back",
        "the action was deleted by hand, or a defect lost it"
        if kept
        else "the ledger no longer knows what the owner had there",
        "the action that puts it back is written anew"
        if kept
        else "look at nodeSelector and tolerations of the template, or create the Job anew; it runs all the same when admitted",
        Mend.WRITE_RESTORE if kept else None,
        row=stamp.run_id if kept else 0,
    )
