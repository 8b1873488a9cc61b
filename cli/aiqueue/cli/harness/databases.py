"""Databases on a server: created with the mark that `guard` asks for, dropped, logins made. Knows only URLs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from aiqueue.cli.harness import marks
from aiqueue.cli.harness.errors import HarnessError

CONNECT_SECONDS = 10


def plain_url(url: str) -> str:
    """The URL as libpq reads it, without SQLAlchemy's name of a driver.

    Raises:
        HarnessError: it is no Postgres URL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgresql", "postgres"):
        # Only the scheme is repeated: what else was written may hold a password.
        written = f"begins with {scheme!r}" if separator else "has no scheme"
        raise HarnessError(f"the database URL {written}: write postgresql+psycopg://user:password@host:port/database")
    return f"postgresql://{rest}"


def with_database(url: str, name: str) -> str:
    """The same URL for another database of the server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def without_password(url: str) -> str:
    """The URL fit for a message."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}@{parts.hostname or ''}:{parts.port or 5432}"))


@contextmanager
def connection(url: str) -> Iterator[psycopg.Connection]:
    """A connection in autocommit mode, closed at the end of the block.

    Raises:
        HarnessError: the server cannot be reached or refuses.
    """
    try:
        opened = psycopg.connect(plain_url(url), autocommit=True, connect_timeout=CONNECT_SECONDS)
    except psycopg.OperationalError as error:
        # The text of psycopg's error names host, port and user, never the password.
        raise HarnessError(f"the database cannot be reached: {str(error).strip()}") from error
    with opened:
        yield opened


def comment_of(url: str) -> str | None:
    """The comment on the database of this URL."""
    with connection(url) as session:
        row = session.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    return None if row is None else row[0]


def create(url: str, name: str, template: str | None = None) -> str:
    """Create a marked database on the server of `url`; return its URL.

    Args:
        url: any database of the server, as a user who may create databases.
        name: the new database.
        template: copied from this one, which nobody may be connected to.

    Raises:
        HarnessError: there is one of this name, or the template is in use.
    """
    with connection(url) as session:
        copied = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        try:
            session.execute(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), copied))
        except (psycopg.errors.DuplicateDatabase, psycopg.errors.ObjectInUse) as error:
            raise HarnessError(f"database {name!r} cannot be created: {str(error).strip()}") from error
        session.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(marks.DATABASE_COMMENT))
        )
    return with_database(url, name)


def exists(url: str, name: str) -> bool:
    """Whether the server of `url` has a database of this name."""
    with connection(url) as session:
        return session.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None


def drop(url: str, name: str) -> None:
    """Drop a database if it is there, and end whoever is connected to it."""
    with connection(url) as session:
        session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def create_login(url: str, name: str, password: str, in_roles: Sequence[str] = ()) -> None:
    """Create a role that can log in, or give an existing one this password and these memberships."""
    with connection(url) as session, session.transaction():
        role = sql.Identifier(name)
        known = session.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone()
        verb = sql.SQL("ALTER" if known else "CREATE")
        session.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, role, sql.Literal(password)))
        for group in in_roles:
            session.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), role))
