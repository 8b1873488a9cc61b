"""Looks of the doctor, put together from Jobs in conditions that can be; and what damages them, with what it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from aiqueue.admission.doctor.comparing import compare
from aiqueue.admission.doctor.differences import Difference
from aiqueue.admission.doctor.kinds import Kind
from aiqueue.admission.doctor.snapshots import ClusterSnapshot, LedgerSnapshot, LivePod, Look, Surroundings
from aiqueue.admission.kube.patches import EXPIRED_SECONDS
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.store.clusters import Cluster
from aiqueue.queue.store.doctor import ClaimFact, OpenAction, PastRun
from aiqueue.queue.store.known import Known, OpenRun
from aiqueue.queue.store.leadership import Leader
from aiqueue.queue.words import ActionKind, RunOutcome, WorkloadState
from fix_follow import AFTER, BEFORE, OTHER_LEDGER, OUR_LEDGER, REGISTERED, make_context, make_known, make_seen

NOW = AFTER + timedelta(days=1)
SOON = timedelta(seconds=30)
HOUR = timedelta(hours=1)
NEWEST_RUN = 1_000_000
KUBE_SYSTEM_UID = "kube-system-uid"
POLICIES = ("ValidatingAdmissionPolicy/aiqueue-managed-jobs", "MutatingAdmissionPolicy/aiqueue-take-in")
USER = "system:serviceaccount:aiqueue-system:aiqueue-controller"
SURROUNDINGS = Surroundings(
    policies=frozenset(POLICIES),
    served=frozenset({"ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"}),
    policy_user=USER,
    controller_user=USER,
    namespaces=frozenset({"team-a"}),
    claimed_by=OUR_LEDGER,
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One Job and all that ledger and cluster say of it."""

    number: int
    seen: Observation | None = None
    known: Known | None = None
    pods: tuple[LivePod, ...] = ()
    actions: tuple[OpenAction, ...] = ()
    past: tuple[PastRun, ...] = ()
    claim: ClaimFact | None = None
    at_large: bool = False

    def job(self, **changes: Any) -> Piece:
        """The same with a Job that differs."""
        assert self.seen is not None
        return replace(self, seen=replace(self.seen, **changes))

    def row(self, **changes: Any) -> Piece:
        """The same with a row that differs."""
        assert self.known is not None
        return replace(self, known=replace(self.known, **changes))

    def run(self, **changes: Any) -> Piece:
        """The same with a run that differs."""
        assert self.known is not None
        assert self.known.run is not None
        return self.row(run=replace(self.known.run, **changes))

    def without(self, kind: ActionKind) -> Piece:
        """The same without its actions of a kind."""
        return replace(self, actions=tuple(action for action in self.actions if action.kind is not kind))

    def does(self, kind: ActionKind, *, due_at: datetime = NOW, run_open: bool = True, run_id: int | None = 0) -> Piece:
        """The same with one more action, of its own run unless `run_id` is another, or None."""
        run = self.number if run_id == 0 else run_id
        number = self.number * 10 + len(self.actions)
        action = OpenAction(
            number, self.number, f"uid-{self.number}", "team-a", f"job-{self.number}", kind, run, run_open, due_at
        )
        return replace(self, actions=(*self.actions, action))


def stamp(number: int) -> RunStamp:
    """Of the run of a piece."""
    return RunStamp(OUR_LEDGER, number, 1)


def _pods(number: int, since: datetime | None = None) -> tuple[LivePod, ...]:
    return tuple(LivePod("team-a", f"job-{number}-{place}", since, "gpu-1") for place in range(2))


def waiting(number: int, **seen: Any) -> Piece:
    """It waits, and its Job is suspended."""
    uid, name = f"uid-{number}", f"job-{number}"
    return Piece(number, make_seen(uid=uid, name=name, **seen), make_known(id=number, uid=uid, name=name))


