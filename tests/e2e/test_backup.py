"""docs/operations.md on backup and restore: its very commands, on real servers, under a controller that goes on with what was restored."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import pytest
from sqlalchemy import make_url

from aiqueue.cli.harness import databases, ports, postgres_programs, product
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.postgres import DevPostgres
from aiqueue.cli.harness.processes import User
from aiqueue.queue.database import open_database
from fix_controller import ControllerProcess, Stage, staged
from fix_managed import Teams

pytestmark = pytest.mark.e2e

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
BLOCK = re.compile(r"<!-- test: (?P<name>\w+) -->\n *```sh\n(?P<commands>.*?)\n *```", re.DOTALL)
LOG_FOLDER = "/var/backups/ledger-log"
COMMAND_SECONDS = 120
#: What a server of the harness is told on its command line, and one that is recovered from it needs as well.
SETTINGS = ("--max_connections=200", "--unix_socket_directories=")


def commands(name: str) -> str:
    """The commands that the page has under this name."""
    (found,) = (match["commands"] for match in BLOCK.finditer(PAGE.read_text()) if match["name"] == name)
    return "\n".join(line.strip() for line in found.splitlines())


def test_every_block_of_the_page_is_run() -> None:
    assert {match["name"] for match in BLOCK.finditer(PAGE.read_text())} == {"dump", "archive", "base", "restore", "recover"}


@dataclass(slots=True)
class Shell:
    """Where the page's commands are run: a folder, with Postgres's programs at hand.

    Attributes:
        log: stands for the place where the page has the log archived.
    """

    folder: Path
    log: Path

    def run(self, text: str, urls: Mapping[str, str] = MappingProxyType({}), *, user: User | None = None) -> str:
        """Run commands until one fails; `urls` are the variables that they use. The account is ours if none is given."""
        installed = postgres_programs.find()
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", text.replace(LOG_FOLDER, str(self.log))],
            env={"PATH": f"{installed.binaries}:{os.defpath}", "HOME": str(self.folder), "LC_ALL": "C", **urls},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


@dataclass(slots=True)
class Ground:
    """A server with a ledger whose log is archived, and a stage on it."""

    server: DevPostgres
    stage: Stage
    shell: Shell

    def move(self, server_url: str) -> None:
        """Go on with the ledger of this name on another server, of which this is the administrator's URL."""
        stage = self.stage
        stage.ledger.dispose()
        there = make_url(server_url)

        def moved(url: str) -> str:
            return make_url(url).set(host=there.host, port=there.port).render_as_string(hide_password=False)

        owner = there.set(database=make_url(stage.installed.owner_url).database)
        stage.installed = replace(
            stage.installed,
            owner_url=owner.render_as_string(hide_password=False),
            admin_url=moved(stage.installed.admin_url),
            controller_url=moved(stage.installed.controller_url),
        )
        stage.ledger = open_database(stage.installed.owner_url, application_name="test", pool_size=2)

    def stop(self, controller: ControllerProcess) -> None:
        controller.process.terminate()
        controller.process.wait(COMMAND_SECONDS)


@pytest.fixture
def ground(gpu_cluster: DevCluster, teams: Teams, tmp_path: Path) -> Iterator[Ground]:
    """A ledger of which the page's archive is kept."""
    server = DevPostgres.create(tmp_path / "old", durable=True, owned=True)
    # Where the server's account may write and read, whoever runs the tests.
    shared = server.data.parent / "backups"
    try:
        server.start()
        log = shared / "log"
        log.mkdir(parents=True)
        account = postgres_programs.find().user
        if account is not None:
            for folder in (shared, log):
                os.chown(folder, account.uid, account.gid)
        shell = Shell(shared, log)
        shell.run(commands("archive"), {"SERVER": plain(server.url("postgres"))})
        server.stop()
        server.start()
        owner_url = server.create_database("aiqueue_kept")
        product.migrate(owner_url)
        with staged(gpu_cluster, teams.take(), owner_url, tmp_path) as stage:
            yield Ground(server, stage, shell)
    finally:
        server.purge()


def plain(url: str) -> str:
    return databases.plain_url(url)


def untouched(stage: Stage, uids: dict[str, str]) -> None:
    """These Jobs run, were started once and never stopped."""
    for name, uid in uids.items():
        job = stage.job(name)
        assert job["spec"]["suspend"] is False, name
        stage.until_running(name)
        assert len(stage.unsuspends(uid)) == 1, name


