"""What the last run of a Job found in it and wrote into it, read back from a real ledger."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine

from aiqueue.queue.database import transaction
from aiqueue.queue.store import configuration, observing, plans, written
from aiqueue.queue.store.changes import AdoptedRun, Changes, ClosedRun, NewWorkload, StartedRun
from aiqueue.queue.store.plans import AdmissionRow, PlanRows
from aiqueue.queue.store.written import Written
from aiqueue.queue.words import RunOutcome, WorkloadState
from fix_follow import make_seen
from fix_terms import take_over

pytestmark = pytest.mark.integration


@pytest.fixture
def writer(controller_ledger: Engine) -> Engine:
    """The ledger under term 1, with workload 1 pending."""
    assert take_over(controller_ledger) == 1
    write(controller_ledger, Changes(new=[NewWorkload(make_seen(uid="uid-1", name="job-1"))]))
    return controller_ledger


def write(writer: Engine, changes: Changes) -> None:
    with transaction(writer) as connection:
        observing.write(connection, 1, 1, changes)


def admit(writer: Engine, attempt: int, size: int) -> int:
    """Admit it at a size; returns the run."""
    original = {"main": {"nodeSelector": {}, "tolerations": [], "parallelism": 8}}
    injected = {"main": {"nodeSelector": {"pool": "h100"}, "tolerations": [], "parallelism": size}}
    row = AdmissionRow(1, attempt, "research", "team-a", "train", "7", (), original, injected)
    with transaction(writer) as connection:
        rows = PlanRows(attempt, configuration.revision(connection), datetime(2026, 1, 2, tzinfo=UTC), admissions=[row])
        (run_id,) = plans.commit(connection, 1, 1, rows).run_ids
    return run_id


def close(writer: Engine, run_id: int) -> None:
    write(writer, Changes(closed=[ClosedRun(run_id, 1, RunOutcome.DRAINED, "", WorkloadState.PENDING)]))


def last(writer: Engine, uid: str = "uid-1") -> Written | None:
    with transaction(writer) as connection:
        return written.last(connection, 1, [uid]).get(uid)


def size(found: Written | None) -> tuple[int, int]:
    assert found is not None
    return found.original["main"]["parallelism"], found.injected["main"]["parallelism"]


def test_it_is_that_of_the_last_run_open_or_closed(writer: Engine) -> None:
    assert last(writer) is None
    first = admit(writer, 1, 3)
    assert size(last(writer)) == (8, 3)
    close(writer, first)
    assert size(last(writer)) == (8, 3)
    admit(writer, 2, 5)
    assert size(last(writer)) == (8, 5)
    assert last(writer, "uid-2") is None


def adopt(writer: Engine, stamped_by: int | None) -> None:
    adopted = AdoptedRun("uid-1", "research", "team-a", "train", (), "it ran before", stamped_by)
    write(writer, Changes(adopted=[adopted]))


def test_a_run_that_was_adopted_without_a_stamp_wrote_nothing(writer: Engine) -> None:
    close(writer, admit(writer, 1, 3))
    adopt(writer, None)
    assert last(writer) is None


def test_a_run_that_was_adopted_with_a_stamp_has_what_that_run_wrote_to_put_back(writer: Engine) -> None:
    first = admit(writer, 1, 3)
    close(writer, first)
    adopt(writer, first)
    assert size(last(writer)) == (8, 3)


def test_a_stamp_of_a_run_of_another_job_says_nothing(writer: Engine) -> None:
    write(writer, Changes(new=[NewWorkload(make_seen(uid="uid-2", name="job-2"))]))
    close(writer, admit(writer, 1, 3))
    write(writer, Changes(adopted=[AdoptedRun("uid-2", "research", "team-a", "train", (), "it ran before", 1)]))
    assert last(writer, "uid-2") is None


def test_what_is_put_back_may_be_corrected_until_the_run_has_started(writer: Engine) -> None:
    first = admit(writer, 1, 3)
    with transaction(writer) as connection:
        written.correct(connection, first, {"main": {"nodeSelector": {}, "tolerations": [], "parallelism": 7}})
    assert size(last(writer)) == (7, 3)
    write(writer, Changes(started=[StartedRun(first)]))
    with transaction(writer) as connection:
        written.correct(connection, first, {"main": {"nodeSelector": {}, "tolerations": [], "parallelism": 6}})
    assert size(last(writer)) == (7, 3)
