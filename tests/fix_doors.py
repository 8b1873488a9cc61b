"""The webhook at work: processes of their own that a real API server asks about the Jobs of one namespace.

`doors` is a namespace where alice and bob have the role `edit`, a ledger with the tenants of `CONFIGURATION`, and no webhook
yet. A test opens one or more, and talks to the API server as somebody. `webhooks` is the same without a cluster: a test asks
the webhooks itself (`fix_reviews`).
"""

from __future__ import annotations

import os
import signal
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Engine, text

import fix_nursery
from aiqueue.cli.harness import manifests, ports, product
from aiqueue.cli.harness.certificates import Authority
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from aiqueue.queue import documents
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.store import configuration
from fix_nursery import Process

T = TypeVar("T")
WAIT_SECONDS = 60.0


@dataclass(slots=True)
class WebhookProcess:
    """One `aiqueue webhook`."""

    process: Process
    log: Path
    port: int
    ca_file: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_SECONDS)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a GET, its certificate verified; status 0 where nobody answers."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{self.port}{path}", context=context, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)


@dataclass(slots=True)
class Webhooks:
    """A ledger, and the webhooks that a test starts on it."""

    ledger: Engine
    ledger_url: str
    #: The ledger as the webhook logs in.
    webhook_url: str
    #: Where the tenants of `CONFIGURATION` have their queues.
    namespace: str
    folder: Path
    processes: list[WebhookProcess] = field(default_factory=list)

    @property
    def certificates(self) -> Path:
        """Folder with ca.crt, tls.crt and tls.key."""
        folder = self.folder / "certificates"
        if not (folder / "tls.crt").exists():
            Authority.open(folder).serving("tls")
        return folder

    def start(self, *, port: int | None = None, **settings: str) -> WebhookProcess:
        """Start a webhook; settings are AIQUEUE_ variables without the prefix, in lower case."""
        if port is None:
            (port,) = ports.choose(1)
        log = self.folder / f"webhook-{len(self.processes)}.log"
        environment = {
            "AIQUEUE_DATABASE_URL": self.webhook_url,
            "AIQUEUE_WEBHOOK_ADDRESS": f"127.0.0.1:{port}",
            "AIQUEUE_WEBHOOK_CERTIFICATE_FOLDER": str(self.certificates),
            "AIQUEUE_WEBHOOK_DRAIN_SECONDS": "0",
            "PATH": os.defpath,
            "HOME": str(self.folder),
            "PYTHONWARNINGS": "error",
            **{f"AIQUEUE_{name.upper()}": value for name, value in settings.items()},
        }
        started = WebhookProcess(fix_nursery.start("webhook", environment, log), log, port, self.certificates / "ca.crt")
        self.processes.append(started)
        return started

    def await_ready(self, webhook: WebhookProcess) -> WebhookProcess:
        """Wait until a webhook says it is ready."""
        self.until(lambda: webhook.ended() or webhook.get("/readyz")[0] == 200, "a webhook to be ready")
        assert not webhook.ended(), webhook.said()
        return webhook

    def until(self, probe: Callable[[], T | None], what: str, seconds: float = WAIT_SECONDS) -> T:
        """Wait for a condition; on failure the logs of the webhooks are shown."""
        try:
            return until(probe, seconds=seconds, what=what, longest_pause_seconds=0.1)
        except BaseException:
            for each in self.processes:
                print(f"--- {each.log.name}\n{each.said()[-6000:]}")
            raise

    def apply(self, yaml: str, *, allow_drain: bool = False) -> None:
        """Apply administrators' documents."""
        with transaction(self.ledger) as connection:
            given = documents.read_documents(yaml, "test")
            configuration.apply(connection, given, claimed_by="test", allow_drain=allow_drain)

    def end_all(self) -> None:
        """End whatever was started."""
        for each in self.processes:
            if not each.ended():
                each.signal(signal.SIGCONT)
                each.kill()


@dataclass(slots=True)
class Doors(Webhooks):
    """The same, with a namespace of a cluster whose API server asks a webhook that a test opens."""

    cluster: DevCluster = field(kw_only=True)

    def open(self, *, port: int | None = None, **settings: str) -> WebhookProcess:
        """Start a webhook and have the API server ask it about this namespace."""
        webhook = self.await_ready(self.start(port=port, **settings))
        self.register(webhook)
        return webhook

    def register(self, webhook: WebhookProcess, **change: object) -> None:
        """Have the API server ask a webhook; `change` as in `manifests.register_webhook`."""
        manifests.register_webhook(
            self.cluster, webhook.port, webhook.ca_file, name=self.namespace, namespace=self.namespace, **change
        )

    def unregister(self) -> None:
        """Have the API server ask nobody."""
        self.cluster.kubectl("delete", "validatingwebhookconfiguration", self.namespace, "--ignore-not-found")


#: Queue `train` of tenant research (8 GPUs of h100, at most 4 more from lab), queue `cpu` of tenant ops, queue `closed` in Hold.
CONFIGURATION = """
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
metadata: {{name: normal}}
spec: {{priority: 100, maxRuntime: 24h}}
---
apiVersion: aiqueue.dev/v1
kind: Class
metadata: {{name: urgent}}
spec: {{priority: 1000}}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {{name: lab}}
spec:
  quotas:
  - flavor: h100
    resources: [{{name: nvidia.com/gpu, nominal: 16}}]
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {{name: research}}
spec:
  parent: lab
  quotas:
  - flavor: h100
    resources: [{{name: nvidia.com/gpu, nominal: 8, borrowingLimit: 4}}]
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
spec: {{tenant: research, defaultClass: normal, allowedClasses: [normal]}}
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {{name: cpu, namespace: {namespace}}}
spec: {{tenant: ops}}
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {{name: closed, namespace: {namespace}}}
spec: {{tenant: ops, state: Hold}}
"""


@pytest.fixture
def doors(managed_cluster: DevCluster, team: str, ledger_url: str, tmp_path: Path) -> Iterator[Doors]:
    """A namespace and a ledger of their own; whatever was started is ended and nobody is asked any more."""
    ledger = open_database(ledger_url, application_name="test", pool_size=2)
    with transaction(ledger) as connection:
        connection.execute(text("UPDATE ledger SET uid = gen_random_uuid()"))
    made = Doors(ledger, ledger_url, product.login(ledger_url, "webhook"), team, tmp_path, cluster=managed_cluster)
    made.apply(CONFIGURATION.format(namespace=team))
    yield made
    made.unregister()
    made.end_all()
    ledger.dispose()


@contextmanager
def without_cluster(ledger_url: str, folder: Path) -> Iterator[Webhooks]:
    """This ledger with the tenants of `CONFIGURATION` for namespace team-a, and no webhook yet."""
    ledger = open_database(ledger_url, application_name="test", pool_size=2)
    made = Webhooks(ledger, ledger_url, product.login(ledger_url, "webhook"), "team-a", folder)
    made.apply(CONFIGURATION.format(namespace=made.namespace))
    yield made
    made.end_all()
    ledger.dispose()


@pytest.fixture
def webhooks(ledger_url: str, tmp_path: Path) -> Iterator[Webhooks]:
    """A ledger with tenants, no cluster and no webhook yet."""
    with without_cluster(ledger_url, tmp_path) as made:
        yield made
