"""aiqueue at work: controllers as processes of their own on a real cluster and a fresh ledger.

`stage` is a namespace, an empty ledger and no controller yet; `Stage.tenants` gives it a queue `train`. A test starts
controllers, breaks them and reads the truth back from the API server, its audit log and Postgres.
"""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Engine, text

import fix_nursery
from aiqueue.cli.harness import manifests, ports, product
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from aiqueue.queue import documents
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.store import clusters, configuration
from fix_ledger import Copies
from fix_managed import Teams
from fix_nursery import Process

T = TypeVar("T")
WAIT_SECONDS = 60.0
GPU = "nvidia.com/gpu"
MERGE_PATCH = "application/merge-patch+json"


@dataclass(slots=True)
class ControllerProcess:
    """One `aiqueue controller`."""

    process: Process
    log: Path
    health_port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def stopped(self) -> bool:
        """Whether it sits in SIGSTOP."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_SECONDS)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def readiness(self) -> str:
        """What /readyz answers; nothing where nobody does."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.health_port}/readyz", timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())
        except OSError:
            return ""


@dataclass(slots=True)
class Stage:
    """A ledger, a cluster, a namespace, and the controllers that a test starts."""

    cluster: DevCluster
    installed: product.Product
    ledger: Engine
    namespace: str
    folder: Path
    controllers: list[ControllerProcess] = field(default_factory=list)
    _audited: list[dict[str, Any]] = field(default_factory=list)
    _audit_read: int = 0

    def start(self, **settings: str) -> ControllerProcess:
        """Start a controller; settings are AIQUEUE_ variables without the prefix, in lower case."""
        (port,) = ports.choose(1)
        log = self.folder / f"controller-{len(self.controllers)}.log"
        variables = {f"AIQUEUE_{name.upper()}": value for name, value in settings.items()}
        environment = self.installed.controller_environment(
            AIQUEUE_HEALTH_ADDRESS=f"127.0.0.1:{port}",
            PATH=os.defpath,
            HOME=str(self.folder),
            PYTHONWARNINGS="error",
            **variables,
        )
        started = ControllerProcess(fix_nursery.start("controller", environment, log), log, port)
        self.controllers.append(started)
        return started

    def lead(self, **settings: str) -> ControllerProcess:
        """Start a controller and wait until it has built its engine."""
        started = self.start(**settings)
        self.until(lambda: "engine built" in started.said() or started.ended(), "a controller to lead")
        assert not started.ended(), started.said()
        return started

    def apply(self, yaml: str, *, allow_drain: bool = False) -> None:
        """Apply administrators' documents."""
        with transaction(self.ledger) as connection:
            given = documents.read_documents(yaml, "test")
            configuration.apply(connection, given, claimed_by="test", allow_drain=allow_drain)

    def tenants(self, gpus: int = 32) -> None:
        """Tenant research with so many GPUs behind queue `train`, tenant ops with cpu behind queue `ops`."""
        self.apply(TENANTS.format(namespace=self.namespace, gpus=gpus))

    def create_job(self, name: str, **options: Any) -> dict[str, Any]:
        """Create a Job as cluster-admin; see `job`."""
        return self.cluster.api.call("POST", self._path("jobs"), job(self.namespace, name, **options))

    def job(self, name: str) -> dict[str, Any]:
        """The Job as it is."""
        return self.cluster.api.call("GET", self._path("jobs", name))

    @property
    def uid(self) -> str:
        """The ledger's own id."""
        return str(self.rows("SELECT uid FROM ledger")[0]["uid"])

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Its pods that exist."""
        where = f"{self._path('pods')}?labelSelector=batch.kubernetes.io/job-name%3D{name}"
        return list(self.cluster.api.call("GET", where)["items"])

    def living(self, name: str) -> list[dict[str, Any]]:
        """Its pods that hold something; one that has ended may take a moment to go."""
        return [pod for pod in self.pods(name) if pod["status"].get("phase") not in ("Succeeded", "Failed")]

    def until_stopping(self, name: str) -> None:
        """Wait until the pods of a Job were asked to stop; with `dev-termination` they may go on for long."""
        self.until(
            lambda: all("deletionTimestamp" in pod["metadata"] for pod in self.living(name)),
            f"pods of {name} to be asked to stop",
        )

    def let_stop(self, name: str) -> None:
        """Have the pods of a Job take no more time to stop, once they were asked to."""
        self.until_stopping(name)
        for pod in self.living(name):
            self._end(pod)

    def _end(self, pod: dict[str, Any]) -> None:
        end = {"metadata": {"annotations": {"aiqueue.dev/dev-end": "now"}}}
        self.cluster.api.ask("PATCH", self._path("pods", pod["metadata"]["name"]), end, content_type=MERGE_PATCH)

    def _path(self, resource: str, name: str = "") -> str:
        """Where the API server has Jobs or pods of the namespace; kubectl takes most of a second to start."""
        group = "/apis/batch/v1" if resource == "jobs" else "/api/v1"
        return f"{group}/namespaces/{self.namespace}/{resource}" + (f"/{name}" if name else "")

    def rows(self, statement: str, **values: Any) -> list[Mapping[str, Any]]:
        """Read the ledger."""
        with transaction(self.ledger) as connection:
            return [dict(row) for row in connection.execute(text(statement), values).mappings()]

    def do(self, *statements: str) -> None:
        """Damage the ledger on purpose, as its owner."""
        with transaction(self.ledger) as connection:
            for statement in statements:
                connection.execute(text(statement))

    def workload(self, name: str) -> Mapping[str, Any]:
        """The newest workload row of a Job."""
        found = self.rows(
            "SELECT * FROM workload WHERE namespace = :ns AND name = :name ORDER BY id DESC", ns=self.namespace, name=name
        )
        return found[0] if found else {"state": None}

    def runs(self, name: str) -> list[Mapping[str, Any]]:
        """Runs of all workloads of this name, oldest first."""
        return self.rows(
            "SELECT r.* FROM run r JOIN workload w ON w.id = r.workload_id WHERE w.namespace = :ns AND w.name = :name ORDER BY r.id",
            ns=self.namespace,
            name=name,
        )

    def used(self, resource: str = GPU) -> int:
        """What open runs hold; the rates by which queues use it are as much at any time, whoever died when."""
        (row,) = self.rows(
            "SELECT (SELECT coalesce(sum(a.amount), 0) FROM allocation a JOIN run r ON r.id = a.run_id"
            "         WHERE r.closed_at IS NULL AND a.resource = :resource) AS used,"
            " (SELECT coalesce(sum(u.rate), 0) FROM queue_usage u WHERE u.resource = :resource) AS counted",
            resource=resource,
        )
        assert row["counted"] == row["used"]
        return int(row["used"])

    def until(self, probe: Callable[[], T | None], what: str, seconds: float = WAIT_SECONDS) -> T:
        """Wait for a condition; on failure the logs of the controllers are shown."""
        try:
            return until(probe, seconds=seconds, what=what, longest_pause_seconds=0.1)
        except Exception:
            for each in self.controllers:
                print(f"--- {each.log.name}\n{each.said()[-6000:]}")
            raise

    def until_running(self, name: str, pods: int = 1) -> None:
        """Wait until so many pods of a Job are ready on nodes; the Job itself counts them up to a second later."""
        self.until(lambda: sum(map(is_ready, self.pods(name))) == pods, f"{pods} pods of {name} to be ready")

    def until_state(self, name: str, state: str) -> Mapping[str, Any]:
        """Wait until a workload is in a state."""
        self.until(lambda: self.workload(name)["state"] == state, f"workload {name} to be {state}")
        return self.workload(name)

    def audit(self) -> list[dict[str, Any]]:
        """Entries of the API server's audit log since the stage was set; a half-written last line is left out."""
        with self.cluster.audit_log.open("rb") as log:
            log.seek(self._audit_read)
            whole, mark, _ = log.read().rpartition(b"\n")
        self._audit_read += len(whole + mark)
        self._audited += [json.loads(line) for line in whole.splitlines()]
        return list(self._audited)

    def unsuspends(self, uid: str) -> list[dict[str, Any]]:
        """Successful requests that set suspend from true to false on the Job of this uid, oldest first."""
        found = []
        for entry in self.audit():
            reference = entry.get("objectRef", {})
            if reference.get("resource") != "jobs" or entry["verb"] not in ("patch", "update"):
                continue
            request = entry.get("requestObject") or {}
            about = request.get("metadata", {}).get("uid") == uid and (request.get("spec") or {}).get("suspend") is False
            if about and entry.get("responseStatus", {}).get("code") == 200:
                found.append(entry)
        return found

    def delete_job(self, name: str) -> None:
        """Have a Job deleted, and its pods after it."""
        self.cluster.api.call("DELETE", self._path("jobs", name), {"propagationPolicy": "Background"})

    def delete_jobs(self) -> None:
        """Remove every Job of the stage, and wait until their pods are gone, however long those would like to take."""
        self.cluster.api.call("DELETE", self._path("jobs"), {"propagationPolicy": "Foreground"})
        self.until(self._no_jobs, "the Jobs and their pods to be gone", seconds=2 * WAIT_SECONDS)

    def _no_jobs(self) -> bool:
        for pod in self.cluster.api.call("GET", self._path("pods"))["items"]:
            notes = pod["metadata"].get("annotations", {})
            if "deletionTimestamp" in pod["metadata"] and "aiqueue.dev/dev-termination" in notes:
                self._end(pod)
        return not self.cluster.api.call("GET", self._path("jobs"))["items"]

    def expire_lease(self) -> None:
        """Have nobody wait for the lease of a leader that is dead."""
        self.do("UPDATE leader_lease SET expires_at = clock_timestamp()")


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is on a node and ready, and was not asked to stop."""
    conditions = {each["type"]: each["status"] for each in pod["status"].get("conditions", ())}
    on_its_way = "nodeName" not in pod["spec"] or "deletionTimestamp" in pod["metadata"]
    return conditions.get("Ready") == "True" and not on_its_way


TENANTS = """
apiVersion: aiqueue.dev/v1
kind: Flavor
metadata: {{name: h100}}
spec: {{nodeLabels: {{aiqueue.dev/pool: h100}}}}
---
apiVersion: aiqueue.dev/v1
kind: Flavor
metadata: {{name: cpu-only}}
spec: {{}}
---
apiVersion: aiqueue.dev/v1
kind: Class
metadata: {{name: urgent}}
spec: {{priority: 1000}}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {{name: research}}
spec:
  quotas:
  - flavor: h100
    resources: [{{name: nvidia.com/gpu, nominal: {gpus}}}]
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {{name: ops}}
spec:
  quotas:
  - flavor: cpu-only
    resources: [{{name: cpu, nominal: 64}}]
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {{name: train, namespace: {namespace}}}
spec: {{tenant: research}}
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {{name: ops, namespace: {namespace}}}
spec: {{tenant: ops}}
"""


def job(
    namespace: str,
    name: str,
    *,
    queue: str | None = "train",
    pods: int = 1,
    gpus: int = 8,
    cpu: str = "1",
    runtime: str = "forever",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    template: Mapping[str, Any] | None = None,
    pod_annotations: Mapping[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A Job of `pods` pods of `gpus` GPUs each that run as long as `runtime` says."""
    resources = {"cpu": cpu, **({GPU: str(gpus)} if gpus else {})}
    container = {"name": "main", "image": "registry.example/main:1", "resources": {"requests": resources, "limits": resources}}
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": namespace,
        "labels": dict(labels or {}),
        "annotations": dict(annotations or {}),
    }
    if queue is not None:
        metadata["labels"]["aiqueue.dev/queue"] = queue
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {
            "parallelism": pods,
            "completions": pods,
            "backoffLimit": 0,
            "template": {
                "metadata": {"annotations": {"aiqueue.dev/dev-runtime": runtime, **(pod_annotations or {})}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [container],
                    **(template or {}),
                },
            },
            **spec,
        },
    }


