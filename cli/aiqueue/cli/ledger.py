"""The ledger as a command sees it: opened from the environment, its failures turned into sentences."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aiqueue.cli.exits import InvalidSettings, settings_error
from aiqueue.queue.errors import AiqueueError, InvalidInput, LedgerError, SchemaMismatch

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Engine
    from sqlalchemy.exc import DBAPIError

    from aiqueue.queue.settings import Settings

UPGRADE_TIMEOUT_SECONDS = 600
_SCHEMA_ERRORS = frozenset({"42P01", "42703"})  # no such table, no such column
_NOT_ALLOWED = "42501"


class NotAllowed(AiqueueError):
    """The login has no right to do this."""


def settings() -> Settings:
    """Settings of this process.

    Raises:
        InvalidSettings: a variable is wrong.
    """
    from pydantic import ValidationError

    from aiqueue.queue.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        raise settings_error(error) from None


def open_ledger(*, timeout_seconds: float = 30, repairing: bool = False) -> Engine:
    """The database that AIQUEUE_DATABASE_URL names. Nothing connects yet.

    Args:
        timeout_seconds: that a statement may take.
        repairing: with the login of AIQUEUE_REPAIR_DATABASE_URL, where that is set.

    Raises:
        InvalidSettings: the variable is not set.
        InvalidInput: it is not the URL of a Postgres database.
    """
    from aiqueue.queue.database import open_database

    variable, url = login(repairing=repairing)
    if not url:
        raise InvalidSettings(
            "AIQUEUE_DATABASE_URL is not set: export AIQUEUE_DATABASE_URL=postgresql://user@host:5432/database,"
            ' or eval "$(aiqueue dev env)" for the development environment'
        )
    try:
        return open_database(
            url,
            application_name="aiqueue-cli",
            pool_size=1,
            statement_timeout_seconds=timeout_seconds,
            idle_in_transaction_timeout_seconds=timeout_seconds,
        )
    except InvalidInput as error:
        raise InvalidInput(variable, error.value, error.fix) from None
    except ValueError:  # a port that is no number; the text may hold part of a password
        raise InvalidInput(variable, "(not shown)", "write postgresql://user@host:port/database") from None


def login(*, repairing: bool = False) -> tuple[str, str]:
    """The variable that names the ledger, and its value, which may hold a password; "" where it is not set."""
    settled = settings()
    repair = settled.repair_database_url.get_secret_value()
    if repairing and repair:
        return "AIQUEUE_REPAIR_DATABASE_URL", repair
    return "AIQUEUE_DATABASE_URL", settled.database_url.get_secret_value()


@contextmanager
def reading(*, repairing: bool = False) -> Iterator[Connection]:
    """A read-only transaction that sees one instant of the ledger; `repairing` as for `open_ledger`."""
    with _transaction(open_ledger(repairing=repairing), isolation_level="REPEATABLE READ") as connection:
        yield connection


@contextmanager
def writing(*, timeout_seconds: float = 30, keep: bool = True) -> Iterator[Connection]:
    """A transaction that is committed when the block ends; rolled back when it raises, or if nothing is to be kept."""
    with _transaction(open_ledger(timeout_seconds=timeout_seconds)) as connection:
        yield connection
        if not keep:
            connection.rollback()


@contextmanager
def migrating(*, timeout_seconds: float) -> Iterator[Engine]:
    """The database, for transactions of the caller's."""
    with _sentences(open_ledger(timeout_seconds=timeout_seconds)) as database:
        yield database


@contextmanager
def _transaction(database: Engine, isolation_level: str | None = None) -> Iterator[Connection]:
    from aiqueue.queue.database import transaction

    with (
        _sentences(database.execution_options(isolation_level=isolation_level) if isolation_level else database) as told,
        transaction(told) as opened,
    ):
        yield opened


@contextmanager
def _sentences(database: Engine) -> Iterator[Engine]:
    """Failures of the database are sentences; it is closed when the block ends."""
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    try:
        yield database
    except DBAPIError as error:
        raise _sentence(error) from error
    except PoolTimeout as error:
        raise LedgerError("the ledger does not answer: see whether Postgres is overloaded") from error
    finally:
        database.dispose()


def _sentence(error: DBAPIError) -> AiqueueError:
    state = getattr(error.orig, "sqlstate", None)
    text = str(error.orig).strip().partition("\n")[0]
    if state in _SCHEMA_ERRORS:
        return SchemaMismatch(f"the database does not hold the ledger of this program ({text}): see `aiqueue db check`")
    if state == _NOT_ALLOWED:
        return NotAllowed(
            f"this login may not do that ({text}): use one that is a member of aiqueue_admin to change things,"
            " or of aiqueue_reader to look"
        )
    return LedgerError(f"the ledger refused: {text}")


def now_of(connection: Connection) -> datetime:
    """The ledger's clock."""
    from sqlalchemy import text

    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def claimed_by() -> str:
    """Who runs this command, as far as the operating system knows: a claim, kept in the audit beside the database's login."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"  # a container whose user has no name
