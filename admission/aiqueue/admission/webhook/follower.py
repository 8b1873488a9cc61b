"""Keeps the configuration in memory as new as the ledger's: one thread that asks, and that anybody may hurry.

    waiting --half a second, NOTIFY, or a caller of read_through--> reading --> waiting
                                                                       `--fails--> waiting, with back-off

A read asks for the revision and loads everything if it moved, in either direction: a restored ledger may be older. After a
failure, and once a minute, it loads everything whatever the revision says.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
import structlog
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from aiqueue.admission.backoff import Backoff
from aiqueue.admission.engine import Door
from aiqueue.admission.notify import Listener
from aiqueue.admission.webhook.judge import Known
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.errors import AiqueueError, LedgerError, SchemaMismatch
from aiqueue.queue.records import Configuration
from aiqueue.queue.store import configuration

_log = structlog.get_logger()
_POLL_SECONDS = 0.5
#: Everything is loaded anew after this long, so that a ledger restored to the same revision is followed too.
_WHOLE_SECONDS = 60.0
#: A revision is one row: a server that takes longer hangs, and its session is cut from our side.
_REVISION_SECONDS = 1.0
_LOAD_SECONDS = 10.0
#: How long read_through waits, connecting included: half of what the API server allows.
READ_THROUGH_SECONDS = 1.0
#: Callers that wait at once; the next one is told at once that the ledger is busy.
MOST_WAITING = 48
_LONGEST_PAUSE_SECONDS = 5.0
#: Callers hurry a back-off, but no more often than this.
_SHORTEST_PAUSE_SECONDS = 0.2
_POOL = 2
_SCHEMA_ERRORS = frozenset({"42P01", "42703"})  # no such table, no such column
_NOT_ALLOWED = "42501"


class ConfigurationFollower:
    """The configuration as the webhook knows it. Threads may ask at will.

    `start` it once; `stop` ends it for good.
    """

    def __init__(self, url: str) -> None:
        database = open_database(
            url,
            application_name="aiqueue-webhook",
            pool_size=_POOL,
            statement_timeout_seconds=_LOAD_SECONDS,
            idle_in_transaction_timeout_seconds=_LOAD_SECONDS,
        )
        event.listen(database, "connect", _read_only)
        # Every read is one statement, so BEGIN and COMMIT would only add round trips.
        self._database: Engine = database.execution_options(isolation_level="AUTOCOMMIT")
        self._listener = Listener(url, self._hurry, application_name="aiqueue-webhook listen")
        self._thread = threading.Thread(target=self._follow, name="follow", daemon=True)
        self._backoff = Backoff(random.Random(), longest_seconds=_LONGEST_PAUSE_SECONDS)
        self._changed = threading.Condition()
        # All of the below under that condition.
        self._stopping = False
        self._hurried = False
        self._waiting = 0
        # Reads are numbered: the latest begun, the latest ended, and the latest that somebody waits for.
        self._begun = 0
        self._ended = 0
        self._wanted = 0
        self._failure: LedgerError | None = None
        self._loaded: tuple[Configuration, Door] | None = None
        self._confirmed_at = 0.0
        self._loaded_at = 0.0

    def start(self) -> None:
        """Begin to follow; returns at once."""
        self._thread.start()
        self._listener.start()

    def stop(self) -> None:
        """Stop following."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._listener.stop()
        self._thread.join(timeout=READ_THROUGH_SECONDS)
        self._database.dispose()

    @property
    def lives(self) -> bool:
        """Whether the thread runs: it never ends by itself."""
        return self._thread.is_alive()

    @property
    def last_error(self) -> str:
        """Why the latest read failed, as a sentence; empty if it did not."""
        with self._changed:
            return "" if self._failure is None else str(self._failure)

    def current(self) -> Known | None:
        """What is in memory; None as long as nothing was ever loaded. Never waits for the ledger."""
        with self._changed:
            return self._known()

    def read_through(self) -> Known:
        """What the ledger holds now: waits for a read that begins after this call, and that others may share.

        Raises:
            LedgerError: Postgres does not answer in `READ_THROUGH_SECONDS`, or too many wait for it already.
        """
        deadline = time.monotonic() + READ_THROUGH_SECONDS
        with self._changed:
            if self._waiting >= MOST_WAITING:
                raise LedgerError(f"{self._waiting} others wait for the ledger already")
            self._wanted = wanted = self._begun + 1
            self._waiting += 1
            try:
                self._changed.notify_all()
                while self._ended < wanted:
                    if not self._changed.wait(deadline - time.monotonic()):
                        raise LedgerError(f"the ledger did not answer within {READ_THROUGH_SECONDS:g} s")
            finally:
                self._waiting -= 1
            known = self._known()
            if self._failure is not None or known is None:
                raise LedgerError(str(self._failure or "the ledger was not read yet"))
            return known

    def _known(self) -> Known | None:
        if self._loaded is None:
            return None
        administered, door = self._loaded
        return Known(administered, door, time.monotonic() - self._confirmed_at)

    def _hurry(self) -> None:
        with self._changed:
            self._hurried = True
            self._changed.notify_all()

    def _follow(self) -> None:
        pause = 0.0
        while self._pause(pause):
            pause = self._read_once()

    def _pause(self, seconds: float) -> bool:
        """Wait, less long if somebody is in a hurry; whether to go on."""
        began = time.monotonic()
        with self._changed:
            while not self._stopping:
                shortest = 0.0 if self._failure is None else min(seconds, _SHORTEST_PAUSE_SECONDS)
                hurried = self._hurried or self._wanted > self._ended
                left = began + (shortest if hurried else seconds) - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._hurried = False
            return not self._stopping

    def _read_once(self) -> float:
        """Read, let those know who wait for it, and return how long to pause."""
        with self._changed:
            self._begun += 1
            # After a failure the ledger may be another one.
            whole = self._failure is not None or time.monotonic() - self._loaded_at > _WHOLE_SECONDS
            revision = None if self._loaded is None or whole else self._loaded[0].revision
        began = time.monotonic()
        failure: LedgerError | None = None
        found: tuple[Configuration, Door] | None = None
        try:
            found = self._read(revision)
        except AiqueueError as error:
            failure = error if isinstance(error, LedgerError) else LedgerError(str(error))
        except Exception as error:  # noqa: BLE001 -- the thread must outlive whatever a broken ledger makes of it
            _log.exception("configuration not readable")
            failure = LedgerError(f"the configuration in the ledger cannot be read: {type(error).__name__}: {error}")
        return self._settle(began, found, failure)

    def _settle(self, began: float, found: tuple[Configuration, Door] | None, failure: LedgerError | None) -> float:
        with self._changed:
            before, self._failure = self._failure, failure
            if failure is None:
                self._confirmed_at = began
                if found is not None:
                    self._loaded, self._loaded_at = found, began
            self._ended = self._begun
            self._changed.notify_all()
        if failure is not None:
            pause = self._backoff.failed()
            if before is None or str(before) != str(failure):
                _log.warning("ledger away", why=str(failure), again_in_seconds=round(pause, 1))
            return pause
        self._backoff.reset()
        if before is not None:
            _log.info("ledger back")
        if found is not None:
            _log.info("configuration loaded", revision=found[0].revision, seconds=round(time.monotonic() - began, 3))
        # Spread, so that replicas do not ask in step.
        return _POLL_SECONDS * random.uniform(0.8, 1.0)

    def _read(self, revision: int | None) -> tuple[Configuration, Door] | None:
        """The configuration if it is not of this revision.

        Raises:
            LedgerError: the ledger is away, of another version, or not to be read by this login.
        """
        try:
            with transaction(self._database) as connection:
                if revision is not None:
                    with _cut_after(connection, _REVISION_SECONDS):
                        if configuration.revision(connection) == revision:
                            return None
                with _cut_after(connection, _LOAD_SECONDS):
                    administered = configuration.load(connection)
        except PoolTimeout as error:
            raise LedgerError("no session of the ledger is free") from error
        except DBAPIError as error:
            raise _sentence(error) from error
        return administered, Door(administered)


