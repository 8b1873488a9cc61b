"""Namespaces labelled `aiqueue.dev/managed: required`: what is queued there, what is refused, and what goes on."""

import json
from typing import Any

import pytest

from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from fix_managed import JOBS, MANAGED, QUEUE, RUN, USER, WAIT_SECONDS, Actor, job, pods_of, said, team_with

pytestmark = pytest.mark.e2e

GPU = "nvidia.com/gpu"
JOB_CONTROLLER = "system:serviceaccount:kube-system:job-controller"
REPLICASET_CONTROLLER = "system:serviceaccount:kube-system:replicaset-controller"
NO_LABEL = (
    "Job {team}/{name} has no label aiqueue.dev/queue, and every Job of this namespace must be queued (the namespace is labelled "
    "aiqueue.dev/managed: required): add the label with the name of a queue of this namespace"
)
KEEPS_LABEL = (
    "Job {team}/train may not lose its label aiqueue.dev/queue, since every Job of this namespace must be queued (the namespace "
    "is labelled aiqueue.dev/managed: required): change the label to another queue, or delete the Job"
)
NO_GPUS = (
    "Pod {team}/{name} asks for nvidia.com/gpu, which only queued Jobs get in this namespace (it is labelled "
    "aiqueue.dev/managed: required): run it as a batch/v1 Job with the label aiqueue.dev/queue, or ask for no resource with "
    "a / in its name"
)


def with_gpu(content: dict[str, Any], amount: str = "1") -> dict[str, Any]:
    """The same Job, its container asking for GPUs."""
    container = content["spec"]["template"]["spec"]["containers"][0]
    container["resources"] = {"requests": {GPU: amount}, "limits": {GPU: amount}}
    return content


def pod(namespace: str, name: str, resources: dict[str, Any], *, init: bool = False, **metadata: Any) -> dict[str, Any]:
    """A pod whose container, or init container, asks for `resources`."""
    asking = {"name": "asking", "image": "registry.example/main:1", "resources": resources}
    plain = {"name": "plain", "image": "registry.example/main:1"}
    spec = {"initContainers": [asking], "containers": [plain]} if init else {"containers": [plain, asking]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace, **metadata}, "spec": spec}


