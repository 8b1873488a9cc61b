"""The observe step on a real ledger: whatever is reported twice, late or at once, the ledger takes it and the step goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, text

from aiqueue.admission.controller.facts import ActionEnded, JobFound, JobGone, PodsGone, Result
from aiqueue.admission.controller.term import Term
from aiqueue.admission.engine.engine import Engine as Deciding
from aiqueue.admission.engine.events import Event, RunClosed, RunOpened, RunStanding, UsageMoved, WorkloadPending
from aiqueue.admission.kube.kinds import LimitRange
from aiqueue.admission.kube.names import QUEUE_LABEL
from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.surroundings import Surroundings
from aiqueue.admission.kube.watches import EventType
from aiqueue.queue.database import transaction
from aiqueue.queue.errors import LedgerConflict
from aiqueue.queue.observations import RunStamp
from aiqueue.queue.records import Allocation
from aiqueue.queue.store import actions, plans, usage
from aiqueue.queue.store.plans import AdmissionRow, EvictionRow, PlanRows
from aiqueue.queue.store.usage import UsageKey
from aiqueue.queue.usage import Usage
from aiqueue.queue.words import ActionKind, RunOutcome, WorkloadState
from fix_follow import CHANGED, GPU, make_seen
from fix_terms import Observer

pytestmark = pytest.mark.integration

Build = Callable[..., Observer]
LIMITS = {"uid": "limits", "name": "limits", "namespace": "team-a", "resourceVersion": "1"}
TRAIN = ("team-a", "train", GPU)


def admit(term: Term, observer: Observer, seq: int = 1) -> RunStamp:
    """Commit a Plan that admits the one workload there is, and tell the mirror."""
    (row,) = observer.step.mirror.known.values()
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
    with term.transaction() as connection:
        plan = PlanRows(seq, observer.step.context.configuration.revision, datetime.now(UTC), [admission])
        committed = plans.commit(connection, term.number, 1, plan)
        starts = actions.load_open(connection, 1)
    observer.step.mirror.admitted(row.uid, committed.run_ids[0], row.attempt + 1)
    observer.step.actor.submit(starts)
    return RunStamp(observer.step.context.ledger_uid, committed.run_ids[0], row.attempt + 1)


def open_runs(owner: Engine) -> int:
    with transaction(owner) as connection:
        return int(connection.execute(text("SELECT count(*) FROM run WHERE closed_at IS NULL")).scalar_one())


def stopped_run(term: Term, observer: Observer) -> RunStamp:
    """A workload that was admitted, ran and is suspended: only its pods are to be looked for."""
    observer.step.look([make_seen()])
    stamp = admit(term, observer)
    observer.step.look([make_seen(stamp=stamp, suspended=False, active=2, resource_version="101")])
    observer.step.look([make_seen(stamp=stamp, resource_version="102")])
    return stamp


def test_no_pods_reported_twice_closes_the_run_once(ledger: Engine, term: Term, observer: Build) -> None:
    watched = observer()
    stamp = stopped_run(term, watched)
    watched.step.hear([PodsGone("uid-1", stamp.run_id), PodsGone("uid-1", stamp.run_id)])
    assert open_runs(ledger) == 0
    row = watched.step.mirror.known["uid-1"]
    assert (row.state, row.run) == (WorkloadState.HELD, None)


def test_a_job_seen_twice_at_once_is_taken_in_once(observer: Build) -> None:
    watched = observer()
    watched.step.look([make_seen(), make_seen(resource_version="101", queue_name="other")])
    assert watched.step.mirror.known["uid-1"].queue_name == "other"
    assert watched.step.mirror.resource_version("uid-1") == "101"


def test_a_running_job_seen_twice_at_once_is_adopted_once(ledger: Engine, observer: Build) -> None:
    watched = observer()
    running = make_seen(suspended=False, created_at=datetime(2000, 1, 1, tzinfo=UTC))
    watched.step.hear([JobFound(running), JobFound(running)])
    assert open_runs(ledger) == 1


def test_a_job_that_ended_seen_twice_at_once_gives_its_quota_back_once(ledger: Engine, term: Term, observer: Build) -> None:
    watched = observer()
    watched.step.look([make_seen()])
    stamp = admit(term, watched)
    over = make_seen(stamp=stamp, suspended=False, finished=WorkloadState.FINISHED)
    watched.step.look([over, over])
    assert open_runs(ledger) == 0
    assert watched.step.engine.usage() == {}


def test_several_facts_on_one_job_are_followed_one_after_the_other(ledger: Engine, term: Term, observer: Build) -> None:
    watched = observer()
    watched.step.look([make_seen()])
    stamp = admit(term, watched)
    with term.transaction() as connection:
        (unsuspend,) = actions.load_open(connection, 1)
    watched.step.hear(
        [ActionEnded(unsuspend, Result.DONE), JobGone("uid-1"), JobGone("uid-1"), PodsGone("uid-1", stamp.run_id)]
    )
    with transaction(ledger) as connection:
        run = connection.execute(text("SELECT started_at IS NOT NULL, outcome, message FROM run")).one()
    assert run == (True, RunOutcome.CANCELLED, "the Job was deleted")
    assert watched.step.mirror.known["uid-1"].state is WorkloadState.CANCELLED


def test_a_whole_cluster_at_once_is_written_in_transactions_of_bounded_size(ledger: Engine, observer: Build) -> None:
    watched = observer()
    watched.step.look(make_seen(uid=f"uid-{number}", name=f"job-{number}") for number in range(2500))
    with transaction(ledger) as connection:
        written = connection.execute(text("SELECT count(*) FROM workload GROUP BY observed_at ORDER BY observed_at")).scalars()
        assert list(written) == [1000, 1000, 500]


def stored(uid: str, name: str = "job-1") -> Job:
    """What the watch tells of a Job."""
    metadata = {
        "uid": uid,
        "name": name,
        "namespace": "team-a",
        "resourceVersion": "1",
        "creationTimestamp": datetime.now(UTC),
        "labels": {QUEUE_LABEL: "train"},
    }
    template = {"spec": {"containers": [{"name": "main"}]}}
    return msgspec.convert({"metadata": metadata, "spec": {"suspend": True, "template": template}}, Job)


def test_a_job_found_too_late_does_not_take_the_name_from_its_successor(observer: Build) -> None:
    watched = observer()
    watched.jobs.apply(EventType.ADDED, stored("uid-2"))
    watched.step.look([make_seen(uid="uid-2")])
    watched.step.hear([JobFound(make_seen())])
    assert watched.step.mirror.known.keys() == {"uid-2"}
    assert watched.step.mirror.known["uid-2"].state is WorkloadState.PENDING


def test_a_job_of_a_known_name_takes_the_place_of_the_one_before(ledger: Engine, term: Term, observer: Build) -> None:
    watched = observer()
    watched.step.look([make_seen()])
    admit(term, watched)
    watched.step.look([make_seen(uid="uid-2", resource_version="200")])
    assert {uid: row.state for uid, row in watched.step.mirror.known.items()} == {
        "uid-1": WorkloadState.CANCELLED,
        "uid-2": WorkloadState.PENDING,
    }
    assert open_runs(ledger) == 1
    assert watched.step.mirror.resource_version("uid-2") == "200"


class Hearing(Deciding):
    """An engine that remembers what it heard."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Event] = []

    def observe(self, event: Event) -> None:
        self.heard.append(event)
        super().observe(event)


