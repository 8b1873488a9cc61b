"""Migrations beneath those who work: short waits for locks, many tries, and what takes long done ahead, keeping nobody waiting."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from aiqueue.migrations import bring_up, check, current_revision, head_revision, upgrade
from aiqueue.migrations.live import _pending
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.errors import LedgerError, SchemaMismatch
from fix_command import Command

pytestmark = pytest.mark.integration

INDEXES = (
    "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indisvalid AND c.relname LIKE 'ix_arch%'"
)


@pytest.fixture
def older(empty_database_url: str) -> Iterator[Engine]:
    """A ledger at version 0003."""
    database = open_database(empty_database_url, application_name="aiqueue-test")
    with transaction(database) as connection:
        upgrade(connection, "0003")
    yield database
    database.dispose()


def upgrade_whole(database: Engine) -> None:
    with transaction(database) as connection:
        upgrade(connection)


def test_an_empty_database_one_that_is_up_to_date_and_one_that_is_newer(empty_database_url: str) -> None:
    database = open_database(empty_database_url, application_name="aiqueue-test")
    assert bring_up(database) == (None, head_revision())
    assert bring_up(database) == (head_revision(), head_revision())
    with transaction(database) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
    for attempt in (lambda: bring_up(database), lambda: upgrade_whole(database)):
        with pytest.raises(
            SchemaMismatch, match=r"at revision from-the-future, which this program does not know: install a newer"
        ):
            attempt()
    told = Command(empty_database_url)("db", "upgrade", expect=3)
    assert told.out == ""
    assert told.err.startswith(
        "error: the ledger is at revision from-the-future, which this program does not know: install a newer"
    )
    with transaction(database) as connection:
        assert current_revision(connection) == "from-the-future"
    database.dispose()


def test_it_is_tried_again_until_those_who_use_a_table_are_done(older: Engine) -> None:
    said: list[str] = []
    tried = threading.Event()

    def say(message: str) -> None:
        said.append(message)
        if message.startswith("trying again"):
            tried.set()

    def upgrade_it() -> None:
        assert bring_up(older, say=say) == ("0003", head_revision())

    with transaction(older) as reader:
        reader.execute(text("SELECT count(*) FROM archived_workload"))
        upgrading = threading.Thread(target=upgrade_it)
        upgrading.start()
        assert tried.wait(30)
        with transaction(older) as other:  # nothing is waited for meanwhile: the try that failed was taken back
            other.execute(text("SET LOCAL lock_timeout = '4s'"))
            other.execute(text("SELECT count(*) FROM archived_workload"))
    upgrading.join(60)
    assert not upgrading.is_alive()
    assert any("somebody keeps a table or row of the ledger locked" in each for each in said), said
    with transaction(older) as connection:
        assert check(connection) == head_revision()


def test_it_gives_up_with_a_sentence_and_keeps_nothing_of_the_version(older: Engine) -> None:
    with transaction(older) as reader:
        reader.execute(text("SELECT count(*) FROM archived_workload"))
        with pytest.raises(LedgerError, match=r"tables are in use.*run `aiqueue db upgrade` again"):
            bring_up(older, patience_seconds=0.1)
    with transaction(older) as connection:
        assert current_revision(connection) == "0003"
    assert bring_up(older) == ("0003", head_revision())


def test_an_index_that_was_left_half_built_is_built_again(older: Engine) -> None:
    with transaction(older) as connection:
        before = set(connection.execute(text(INDEXES)).scalars())
        upgrade(connection)
        wanted = set(connection.execute(text(INDEXES)).scalars())
        connection.rollback()
    assert len(wanted - before) == 6
    ((_, ahead), *_) = _pending("0003")
    with transaction(older.execution_options(isolation_level="AUTOCOMMIT")) as connection:
        for statement in ahead:
            connection.execute(text(statement))
        connection.execute(
            text("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_archived_workload_queue'::regclass")
        )
    bring_up(older)
    with transaction(older) as connection:
        assert set(connection.execute(text(INDEXES)).scalars()) == wanted


def test_indexes_are_built_ahead_without_keeping_anybody_waiting() -> None:
    for _, ahead in _pending("0001"):
        for statement in ahead:
            assert " IF NOT EXISTS " in statement  # it may be run again
            assert statement.startswith(("CREATE INDEX CONCURRENTLY ", "ALTER TABLE archived_workload ADD COLUMN "))
