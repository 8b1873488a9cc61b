"""A Postgres server for the session, and a fresh database for each test."""

import os
import secrets
from collections.abc import Iterator

import pytest

from aiqueue.cli.harness import databases, guard
from aiqueue.cli.harness.postgres import DevPostgres


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a marked database whose user may create others: the one named for tests, else of a server of our own."""
    given = os.environ.get(guard.DATABASE_VARIABLE)
    if given:
        guard.require_marked_database(given)
        yield given
        return
    with DevPostgres.create(tmp_path_factory.mktemp("postgres"), durable=False) as server:
        yield server.create_database("aiqueue_test")


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """The URL of a database that only this test has."""
    name = f"aiqueue_test_{secrets.token_hex(6)}"
    url = databases.create(server_url, name)
    yield url
    databases.drop(server_url, name)
