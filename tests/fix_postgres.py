"""A Postgres server for the session, and a fresh database for each test."""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from psycopg import sql

from aiqueue.cli.harness import databases, guard
from aiqueue.cli.harness.postgres import DevPostgres

MEMORY = Path("/dev") / "shm"
MEMORY_BYTES = 2 * 2**30  # free before any of it is taken; a few databases of 10 MB are there at a time


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a marked database whose user may create others: the one named for tests, else of a server of our own."""
    given = os.environ.get(guard.DATABASE_VARIABLE)
    if given:
        guard.require_marked_database(given)
        yield given
        return
    with DevPostgres.create(tmp_path_factory.mktemp("postgres"), durable=False) as server, databases_in_memory(server):
        yield server.create_database("aiqueue_test")


@contextmanager
def databases_in_memory(server: DevPostgres) -> Iterator[None]:
    """Have all databases that are made from now on in memory, where there is any to spare.

    A database is some 350 files, which take a disk's file system a third of a second to make and to remove, and memory a tenth of that.
    """
    for path in MEMORY.glob("aiqueue-tests-*"):  # what a session left that was killed
        if not Path(f"/proc/{path.name.rpartition('-')[2]}").exists():
            shutil.rmtree(path, ignore_errors=True)
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < MEMORY_BYTES:
        yield
        return
    folder, owner = MEMORY / f"aiqueue-tests-{secrets.token_hex(4)}-{os.getpid()}", server.data.stat()
    folder.mkdir(mode=0o700)
    os.chown(folder, owner.st_uid, owner.st_gid)
    try:
        with databases.connection(server.url("postgres")) as session:
            session.execute(sql.SQL("CREATE TABLESPACE memory LOCATION {}").format(sql.Literal(str(folder))))
            session.execute("ALTER DATABASE template1 SET TABLESPACE memory")  # others are copies of it
        yield
    finally:
        server.stop()
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """The URL of a database that only this test has."""
    name = f"aiqueue_test_{secrets.token_hex(6)}"
    url = databases.create(server_url, name)
    yield url
    databases.drop(server_url, name)