@pytest.fixture(scope="session")
def gpu_cluster(managed_cluster: DevCluster) -> DevCluster:
    """The managed cluster with four nodes of 8 GPUs that carry the label of flavor h100."""
    for number in range(1, 5):
        managed_cluster.add_node(
            f"gpu-{number}", cpu_millicores=64_000, memory_bytes=512 * 2**30, gpus=8, labels={"aiqueue.dev/pool": "h100"}
        )
    return managed_cluster


@contextmanager
def staged(cluster: DevCluster, namespace: str, ledger_url: str, folder: Path, *, hand_over: bool = True) -> Iterator[Stage]:
    """A stage of these, to whose ledger the cluster is handed over; whatever was started is ended, and no Job is left to others."""
    ledger = open_database(ledger_url, application_name="test", pool_size=2)
    with transaction(ledger) as connection:  # ledgers copied from one template would take one another for themselves
        connection.execute(text("UPDATE ledger SET uid = gen_random_uuid()"))
        uid = clusters.ledger_uid(connection)
    if hand_over:  # from the ledger of the stage before
        manifests.hand_over(cluster.api, uid)
    made = Stage(
        cluster,
        product.Product(
            owner_url=ledger_url,
            admin_url=product.login(ledger_url, "admin"),
            controller_url=product.login(ledger_url, "controller"),
            controller_kubeconfig=cluster.service_account_kubeconfig("aiqueue-system", "aiqueue-controller"),
        ),
        ledger,
        namespace,
        folder,
        _audit_read=cluster.audit_log.read_bytes().rfind(b"\n") + 1,
    )
    yield made
    for each in made.controllers:
        if not each.ended():
            each.signal(signal.SIGCONT)
            each.kill()
    made.delete_jobs()
    ledger.dispose()


@pytest.fixture
def stage(gpu_cluster: DevCluster, team: str, ledger_url: str, tmp_path: Path) -> Iterator[Stage]:
    """A stage for one test."""
    with staged(gpu_cluster, team, ledger_url, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared_stage(
    gpu_cluster: DevCluster, teams: Teams, ledger_copies: Copies, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """A stage for a module, with a controller that leads."""
    url = ledger_copies.take()
    with staged(gpu_cluster, teams.take(), url, tmp_path_factory.mktemp("stage")) as made:
        made.lead()
        yield made
    ledger_copies.give_back(url)


@pytest.fixture
def led(shared_stage: Stage) -> Iterator[Stage]:
    """That stage, on which nothing runs and nothing waits in the end. Its controller has to live; names are not used twice."""
    yield shared_stage
    shared_stage.delete_jobs()
    shared_stage.until(lambda: shared_stage.used() == 0, "all quota to come back")