def test_the_engine_hears_what_the_owner_says_of_time_while_it_waits_and_while_it_runs(term: Term, observer: Build) -> None:
    watched = observer()
    engine = watched.step.engine = Hearing()

    def look(**changes: Any) -> list[Event]:
        engine.heard.clear()
        watched.step.look([make_seen(**changes)])
        return list(engine.heard)

    look()
    (waits,) = look(checkpoint_seconds=60, max_runtime_seconds=3600)
    assert isinstance(waits, WorkloadPending)
    assert (waits.workload.checkpoint_seconds, waits.workload.max_runtime_seconds) == (60, 3600)
    assert look(checkpoint_seconds=60, max_runtime_seconds=3600, resource_version="101") == []
    stamp = admit(term, watched)
    runs = {"stamp": stamp, "suspended": False, "active": 2}
    (started,) = look(**runs, checkpoint_seconds=60, max_runtime_seconds=3600)
    assert isinstance(started, RunStanding)
    assert (started.run_id, started.ready_at, started.unready_since) == (stamp.run_id, None, None)
    assert look(**runs, checkpoint_seconds=60, max_runtime_seconds=3600, ready=1) == []
    (again,) = look(**runs, checkpoint_seconds=30)
    assert isinstance(again, RunOpened)
    assert (again.run.id, again.run.attempt, again.run.allocations) == (stamp.run_id, 1, (Allocation("main", "h100", GPU, 8),))
    assert (again.run.workload.checkpoint_seconds, again.run.workload.max_runtime_seconds) == (30, None)
    (ready,) = look(**runs, checkpoint_seconds=30, ready=2)
    assert isinstance(ready, RunStanding)
    assert ready.ready_at is not None
    assert (ready.started_at, ready.unready_since) == (started.started_at, None)
    assert look(**runs, checkpoint_seconds=30, ready=2, succeeded=1) == []
    over = make_seen(stamp=stamp, suspended=False, finished=WorkloadState.FINISHED, checkpoint_seconds=5)
    engine.heard.clear()
    watched.step.look([over])  # it is over, whatever it says of time
    assert [type(event) for event in engine.heard if not isinstance(event, UsageMoved)] == [RunClosed]


