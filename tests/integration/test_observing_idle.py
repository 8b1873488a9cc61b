"""Runs whose start came to nothing, on a real ledger: what is asked of the cluster, and what becomes of them by the answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, text

from aiqueue.admission.controller.facts import ActionEnded, JobFound, Result, Unstarted
from aiqueue.admission.controller.follow import CHANGED
from aiqueue.admission.controller.term import Term
from aiqueue.admission.kube.kinds import LimitRange
from aiqueue.admission.kube.names import QUEUE_LABEL
from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.surroundings import Surroundings
from aiqueue.admission.kube.watches import EventType
from aiqueue.queue.database import transaction
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import Allocation
from aiqueue.queue.store import actions, plans
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.plans import AdmissionRow, EvictionRow, PlanRows
from aiqueue.queue.words import ActionKind, RunOutcome, WorkloadState
from fix_follow import GPU
from fix_terms import Observer
from fix_twins import Asking

pytestmark = pytest.mark.integration

Build = Callable[..., Observer]
UID = "uid-1"


def stored(version: str, hold: str | None = None, run: RunStamp | None = None) -> Job:
    """A suspended Job at a version, as its owner and a run have annotated it."""
    notes = {"aiqueue.dev/hold": hold, "aiqueue.dev/run": str(run) if run else None}
    metadata = {
        "uid": UID,
        "name": "job-1",
        "namespace": "team-a",
        "resourceVersion": version,
        "creationTimestamp": datetime.now(UTC),
        "labels": {QUEUE_LABEL: "train"},
        "annotations": {key: value for key, value in notes.items() if value is not None},
    }
    template = {"spec": {"containers": [{"name": "main"}]}}
    return msgspec.convert({"metadata": metadata, "spec": {"suspend": True, "template": template}}, Job)


class Watched:
    """The observe step of a process that begins with what the ledger holds, a watch that is told by hand, and what is asked."""

    def __init__(self, observer: Observer, term: Term) -> None:
        self.step, self.jobs, self.term = observer.step, observer.jobs, term
        self.heard = observer.inbox.drain
        self.asking = self.step.confirmer = Asking()

    def tell(self, version: str, **job: Any) -> Observation:
        """The watch tells how the Job is, and that is followed."""
        self.jobs.apply(EventType.MODIFIED, stored(version, **job))
        seen = self.step.context.see(stored(version, **job))
        self.step.look([seen])
        return seen

    def admit(self) -> Action:
        """A Plan admits the Job; returns its start."""
        row = self.step.mirror.known[UID]
        template: dict[str, Any] = {"main": {"nodeSelector": {}, "tolerations": []}}
        admission = AdmissionRow(
            row.id,
            row.attempt + 1,
            "research",
            row.namespace,
            row.queue_name,
            row.resource_version,
            (Allocation("main", "h100", GPU, 8),),
            template,
            template,
        )
        (run_id,) = self._commit(row.attempt + 1, [admission])
        self.step.mirror.admitted(UID, run_id, row.attempt + 1)
        start = self.start()
        self.step.actor.submit([start])
        return start

    def evict(self) -> None:
        """A Plan ends its run."""
        row = self.step.mirror.known[UID]
        assert row.run is not None
        now = datetime.now(UTC)
        end = EvictionRow(row.run.id, row.id, row.run.attempt, RunOutcome.DRAINED, "drained", now)
        self._commit(row.run.attempt + 100, evictions=[end])
        self.step.mirror.evicting(UID, RunOutcome.DRAINED, now, "drained")

    def start(self) -> Action:
        with self.term.transaction() as connection:
            (found,) = [each for each in actions.load_open(connection, 1) if each.kind is ActionKind.UNSUSPEND]
        return found

    def left(self) -> list[tuple[ActionKind, RunStamp | None]]:
        """What is to be done."""
        with self.term.transaction() as connection:
            return [(each.kind, each.stamp) for each in actions.load_open(connection, 1)]

    def in_vain(self, action: Action) -> None:
        """Whoever was to start the Job found it changed."""
        self.step.hear([ActionEnded(action, Result.MOOT, "the Job was changed since it was decided on")])

    def _commit(self, seq: int, *rows: Any, **more: Any) -> tuple[int, ...]:
        plan = PlanRows(seq, self.step.context.configuration.revision, datetime.now(UTC), *rows, **more)
        with self.term.transaction() as connection:
            return plans.commit(connection, self.term.number, 1, plan).run_ids

    @property
    def asked(self) -> list[tuple[str, ...]]:
        return list(self.asking.open)


@pytest.fixture
def begin(term: Term, observer: Build) -> Callable[[], Watched]:
    """Begins a process that leads."""
    return lambda: Watched(observer(), term)


def closed(owner: Engine) -> list[tuple[str | None, str | None]]:
    """How the runs ended, those that did."""
    with transaction(owner) as connection:
        found = connection.execute(text("SELECT outcome, message FROM run WHERE closed_at IS NOT NULL ORDER BY id"))
        return [(row.outcome, row.message) for row in found]


def asks(run_id: int | None) -> list[tuple[str, ...]]:
    """The one question after the Job of an idle run."""
    return [("start", UID, str(run_id))]


def test_a_start_that_came_to_nothing_gives_its_quota_back_and_is_decided_anew(
    ledger: Engine, begin: Callable[[], Watched]
) -> None:
    """Its owner changed it and took that back before the watch told."""
    watched = begin()
    watched.tell("100")
    start = watched.admit()
    assert watched.asked == []
    watched.in_vain(start)
    watched.tell("102")
    assert watched.asked == asks(start.run_id)
    assert closed(ledger) == []
    watched.asking.open.clear()
    watched.step.hear([Unstarted(UID, start.run_id or 0, "102")])
    assert closed(ledger) == [(RunOutcome.CANCELLED, CHANGED)]
    row = watched.step.mirror.known[UID]
    assert (row.state, row.run, watched.step.engine.usage()) == (WorkloadState.PENDING, None, {})
    assert watched.step.mirror.resource_version(UID) == "102"  # so the next start is sent without a look
    again = watched.admit()
    watched.step.hear([ActionEnded(again, Result.DONE)])
    watched.step.flush()
    watched.tell("103")
    assert watched.asked == []
    assert watched.step.mirror.known[UID].run is not None


def test_who_leads_next_asks_after_a_start_that_nobody_has_in_hand(ledger: Engine, begin: Callable[[], Watched]) -> None:
    """The one before ended between writing that it came to nothing and what followed from that."""
    before = begin()
    before.tell("100")
    start = before.admit()
    handed_down = begin()
    handed_down.tell("100")
    assert handed_down.asked == []  # it may be on its way
    before.in_vain(start)
    after = begin()
    after.tell("102")
    assert after.asked == asks(start.run_id)
    after.step.hear([Unstarted(UID, start.run_id or 0, "102")])
    assert closed(ledger) == [(RunOutcome.CANCELLED, CHANGED)]


def test_an_answer_on_another_version_is_asked_for_again(ledger: Engine, begin: Callable[[], Watched]) -> None:
    """Something became of the Job between question and answer."""
    watched = begin()
    watched.tell("100")
    start = watched.admit()
    watched.in_vain(start)
    watched.asking.open.clear()
    watched.jobs.apply(EventType.MODIFIED, stored("103"))
    watched.step.hear([Unstarted(UID, start.run_id or 0, "102")])
    assert (closed(ledger), watched.asked) == ([], asks(start.run_id))


@pytest.mark.parametrize("meanwhile", ["told to end", "decided anew", "changed again", "gone"])
def test_an_answer_that_comes_too_late_changes_nothing(ledger: Engine, begin: Callable[[], Watched], meanwhile: str) -> None:
    watched = begin()
    watched.tell("100")
    start = watched.admit()
    watched.in_vain(start)
    if meanwhile == "told to end":
        watched.evict()
    elif meanwhile == "gone":
        watched.jobs.apply(EventType.DELETED, stored("102"))
    else:
        watched.tell("102", hold="true")
        watched.tell("103", hold="false")
        if meanwhile == "decided anew":
            watched.in_vain(watched.admit())
    before = closed(ledger)
    watched.step.hear([Unstarted(UID, start.run_id or 0, watched.step.mirror.resource_version(UID))])
    assert closed(ledger) == before


def test_a_run_that_is_to_end_is_left_to_what_ends_it(begin: Callable[[], Watched]) -> None:
    watched = begin()
    watched.tell("100")
    start = watched.admit()
    watched.evict()
    watched.in_vain(start)
    watched.tell("102")
    assert watched.asked == []


def test_who_carries_the_run_is_not_asked_after(begin: Callable[[], Watched]) -> None:
    watched = begin()
    watched.tell("100")
    start = watched.admit()
    watched.in_vain(start)
    watched.asking.open.clear()
    watched.tell("102", run=start.stamp)
    assert ("start", UID, str(start.run_id)) not in watched.asked


def test_a_run_is_not_closed_while_somebody_is_at_its_start(ledger: Engine, begin: Callable[[], Watched]) -> None:
    """He may find that the change was taken back, and start the Job. It is looked at again after him, at the same version too."""
    watched = begin()
    watched.step.actor.open_lane(lambda: None)
    watched.tell("100")
    start = watched.admit()
    assert watched.step.actor.begin_start() == start
    watched.tell("102", hold="true")
    assert (closed(ledger), watched.asked) == ([], [("in hand", UID)])
    watched.step.actor.left(start)
    watched.tell("102", hold="true")
    assert closed(ledger) == [(RunOutcome.CANCELLED, CHANGED)]
    assert watched.left() == []
    assert watched.step.actor.begin_start() is None


def test_a_run_is_not_closed_that_was_started_and_of_which_nobody_has_heard_yet(
    ledger: Engine, begin: Callable[[], Watched]
) -> None:
    """What the watch tells is older."""
    watched = begin()
    watched.step.actor.open_lane(lambda: None)
    watched.tell("100")
    start = watched.admit()
    assert watched.step.actor.begin_start() == start
    watched.step.actor.started(start)
    watched.tell("102", hold="true")
    assert (closed(ledger), watched.asked) == ([], [("in hand", UID)])
    watched.step.hear(watched.heard())
    watched.step.flush()
    watched.tell("102", hold="true")
    assert closed(ledger) == []
    run = watched.step.mirror.known[UID].run
    assert run is not None
    assert run.started


def test_what_is_found_changed_again_needs_no_answer(ledger: Engine, begin: Callable[[], Watched]) -> None:
    """Its start is on its way to nobody, so what surrounds it counts though the Job itself is at the same version."""
    watched = begin()
    watched.tell("100")
    watched.in_vain(watched.admit())
    limits = {
        "metadata": {"uid": "limits", "name": "limits", "namespace": "team-a", "resourceVersion": "1"},
        "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "1"}}]},
    }
    watched.step.context.surroundings = Surroundings()
    watched.step.context.surroundings.limit_ranges.apply(EventType.ADDED, msgspec.convert(limits, LimitRange))
    watched.tell("100")
    assert closed(ledger) == [(RunOutcome.CANCELLED, CHANGED)]


def test_what_an_earlier_run_wrote_is_put_back_though_the_next_one_is_not_started(begin: Callable[[], Watched]) -> None:
    """What was to put it back found the Job running, and left it to the run that was to start."""
    watched = begin()
    watched.tell("100")
    first = watched.admit()
    watched.step.hear([ActionEnded(first, Result.MOOT, "the Job was changed since it was decided on")])
    watched.step.hear([Unstarted(UID, first.run_id or 0, "100")])
    second = watched.admit()
    watched.in_vain(second)
    watched.tell("102", run=first.stamp)
    watched.step.hear([Unstarted(UID, second.run_id or 0, "102")])
    assert watched.left() == [(ActionKind.RESTORE, first.stamp)]


def test_what_a_refused_start_found_of_an_earlier_run_is_put_back(begin: Callable[[], Watched]) -> None:
    watched = begin()
    watched.tell("100")
    first = watched.admit()
    watched.in_vain(first)
    watched.step.hear([Unstarted(UID, first.run_id or 0, "100")])
    second = watched.admit()
    watched.tell("102", run=first.stamp)
    watched.step.hear([ActionEnded(second, Result.REFUSED, "it is not valid")])
    assert watched.step.mirror.known[UID].state is WorkloadState.HELD
    assert watched.left() == [(ActionKind.RESTORE, first.stamp)]


def test_what_a_question_found_is_not_followed_after_what_the_watch_told_since(begin: Callable[[], Watched]) -> None:
    """Nothing more may be told of the Job: what is followed last stays."""
    watched = begin()
    watched.tell("100")
    found = watched.step.context.see(stored("102", hold="true"))
    watched.tell("103")
    watched.step.hear([JobFound(found)])
    row = watched.step.mirror.known[UID]
    assert (row.state, watched.step.mirror.resource_version(UID)) == (WorkloadState.PENDING, "103")
