"""The real parts that whole-system benchmarks measure: etcd, an API server, Postgres with a ledger, and aiqueue's controller.

No kube-controller-manager runs, so Jobs are stored and nothing but aiqueue and the benchmark acts on them. Postgres waits for the disk
at each commit, as a ledger must; etcd does not, here and in what aiqueue is compared with. The controller has the rights of the manifests
and a token of its service account, as in a real cluster.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from sqlalchemy import Engine, text

from aiqueue.cli.harness import build, manifests, ports, processes, product
from aiqueue.cli.harness.api import Api
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.postgres import PROGRAM as POSTGRES
from aiqueue.cli.harness.postgres import DevPostgres
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.documents import Record
from aiqueue.queue.store import configuration
from stand import meters, sender

READY_SECONDS = 120.0
SIDE_BY_SIDE = 8


@dataclass(slots=True)
class Controller:
    """One `aiqueue controller`."""

    process: subprocess.Popen[bytes]
    log: Path
    health_port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def ready(self) -> bool:
        """Whether it leads, has built its engine and has nothing to complain of.

        Raises:
            HarnessError: it has ended.
        """
        if self.process.poll() is not None:
            raise HarnessError(f"the controller ended with {self.process.returncode}: {processes.tail(self.log)}")
        try:
            with urlopen(f"http://{ports.LOOPBACK}:{self.health_port}/readyz", timeout=5) as got:
                return bool(got.status == HTTPStatus.OK) and "engine built" in self.said()
        except OSError:
            return False

    def await_ready(self, seconds: float = READY_SECONDS) -> None:
        """Return once it is ready."""
        until(self.ready, seconds=seconds, what="readiness of the controller")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


@dataclass(slots=True)
class Stand:
    """What `stand` sets up. `token` is one of the controller's service account, `admin_token` of one that may do anything with Jobs."""

    cluster: DevCluster
    postgres: DevPostgres
    installed: product.Product
    ledger: Engine
    folder: Path
    admin_token: str
    controllers: list[Controller] = field(default_factory=list)

    @property
    def api(self) -> Api:
        return self.cluster.api

    @property
    def server_port(self) -> int:
        return int(self.cluster.server.rpartition(":")[2])

    @property
    def controller_token(self) -> str:
        """A fresh token of the controller's own account."""
        return _token(self.api, manifests.NAMESPACE, manifests.SERVICE_ACCOUNT)

    def pids(self) -> dict[str, int]:
        """The programs that are measured."""
        running = {each.name: each.identity.pid for each in (*self.cluster.running(), *self.postgres.running())}
        found = {"apiserver": running[build.APISERVER], "etcd": running[build.ETCD], "postgres": running[POSTGRES]}
        return found | ({"controller": self.controllers[-1].pid} if self.controllers else {})

    def start_controller(self, **settings: str) -> Controller:
        """Start a controller; settings are AIQUEUE_ variables without the prefix, in lower case."""
        (port,) = ports.choose(1)
        log = self.folder / f"controller-{len(self.controllers)}.log"
        environment = self.installed.controller_environment(
            AIQUEUE_HEALTH_ADDRESS=f"{ports.LOOPBACK}:{port}",
            PATH=os.defpath,
            HOME=str(self.folder),
            **{f"AIQUEUE_{name.upper()}": value for name, value in settings.items()},
        )
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*product.COMMAND], env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        self.controllers.append(Controller(process, log, port))
        return self.controllers[-1]

    def apply(self, records: Sequence[Record]) -> None:
        """Write configuration, in one transaction."""
        with transaction(self.ledger) as connection:
            configuration.apply(connection, list(records), claimed_by="bench", allow_drain=True)

    def namespaces(self, names: Sequence[str]) -> None:
        """Make namespaces."""
        contents = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            list(pool.map(lambda content: self.api.call("POST", "/api/v1/namespaces", content), contents))

    def number(self, statement: str, **values: Any) -> int:
        """Ask the ledger for one number."""
        with transaction(self.ledger) as connection:
            return int(connection.execute(text(statement), values).scalar_one())

    def order(self, requests: Sequence[sender.Request], **more: Any) -> sender.Order:
        """An order for the client's process, as one that may do anything with Jobs unless `token` says otherwise."""
        chosen = {"token": self.admin_token, **more}
        return sender.Order(port=self.server_port, ca_file=str(self.cluster.ca_file), requests=list(requests), **chosen)

    @contextmanager
    def measured(self) -> Iterator[Costs]:
        """What the programs use during the block."""
        pids = self.pids()
        for name, pid in pids.items():
            if name != "postgres":
                meters.forget_peak(pid)
        costs = Costs()
        before, began = {name: meters.usage(pid) for name, pid in pids.items()}, time.monotonic()
        yield costs
        costs.seconds = time.monotonic() - began
        for name, pid in pids.items():
            now = meters.usage(pid)
            costs.cpu_seconds[name] = now.cpu_seconds - before[name].cpu_seconds
            # Postgres is many processes that share memory, so only what it has in the end can be told.
            costs.resident_bytes[name] = now.resident_bytes if name == "postgres" else meters.peak_bytes(pid)


