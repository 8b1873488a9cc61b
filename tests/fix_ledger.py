"""A migrated ledger for each test: a copy of a template that the session migrates once.

The next copy is made while a test uses its own, and a used one is dropped while the next test runs.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from urllib.parse import urlsplit

import pytest
from sqlalchemy import Engine

from aiqueue.cli.harness import databases
from aiqueue.migrations import upgrade
from aiqueue.queue.database import open_database, transaction


class Copies:
    """Makes and drops copies of one database, one after the other in a thread of its own.

    Args:
        server_url: of the server, as a user who may create databases.
        template: its name; nobody is connected to it.
    """

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url = server_url
        self._template = template
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="copies")
        self._next: Future[str] | None = None
        self._dropped: list[Future[None]] = []

    def __enter__(self) -> Copies:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._next is not None:
            self.give_back(self._next.result())
        self._worker.shutdown()
        for each in self._dropped:
            each.result()

    def take(self) -> str:
        """The URL of a copy that nobody else has, as its owner."""
        taken = self._next or self._worker.submit(self._copy)
        self._next = self._worker.submit(self._copy)
        return taken.result()

    def give_back(self, url: str) -> None:
        """Drop a copy; a failure is raised at the end of the session."""
        self._dropped.append(self._worker.submit(databases.drop, self._server_url, urlsplit(url).path[1:]))

    def _copy(self) -> str:
        return databases.create(self._server_url, f"aiqueue_ledger_{secrets.token_hex(6)}", template=self._template)


@pytest.fixture(scope="session")
def ledger_copies(server_url: str) -> Iterator[Copies]:
    """Copies of a database that was migrated once."""
    name = f"aiqueue_template_{secrets.token_hex(6)}"
    database = open_database(databases.create(server_url, name), application_name="aiqueue-test-template")
    with transaction(database) as connection:
        upgrade(connection)
    database.dispose()
    with Copies(server_url, name) as copies:
        yield copies
    databases.drop(server_url, name)


@pytest.fixture
def ledger_url(ledger_copies: Copies) -> Iterator[str]:
    """The URL of a migrated database that only this test has, as its owner."""
    url = ledger_copies.take()
    yield url
    ledger_copies.give_back(url)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Engine]:
    """That database, open."""
    database = open_database(ledger_url, application_name="aiqueue-test", pool_size=10)
    yield database
    database.dispose()
