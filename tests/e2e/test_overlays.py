"""The overlays for real clusters, each applied for real to a cluster of its own: pods made, judged and spread, and nobody
stopped by a webhook that is not there yet.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiqueue.cli import resources
from aiqueue.cli.harness import manifests
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from fix_managed import QUEUE, WAIT_SECONDS, job

pytestmark = pytest.mark.e2e

OVERLAYS = resources.manifests_path() / "overlays"
#: Every overlay but that of the harness.
NAMES = sorted(each.parent.name for each in OVERLAYS.glob("*/kustomization.yaml") if each.parent.name != "dev")
REPLICAS = {"aiqueue-controller": 2, "aiqueue-webhook": 3}
NODES = 3
DNS, API_SERVER, POSTGRES = (53,), (443, 6443), (5432,)
#: component -> (ports it may reach, ports it may be reached at).
TRAFFIC = {
    "controller": ({*DNS, *API_SERVER, *POSTGRES}, set()),
    "webhook": ({*DNS, *POSTGRES}, {8443}),
    "certificates": ({*DNS, *API_SERVER}, set()),
}


@functools.cache
def _documents(cluster: DevCluster, folder: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(cluster.kubectl("kustomize", str(folder))))


@dataclass(frozen=True, slots=True)
class Installation:
    """A cluster to which an overlay was applied."""

    cluster: DevCluster
    folder: Path

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return dict(json.loads(self.cluster.kubectl("get", kind, name, f"-n={manifests.NAMESPACE}", "-o=json")))

    def all(self, kind: str, *options: str) -> list[dict[str, Any]]:
        return list(json.loads(self.cluster.kubectl("get", kind, f"-n={manifests.NAMESPACE}", "-o=json", *options))["items"])

    def pods(self, component: str) -> list[dict[str, Any]]:
        return [each for each in self.all("pods") if each["metadata"]["labels"]["app.kubernetes.io/component"] == component]

    def documents(self) -> list[dict[str, Any]]:
        """What the overlay makes; nobody changes it."""
        return _documents(self.cluster, self.folder)

    def stored(self) -> dict[tuple[str, str], dict[str, Any]]:
        """What of it is stored, without what controllers write as they go."""
        listed = json.loads(self.cluster.kubectl("get", f"--kustomize={self.folder}", "-o=json"))["items"]
        for each in listed:
            each.pop("status", None)
            each["metadata"].pop("resourceVersion")
        return {(each["kind"], each["metadata"]["name"]): each for each in listed}


def definition(kind: str) -> dict[str, Any]:
    """As much of a kind of cert-manager's as it takes to store one."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    return {
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


