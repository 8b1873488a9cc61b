"""A change of the webhook's authority while the API server goes on asking it, and refuses what it cannot ask about."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aiqueue.admission.certificates import keeper, material, x509
from aiqueue.admission.certificates.keeper import Place
from aiqueue.admission.certificates.material import Material
from aiqueue.admission.kube import trust
from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness import manifests
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from fix_certificates import HOUR, authorities, served, settled, signed_by
from fix_doors import Doors, WebhookProcess
from fix_managed import QUEUE, WAIT_SECONDS, job

pytestmark = pytest.mark.e2e


@dataclass(slots=True)
class Load:
    """Jobs created without a pause, by several at once; nothing is stored, and the webhook is asked about each."""

    cluster: DevCluster
    namespace: str
    created: int = 0
    failures: list[str] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> str:
        """Create one Job; "" where it was, else what the server said."""
        path = f"/apis/batch/v1/namespaces/{self.namespace}/jobs?dryRun=All"
        answer = self.cluster.api.ask("POST", path, job(self.namespace, "load", labels={QUEUE: "cpu"}))
        return "" if answer.status == 201 else f"{answer.status}: {answer.body.decode(errors='replace')}"

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                said = self.ask()
            except OSError as error:
                said = repr(error)
            if said:
                self.failures.append(said)
            else:
                self.created += 1

    @contextmanager
    def running(self, threads: int = 3) -> Iterator[None]:
        crowd = [threading.Thread(target=self._run) for _ in range(threads)]
        for each in crowd:
            each.start()
        try:
            yield
        finally:
            self._ended.set()
            for each in crowd:
                each.join(WAIT_SECONDS)

    def await_more(self, number: int = 20) -> None:
        """Until so many more were asked about, or one failed."""
        wanted = self.created + number
        until(lambda: self.failures or self.created >= wanted, seconds=WAIT_SECONDS, what=f"{number} more Jobs")


@dataclass(slots=True)
class Rotated:
    """A webhook of the test's own whose Secret the keeper keeps, and a kubelet's part played by the test."""

    doors: Doors
    place: Place
    client: KubeClient
    mounts: int = 0
    markers: int = 0

    def mount(self) -> None:
        """Bring the Secret to the webhook's folder as a kubelet does: a new folder, and one link that is swapped."""
        secret = trust.get_secret(self.client, self.place.namespace, self.place.certificate)
        folder = self.doors.folder / "certificates"
        folder.mkdir(exist_ok=True)
        self.mounts += 1
        content, link = folder / f"..{self.mounts}", folder / "..link"
        content.mkdir()
        for name, value in (secret.data or {}).items():
            (content / name).write_bytes(value)
            if not (folder / name).is_symlink():
                (folder / name).symlink_to(Path("..data") / name)
        link.symlink_to(content.name)
        link.replace(folder / "..data")

    def keep(self, now: datetime, *hosts: str) -> tuple[Material, tuple[str, ...]]:
        return keeper.keep(self.client, self.place, hosts or ("127.0.0.1",), clock=lambda: now)

    def write(self, name: str, value: str) -> None:
        """Change a field of how the API server reaches the webhook, and wait until it goes by that."""
        change = json.dumps([{"op": "replace", "path": f"/webhooks/0/clientConfig/{name}", "value": value}])
        where = ("validatingwebhookconfiguration", self.place.configuration)
        self.doors.cluster.kubectl("patch", *where, "--type=json", f"--patch={change}")
        self.await_taken_in()

    def point(self, url: str) -> None:
        """Have the API server make new connections: it keeps those it has for as long as bundle and address stay."""
        self.write("url", url)

    def await_served(self, webhook: WebhookProcess, held: Material) -> None:
        """Until new connections get the certificate that the Secret holds."""
        address = ("127.0.0.1", webhook.port)
        wanted = served(held)
        until(
            lambda: x509.load_certificate(ssl.get_server_certificate(address).encode()) == wanted,
            seconds=WAIT_SECONDS,
            what="the new certificate to be served",
        )

    def await_taken_in(self) -> None:
        """Until the API server goes by all webhook configurations written so far: it learns of them in their order."""
        self.markers += 1
        name = f"{self.place.namespace}-{self.markers}"
        marker = {"marker": name}
        rule = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}
        webhook = {
            "name": "marker.aiqueue.dev",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [rule],
            "objectSelector": {"matchLabels": marker},
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
        cluster = self.doors.cluster
        path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
        cluster.api.call("POST", path, {**kind, "metadata": {"name": name}, "webhooks": [webhook]})
        probe = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe", "labels": marker}}
        where = f"/api/v1/namespaces/{self.place.namespace}/configmaps?dryRun=All"
        try:
            until(
                lambda: b"marker.aiqueue.dev" in cluster.api.ask("POST", where, probe).body,
                seconds=WAIT_SECONDS,
                what="the API server to take in configurations",
            )
        finally:
            cluster.api.call("DELETE", f"{path}/{name}")


def test_a_change_of_authority_under_load_drops_nothing(doors: Doors) -> None:
    """The API server refuses what it cannot ask about, so one moment of disbelief would be a failed create."""
    now = datetime.now(UTC)
    client = KubeClient.from_kubeconfig(doors.cluster.kubeconfig, connections=1)
    rotated = Rotated(doors, Place(doors.namespace, "webhook-certificate", doors.namespace), client)
    # An authority that is due three hours ago, and a serving certificate of an hour before that.
    due = now - 3 * HOUR
    made = due - material.AUTHORITY_FOR + material.AUTHORITY_RENEWED_BEFORE
    begin = settled(settled(None, made, ("127.0.0.1",)), due - HOUR, ("127.0.0.1",))
    data = {name: base64.b64encode(value).decode() for name, value in begin.data().items()}
    metadata = {"name": rotated.place.certificate, "namespace": doors.namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
    doors.cluster.kubectl("create", "--filename=-", stdin=json.dumps(secret))
    rotated.mount()
    webhook = doors.await_ready(doors.start())
    # What is tried is belief, not speed.
    doors.register(webhook, failurePolicy="Fail", timeoutSeconds=20)
    assert rotated.keep(due - HOUR) == (begin, ())
    load = Load(doors.cluster, doors.namespace)
    with load.running():
        load.await_more()
        said = []
        # Other hosts, a new authority, its taking over, the old one's leaving: an hour in between, which is past already.
        for step, name in enumerate(("localhost", "localhost", "127.0.0.1", "127.0.0.1")):
            held, done = rotated.keep(due + (step - 1) * HOUR, "127.0.0.1", "localhost")
            said.append(done)
            rotated.await_taken_in()
            load.await_more()
            rotated.mount()
            rotated.await_served(webhook, held)
            rotated.point(f"https://{name}:{webhook.port}{manifests.WEBHOOK_PATH}")
            load.await_more()
    client.close()
    assert load.failures == []
    assert [len(each) > 0 for each in said] == [True] * 4
    assert (len(authorities(held)), authorities(held)[0] in authorities(begin), signed_by(held, 0)) == (1, False, True)
    # Would it have been seen? The bundle of a stranger, and creates fail.
    stranger = base64.b64encode(settled(None, now).bundle).decode()
    rotated.write("caBundle", stranger)
    refusal = until(lambda: load.ask() or None, seconds=WAIT_SECONDS, what="the API server to disbelieve the webhook")
    assert "certificate signed by unknown authority" in refusal
