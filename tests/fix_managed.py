"""A cluster on which aiqueue's policies are in force, and the people who use it.

`managed_cluster` is a cluster of its own, so that tests of the plain one see no policies. `team` is a fresh namespace
in it, where `alice` and `bob` have the role `edit`; `admin` is the cluster's administrator and `controller` the
service account of the controller.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client as official
from kubernetes import config as official_config

from aiqueue.cli import resources
from aiqueue.cli.harness import manifests
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until

QUEUE = "aiqueue.dev/queue"
CLASS = "aiqueue.dev/class"
RUN = "aiqueue.dev/run"
EVICT_AT = "aiqueue.dev/evict-at"
USER = "aiqueue.dev/user"
MANAGED = "aiqueue.dev/managed"
DEFAULT_QUEUE = "aiqueue.dev/default-queue"
JOBS = "/apis/batch/v1/namespaces/{}/jobs"
WAIT_SECONDS = 60.0


_FOLDERS = {
    "Job": JOBS,
    "CronJob": "/apis/batch/v1/namespaces/{}/cronjobs",
    "Pod": "/api/v1/namespaces/{}/pods",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
}


@functools.cache
def _wire(kubeconfig: Path) -> Any:
    """Connections with the credentials of a kubeconfig, kept for the session; the official client carries no types."""
    configuration = official.Configuration()
    loaders: Any = official_config
    loaders.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration, persist_config=False)
    configuration.retries = False
    return official.ApiClient(configuration)


def send(
    cluster: DevCluster,
    kubeconfig: Path,
    method: str,
    path: str,
    body: object = None,
    *,
    content_type: str = "application/json",
) -> dict[str, Any]:
    """One request as kubectl would send it, over a connection that is kept; HarnessError carries what the server said."""
    wire = _wire(kubeconfig)
    headers = {"Content-Type": content_type, "Accept": "application/json"}
    wire.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
    data = None if body is None else json.dumps(body)
    answer = wire.rest_client.pool_manager.request(method, f"{cluster.server}{path}", body=data, headers=headers)
    content = _object(answer.data.decode())
    if answer.status >= 300:
        raise HarnessError(content["message"])
    return content


def _path(job: dict[str, Any]) -> str:
    return f"{JOBS.format(job['metadata']['namespace'])}/{job['metadata']['name']}"


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who talks to the cluster."""

    cluster: DevCluster
    kubeconfig: Path
    #: As the API server knows them.
    user: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as this user; HarnessError carries what the server said."""
        return self.cluster.kubectl(*arguments, stdin=stdin, kubeconfig_file=self.kubeconfig)

    def create(self, content: dict[str, Any], *options: str) -> dict[str, Any]:
        """Create one object and return it as stored; with options of kubectl, by kubectl."""
        if options:
            return _object(self.kubectl("create", "--filename=-", "--output=json", *options, stdin=json.dumps(content)))
        folder = _FOLDERS[content["kind"]].format(content["metadata"]["namespace"])
        return self._send("POST", folder, content, "application/json")

    def patch(self, job: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
        """Merge-patch a Job and return it as stored."""
        return self._send("PATCH", _path(job), change, "application/merge-patch+json")

    def get(self, job: dict[str, Any]) -> dict[str, Any]:
        """The Job as stored now."""
        return self._send("GET", _path(job), None, "application/json")

    def _send(self, method: str, path: str, body: object, content_type: str) -> dict[str, Any]:
        return send(self.cluster, self.kubeconfig, method, path, body, content_type=content_type)

    def refused(self, job: dict[str, Any], change: dict[str, Any]) -> str:
        """The sentence with which this merge patch is refused; the Job must be unchanged."""
        before = self._kept(job)
        with pytest.raises(HarnessError) as refusal:
            self.patch(job, change)
        assert self._kept(job) == before
        return said(refusal.value)

    def creation_refused(self, content: dict[str, Any]) -> str:
        """The sentence with which the creation of this object is refused."""
        with pytest.raises(HarnessError) as refusal:
            self.create(content)
        return said(refusal.value)

    def _kept(self, job: dict[str, Any]) -> list[Any]:
        """What a refused request leaves as it is; controllers may have written the status in between."""
        now = self.cluster.api.call("GET", _path(job))
        metadata = {key: value for key, value in now["metadata"].items() if key not in ("resourceVersion", "managedFields")}
        return [metadata, now["spec"]]


def said(error: HarnessError) -> str:
    """The sentence of the policy in a refusal, which names the policy and its binding before it."""
    before, mark, sentence = str(error).partition(" denied request: ")
    assert mark, f"not refused by a policy: {before}"
    return sentence


def job(
    namespace: str,
    name: str,
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    runtime: str = "forever",
    **spec: Any,
) -> dict[str, Any]:
    """A Job of one small pod that runs as long as `runtime` says, labelled and annotated only as asked."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace}
    if labels is not None:
        metadata["labels"] = labels
    if annotations is not None:
        metadata["annotations"] = annotations
    container = {"name": "main", "image": "registry.example/main:1", "resources": {"requests": {"cpu": "10m"}}}
    template = {
        "metadata": {"annotations": {"aiqueue.dev/dev-runtime": runtime}},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template, **spec}}


