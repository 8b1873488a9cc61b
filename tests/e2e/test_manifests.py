"""The manifests build, apply, grant no more than they say, and the dev overlay is no weaker than the base.

What the overlays for real clusters add is in test_overlays.py.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiqueue.admission.kube import names
from aiqueue.cli import resources
from aiqueue.cli.harness import manifests
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.settings import Settings
from fix_managed import WAIT_SECONDS, Actor, job

pytestmark = pytest.mark.e2e

FOLDER = resources.manifests_path()
BASE = FOLDER / "base"
DEV = FOLDER / "overlays" / "dev"
WEBHOOK_USER = f"system:serviceaccount:{manifests.NAMESPACE}:aiqueue-webhook"
PERMISSIONS = Path(__file__).with_name("controller_permissions.txt")


@functools.cache
def built(cluster: DevCluster, folder: Path) -> Mapping[tuple[str, str], dict[str, Any]]:
    """What a kustomization makes, by kind and name; nobody changes it."""
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


@pytest.mark.parametrize("folder", [BASE, FOLDER / "policies", FOLDER / "webhook", DEV], ids=lambda each: each.name)
def test_builds_and_is_accepted_by_the_server(managed_cluster: DevCluster, folder: Path) -> None:
    options = ("--dry-run=server", "--validate=strict", "--output=name")
    applied = managed_cluster.kubectl("apply", f"--kustomize={folder}", *options).splitlines()
    assert len(applied) == len(built(managed_cluster, folder)) > 0


def test_dev_overlay_is_the_base_without_what_runs_in_pods(managed_cluster: DevCluster) -> None:
    base, dev = built(managed_cluster, BASE), built(managed_cluster, DEV)
    in_pods = {
        (kind, name) for kind in ("Deployment", "PodDisruptionBudget") for name in ("aiqueue-controller", "aiqueue-webhook")
    }
    assert base.keys() - dev.keys() == in_pods | {
        ("Service", "aiqueue-webhook"),
        ("ValidatingWebhookConfiguration", "aiqueue"),
    }
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
    found = {name: each for (kind, name), each in built(managed_cluster, BASE).items() if kind.endswith("AdmissionPolicy")}
    assert found.keys() >= {"aiqueue-take-in", "aiqueue-managed-jobs", "aiqueue-unmanaged-jobs"}
    for name, policy in found.items():
        rules = policy["spec"]["matchConstraints"]["resourceRules"]
        assert {each for rule in rules for each in rule["resources"]} <= {"jobs", "pods"}, name
        assert policy["spec"]["failurePolicy"] == "Fail", name


def test_policies_concern_jobs_by_their_label_and_namespaces_that_asked_for_more(managed_cluster: DevCluster) -> None:
    objects = built(managed_cluster, BASE)
    for (kind, name), policy in objects.items():
        if not kind.endswith("AdmissionPolicy"):
            continue
        if name == "aiqueue-controller-pods":  # concerns one user
            (condition,) = policy["spec"]["matchConditions"]
            assert condition["expression"].startswith("request.userInfo.username == params.")
            continue
        bound = objects[f"{kind}Binding", name]["spec"].get("matchResources", {}).get("namespaceSelector")
        by_label = policy["spec"]["matchConstraints"].get("objectSelector", {}).get("matchExpressions", [])
        assert bound or [each["key"] for each in by_label][:1] == ["aiqueue.dev/queue"], name


@pytest.mark.parametrize("name", ["aiqueue-controller", "aiqueue-webhook"])
def test_pods_keep_to_the_restricted_standard(managed_cluster: DevCluster, name: str) -> None:
    """The namespace enforces it, so the server is the judge; a weaker pod shows that it does judge."""
    deployment = built(managed_cluster, BASE)["Deployment", name]
    create = ("create", "--filename=-", "--dry-run=server", "--output=name")
    assert managed_cluster.kubectl(*create, stdin=pod_of(deployment)) == "pod/probe\n"
    with pytest.raises(HarnessError, match='violates PodSecurity "restricted:latest"'):
        managed_cluster.kubectl(*create, stdin=pod_of(deployment, hostNetwork=True))


@pytest.mark.parametrize("name", ["aiqueue-controller", "aiqueue-webhook"])
def test_replicas_roll_without_a_gap_and_write_nowhere(managed_cluster: DevCluster, name: str) -> None:
    objects = built(managed_cluster, BASE)
    spec = objects["Deployment", name]["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    assert spec["template"]["spec"]["topologySpreadConstraints"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == "aiqueue:0.1.0"
    assert container["args"] == [name.removeprefix("aiqueue-")]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    budget = objects["PodDisruptionBudget", name]["spec"]
    assert (budget["minAvailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    for selector in (spec["selector"], budget["selector"]):
        assert selector["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """Variables of a container: the text, or where it comes from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def test_controller_container(managed_cluster: DevCluster) -> None:
    deployment = built(managed_cluster, BASE)["Deployment", "aiqueue-controller"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert environment(container) == {
        "AIQUEUE_DATABASE_URL": {"secretKeyRef": {"name": "aiqueue-database", "key": "url"}},
        "AIQUEUE_HEALTH_ADDRESS": "0.0.0.0:8080",
    }
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    for probe, path in {"livenessProbe": "/healthz", "startupProbe": "/healthz", "readinessProbe": "/readyz"}.items():
        assert container[probe]["httpGet"] == {"path": path, "port": "http"}


def test_webhook_container(managed_cluster: DevCluster) -> None:
    objects = built(managed_cluster, BASE)
    pod = objects["Deployment", "aiqueue-webhook"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = environment(container)
    settings = Settings.model_validate(
        {name.removeprefix("AIQUEUE_").lower(): text for name, text in told.items() if isinstance(text, str)}
    )
    assert told["AIQUEUE_DATABASE_URL"] == {"secretKeyRef": {"name": "aiqueue-webhook-database", "key": "url"}}
    (mount,) = container["volumeMounts"]
    assert mount == {"name": "certificate", "mountPath": str(settings.webhook_certificate_folder), "readOnly": True}
    (port,) = container["ports"]
    assert settings.webhook_address == f"0.0.0.0:{port['containerPort']}"
    for probe, path in {"livenessProbe": "/healthz", "startupProbe": "/healthz", "readinessProbe": "/readyz"}.items():
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"], "scheme": "HTTPS"}
    # It drains after SIGTERM; whoever asked just before the end still has the API server's patience for an answer.
    (webhook,) = objects["ValidatingWebhookConfiguration", "aiqueue"]["webhooks"]
    assert pod["terminationGracePeriodSeconds"] > settings.webhook_drain_seconds + webhook["timeoutSeconds"]


def test_webhook_sees_its_certificate_and_never_the_authoritys_key(managed_cluster: DevCluster) -> None:
    (volume,) = built(managed_cluster, BASE)["Deployment", "aiqueue-webhook"]["spec"]["template"]["spec"]["volumes"]
    assert volume["secret"]["secretName"] == "aiqueue-webhook-certificate"
    assert volume["secret"]["optional"] is True
    assert [each["key"] for each in volume["secret"]["items"]] == ["tls.crt", "tls.key"]


def test_webhook_pod_gets_no_token_of_the_cluster(managed_cluster: DevCluster) -> None:
    """The server puts a token into every pod that does not refuse one; the controller's shows that it would."""
    volumes = {}
    for name in ("aiqueue-controller", "aiqueue-webhook"):
        deployment = built(managed_cluster, BASE)["Deployment", name]
        create = ("create", "--filename=-", "--dry-run=server", "--output=json")
        made = json.loads(managed_cluster.kubectl(*create, stdin=pod_of(deployment)))
        volumes[name] = [each["name"].rpartition("-")[0] for each in made["spec"].get("volumes", []) if "projected" in each]
    assert volumes == {"aiqueue-controller": ["kube-api-access"], "aiqueue-webhook": []}


def test_webhook_is_asked_where_it_listens_and_not_about_the_controller(managed_cluster: DevCluster) -> None:
    objects = built(managed_cluster, BASE)
    (webhook,) = objects["ValidatingWebhookConfiguration", "aiqueue"]["webhooks"]
    service = objects["Service", "aiqueue-webhook"]
    pod = objects["Deployment", "aiqueue-webhook"]["spec"]["template"]
    where = webhook["clientConfig"]["service"]
    assert (where["name"], where["namespace"]) == (service["metadata"]["name"], service["metadata"]["namespace"])
    (port,) = service["spec"]["ports"]
    assert (where["port"], where["path"], port["port"], port["targetPort"]) == (443, manifests.WEBHOOK_PATH, 443, "https")
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    (condition,) = [each for each in webhook["matchConditions"] if each["name"] == "is-not-the-controller"]
    user = objects["ConfigMap", "aiqueue-policy"]["data"]["controllerUser"]
    assert condition["expression"] == f"request.userInfo.username != '{user}'"
    assert (webhook["failurePolicy"], webhook["timeoutSeconds"]) == ("Ignore", 2)


def test_webhook_may_do_nothing_in_the_cluster(managed_cluster: DevCluster) -> None:
    """No more than anybody who is let in at all: that of the controller's list which RBAC does not give it."""
    ours = ("events.events.k8s.io ", "jobs.batch ", "limitranges ", "namespaces ", "pods ", "runtimeclasses.node.k8s.io ")
    everybody = "".join(line for line in PERMISSIONS.read_text().splitlines(keepends=True) if not line.startswith(ours))
    for namespace in ("kube-system", manifests.NAMESPACE):
        listing = managed_cluster.kubectl("auth", "can-i", "--list", f"--as={WEBHOOK_USER}", f"--namespace={namespace}")
        assert normalised(listing) == everybody


def test_controller_may_do_what_the_list_says_and_nothing_else(managed_cluster: DevCluster, controller: Actor) -> None:
    listing = managed_cluster.kubectl("auth", "can-i", "--list", f"--as={controller.user}")
    assert normalised(listing) == PERMISSIONS.read_text()


def test_controller_has_no_more_in_any_namespace_but_its_ledgers_claim(managed_cluster: DevCluster, controller: Actor) -> None:
    claim = f"configmaps [] [{names.CLAIM}] [get patch]\n"
    for namespace, more in (("kube-system", set()), (manifests.NAMESPACE, {claim})):
        listing = managed_cluster.kubectl("auth", "can-i", "--list", f"--as={controller.user}", f"--namespace={namespace}")
        assert set(normalised(listing).splitlines(keepends=True)) == {*PERMISSIONS.read_text().splitlines(keepends=True), *more}


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
