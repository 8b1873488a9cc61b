"""Rights at the doors: the controller has each right that it needs and says which one is missing; a tenant gets no further than
his own queues, with the webhook and without it.
"""

from __future__ import annotations

import base64
import functools
import http.client
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiqueue.admission.controller import claim
from aiqueue.admission.kube import errors, objects, patches
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.events import Event, EventWriter
from aiqueue.admission.kube.kinds import LIMIT_RANGES, RUNTIME_CLASSES
from aiqueue.cli import resources
from aiqueue.cli.harness.certificates import Authority
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.words import EventReason
from fix_controller import Stage
from fix_controller import job as gpu_job
from fix_doors import Doors
from fix_managed import CLASS, QUEUE, Actor, await_right, has_right, job

pytestmark = pytest.mark.e2e

MANIFESTS = resources.manifests_path()
ROLE_SECONDS = 20.0
ADMISSION = "admissionregistration.k8s.io"


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one kind of object, as RBAC gives it."""

    group: str
    resource: str
    verb: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}"

    def rule(self) -> dict[str, Any]:
        found = {"apiGroups": [self.group], "resources": [self.resource], "verbs": [self.verb]}
        return found | ({"resourceNames": list(self.names)} if self.names else {})

    @property
    def refusal(self) -> str:
        """What the server says where it is missing."""
        return f'cannot {self.verb} resource "{self.resource}"'


def rights_of(rule: Mapping[str, Any]) -> list[Right]:
    return [
        Right(group, resource, verb, tuple(rule.get("resourceNames", ())))
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


def granted() -> list[Right]:
    """All that the manifests give the controller, some in one namespace; servers before 1.36 ask for one more."""
    documents = yaml.safe_load_all((MANIFESTS / "base" / "identity.yaml").read_text())
    everywhere, in_ours = [each["rules"] for each in documents if each["kind"] in ("ClusterRole", "Role")]
    (more,) = yaml.safe_load((MANIFESTS / "components" / "before-1.36" / "controller-rights.yaml").read_text())
    return [right for rule in (*everywhere, *in_ours, more["value"]) for right in rights_of(rule)]


def about(probe: dict[str, Any]) -> Event:
    """A note on a Job."""
    return Event(probe["namespace"], probe["name"], probe["uid"], EventReason.ADMITTED, "a note")


#: What the controller does with each right: the same calls, in the same client.
CALLS: dict[str, Callable[[KubeClient, dict[str, Any]], object]] = {
    "get jobs": lambda client, probe: client.get_job(probe["namespace"], probe["name"]),
    "list jobs": lambda client, _: client.list_jobs(),
    "watch jobs": lambda client, _: client.watch_jobs(resource_version="0", timeout_seconds=1).close(),
    "patch jobs": lambda client, probe: client.patch_job(
        probe["namespace"], probe["name"], {"metadata": {"annotations": {"example.com/probe": "x"}}}
    ),
    "patch jobs/status": lambda client, probe: client.patch_job_status(
        probe["namespace"], probe["name"], patches.forget_start(probe["uid"], "")
    ),
    "list pods": lambda client, probe: client.pods_of(probe["uid"], probe["namespace"]),
    "patch pods": lambda client, probe: client.patch(
        f"/api/v1/namespaces/{probe['namespace']}/pods/none",
        patches.announce_to_pod("none", datetime.now(UTC)),
        objects.Object,
        "notice to a pod",
    ),
    "create events": lambda client, probe: EventWriter(client).create(about(probe), 1),
    "patch events": lambda client, probe: EventWriter(client).count(about(probe), "none", 2),
    "get namespaces": lambda client, _: client.namespace_uid("kube-system"),
    "list limitranges": lambda client, _: client.page(LIMIT_RANGES),
    "watch limitranges": lambda client, _: client.watch(LIMIT_RANGES, resource_version="0", timeout_seconds=1).close(),
    "list runtimeclasses": lambda client, _: client.page(RUNTIME_CLASSES),
    "watch runtimeclasses": lambda client, _: client.watch(RUNTIME_CLASSES, resource_version="0", timeout_seconds=1).close(),
    "get configmaps": lambda client, _: claim.read(client),
    "patch configmaps": lambda client, _: claim.take(client, claim.Held("", "1"), "nobody", "none"),
}


@dataclass(frozen=True, slots=True)
class Somebody:
    """A user with rights of his own making."""

    user: str
    kubeconfig: Path


@pytest.fixture
def somebody(managed_cluster: DevCluster, request: pytest.FixtureRequest) -> Iterator[Somebody]:
    """Somebody with all of the controller's rights but the one that the test names."""
    name = f"lacking-{secrets.token_hex(4)}"
    missing = request.node.callspec.params["missing"]
    rules = [each.rule() for each in granted() if each != missing]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    managed_cluster.kubectl("create", "--filename=-", stdin=json.dumps(role))
    managed_cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--user={name}")
    yield Somebody(name, managed_cluster.user_kubeconfig(name))
    managed_cluster.kubectl("delete", f"clusterrole/{name}", f"clusterrolebinding/{name}")


