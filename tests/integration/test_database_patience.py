"""Sessions with the ledger that do not wait for ever, whose isolation is their own, and what their failures are called."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine, text

from aiqueue.cli.harness import databases
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.database import allow_seconds, open_database, transaction
from aiqueue.queue.errors import LedgerError
from fix_pg_proxy import PgProxy

pytestmark = pytest.mark.integration


@pytest.fixture
def proxy(ledger_url: str) -> Iterator[PgProxy]:
    port = urlsplit(ledger_url).port
    assert port is not None
    with PgProxy(lambda: port) as made:
        yield made


@pytest.fixture
def impatient(proxy: PgProxy, ledger_url: str) -> Iterator[Engine]:
    """The ledger through the proxy, for somebody who waits for two seconds."""
    database = open_database(proxy.through(ledger_url), application_name="test", pool_size=1, patience_seconds=2)
    yield database
    database.dispose()


def asked(database: Engine, statement: str) -> object:
    with transaction(database) as connection:
        return connection.execute(text(statement)).scalar_one()


def test_who_gets_no_answer_gives_the_session_up(proxy: PgProxy, impatient: Engine) -> None:
    assert asked(impatient, "SELECT 1") == 1
    proxy.fall_silent()
    with pytest.raises(LedgerError, match=r"no answer within 2 s: the session was given up"):
        asked(impatient, "SELECT 2")
    assert asked(impatient, "SELECT 3") == 3  # on a new one
    assert proxy.connections == 2


def test_a_transaction_that_may_take_longer_is_waited_for(impatient: Engine) -> None:
    with transaction(impatient) as connection:
        allow_seconds(connection, 30)
        connection.execute(text("SELECT pg_sleep(2.2)"))
    with pytest.raises(LedgerError, match="no answer within"):  # and no other
        asked(impatient, "SELECT pg_sleep(30)")


def test_isolation_is_not_what_somebody_has_made_the_default(ledger_url: str, ledger: Engine) -> None:
    name = urlsplit(ledger_url).path[1:]
    with databases.connection(ledger_url) as session:
        session.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'".encode())
    ledger.dispose()
    assert asked(ledger, "SHOW transaction_isolation") == "read committed"


def test_who_cannot_write_looks_for_another_session(ledger_url: str, ledger: Engine) -> None:
    name = urlsplit(ledger_url).path[1:]
    with databases.connection(ledger_url) as session:
        session.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode())
        ledger.dispose()
        with pytest.raises(LedgerError, match="the ledger is read-only"):
            asked(ledger, "UPDATE config_revision SET revision = revision + 1 RETURNING revision")
        session.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only".encode())
    assert asked(ledger, "UPDATE config_revision SET revision = revision + 1 RETURNING revision") == 1


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("idle_in_transaction_session_timeout", "stood still in the middle of a transaction"),
        ("transaction_timeout", "whose transaction took too long"),
    ],
)
def test_who_stood_still_within_a_transaction_goes_on_with_another_session(ledger: Engine, setting: str, says: str) -> None:
    def stand_still() -> None:
        with transaction(ledger) as connection:
            session = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            connection.execute(text(f"SET LOCAL {setting} = 50"))
            until(lambda: not lives(ledger, session), seconds=60, what="the session to be ended")
            connection.execute(text("SELECT 1"))

    with pytest.raises(LedgerError, match=says):
        stand_still()
    assert asked(ledger, "SELECT 1") == 1


def lives(database: Engine, session: int) -> bool:
    with transaction(database) as connection:
        found = connection.execute(text("SELECT count(*) FROM pg_stat_get_activity(:session)"), {"session": session})
        return bool(found.scalar_one())


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("25006", "the ledger is read-only"),
        ("40001", "could not bring this transaction in line"),
        ("40P01", "waited for one another"),
        ("53100", "the disk of the ledger is full"),
        ("53300", "takes no more connections"),
        ("54000", "see whether its disk is full"),
        ("55P03", "keeps a table or row of the ledger locked"),
        ("57014", "did not finish a statement in time"),
        ("58030", "trouble with its files"),
        ("XX000", "the ledger's server is in trouble"),
        ("57P01", "cannot be reached or ended the session: said so"),
    ],
)
def test_each_failure_is_a_sentence(ledger: Engine, state: str, says: str) -> None:
    with pytest.raises(LedgerError, match=says) as caught, transaction(ledger) as connection:
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'said so' USING ERRCODE = '{state}'; END $$"))
    assert "said so" in str(caught.value)
