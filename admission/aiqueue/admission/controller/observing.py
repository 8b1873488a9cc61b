"""The observe step: what was seen and reported becomes one transaction, then events for the engine and work for the hands."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import structlog

from aiqueue.admission.controller import engine_events, faults, follow, news, questions, readiness, watchdog
from aiqueue.admission.controller.actor import Actor
from aiqueue.admission.controller.confirm import Confirmer
from aiqueue.admission.controller.facts import ActionEnded, Fact, JobFound, JobGone, PodsGone, Result, Unstarted
from aiqueue.admission.controller.follow import Batch, Context
from aiqueue.admission.controller.hands import is_to_restore
from aiqueue.admission.controller.mirror import Mirror
from aiqueue.admission.controller.notices import Tell
from aiqueue.admission.controller.term import Term
from aiqueue.admission.controller.usages import ToldUsages
from aiqueue.admission.engine.engine import Engine
from aiqueue.admission.engine.events import RunOpened, WorkloadPending
from aiqueue.admission.engine.plan import Eviction
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.store import JobStore
from aiqueue.admission.kube.watches import is_older
from aiqueue.queue.observations import Observation
from aiqueue.queue.store import actions, known, observing, work
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.changes import ClosedRun, NewAction, SeenAgain, StartedRun, StoppedRun
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import ActionKind, RunOutcome, WorkloadState

_log = structlog.get_logger()
_BATCH = 1000  # a transaction must end well within its timeouts, also when a whole cluster is seen for the first time

T = TypeVar("T")


@dataclass(slots=True)
class Observing:
    """The observe step of one term. Everything here is used by the cycle's thread alone."""

    term: Term
    client: KubeClient
    jobs: JobStore
    mirror: Mirror
    engine: Engine
    actor: Actor
    confirmer: Confirmer
    context: Context
    foreign: dict[str, str]
    tell: Tell = lambda _event: None
    usages: ToldUsages = field(init=False)
    #: Starts that were done and are not in the ledger yet: they go into it with what is observed next, in one transaction.
    _started: list[ActionEnded] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.usages = ToldUsages(self.engine)

    def look(self, observations: Iterable[Observation]) -> None:
        """Follow what was observed."""
        for some in _in_batches(observations, lambda seen: (seen.namespace, seen.name)):
            self._look(some)

    def _look(self, observations: Iterable[Observation]) -> None:
        batch = Batch()
        self.context.now = self.term.clock.now()
        observations = list(observations)
        ended = self._add_starts(batch)
        in_hand: set[str] = set()
        for seen in observations:
            occupant = self.mirror.occupant(seen)
            if occupant is not None:
                follow.gone(batch, occupant, self.context)
            row = self.mirror.known.get(seen.uid)
            if row is not None and row.run is not None and row.run.id in ended:
                row = replace(row, run=replace(row.run, started=True))
            if row is not None and self._may_be_starting(seen, row):
                continue
            if row is not None and self._is_in_hand(seen, row):
                in_hand.add(seen.uid)
                continue
            follow.follow(batch, seen, row, self.context)
            if not seen.running:
                self.foreign.pop(seen.uid, None)
        self.foreign.update(batch.foreign)
        self._write(batch)
        self._acknowledged(batch.changes.done_actions)
        for seen in observations:
            if seen.uid not in in_hand:
                self.mirror.followed(seen)
                self._ask_if_idle(seen)

    def _may_be_starting(self, seen: Observation, row: Known) -> bool:
        """Whether the start of a Job may be on its way and only what surrounds it is new, or may be all that is.

        So it is of a version that was followed before. Of any other version it may be while a start is not done that an earlier engine
        asked for: whoever is to start the Job finds out whether it was changed.
        """
        if row.run is None or row.run.started or not seen.suspended or seen.finished is not None:
            return False
        if self.mirror.idle_start(seen.uid) is not None:
            return False
        if self.mirror.resource_version(seen.uid) == seen.resource_version:
            return True
        carries = seen.stamp is not None and seen.stamp.run_id == row.run.id
        if carries or not self.mirror.is_handed_down(row.run.id):
            return False
        return follow.counts_otherwise(seen, row.queue_name, row.shape)

    def _is_in_hand(self, seen: Observation, row: Known) -> bool:
        """Whether a Job was changed before it started, and somebody is at its start: it is looked at again after him, see `questions`."""
        run = row.run
        if run is None or run.started or not questions.is_untouched(seen, self.context, run):
            return False
        if follow.unchanged(seen, row.queue_name, row.shape) or self.mirror.is_idle(row.uid, run.id):
            return False
        if self.actor.take_back(row.id, run.id):
            return False
        self.confirmer.ask(questions.of_start_in_hand(self.client, self.context, self.actor, row))
        return True

    def _ask_if_idle(self, seen: Observation) -> None:
        """Nothing followed for a Job whose run is to be started by nobody: see `questions`."""
        run = self.mirror.idle_start(seen.uid)
        if run is not None and questions.is_untouched(seen, self.context, run):
            row = self.mirror.known[seen.uid]
            self.confirmer.ask(questions.of_idle(self.client, self.context, self.jobs, row, run))

    def _acknowledged(self, done: Sequence[int]) -> None:
        self.actor.acknowledged(done)
        if done:
            faults.reach("acknowledge.after")

    def _add_starts(self, batch: Batch) -> set[int]:
        """Add starts that were done, not too many at once; returns their runs."""
        some, self._started = self._started[:_BATCH], self._started[_BATCH:]
        if some:
            faults.reach("acknowledge.before")
        for fact in some:
            batch.changes.done_actions.append(fact.action.id)
            self._action_ended(batch, fact)
        return {run.run_id for run in batch.changes.started}

    def hear(self, facts: Iterable[Fact]) -> None:
        """Follow what workers reported. Hearing it again changes nothing.

        That Jobs were started, the commonest report, is kept for the next transaction: a `look`, or `flush`.
        """
        rest: list[Fact] = []
        for fact in facts:
            if isinstance(fact, ActionEnded) and fact.action.kind is ActionKind.UNSUSPEND and fact.result is Result.DONE:
                self._started.append(fact)
            else:
                rest.append(fact)
        started = {fact.action.uid for fact in self._started}
        if any(_uid_of(fact) in started for fact in rest):  # what they mean depends on it
            self.flush()
        for some in _in_batches(rest, _uid_of):
            self._hear(some)

    def flush(self) -> None:
        """Write what was heard and is not in the ledger yet."""
        while self._started:
            self._look(())

    def _hear(self, facts: Iterable[Fact]) -> None:
        batch = Batch()
        self.context.now = self.term.clock.now()
        found = [seen for fact in facts for seen in self._heard(batch, fact)]
        if batch.changes.done_actions:
            faults.reach("acknowledge.before")
        self._write(batch)
        self._acknowledged(batch.changes.done_actions)
        # A Job may have moved on while its last run was still open, and no further event needs to come.
        closed = (latest(self.jobs, row.uid, self.context.see) for row in self._rows_of(batch))
        found += [seen for seen in closed if seen is not None]
        if found:
            self.look(found)

    def _heard(self, batch: Batch, fact: Fact) -> list[Observation]:
        """Add what follows from one fact; returns what is to be looked at."""
        row = self.mirror.known.get(_uid_of(fact))
        match fact:
            case ActionEnded():
                batch.changes.done_actions.append(fact.action.id)
                return self._action_ended(batch, fact)
            case JobGone(uid):
                self.foreign.pop(uid, None)
                if row is not None:
                    follow.gone(batch, row, self.context)
            case PodsGone(_, run_id):
                if row is not None:
                    follow.pods_gone(batch, row, run_id)
            case JobFound(seen):
                return self._as_it_is(seen)
            case Unstarted():
                return self._unstarted(batch, fact)
        return []

    def _not_restored(self, batch: Batch, action: Action) -> list[Observation]:
        """Nobody is to forget what a run left in a Job that was not at rest when that was to be taken back: it is looked at again."""
        seen = latest(self.jobs, action.uid, self.context.see)
        row = self.mirror.known.get(action.uid)
        if seen is None or row is None or row.run is not None:
            return []
        if is_to_restore(action, seen):
            batch.touched.add(row.uid)
            batch.changes.actions.append(NewAction(row.uid, action.run_id, action.attempt, ActionKind.RESTORE))
            return []
        return [seen]

    def _as_it_is(self, seen: Observation) -> list[Observation]:
        """A Job as it was found, or as the watch has told since; nothing if another Job has taken its name."""
        present = self.jobs.by_name(seen.namespace, seen.name)
        if present is None:
            return [seen]
        if present.metadata.uid != seen.uid:
            return []
        return [self.context.see(present) if is_older(seen.resource_version, present.metadata.resource_version) else seen]

    def miss(self, rows: Iterable[Known]) -> None:
        """Jobs of these workloads are not where they were: ask before believing it."""
        for row in rows:
            self.confirmer.ask(questions.of_absent(self.client, self.context, row))

    def ended(self, absent: Iterable[Job]) -> None:
        """The watch took these Jobs away. Of those that were over by then, that is what became of them, not that they were deleted."""
        last = (self.context.see(job) for job in absent)
        self.look(seen for seen in last if seen.finished is not None and seen.uid in self.mirror.known)

    def absent(self, uids: Iterable[str]) -> None:
        """The watch took these Jobs away."""
        rows = (self.mirror.known.get(uid) for uid in uids)
        self.miss(
            row
            for row in rows
            if row is not None and (row.run is not None or row.state in (*engine_events.WAITS, WorkloadState.ADMITTED))
        )
        for uid in uids:
            self.foreign.pop(uid, None)
            self.context.unknown.settled(uid)

    def _rows_of(self, batch: Batch) -> list[Known]:
        ids = {closed.workload_id for closed in batch.changes.closed}
        return [row for uid in batch.touched if (row := self.mirror.known.get(uid)) is not None and row.id in ids]

    def _unstarted(self, batch: Batch, fact: Unstarted) -> list[Observation]:
        """Close the run that nobody starts, unless something became of it or of its Job since; returns what is to be looked at again."""
        run = self.mirror.idle_start(fact.uid)
        seen = latest(self.jobs, fact.uid, self.context.see)
        if run is None or run.id != fact.run_id or seen is None:
            return []
        if seen.resource_version != fact.resource_version:
            return [seen]
        follow.changed_before_start(batch, seen, self.mirror.known[fact.uid], run, self.context)
        return []

    def _action_ended(self, batch: Batch, fact: ActionEnded) -> list[Observation]:
        """Add what follows from it; returns what is to be looked at again."""
        action = fact.action
        if action.kind is ActionKind.UNSUSPEND:
            self.mirror.start_ended(action.uid, action.run_id, in_vain=fact.result is not Result.DONE)
        row = self.mirror.known.get(action.uid)
        run = row.run if row is not None and row.run is not None and row.run.id == action.run_id else None
        if fact.result is not Result.DONE:
            _log.info(
                "action ended", kind=action.kind, job=f"{action.namespace}/{action.name}", result=fact.result, why=fact.message
            )
        if action.kind is ActionKind.RESTORE and fact.result is Result.MOOT:
            return self._not_restored(batch, action)
        if row is None or run is None:
            return []
        if action.kind is ActionKind.UNSUSPEND and fact.result is Result.DONE and not run.started:
            batch.touched.add(row.uid)
            batch.changes.started.append(StartedRun(run.id))
        elif action.kind is ActionKind.UNSUSPEND and fact.result is Result.REFUSED:
            self._refused(batch, row, run.id, fact.message)
        # One that was suspended already may have been so by its owner: what is observed of it tells.
        elif action.kind is ActionKind.SUSPEND and fact.result is Result.DONE and not fact.message and not run.stopped:
            batch.touched.add(row.uid)
            outcome = run.evict_outcome or RunOutcome.CANCELLED
            batch.changes.stopped.append(StoppedRun(run.id, row.id, outcome, run.evict_message))
        elif action.kind is ActionKind.UNSUSPEND and fact.result is Result.MOOT and not run.started:
            seen = latest(self.jobs, action.uid, self.context.see)
            return [seen] if seen is not None else []
        return []

    def why(self, eviction: Eviction) -> str:
        """Why a run is told to end; where its gang is not ready, with how many of its pods are."""
        uid = self.mirror.uid_of(eviction.workload_id)
        return readiness.why(eviction, lambda: latest(self.jobs, uid, self.context.see))

    def _refused(self, batch: Batch, row: Known, run_id: int, message: str) -> None:
        """The API server will never take the unsuspend: give the quota back and wait for a person."""
        seen = latest(self.jobs, row.uid, self.context.see)
        if seen is None:
            return
        batch.touched.add(row.uid)
        batch.changes.seen.append(SeenAgain(row.id, seen, WorkloadState.HELD, owner_suspended=True))
        batch.changes.closed.append(
            ClosedRun(
                run_id, row.id, RunOutcome.CANCELLED, f"the API server refused to start it: {message}", WorkloadState.HELD
            )
        )
        follow.put_back(batch, seen, self.context)

    def _write(self, batch: Batch) -> None:
        """Commit the batch, then tell mirror, engine, actor and confirmer. Nothing is told before the ledger has it."""
        watchdog.beat()
        if not batch.changes.empty:
            before = {uid: self.mirror.known.get(uid) for uid in batch.touched}
            readiness.put_back(batch.changes, before.values(), self.context.configuration)
            _reach("before", batch)
            with self.term.transaction() as connection:
                written = observing.write(connection, self.term.number, self.context.cluster.id, batch.changes)
                after = known.load(connection, self.context.cluster.id, sorted(batch.touched))
                waiting = [row.id for row in after.values() if row.state in engine_events.WAITS]
                pending = {w.id: w for w in work.load_pending(connection, ids=waiting)} if waiting else {}
                run_ids = {run_id for run_id, _ in written.adopted.values()}
                opened = [*run_ids, *engine_events.runs_anew(before, after), *written.resized]
                runs = work.load_open_runs(connection, ids=opened) if opened else []
                action_ids = list(written.action_ids.values())
                new_actions = actions.load_open(connection, self.context.cluster.id, action_ids) if action_ids else []
                _reach("in", batch)
            _reach("after", batch)
            self.mirror.update(after.values())
            self.context.sizes.written(batch.changes)
            for event in engine_events.of_rows(batch.changes.closed, before, after, map(WorkloadPending, pending.values())):
                self.engine.observe(event)
            for run in runs:
                if run.id in run_ids:
                    _log.info("running Job adopted", job=f"{run.workload.namespace}/{run.workload.name}", run=run.id)
                self.engine.observe(RunOpened(run))
            self.usages.moved(written.usages)
            self.actor.withdraw({closed.workload_id: closed.run_id for closed in batch.changes.closed})
            self.actor.submit(new_actions)
            for told in news.of_changes(batch.changes, after.values()):
                self.tell(told)
        for check in batch.pod_checks:
            self.confirmer.ask(questions.of_pods(self.client, check))


def _reach(when: str, batch: Batch) -> None:
    faults.reach(f"observe.{when}-write")
    if batch.changes.closed:
        faults.reach(f"close.{when}")


def latest(jobs: JobStore, uid: str, see: Callable[[Job], Observation]) -> Observation | None:
    """The newest observation of a Job that is at hand, if any."""
    job = jobs.get(uid)
    return see(job) if job is not None else None


def _in_batches(items: Iterable[T], key: Callable[[T], Hashable]) -> Iterator[list[T]]:
    """Items in their order, so many at once, and of one key one at a time: what the second means depends on the first."""
    batch: dict[Hashable, T] = {}
    for item in items:
        if len(batch) == _BATCH or key(item) in batch:
            yield list(batch.values())
            batch = {}
        batch[key(item)] = item
    if batch:
        yield list(batch.values())


def _uid_of(fact: Fact) -> str:
    match fact:
        case ActionEnded(action):
            return action.uid
        case JobFound(seen):
            return seen.uid
        case JobGone(uid) | PodsGone(uid) | Unstarted(uid):
            return uid