@pytest.fixture(scope="module")
def probe(managed_cluster: DevCluster) -> Iterator[dict[str, Any]]:
    """Metadata of a Job that waits."""
    content = job("default", f"probe-{secrets.token_hex(4)}", suspend=True)
    stored = json.loads(managed_cluster.kubectl("create", "-f-", "-o=json", stdin=json.dumps(content)))
    yield stored["metadata"]
    managed_cluster.kubectl("delete", "job", stored["metadata"]["name"])


def refusal(client: KubeClient, call: str, probe: dict[str, Any]) -> str:
    """What the server says to it; empty where it lets it pass."""
    try:
        CALLS[call](client, probe)
    except errors.Forbidden as error:
        return str(error)
    except (errors.Conflict, errors.NotFound):
        return ""  # looked at after the rights
    return ""


def test_every_right_has_its_use() -> None:
    assert sorted(map(str, granted())) == sorted(CALLS)


@pytest.mark.parametrize("missing", granted(), ids=str)
def test_without_any_one_right_the_call_that_needs_it_names_it(
    somebody: Somebody, probe: dict[str, Any], missing: Right
) -> None:
    client = KubeClient.from_kubeconfig(somebody.kubeconfig)
    others = [call for call in CALLS if call != str(missing)]
    # The server hears of a new role a moment after it is stored.
    until(
        lambda: not any(refusal(client, call, probe) for call in others),
        seconds=ROLE_SECONDS,
        what=f"all rights but {missing}",
    )
    said = refusal(client, str(missing), probe)
    client.close()
    assert f'User "{somebody.user}" {missing.refusal}' in said
    assert "failed: " in said


def test_with_every_right_nothing_is_refused(controller: Actor, probe: dict[str, Any]) -> None:
    """As the service account of the manifests, which lacks only what older servers ask for."""
    client = KubeClient.from_kubeconfig(controller.kubeconfig)
    assert [call for call in CALLS if refusal(client, call, probe)] == ["patch jobs/status"]
    client.close()


