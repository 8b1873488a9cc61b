"""Bring a ledger up beneath a controller that works.

A version that waits for the lock on a table makes everybody who comes later wait behind it. So each version has a transaction of its
own, in which it waits for a lock no longer than `schema.LOCK_TIMEOUT_SECONDS`; where that is not enough everything of it is taken back,
the others go on, and it is tried again, with growing pauses, for `PATIENCE_SECONDS`.

What takes long on a large table is done ahead of the version, outside of a transaction, in a way that keeps nobody waiting: a version
lists such statements in `AHEAD`, each of which may be run again. Indexes are built CONCURRENTLY there; one that was left invalid
by an attempt that was broken off is dropped first. The version itself then finds that they are there already.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial

from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from aiqueue.migrations.schema import LOCK_TIMEOUT_SECONDS, configuration, current_revision, require_known, upgrade
from aiqueue.queue.database import transaction
from aiqueue.queue.errors import LedgerError

#: How long a version is tried again while others keep what it needs locked.
PATIENCE_SECONDS = 300.0
_FIRST_PAUSE_SECONDS, _MOST_PAUSE_SECONDS = 0.2, 5.0
#: Somebody else keeps a lock, or waits for us.
_LOCKED = frozenset({"55P03", "40P01"})
_AHEAD_LOCK = 0x61697175657566  # beside that of `schema.upgrade`
_INVALID = text(
    "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
    " WHERE NOT i.indisvalid AND c.relnamespace = current_schema()::regnamespace"
)


def bring_up(
    database: Engine, *, say: Callable[[str], object] = lambda _: None, patience_seconds: float = PATIENCE_SECONDS
) -> tuple[str | None, str | None]:
    """Migrate to the newest version. Returns the revisions before and after; before is None for an empty database.

    Args:
        database: as its owner, with time enough for its statements to build indexes.
        say: is told what takes its time.
        patience_seconds: how long to try again while others keep tables locked.

    Raises:
        SchemaMismatch: it is at a revision that this program does not know; nothing was changed.
        LedgerError: it cannot be reached, or tables stay locked; versions that were done are kept, nothing of the next one.
        sqlalchemy.exc.DBAPIError: a version failed; nothing of it is kept.
    """
    deadline = time.monotonic() + patience_seconds
    with transaction(database) as connection:
        before = current_revision(connection)
    require_known(before)
    if before is None:
        _patiently(lambda: _upgrade(database, "head"), deadline, say)
    else:
        for revision, ahead in _pending(before):
            if ahead:
                _patiently(partial(_do_ahead, database, ahead, say), deadline, say)
            _patiently(partial(_upgrade, database, revision), deadline, say)
    with transaction(database) as connection:
        after = current_revision(connection)
    return before, after


def _pending(current: str) -> list[tuple[str, Sequence[str]]]:
    """Versions that come after this one, oldest first, with what is to be done ahead of each."""
    scripts = ScriptDirectory.from_config(configuration())
    newer = [(script.revision, getattr(script.module, "AHEAD", ())) for script in scripts.iterate_revisions("head", current)]
    return newer[::-1]


def _upgrade(database: Engine, revision: str) -> None:
    with transaction(database) as connection:
        upgrade(connection, revision)


def _do_ahead(database: Engine, statements: Sequence[str], say: Callable[[str], object]) -> None:
    with transaction(database.execution_options(isolation_level="AUTOCOMMIT")) as connection:
        # Asked for, not waited for: who waits in a statement keeps indexes from being finished.
        if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _AHEAD_LOCK}).scalar_one():
            raise _Busy("another upgrade is under way")
        try:
            invalid = set(connection.execute(_INVALID).scalars())
            for statement in statements:
                say(f"ahead of the migration: {statement}")
                _do(connection, statement, invalid)
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _AHEAD_LOCK})


def _do(connection: Connection, statement: str, invalid: set[str]) -> None:
    for index in invalid & set(statement.split()):
        connection.execute(text(f'DROP INDEX CONCURRENTLY IF EXISTS "{index}"'))
    # To build an index concurrently is to wait for others without keeping them waiting.
    limit = 0 if " CONCURRENTLY " in statement else LOCK_TIMEOUT_SECONDS
    connection.execute(text("SELECT set_config('lock_timeout', :limit, false)"), {"limit": f"{limit}s"})
    connection.execute(text(statement))


class _Busy(LedgerError):
    """Another upgrade is at work."""


def _patiently(attempt: Callable[[], None], deadline: float, say: Callable[[str], object]) -> None:
    """Try again while others are in the way."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            attempt()
        except LedgerError as error:
            state = getattr(getattr(error.__cause__, "orig", None), "sqlstate", None)
            if not isinstance(error, _Busy) and state not in _LOCKED:
                raise
            if time.monotonic() + pause > deadline:
                raise LedgerError(
                    "the ledger's tables are in use, or another upgrade is under way: nothing of the next version was kept."
                    " See pg_stat_activity for long transactions, let them end, and run `aiqueue db upgrade` again"
                ) from error
            say(f"trying again: {error}")
        else:
            return
        time.sleep(pause * random.uniform(0.5, 1.0))  # jitter guards no secret
        pause = min(2 * pause, _MOST_PAUSE_SECONDS)
