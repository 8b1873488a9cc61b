"""A migrated ledger for each test: a copy of a template that the session migrates once."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine

from aiqueue.cli.harness import databases
from aiqueue.migrations import upgrade
from aiqueue.queue.database import open_database, transaction


@pytest.fixture(scope="session")
def ledger_template(server_url: str) -> Iterator[str]:
    """The name of a migrated database that nobody is connected to."""
    name = f"aiqueue_template_{secrets.token_hex(6)}"
    database = open_database(databases.create(server_url, name), application_name="aiqueue-test-template")
    with transaction(database) as connection:
        upgrade(connection)
    database.dispose()
    yield name
    databases.drop(server_url, name)


@contextmanager
def copied(server_url: str, ledger_template: str) -> Iterator[str]:
    """The URL of a migrated database, as its owner, that is dropped in the end."""
    name = f"aiqueue_ledger_{secrets.token_hex(6)}"
    yield databases.create(server_url, name, template=ledger_template)
    databases.drop(server_url, name)


@pytest.fixture
def ledger_url(server_url: str, ledger_template: str) -> Iterator[str]:
    """The URL of a migrated database that only this test has, as its owner."""
    with copied(server_url, ledger_template) as url:
        yield url


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Engine]:
    """That database, open."""
    database = open_database(ledger_url, application_name="aiqueue-test", pool_size=10)
    yield database
    database.dispose()