def readiness(port: int) -> str:
    """What /readyz of a controller says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().read().decode()
    except OSError:
        return ""  # not up yet
    finally:
        connection.close()


@pytest.mark.parametrize("missing", [each for each in granted() if str(each) in ("list jobs", "get configmaps")], ids=str)
def test_a_controller_without_a_right_says_which(stage: Stage, somebody: Somebody, missing: Right) -> None:
    started = stage.start(kubeconfig=str(somebody.kubeconfig))
    sentence = f'User "{somebody.user}" {missing.refusal}'

    def told() -> bool:
        assert not started.ended(), started.said()
        heard = readiness(started.health_port) + started.said().replace('\\"', '"')
        return sentence in heard

    stage.until(told, f"the controller to say that it may not {missing}")


@pytest.mark.parametrize(
    "missing", [each for each in granted() if str(each) in ("list limitranges", "watch runtimeclasses")], ids=str
)
def test_a_controller_that_may_not_see_what_surrounds_jobs_says_so_and_does_not_lead(
    stage: Stage, somebody: Somebody, missing: Right
) -> None:
    started = stage.start(kubeconfig=str(somebody.kubeconfig))
    parts = (f'User "{somebody.user}" {missing.refusal}', f"has list and watch of {missing.resource}", "does not try to lead")

    def told() -> bool:
        assert not started.ended(), started.said()
        logged = "a right is missing" in started.said() and parts[1] in started.said()
        return logged and all(part in readiness(started.health_port) for part in parts)

    stage.until(told, f"the controller to say that it may not {missing}")
    assert stage.rows("SELECT term FROM leader") == [{"term": 0}], "it has not kept anybody else from leading either"


ELSEWHERE = """
apiVersion: aiqueue.dev/v1
kind: Class
metadata: {{name: normal}}
spec: {{priority: 100}}
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {{name: theirs, namespace: {elsewhere}}}
spec: {{tenant: research}}
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {{name: narrow, namespace: {namespace}}}
spec: {{tenant: research, defaultClass: normal, allowedClasses: [normal]}}
"""
NOT_YOURS = "there is no queue theirs in namespace {namespace}"
NOT_ALLOWED = "queue {namespace}/narrow does not allow class urgent; it allows one of normal"


def test_a_tenant_is_refused_anothers_queue_and_a_class_that_is_not_his(doors: Doors, alice: Actor) -> None:
    doors.apply(ELSEWHERE.format(namespace=doors.namespace, elsewhere=f"{doors.namespace}-other"))
    doors.open()
    not_yours, not_allowed = (re.escape(each.format(namespace=doors.namespace)) for each in (NOT_YOURS, NOT_ALLOWED))
    with pytest.raises(HarnessError, match=not_yours):
        alice.create(gpu_job(doors.namespace, "theirs", queue="theirs"))
    with pytest.raises(HarnessError, match=not_allowed):
        alice.create(gpu_job(doors.namespace, "urgent", queue="narrow", labels={CLASS: "urgent"}))
    # What he may do he can, and then not move it to where he may not be.
    waiting = alice.create(gpu_job(doors.namespace, "mine", queue="narrow"))
    with pytest.raises(HarnessError, match=not_yours):
        alice.patch(waiting, {"metadata": {"labels": {QUEUE: "theirs"}}})
    with pytest.raises(HarnessError, match=not_allowed):
        alice.patch(waiting, {"metadata": {"labels": {CLASS: "urgent"}}})


def test_the_api_server_asks_nobody_but_the_webhook_it_was_told_to_believe(doors: Doors, alice: Actor, tmp_path: Path) -> None:
    """Somebody who answers in its place, with a certificate of another authority, is not listened to."""
    webhook = doors.open()
    another = base64.b64encode(Authority.open(tmp_path / "another", name="another authority").file.read_bytes()).decode()
    # Fail, so that it shows; as shipped it is Ignore, and the Job is held and not refused.
    change = [
        {"op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": another},
        {"op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail"},
    ]
    configuration = ("validatingwebhookconfiguration", doors.namespace)
    doors.cluster.kubectl("patch", *configuration, "--type=json", f"--patch={json.dumps(change)}")

    def distrusted() -> bool:
        try:
            alice.create(job(doors.namespace, f"early-{secrets.token_hex(4)}", labels={QUEUE: "cpu"}))
        except HarnessError as error:
            return "certificate signed by unknown authority" in str(error)
        return False

    doors.until(distrusted, "the API server to distrust the certificate")
    assert not webhook.ended()


def test_a_queue_of_another_namespace_cannot_even_be_written(team: str, alice: Actor) -> None:
    """A label's value has no room for a namespace, and without a role there nobody puts a Job where the queue is."""
    with pytest.raises(HarnessError, match="a valid label must be"):
        alice.create(job(team, "theirs", labels={QUEUE: "elsewhere/theirs"}))
    with pytest.raises(HarnessError, match='User "alice" cannot create resource "jobs" in API group "batch"'):
        alice.create(job("default", "theirs", labels={QUEUE: "theirs"}))


