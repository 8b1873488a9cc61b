"""docs/operations.md on passwords: a controller with the new login takes over from one that hangs with the old."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url
from sqlalchemy.exc import DBAPIError

from aiqueue.cli.harness import databases
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.store import leadership
from fix_terms import expire, take_over

pytestmark = pytest.mark.integration

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
OLD, NEW = "cluster_one", "cluster_one_b"


def statement(name: str) -> str:
    """What the page has under this name."""
    found = re.search(rf"<!-- test: {name} -->\n```sql\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def names(ledger_url: str) -> Iterator[dict[str, str]]:
    """Names of logins that no other ledger of the server has, instead of those of the page."""
    mark = secrets.token_hex(6)
    made = {NEW: f"{NEW}_{mark}", OLD: f"{OLD}_{mark}"}
    yield made
    with databases.connection(ledger_url) as session:
        for each in made.values():
            session.execute(f"DROP ROLE IF EXISTS {each}".encode())


def test_a_new_login_takes_over_from_an_old_one_that_hangs(ledger: Engine, ledger_url: str, names: dict[str, str]) -> None:
    def run(name: str) -> None:
        text = re.sub(rf"\b({NEW}|{OLD})\b", lambda found: names[found[1]], statement(name))
        with databases.connection(ledger_url) as session:
            session.execute(text.replace("'...'", "'word'").encode())

    def opened(name: str) -> Engine:
        url = make_url(ledger_url).set(username=names[name], password="word")
        return open_database(url.render_as_string(hide_password=False), application_name="test", pool_size=1)

    databases.create_login(ledger_url, names[OLD], "word", ["aiqueue_controller"])
    old = opened(OLD)
    assert take_over(old) == 1
    with old.connect() as hanging:
        hanging.exec_driver_sql(leadership.REGISTER_SESSION, (1,))
        hanging.commit()
        run("login")
        expire(ledger)
        new = opened(NEW)
        assert take_over(new) == 2
        with pytest.raises(DBAPIError):  # its session was ended
            hanging.exec_driver_sql("SELECT 1")
    old.dispose()
    run("drop")
    with transaction(new) as connection:
        assert leadership.current(connection).term == 2
    new.dispose()
