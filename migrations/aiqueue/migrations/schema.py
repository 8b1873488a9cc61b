"""Bring a ledger to the schema of this program, or say what is wrong with it."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from aiqueue.queue.errors import SchemaMismatch

#: Whoever wants a table after us waits behind us, so it has to be well below what a controller's statements may take.
LOCK_TIMEOUT_SECONDS = 2
_ADVISORY_LOCK = 0x61697175657565  # "aiqueue" in ASCII


def configuration(connection: Connection | None = None) -> Config:
    """Alembic configuration that finds the versions by import, wherever the package lives."""
    config = Config()
    config.set_main_option("script_location", "aiqueue.migrations:.")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    """The revision this program was built for."""
    head = ScriptDirectory.from_config(configuration()).get_current_head()
    assert head is not None, "the package ships at least one version"  # noqa: S101 -- a broken build, not an input
    return head


def current_revision(connection: Connection) -> str | None:
    """The revision of the database, None if it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Migrate the database of `connection` in the caller's transaction.

    Raises:
        SchemaMismatch: it is at a revision that this program does not know; nothing was changed.
        sqlalchemy.exc.DBAPIError: a version failed; the transaction must be rolled back.
    """
    connection.execute(text("SELECT set_config('lock_timeout', :timeout, true)"), {"timeout": f"{LOCK_TIMEOUT_SECONDS}s"})
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    require_known(current_revision(connection))
    command.upgrade(configuration(connection), revision)


def check(connection: Connection) -> str:
    """Return the revision of the database if it is the one this program was built for.

    Raises:
        SchemaMismatch: it is older, newer or was never migrated; says what to do.
    """
    current, head = current_revision(connection), head_revision()
    if current == head:
        return head
    if current is None:
        raise SchemaMismatch("the database holds no ledger yet: run `aiqueue db upgrade`")
    require_known(current)
    raise SchemaMismatch(f"the ledger is at revision {current}, this program needs {head}: run `aiqueue db upgrade`")


def require_known(current: str | None) -> None:
    """Refuse a revision that is a newer program's; None, that of an empty database, is known.

    Raises:
        SchemaMismatch: names the revision and says what to do.
    """
    scripts = ScriptDirectory.from_config(configuration())
    if current is None or current in {script.revision for script in scripts.walk_revisions()}:
        return
    raise SchemaMismatch(
        f"the ledger is at revision {current}, which this program does not know: install a newer aiqueue, the one that brought the"
        f" ledger there or a later one. The newest revision that this program knows is {scripts.get_current_head()}"
    )