@dataclass(slots=True)
class Costs:
    """CPU seconds and peak resident bytes of each program (of Postgres those at the end), over so many seconds."""

    cpu_seconds: dict[str, float] = field(default_factory=dict)
    resident_bytes: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def told(self) -> Mapping[str, Mapping[str, float]]:
        """For the line of JSON."""
        return {
            "cpu_seconds": {name: round(each, 2) for name, each in self.cpu_seconds.items()},
            "resident_mib": {name: round(each / 2**20) for name, each in self.resident_bytes.items()},
        }


@contextmanager
def stand(folder: Path, *, doors: bool = False) -> Iterator[Stand]:
    """Start etcd, an API server and Postgres with a migrated ledger; end it all with the block.

    Args:
        folder: for everything, made if need be.
        doors: aiqueue's policies are in force.

    Raises:
        HarnessError: something does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        cluster = stack.enter_context(DevCluster.create(folder / "cluster", name="bench", bare=True))
        postgres = stack.enter_context(DevPostgres.create(folder / "postgres", durable=True, owned=True))
        stack.callback(postgres.purge)
        manifests.apply_dev(cluster)
        if not doors:
            _drop_policies(cluster.api)
        owner = postgres.create_database("aiqueue")
        product.migrate(owner)
        account = cluster.service_account_kubeconfig(manifests.NAMESPACE, manifests.SERVICE_ACCOUNT)
        installed = product.Product(owner, product.login(owner, "admin"), product.login(owner, "controller"), account)
        ledger = open_database(owner, application_name="aiqueue-bench", pool_size=4, statement_timeout_seconds=600)
        stack.callback(ledger.dispose)
        made = Stand(cluster, postgres, installed, ledger, folder, _admit(cluster))
        try:
            yield made
        finally:
            for each in made.controllers:
                each.kill()


def _drop_policies(api: Api) -> None:
    """Put none of the policies in force: what is compared is aiqueue's controller."""
    group = "/apis/admissionregistration.k8s.io/v1"
    for resource in ("mutatingadmissionpolicybindings", "validatingadmissionpolicybindings"):
        for each in api.call("GET", f"{group}/{resource}")["items"]:
            api.call("DELETE", f"{group}/{resource}/{each['metadata']['name']}")
    probe = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "probe", "namespace": "default", "annotations": {"aiqueue.dev/run": "probe"}},
        "spec": {
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "registry.example/none"}]}}
        },
    }
    path = "/apis/batch/v1/namespaces/default/jobs?dryRun=All"
    until(
        lambda: api.ask("POST", path, probe).status == HTTPStatus.CREATED, seconds=READY_SECONDS, what="the end of the policies"
    )


def _admit(cluster: DevCluster) -> str:
    """The token of a service account that may do anything with Jobs, as a pipeline or a Job controller has."""
    cluster.kubectl("create", "clusterrole", "bench", "--verb=*", "--resource=jobs.batch,jobs.batch/status")
    cluster.kubectl("create", "clusterrolebinding", "bench", "--clusterrole=bench", "--serviceaccount=default:bench")
    cluster.kubectl("create", "serviceaccount", "bench", "--namespace=default")
    return _token(cluster.api, "default", "bench")


def _token(api: Api, namespace: str, name: str) -> str:
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
    return str(api.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token", asked)["status"]["token"])
