"""How far gangs are, and what is counted against those that were not ready, in a real ledger and as it is read back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from aiqueue.admission.controller.facts import PodsGone
from aiqueue.admission.controller.term import Term
from aiqueue.admission.engine.engine import Engine as Deciding
from aiqueue.admission.engine.events import Event, RunStanding, WorkloadPending
from aiqueue.queue.database import transaction
from aiqueue.queue.observations import RunStamp
from aiqueue.queue.records import Allocation, Class
from aiqueue.queue.store import housekeeping, known, plans, work
from aiqueue.queue.store.plans import AdmissionRow, EvictionRow, PlanRows
from aiqueue.queue.words import RunOutcome, WorkloadState
from fix_follow import GPU, make_seen
from fix_terms import Observer

pytestmark = pytest.mark.integration

Build = Callable[..., Observer]


class Hearing(Deciding):
    """An engine that remembers what it heard."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Event] = []

    def observe(self, event: Event) -> None:
        self.heard.append(event)
        super().observe(event)


class Gang:
    """The one workload that there is, as its Job is seen and Plans concern it."""

    def __init__(self, term: Term, watched: Observer) -> None:
        self.term, self.watched = term, watched
        self.engine = watched.step.engine = Hearing()
        self.plans = 0

    def look(self, **changes: Any) -> None:
        self.engine.heard.clear()
        self.watched.step.look([make_seen(**changes)])

    def commit(self, **parts: Any) -> tuple[int, ...]:
        self.plans += 1
        revision = self.watched.step.context.configuration.revision
        with self.term.transaction() as connection:
            rows = PlanRows(self.plans, revision, datetime.now(UTC), **parts)
            return plans.commit(connection, self.term.number, 1, rows).run_ids

    def admit(self) -> RunStamp:
        (row,) = self.watched.step.mirror.known.values()
        template: dict[str, Any] = {"main": {"nodeSelector": {}, "tolerations": []}}
        taken = (Allocation("main", "h100", GPU, 8),)
        attempt, version = row.attempt + 1, row.resource_version
        admission = AdmissionRow(row.id, attempt, "research", row.namespace, row.queue_name, version, taken, template, template)
        (run_id,) = self.commit(admissions=[admission])
        self.watched.step.mirror.admitted(row.uid, run_id, attempt)
        return RunStamp(self.watched.step.context.ledger_uid, run_id, attempt)

    def put_out(self, stamp: RunStamp, **changes: Any) -> None:
        """As not ready, and its pods are gone."""
        (row,) = self.watched.step.mirror.known.values()
        now = datetime.now(UTC)
        self.commit(evictions=[EvictionRow(stamp.run_id, row.id, stamp.attempt, RunOutcome.NOT_READY, "too late", now)])
        self.watched.step.mirror.evicting(row.uid, RunOutcome.NOT_READY, now, "too late")
        self.look(stamp=stamp, stopped=stamp, resource_version=f"9{stamp.run_id}", **changes)
        self.engine.heard.clear()
        self.watched.step.hear([PodsGone(row.uid, stamp.run_id)])

    def waits(self) -> WorkloadPending:
        """What the engine heard of it; the ledger says the same when it is asked."""
        (event,) = [each for each in self.engine.heard if isinstance(each, WorkloadPending)]
        with self.term.transaction() as connection:
            assert work.load_pending(connection) == [event.workload]
        return event


NEWEST = {
    "workload": text("SELECT * FROM workload ORDER BY id DESC LIMIT 1"),
    "run": text("SELECT * FROM run ORDER BY id DESC LIMIT 1"),
    "archived_run": text("SELECT * FROM archived_run ORDER BY id DESC LIMIT 1"),
}


def row(ledger: Engine, table: str) -> dict[str, Any]:
    """The newest row of a table."""
    with transaction(ledger) as connection:
        return dict(connection.execute(NEWEST[table]).mappings().one())


