"""Connections to the ledger.

A server that is neither on loopback nor behind a Unix socket must prove who it is: its certificate and its name are
verified (`sslmode=verify-full`), unless the URL or PGSSLMODE says otherwise. libpq alone would take any server, and send it
the password.

Nobody waits for ever. The server is told after how long to end a statement, a wait for a lock and an idle transaction; and since a
server, a pooler or a network that has gone silent ends nothing, whoever waits for an answer gives up a little later by himself
(`Patient`). A pool that is ended while others use its sessions keeps none of them (`SessionPool`). Isolation is READ COMMITTED whatever the role or the database has as its default, since the fences are made for it.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from aiqueue.queue.errors import InvalidInput, LedgerError
from aiqueue.queue.failures import READ_ONLY, explained, is_passing, meaning
from aiqueue.queue.patience import PATIENCE_SECONDS, Patient

__all__ = [
    "KEEPALIVES",
    "SessionPool",
    "allow_seconds",
    "conninfo",
    "end_sessions",
    "explained",
    "open_database",
    "transaction",
]

CONNECT_TIMEOUT_SECONDS = 5
#: A peer that is gone without a word is noticed after about ten seconds, whether we send or wait.
KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3, "tcp_user_timeout": 10_000}
#: Of a page that is read in order. What is asked of the ledger all the time is some dozens of rows of tables that are in memory; by Postgres's
#: own default of 4, made for disks that turn, it reads tables of thousands of rows whole for them.
_RANDOM_PAGE_COST = 1.1
_FORM = "write postgresql://user@host:port/database"
_DRIVER = "postgresql+psycopg"
#: Where libpq looks for the authorities to trust when nothing names them.
_ROOT_CERTIFICATE = ".postgresql/root.crt"
#: Where systems keep the authorities that they trust: Debian, Fedora, Alpine and macOS.
_BUNDLES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


class SessionPool(QueuePool):
    """A pool that may be ended while others use its sessions.

    Disposing of a pool closes what is in it. A session that is given back afterwards would stay in it, open, and nobody would ever close it.
    """

    _ended = False

    def end(self) -> None:
        """Close the idle sessions now, and those in use, or opened from now on, when they are given back."""
        self._ended = True
        self.dispose()

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        late = self._ended
        if late:
            record.close()  # it goes back without its session, since others may wait for their turn
        super()._do_return_conn(record)
        if self._ended and not late:  # who ended the pool meanwhile may not have found it there
            self.dispose()


def end_sessions(database: Engine, *, anew: bool = False) -> None:
    """Close the sessions of a pool, those that others use when they are done.

    Args:
        database: from `open_database`.
        anew: it goes on, with sessions of its own. Otherwise whoever is late may still use it, and leaves no session behind.
    """
    given_up = database.pool
    if anew:
        database.dispose()
    if isinstance(given_up, SessionPool):
        given_up.end()


def conninfo(url: str, environment: Mapping[str, str] = os.environ) -> str:
    """What libpq is to connect with, for a session outside a pool: the URL's parameters, TLS as above.

    Args:
        url: `postgresql://user@host/database`.
        environment: where PGSSLMODE, PGSSLROOTCERT, PGHOST and HOME, among others, are read.

    Raises:
        InvalidInput: the URL is not one of Postgres. The URL is not repeated, since it may hold a password.
    """
    return make_conninfo(**_parameters(_parsed(url), environment))


def open_database(
    url: str,
    *,
    application_name: str,
    pool_size: int = 4,
    statement_timeout_seconds: float = 30,
    idle_in_transaction_timeout_seconds: float = 30,
    lock_timeout_seconds: float = 0,
    patience_seconds: float | None = None,
) -> Engine:
    """A pool of connections to the ledger. Nothing connects before the first use.

    Args:
        url: `postgresql://user@host/database`; the driver is always psycopg 3. Its `connect_timeout`, in seconds, counts, if it has one.
        application_name: shown in `pg_stat_activity`.
        pool_size: connections kept and at most opened.
        statement_timeout_seconds: the server ends a statement that takes longer.
        idle_in_transaction_timeout_seconds: the server ends a session that keeps a transaction open longer.
        lock_timeout_seconds: the server ends a statement that waits longer for a lock; 0 leaves that to the statement's time.
        patience_seconds: how long we wait for an answer, D some seconds longer than a statement may take.

    Raises:
        InvalidInput: the URL is not one of Postgres. The URL is not repeated, since it may hold a password.
    """
    parsed = _parsed(url)
    options = (
        f"-c statement_timeout={int(statement_timeout_seconds * 1000)}"
        f" -c idle_in_transaction_session_timeout={int(idle_in_transaction_timeout_seconds * 1000)}"
        f" -c lock_timeout={int(lock_timeout_seconds * 1000)}"
        r" -c default_transaction_isolation=read\ committed -c timezone=UTC"
        f" -c random_page_cost={_RANDOM_PAGE_COST}"
    )
    patience = statement_timeout_seconds + PATIENCE_SECONDS if patience_seconds is None else patience_seconds
    database = create_engine(
        parsed,
        poolclass=SessionPool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_SECONDS * 2,
        pool_pre_ping=False,
        connect_args={
            **_tls(_given(parsed), os.environ),
            "application_name": application_name,
            "connect_timeout": _given(parsed).get("connect_timeout", CONNECT_TIMEOUT_SECONDS),
            "options": options,
            **KEEPALIVES,
        },
    )

    def connect(_dialect: object, _record: object, arguments: tuple[Any, ...], options: dict[str, Any]) -> Patient:
        return Patient.to(*arguments, patience_seconds=patience, **options)

    event.listen(database, "do_connect", connect)
    event.listen(database, "handle_error", _leave_if_read_only)
    return database


def _leave_if_read_only(context: ExceptionContext) -> None:
    """Give a session up that cannot write: it keeps the setting that it began with, or its server is a standby by now."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