def held(number: int) -> Piece:
    """Its owner holds it."""
    return waiting(number, held_by_owner=True).row(state=WorkloadState.HELD, hold_requested=True)


def starting(number: int) -> Piece:
    """It was admitted, and its Job is still to be started."""
    run = OpenRun(number, 1, started=False)
    return waiting(number).row(run=run, state=WorkloadState.ADMITTED, attempt=1).does(ActionKind.UNSUSPEND)


def running(number: int) -> Piece:
    """It runs, on two pods."""
    begun = starting(number).without(ActionKind.UNSUSPEND).run(started=True)
    return replace(begun.job(suspended=False, active=2, ready=2, stamp=stamp(number)), pods=_pods(number))


def adopted(number: int) -> Piece:
    """It ran before anybody admitted it."""
    return running(number).job(stamp=None, created_at=BEFORE).run(adopted=True)


def evicting(number: int) -> Piece:
    """It was told to end, and has still some time."""
    told = running(number).run(evict_at=NOW + HOUR, evict_outcome=RunOutcome.PREEMPTED, evict_message="makes room")
    return told.row(state=WorkloadState.EVICTING).does(ActionKind.SUSPEND, due_at=NOW + HOUR)


def expiring(number: int) -> Piece:
    """Its time is up, and its Job has the deadline that ends it."""
    told = running(number).run(evict_at=NOW - HOUR, evict_outcome=RunOutcome.EXPIRED, evict_message="its time is up")
    return told.row(state=WorkloadState.EVICTING).job(stopped=stamp(number), deadline_seconds=EXPIRED_SECONDS)


def releasing(number: int) -> Piece:
    """It was suspended, and its pods are going."""
    stopped = running(number).run(stopped=True, evict_outcome=RunOutcome.PREEMPTED).row(state=WorkloadState.RELEASING)
    return replace(stopped.job(suspended=True, active=0, ready=0, terminating=2), pods=_pods(number, NOW + SOON))


def restoring(number: int) -> Piece:
    """It waits again, and its template is still to be put back."""
    piece = waiting(number, stamp=stamp(number)).row(attempt=1).does(ActionKind.RESTORE, run_open=False)
    return replace(piece, past=(PastRun(number, f"uid-{number}", 1),))


def finishing(number: int) -> Piece:
    """Its Job is over but for a pod that is going."""
    over = running(number).job(finished=WorkloadState.FAILED, active=0, terminating=1)
    return replace(over, pods=_pods(number, NOW + SOON)[:1])


def counted_late(number: int) -> Piece:
    """Its Job is over by its status, and a pod is still going."""
    return finishing(number).job(terminating=0)


def released_late(number: int) -> Piece:
    """It was suspended, its Job counts no pod any more, and they are still going."""
    return releasing(number).job(terminating=0)


def ended(number: int) -> Piece:
    """It is over."""
    return waiting(number, finished=WorkloadState.FINISHED).row(state=WorkloadState.FINISHED)


def cleaned_up(number: int) -> Piece:
    """It is over, and its Job was deleted."""
    return replace(ended(number), seen=None)


def deleted(number: int) -> Piece:
    """Its Job was deleted while it ran, and its pods are going."""
    gone = running(number).run(stopped=True, evict_outcome=RunOutcome.CANCELLED).row(state=WorkloadState.CANCELLED)
    return replace(gone, seen=None, pods=_pods(number, NOW + SOON))


def slipped(number: int) -> Piece:
    """It runs though nobody admitted it, and is to be stopped."""
    return waiting(number, suspended=False, active=1).does(ActionKind.SUSPEND, run_id=None, run_open=False)


def expired(number: int) -> Piece:
    """Its time was up just when its owner suspended it."""
    return waiting(number).row(state=WorkloadState.EXPIRED)


def claiming(number: int) -> Piece:
    """It waits for the room that others are leaving."""
    claim = ClaimFact(number, "team-a", f"job-{number}", WorkloadState.PENDING, NOW, (5, 6), (6,))
    return replace(waiting(number), claim=claim)


