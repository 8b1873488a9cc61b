"""The client on a real API server."""

from __future__ import annotations

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import incluster_config

from aiqueue.admission.kube import errors, names
from aiqueue.admission.kube.client import KubeClient, user_agent
from aiqueue.admission.kube.watches import EventType, WatchEvent
from aiqueue.cli.harness.certificates import Authority
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from fix_kube import WAIT_SECONDS, Forwarder, create_jobs, forwarded_kubeconfig, job_document, server_port, write_kubeconfig

pytestmark = pytest.mark.e2e


def selector(namespace: str) -> str:
    return f"{names.QUEUE_LABEL}={namespace}"


def test_who_and_where(kube: KubeClient) -> None:
    assert kube.server_version() >= (1, 31)
    assert len(kube.namespace_uid("kube-system")) == 36
    with pytest.raises(errors.NotFound, match='get of namespace nowhere failed: namespaces "nowhere" not found'):
        kube.namespace_uid("nowhere")


def test_a_list_comes_in_pages(cluster: DevCluster, kube: KubeClient, kube_namespace: str) -> None:
    create_jobs(cluster, *(job_document(kube_namespace, f"j{number}") for number in range(7)))
    seen: list[str] = []
    token, pages = "", 0
    while True:
        page = kube.list_jobs(selector(kube_namespace), limit=3, continue_token=token)
        assert len(page.jobs) <= 3
        seen.extend(job.metadata.name for job in page.jobs)
        pages += 1
        token = page.metadata.continue_
        if not token:
            break
    assert sorted(seen) == [f"j{number}" for number in range(7)]
    assert pages == 3
    assert kube.list_jobs("aiqueue.dev/queue=none").jobs == ()


def test_get_and_patch(cluster: DevCluster, kube: KubeClient, kube_namespace: str) -> None:
    create_jobs(cluster, job_document(kube_namespace, "a"))
    job = kube.get_job(kube_namespace, "a")
    assert job is not None
    assert job.metadata.labels is not None
    assert job.metadata.labels.queue == kube_namespace
    assert job.metadata.creation_timestamp is not None
    assert job.metadata.creation_timestamp.utcoffset() is not None
    assert kube.get_job(kube_namespace, "b") is None
    patched = kube.patch_job(kube_namespace, "a", {"metadata": {"annotations": {names.HOLD_ANNOTATION: "true"}}})
    assert patched.metadata.annotations is not None
    assert patched.metadata.annotations.hold == "true"
    assert patched.metadata.resource_version != job.metadata.resource_version
    managers = cluster.kubectl("get", "job", "a", f"-n={kube_namespace}", "--show-managed-fields", "-o=jsonpath={..manager}")
    assert names.FIELD_MANAGER in managers.split()


def test_refusals_are_typed(cluster: DevCluster, kube: KubeClient, kube_namespace: str) -> None:
    create_jobs(cluster, job_document(kube_namespace, "a"))
    with pytest.raises(errors.Invalid) as invalid:
        kube.patch_job(kube_namespace, "a", {"spec": {"parallelism": -1}})
    assert (invalid.value.status, invalid.value.reason) == (422, "Invalid")
    with pytest.raises(errors.Invalid, match="unknown field"):
        kube.patch_job(kube_namespace, "a", {"spec": {"suspended": True}})
    with pytest.raises(errors.NotFound):
        kube.patch_job(kube_namespace, "b", {"spec": {"suspend": True}})
    with pytest.raises(errors.Conflict):
        kube.patch_job(kube_namespace, "a", {"metadata": {"resourceVersion": "1"}})
    nobody = KubeClient.from_kubeconfig(cluster.user_kubeconfig("nobody-at-all"))
    with pytest.raises(errors.Forbidden, match='nobody-at-all" cannot list resource "jobs"'):
        nobody.list_jobs()
    nobody.close()


def test_unknown_credentials(cluster: DevCluster, kube_namespace: str, tmp_path: Path) -> None:
    content = yaml.safe_load(cluster.service_account_kubeconfig(kube_namespace, "default").read_text())
    known = KubeClient.from_kubeconfig(write_kubeconfig(tmp_path, content))
    with pytest.raises(errors.Forbidden, match=f"system:serviceaccount:{kube_namespace}:default"):
        known.get_job(kube_namespace, "a")
    known.close()
    content["users"][0]["user"]["token"] = "not-a-token"
    stranger = KubeClient.from_kubeconfig(write_kubeconfig(tmp_path, content))
    with pytest.raises(errors.Unauthorized):
        stranger.get_job(kube_namespace, "a")
    stranger.close()


def test_unusable_kubeconfigs_are_named(tmp_path: Path) -> None:
    for name, content in (("missing", None), ("broken", "{"), ("empty", ""), ("other", "kind: Config")):
        path = tmp_path / name
        if content is not None:
            path.write_text(content)
        with pytest.raises(errors.UnusableCredentials, match=name):
            KubeClient.from_kubeconfig(path)