class Recovered:
    """A server on the folder that the page's commands have made of a base backup."""

    def __init__(self, data: Path, log: Path) -> None:
        self._data = data
        self._log = log
        (self.port,) = ports.choose(1)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        installed = postgres_programs.find()
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [installed.binaries / "postgres", "-D", self._data, f"--port={self.port}", *SETTINGS],
                env={"PATH": os.defpath, "HOME": str(self._data), "LC_ALL": "C", "TZ": "UTC"},
                cwd=self._data,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=installed.user.uid if installed.user else None,
                group=installed.user.gid if installed.user else None,
                extra_groups=[] if installed.user else None,
            )

    def ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        return "ready to accept connections" in self._log.read_text().rpartition("recovery complete")[2]

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # cuts whoever is connected
            self._process.wait(COMMAND_SECONDS)


def test_backup_and_restore_as_the_page_says(ground: Ground, tmp_path: Path) -> None:
    stage, shell = ground.stage, ground.shell
    stage.tenants(gpus=32)
    old_server = ground.server.url("postgres")
    first = stage.lead()
    uids = {"before": stage.create_job("before")["metadata"]["uid"]}
    stage.until_running("before")
    urls = {"SERVER": plain(old_server), "LEDGER": plain(stage.installed.owner_url)}
    shell.run(commands("dump"), urls)
    shell.run(commands("base"), urls, user=postgres_programs.find().user)
    uids["after"] = stage.create_job("after")["metadata"]["uid"]
    stage.until_running("after")
    ground.stop(first)
    recovered = Recovered(shell.folder / "base", tmp_path / "recovered.log")
    newer = DevPostgres.create(tmp_path / "newer", durable=True, owned=True)
    try:
        from_the_log(ground, recovered, uids)
        recovered.stop()
        newer.start()
        from_the_dump(ground, newer, uids)
    finally:
        recovered.stop()
        stage.ledger.dispose()
        newer.purge()


def from_the_log(ground: Ground, recovered: Recovered, uids: dict[str, str]) -> None:
    """The server is lost, all but its archive. Nothing else is."""
    stage, shell = ground.stage, ground.shell
    old_server = ground.server.url("postgres")
    versions = versions_of(stage, uids)
    with databases.connection(old_server) as session:
        session.execute("SELECT pg_switch_wal()")
        (last,) = session.execute("SELECT pg_walfile_name(pg_current_wal_lsn() - 1)").fetchone() or ("",)
    stage.until((shell.log / last).exists, "the log to be archived")
    stage.ledger.dispose()
    ground.server.stop()
    shell.run(commands("recover"), user=postgres_programs.find().user)
    recovered.start()
    stage.until(recovered.ready, "the recovered server to be ready")
    ground.move(make_url(old_server).set(port=recovered.port).render_as_string(hide_password=False))
    controller = stage.lead()
    assert versions_of(stage, uids) == versions
    assert stage.used() == 16
    goes_on(stage, "on-the-recovered")
    untouched(stage, uids)
    ground.stop(controller)


def from_the_dump(ground: Ground, newer: DevPostgres, uids: dict[str, str]) -> None:
    """There is nothing but the dump, which is older than one of the Jobs that run."""
    stage = ground.stage
    versions = versions_of(stage, uids)
    ground.shell.run(commands("restore"), {"NEW_SERVER": plain(newer.url("postgres"))})
    with databases.connection(newer.url("postgres")) as session:
        for url in (stage.installed.admin_url, stage.installed.controller_url):
            login = make_url(url)
            session.execute(f"ALTER ROLE \"{login.username}\" PASSWORD '{login.password}'".encode())
    ground.move(newer.url("postgres"))
    refused = stage.start()
    stage.until(refused.ended, "the controller to refuse")
    assert "it was restored from a backup that is older than they are. Nothing was touched" in refused.said()
    assert versions_of(stage, uids) == versions
    repaired = subprocess.run(
        [*product.PROGRAM, "doctor", "--repair"],
        env=stage.installed.controller_environment(PATH=os.defpath, HOME=str(stage.folder)),
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    print(repaired.stdout, repaired.stderr)
    stage.lead()
    stage.until_state("after", "Admitted")
    assert [run["adopted"] for run in stage.runs("after")] == [True]
    assert [run["adopted"] for run in stage.runs("before")] == [False]
    assert stage.used() == 16
    untouched(stage, uids)
    goes_on(stage, "on-the-newer")


def versions_of(stage: Stage, uids: dict[str, str]) -> dict[str, str]:
    """What changes with each write to a Job, once the Job controller has said all that there is to say of it."""
    for name in uids:
        stage.until(lambda name=name: stage.job(name)["status"].get("ready") == 1, f"{name} to be said to be ready")  # type: ignore[misc]
    return {name: stage.job(name)["metadata"]["resourceVersion"] for name in uids}


def goes_on(stage: Stage, name: str) -> None:
    """A Job is admitted, runs, ends and gives back what it held."""
    stage.create_job(name, runtime="1s")
    stage.until_state(name, "Finished")
    stage.until(lambda: stage.used() == 16, "its quota to come back")