def owned_by(owner: dict[str, Any], *, kind: str = "Job", group: str = "batch/v1") -> dict[str, Any]:
    """Metadata that claims this owner as its controller."""
    reference = {"apiVersion": group, "kind": kind, "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]}
    return {"ownerReferences": [{**reference, "controller": True}]}


@pytest.fixture(params=["alice", "admin"])
def person(request: pytest.FixtureRequest, alice: Actor, admin: Actor) -> Actor:
    return {"alice": alice, "admin": admin}[str(request.param)]


@team_with(managed="required")
class TestJobs:
    def test_unlabelled_is_refused(self, team: str, person: Actor) -> None:
        assert person.creation_refused(job(team, "plain")) == NO_LABEL.format(team=team, name="plain")

    def test_labelled_is_held_and_its_label_stays(self, team: str, person: Actor, controller: Actor) -> None:
        stored = person.create(job(team, "train", labels={QUEUE: "gpus"}))
        assert stored["spec"]["suspend"] is True
        assert stored["metadata"]["annotations"][USER] == person.user
        for who in (person, controller):
            assert who.refused(stored, {"metadata": {"labels": {QUEUE: None}}}) == KEEPS_LABEL.format(team=team)
        assert person.patch(stored, {"metadata": {"labels": {QUEUE: "other"}}})["metadata"]["labels"][QUEUE] == "other"

    def test_job_of_another_controller_has_no_way_in(self, team: str, alice: Actor) -> None:
        asked = job(team, "train", managedBy="example.com/other")
        assert alice.creation_refused(asked) == NO_LABEL.format(team=team, name="train")
        asked["metadata"]["labels"] = {QUEUE: "gpus"}
        assert "spec.managedBy is 'example.com/other'" in alice.creation_refused(asked)

    def test_admitted_job_gets_its_gpus_and_is_cleared_away(
        self, team: str, managed_cluster: DevCluster, alice: Actor, controller: Actor
    ) -> None:
        stored = alice.create(with_gpu(job(team, "train", labels={QUEUE: "gpus"})))
        controller.patch(stored, {"spec": {"suspend": False}, "metadata": {"annotations": {RUN: "ledger/1/1"}}})
        until(lambda: alice.get(stored)["status"].get("ready") == 1, seconds=WAIT_SECONDS, what="the pod of the Job")
        (made,) = pods_of(managed_cluster, stored)
        assert made["spec"]["containers"][0]["resources"]["limits"] == {GPU: "1"}
        alice.kubectl("delete", "job", "train", f"--namespace={team}", "--cascade=foreground", "--timeout=110s")

    def test_a_pod_stays_with_its_job(
        self, team: str, managed_cluster: DevCluster, person: Actor, alice: Actor, controller: Actor
    ) -> None:
        """Without its label or its controller the Job controller would replace it, and it would run on."""
        stored = alice.create(with_gpu(job(team, "train", labels={QUEUE: "gpus"})))
        controller.patch(stored, {"spec": {"suspend": False}, "metadata": {"annotations": {RUN: "ledger/1/1"}}})
        until(lambda: alice.get(stored)["status"].get("ready") == 1, seconds=WAIT_SECONDS, what="the pod of the Job")
        (made,) = pods_of(managed_cluster, stored)
        name = made["metadata"]["name"]
        uid = "batch.kubernetes.io/controller-uid"
        other = {**made["metadata"]["ownerReferences"][0], "uid": "other", "name": "other"}
        for change in ({"labels": {uid: None}}, {"labels": {uid: "other"}}, {"ownerReferences": [other]}):
            with pytest.raises(HarnessError) as refusal:
                person.kubectl(
                    "patch", "pod", name, f"-n={team}", "--type=merge", f"--patch={json.dumps({'metadata': change})}"
                )
            assert said(refusal.value) == (
                f"Pod {team}/{name} belongs to a Job, and in this namespace (it is labelled aiqueue.dev/managed: required) it "
                f"stays with it: leave its label {uid} and its controller in metadata.ownerReferences as they are"
            )
        person.kubectl("label", "pod", name, f"-n={team}", "other=free")
        alice.kubectl("delete", "job", "train", f"-n={team}", "--cascade=orphan", "--timeout=110s")
        (left,) = pods_of(managed_cluster, stored)
        assert left["metadata"].get("ownerReferences", []) == []
        alice.kubectl("delete", "pod", name, f"-n={team}", "--timeout=110s")


class TestTurnedOn:
    def test_what_was_there_before_goes_on(self, team: str, managed_cluster: DevCluster, alice: Actor) -> None:
        """An unlabelled Job with GPUs runs on, gets more pods, is edited and deleted."""
        stored = alice.create(with_gpu(job(team, "plain", completions=4)))
        until(lambda: alice.get(stored)["status"].get("ready") == 1, seconds=WAIT_SECONDS, what="the pod of the Job")
        managed_cluster.kubectl("label", "namespace", team, f"{MANAGED}=required")
        probe = f"{JOBS.format(team)}?dryRun=All"
        api = managed_cluster.api
        until(lambda: api.ask("POST", probe, job(team, "probe")).status == 403, seconds=WAIT_SECONDS, what="the label's effect")
        alice.patch(stored, {"spec": {"parallelism": 2}})
        until(lambda: alice.get(stored)["status"].get("ready") == 2, seconds=WAIT_SECONDS, what="one more pod of the Job")
        for change in ({"suspend": True}, {"suspend": False}):
            alice.patch(stored, {"spec": change, "metadata": {"annotations": {"edited": "yes"}}})
        alice.kubectl("delete", "job", "plain", f"--namespace={team}", "--cascade=foreground", "--timeout=110s")

    def test_an_editor_of_the_namespace_cannot_turn_it_off(self, team: str, alice: Actor) -> None:
        with pytest.raises(HarnessError, match="cannot patch resource"):
            alice.kubectl("label", "namespace", team, f"{MANAGED}=optional")


@team_with(managed="required")
class TestPods:
    @pytest.mark.parametrize(
        ("resources", "init"),
        [({"limits": {GPU: "1"}}, False), ({"limits": {"cpu": "1", GPU: "1"}, "requests": {GPU: "1"}}, True)],
        ids=["container", "init-container"],
    )
    def test_bare_pod_with_extended_resources_is_refused(
        self, team: str, person: Actor, resources: dict[str, Any], init: bool
    ) -> None:
        assert person.creation_refused(pod(team, "bare", resources, init=init)) == NO_GPUS.format(team=team, name="bare")

    @pytest.mark.parametrize("resources", [{"limits": {GPU: "0"}}, {"requests": {"cpu": "1", "memory": "1Gi"}}, {}])
    def test_pod_that_asks_for_none_is_free(self, team: str, alice: Actor, resources: dict[str, Any]) -> None:
        alice.create(pod(team, "bare", resources), "--dry-run=server")

    def test_forged_owner_helps_nobody(self, team: str, person: Actor) -> None:
        owner = person.create(job(team, "train", labels={QUEUE: "gpus"}))
        forged = pod(team, "forged", {"limits": {GPU: "1"}}, **owned_by(owner))
        assert person.creation_refused(forged) == NO_GPUS.format(team=team, name="forged")

    def test_only_the_job_controller_and_only_for_a_job(self, team: str, admin: Actor) -> None:
        owner = admin.create(job(team, "train", labels={QUEUE: "gpus"}))
        asks = {"limits": {GPU: "1"}}
        of_job = pod(team, "made", asks, **owned_by(owner))
        for user in (JOB_CONTROLLER, "system:kube-controller-manager"):
            admin.create(of_job, "--dry-run=server", f"--as={user}", "--as-group=system:masters")
        assert self.refused_as(REPLICASET_CONTROLLER, admin, of_job) == NO_GPUS.format(team=team, name="made")
        for metadata in ({}, owned_by(owner, kind="ReplicaSet", group="apps/v1"), owned_by(owner, group="example.com/v1")):
            made = pod(team, "made", asks, **metadata)
            assert self.refused_as(JOB_CONTROLLER, admin, made) == NO_GPUS.format(team=team, name="made")

    @staticmethod
    def refused_as(user: str, admin: Actor, content: dict[str, Any]) -> str:
        with pytest.raises(HarnessError) as refusal:
            admin.create(content, "--dry-run=server", f"--as={user}")
        return said(refusal.value)

    def test_deployment_is_told_why_it_has_no_pods(self, team: str, managed_cluster: DevCluster, alice: Actor) -> None:
        template = {
            "metadata": {"labels": {"app": "serve"}},
            "spec": pod(team, "serve", {"limits": {GPU: "1"}})["spec"],
        }
        spec = {"selector": {"matchLabels": {"app": "serve"}}, "template": template}
        metadata = {"name": "serve", "namespace": team}
        alice.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
        path = f"/apis/apps/v1/namespaces/{team}/deployments/serve"

        def why() -> str | None:
            conditions = managed_cluster.api.call("GET", path).get("status", {}).get("conditions", [])
            return next((each["message"] for each in conditions if each["type"] == "ReplicaFailure"), None)

        told = until(why, seconds=WAIT_SECONDS, what="the Deployment's failure")
        assert NO_GPUS.partition("{name}")[2] in told

    @pytest.mark.parametrize("subresource", ["resize", "ephemeralcontainers"])
    def test_pod_that_is_there_gets_none_either(self, team: str, admin: Actor, subresource: str) -> None:
        """The API server sees to it, for everybody; the policy looks at creation only."""
        admin.create(pod(team, "bare", {"requests": {"cpu": "1"}}))
        resources = {"limits": {GPU: "1"}, "requests": {GPU: "1"}}
        change = {
            "resize": {"containers": [{"name": "asking", "resources": resources}]},
            "ephemeralcontainers": {"ephemeralContainers": [{"name": "late", "image": "late", "resources": resources}]},
        }
        said_by_server = {
            "resize": "only cpu and memory resources are mutable",
            "ephemeralcontainers": "Forbidden: cannot be set",
        }
        patch = json.dumps({"spec": change[subresource]})
        with pytest.raises(HarnessError, match=said_by_server[subresource]):
            admin.kubectl("patch", "pod", "bare", f"-n={team}", f"--subresource={subresource}", f"--patch={patch}")


def test_off_by_default(team: str, managed_cluster: DevCluster, alice: Actor) -> None:
    """Only the exact value of the label counts."""
    asked = pod(team, "bare", {"limits": {GPU: "1"}})
    alice.create(asked, "--dry-run=server")
    managed_cluster.kubectl("label", "namespace", team, f"{MANAGED}=optional")
    assert alice.create(job(team, "plain"))["spec"]["suspend"] is False
    alice.create(asked)