def test_the_engine_hears_how_long_a_workload_ran_when_it_waits_again(ledger: Engine, term: Term, observer: Build) -> None:
    watched = observer()
    stamp = stopped_run(term, watched)
    with transaction(ledger) as connection:
        connection.execute(text("UPDATE run SET opened_at = opened_at - interval '1 hour'"))
    engine = watched.step.engine = Hearing()
    watched.step.hear([PodsGone("uid-1", stamp.run_id)])
    (waits,) = [event for event in engine.heard if isinstance(event, WorkloadPending)]
    assert 3600 < waits.workload.ran_seconds < 3600 + 60


def usages(owner: Engine) -> dict[UsageKey, Usage]:
    with transaction(owner) as connection:
        return usage.load(connection)


def test_what_is_adopted_and_closed_moves_usage_and_the_engine_hears_of_it(ledger: Engine, observer: Build) -> None:
    watched = observer()
    watched.step.look([make_seen(uid="uid-2", name="old", suspended=False, active=2)])  # predates the registration: adopted
    adopted = dict(watched.step.usages.known)
    assert {key: kept.rate for key, kept in adopted.items()} == {TRAIN: 8}
    assert adopted == usages(ledger)
    watched.step.look(
        [
            make_seen(
                uid="uid-2", name="old", suspended=False, succeeded=2, finished=WorkloadState.FINISHED, resource_version="101"
            )
        ]
    )
    assert open_runs(ledger) == 0
    closed = watched.step.usages.known
    assert closed == usages(ledger)
    assert closed[TRAIN].rate == 0
    assert closed[TRAIN].value > 0
    assert observer().step.usages.known == {}  # another engine knows nothing until it is told the whole


def test_what_cannot_be_written_is_told_to_nobody(ledger: Engine, term: Term, observer: Build) -> None:
    watched = observer()
    stamp = stopped_run(term, watched)
    with transaction(ledger) as connection:
        connection.execute(text("UPDATE queue_usage SET rate = 1"))
    before = usages(ledger)
    with pytest.raises(LedgerConflict, match="1 were counted as held"):
        watched.step.hear([PodsGone("uid-1", stamp.run_id)])
    assert open_runs(ledger) == 1
    assert watched.step.usages.known == {}
    assert usages(ledger) == before
    with term.transaction() as connection:
        assert usage.repair(connection, term.number) == 1
    watched.step.hear([PodsGone("uid-1", stamp.run_id)])
    assert open_runs(ledger) == 0
    assert watched.step.usages.known == usages(ledger)