def unlabelled(number: int) -> Piece:
    """It runs, and somebody took its label away."""
    return replace(running(number).job(queue_name=None), at_large=True)


def not_ours(number: int) -> Piece:
    """Pods of a Job that nobody labelled."""
    return Piece(number, pods=_pods(number))


def taken_by_another(number: int) -> Piece:
    """A finished Job of another ledger."""
    return Piece(number, waiting(number, finished=WorkloadState.FINISHED, stamp=RunStamp(OTHER_LEDGER, 7, 1)).seen)


def ended_and_forgotten(number: int) -> Piece:
    """A finished Job whose run the ledger has forgotten, as one that was restored has: nothing is left to be mixed up with it."""
    later = RunStamp(OUR_LEDGER, NEWEST_RUN + number, 1)
    return Piece(number, waiting(number, finished=WorkloadState.FINISHED, stamp=later).seen)


#: Every condition that is as it should be.
CONSISTENT: tuple[Callable[[int], Piece], ...] = (
    waiting,
    held,
    starting,
    running,
    adopted,
    evicting,
    expiring,
    releasing,
    restoring,
    finishing,
    counted_late,
    released_late,
    ended,
    cleaned_up,
    deleted,
    slipped,
    expired,
    claiming,
    unlabelled,
    not_ours,
    taken_by_another,
    ended_and_forgotten,
)


@dataclass(frozen=True, slots=True)
class Damage:
    """What happens to a Job in some condition, what that is, and whether it is safe to mend."""

    name: str
    of: Callable[[int], Piece]
    change: Callable[[Piece], Piece]
    kind: Kind
    safe: bool = True


def _no_row(piece: Piece) -> Piece:
    return replace(piece, known=None)


def _no_job(piece: Piece) -> Piece:
    return replace(piece, seen=None, pods=())


def _no_run(piece: Piece) -> Piece:
    return piece.row(run=None, state=WorkloadState.PENDING)


def _at_rest(piece: Piece) -> Piece:
    return replace(piece.job(suspended=True, active=0, terminating=0, ready=0), pods=())


def _stuck(piece: Piece) -> Piece:
    return replace(piece, pods=_pods(piece.number, NOW - HOUR))