def test_a_server_that_need_not_prove_who_it_is_is_refused(cluster: DevCluster, tmp_path: Path) -> None:
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    where = content["clusters"][0]["cluster"]
    insecure = where | {"insecure-skip-tls-verify": True}
    insecure.pop("certificate-authority-data")
    content["clusters"][0]["cluster"] = insecure
    with pytest.raises(errors.UnusableCredentials, match="sets insecure-skip-tls-verify: take it out, and put the authority"):
        KubeClient.from_kubeconfig(write_kubeconfig(tmp_path, content))
    content["clusters"][0]["cluster"] = {"server": "http://kubernetes.example"}
    with pytest.raises(
        errors.UnusableCredentials, match=r"'http://kubernetes\.example', which does not speak TLS: write an https"
    ):
        KubeClient.from_kubeconfig(write_kubeconfig(tmp_path, content))


def test_a_server_of_another_authority_is_not_talked_to(cluster: DevCluster, tmp_path: Path) -> None:
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    another = Authority.open(tmp_path / "another", name="another authority").file.read_bytes()
    content["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(another).decode()
    client = KubeClient.from_kubeconfig(write_kubeconfig(tmp_path, content))
    with pytest.raises(
        errors.Unavailable, match=r"get of the server's version failed: no answer from .*certificate verify failed"
    ):
        client.server_version()
    client.close()


def test_outside_a_cluster_there_is_no_service_account() -> None:
    with pytest.raises(errors.UnusableCredentials, match="set; outside a cluster name a kubeconfig file in AIQUEUE_KUBECONFIG"):
        KubeClient.in_cluster()


def test_a_service_account_whose_token_rotates(
    cluster: DevCluster, kube_namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a pod: the token stands in a file, and kubelet writes another one there before it expires."""
    content = yaml.safe_load(cluster.service_account_kubeconfig(kube_namespace, "default").read_text())
    token_file = tmp_path / "token"
    token_file.write_text("not-a-token")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token_file))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(cluster.ca_file))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server_port(cluster)))
    client = KubeClient.in_cluster()
    with pytest.raises(errors.Unauthorized):
        client.get_job(kube_namespace, "a")
    token_file.write_text(content["users"][0]["user"]["token"])
    # The file is read once a minute at most; that minute has passed.
    hook: Any = client.access._api.configuration.refresh_api_key_hook
    hook.__closure__[0].cell_contents.token_expires_at = datetime.min  # noqa: DTZ901 - the library's clock is naive
    with pytest.raises(errors.Forbidden, match=f"system:serviceaccount:{kube_namespace}:default"):
        client.get_job(kube_namespace, "a")
    client.close()


def test_no_answer_is_unavailable(cluster: DevCluster, tmp_path: Path) -> None:
    with Forwarder(server_port(cluster)) as forwarder:
        client = KubeClient.from_kubeconfig(forwarded_kubeconfig(cluster, forwarder, tmp_path))
        assert client.server_version() >= (1, 31)
        forwarder.cut("flapping")
        with pytest.raises(errors.Unavailable):
            client.server_version()
        with pytest.raises(errors.Unavailable, match="watch of Jobs failed"):
            client.watch_jobs(resource_version="0")
        forwarder.cut("open")
        assert client.server_version() >= (1, 31)
        client.close()


def test_connections_are_used_again(cluster: DevCluster, kube_namespace: str, tmp_path: Path) -> None:
    create_jobs(cluster, *(job_document(kube_namespace, name) for name in "abcdefgh"))
    with Forwarder(server_port(cluster)) as forwarder:
        client = KubeClient.from_kubeconfig(forwarded_kubeconfig(cluster, forwarder, tmp_path), connections=16)
        for number in range(20):
            client.list_jobs(selector(kube_namespace))
            client.patch_job(kube_namespace, "a", {"metadata": {"annotations": {"n": str(number)}}})
            assert client.get_job(kube_namespace, "missing") is None
        assert forwarder.accepted == 1

        def patch(number: int) -> None:
            client.patch_job(kube_namespace, "abcdefgh"[number % 8], {"metadata": {"annotations": {"n": str(number)}}})

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(patch, range(96)))
        assert forwarder.accepted <= 16
        assert client.connections_opened() == forwarder.accepted
        client.close()


def test_we_say_who_we_are(cluster: DevCluster, kube: KubeClient, kube_namespace: str) -> None:
    create_jobs(cluster, job_document(kube_namespace, "a"))
    kube.patch_job(kube_namespace, "a", {"metadata": {"annotations": {"n": "1"}}})
    assert user_agent().startswith("aiqueue-controller/")
    assert user_agent("certificates").startswith("aiqueue-certificates/")
    until(
        lambda: f'"userAgent":"{user_agent()}"' in cluster.audit_log.read_text(),
        seconds=WAIT_SECONDS,
        what="our user agent in the audit log",
    )


def test_a_watch_tells_what_happens(cluster: DevCluster, kube: KubeClient, kube_namespace: str) -> None:
    start = kube.list_jobs(selector(kube_namespace)).metadata.resource_version
    seen: list[WatchEvent] = []
    with kube.watch_jobs(selector(kube_namespace), resource_version=start, timeout_seconds=60) as watch:
        create_jobs(cluster, job_document(kube_namespace, "a"), job_document(kube_namespace, "b"))
        kube.patch_job(kube_namespace, "a", {"metadata": {"annotations": {names.HOLD_ANNOTATION: "true"}}})
        kube.patch_job(kube_namespace, "b", {"metadata": {"labels": {names.QUEUE_LABEL: None}}})
        for event in watch:
            seen.append(event)
            if event.type is EventType.DELETED:
                break
    told = [(event.type, event.object.metadata.name) for event in seen if event.object is not None]
    # The controllers may have written the Suspended condition in between.
    assert told[0] == (EventType.ADDED, "a")
    assert (EventType.ADDED, "b") in told
    assert told[-1] == (EventType.DELETED, "b"), "without the label it is no longer of the selection"
    assert any(
        event.type is EventType.MODIFIED
        and event.object is not None
        and event.object.metadata.annotations is not None
        and event.object.metadata.annotations.hold == "true"
        for event in seen
    )
    versions = [int(event.resource_version) for event in seen]
    assert versions == sorted(versions)


def test_the_server_ends_a_watch_in_time_with_a_bookmark(kube: KubeClient, cluster: DevCluster, kube_namespace: str) -> None:
    start = kube.list_jobs(selector(kube_namespace)).metadata.resource_version
    watch = kube.watch_jobs(selector(kube_namespace), resource_version=start, timeout_seconds=6)
    # Something that it does not look at, after it began: else there would be nothing to tell.
    other = job_document(kube_namespace, "other")
    other["metadata"]["labels"] = {}
    create_jobs(cluster, other)
    events = list(watch)
    assert [event.type for event in events] == [EventType.BOOKMARK] * len(events)
    assert all(int(event.resource_version) >= int(start) for event in events)
    assert events, "a quiet watch is told how far it has come before it ends"


@pytest.mark.parametrize("through", ["open", "dead"])
def test_close_ends_a_blocked_watch(cluster: DevCluster, kube_namespace: str, tmp_path: Path, through: str) -> None:
    with Forwarder(server_port(cluster)) as forwarder:
        client = KubeClient.from_kubeconfig(forwarded_kubeconfig(cluster, forwarder, tmp_path))
        start = client.list_jobs(selector(kube_namespace)).metadata.resource_version
        watch = client.watch_jobs(selector(kube_namespace), resource_version=start, timeout_seconds=300)
        # New connections go nowhere: the end must come from our side of this one.
        forwarder.state = through
        ended: list[float] = []

        def follow() -> None:
            list(watch)
            ended.append(time.monotonic())

        reader = threading.Thread(target=follow, daemon=True)
        reader.start()
        until(lambda: watch._iterating, seconds=WAIT_SECONDS, what="the read")
        asked = time.monotonic()
        watch.close()
        watch.close()
        reader.join(WAIT_SECONDS)
        assert ended, "the watch did not end"
        assert ended[0] - asked < WAIT_SECONDS / 2  # of the 300 s that it would have lasted
        assert list(watch) == []
        client.close()


def test_a_watch_closed_before_it_is_followed_gives_its_connection_up(kube: KubeClient, kube_namespace: str) -> None:
    start = kube.list_jobs(selector(kube_namespace)).metadata.resource_version
    watch = kube.watch_jobs(selector(kube_namespace), resource_version=start)
    watch.close()
    assert list(watch) == []
    assert kube.server_version() >= (1, 31)


def test_pods_are_listed_by_the_uid_of_their_job(cluster: DevCluster, kube: KubeClient, kube_namespace: str) -> None:
    node = f"node-{kube_namespace}"
    cluster.add_node(node, cpu_millicores=4000, memory_bytes=2**30)
    document = job_document(kube_namespace, "a", pod={"nodeSelector": {"kubernetes.io/hostname": node}}, parallelism=3)
    document["spec"] |= {"suspend": False, "completions": 3}
    create_jobs(cluster, document)
    job = kube.get_job(kube_namespace, "a")
    assert job is not None
    uid = job.metadata.uid

    def all_run() -> bool:
        pods = kube.pods_of(uid, kube_namespace)
        return len(pods) == 3 and all(pod.status.phase == "Running" for pod in pods)

    until(all_run, seconds=WAIT_SECONDS, what="three running pods")
    for pod in kube.pods_of(uid, kube_namespace):
        assert pod.alive
        assert pod.spec.node_name == node
        assert pod.metadata.owner_references is not None
        assert pod.metadata.owner_references[0].uid == uid
    assert kube.pods_of("00000000-0000-0000-0000-000000000000", kube_namespace) == []