def test_a_start_that_may_be_on_its_way_is_not_overtaken_by_what_surrounds_the_job(
    ledger: Engine, term: Term, observer: Build
) -> None:
    """The Job is at the version it was decided on: the PATCH that starts it can succeed, so its run holds what it holds."""
    watched = observer()
    watched.step.look([make_seen()])
    admit(term, watched)
    counted_anew = make_seen(CHANGED)
    watched.step.look([counted_anew])
    assert open_runs(ledger) == 1
    assert watched.step.mirror.known["uid-1"].state is WorkloadState.ADMITTED
    watched.step.look([replace(counted_anew, resource_version="101")])  # no start can succeed any more
    assert open_runs(ledger) == 0
    assert watched.step.mirror.known["uid-1"].shape == counted_anew.shape


@pytest.mark.parametrize("version", ["100", "101"], ids=["as decided on", "touched since"])
def test_a_start_that_another_began_is_not_overtaken_by_what_changed_while_nobody_led(
    ledger: Engine, term: Term, observer: Build, version: str
) -> None:
    """The next leader has seen no version of the Job yet, and what surrounds it is other than when its run was decided on."""
    before = observer()
    before.step.look([make_seen()])
    stamp = admit(term, before)
    watched = observer()
    watched.step.look([make_seen(CHANGED, resource_version=version)])
    assert open_runs(ledger) == 1
    watched.step.look([make_seen(CHANGED, stamp=stamp, suspended=False, active=2, resource_version="102")])
    row = watched.step.mirror.known["uid-1"]
    assert (row.state, row.run is not None and row.run.id) == (WorkloadState.ADMITTED, stamp.run_id)
    assert row.run is not None
    assert (row.run.started, row.run.adopted) == (True, False)
    assert {key: kept.rate for key, kept in usages(ledger).items()} == {TRAIN: 8}  # what it was decided on


@pytest.mark.parametrize("owner", [{"queue_name": "other"}, {"held_by_owner": True}, {"deleting": True}])
def test_what_its_owner_said_while_nobody_led_ends_a_run_that_was_never_started(
    ledger: Engine, term: Term, observer: Build, owner: dict[str, Any]
) -> None:
    before = observer()
    before.step.look([make_seen()])
    admit(term, before)
    observer().step.look([make_seen(resource_version="101", **owner)])
    assert open_runs(ledger) == 0


def test_who_carries_the_run_already_is_followed_though_its_start_was_handed_down(term: Term, observer: Build) -> None:
    """An earlier leader started it and died; its owner stopped it, and what he wrote besides cannot be read."""
    before = observer()
    before.step.look([make_seen()])
    stamp = admit(term, before)
    with term.transaction() as connection:
        (unsuspend,) = actions.load_open(connection, 1)
    watched = observer()
    watched.step.look([make_seen(stamp=stamp, suspended=True, resource_version="105", invalid="maxRuntime is 'soon'")])
    watched.step.hear([ActionEnded(unsuspend, Result.DONE, "the Job was unsuspended already")])
    watched.step.flush()
    row = watched.step.mirror.known["uid-1"]
    assert row.run is None or row.run.stopped


@pytest.mark.parametrize(("result", "left"), [(Result.DONE, 1), (Result.MOOT, 0)])
def test_a_start_that_another_began_and_that_came_to_nothing_is_decided_anew(
    ledger: Engine, term: Term, observer: Build, result: Result, left: int
) -> None:
    """A Job that was changed while nobody led is found so by whoever is to start it."""
    before = observer()
    before.step.look([make_seen()])
    admit(term, before)
    with term.transaction() as connection:
        (unsuspend,) = actions.load_open(connection, 1)
    watched = observer()
    changed = make_seen(CHANGED, resource_version="101")
    watched.step.look([changed])
    assert open_runs(ledger) == 1
    watched.step.hear([ActionEnded(unsuspend, result)])
    watched.step.flush()
    watched.step.look([changed])
    assert open_runs(ledger) == left


