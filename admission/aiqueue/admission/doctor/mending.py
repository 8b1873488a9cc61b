"""Mends what is safe to mend, in a term of its own. Each mend looks again, and does nothing where it is no longer so.

What a controller would do when it saw the same is done by the controller's own rules (`follow`) and writes (`store.observing`): only what
those cannot see any more is decided here. Nothing is sent to the cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from aiqueue.admission.controller import follow
from aiqueue.admission.controller.follow import Batch, Context
from aiqueue.admission.controller.term import Term
from aiqueue.admission.controller.unknown import UnknownJobs
from aiqueue.admission.doctor.differences import Difference, Mend
from aiqueue.admission.doctor.snapshots import Look
from aiqueue.admission.engine.adoption import assign_for_adoption
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.jobs import observe
from aiqueue.queue.errors import AiqueueError, TermLost
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.store import doctor, known, observing, run_ids, usage
from aiqueue.queue.store.changes import Changes, ClosedRun, NewAction, SeenAgain, StoppedRun, Vanished
from aiqueue.queue.store.clusters import Cluster
from aiqueue.queue.store.known import Known, OpenRun
from aiqueue.queue.words import ActionKind, AuditVerb, RunOutcome, WorkloadState

_FOUND = "found by aiqueue doctor: nothing was left to be done for it"


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of a difference: whether something was done about it, and what, or why not."""

    difference: Difference
    done: bool
    what: str


class _Unsafe(AiqueueError):
    """It is no longer as it was told: says how."""


