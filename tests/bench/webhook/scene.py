"""The real parts that are measured: etcd, API server, Postgres with ledgers, webhooks, and the doors in each of their modes."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import text

from aiqueue.cli.harness import build, manifests, ports, processes, product
from aiqueue.cli.harness.api import Answer, Api
from aiqueue.cli.harness.certificates import Authority
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.postgres import PROGRAM as POSTGRES
from aiqueue.cli.harness.postgres import DevPostgres
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.store import configuration
from webhook import world

SWITCH_SECONDS = 30.0
READY_SECONDS = 60.0
#: A collection is deleted one object after another; several go side by side.
SIDE_BY_SIDE = 4
USER = "bench"
_GROUP = "/apis/admissionregistration.k8s.io/v1"
_BINDINGS = ("mutatingadmissionpolicybindings", "validatingadmissionpolicybindings")
_DRY_RUN = "/apis/batch/v1/namespaces/default/jobs?dryRun=All"
_CONFIGURATION = f"{_GROUP}/validatingwebhookconfigurations/aiqueue"


class Mode(StrEnum):
    """Which doors are in force."""

    NOTHING = "nothing"
    POLICIES = "policies"
    #: The policies and the webhook.
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Webhook:
    """One `aiqueue webhook` with a ledger of its own."""

    queues: int
    port: int
    ca_file: Path
    log: Path
    process: subprocess.Popen[bytes]

    def said(self) -> str:
        return processes.tail(self.log)


@dataclass(slots=True)
class Scene:
    """What `stage` sets up."""

    cluster: DevCluster
    postgres: DevPostgres
    folder: Path
    #: Of a service account that may create Jobs, as a pipeline has: administrators would skip the server's flow control, and
    #: a client certificate would be verified again for every request.
    token: str = ""
    bindings: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    mode: Mode = Mode.NOTHING

    @property
    def api(self) -> Api:
        return self.cluster.api

    @property
    def server_port(self) -> int:
        return int(self.cluster.server.rpartition(":")[2])

    def pids(self, webhook: Webhook) -> dict[str, int]:
        """The programs that are measured."""
        running = {each.name: each.identity.pid for each in (*self.cluster.running(), *self.postgres.running())}
        return {
            "webhook": webhook.process.pid,
            "apiserver": running[build.APISERVER],
            "etcd": running[build.ETCD],
            "postgres": running[POSTGRES],
        }

    def switch(self, mode: Mode, webhook: Webhook) -> None:
        """Put these doors in force, and return when they are.

        Raises:
            HarnessError: the API server does not act on the change in time.
        """
        if mode == self.mode:
            return
        if self.mode is Mode.BOTH:
            self._unregister()
        if mode is Mode.NOTHING:
            self.drop_bindings()
        elif self.mode is Mode.NOTHING:
            self._make_bindings()
        if mode is Mode.BOTH:
            manifests.register_webhook(self.cluster, webhook.port, webhook.ca_file)
        self.mode = mode

    def _unregister(self) -> None:
        self.api.call("DELETE", _CONFIGURATION)
        until(
            lambda: self._try(queue=world.NO_SUCH_QUEUE).status == HTTPStatus.CREATED,
            seconds=SWITCH_SECONDS,
            what="the end of asking the webhook",
        )

    def drop_bindings(self) -> None:
        """Put no policy in force, and return when none is."""
        for path, content in self.bindings:
            self.api.call("DELETE", f"{path}/{quote(content['metadata']['name'])}")
        until(self._unguarded, seconds=SWITCH_SECONDS, what="the end of the policies")

    def _make_bindings(self) -> None:
        for path, content in self.bindings:
            self.api.call("POST", path, content)
        manifests.await_policies(self.api, seconds=SWITCH_SECONDS)

    def require(self, mode: Mode) -> None:
        """Return if the policies are in force, or not, as the mode says.

        Raises:
            HarnessError: they are not.
        """
        if not (self._unguarded() if mode is Mode.NOTHING else self._guarded()):
            raise HarnessError(f"the policies ceased to be as they were with {mode} in force")

    def _unguarded(self) -> bool:
        """Whether what each policy would change or refuse is stored as it was sent."""
        return all(answer.status == HTTPStatus.CREATED for answer in self._guarded_requests()) and not _suspended(
            self._try(queue="probe")
        )

    def _guarded(self) -> bool:
        """Whether each validating policy refuses what it should; policies come before webhooks."""
        return all(b"ValidatingAdmissionPolicy" in answer.body for answer in self._guarded_requests())

    def _guarded_requests(self) -> list[Answer]:
        """The answers to a Job that nobody may manage besides aiqueue, and one with a forged annotation."""
        return [self._try(queue="probe", managed_by="aiqueue.dev/probe"), self._try(annotations={"aiqueue.dev/run": "probe"})]

    def _try(
        self, *, queue: str | None = None, annotations: dict[str, str] | None = None, managed_by: str | None = None
    ) -> Answer:
        """Create a Job without storing it."""
        probe = world.job("default", queue or "")
        probe["metadata"] |= {"annotations": annotations or {}, "labels": {world.QUEUE_LABEL: queue} if queue else {}}
        if managed_by:
            probe["spec"]["managedBy"] = managed_by
        return self.api.ask("POST", _DRY_RUN, probe)

    def delete_jobs(self, namespaces: Sequence[str]) -> None:
        """Delete every Job of the benchmark, so that etcd does not grow and all modes begin alike."""
        api = self.api
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}

        def delete(namespace: str) -> None:
            api.call("DELETE", f"/apis/batch/v1/namespaces/{namespace}/jobs?labelSelector=app%3D{world.MARK}", options)

        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            list(pool.map(delete, namespaces))


def _suspended(answer: Answer) -> bool:
    return bool(answer.json()["spec"].get("suspend"))


@contextmanager
def stage(folder: Path, sizes: Sequence[int], say: Callable[[str], None]) -> Iterator[tuple[Scene, dict[int, Webhook]]]:
    """Start everything, with no door in force, and one webhook for each number of queues; end it all with the block.

    Raises:
        HarnessError: something does not start.
    """
    with ExitStack() as stack:
        say("starting etcd, the API server and Postgres")
        cluster = stack.enter_context(DevCluster.create(folder / "cluster", name="bench", bare=True))
        postgres = stack.enter_context(DevPostgres.create(folder / "postgres", durable=False))
        scene = Scene(cluster, postgres, folder)
        say("putting policies and namespaces in place")
        manifests.apply_dev(cluster)
        scene.bindings = _bindings(cluster.api)
        scene.token = _admit_user(cluster, world.namespaces(max(sizes)))
        scene.drop_bindings()
        say(f"writing ledgers of {', '.join(map(str, sizes))} queues")
        urls = _ledgers(postgres, sizes)
        certificates = Authority.open(folder / "webhook")
        certificates.serving("tls")
        webhooks = {size: stack.enter_context(_webhook(scene, size, urls[size], certificates)) for size in sizes}
        for webhook in webhooks.values():
            _await_ready(webhook)
        yield scene, webhooks


def _bindings(api: Api) -> list[tuple[str, dict[str, Any]]]:
    """Path of the collection and content of each binding of aiqueue's policies."""
    found = []
    for resource in _BINDINGS:
        path = f"{_GROUP}/{resource}"
        listed = api.call("GET", path)
        kind = str(listed["kind"]).removesuffix("List")
        for each in listed["items"]:
            name = each["metadata"]["name"]
            content = {"apiVersion": listed["apiVersion"], "kind": kind, "metadata": {"name": name}, "spec": each["spec"]}
            found.append((path, content))
    if not found:
        raise HarnessError("the manifests bind no policies: there is nothing to measure")
    return found