def test_how_far_a_gang_is_goes_into_the_ledger_once_and_comes_back_from_it(
    ledger: Engine, term: Term, observer: Build
) -> None:
    gang = Gang(term, observer())
    gang.look(succeeded=3)
    stamp = gang.admit()
    assert row(ledger, "run")["succeeded_before"] == 3
    on = {"stamp": stamp, "suspended": False, "completions": 9, "active": 2}
    stories: list[tuple[dict[str, int], bool, bool]] = [
        ({"ready": 1, "succeeded": 3}, False, False),
        ({"ready": 1, "succeeded": 4}, True, False),
        ({"ready": 2, "succeeded": 4}, True, False),
        ({"ready": 1, "succeeded": 4}, True, True),
        ({"ready": 0, "succeeded": 4}, True, True),
        ({"ready": 0, "succeeded": 5}, True, True),
        ({"ready": 2, "succeeded": 5}, True, False),
    ]
    before: tuple[Any, ...] = (None, None, None)
    for pods, ready, unready in stories:
        gang.look(**on, **pods)
        run = row(ledger, "run")
        assert (run["started_at"] is not None, run["ready_at"] is not None, run["unready_since"] is not None) == (
            True,
            ready,
            unready,
        )
        times = (run["started_at"], run["ready_at"], run["unready_since"])
        assert [each for each in gang.engine.heard if isinstance(each, RunStanding)] == (
            [RunStanding(stamp.run_id, *times)] if times != before else []
        )
        assert before[1] in (None, times[1]), "ready for the first time but once"
        if pods == {"ready": 0, "succeeded": 5}:
            assert times[2] > before[2], "its time begins anew with one that succeeded"
        before = times
        with term.transaction() as connection:
            (told,) = work.load_open_runs(connection)
            (read,) = known.load(connection, 1).values()
        assert (told.started_at, told.ready_at, told.unready_since) == times
        assert read == gang.watched.step.mirror.known["uid-1"]
    gang.look(**{**on, "active": 0}, finished=WorkloadState.FINISHED)
    with transaction(ledger) as connection:
        assert len(housekeeping.archive(connection, term.number, after_seconds=-60)) == 1
    assert row(ledger, "archived_run")["ready_at"] == before[1]


@pytest.mark.parametrize("limit", [0, 1])
def test_who_is_released_while_it_still_runs_is_not_held_and_is_counted_anew(
    ledger: Engine, term: Term, observer: Build, limit: int
) -> None:
    gang = Gang(term, observer())
    gang.watched.step.context.configuration = replace(
        gang.watched.step.context.configuration, classes={"slow": Class("slow", requeue_limit=limit)}
    )
    gang.look(class_name="slow")
    for _ in range(limit):
        gang.put_out(gang.admit())
    stamp = gang.admit()
    gang.look(stamp=stamp, suspended=False, active=2, resource_version="200")
    gang.look(stamp=stamp, suspended=False, active=2, released_by_owner=True, resource_version="201")
    gang.put_out(stamp, released_by_owner=True)
    answered = row(ledger, "workload")
    assert (answered["state"], answered["requeues"], answered["owner_suspended"]) == ("Pending", 1, False)
    assert answered["not_before"] == answered["requeued_at"] + timedelta(seconds=60)
    waits = gang.waits().workload
    assert (waits.state, waits.requeues, waits.not_before) == (WorkloadState.PENDING, 1, answered["not_before"])
    # The start took it off: whoever is not ready then, and has not been released anew, is held.
    gang.put_out(gang.admit())
    assert (row(ledger, "workload")["state"], row(ledger, "workload")["requeues"]) == ("Held", 2)


def test_who_was_not_ready_waits_for_a_while_as_if_it_were_new_and_is_held_in_the_end(
    ledger: Engine, term: Term, observer: Build
) -> None:
    gang = Gang(term, observer())
    gang.watched.step.context.configuration = replace(
        gang.watched.step.context.configuration, classes={"slow": Class("slow", requeue_limit=1)}
    )
    gang.look(class_name="slow")
    created = row(ledger, "workload")
    gang.put_out(gang.admit())
    first, run = row(ledger, "workload"), row(ledger, "run")
    assert (run["outcome"], run["message"]) == ("NotReady", "too late")
    assert (first["state"], first["requeues"], first["owner_suspended"]) == ("Pending", 1, False)
    assert (first["requeued_at"], first["created_at"]) == (run["closed_at"], created["created_at"])
    assert first["not_before"] == first["requeued_at"] + timedelta(seconds=60)
    waits = gang.waits().workload
    assert (waits.requeues, waits.not_before, waits.submitted[0]) == (1, first["not_before"], first["requeued_at"])

    gang.put_out(gang.admit())
    second = row(ledger, "workload")
    assert (second["state"], second["requeues"], second["owner_suspended"]) == ("Held", 2, True)
    assert second["not_before"] is None
    assert gang.waits().workload.state is WorkloadState.HELD
    gang.look(class_name="slow")
    assert row(ledger, "workload")["state"] == "Held", "it stays so, whatever is seen of it"

    gang.look(class_name="slow", released_by_owner=True)
    third = row(ledger, "workload")
    assert (third["state"], third["requeues"], third["not_before"], third["owner_suspended"]) == ("Pending", 0, None, False)
    assert third["requeued_at"] == second["requeued_at"], "it is no older for it"
    assert gang.waits().workload.requeues == 0
    gang.put_out(gang.admit())
    assert (row(ledger, "workload")["state"], row(ledger, "workload")["requeues"]) == ("Pending", 1)
    gang.look(class_name="slow")  # the annotation is gone
    gang.look(class_name="slow", released_by_owner=True)
    assert (row(ledger, "workload")["requeues"], row(ledger, "workload")["not_before"]) == (0, None), "also while it waits"
    assert gang.waits().workload.not_before is None
