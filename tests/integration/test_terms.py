"""A term and its sessions on a real ledger: what ends them, and what their failures are called."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine, event, text

from aiqueue.admission.controller.clock import LedgerClock
from aiqueue.admission.controller.term import Elector, Term
from aiqueue.cli.harness import product
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.database import allow_seconds, end_sessions, open_database, transaction
from aiqueue.queue.errors import LedgerConflict, LedgerError, TermLost
from aiqueue.queue.patience import Patient
from aiqueue.queue.store import leadership, observing
from aiqueue.queue.store.changes import Changes, NewWorkload
from fix_follow import make_seen
from fix_terms import expire, take_over

pytestmark = pytest.mark.integration

WAIT_SECONDS = 60.0
LEASE_SECONDS = 3.0
INSERT_PLAN = "INSERT INTO plan (term, seq, config_revision, admissions, evictions, decided_at) VALUES (1, 1, 1, 0, 0, 'epoch')"


def renewed_at(owner: Engine) -> datetime:
    with transaction(owner) as connection:
        at: datetime = connection.execute(text("SELECT renewed_at FROM leader_lease")).scalar_one()
        return at


def sessions(owner: Engine, name: str) -> int:
    with transaction(owner) as connection:
        return int(
            connection.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE :name"
                ),
                {"name": f"%{name}%"},
            ).scalar_one()
        )


def test_every_session_that_writes_for_a_term_is_registered(ledger: Engine, term: Term) -> None:
    with ExitStack() as stack:
        pids = {stack.enter_context(term.transaction()).execute(text("SELECT pg_backend_pid()")).scalar_one() for _ in range(3)}
    with transaction(ledger) as connection:
        assert set(connection.execute(text("SELECT pid FROM leader_backend WHERE term = 1")).scalars()) >= pids


def test_a_term_found_over_is_marked_lost(ledger: Engine, controller_ledger: Engine, term: Term) -> None:
    expire(ledger)
    take_over(controller_ledger, "two")
    assert term.trusted()
    # Its idle sessions were ended too: the first failure says so, the next attempt finds the truth.
    for _ in range(8):
        try:
            with term.transaction() as connection:
                leadership.fence(connection, term.number)
        except TermLost:
            break
        except LedgerError:
            continue
    assert term.lost.is_set()
    assert not term.trusted()


def test_a_renewed_term_stays_trusted_and_moves_the_clock(
    ledger: Engine, controller_ledger: Engine, controller_url: str
) -> None:
    take_over(controller_ledger, lease_seconds=LEASE_SECONDS)
    first = renewed_at(ledger)
    clock, now = LedgerClock(first), time.monotonic()
    held = Term(1, controller_url, holder="one", lease_seconds=LEASE_SECONDS, clock=clock, attempt_started=now)
    held.start_renewing()
    until(
        lambda: (renewed_at(ledger) - first).total_seconds() > LEASE_SECONDS,
        seconds=WAIT_SECONDS,
        what="the lease to be renewed",
    )
    assert held.trusted()
    assert abs((held.clock.now() - renewed_at(ledger)).total_seconds()) < LEASE_SECONDS
    held.close()


def test_a_term_is_renewed_though_all_its_sessions_are_busy(
    ledger: Engine, controller_ledger: Engine, controller_url: str
) -> None:
    take_over(controller_ledger, lease_seconds=LEASE_SECONDS)
    first = renewed_at(ledger)
    clock, now = LedgerClock(first), time.monotonic()
    held = Term(1, controller_url, holder="one", lease_seconds=LEASE_SECONDS, clock=clock, attempt_started=now)
    with ExitStack() as stack:
        for _ in range(6):
            leadership.fence(stack.enter_context(held.transaction()), 1)
        held.start_renewing()
        until(
            lambda: (renewed_at(ledger) - first).total_seconds() > LEASE_SECONDS,
            seconds=WAIT_SECONDS,
            what="the lease to be renewed",
        )
        assert held.trusted()
    held.close()


def test_a_successor_finds_a_closed_term_free(controller_ledger: Engine, term: Term) -> None:
    assert take_over(controller_ledger, "two") is None
    term.close()
    assert take_over(controller_ledger, "two") == term.number + 1


def test_what_was_begun_before_a_doubt_can_no_longer_be_committed(ledger: Engine, term: Term) -> None:
    def write() -> None:
        with term.transaction() as connection:
            observing.write(connection, term.number, 1, Changes(new=[NewWorkload(make_seen())]))
            forgetting = threading.Thread(target=term.forget_sessions)
            forgetting.start()
            forgetting.join(WAIT_SECONDS)

    with pytest.raises(LedgerError):
        write()
    with transaction(ledger) as connection:
        assert connection.execute(text("SELECT count(*) FROM workload")).scalar_one() == 0
    with term.transaction() as connection:
        leadership.fence(connection, term.number)


@pytest.mark.parametrize("ends", [Term.close, Term.forget_sessions])
def test_a_session_that_is_in_use_when_its_pool_ends_is_closed_when_it_is_given_back(
    ledger: Engine, term: Term, ends: Callable[[Term], None]
) -> None:
    with suppress(LedgerError), term.transaction() as connection:  # a doubt ends it on the server, too
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        session = connection.connection.dbapi_connection
        ends(term)
    assert isinstance(session, Patient)
    assert session.closed
    until(lambda: not lives(ledger, pid), seconds=WAIT_SECONDS, what="the server to notice")


def test_who_is_late_leaves_no_session_of_a_closed_term(ledger: Engine, term: Term) -> None:
    term.close()
    with term.transaction() as connection:
        pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    until(lambda: not lives(ledger, pid), seconds=WAIT_SECONDS, what="the session to be closed")


def test_a_session_that_comes_back_just_as_its_pool_ends_is_closed(
    controller_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool was not ended when it was asked for the last time whether it is."""
    database = open_database(controller_url, application_name="aiqueue-test ended", pool_size=2)
    inside = vars(database.pool)["_pool"]
    put = inside.put

    def late(*given: object) -> None:
        monkeypatch.undo()
        end_sessions(database)
        put(*given)

    monkeypatch.setattr(inside, "put", late)
    with transaction(database) as connection:
        session = connection.connection.dbapi_connection
    assert isinstance(session, Patient)
    assert session.closed


