"""Connections to the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError

from aiqueue.queue.errors import InvalidInput, LedgerError

CONNECT_TIMEOUT_SECONDS = 5


def open_database(
    url: str,
    *,
    application_name: str,
    pool_size: int = 4,
    statement_timeout_seconds: float = 30,
    idle_in_transaction_timeout_seconds: float = 30,
) -> Engine:
    """A pool of connections to the ledger. Nothing connects before the first use.

    Args:
        url: `postgresql://user@host/database`; the driver is always psycopg 3.
        application_name: shown in `pg_stat_activity`.
        pool_size: connections kept and at most opened.
        statement_timeout_seconds: the server ends a statement that takes longer.
        idle_in_transaction_timeout_seconds: the server ends a session that keeps a transaction open longer.

    Raises:
        InvalidInput: the URL is not one of Postgres. The URL is not repeated, since it may hold a password.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidInput("database URL", "(not shown)", "write postgresql://user@host:port/database") from None
    if parsed.get_backend_name() != "postgresql":
        raise InvalidInput("database URL", parsed.drivername, "write postgresql://user@host:port/database")
    options = (
        f"-c statement_timeout={int(statement_timeout_seconds * 1000)}"
        f" -c idle_in_transaction_session_timeout={int(idle_in_transaction_timeout_seconds * 1000)}"
        " -c timezone=UTC"
    )
    return create_engine(
        parsed.set(drivername="postgresql+psycopg"),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_SECONDS * 2,
        pool_pre_ping=False,
        connect_args={
            "application_name": application_name,
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "options": options,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    )


@contextmanager
def transaction(database: Engine) -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises.

    Raises:
        LedgerError: Postgres cannot be reached, or ended the session.
    """
    try:
        with database.begin() as connection:
            yield connection
    except OperationalError as error:
        raise LedgerError(f"the ledger cannot be reached or ended the session: {str(error.orig).strip()}") from error


def allow_seconds(connection: Connection, seconds: int) -> None:
    """Let the statements and pauses of this transaction take longer: for a read of everything, which holds nobody up."""
    settings = ("statement_timeout", "idle_in_transaction_session_timeout")
    for setting in settings:
        connection.execute(text("SELECT set_config(:setting, :value, true)"), {"setting": setting, "value": f"{seconds}s"})
