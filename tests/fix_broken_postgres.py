"""A controller at work whose ledger a test may break: a Postgres server of its own behind a proxy, and Jobs that come and go.

The controller is one process for all tests of a module, so that each of them also shows that it recovers without a restart. Job
`steady` runs through all of them and must not be touched.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from aiqueue.cli.harness import databases, product
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.postgres import PROGRAM, DevPostgres
from fix_controller import ControllerProcess, Stage, staged
from fix_managed import Teams
from fix_pg_proxy import PgProxy

LEASE_SECONDS = 2.0
STEADY = "steady"
#: What a process may use while its ledger is broken: a share of one CPU, and something for what it does before and after.
_MOST_CPU, _CPU_FOR_THE_REST_SECONDS = 0.5, 3.0
#: What it may ask of its ledger meanwhile, connections and statements, in a second.
_MOST_ASKED_A_SECOND = 120.0


@dataclass(slots=True)
class Broken:
    """See the module.

    Attributes:
        login: the controller's role, which a test may alter.
    """

    server: DevPostgres
    proxy: PgProxy
    stage: Stage
    controller: ControllerProcess
    login: str
    submitted: dict[str, str]  # name of a Job -> its uid

    def ready(self) -> str:
        """What /readyz answers."""
        return self.controller.readiness()

    def until_ready_says(self, *words: str) -> None:
        """Wait until /readyz says one of these."""
        said: list[str] = []

        def says() -> bool:
            answer = self.ready()
            if not said or said[-1] != answer:
                said.append(answer)
            return any(word in answer for word in words)

        try:
            self.stage.until(says, f"readiness to say one of {words}")
        except Exception:
            print(f"--- readiness\n{''.join(said)}")
            raise

    def submit(self, name: str, **options: Any) -> None:
        """A Job of one GPU."""
        self.submitted[name] = self.stage.create_job(name, **{"gpus": 1, **options})["metadata"]["uid"]

    def administer(self, *statements: str) -> None:
        """Run statements as the superuser, each by itself, past the proxy."""
        with databases.connection(self.stage.installed.owner_url) as session:
            for statement in statements:
                session.execute(statement.encode())

    def end_sessions(self) -> int:
        """End every session of the controller. Returns how many there were."""
        with databases.connection(self.stage.installed.owner_url) as session:
            ended = session.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = %s", [self.login]
            ).fetchone()
        assert ended is not None
        return int(ended[0])

    def backends(self) -> list[int] | None:
        """Processes of the server that serve the controller, if there are any."""
        with databases.connection(self.stage.installed.owner_url) as session:
            found = session.execute("SELECT pid FROM pg_stat_activity WHERE usename = %s ORDER BY pid", [self.login]).fetchall()
        return [int(pid) for (pid,) in found] or None

    def alter(self, setting: str) -> None:
        """Alter the controller's role, for the sessions that begin from now on."""
        self.administer(f'ALTER ROLE "{self.login}" {setting}')

    @property
    def postmaster(self) -> int:
        """The server's first process."""
        (record,) = (each for each in self.server.running() if each.name == PROGRAM)
        return record.identity.pid

    def halt(self, number: signal.Signals) -> None:
        """Shut the server down: SIGINT is fast, SIGQUIT immediate."""
        os.kill(self.postmaster, number)
        self.stage.until(lambda: not self.server.running(), "the server to be down")

    def bring_back(self) -> None:
        """Start the server again; sessions of the test are new."""
        self.server.start()
        self.stage.ledger.dispose()

    def logged(self, words: str) -> int:
        """How often the controller has said this in its log."""
        return self.controller.said().count(words)

    @contextmanager
    def breaking(self) -> Iterator[None]:
        """While the ledger is broken the controller neither spins nor hammers."""
        began, cpu, asked = time.monotonic(), self._cpu_seconds(), self.proxy.connections + self.proxy.statements
        yield
        took = time.monotonic() - began
        assert self._cpu_seconds() - cpu < _MOST_CPU * took + _CPU_FOR_THE_REST_SECONDS
        assert self.proxy.connections + self.proxy.statements - asked < _MOST_ASKED_A_SECOND * (took + 1)

    def _cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.controller.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def recovers(self) -> None:
        """All that was submitted runs, was started once, and the ledger says what the cluster shows."""
        assert not self.controller.ended(), self.controller.said()[-6000:]
        for name in self.submitted:
            self.stage.until_running(name)
        self.until_ready_says("ok")
        self.stage.until(lambda: not self.stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
        assert self.stage.used() == len(self.submitted)
        for name, uid in self.submitted.items():
            runs = self.stage.rows(
                "SELECT r.attempt, r.outcome FROM run r JOIN workload w ON w.id = r.workload_id WHERE w.uid = :uid", uid=uid
            )
            assert [(run["attempt"], run["outcome"]) for run in runs] == [(1, "Running")], name
            self.stage.until(lambda uid=uid: self.stage.unsuspends(uid) or None, f"the audit log to have {name}")  # type: ignore[misc]
            assert len(self.stage.unsuspends(uid)) == 1, name

    def clear(self) -> None:
        """Delete what a test has submitted, and see its quota come back; `steady` stays."""
        for name in [name for name in self.submitted if name != STEADY]:
            del self.submitted[name]
            self.stage.delete_job(name)
        self.stage.until(lambda: self.stage.used() == len(self.submitted), "quota to come back")


@pytest.fixture(scope="module")
def broken_ledger(gpu_cluster: DevCluster, teams: Teams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    """A controller that leads, with `steady` running."""
    folder = tmp_path_factory.mktemp("broken")
    server = DevPostgres.create(folder / "postgres", durable=True, owned=True)
    try:
        server.start()
        owner_url = server.create_database("aiqueue_broken")
        product.migrate(owner_url)
        with PgProxy(lambda: server.port) as proxy, staged(gpu_cluster, teams.take(), owner_url, folder) as stage:
            direct = stage.installed.controller_url
            stage.installed = replace(stage.installed, controller_url=proxy.through(direct))
            stage.tenants(gpus=32)
            controller = stage.lead(lease_seconds=str(LEASE_SECONDS))
            made = Broken(server, proxy, stage, controller, urlsplit(direct).username or "", {})
            made.submit(STEADY)
            made.recovers()
            yield made
    finally:
        server.purge()


@pytest.fixture
def broken(broken_ledger: Broken) -> Iterator[Broken]:
    """That controller, with `steady` and nothing else."""
    yield broken_ledger
    broken_ledger.clear()
