"""An upgrade beneath a controller that works: the version before the newest migration, taken out of the repository's history.

The older controller leads, Jobs come and go; the ledger is migrated by the newer program; the older one goes on; a newer one takes
over; and after a rollback the older one leads again, on the newer schema. No Job is lost, started twice or held up by any of it.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from aiqueue.cli.harness import ports, product
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.migrations import head_revision
from fix_controller import TENANTS, ControllerProcess, Stage, staged
from fix_managed import Teams

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("queue", "admission", "cli", "migrations")
VERSIONS = "migrations/aiqueue/migrations/versions"
COMMAND_SECONDS = 120
#: Each gives its term up when it is told to end, so nobody waits for as long; a machine that is busy may be late to renew.
LEASE_SECONDS = "15"


class NoHistory(AssertionError):
    """The test cannot be made without the repository's history."""


def git(*arguments: str) -> bytes:
    """What git answers about this repository."""
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False, timeout=COMMAND_SECONDS)
    if done.returncode:
        raise NoHistory(
            "the version before the newest migration is taken out of the repository's history, and git has none of it here"
            f" ({done.stderr.decode().strip()}): run this test in a full clone (`git fetch --unshallow`)"
        )
    return done.stdout


def the_version_before(folder: Path) -> Path:
    """The program as it was before its newest migration was added, unpacked into a folder."""
    (newest,) = (path for path in (ROOT / VERSIONS).glob("*.py") if path.name.startswith(f"{head_revision()}_"))
    added = git("log", "--diff-filter=A", "--format=%H", "--", f"{VERSIONS}/{newest.name}").split()
    before = f"{added[-1].decode()}^" if added else "HEAD"  # it was not committed yet
    archive = git("archive", "--format=tar", before, *SOURCES)
    folder.mkdir()
    subprocess.run(["tar", "--extract", f"--directory={folder}"], input=archive, check=True, timeout=COMMAND_SECONDS)
    assert not (folder / VERSIONS / newest.name).exists()
    return folder


@dataclass(slots=True)
class Older:
    """The older program."""

    tree: Path
    stage: Stage

    def run(self, url: str, *arguments: str) -> None:
        """Run a command of it."""
        run(url, self.stage.folder, *arguments, PYTHONPATH=self.path)

    @property
    def path(self) -> str:
        return os.pathsep.join(str(self.tree / source) for source in SOURCES)

    def lead(self) -> ControllerProcess:
        """Start its controller, and wait until it leads."""
        (port,) = ports.choose(1)
        log = self.stage.folder / f"older-{len(self.stage.controllers)}.log"
        environment = self.stage.installed.controller_environment(
            AIQUEUE_HEALTH_ADDRESS=f"127.0.0.1:{port}",
            AIQUEUE_LEASE_SECONDS=LEASE_SECONDS,
            PATH=os.defpath,
            HOME=str(self.stage.folder),
            PYTHONPATH=self.path,
            PYTHONWARNINGS="error",
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*product.COMMAND], env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        started = ControllerProcess(process, log, port)
        self.stage.controllers.append(started)
        self.stage.until(lambda: "engine built" in started.said() or started.ended(), "the older controller to lead")
        assert not started.ended(), started.said()
        return started


def run(url: str, folder: Path, *arguments: str, **environment: str) -> str:
    """Run `aiqueue`."""
    done = subprocess.run(
        [*product.PROGRAM, *arguments],
        env={"AIQUEUE_DATABASE_URL": url, "PATH": os.defpath, "HOME": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def older(gpu_cluster: DevCluster, teams: Teams, empty_database_url: str, tmp_path: Path) -> Iterator[Older]:
    """The older program, with a ledger that it has migrated and configured."""
    tree = the_version_before(tmp_path / "older")
    path = os.pathsep.join(str(tree / source) for source in SOURCES)
    run(empty_database_url, tmp_path, "db", "upgrade", PYTHONPATH=path)
    with staged(gpu_cluster, teams.take(), empty_database_url, tmp_path) as stage:
        made = Older(tree, stage)
        documents = tmp_path / "tenants.yaml"
        documents.write_text(TENANTS.format(namespace=stage.namespace, gpus=8))
        made.run(stage.installed.admin_url, "apply", "-f", str(documents))
        yield made


class Flow:
    """Jobs that come one after the other, of one GPU and a second each."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._submit, name="flow")
        self.names: list[str] = []

    @contextmanager
    def flowing(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def _submit(self) -> None:
        while not self._stop.wait(0.4):
            name = f"flow-{len(self.names)}"
            self._stage.create_job(name, gpus=1, runtime="1s")
            self.names.append(name)

    def until_more_finish(self, what: str, jobs: int = 3) -> None:
        """Wait until some that are submitted from now on are Finished."""
        first = len(self.names)
        finished = "SELECT count(*) AS n FROM run r JOIN workload w ON w.id = r.workload_id WHERE w.name = ANY(:names) AND r.outcome = 'Finished'"
        self._stage.until(
            lambda: self._stage.rows(finished, names=self.names[first:])[0]["n"] >= jobs, f"Jobs to finish {what}"
        )

    def check(self) -> None:
        """Each was run once and is over, and nothing is held."""
        over = "SELECT count(*) AS n FROM workload WHERE state = 'Finished' AND name LIKE 'flow-%'"
        self._stage.until(lambda: self._stage.rows(over)[0]["n"] == len(self.names), "every Job to finish", seconds=180)
        runs = self._stage.rows(
            "SELECT w.name, r.attempt, r.outcome FROM run r JOIN workload w ON w.id = r.workload_id WHERE w.name LIKE 'flow-%'"
        )
        assert sorted((run["name"], run["attempt"], run["outcome"]) for run in runs) == sorted(
            (name, 1, "Finished") for name in self.names
        )
        self._stage.until(lambda: self._stage.used() == 1, "all quota to come back but that of the long Job")
        self._stage.until(lambda: not self._stage.rows("SELECT 1 FROM action"), "nothing to be left to do")


def test_upgrade_beneath_an_older_controller_and_back(older: Older) -> None:
    stage = older.stage
    stage.create_job("long", gpus=1)
    old = older.lead()
    stage.until_running("long")
    flow = Flow(stage)
    with flow.flowing():
        flow.until_more_finish("under the older controller")
        said = run(stage.installed.owner_url, stage.folder, "db", "upgrade")
        assert f"-> {head_revision()}" in said
        flow.until_more_finish("under the older controller, after the migration")
        assert not old.ended(), old.said()
        for trouble in ("engine thrown away", "term lost", "not renewed", '"level": "error"'):
            assert trouble not in old.said(), old.said()
        new = stage.start(lease_seconds=LEASE_SECONDS)
        old.process.terminate()
        stage.until(lambda: "engine built" in new.said() or new.ended(), "the newer controller to take over")
        flow.until_more_finish("under the newer controller")
        new.process.terminate()
        back = older.lead()
        flow.until_more_finish("under the older controller, after the rollback")
        assert "engine thrown away" not in back.said(), back.said()
    flow.check()
    assert [(each["attempt"], each["outcome"]) for each in stage.runs("long")] == [(1, "Running")]