#: What the doors go by, and the ways round them.
OUT_OF_REACH = (
    ("patch", "jobs.batch/status"),
    ("patch", f"validatingadmissionpolicies.{ADMISSION}"),
    ("delete", f"validatingadmissionpolicybindings.{ADMISSION}"),
    ("patch", f"mutatingadmissionpolicies.{ADMISSION}"),
    ("patch", f"validatingwebhookconfigurations.{ADMISSION}"),
    ("patch", "namespaces"),
    ("create", "pods/binding"),
    ("impersonate", "users"),
)
IN_OUR_NAMESPACE = (("patch", "configmaps"), ("get", "secrets"), ("create", "pods"), ("create", "serviceaccounts/token"))


def test_a_namespaces_own_roles_reach_nothing_that_the_doors_go_by(managed_cluster: DevCluster, team: str) -> None:
    managed_cluster.kubectl("create", "rolebinding", "admins", "--clusterrole=admin", "--user=carol", f"--namespace={team}")

    def may(user: str, right: tuple[str, str], namespace: str) -> bool:
        return has_right(managed_cluster, user, *right, namespace)

    await_right(managed_cluster, "carol", "patch", namespace=team)
    for user in ("alice", "carol"):
        assert may(user, ("patch", "jobs.batch"), team)
        assert [each for each in OUT_OF_REACH if may(user, each, team)] == []
        assert [each for each in IN_OUR_NAMESPACE if may(user, each, "aiqueue-system")] == []


def test_with_the_webhook_down_it_waits_for_the_same_reason_and_cannot_be_started(stage: Stage, alice: Actor) -> None:
    stage.tenants()
    stage.apply(ELSEWHERE.format(namespace=stage.namespace, elsewhere=f"{stage.namespace}-other"))
    editor = ("--clusterrole=edit", "--user=alice", f"--namespace={stage.namespace}")
    stage.cluster.kubectl("create", "rolebinding", "editor", *editor)
    await_right(stage.cluster, "alice", namespace=stage.namespace)
    stage.lead()
    jobs = {
        "theirs": (gpu_job(stage.namespace, "theirs", queue="theirs"), "QueueNotFound", NOT_YOURS),
        "urgent": (
            gpu_job(stage.namespace, "urgent", queue="narrow", labels={CLASS: "urgent"}),
            "ClassNotAllowed",
            NOT_ALLOWED,
        ),
    }
    stored = {name: alice.create(content) for name, (content, _, _) in jobs.items()}
    allowed = alice.create(gpu_job(stage.namespace, "allowed", queue="narrow"))
    stage.until_state(allowed["metadata"]["name"], "Admitted")
    for name, (_, reason, sentence) in jobs.items():
        decision = stage.until(functools.partial(verdict, stage, name), f"a decision on {name}")
        assert (decision["reason"], decision["message"]) == (reason, sentence.format(namespace=stage.namespace))
        said = alice.refused(stored[name], {"spec": {"suspend": False}})
        assert "only aiqueue may set spec.suspend to false" in said
        assert stage.job(name)["spec"]["suspend"] is True
        assert stage.pods(name) == []


def verdict(stage: Stage, name: str) -> Mapping[str, Any] | None:
    """What was decided on the workload of this name."""
    found = stage.rows(
        "SELECT d.reason, d.message FROM workload_decision d JOIN workload w ON w.id = d.workload_id"
        " WHERE w.namespace = :ns AND w.name = :name",
        ns=stage.namespace,
        name=name,
    )
    return found[0] if found else None