@pytest.fixture(scope="module", params=NAMES)
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An overlay on a cluster of three fake nodes."""
    name = str(request.param)
    with DevCluster.create(tmp_path_factory.mktemp("overlay") / "cluster", name=name) as cluster:
        for number in range(1, NODES + 1):
            zone = {"topology.kubernetes.io/zone": f"zone-{number}"}
            cluster.add_node(f"node-{number}", cpu_millicores=8000, memory_bytes=32 * 2**30, labels=zone)
        for kind in ("Certificate", "Issuer"):
            cluster.kubectl("create", "--filename=-", stdin=json.dumps(definition(kind)))
        cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=110s")
        cluster.kubectl("apply", f"--kustomize={OVERLAYS / name}")
        manifests.await_policies(cluster.api)
        yield Installation(cluster, OVERLAYS / name)


def test_both_are_the_same_but_for_the_certificate() -> None:
    contents = [yaml.safe_load((OVERLAYS / name / "kustomization.yaml").read_text()) for name in NAMES]
    ours, theirs = contents
    assert NAMES == ["production", "production-cert-manager"]
    assert [each.rpartition("/")[2] for each in ours["components"]] == ["production", "issued-certificate"]
    assert [each.rpartition("/")[2] for each in theirs["components"]] == ["production", "cert-manager"]


def test_an_installations_own_overlay_names_the_image_everywhere(installation: Installation, tmp_path: Path) -> None:
    """As README.md has it; here with the component for older servers as well."""
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(installation.folder, tmp_path.resolve())],
        "components": [os.path.relpath(OVERLAYS.parent / "components" / "before-1.36", tmp_path.resolve())],
        "images": [{"name": "aiqueue", "newName": "registry.example/aiqueue", "newTag": "9.9.9"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(content))
    made = installation.cluster.kubectl("kustomize", str(tmp_path))
    images = [line.split()[1] for line in made.splitlines() if line.strip().startswith("image:")]
    assert images == ["registry.example/aiqueue:9.9.9"] * (3 if installation.folder.name == "production" else 2)
    assert "kind: MutatingAdmissionPolicy" not in made
    assert "jobs/status" in made


def test_every_pod_is_admitted_and_becomes_ready(installation: Installation) -> None:
    """The namespace enforces the restricted standard, so pods that broke it would not have been made."""
    namespace = json.loads(installation.cluster.kubectl("get", "namespace", manifests.NAMESPACE, "-o=json"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, replicas in REPLICAS.items():
        installation.cluster.kubectl(
            "rollout", "status", f"deployment/{name}", f"--namespace={manifests.NAMESPACE}", "--timeout=110s"
        )
        pods = installation.pods(name.removeprefix("aiqueue-"))
        assert len(pods) == replicas
        assert len({each["spec"]["nodeName"] for each in pods}) == replicas, "not spread"
        assert {each["spec"]["priorityClassName"] for each in pods} == {"system-cluster-critical"}
    quota = installation.get("resourcequota", "aiqueue-critical-pods")
    assert int(quota["status"]["used"]["pods"]) == sum(REPLICAS.values())


def test_a_node_may_be_drained_one_replica_at_a_time(installation: Installation) -> None:
    for name in REPLICAS:

        def one_may_go(name: str = name) -> bool:
            return bool(installation.get("poddisruptionbudget", name).get("status", {}).get("disruptionsAllowed") == 1)

        until(one_may_go, seconds=WAIT_SECONDS, what=f"the budget of {name} to count its pods")


def test_the_service_leads_to_the_webhook_and_to_nothing_else(installation: Installation) -> None:
    selector = installation.get("service", "aiqueue-webhook")["spec"]["selector"]
    chosen = installation.all("pods", "-l", ",".join(f"{key}={value}" for key, value in selector.items()))
    assert [each["spec"]["containers"][0]["args"] for each in chosen] == [["webhook"]] * REPLICAS["aiqueue-webhook"]
    assert {port["containerPort"] for each in chosen for port in each["spec"]["containers"][0]["ports"]} == {8443}


def test_nobody_is_stopped_before_the_webhook_has_its_certificate(installation: Installation) -> None:
    """The API server cannot verify it, or not reach it, and goes on: the Job is held all the same."""
    stored = json.loads(
        installation.cluster.kubectl("create", "-f-", "-o=json", stdin=json.dumps(job("default", "early", labels={QUEUE: "x"})))
    )
    assert stored["spec"]["suspend"] is True
    installation.cluster.kubectl("delete", "job", "early", "--cascade=foreground", "--timeout=110s")


def test_applying_again_changes_nothing_even_after_a_certificate_came(installation: Installation) -> None:
    bundle = {"webhooks": [{"name": "jobs.aiqueue.dev", "clientConfig": {"caBundle": "Cg=="}}]}
    installation.cluster.kubectl("patch", "validatingwebhookconfiguration", "aiqueue", f"--patch={json.dumps(bundle)}")
    before = installation.stored()
    assert len(before) == len(installation.documents())
    lines = installation.cluster.kubectl("apply", f"--kustomize={installation.folder}").splitlines()
    assert len(lines) == len(before)
    # For budgets kubectl sends what is there already, and says "configured".
    others = [line for line in lines if not line.startswith("poddisruptionbudget")]
    assert [line for line in others if not line.endswith(" unchanged")] == []
    assert installation.stored() == before
    (webhook,) = before["ValidatingWebhookConfiguration", "aiqueue"]["webhooks"]
    assert webhook["clientConfig"]["caBundle"] == "Cg=="


def test_nobody_talks_to_anybody_but_as_said(installation: Installation) -> None:
    policies = {each["metadata"]["name"]: each["spec"] for each in installation.all("networkpolicies")}
    assert policies.pop("aiqueue-deny-all") == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    issued = installation.folder.name == "production"
    assert policies.keys() == {"aiqueue-controller", "aiqueue-webhook"} | ({"aiqueue-certificates"} if issued else set())
    for name, spec in policies.items():
        component = name.removeprefix("aiqueue-")
        assert spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == component
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        out, into = ({port["port"] for rule in spec.get(way, ()) for port in rule["ports"]} for way in ("egress", "ingress"))
        assert (out, into) == TRAFFIC[component]


def test_every_pod_that_is_made_has_a_policy_for_its_traffic(installation: Installation) -> None:
    policies = [each["spec"]["podSelector"].get("matchLabels", {}) for each in installation.all("networkpolicies")]
    documents = {(each["kind"], each["metadata"]["name"]): each for each in installation.documents()}
    templates = [each["spec"]["template"] for (kind, _), each in documents.items() if kind == "Deployment"]
    templates += [each["spec"]["jobTemplate"]["spec"]["template"] for (kind, _), each in documents.items() if kind == "CronJob"]
    for template in templates:
        labels = template["metadata"]["labels"]
        assert any(each and each.items() <= labels.items() for each in policies), labels


def test_the_ledger_must_prove_who_it_is(installation: Installation) -> None:
    for name in REPLICAS:
        pod = installation.get("deployment", name)["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        told = {each["name"]: each.get("value") for each in container["env"]}
        assert told["PGSSLMODE"] == "verify-full"
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == "database-authority"]
        assert told["PGSSLROOTCERT"] == f"{mount['mountPath']}/ca.crt"
        assert mount["readOnly"] is True
        (volume,) = [each for each in pod["volumes"] if each["name"] == "database-authority"]
        assert volume["configMap"]["optional"] is True


def test_the_certificates_job_is_admitted_too(installation: Installation) -> None:
    jobs = [each["metadata"]["name"] for each in installation.documents() if each["kind"] == "CronJob"]
    if installation.folder.name != "production":
        assert jobs == []  # cert-manager does it
        return
    assert jobs == ["aiqueue-certificates"]
    first = ("create", "job", "--from=cronjob/aiqueue-certificates", "first", f"--namespace={manifests.NAMESPACE}")
    installation.cluster.kubectl(*first)
    installation.cluster.kubectl("wait", "job/first", "--for=condition=Complete", "-n=aiqueue-system", "--timeout=110s")
    (pod,) = installation.pods("certificates")
    assert pod["spec"]["serviceAccountName"] == "aiqueue-certificates"
