"""The manifests build, apply, grant no more than they say, and the dev overlay is no weaker than the base."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiqueue.cli import resources
from aiqueue.cli.harness import manifests
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from fix_managed import WAIT_SECONDS, Actor, job

pytestmark = pytest.mark.e2e

FOLDER = resources.manifests_path()
BASE = FOLDER / "base"
DEV = FOLDER / "overlays" / "dev"
OVERLAYS = sorted(each.parent for each in FOLDER.glob("overlays/*/kustomization.yaml"))
PERMISSIONS = Path(__file__).with_name("controller_permissions.txt")


def built(cluster: DevCluster, folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """What a kustomization makes, by kind and name."""
    documents = yaml.safe_load_all(cluster.kubectl("kustomize", str(folder)))
    return {(each["kind"], each["metadata"]["name"]): each for each in documents}


def pod_of(deployment: dict[str, Any], **change: Any) -> str:
    """The pod that a Deployment would make, as JSON."""
    template = deployment["spec"]["template"]
    metadata = {**template["metadata"], "name": "probe", "namespace": manifests.NAMESPACE}
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**template["spec"], **change}})


def normalised(listing: str) -> str:
    """`kubectl auth can-i --list` with its columns squeezed and its rows sorted, each once."""
    rows = {" ".join(line.split()) for line in listing.splitlines()[1:] if line.strip()}
    return "".join(f"{row}\n" for row in sorted(rows))


@pytest.mark.parametrize("folder", [BASE, FOLDER / "policies", *OVERLAYS], ids=lambda each: each.name)
def test_builds_and_is_accepted_by_the_server(managed_cluster: DevCluster, folder: Path) -> None:
    options = ("--dry-run=server", "--validate=strict", "--output=name")
    applied = managed_cluster.kubectl("apply", f"--kustomize={folder}", *options).splitlines()
    assert len(applied) == len(built(managed_cluster, folder)) > 0


def test_dev_overlay_is_the_base_without_the_controller(managed_cluster: DevCluster) -> None:
    base, dev = built(managed_cluster, BASE), built(managed_cluster, DEV)
    assert base.keys() - dev.keys() == {("Deployment", "aiqueue-controller"), ("PodDisruptionBudget", "aiqueue-controller")}
    assert dev == {key: base[key] for key in dev}


def test_applying_again_changes_nothing(managed_cluster: DevCluster) -> None:
    lines = managed_cluster.kubectl("apply", f"--kustomize={DEV}").splitlines()
    assert lines
    assert [line for line in lines if not line.endswith(" unchanged")] == []


def test_everything_says_whose_it_is(managed_cluster: DevCluster) -> None:
    for content in built(managed_cluster, BASE).values():
        labels = content["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == labels["app.kubernetes.io/part-of"] == "aiqueue"


def test_policies_type_check(managed_cluster: DevCluster) -> None:
    """The server reports here what an expression gets wrong about a Job."""
    for kind, name in built(managed_cluster, DEV):
        if kind == "ValidatingAdmissionPolicy":
            status = json.loads(managed_cluster.kubectl("get", kind, name, "--output=json"))["status"]
            assert status["typeChecking"] == {}


def test_policies_never_match_a_subresource_and_fail_closed(managed_cluster: DevCluster) -> None:
    policies = {name: each for (kind, name), each in built(managed_cluster, BASE).items() if kind.endswith("AdmissionPolicy")}
    assert len(policies) == 6
    for name, policy in policies.items():
        (rule,) = policy["spec"]["matchConstraints"]["resourceRules"]
        assert policy["spec"]["failurePolicy"] == "Fail"
        if name == "aiqueue-required-pods":
            assert (rule["resources"], rule["operations"]) == (["pods"], ["CREATE"])
        else:
            assert rule["resources"] == ["jobs"]
            assert policy["spec"]["matchConstraints"]["objectSelector"]["matchExpressions"][0]["key"] == "aiqueue.dev/queue"


def test_controller_pod_keeps_to_the_restricted_standard(managed_cluster: DevCluster) -> None:
    """The namespace enforces it, so the server is the judge; a weaker pod shows that it does judge."""
    deployment = built(managed_cluster, BASE)["Deployment", "aiqueue-controller"]
    create = ("create", "--filename=-", "--dry-run=server", "--output=name")
    assert managed_cluster.kubectl(*create, stdin=pod_of(deployment)) == "pod/probe\n"
    with pytest.raises(HarnessError, match='violates PodSecurity "restricted:latest"'):
        managed_cluster.kubectl(*create, stdin=pod_of(deployment, hostNetwork=True))


def test_controller_container(managed_cluster: DevCluster) -> None:
    deployment = built(managed_cluster, BASE)["Deployment", "aiqueue-controller"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "aiqueue:0.1.0"
    assert container["args"] == ["controller"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    (variable,) = container["env"]
    assert variable["name"] == "AIQUEUE_DATABASE_URL"
    assert "secretKeyRef" in variable["valueFrom"]
    (port,) = container["ports"]
    assert port == {"name": "http", "containerPort": 8080}
    for probe, path in {"livenessProbe": "/healthz", "startupProbe": "/healthz", "readinessProbe": "/readyz"}.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}


def test_controller_may_do_what_the_list_says_and_nothing_else(managed_cluster: DevCluster, controller: Actor) -> None:
    listing = managed_cluster.kubectl("auth", "can-i", "--list", f"--as={controller.user}")
    assert normalised(listing) == PERMISSIONS.read_text()


def test_controller_has_no_more_in_any_namespace(managed_cluster: DevCluster, controller: Actor) -> None:
    for namespace in ("kube-system", manifests.NAMESPACE):
        listing = managed_cluster.kubectl("auth", "can-i", "--list", f"--as={controller.user}", f"--namespace={namespace}")
        assert normalised(listing) == PERMISSIONS.read_text()


def test_await_policies_says_what_is_lacking(managed_cluster: DevCluster) -> None:
    forged = job("default", "probe", annotations={"aiqueue.dev/run": "forged"})
    dry_run = "/apis/batch/v1/namespaces/default/jobs?dryRun=All"
    managed_cluster.kubectl("delete", "validatingadmissionpolicybinding", "aiqueue-unmanaged-jobs")
    try:
        until(
            lambda: managed_cluster.api.ask("POST", dry_run, forged).status == 201,
            seconds=WAIT_SECONDS,
            what="the end of the policy",
        )
        lacking = "did not happen within 1 s: a Job with a forged annotation aiqueue.dev/run is not refused, answer 201"
        with pytest.raises(HarnessError, match=lacking):
            manifests.await_policies(managed_cluster.api, seconds=1)
    finally:
        manifests.apply_dev(managed_cluster)
