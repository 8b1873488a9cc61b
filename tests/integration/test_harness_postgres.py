"""The Postgres half of the harness, on real servers."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from aiqueue.cli.harness import databases, guard, ports, processes, state
from aiqueue.cli.harness.errors import HarnessError, NotMarked
from aiqueue.cli.harness.postgres import DevPostgres
from aiqueue.cli.harness.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
def own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the servers of a test from the sweeps of others."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_a_fresh_database_is_empty_and_marked(empty_database_url: str) -> None:
    guard.require_marked_database(empty_database_url)
    with databases.connection(empty_database_url) as session:
        assert session.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_an_unmarked_database_is_refused(empty_database_url: str) -> None:
    unmarked = databases.with_database(empty_database_url, "postgres")
    with pytest.raises(NotMarked, match="not marked for tests") as caught:
        guard.require_marked_database(unmarked)
    assert str(urlsplit(unmarked).password) not in str(caught.value)


def test_a_wrong_password_is_refused(empty_database_url: str) -> None:
    parts = urlsplit(databases.plain_url(empty_database_url))
    wrong = parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}").geturl()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)
    with pytest.raises(HarnessError, match="cannot be reached"):
        databases.comment_of(wrong)


def test_a_database_is_copied_from_a_template_and_marked(server_url: str, empty_database_url: str) -> None:
    with databases.connection(empty_database_url) as session:
        session.execute("CREATE TABLE witness AS SELECT 7 AS seven")
    template = urlsplit(empty_database_url).path.lstrip("/")
    copy = databases.create(server_url, f"{template}_copy", template)
    try:
        guard.require_marked_database(copy)
        with databases.connection(copy) as session:
            assert session.execute("SELECT seven FROM witness").fetchone() == (7,)
        with pytest.raises(HarnessError, match="already exists"):
            databases.create(server_url, f"{template}_copy")
    finally:
        databases.drop(server_url, f"{template}_copy")
    assert not databases.exists(server_url, f"{template}_copy")


@pytest.mark.usefixtures("own_state_folder")
def test_a_durable_server_keeps_its_data_and_its_address(tmp_path: Path) -> None:
    server = DevPostgres.create(tmp_path / "server", durable=True)
    try:
        server.start()
        url = server.create_database("kept")
        first = [each.identity for each in server.running()]
        assert [each.identity for each in server.start().running()] == first, "a second start disturbs nothing"
        assert stat.S_IMODE((tmp_path / "server" / "password").stat().st_mode) == 0o600
        server.stop()
        assert not any(processes.is_alive(each) for each in first)
        assert ports.is_free(server.port)
        server.start()
        assert server.url("kept") == url
        guard.require_marked_database(url)
    finally:
        server.purge()
    assert not server.data.exists()


@pytest.mark.usefixtures("own_state_folder")
def test_a_login_sees_what_its_roles_may(tmp_path: Path) -> None:
    with DevPostgres.create(tmp_path / "server", durable=False) as server:
        url = server.create_database("ledger")
        with databases.connection(url) as session:
            session.execute("CREATE ROLE readers")
            session.execute("CREATE TABLE seen AS SELECT 1 AS one; GRANT SELECT ON seen TO readers; CREATE TABLE hidden ()")
        for password in ("first", "p:a@s/s"):
            server.create_login("ann", password, in_roles=["readers"])
        with databases.connection(server.url("ledger", "ann", "p:a@s/s")) as session:
            assert session.execute("SELECT one FROM seen").fetchone() == (1,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute("SELECT FROM hidden")
    assert not server.data.exists(), "throwaway data goes with the server"


@pytest.mark.usefixtures("own_state_folder")
def test_a_port_taken_since_last_time_is_given_up(tmp_path: Path) -> None:
    import socket

    server = DevPostgres.create(tmp_path / "server", durable=True)
    try:
        server.start()
        before = server.port
        server.stop()
        with socket.socket() as taken:
            taken.bind((ports.LOOPBACK, before))
            taken.listen()
            assert server.start().port != before
            assert server.is_running()
    finally:
        server.purge()


STARTER = """
import sys
from pathlib import Path
from aiqueue.cli.harness.postgres import DevPostgres
DevPostgres.create(Path(sys.argv[1]), durable=False).start()
print("started", flush=True)
sys.stdin.read()
"""


@pytest.mark.usefixtures("own_state_folder")
def test_the_server_of_a_killed_run_is_ended(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", STARTER, str(tmp_path / "server")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        (record,) = state.load(tmp_path / "server").programs
        with pytest.raises(HarnessError, match="in use by process"):
            DevPostgres.create(tmp_path / "server", durable=False).start()
        starter.send_signal(signal.SIGKILL)
    assert processes.is_alive(record.identity), "it outlives a killed starter, which is why somebody must end it"
    with DevPostgres.create(tmp_path / "another", durable=False):
        assert not processes.is_alive(record.identity)


@pytest.mark.usefixtures("own_state_folder")
def test_a_server_killed_outright_starts_again(tmp_path: Path) -> None:
    server = DevPostgres.create(tmp_path / "server", durable=True)
    try:
        server.start()
        server.create_database("kept")
        (record,) = server.running()
        os.kill(record.identity.pid, signal.SIGKILL)
        until(lambda: not server.is_running(), seconds=60, what="its end")
        server.start()
        assert server.has_database("kept")
    finally:
        server.purge()