def test_a_start_that_came_to_nothing_has_its_job_looked_at_again(ledger: Engine, term: Term, observer: Build) -> None:
    """The hands found that what surrounds the Job is another; of the Job itself nothing more is to come."""
    watched = observer()
    watched.jobs.apply(EventType.ADDED, stored("uid-1"))
    watched.step.look([watched.step.context.see(stored("uid-1"))])
    admit(term, watched)
    with term.transaction() as connection:
        (unsuspend,) = actions.load_open(connection, 1)
    heavy = msgspec.convert(
        {"metadata": LIMITS, "spec": {"limits": [{"type": "Container", "defaultRequest": {"cpu": "1"}}]}}, LimitRange
    )
    watched.step.context.surroundings = Surroundings()
    watched.step.context.surroundings.limit_ranges.apply(EventType.ADDED, heavy)
    watched.step.look([watched.step.context.see(stored("uid-1"))])
    assert open_runs(ledger) == 1
    watched.step.hear([ActionEnded(unsuspend, Result.MOOT, "the Job was changed since it was decided on")])
    assert open_runs(ledger) == 0
    row = watched.step.mirror.known["uid-1"]
    assert (row.state, row.run) == (WorkloadState.PENDING, None)


@pytest.mark.parametrize("stamped", [True, False])
def test_a_job_that_somebody_resumed_after_its_time_was_up_is_counted_or_suspended_as_any_that_nobody_admitted(
    ledger: Engine, term: Term, observer: Build, stamped: bool
) -> None:
    """Its owner suspended it just when it had been given its deadline; the policies were got round."""
    watched = observer()
    watched.step.look([make_seen()])
    stamp = admit(term, watched)
    watched.step.look([make_seen(stamp=stamp, suspended=False, active=2, resource_version="101")])
    row = watched.step.mirror.known["uid-1"]
    now = datetime.now(UTC)
    end = EvictionRow(stamp.run_id, row.id, stamp.attempt, RunOutcome.EXPIRED, "its time is up", now)
    with term.transaction() as connection:
        plans.commit(connection, term.number, 1, PlanRows(2, watched.step.context.configuration.revision, now, evictions=[end]))
    watched.step.mirror.evicting(row.uid, RunOutcome.EXPIRED, now, "its time is up")
    watched.step.look([make_seen(stamp=stamp, stopped=stamp, deadline_seconds=1, resource_version="102")])
    watched.step.hear([PodsGone(row.uid, stamp.run_id)])
    assert (watched.step.mirror.known["uid-1"].state, open_runs(ledger)) == (WorkloadState.EXPIRED, 0)
    resumed = make_seen(stamp=stamp, suspended=False, active=2, resource_version="103")
    if not stamped:  # it has its template back
        resumed = replace(resumed, stamp=None, created_at=now)
    watched.step.look([resumed])
    with term.transaction() as connection:
        asked = [(each.kind, each.run_id) for each in actions.load_open(connection, 1) if each.kind is not ActionKind.RESTORE]
        over = connection.execute(text("SELECT state, ended_at IS NOT NULL FROM workload")).one()
    if stamped:
        assert (over, open_runs(ledger), asked) == ((WorkloadState.ADMITTED, False), 1, [])
        assert usages(ledger)[TRAIN].rate == 8
        watched.step.look([replace(resumed, resource_version="104", succeeded=1)])
        assert open_runs(ledger) == 1
    else:
        assert (over, open_runs(ledger), asked) == ((WorkloadState.EXPIRED, True), 0, [(ActionKind.SUSPEND, None)])
        watched.step.look([make_seen(resource_version="104")])
        assert watched.step.mirror.known["uid-1"].state is WorkloadState.EXPIRED
