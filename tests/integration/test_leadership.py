"""Terms on a real ledger: one controller writes at a time, and whoever was overtaken writes nothing more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from aiqueue.cli.harness.waiting import until
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.errors import LedgerError, TermLost
from aiqueue.queue.store import actions, housekeeping, leadership, observing, plans
from aiqueue.queue.store.changes import Changes, NewWorkload
from aiqueue.queue.store.plans import PlanRows
from fix_follow import make_seen
from fix_terms import expire, take_over

pytestmark = pytest.mark.integration

WAIT_SECONDS = 60.0


@pytest.fixture
def successor(controller_url: str) -> Iterator[Engine]:
    """Another process with the same login. A statement of it that waits for a lock gives up soon."""
    database = open_database(
        controller_url, application_name="aiqueue-test-successor", pool_size=8, statement_timeout_seconds=5
    )
    yield database
    database.dispose()


@contextmanager
def session_of(database: Engine, term: int) -> Iterator[Connection]:
    """A session that is registered for a term; what is done in it is not committed."""
    with database.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute(leadership.REGISTER_SESSION, (term,))
        raw.commit()
        yield connection


def pid_of(connection: Connection) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def lives(owner: Engine, pid: int) -> bool:
    with transaction(owner) as connection:
        found = connection.execute(text("SELECT 1 FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid})
        return found.one_or_none() is not None


def count(owner: Engine, table: str) -> int:
    with transaction(owner) as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608 -- our own names


def leader(database: Engine) -> leadership.Leader:
    with transaction(database) as connection:
        return leadership.current(connection)


def test_the_login_has_the_role_of_a_controller_and_no_more(controller_ledger: Engine) -> None:
    with transaction(controller_ledger) as connection:
        row = connection.execute(
            text(
                "SELECT r.rolsuper, array_agg(g.rolname::text) FROM pg_roles r JOIN pg_auth_members m ON m.member = r.oid"
                " JOIN pg_roles g ON g.oid = m.roleid WHERE r.rolname = current_user GROUP BY 1"
            )
        ).one()
    assert row == (False, ["aiqueue_controller"])


def test_a_term_is_taken_over_only_when_its_lease_ran_out(ledger: Engine, controller_ledger: Engine, successor: Engine) -> None:
    assert leader(controller_ledger).term == 0
    assert take_over(controller_ledger, "one") == 1
    assert take_over(successor, "two") is None
    now = leader(successor)
    assert (now.term, now.holder, now.expired) == (1, "one", False)
    assert 50 < (now.expires_at - now.now).total_seconds() <= 60
    expire(ledger)
    assert leader(successor).expired
    assert take_over(successor, "two") == 2
    assert take_over(controller_ledger, "one") is None
    assert (leader(controller_ledger).term, leader(controller_ledger).holder) == (2, "two")
    assert count(ledger, "leader_backend") == 0


def test_a_renewed_lease_lasts(ledger: Engine, controller_ledger: Engine, successor: Engine) -> None:
    take_over(controller_ledger, "one", lease_seconds=1)
    expire(ledger)
    with transaction(controller_ledger) as connection:
        now = leadership.renew(connection, 1, 60)
    assert now.tzinfo is not None
    assert take_over(successor, "two") is None
    assert (leader(controller_ledger).expires_at - now).total_seconds() == pytest.approx(60, abs=1)


def test_a_resigned_term_may_be_taken_over_at_once_and_only_its_holder_resigns(
    controller_ledger: Engine, successor: Engine
) -> None:
    take_over(controller_ledger, "one")
    with transaction(controller_ledger) as connection:
        leadership.resign(connection, 1)
    assert take_over(successor, "two") == 2
    with transaction(controller_ledger) as connection:
        leadership.resign(connection, 1)
    assert not leader(successor).expired


@pytest.mark.parametrize("attempt", range(5))
def test_of_many_that_race_for_a_term_exactly_one_gets_it(ledger: Engine, successor: Engine, attempt: int) -> None:
    barrier, got = threading.Barrier(6), list[int | None]()

    def race(number: int) -> None:
        barrier.wait(WAIT_SECONDS)
        got.append(take_over(successor, f"racer-{attempt}-{number}"))

    threads = [threading.Thread(target=race, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert sorted(got, key=str) == [1, *[None] * 5]
    assert leader(ledger).term == 1


WRITES: dict[str, Callable[[Connection], Any]] = {
    "observation": lambda c: observing.write(c, 1, 1, Changes(new=[NewWorkload(make_seen())])),
    "nothing": lambda c: observing.write(c, 1, 1, Changes()),
    "Plan": lambda c: plans.commit(c, 1, 1, PlanRows(1, 1, datetime.now(UTC))),
    "archive": lambda c: housekeeping.archive(c, 1, 0),
    "old Plans": lambda c: housekeeping.forget_plans(c, 1),
    "a look before an unsuspend": lambda c: actions.may_still_start(c, 1, 1),
    "renewal": lambda c: leadership.renew(c, 1, 60),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_term_that_is_over_writes_nothing(ledger: Engine, controller_ledger: Engine, successor: Engine, write: str) -> None:
    take_over(controller_ledger, "one")
    expire(ledger)
    take_over(successor, "two")
    tables = ("workload", "plan", "run", "action", "audit")
    before = [count(ledger, table) for table in tables]
    with pytest.raises(TermLost, match="term 1 is over"), transaction(controller_ledger) as connection:
        WRITES[write](connection)
    assert [count(ledger, table) for table in tables] == before
    assert leader(ledger).holder == "two"


def test_a_session_that_holds_the_fence_is_ended_and_its_write_is_lost(
    ledger: Engine, controller_ledger: Engine, successor: Engine
) -> None:
    take_over(controller_ledger, "one")
    with session_of(controller_ledger, 1) as connection:
        observing.write(connection, 1, 1, Changes(new=[NewWorkload(make_seen())]))
        pid = pid_of(connection)
        expire(ledger)
        assert take_over(successor, "two") == 2
        assert not lives(ledger, pid)
        with pytest.raises(OperationalError):
            connection.commit()
    assert count(ledger, "workload") == 0


def test_a_session_that_nobody_registered_holds_a_take_over_off(
    ledger: Engine, controller_ledger: Engine, successor: Engine
) -> None:
    """The fence itself keeps the terms apart: ending sessions only makes it quick."""
    take_over(controller_ledger, "one")
    with controller_ledger.begin() as connection:
        leadership.fence(connection, 1)
        expire(ledger)
        with pytest.raises(LedgerError):
            take_over(successor, "two")
        assert leader(ledger).term == 1
    assert take_over(successor, "two") == 2


def test_a_fence_waits_for_a_take_over_under_way_and_then_finds_its_term_over(
    ledger: Engine, controller_ledger: Engine, successor: Engine
) -> None:
    take_over(controller_ledger, "one")
    expire(ledger)
    failures = list[BaseException]()

    def write() -> None:
        try:
            with transaction(controller_ledger) as connection:
                leadership.fence(connection, 1)
        except TermLost as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    with transaction(successor) as connection:
        assert leadership.take_over(connection, "two", 60) == 2
        writer.start()
        until(lambda: waiting_for_a_lock(ledger), seconds=WAIT_SECONDS, what="the fence to wait")
    writer.join(WAIT_SECONDS)
    assert [type(each) for each in failures] == [TermLost]


def waiting_for_a_lock(owner: Engine) -> bool:
    with transaction(owner) as connection:
        found = connection.execute(
            text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%FOR SHARE%'")
        )
        return found.first() is not None


def test_renewing_does_not_wait_for_a_long_write(controller_ledger: Engine, successor: Engine) -> None:
    take_over(controller_ledger, "one")
    with controller_ledger.connect() as connection:
        observing.write(connection, 1, 1, Changes(new=[NewWorkload(make_seen())]))
        with transaction(successor) as other:
            leadership.renew(other, 1, 60)
        connection.rollback()


def test_only_registered_sessions_of_older_terms_are_ended(
    ledger: Engine, controller_ledger: Engine, successor: Engine
) -> None:
    take_over(controller_ledger, "one")
    with (
        session_of(controller_ledger, 1) as old,
        session_of(controller_ledger, 5) as newer,
        controller_ledger.connect() as reused,
    ):
        pids = {name: pid_of(each) for name, each in (("old", old), ("newer", newer), ("reused", reused))}
        with transaction(ledger) as connection:  # the pid of a session that ended long ago, used again since
            connection.execute(
                text("INSERT INTO leader_backend VALUES (1, :pid, clock_timestamp() - interval '1 day')"),
                {"pid": pids["reused"]},
            )
        with session_of(successor, 1) as own:
            assert leadership.end_sessions(own, 1) == 1
            own.rollback()
        assert {name for name, pid in pids.items() if lives(ledger, pid)} == {"newer", "reused"}
        old.invalidate()