@pytest.mark.parametrize("anew", [False, True])
def test_a_session_on_its_way_back_while_its_pool_ends_is_closed(controller_url: str, *, anew: bool) -> None:
    database = open_database(controller_url, application_name="aiqueue-test ended", pool_size=2)

    def end(*_: object) -> None:
        end_sessions(database, anew=anew)

    pool = database.pool
    event.listen(pool, "checkin", end, once=True)  # after which the pool puts it back
    with transaction(database) as connection:
        session = connection.connection.dbapi_connection
    assert isinstance(session, Patient)
    assert session.closed
    with transaction(database) as connection:
        again = connection.connection.dbapi_connection
    assert isinstance(again, Patient)
    assert again.closed is not anew
    end_sessions(database)
    assert again.closed


@pytest.mark.parametrize("anew", [False, True])
def test_who_waits_for_a_session_of_a_pool_that_ends_gets_his_turn(controller_url: str, *, anew: bool) -> None:
    """And leaves no session there either."""
    database = open_database(controller_url, application_name="aiqueue-test ended", pool_size=1)
    waiting = vars(database.pool)["_pool"].not_empty

    def late() -> object:
        with transaction(database) as connection:
            return connection.connection.dbapi_connection

    with ThreadPoolExecutor(3) as crowd:
        with transaction(database):
            found = [crowd.submit(late) for _ in range(3)]
            until(lambda: len(waiting._waiters) == 3, seconds=WAIT_SECONDS, what="the others to wait")
            end_sessions(database, anew=anew)
        sessions = [each.result() for each in found]  # one whose time was up fails
    assert all(isinstance(each, Patient) and each.closed for each in sessions)
    end_sessions(database)