DAMAGES: tuple[Damage, ...] = (
    Damage("run closed by hand", running, _no_run, Kind.RUNNING_WITHOUT_RUN),
    Damage("row of a running Job lost", running, _no_row, Kind.RUNNING_WITHOUT_RUN),
    Damage("old Job not adopted", adopted, _no_run, Kind.RUNNING_WITHOUT_RUN),
    Damage("slipped by, action lost", slipped, lambda piece: piece.without(ActionKind.SUSPEND), Kind.RUNNING_WITHOUT_RUN),
    Damage(
        "queue deleted under a running Job",
        running,
        lambda piece: _no_run(piece.job(queue_name="gone")),
        Kind.RUNNING_WITHOUT_RUN,
        safe=False,
    ),
    Damage(
        "ended in the ledger, runs on",
        running,
        lambda piece: piece.row(run=None, state=WorkloadState.FAILED),
        Kind.RUNNING_WITHOUT_RUN,
    ),
    Damage(
        "its time was up, runs on",
        running,
        lambda piece: piece.row(run=None, state=WorkloadState.EXPIRED),
        Kind.RUNNING_WITHOUT_RUN,
    ),
    Damage("restored to an earlier run", running, lambda piece: piece.run(id=1), Kind.RUNNING_WITHOUT_RUN),
    Damage(
        "started by another ledger",
        running,
        lambda piece: _no_row(piece.job(stamp=RunStamp(OTHER_LEDGER, 7, 1))),
        Kind.ANOTHER_LEDGERS_JOB,
        safe=False,
    ),
    Damage(
        "stamp of a later run",
        running,
        lambda piece: _no_row(piece.job(stamp=RunStamp(OUR_LEDGER, NEWEST_RUN + piece.number, 1))),
        Kind.LEDGER_OLDER,
    ),
    Damage(
        "stamp of a later run than the open one",
        running,
        lambda piece: piece.job(stamp=RunStamp(OUR_LEDGER, NEWEST_RUN + piece.number, 9)),
        Kind.LEDGER_OLDER,
    ),
    Damage("row of a waiting Job lost", waiting, _no_row, Kind.JOB_UNKNOWN),
    Damage(
        "end of the Job missed",
        running,
        lambda piece: replace(piece.job(finished=WorkloadState.FINISHED, active=0), pods=()),
        Kind.RUN_OF_FINISHED_JOB,
    ),
    Damage("deletion of the Job missed", running, _no_job, Kind.RUN_OF_GONE_JOB),
    Damage("end of the pods missed", deleted, _no_job, Kind.RUN_OF_GONE_JOB),
    Damage("suspension missed", running, _at_rest, Kind.RUN_OF_SUSPENDED_JOB),
    Damage("stamp taken away, suspended", running, lambda p: _at_rest(p.job(stamp=None)), Kind.RUN_OF_SUSPENDED_JOB),
    Damage("pods went unseen", releasing, _at_rest, Kind.RUN_OF_SUSPENDED_JOB),
    Damage("start lost", starting, lambda piece: piece.without(ActionKind.UNSUSPEND), Kind.RUN_NEVER_STARTED),
    Damage(
        "start lost, started by another",
        starting,
        lambda piece: piece.without(ActionKind.UNSUSPEND).job(suspended=False, active=1),
        Kind.RUN_NEVER_STARTED,
    ),
    Damage("resumed after its end", running, lambda piece: piece.run(stopped=True), Kind.RUN_NOT_STOPPED),
    Damage(
        "end lost",
        evicting,
        lambda piece: piece.without(ActionKind.SUSPEND).run(evict_at=NOW - HOUR),
        Kind.RUN_NOT_STOPPED,
    ),
    Damage("deadline taken away", expiring, lambda piece: piece.job(deadline_seconds=None), Kind.RUN_NOT_STOPPED),
    Damage("pods do not go", deleted, _stuck, Kind.ORPHANED_PODS, safe=False),
    Damage("pods of an ended Job do not go", ended, _stuck, Kind.ORPHANED_PODS, safe=False),
    Damage("pods of a suspended Job do not go", releasing, _stuck, Kind.ORPHANED_PODS, safe=False),
    Damage("Job deleted without its pods", running, lambda p: replace(p, seen=None), Kind.ORPHANED_PODS, safe=False),
    Damage("restoration lost", restoring, lambda p: p.without(ActionKind.RESTORE), Kind.TEMPLATE_NOT_RESTORED),
    Damage(
        "restoration and run lost",
        restoring,
        lambda piece: replace(piece.without(ActionKind.RESTORE), past=()),
        Kind.TEMPLATE_NOT_RESTORED,
        safe=False,
    ),
    Damage("deletion of a waiting Job missed", waiting, _no_job, Kind.WORKLOAD_WITHOUT_JOB),
    Damage("deletion of a held Job missed", held, _no_job, Kind.WORKLOAD_WITHOUT_JOB),
    Damage(
        "end of a waiting Job missed",
        waiting,
        lambda piece: piece.job(finished=WorkloadState.FAILED),
        Kind.WORKLOAD_OF_FINISHED_JOB,
    ),
    Damage(
        "label taken away",
        waiting,
        lambda piece: replace(piece.job(queue_name=None), at_large=True),
        Kind.WORKLOAD_OF_FINISHED_JOB,
    ),
    Damage("ended by hand", waiting, lambda piece: piece.row(state=WorkloadState.FINISHED), Kind.WORKLOAD_ENDED),
    Damage("admitted by hand", waiting, lambda piece: piece.row(state=WorkloadState.ADMITTED), Kind.STATE_DIFFERS),
    Damage("put back by hand", running, lambda piece: piece.row(state=WorkloadState.PENDING), Kind.STATE_DIFFERS),
    Damage("ended by hand, run open", running, lambda piece: piece.row(state=WorkloadState.FAILED), Kind.STATE_DIFFERS),
    Damage(
        "start of a closed run left",
        waiting,
        lambda piece: piece.does(ActionKind.UNSUSPEND, run_open=False, run_id=4),
        Kind.ACTION_WITHOUT_END,
    ),
    Damage("start without a run", waiting, lambda p: p.does(ActionKind.UNSUSPEND, run_id=None), Kind.ACTION_WITHOUT_END),
    Damage(
        "restoration of what is gone",
        cleaned_up,
        lambda piece: piece.does(ActionKind.RESTORE, run_open=False, run_id=4),
        Kind.ACTION_WITHOUT_END,
    ),
    Damage(
        "restoration of what is pristine",
        waiting,
        lambda piece: piece.does(ActionKind.RESTORE, run_open=False, run_id=4),
        Kind.ACTION_WITHOUT_END,
    ),
    Damage(
        "stop of what is over",
        ended,
        lambda piece: piece.does(ActionKind.SUSPEND, run_open=False, run_id=None),
        Kind.ACTION_WITHOUT_END,
    ),
    Damage(
        "start refused for an hour",
        starting,
        lambda piece: piece.without(ActionKind.UNSUSPEND).does(ActionKind.UNSUSPEND, due_at=NOW - HOUR),
        Kind.ACTION_OVERDUE,
    ),
    Damage(
        "claimant held",
        claiming,
        lambda piece: replace(
            piece.row(state=WorkloadState.HELD), claim=piece.claim and replace(piece.claim, state=WorkloadState.HELD)
        ),
        Kind.CLAIM_WITHOUT_CLAIMANT,
    ),
    Damage(
        "claim outlives its runs",
        claiming,
        lambda piece: replace(piece, claim=piece.claim and replace(piece.claim, open_run_ids=())),
        Kind.CLAIM_WITHOUT_RUNS,
    ),
)


