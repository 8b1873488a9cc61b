"""Certificates in a cluster: the keeper's rights and its passes, and what cert-manager is told instead."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from aiqueue.admission.certificates import keeper
from aiqueue.admission.certificates.keeper import Place
from aiqueue.admission.certificates.material import Material
from aiqueue.admission.kube import errors, trust
from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli import resources
from aiqueue.cli.harness import manifests
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.errors import NotFound
from fix_certificates import HOUR, authorities, served, verifies
from fix_kube import Forwarder, forwarded_kubeconfig, server_port
from fix_managed import WAIT_SECONDS

pytestmark = pytest.mark.e2e

FOLDER = resources.manifests_path()
PERMISSIONS = Path(__file__).with_name("certificates_permissions.txt")
ACCOUNT = "aiqueue-certificates"
PLACE = Place()
HOST = PLACE.hosts()[0]
SECRET = ("secret", PLACE.certificate, f"--namespace={PLACE.namespace}")
CONFIGURATION = ("validatingwebhookconfiguration", PLACE.configuration)
WITHOUT_BUNDLE = '[{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": ""}]'


@dataclass(frozen=True, slots=True)
class Kept:
    """The component on a cluster, with a webhook configuration that concerns no namespace."""

    cluster: DevCluster
    folder: Path
    kubeconfig: Path

    def client(self) -> KubeClient:
        """The keeper's service account."""
        return KubeClient.from_kubeconfig(self.kubeconfig, connections=1)

    def keep(self, **change: Any) -> tuple[Material, tuple[str, ...]]:
        """One pass."""
        client = self.client()
        try:
            return keeper.keep(client, PLACE, **change)
        finally:
            client.close()

    def apply(self, *options: str) -> list[str]:
        return self.cluster.kubectl("apply", f"--kustomize={self.folder}", *options).splitlines()

    def stored(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Secret and configuration."""
        secret, configuration = (json.loads(self.cluster.kubectl("get", *each, "-o=json")) for each in (SECRET, CONFIGURATION))
        return secret, configuration

    def versions(self) -> list[str]:
        return [each["metadata"]["resourceVersion"] for each in self.stored()]

    def in_order(self) -> Material:
        """What the Secret holds, which must be what the configuration names."""
        secret, configuration = self.stored()
        held = Material.of({name: base64.b64decode(value) for name, value in secret["data"].items()})
        assert held is not None
        (webhook,) = configuration["webhooks"]
        assert base64.b64decode(webhook["clientConfig"]["caBundle"]) == held.bundle
        assert verifies(held.certificate, held.bundle, HOST, datetime.now(UTC))
        return held

    def empty(self) -> None:
        """As it was first applied."""
        self.cluster.kubectl("patch", *SECRET, "--type=json", '--patch=[{"op": "replace", "path": "/data", "value": {}}]')
        self.cluster.kubectl("patch", *CONFIGURATION, "--type=json", f"--patch={WITHOUT_BUNDLE}")


def component(folder: Path, name: str) -> Path:
    """A kustomization of a component and the webhook configuration, which is narrowed to no namespace at all."""
    folder.mkdir()
    configuration = yaml.safe_load((FOLDER / "webhook" / "configuration.yaml").read_text())
    configuration["webhooks"][0]["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": "nowhere"}}
    (folder / "configuration.yaml").write_text(yaml.safe_dump(configuration))
    where = os.path.relpath(FOLDER / "components" / name, folder.resolve())
    content = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": ["configuration.yaml"]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({**content, "components": [where]}))
    return folder


@pytest.fixture(scope="module")
def kept(managed_cluster: DevCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = component(tmp_path_factory.mktemp("certificates") / "issued", "issued-certificate")
    managed_cluster.kubectl("apply", f"--kustomize={folder}")
    kubeconfig = managed_cluster.service_account_kubeconfig(manifests.NAMESPACE, ACCOUNT)
    made = Kept(managed_cluster, folder, kubeconfig)
    # The rights reach the authorizer a moment after they are stored.
    until(lambda: _succeeds(made.keep), seconds=WAIT_SECONDS, what="the rights of the keeper")
    yield made
    managed_cluster.kubectl("delete", f"--kustomize={folder}", "--ignore-not-found")


def _succeeds(call: Callable[[], object]) -> bool:
    try:
        call()
    except errors.Forbidden:
        return False
    return True


def test_the_keeper_may_do_what_the_list_says_and_nothing_else(kept: Kept) -> None:
    user = f"--as=system:serviceaccount:{manifests.NAMESPACE}:{ACCOUNT}"
    for namespace, lacking in ((manifests.NAMESPACE, ""), ("kube-system", "secrets ")):
        listing = kept.cluster.kubectl("auth", "can-i", "--list", user, f"--namespace={namespace}")
        rows = {" ".join(line.split()) for line in listing.splitlines()[1:] if line.strip()}
        wanted = {row for row in PERMISSIONS.read_text().splitlines() if not (lacking and row.startswith(lacking))}
        assert rows == wanted


def test_a_first_pass_and_a_second(kept: Kept) -> None:
    kept.empty()
    held, said = kept.keep()
    assert said == (
        "there is no certificate yet: an authority is made",
        "the bundle of authorities is written to the configuration",
        "there is no serving certificate that can be used: one is issued",
    )
    assert kept.in_order() == held
    before = kept.versions()
    client = kept.client()
    try:
        assert keeper.keep(client, PLACE) == (held, ())
        assert client.connections_opened() == 1
    finally:
        client.close()
    assert kept.versions() == before


def test_the_command(kept: Kept, tmp_path: Path) -> None:
    kept.empty()
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "AIQUEUE_KUBECONFIG": str(kept.kubeconfig)}
    argv = [sys.executable, "-W", "error", "-m", "aiqueue.cli.main", "certificates", "keep", "--output=json"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert (facts["changed"], facts["hosts"]) == (True, sorted(PLACE.hosts()))
    assert "PRIVATE KEY" not in done.stdout
    assert datetime.fromisoformat(facts["valid_until"]) == served(kept.in_order()).not_valid_after_utc


VERBS = [
    ("role", "get", "get of Secret aiqueue-system/aiqueue-webhook-certificate failed: "),
    ("role", "patch", "patch of Secret aiqueue-system/aiqueue-webhook-certificate failed: "),
    ("clusterrole", "get", "get of ValidatingWebhookConfiguration aiqueue failed: "),
    ("clusterrole", "patch", "patch of ValidatingWebhookConfiguration aiqueue failed: "),
]


@pytest.mark.parametrize(("kind", "verb", "sentence"), VERBS, ids=[f"{kind}-{verb}" for kind, verb, _ in VERBS])
def test_no_right_is_for_nothing(kept: Kept, kind: str, verb: str, sentence: str) -> None:
    rest = {"get": "patch", "patch": "get"}[verb]
    change = json.dumps([{"op": "replace", "path": "/rules/0/verbs", "value": [rest]}])
    said: list[str] = []

    def fails() -> bool:
        # So that a pass needs each of its rights.
        kept.empty()
        try:
            kept.keep()
        except errors.Forbidden as error:
            said.append(str(error))
        return bool(said)

    kept.cluster.kubectl("patch", kind, ACCOUNT, f"--namespace={manifests.NAMESPACE}", "--type=json", f"--patch={change}")
    try:
        until(fails, seconds=WAIT_SECONDS, what=f"a pass without the right to {verb}")
    finally:
        kept.apply()
        until(lambda: _succeeds(kept.keep), seconds=WAIT_SECONDS, what="the rights of the keeper")
    assert said[0].startswith(sentence)
    assert f"cannot {verb} resource" in said[0]
    kept.in_order()


def test_many_at_once_end_well(kept: Kept) -> None:
    kept.empty()
    together = threading.Barrier(4)
    results: list[Material] = []

    def run() -> None:
        together.wait(WAIT_SECONDS)
        results.append(kept.keep()[0])

    crowd = [threading.Thread(target=run) for _ in range(4)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join(WAIT_SECONDS)
    held = kept.in_order()
    assert len(results) == 4
    assert len(authorities(held)) == 1
    assert kept.keep() == (held, ())


@pytest.mark.parametrize("options", [(), ("--server-side", "--force-conflicts")], ids=["client-side", "server-side"])
def test_applying_again_takes_nothing_away(kept: Kept, options: tuple[str, ...]) -> None:
    held = kept.keep()[0]
    before = kept.versions()
    lines = kept.apply(*options)
    assert len(lines) == 8
    assert kept.in_order() == held
    if not options:
        assert [line for line in lines if not line.endswith(" unchanged")] == []
        assert kept.versions() == before
    # Also where something else in them does change.
    path = kept.folder / "configuration.yaml"
    written = path.read_text()
    try:
        path.write_text(written.replace("timeoutSeconds: 2", "timeoutSeconds: 3"))
        kept.apply(*options)
        assert kept.stored()[1]["webhooks"][0]["timeoutSeconds"] == 3
        assert kept.in_order() == held
    finally:
        path.write_text(written)
        kept.apply(*options)


def test_what_somebody_took_away_is_brought_back(kept: Kept) -> None:
    held = kept.keep()[0]
    kept.cluster.kubectl("patch", *CONFIGURATION, "--type=json", f"--patch={WITHOUT_BUNDLE}")
    _, said = kept.keep()
    assert "the authority is not in the configuration any more: it is published again" in said
    after = kept.in_order()
    assert (after.bundle, after.certificate) == (held.bundle, held.certificate)
    # An emptied Secret: whoever serves from memory is believed for a while longer.
    kept.cluster.kubectl("patch", *SECRET, "--type=json", '--patch=[{"op": "remove", "path": "/data"}]')
    kept.keep()
    anew = kept.in_order()
    assert anew.bundle.endswith(held.bundle)
    assert not verifies(anew.certificate, held.bundle, HOST, datetime.now(UTC))
    kept.keep(clock=lambda: datetime.now(UTC) + HOUR)
    assert len(authorities(kept.in_order())) == 1


def test_what_is_missing_is_named(kept: Kept) -> None:
    admin = KubeClient.from_kubeconfig(kept.cluster.kubeconfig)
    try:
        with pytest.raises(NotFound, match=r"get of Secret aiqueue-system/none failed: .*: apply the manifests"):
            keeper.keep(admin, Place(certificate="none"))
        with pytest.raises(NotFound, match="get of ValidatingWebhookConfiguration none failed: "):
            keeper.keep(admin, Place(configuration="none"))
    finally:
        admin.close()


def test_cert_managers_configuration_is_left_to_it(kept: Kept) -> None:
    before = kept.keep()[0]
    annotation = "cert-manager.io/inject-ca-from"
    kept.cluster.kubectl("annotate", *CONFIGURATION, f"{annotation}=aiqueue-system/aiqueue-webhook-certificate")
    try:
        with pytest.raises(keeper.NotInOrder, match=f"has the annotation {annotation}, so cert-manager writes its caBundle"):
            kept.keep()
    finally:
        kept.cluster.kubectl("annotate", *CONFIGURATION, f"{annotation}-")
    assert kept.keep() == (before, ())


def test_what_was_read_too_early_is_not_written_over(kept: Kept) -> None:
    kept.keep()
    client = kept.client()
    try:
        secret = trust.get_secret(client, PLACE.namespace, PLACE.certificate)
        kept.cluster.kubectl("annotate", *SECRET, "test=moved", "--overwrite")
        with pytest.raises(errors.Conflict):
            trust.put_data(client, PLACE.namespace, secret, {"tls.crt": b"stale"})
        configuration = trust.get_configuration(client, PLACE.configuration)
        kept.cluster.kubectl("annotate", *CONFIGURATION, "test=moved", "--overwrite")
        with pytest.raises(errors.Conflict):
            trust.put_bundle(client, configuration, b"")
    finally:
        client.close()
    assert kept.keep()[1] == ()


class Shortest(Random):
    """Waits as short as they may be."""

    def uniform(self, a: float, b: float) -> float:
        return min(a, b)


def test_a_server_that_hangs_up_is_asked_a_few_times(kept: Kept, tmp_path: Path) -> None:
    with Forwarder(server_port(kept.cluster)) as forwarder:
        client = KubeClient.from_kubeconfig(forwarded_kubeconfig(kept.cluster, forwarder, tmp_path), connections=1)
        try:
            held = keeper.keep(client, PLACE)[0]
            before = forwarder.accepted
            forwarder.cut("flapping")
            with pytest.raises(errors.Unavailable, match="get of ValidatingWebhookConfiguration aiqueue failed: no answer"):
                keeper.keep(client, PLACE, rng=Shortest())
            assert forwarder.accepted - before == keeper.MOST_FAILURES + 1
            forwarder.cut("open")
            assert keeper.keep(client, PLACE) == (held, ())
        finally:
            client.close()


# cert-manager


def field_of(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


def an_object(**fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


TEXT, DURATION = field_of("string"), field_of("string", pattern="^[0-9]+h$")
#: Of cert-manager's own definitions, the fields that we write; the server refuses any other.
KINDS = {
    "Issuer": an_object(selfSigned=an_object(), ca={**an_object(secretName=TEXT), "required": ["secretName"]}),
    "Certificate": {
        **an_object(
            isCA=field_of("boolean"),
            commonName=TEXT,
            secretName=TEXT,
            duration=DURATION,
            renewBefore=DURATION,
            dnsNames=field_of("array", items=TEXT),
            usages=field_of("array", items=field_of("string", enum=["digital signature", "server auth"])),
            privateKey=an_object(
                algorithm=field_of("string", enum=["RSA", "ECDSA", "Ed25519"]),
                size=field_of("integer"),
                rotationPolicy=field_of("string", enum=["Never", "Always"]),
            ),
            issuerRef={**an_object(group=TEXT, kind=TEXT, name=TEXT), "required": ["name"]},
        ),
        "required": ["issuerRef", "secretName"],
    },
}


@contextmanager
def cert_manager(cluster: DevCluster) -> Iterator[None]:
    """Its kinds, with nobody behind them."""
    for kind, spec in KINDS.items():
        plural = f"{kind.lower()}s"
        schema = an_object(spec=spec)
        version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.cert-manager.io"},
            "spec": {
                "group": "cert-manager.io",
                "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                "versions": [version],
            },
        }
        cluster.kubectl("apply", "--filename=-", stdin=json.dumps(definition))
    names = [f"crd/{kind.lower()}s.cert-manager.io" for kind in KINDS]
    cluster.kubectl("wait", *names, "--for=condition=Established", "--timeout=110s")
    try:
        yield
    finally:
        cluster.kubectl("delete", *names, "--wait=false")


def test_cert_manager_writes_what_the_webhook_reads(managed_cluster: DevCluster, tmp_path: Path) -> None:
    folder = component(tmp_path / "theirs", "cert-manager")
    documents = list(yaml.safe_load_all(managed_cluster.kubectl("kustomize", str(folder))))
    built = {(each["kind"], each["metadata"]["name"]): each for each in documents}
    assert built.keys() == {
        ("Issuer", "aiqueue-self-signed"),
        ("Certificate", "aiqueue-webhook-authority"),
        ("Issuer", "aiqueue-webhook-authority"),
        ("Certificate", "aiqueue-webhook-certificate"),
        ("ValidatingWebhookConfiguration", "aiqueue"),
    }
    serving = built["Certificate", "aiqueue-webhook-certificate"]
    annotations = built["ValidatingWebhookConfiguration", "aiqueue"]["metadata"]["annotations"]
    assert annotations == {"cert-manager.io/inject-ca-from": f"{PLACE.namespace}/{serving['metadata']['name']}"}
    assert serving["spec"]["secretName"] == PLACE.certificate
    assert serving["spec"]["dnsNames"] == list(PLACE.hosts())
    # Each issuer signs with what another document makes.
    issuers = {name: each["spec"] for (kind, name), each in built.items() if kind == "Issuer"}
    assert serving["spec"]["issuerRef"]["name"] == "aiqueue-webhook-authority"
    assert issuers["aiqueue-webhook-authority"] == {"ca": {"secretName": "aiqueue-webhook-authority"}}
    authority = built["Certificate", "aiqueue-webhook-authority"]["spec"]
    assert (authority["isCA"], authority["secretName"]) == (True, "aiqueue-webhook-authority")
    assert issuers[authority["issuerRef"]["name"]] == {"selfSigned": {}}
    with cert_manager(managed_cluster):
        options = ("--dry-run=server", "--validate=strict", "--output=name")
        applied = until(
            lambda: _applied(managed_cluster, folder, options), seconds=WAIT_SECONDS, what="the kinds of cert-manager"
        )
        assert len(applied) == len(built)


def _applied(cluster: DevCluster, folder: Path, options: tuple[str, ...]) -> list[str] | None:
    try:
        return cluster.kubectl("apply", f"--kustomize={folder}", *options).splitlines()
    except HarnessError as error:
        if "no matches for kind" not in str(error):
            raise
        return None
