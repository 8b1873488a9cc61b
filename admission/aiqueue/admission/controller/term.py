"""One term of leadership, as its holder sees it; and how to get one.

    standby --fit, lease of another ran out--> take over --> leading --renewed--> leading
       ^                                                       |
       +--- lost: another term, not renewed in time, unfit ----+

`trusted` is the only word that act goes by: it holds until `lease - margin` after the *start* of the last renewal that
succeeded, by the monotonic clock, so a slow answer never stretches it and a stopped process wakes up untrusted. The ledger
goes by its own word, the fence (`store.leadership`).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import psycopg
import structlog
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from aiqueue.admission.backoff import Backoff
from aiqueue.admission.controller import faults
from aiqueue.admission.controller.clock import LedgerClock
from aiqueue.admission.controller.watchdog import Step
from aiqueue.queue.database import end_sessions, open_database, transaction
from aiqueue.queue.errors import LedgerConflict, LedgerError, TermLost
from aiqueue.queue.store import leadership

_log = structlog.get_logger()
_ASK_MOST_SECONDS = 10.0  # between two tries while the ledger cannot be reached
_POOL_SIZE = 6
_UNFIT_SECONDS = 0.05  # between two looks whether this process may ask: what it lacks at its start is there within moments
_SOON_SECONDS = 0.02  # between the end of a lease and the next try to take it over
#: Why this process cannot lead now, as a sentence; None where it can. Asked often, so it must not block.
Unfit = Callable[[], str | None]
_STATEMENT_TIMEOUT_SECONDS = 10
_LOCK_TIMEOUT_SECONDS = 5
_NOT_RENEWED = "its lease was not renewed in time"


@contextmanager
def _transaction(database: Engine) -> Iterator[Connection]:
    """A transaction whose every failure is one of the ledger: a loop that goes on after those must not end by another.

    Raises:
        LedgerConflict: rows contradict one another.
        LedgerError: Postgres cannot be reached, ended the session, or refused.
    """
    try:
        with transaction(database) as connection:
            yield connection
    except IntegrityError as error:
        raise LedgerConflict(f"rows of the ledger are not as believed: {_first_line(error)}") from error
    except DBAPIError as error:
        raise LedgerError(f"the ledger refused or ended the session: {_first_line(error)}") from error
    except PoolTimeout as error:
        raise LedgerError("every session of this term is busy: see whether Postgres is overloaded") from error


def _first_line(error: DBAPIError) -> str:
    return str(error.orig).strip().partition("\n")[0]


class Term:
    """A term that this process holds. Every session that writes for it is registered, so that a successor can end it.

    Renewals have a session of their own: they must not wait until others are done with theirs. It is not registered, since a
    renewal that comes late finds the lease in other hands and changes nothing.
    """

    def __init__(
        self, number: int, url: str, *, holder: str, lease_seconds: float, clock: LedgerClock, attempt_started: float
    ) -> None:
        self.number = number
        self.clock = clock
        self.lost = threading.Event()
        self._lease_seconds = lease_seconds
        self._margin_seconds = lease_seconds / 4
        self._trusted_until = attempt_started + lease_seconds - self._margin_seconds
        # A renewal that takes longer than the lease is as good as none.
        self._lease = self._open(url, holder, 1, statement_timeout_seconds=lease_seconds / 2, patience_seconds=lease_seconds)
        self._database = self._open(url, holder, _POOL_SIZE)
        event.listen(self._database, "connect", self._register)
        self._renewals: threading.Thread | None = None
        self._given_up = False
        self._problem = ""

    def _open(
        self,
        url: str,
        holder: str,
        pool_size: int,
        *,
        statement_timeout_seconds: float = _STATEMENT_TIMEOUT_SECONDS,
        patience_seconds: float | None = None,
    ) -> Engine:
        return open_database(
            url,
            application_name=f"aiqueue-controller {holder} term {self.number}",
            pool_size=pool_size,
            statement_timeout_seconds=statement_timeout_seconds,
            idle_in_transaction_timeout_seconds=_STATEMENT_TIMEOUT_SECONDS,
            lock_timeout_seconds=_LOCK_TIMEOUT_SECONDS,
            patience_seconds=patience_seconds,
        )

    def _register(self, dbapi_connection: psycopg.Connection[Any], record: ConnectionPoolEntry) -> None:
        leadership.carry_clock(record.info, self.clock.asking)
        with dbapi_connection.transaction():
            dbapi_connection.execute(leadership.REGISTER_SESSION, (self.number,))

    def trusted(self) -> bool:
        """Whether a request may still be sent to the cluster in the name of this term."""
        return not self.lost.is_set() and time.monotonic() < self._trusted_until

    def problem(self) -> str | None:
        """Why this term is not good for anything any more, as a sentence."""
        if self.trusted():
            return None
        return f"nothing is started in the name of term {self.number}: {self._problem or _NOT_RENEWED}"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction on a session of this term. The caller fences it.

        Raises:
            TermLost: found while writing; the term is marked lost.
            LedgerConflict: rows contradict one another.
            LedgerError: Postgres cannot be reached, ended the session, or refused.
        """
        try:
            with _transaction(self._database) as connection:
                yield connection
        except TermLost:
            self.lost.set()
            raise

    def start_renewing(self, unfit: Unfit = lambda: None) -> None:
        """Renew in the background until the term is lost or closed, or the process is unfit to lead: then another may."""
        self._renewals = threading.Thread(target=self._renew, args=(unfit,), name=f"renew-{self.number}", daemon=True)
        self._renewals.start()

    def _renew(self, unfit: Unfit) -> None:
        try:
            self._keep_renewing(unfit)
        finally:
            self.lost.set()  # whatever ended it: nobody leads without renewing

    def _keep_renewing(self, unfit: Unfit) -> None:
        pause = self._lease_seconds / 4
        while not self.lost.wait(pause * random.uniform(0.8, 1.0)):
            why = unfit()
            if why is not None:
                _log.warning("term given up, another may be able to lead", term=self.number, why=why)
                self._given_up = True
                return
            started = time.monotonic()
            try:
                with Step("renews the term"):
                    faults.reach("lead.before-renew")
                    time_of = self.clock.asking()
                    with _transaction(self._lease) as connection:
                        now = leadership.renew(connection, self.number, self._lease_seconds, self.clock.now())
                    faults.reach("lead.after-renew")
            except TermLost as error:
                self._problem = str(error)
                return
            except LedgerError as error:
                self._problem = f"{_NOT_RENEWED}, {error}"
                _log.warning("term not renewed", term=self.number, error=str(error))
            else:
                self._trusted_until = started + self._lease_seconds - self._margin_seconds
                self._problem = ""
                time_of(now)
            if time.monotonic() > self._trusted_until:
                _log.error("term is trusted no more", term=self.number)
                self.lost.set()

    def forget_sessions(self) -> None:
        """End every session of this term on the server and start with new ones: nothing of before can still be committed.

        Raises:
            TermLost: the term is over.
            LedgerError: Postgres cannot be reached.
        """
        end_sessions(self._database, anew=True)
        with self.transaction() as connection:
            leadership.fence(connection, self.number)
            leadership.end_sessions(connection, self.number)

    def close(self) -> None:
        """Give the lease up, if it is still ours, and close the sessions."""
        was_ours = self.trusted() or self._given_up
        self.lost.set()
        if self._renewals is not None:
            self._renewals.join(timeout=self._lease_seconds)
        if was_ours:
            try:
                with Step("gives the term up"):
                    faults.reach("lead.before-resign")
                    with _transaction(self._lease) as connection:
                        leadership.resign(connection, self.number)
            except LedgerError as error:
                _log.warning("lease not given up, a standby waits for it to run out", error=str(error))
        for database in (self._lease, self._database):
            end_sessions(database)  # a renewal or an action may be late