def look_at(*pieces: Piece, surroundings: Surroundings = SURROUNDINGS, **ledger: Any) -> Look:
    """A look at a ledger and a cluster that hold these."""
    snapshot = ClusterSnapshot(
        KUBE_SYSTEM_UID,
        {f"uid-{piece.number}": piece.seen for piece in pieces if piece.seen is not None and not piece.at_large},
        {f"uid-{piece.number}": piece.pods for piece in pieces if piece.pods},
        {f"uid-{piece.number}": piece.seen for piece in pieces if piece.seen is not None and piece.at_large},
        surroundings,
    )
    values: Mapping[str, Any] = {
        "uid": OUR_LEDGER,
        "now": NOW,
        "leader": make_leader(),
        "configuration": make_context().configuration,
        "cluster": Cluster(1, "default", KUBE_SYSTEM_UID, REGISTERED),
        "known": {piece.known.uid: piece.known for piece in pieces if piece.known is not None},
        "actions": [action for piece in pieces for action in piece.actions],
        "claims": [piece.claim for piece in pieces if piece.claim is not None],
        "past_runs": {past.id: past for piece in pieces for past in piece.past},
        "newest_run_id": NEWEST_RUN,
        **ledger,
    }
    return Look(LedgerSnapshot(**values), snapshot)


def make_leader(**changes: Any) -> Leader:
    """Somebody leads."""
    values: dict[str, Any] = {
        "term": 3,
        "holder": "one",
        "expires_at": NOW + SOON,
        "now": NOW,
        "renewed_at": NOW,
        **changes,
    }
    return Leader(**values)


def found(look: Look) -> list[Difference]:
    """What differs, with the policies of `SURROUNDINGS` to be there."""
    return compare(look, "default", POLICIES)