@contextmanager
def transaction(database: Engine) -> Iterator[Connection]:
    """One transaction: committed when the block ends, rolled back when it raises.

    Raises:
        LedgerError: Postgres cannot be reached, ended the session, or cannot do it now.
        sqlalchemy.exc.DBAPIError: it will not do it another time either.
    """
    try:
        with database.begin() as connection:
            yield connection
    except DBAPIError as error:
        if is_passing(error.orig):
            raise LedgerError(meaning(error.orig)) from error
        raise


def allow_seconds(connection: Connection, seconds: int) -> None:
    """Let the statements and pauses of this transaction take longer: for a read of everything, which holds nobody up."""
    session = connection.connection.dbapi_connection
    if isinstance(session, Patient):
        session.allow_seconds(seconds + PATIENCE_SECONDS)
    settings = ("statement_timeout", "idle_in_transaction_session_timeout")
    for setting in settings:
        connection.execute(text("SELECT set_config(:setting, :value, true)"), {"setting": setting, "value": f"{seconds}s"})


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidInput("database URL", "(not shown)", _FORM) from None
    if parsed.get_backend_name() != "postgresql":
        raise InvalidInput("database URL", parsed.drivername, _FORM)
    return parsed.set(drivername=_DRIVER)


def _given(url: URL) -> dict[str, Any]:
    """Parameters of libpq as the URL gives them; several hosts are joined with commas."""
    return dict(url.get_dialect()().create_connect_args(url)[1])


def _parameters(url: URL, environment: Mapping[str, str]) -> dict[str, Any]:
    given = _given(url)
    return given | _tls(given, environment)


def _tls(given: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """The parameters that make libpq verify the server, where nobody has decided otherwise."""
    if given.get("sslmode") or environment.get("PGSSLMODE") or not _is_remote(given, environment):
        return {}
    rules = {"sslmode": "verify-full"}
    named = given.get("sslrootcert") or environment.get("PGSSLROOTCERT")
    if not named and not (Path(environment.get("HOME") or "/") / _ROOT_CERTIFICATE).is_file():
        rules["sslrootcert"] = _system_authorities(environment)  # libpq would refuse to go without a file
    return rules


def _system_authorities(environment: Mapping[str, str]) -> str:
    """The authorities that this system trusts. The OpenSSL in psycopg's wheel does not know where a system keeps them."""
    if environment.get("SSL_CERT_FILE") or environment.get("SSL_CERT_DIR"):
        return "system"
    return next((place for place in _BUNDLES if Path(place).is_file()), "system")


def _is_remote(given: Mapping[str, Any], environment: Mapping[str, str]) -> bool:
    """Whether any of the hosts may be another machine. A service file may name one, and cannot be told."""
    if given.get("service") or (environment.get("PGSERVICE") and not given.get("host")):
        return True
    hosts = given.get("hostaddr") or given.get("host") or environment.get("PGHOSTADDR") or environment.get("PGHOST") or ""
    return not all(_is_local(host.strip()) for host in str(hosts).split(","))


def _is_local(host: str) -> bool:
    """Whether this is a Unix socket (empty is libpq's own) or loopback."""
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