def pods_of(cluster: DevCluster, content: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods of a Job, whatever their phase."""
    selector = f"batch.kubernetes.io%2Fcontroller-uid%3D{content['metadata']['uid']}"
    folder = _FOLDERS["Pod"].format(content["metadata"]["namespace"])
    items = cluster.api.call("GET", f"{folder}?labelSelector={selector}")["items"]
    assert isinstance(items, list)
    return items


def overlay(folder: Path, *, components: tuple[str, ...], base: str | None = None) -> Path:
    """Write a kustomization of components, and of an overlay where `base` names one, and return its folder."""
    folder.mkdir()
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [_from(folder, "overlays", base)] if base is not None else [],
        "components": [_from(folder, "components", each) for each in components],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(content))  # JSON is YAML
    return folder


def _from(folder: Path, *parts: str) -> str:
    # kustomize takes no absolute paths.
    return os.path.relpath(resources.manifests_path().joinpath(*parts), folder)


def _object(printed: str) -> dict[str, Any]:
    content = json.loads(printed)
    assert isinstance(content, dict)
    return content


@pytest.fixture(scope="session")
def managed_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """A cluster with two fake nodes and the dev overlay, its policies in force."""
    with DevCluster.create(tmp_path_factory.mktemp("managed") / "cluster", name="managed") as cluster:
        manifests.apply_dev(cluster)
        for number in (1, 2):
            cluster.add_node(f"node-{number}", cpu_millicores=8000, memory_bytes=32 * 2**30, gpus=8)
        yield cluster


@pytest.fixture(scope="session")
def admin(managed_cluster: DevCluster) -> Actor:
    """A cluster administrator, in no group that RBAC treats apart."""
    binding = ("clusterrolebinding", "root-admin", "--clusterrole=cluster-admin", "--user=root-admin")
    managed_cluster.kubectl("create", *binding)
    await_right(managed_cluster, "root-admin")
    return Actor(managed_cluster, managed_cluster.user_kubeconfig("root-admin", ()), "root-admin")


@pytest.fixture(scope="session")
def alice(managed_cluster: DevCluster) -> Actor:
    return Actor(managed_cluster, managed_cluster.user_kubeconfig("alice", ()), "alice")


@pytest.fixture(scope="session")
def bob(managed_cluster: DevCluster) -> Actor:
    return Actor(managed_cluster, managed_cluster.user_kubeconfig("bob", ()), "bob")


@pytest.fixture(scope="session")
def controller(managed_cluster: DevCluster) -> Actor:
    """The service account that the overlay made for the controller, with a token of its own."""
    account = (manifests.NAMESPACE, manifests.SERVICE_ACCOUNT)
    kubeconfig = managed_cluster.service_account_kubeconfig(*account)
    return Actor(managed_cluster, kubeconfig, f"system:serviceaccount:{account[0]}:{account[1]}")


def has_right(cluster: DevCluster, user: str, verb: str, resource: str, namespace: str = "") -> bool:
    """Whether the API server would let a user do it now; a `resource` is written `resource.group/subresource`."""
    kind, _, subresource = resource.partition("/")
    name, _, group = kind.partition(".")
    where = {"namespace": namespace, "verb": verb, "resource": name, "group": group, "subresource": subresource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": ["system:authenticated"], "resourceAttributes": where},
    }
    answer = cluster.api.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def await_right(
    cluster: DevCluster, user: str, verb: str = "create", resource: str = "jobs.batch", *, namespace: str = ""
) -> None:
    """Wait until the API server goes by a binding: it is stored a moment before that."""
    until(
        lambda: has_right(cluster, user, verb, resource, namespace),
        seconds=WAIT_SECONDS,
        what=f"the right of {user} to {verb} {resource}",
        longest_pause_seconds=0.1,
    )


def team_with(**labels: str) -> pytest.MarkDecorator:
    """Give the fixture `team` a namespace with labels of aiqueue's, named without prefix and with _ for -."""
    wanted = {f"aiqueue.dev/{name.replace('_', '-')}": value for name, value in labels.items()}
    return pytest.mark.parametrize("team", [wanted], indirect=True, ids=["-".join(labels)])


class Teams:
    """Namespaces where alice and bob may edit and service accounts are ready, made some at a time."""

    TOGETHER = 8

    def __init__(self, cluster: DevCluster) -> None:
        self._cluster = cluster
        self._ready: list[str] = []

    def take(self) -> str:
        """A namespace that nobody else has."""
        if not self._ready:
            self._ready = self.make(self.TOGETHER)
        return self._ready.pop()

    def make(self, number: int, labels: Mapping[str, str] | None = None) -> list[str]:
        """So many namespaces with these labels."""
        made = [f"team-{secrets.token_hex(4)}" for _ in range(number)]
        group = "rbac.authorization.k8s.io"
        for name in made:
            metadata = {"name": name, "labels": dict(labels or {})}
            self.ask("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
            editors = {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": {"name": "editors"},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "edit"},
                "subjects": [{"apiGroup": group, "kind": "User", "name": user} for user in ("alice", "bob")],
            }
            self.ask("POST", f"/apis/{group}/v1/namespaces/{name}/rolebindings", editors)

        def have_accounts() -> bool:
            accounts = self.ask("GET", "/api/v1/serviceaccounts?fieldSelector=metadata.name%3Ddefault")["items"]
            return {each["metadata"]["namespace"] for each in accounts}.issuperset(made)

        until(have_accounts, seconds=WAIT_SECONDS, what=f"the service accounts of {made}", longest_pause_seconds=0.1)
        # The server learns of bindings in the order in which they were stored.
        await_right(self._cluster, "bob", namespace=made[-1])
        return made

    def clear(self, name: str) -> None:
        """Have everything that a test may have left in a namespace deleted, in a while.

        The namespace itself stays, as long as the cluster: to delete it is a fifth of a second's work for the control plane.
        """
        for folder in (
            "/apis/batch/v1/{}/jobs",
            "/apis/batch/v1/{}/cronjobs",
            "/apis/apps/v1/{}/deployments",
            "/api/v1/{}/pods",
        ):
            self.ask("DELETE", folder.format(f"namespaces/{name}"), {"propagationPolicy": "Background"})

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """One call as the cluster's administrator."""
        return send(self._cluster, self._cluster.kubeconfig, method, path, body)


@pytest.fixture(scope="session")
def teams(managed_cluster: DevCluster) -> Teams:
    return Teams(managed_cluster)


@pytest.fixture
def team(teams: Teams, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of its own for each test, where alice and bob may edit and service accounts are ready."""
    labels = getattr(request, "param", None)
    name = teams.take() if labels is None else teams.make(1, labels)[0]
    yield name
    teams.clear(name)