def test_rows_that_contradict_one_another_are_a_conflict(term: Term) -> None:
    with term.transaction() as connection:
        connection.execute(text(INSERT_PLAN))
    with pytest.raises(LedgerConflict, match="not as believed"), term.transaction() as connection:
        connection.execute(text(INSERT_PLAN))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM audit",  # not among its rights
        "SET TRANSACTION READ ONLY; UPDATE leader_lease SET term = term",  # what a replica answers after a fail-over
        "SELECT 1 / 0",
        "SET LOCAL statement_timeout = '10ms'; SELECT pg_sleep(20)",
    ],
)
def test_whatever_the_ledger_refuses_is_an_error_of_the_ledger(term: Term, statement: str) -> None:
    def ask() -> None:
        with term.transaction() as connection:
            for each in statement.split(";"):
                connection.execute(text(each))

    with pytest.raises(LedgerError):
        ask()
    with term.transaction() as connection:
        leadership.fence(connection, term.number)


def test_a_session_ended_for_idling_is_an_error_of_the_ledger(ledger: Engine, term: Term) -> None:
    def idle() -> None:
        with term.transaction() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '20ms'"))
            until(lambda: not lives(ledger, pid), seconds=WAIT_SECONDS, what="the session to be ended")
            connection.execute(text("SELECT 1"))

    with pytest.raises(LedgerError):
        idle()


def lives(owner: Engine, pid: int) -> bool:
    with transaction(owner) as connection:
        found = connection.execute(text("SELECT 1 FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid})
        return found.one_or_none() is not None


def test_a_pool_that_is_used_up_is_an_error_of_the_ledger(term: Term, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(term._database.pool, "_timeout", 0.01)
    with ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(term.transaction())
        with pytest.raises(LedgerError, match="busy"):
            stack.enter_context(term.transaction())


def test_an_elector_takes_over_when_the_lease_runs_out_and_leaves_no_session_behind(
    ledger: Engine, controller_ledger: Engine, controller_url: str
) -> None:
    started = time.monotonic()
    take_over(controller_ledger, "one", lease_seconds=1.0)
    elector = Elector(controller_url, "two", lease_seconds=1.0)
    term = elector.campaign(threading.Event())
    assert term is not None
    assert term.number == 2
    assert 0.9 < time.monotonic() - started < WAIT_SECONDS
    assert term._trusted_until <= time.monotonic() + 0.75
    term.close()
    elector.close()
    # The server notices a moment later.
    until(lambda: sessions(ledger, "aiqueue-controller two") == 0, seconds=WAIT_SECONDS, what="its sessions to be gone")


def test_who_begins_to_stand_by_after_a_step_of_the_clock_goes_by_the_time_of_who_leads(
    ledger: Engine, controller_ledger: Engine, controller_url: str
) -> None:
    take_over(controller_ledger, "one")
    with transaction(ledger) as connection:  # as who leads leaves it while he makes up for a step forward of an hour
        connection.execute(text("UPDATE leader_lease SET renewed_at = renewed_at - interval '1 hour'"))
        stepped = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    elector = Elector(controller_url, "two", lease_seconds=1.0)
    with ThreadPoolExecutor(1) as candidate:
        campaign = candidate.submit(elector.campaign, threading.Event())
        until(lambda: elector._clock, seconds=WAIT_SECONDS, what="it to have seen who leads")
        expire(ledger)
        term = campaign.result(WAIT_SECONDS)
    assert term is not None
    with term.transaction() as connection:
        now = leadership.fence(connection, term.number)
    assert timedelta(minutes=59) < stepped - now <= timedelta(hours=1)
    assert renewed_at(ledger) <= now
    term.close()
    elector.close()


def test_an_elector_without_the_rights_says_so_and_goes_on(ledger_url: str) -> None:
    elector = Elector(product.login(ledger_url, "reader"), "two", lease_seconds=1.0)
    stop = threading.Event()
    thread = threading.Thread(target=elector.campaign, args=(stop,))
    thread.start()
    until(lambda: elector.last_error, seconds=WAIT_SECONDS, what="the elector to complain")
    assert "permission denied" in (elector.last_error or "")
    assert thread.is_alive()
    stop.set()
    thread.join(WAIT_SECONDS)
    elector.close()


def test_a_long_read_is_allowed_for_its_transaction_alone(term: Term) -> None:
    def limits() -> set[str]:
        names = ("statement_timeout", "idle_in_transaction_session_timeout")
        return {str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in names}

    with term.transaction() as connection:
        assert limits() == {"10s"}
        allow_seconds(connection, 120)
        assert limits() == {"2min"}
    with term.transaction() as connection:
        assert limits() == {"10s"}