class Elector:
    """Waits for leadership. `holder` names this process in the ledger."""

    def __init__(self, url: str, holder: str, lease_seconds: float) -> None:
        self._url = url
        self._holder = holder
        self._lease_seconds = lease_seconds
        self._clock: LedgerClock | None = None
        self._database = open_database(
            url,
            application_name=f"aiqueue-controller {holder} standby",
            pool_size=1,
            statement_timeout_seconds=lease_seconds,
            patience_seconds=lease_seconds + 1,
        )
        self.last_error: str | None = None

    def campaign(self, stop: threading.Event, unfit: Unfit = lambda: None) -> Term | None:
        """Wait until this process leads, or until `stop`. Backs off with jitter while the ledger cannot be reached.

        Nothing is asked for while `unfit` says why not.
        """
        backoff = Backoff(random.Random(), longest_seconds=_ASK_MOST_SECONDS)
        while not stop.is_set():
            pause = self._lease_seconds / 8 * random.uniform(0.5, 1.0)
            if unfit() is not None:
                pause = min(pause, _UNFIT_SECONDS)
            else:
                try:
                    with Step("asks for leadership"):
                        term, left = self._try()
                    if term is not None:
                        return term
                    self.last_error = None
                    backoff.reset()
                    if left > 0:  # a lease that is about to run out is not waited for any longer than it lasts
                        pause = min(pause, left + random.uniform(0.0, _SOON_SECONDS))
                except LedgerError as error:
                    self.last_error = str(error)
                    _log.warning("leadership cannot be asked for", error=str(error))
                    pause = backoff.failed()
            stop.wait(pause)
        return None

    def _try(self) -> tuple[Term | None, float]:
        """The term where it was to be had, and for how many seconds more it is not."""
        started = time.monotonic()
        faults.reach("lead.before-take-over")
        with _transaction(self._database) as connection:
            known = None if self._clock is None else self._clock.now()
            number = leadership.take_over(connection, self._holder, self._lease_seconds, known)
            asked = time.monotonic()
            leader = leadership.current(connection)
        if self._clock is None:
            self._clock = LedgerClock(leader.now if leader.expired or number is not None else self._time_of(leader))
        clock = self._clock
        clock.sample(leader.now, asked)
        clock.at_least(leader.renewed_at)
        if number is None:
            return None, (leader.expires_at - leader.now).total_seconds()
        self.last_error = None
        faults.reach("lead.after-take-over")
        self._database.dispose()
        lease = self._lease_seconds
        return Term(number, self._url, holder=self._holder, lease_seconds=lease, clock=clock, attempt_started=started), 0.0

    def _time_of(self, leader: leadership.Leader) -> datetime:
        """The ledger's time by the word of who leads: the database's clock may have been stepped forward before this process began."""
        age_seconds = self._lease_seconds - (leader.expires_at - leader.now).total_seconds()
        return min(leader.now, leader.renewed_at + timedelta(seconds=max(0.0, age_seconds)))

    def close(self) -> None:
        """Close the standby session."""
        self._database.dispose()
