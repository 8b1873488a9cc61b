"""Whatever a cluster does and however late it is seen, following it keeps the promises.

The machine below is a cluster of a few Jobs, the table of workloads in memory, an actor that carries out actions at any time,
and an administrator who admits and evicts. Observations are of any moment since the last one delivered.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiqueue.admission.controller import follow
from aiqueue.admission.controller.follow import Batch
from aiqueue.admission.kube.patches import EXPIRED_SECONDS
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.store.changes import AdoptedRun, Changes, ClosedRun, NewAction, StoppedRun
from aiqueue.queue.store.known import Known, OpenRun
from aiqueue.queue.words import TERMINAL_STATES, ActionKind, RunOutcome, WorkloadState
from fix_follow import AFTER, BEFORE, FOREIGN, OUR_LEDGER, make_context, make_known, make_seen

PER_MINUTE = 2
ADMITTED = (WorkloadState.ADMITTED, WorkloadState.EVICTING, WorkloadState.RELEASING)


@dataclass
class World:
    """One Job and what is true of it."""

    seen: Observation
    moments: list[Observation] = field(default_factory=list)
    gone: bool = False
    by_us: bool = False  # whether it runs because a run of ours started it, or was adopted
    his: bool = False  # whether its owner suspended it while it ran, and nobody has started it since
    expired: bool = False  # whether we gave it a deadline that is past while it ran

    def become(self, **changes: object) -> None:
        """Change the Job: its resourceVersion moves."""
        version = str(int(self.seen.resource_version) + 1)
        self.seen = replace(self.seen, resource_version=version, **changes)  # type: ignore[arg-type]  # names of fields
        self.moments.append(self.seen)

    @property
    def pods(self) -> int:
        return self.seen.active + self.seen.terminating


class Following(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.context = make_context(per_minute=PER_MINUTE)
        self.worlds: list[World] = []
        self.known: dict[str, Known] = {}
        self.actions: list[NewAction] = []
        self.checks: set[tuple[str, int]] = set()
        self.next_id = 1
        self.closed: set[int] = set()
        self.stops: list[datetime] = []
        self.stopping: set[str] = set()

    def _id(self) -> int:
        self.next_id += 1
        return self.next_id

    def _apply(self, batch: Batch) -> None:
        """What `store.observing.write` makes of a batch."""
        changes: Changes = batch.changes
        for gone in changes.vanished:
            self._row(gone.workload_id, state=gone.state)
        for new in changes.new:
            seen = new.observation
            assert seen.uid not in self.known, "known twice"
            asks: dict[str, Any] = {"queue_name": seen.queue_name or "", "shape": seen.shape}
            self.known[seen.uid] = make_known(id=self._id(), uid=seen.uid, name=seen.name, state=new.state, **asks)
            self._observed(seen)
        for again in changes.seen:
            self._row(again.workload_id, state=again.state, owner_suspended=again.owner_suspended)
            self._observed(again.observation)
        for started in changes.started:
            self._run(started.run_id, started=True)
        for stopped in changes.stopped:
            self._stop(stopped)
        for closed in changes.closed:
            self._close(closed)
        for adopted in changes.adopted:
            self._adopt(adopted)
        for action in changes.actions:
            self._wanted(action)
        self.checks |= {(check.uid, check.run_id) for check in batch.pod_checks}

    def _stop(self, stopped: StoppedRun) -> None:
        run = self._run(stopped.run_id, stopped=True)
        if run is not None and run.evict_outcome is None:
            self._run(stopped.run_id, evict_outcome=stopped.outcome, evict_message=stopped.message)
        row = next(row for row in self.known.values() if row.id == stopped.workload_id)
        if row.state in ADMITTED:
            self._row(row.id, state=WorkloadState.RELEASING, owner_suspended=row.owner_suspended or stopped.owner_suspended)

    def _close(self, closed: ClosedRun) -> None:
        assert closed.run_id not in self.closed, "closed twice"
        self.closed.add(closed.run_id)
        row = next(row for row in self.known.values() if row.id == closed.workload_id)
        assert row.run is not None, "closed without being open"
        assert row.run.id == closed.run_id, "another run was closed"
        self.actions = [each for each in self.actions if each.run_id != closed.run_id]
        self._row(row.id, run=None, **({} if row.state in TERMINAL_STATES else {"state": closed.state}))
        world = self._world(row.uid)
        assert not world.by_us or world.pods == 0, "quota came back while pods were there"
        if closed.state not in TERMINAL_STATES and world.his and world.by_us:
            assert closed.state is WorkloadState.HELD, "its owner suspended it and it was queued again"
        assert closed.outcome is not RunOutcome.EXPIRED or world.expired or world.gone, "not over its time"
        assert closed.outcome is not RunOutcome.EXPIRED or closed.state is not WorkloadState.PENDING, (
            "queued again after its time"
        )
        if world.expired and not world.gone and row.state is not WorkloadState.CANCELLED:
            assert closed.outcome in (RunOutcome.EXPIRED, RunOutcome.FINISHED), "its end was not told from others"
        world.by_us = False

    def _adopt(self, adopted: AdoptedRun) -> None:
        row = self.known[adopted.uid]
        assert row.run is None, "adopted with a run"
        run = OpenRun(self._id(), row.attempt + 1, started=True, adopted=True)
        self._row(row.id, run=run, state=WorkloadState.ADMITTED, attempt=row.attempt + 1)
        self._world(adopted.uid).by_us = True

    def _wanted(self, action: NewAction) -> None:
        if action in self.actions:
            return
        self.actions.append(action)
        if action.run_id is None:
            seen = next(each for each in self._world(action.uid).moments if each.resource_version == action.resource_version)
            assert action.kind is ActionKind.SUSPEND
            assert seen.stamp is None, "stopped though it carries a stamp"
            assert seen.created_at >= self.context.cluster.registered_at, "stopped though it was there first"
            if action.uid not in self.stopping:  # asking for it again counts once
                self.stopping.add(action.uid)
                recent = [at for at in self.stops if at > self.context.now - timedelta(minutes=1)]
                assert len(recent) < PER_MINUTE, "too many unknown Jobs stopped"
                self.stops.append(self.context.now)

    def _observed(self, seen: Observation) -> None:
        row = self.known[seen.uid]
        pristine = {"queue_name": seen.queue_name or row.queue_name, "shape": seen.shape, "invalid": seen.invalid}
        self._row(
            row.id,
            status=(seen.suspended, seen.active, seen.terminating, seen.ready, seen.succeeded, seen.failed),
            stamp=str(seen.stamp) if seen.stamp else seen.foreign_stamp,
            hold_requested=seen.held_by_owner,
            release_requested=seen.released_by_owner,
            **(pristine if seen.stamp is None else {}),
        )

    def _row(self, workload_id: int, **changes: object) -> None:
        row = next(row for row in self.known.values() if row.id == workload_id)
        self.known[row.uid] = replace(row, **changes)  # type: ignore[arg-type]  # names of fields

    def _run(self, run_id: int, **changes: object) -> OpenRun | None:
        for row in self.known.values():
            if row.run is not None and row.run.id == run_id:
                run = replace(row.run, **changes)  # type: ignore[arg-type]  # names of fields
                self._row(row.id, run=run)
                return run
        return None

    def _world(self, uid: str) -> World:
        return next(world for world in self.worlds if world.seen.uid == uid)

    def _pick(self, number: int) -> World:
        return self.worlds[number % len(self.worlds)]

    # The cluster

    @precondition(lambda self: len(self.worlds) < 5)
    @rule(kind=st.sampled_from(["new", "new", "slipped by", "slipped by", "old", "foreign"]))
    def create(self, kind: str) -> None:
        number = len(self.worlds)
        seen = make_seen(
            uid=f"uid-{number}",
            name=f"job-{number}",
            created_at=BEFORE if kind == "old" else AFTER,
            suspended=kind == "new",
            stamp=FOREIGN if kind == "foreign" else None,
        )
        self.worlds.append(World(seen, [seen]))

    @precondition(lambda self: self.worlds)
    @rule(number=st.integers(0, 4), finished=st.booleans())
    def job_controller(self, number: int, finished: bool) -> None:
        """Pods are made while the Job runs, and go in two steps when it does not."""
        world = self._pick(number)
        if world.gone:
            world.seen = replace(world.seen, active=0, terminating=0)  # orphans die
        elif world.seen.running and not world.pods:
            world.become(active=2)
        elif world.seen.running and world.seen.deadline_seconds == EXPIRED_SECONDS and not finished:
            end = {"finished": WorkloadState.FAILED, "end_reason": "DeadlineExceeded"}
            world.become(active=0, terminating=2, failed=2, **end)
        elif world.seen.running and finished:
            world.become(active=0, terminating=2, finished=WorkloadState.FINISHED, succeeded=2)
        elif world.seen.active and not world.seen.running:
            world.become(active=0, terminating=world.seen.active)
        elif world.seen.terminating:
            world.become(terminating=0)

    @precondition(lambda self: self.worlds)
    @rule(
        number=st.integers(0, 4),
        what=st.sampled_from(["suspend", "resume", "leave", "move", "return", "hold", "release", "delete"]),
    )
    def somebody(self, number: int, what: str) -> None:
        """What its owner or an administrator may do to a Job. A resumed one slips by: the policies forbid it."""
        world = self._pick(number)
        seen = world.seen
        if world.gone or seen.finished:
            return
        if what == "suspend":
            world.his = world.his or (not seen.suspended and not world.expired)
            world.become(suspended=True)
        elif what == "resume" and seen.suspended:
            world.his = False
            world.become(suspended=False)
        elif what == "leave" and seen.suspended:
            world.his = False
            world.become(queue_name=None)
        elif what == "move" and seen.suspended:
            world.become(queue_name="other")
        elif what == "return" and seen.suspended:
            world.become(queue_name="train")
        elif what in ("hold", "release"):
            world.become(held_by_owner=what == "hold", released_by_owner=what == "release")
        elif what == "delete":
            world.gone = True

    # The ledger's other writers

    @precondition(lambda self: self.known)
    @rule(number=st.integers(0, 4))
    def admit(self, number: int) -> None:
        rows = [row for row in self.known.values() if row.state is WorkloadState.PENDING and row.run is None]
        for row in rows[number : number + 1]:
            if row.owner_suspended or row.hold_requested or row.queue_name != "train":
                continue
            run = OpenRun(self._id(), row.attempt + 1, started=False)
            self._row(row.id, run=run, state=WorkloadState.ADMITTED, attempt=run.attempt)
            decided_on = self._world(row.uid).moments[0].resource_version
            self.actions.append(NewAction(row.uid, run.id, run.attempt, ActionKind.UNSUSPEND, decided_on))

    @precondition(lambda self: self.known)
    @rule(number=st.integers(0, 4), outcome=st.sampled_from([RunOutcome.PREEMPTED, RunOutcome.EXPIRED]))
    def evict(self, number: int, outcome: RunOutcome) -> None:
        rows = [row for row in self.known.values() if row.run is not None and row.run.evict_outcome is None]
        for row in rows[number : number + 1]:
            assert row.run is not None
            self._run(row.run.id, evict_outcome=outcome, evict_message="for another", evict_at=self.context.now)
            if row.state is WorkloadState.ADMITTED:
                self._row(row.id, state=WorkloadState.EVICTING)
            kind = ActionKind.EXPIRE if outcome is RunOutcome.EXPIRED else ActionKind.SUSPEND
            self.actions.append(NewAction(row.uid, row.run.id, row.run.attempt, kind))

    @precondition(lambda self: any(row.run is None and row.state is WorkloadState.PENDING for row in self.known.values()))
    @rule(
        outcome=st.sampled_from([None, RunOutcome.PREEMPTED, RunOutcome.EXPIRED]),
        then=st.permutations(["suspend", "act"]).flatmap(lambda order: st.sampled_from([order, order[:1], []])),
        resumed=st.booleans(),
    )
    def run_one(self, outcome: RunOutcome | None, then: list[str], resumed: bool) -> None:
        """A short way to where the corners are: one runs, may have notice, his owner may suspend him then, we may act, he may resume him."""
        self.admit(0)
        started = [each for each in self.actions if each.kind is ActionKind.UNSUSPEND]
        if not started:
            return
        world = self._world(started[-1].uid)
        self.act(self.actions.index(started[-1]))
        if not world.by_us or world.seen.suspended:
            return
        number = self.worlds.index(world)
        self.job_controller(number, finished=False)
        self.look(number, len(world.moments))
        running = [row for row in self.known.values() if row.run is not None and row.run.evict_outcome is None]
        row = self.known[world.seen.uid]
        if outcome is not None and row in running:
            self.evict(running.index(row), outcome)
        for what in then:
            if what == "act":
                self._do_all_of(row.uid)
            else:
                self.somebody(number, "suspend")
        for _ in range(2):
            self.job_controller(number, finished=False)
            self.look(number, len(world.moments))
        self.confirm(number)
        if resumed:
            self._do_all_of(row.uid)
            self.somebody(number, "resume")
            self.look(number, len(world.moments))

    def _do_all_of(self, uid: str) -> None:
        for _ in range(len(self.actions)):
            places = [place for place, action in enumerate(self.actions) if action.uid == uid]
            if places:
                self.act(places[0])

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.context.now += timedelta(seconds=seconds)

    # What is done and seen

    @precondition(lambda self: self.actions)
    @rule(number=st.integers(0, 4))
    def act(self, number: int) -> None:
        """Do the first action of some workload, as `hands` does."""
        if self.context.unknown.too_many:
            return
        uid = self.actions[number % len(self.actions)].uid
        action = next(each for each in self.actions if each.uid == uid)
        self.actions.remove(action)
        world, row = self._world(uid), self.known[uid]
        seen = world.seen
        if world.gone or seen.finished:
            return
        stamp = RunStamp(OUR_LEDGER, action.run_id, action.attempt) if action.run_id is not None else seen.stamp
        never_started = seen.suspended and seen.stamp != stamp and not (row.run is not None and row.run.adopted)
        if action.kind is ActionKind.EXPIRE and not seen.suspended:
            world.expired = True
            world.become(stamp=stamp, stopped=stamp, deadline_seconds=EXPIRED_SECONDS)
        elif action.kind is ActionKind.SUSPEND or (action.kind is ActionKind.EXPIRE and never_started):
            if not seen.suspended or never_started:
                world.become(suspended=True, stamp=stamp, stopped=stamp if action.run_id is not None else seen.stopped)
            elif seen.stamp != stamp:
                world.become(stamp=stamp, stopped=None)
        elif action.kind is ActionKind.RESTORE:
            if seen.suspended and seen.stamp is not None and seen.stamp.ledger == OUR_LEDGER and not world.pods:
                world.become(stamp=None, stopped=None)
        elif seen.suspended and self._may_start(row, action) and follow.unchanged(seen, row.queue_name, row.shape):
            world.become(suspended=False, stamp=stamp, stopped=None)
            world.by_us = True
            world.his = False

    @staticmethod
    def _may_start(row: Known, action: NewAction) -> bool:
        run = row.run
        return run is not None and run.id == action.run_id and run.evict_outcome is None and not run.stopped

    @precondition(lambda self: any(not world.gone for world in self.worlds))
    @rule(number=st.integers(0, 4), moment=st.integers(0, 10))
    def look(self, number: int, moment: int) -> None:
        """Deliver some moment since the last one delivered; what lies before it is never told."""
        world = self._pick(number)
        if world.gone:
            return
        moment = min(moment, len(world.moments) - 1)
        world.moments = world.moments[moment:]
        batch = Batch()
        follow.follow(batch, world.moments[0], self.known.get(world.seen.uid), self.context)
        if world.moments[0].running and world.moments[0].stamp == FOREIGN:
            row = self.known.get(world.seen.uid)
            # One that was admitted while it was suspended is about to be claimed by its run.
            assert batch.foreign or (row is not None and row.run is not None), "another ledger's was not recognized"
            assert not batch.changes.actions, "touched another ledger's"
            assert not batch.changes.adopted, "adopted another ledger's"
        self._apply(batch)
        self._is_answered_for(world.moments[0])
        if not world.moments[0].running:
            self.stopping.discard(world.seen.uid)

    def _is_answered_for(self, seen: Observation) -> None:
        """What runs holds quota, is about to be stopped, or is beyond the ration; whatever became of its workload before."""
        if not seen.running or seen.queue_name != "train" or seen.deleting or seen.stamp == FOREIGN:
            return
        wanted = any(each.uid == seen.uid and each.kind is ActionKind.SUSPEND for each in self.actions)
        held = self.known[seen.uid].run is not None
        assert held or wanted or self.context.unknown.too_many, "it runs, and nobody answers for it"

    @precondition(lambda self: self.worlds)
    @rule(number=st.integers(0, 4))
    def confirm(self, number: int) -> None:
        """A GET and a list of pods tell the truth of the moment in which they are asked."""
        world = self._pick(number)
        row = self.known.get(world.seen.uid)
        if row is None:
            return
        batch = Batch()
        if world.gone:
            follow.gone(batch, row, self.context)
            self._apply(batch)
            self.stopping.discard(row.uid)
        for uid, run_id in sorted(self.checks):
            if uid == row.uid and not world.pods and (world.gone or world.seen.suspended):
                self.checks.discard((uid, run_id))
                batch = Batch()
                follow.pods_gone(batch, self.known[uid], run_id)
                self._apply(batch)

    @invariant()
    def what_we_started_holds_its_quota(self) -> None:
        for world in self.worlds:
            if world.by_us and world.pods and world.seen.uid in self.known:
                assert self.known[world.seen.uid].run is not None, "pods of ours run without a run"

    @invariant()
    def a_run_belongs_to_a_state(self) -> None:
        for row in self.known.values():
            if row.state in ADMITTED:
                assert row.run is not None, f"{row.state} without a run"
            if row.state is WorkloadState.HELD or row.state is WorkloadState.PENDING:
                assert row.run is None, f"{row.state} with a run"

    @invariant()
    def unknown_jobs_are_those_that_run(self) -> None:
        assert len(self.context.unknown._running) <= len(self.worlds)


Following.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestFollowing = Following.TestCase