def _admit_user(cluster: DevCluster, namespaces: Sequence[str]) -> str:
    """Make the namespaces, and a service account that may create Jobs in them; its token is returned."""
    # Not the built-in role `edit`, which only the controller manager fills with rights.
    cluster.kubectl("create", "clusterrole", USER, "--verb=create", "--resource=jobs.batch")
    account = f"--serviceaccount=default:{USER}"
    cluster.kubectl("create", "clusterrolebinding", USER, f"--clusterrole={USER}", account)
    cluster.kubectl("create", "serviceaccount", USER, "--namespace=default")
    contents = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces]
    for content in contents:
        cluster.api.call("POST", "/api/v1/namespaces", content)
    return cluster.kubectl("create", "token", USER, "--namespace=default", "--duration=1h").strip()


def _ledgers(postgres: DevPostgres, sizes: Sequence[int]) -> dict[int, str]:
    """For each number of queues the URL of a ledger that holds as many, as the webhook logs in."""
    found = {}
    template = "ledger_template"
    product.migrate(postgres.create_database(template))
    for size in sizes:
        url = postgres.create_database(f"ledger_{size}", template)
        ledger = open_database(url, application_name="aiqueue-bench", pool_size=1)
        try:
            with transaction(ledger) as connection:
                configuration.apply(connection, world.records(size), claimed_by="bench")
            with transaction(ledger) as connection:
                connection.execute(text("ANALYZE"))
        finally:
            ledger.dispose()
        found[size] = product.login(url, "webhook")
    return found


@contextmanager
def _webhook(scene: Scene, queues: int, database_url: str, certificates: Authority) -> Iterator[Webhook]:
    (port,) = ports.choose(1)
    log = scene.folder / f"webhook-{queues}.log"
    environment = {
        "AIQUEUE_DATABASE_URL": database_url,
        "AIQUEUE_WEBHOOK_ADDRESS": f"{ports.LOOPBACK}:{port}",
        "AIQUEUE_WEBHOOK_CERTIFICATE_FOLDER": str(certificates.folder),
        "AIQUEUE_WEBHOOK_DRAIN_SECONDS": "0",
        "PATH": os.defpath,
        "HOME": str(scene.folder),
    }
    argv = [sys.executable, "-m", "aiqueue.cli.main", "webhook"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        yield Webhook(queues, port, certificates.file, log, process)
    finally:
        # It has nothing to lose, and nobody is served any more.
        process.kill()
        process.wait(10)


def _await_ready(webhook: Webhook) -> None:
    context = ssl.create_default_context(cafile=str(webhook.ca_file))

    def ready() -> bool:
        if webhook.process.poll() is not None:
            raise HarnessError(f"the webhook ended with {webhook.process.returncode}: {webhook.said()}")
        try:
            with urllib.request.urlopen(f"https://{ports.LOOPBACK}:{webhook.port}/readyz", context=context, timeout=5) as got:
                return bool(got.status == HTTPStatus.OK)
        except OSError:
            return False

    until(ready, seconds=READY_SECONDS, what="readiness of the webhook")