def _read_only(driver: psycopg.Connection, _record: object) -> None:
    """Whatever the login may do, this process writes nothing."""
    driver.autocommit = True
    driver.execute("SET default_transaction_read_only = on")
    driver.autocommit = False


@contextmanager
def _cut_after(connection: Connection, seconds: float) -> Iterator[None]:
    """End the session from our side if the block takes longer: a server that hangs keeps no deadline of its own.

    Raises:
        LedgerError: it took longer.
    """
    driver = connection.connection.dbapi_connection
    assert isinstance(driver, psycopg.Connection)  # noqa: S101 -- just checked out
    fired = threading.Event()

    def cut() -> None:
        fired.set()
        with suppress(OSError):  # it ended by itself meanwhile
            session.shutdown(socket.SHUT_RDWR)

    # A descriptor of our own: that of the driver could be closed, and then be somebody else's, before the timer runs.
    with socket.socket(fileno=os.dup(driver.pgconn.socket)) as session:
        timer = threading.Timer(seconds, cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        except DBAPIError as error:
            if fired.is_set():
                raise LedgerError(f"the ledger did not answer within {seconds:g} s") from error
            raise
        finally:
            timer.cancel()


def _sentence(error: DBAPIError) -> LedgerError:
    state = getattr(error.orig, "sqlstate", None)
    text = str(error.orig).strip().partition("\n")[0]
    if state in _SCHEMA_ERRORS:
        return SchemaMismatch(f"the database does not hold the ledger of this program ({text}): see `aiqueue db check`")
    if state == _NOT_ALLOWED:
        return LedgerError(f"this login may not read the configuration ({text}): use one in the role aiqueue_webhook")
    return LedgerError(f"the ledger refused: {text}")