class Mender:
    """Mends the differences of one look, in a term.

    Args:
        term: that this process holds, from before the look.
        look: what was seen within that term.
        client: of the cluster, None where only the ledger was looked at.
        claimed_by: who asks for it, as far as that is known; for the audit.
    """

    def __init__(self, term: Term, look: Look, client: KubeClient | None, *, claimed_by: str) -> None:
        self._claimed_by = claimed_by
        self._term = term
        self._ledger = look.ledger
        self._client = client
        self._mends: dict[Mend, Callable[[Connection, Difference], str]] = {
            Mend.MOVE_RUN_IDS: self._move_run_ids,
            Mend.SET_STATE: self._set_state,
            Mend.CLOSE_RUN: self._close_run,
            Mend.END_WORKLOAD: self._end_workload,
            Mend.WRITE_START: self._write_action,
            Mend.WRITE_STOP: self._write_action,
            Mend.WRITE_RESTORE: self._write_action,
            Mend.DELETE_ACTION: self._delete_action,
            Mend.DELETE_CLAIM: self._delete_claim,
            Mend.COUNT_USAGE: self._count_usage,
        }

    def mend(self, differences: Iterable[Difference]) -> list[Mended]:
        """Mend each of these that is safe, the ledger's ids first. What fails is said, and the rest is gone on with.

        Raises:
            TermLost: somebody else leads: what was mended before stays.
        """
        order = list(Mend)
        safe = [each for each in differences if each.mend is not None]
        return [self._mend(each) for each in sorted(safe, key=lambda each: -order.index(each.mend or Mend.LEAD_ANEW))]

    def _mend(self, difference: Difference) -> Mended:
        mend = self._mends.get(difference.mend or Mend.LEAD_ANEW)
        if mend is None:
            return Mended(difference, False, "left to the controller that leads next")
        try:
            with self._term.transaction() as connection:
                what = mend(connection, difference)
        except TermLost:
            raise
        except AiqueueError as error:
            return Mended(difference, False, f"not mended: {error}")
        return Mended(difference, True, what)

    # What each mend does. They run in a transaction of the term, and their first write fences it.

    def _move_run_ids(self, connection: Connection, difference: Difference) -> str:
        drawn = run_ids.move_past(connection, self._term.number, difference.row)
        before = {"newest": self._ledger.newest_run_id}
        after = {"newest": difference.row, "skipped": drawn}
        self._note(connection, ("RunIds", self._ledger.uid), after, before)
        return f"ids of runs go on after {difference.row}"

    def _count_usage(self, connection: Connection, difference: Difference) -> str:
        counted = usage.repair(connection, self._term.number)
        if counted:
            self._note(connection, ("Usage", difference.object), {"counted": counted})
        return "the usage was counted again from the runs"

    def _delete_action(self, connection: Connection, difference: Difference) -> str:
        doctor.delete_actions(connection, self._term.number, [difference.row], claimed_by=self._claimed_by)
        return "the action was deleted"

    def _delete_claim(self, connection: Connection, difference: Difference) -> str:
        doctor.delete_claims(connection, self._term.number, [difference.row], claimed_by=self._claimed_by)
        return "the claim was deleted"

    def _set_state(self, connection: Connection, difference: Difference) -> str:
        row = self._row(connection, difference.uid)
        if row.run is not None:
            state = WorkloadState.ADMITTED if row.run.evict_at is None else WorkloadState.EVICTING
            state = WorkloadState.RELEASING if row.run.stopped else state
        else:
            state = WorkloadState.HELD if row.owner_suspended or row.hold_requested else WorkloadState.PENDING
        doctor.set_states(connection, self._term.number, {row.id: state}, claimed_by=self._claimed_by)
        return f"it is {state} now"

    def _write_action(self, connection: Connection, difference: Difference) -> str:
        row = self._row(connection, difference.uid)
        if difference.mend is Mend.WRITE_RESTORE:
            past = self._ledger.past_runs.get(difference.row)
            if past is None or row.run is not None:
                raise _Unsafe("the workload has a run again")
            action = NewAction(row.uid, past.id, past.attempt, ActionKind.RESTORE)
        else:
            run = self._run(row, difference)
            kind = ActionKind.UNSUSPEND
            if difference.mend is Mend.WRITE_STOP:
                expires = run.evict_outcome is RunOutcome.EXPIRED and not run.stopped
                kind = ActionKind.EXPIRE if expires else ActionKind.SUSPEND
            action = NewAction(row.uid, run.id, run.attempt, kind)
        self._write(connection, Changes(actions=[action]))
        after = {"kind": str(action.kind), "run": action.run_id}
        self._note(connection, ("Action", f"{row.namespace}/{row.name}"), after, verb=AuditVerb.CREATED)
        return f"the action {action.kind} was written"

    def _end_workload(self, connection: Connection, difference: Difference) -> str:
        row = self._row(connection, difference.uid)
        seen = self._seen(row)
        if row.run is not None or (seen is not None and seen.finished is None and seen.queue_name is not None):
            raise _Unsafe("its Job is there again, or it has a run")
        if seen is not None and seen.finished is not None:
            state = seen.finished
            self._write(connection, Changes(seen=[SeenAgain(row.id, seen, state, row.owner_suspended)]))
        else:
            state = WorkloadState.CANCELLED
            self._write(connection, Changes(vanished=[Vanished(row.id, state)]))
        before, after = {"state": str(row.state)}, {"state": str(state)}
        self._note(connection, ("Workload", f"{row.namespace}/{row.name}"), after, before)
        return f"it is {state} now"

    def _close_run(self, connection: Connection, difference: Difference) -> str:
        row = self._row(connection, difference.uid)
        run = self._run(row, difference)
        seen = self._seen(row)
        if seen is not None and (seen.running or seen.active or seen.terminating):
            raise _Unsafe("its Job runs again, or has pods")
        if any(pod.alive for pod in self._cluster_client().pods_of(row.uid, row.namespace)):
            raise _Unsafe("pods of it live on")
        batch = self._batch(seen, row, run)
        self._write(connection, batch.changes)
        if batch.pod_checks:
            last = Batch()
            follow.pods_gone(last, self._row(connection, row.uid), run.id)
            if seen is None:  # nothing is left to put a template back in
                last.changes.actions.clear()
            self._write(connection, last.changes)
        after = known.load(connection, self._cluster().id, [row.uid])[row.uid]
        if after.run is not None:
            raise _Unsafe("the controller's rules keep it open")
        changed = {"run": run.id, "state": str(after.state)}
        before = {"run": run.id, "state": str(row.state)}
        self._note(connection, ("Run", f"{row.namespace}/{row.name}"), changed, before)
        return f"run {run.id} was closed, and its workload is {after.state} now"

    def _batch(self, seen: Observation | None, row: Known, run: OpenRun) -> Batch:
        """What follows for a run that is proven over; where the controller's rules see nothing in it, that it was given up."""
        batch = Batch()
        if seen is None:
            follow.gone(batch, row, self._context())
            return batch
        stamp = RunStamp(self._ledger.uid, run.id, run.attempt)
        if seen.finished is not None or seen.stamp == stamp or run.adopted:
            follow.follow(batch, seen, row, self._context())
        elif not run.started and not run.stopped:
            held = row.owner_suspended or row.hold_requested
            state = WorkloadState.HELD if held else WorkloadState.PENDING
            batch.changes.closed.append(ClosedRun(run.id, row.id, RunOutcome.CANCELLED, follow.NEVER_STARTED, state))
        else:
            if not run.stopped:
                outcome = run.evict_outcome or RunOutcome.CANCELLED
                batch.changes.stopped.append(StoppedRun(run.id, row.id, outcome, run.evict_message or _FOUND))
            batch.pod_checks.append(follow.PodCheck(row.uid, row.namespace, run.id))
        return batch

    def _note(
        self,
        connection: Connection,
        about: tuple[str, str],
        after: Mapping[str, object],
        before: Mapping[str, object] | None = None,
        verb: AuditVerb = AuditVerb.UPDATED,
    ) -> None:
        kind, name = about
        doctor.note(connection, verb, kind, name, before=before, after=after, claimed_by=self._claimed_by)

    # What they look at again.

    def _context(self) -> Context:
        ledger = self._ledger
        return Context(ledger.uid, self._cluster(), ledger.configuration, UnknownJobs(0), assign_for_adoption, ledger.now)

    def _cluster(self) -> Cluster:
        if self._ledger.cluster is None:
            raise _Unsafe("the ledger does not know the cluster")
        return self._ledger.cluster

    def _cluster_client(self) -> KubeClient:
        if self._client is None:
            raise _Unsafe("the cluster is not looked at")
        return self._client

    def _row(self, connection: Connection, uid: str) -> Known:
        row = known.load(connection, self._cluster().id, [uid]).get(uid)
        if row is None:
            raise _Unsafe("the ledger does not know the workload any more")
        return row

    @staticmethod
    def _run(row: Known, difference: Difference) -> OpenRun:
        if row.run is None or row.run.id != difference.row:
            raise _Unsafe("the run is not open any more")
        return row.run

    def _seen(self, row: Known) -> Observation | None:
        """The Job as it is, None if there is none of this uid."""
        job = self._cluster_client().get_job(row.namespace, row.name)
        return observe(job, cluster=self._cluster().name) if job is not None and job.metadata.uid == row.uid else None

    def _write(self, connection: Connection, changes: Changes) -> None:
        observing.write(connection, self._term.number, self._cluster().id, changes)


def to_be_mended(told: Sequence[Difference], now: Iterable[Difference]) -> list[Difference]:
    """What was told, is still so, and is safe to mend."""
    keys = {each.key for each in told if each.safe}
    return [each for each in now if each.safe and each.key in keys]
