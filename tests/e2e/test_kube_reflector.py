"""The reflector on a real API server that is cut off, killed, restarted and forgets."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aiqueue.admission.backoff import LONGEST_SECONDS
from aiqueue.admission.kube import errors
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.reflector import Reflector
from aiqueue.admission.kube.store import Changes, JobStore
from aiqueue.admission.kube.watches import EventType
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from fix_kube import (
    WAIT_SECONDS,
    Forwarder,
    create_jobs,
    create_namespace,
    forwarded_kubeconfig,
    job_document,
    server_port,
)

pytestmark = pytest.mark.e2e


API_SERVER = "kube-apiserver"


def restart(server: DevCluster) -> None:
    """Kill the API server without notice and start it again, at the same port and with the same data."""
    record = next(each for each in server.running() if each.name == API_SERVER)
    os.kill(record.identity.pid, signal.SIGKILL)
    until(lambda: not any(each.name == API_SERVER for each in server.running()), seconds=WAIT_SECONDS, what="its end")
    server._launch(record.argv)
    until(lambda: server.api.is_ok("/readyz"), seconds=WAIT_SECONDS, what="readiness of the API server")


def compact(server: DevCluster, revision: int) -> None:
    """Make etcd forget what was before a revision."""
    record = next(each for each in server.running() if each.name == "etcd")
    url = next(word.partition("=")[2] for word in record.argv if word.startswith("--listen-client-urls="))
    body = json.dumps({"revision": str(revision), "physical": True}).encode()
    with urllib.request.urlopen(f"{url}/v3/kv/compaction", data=body, timeout=WAIT_SECONDS) as answer:  # noqa: S310 - loopback
        assert answer.status == 200


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """An API server of our own, since it is killed: no controllers."""
    with DevCluster.create(tmp_path_factory.mktemp("server") / "cluster", name="reflector", bare=True) as started:
        yield started


class Recorder(JobStore):
    """A store that also keeps the versions it was told of each uid, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.versions: dict[str, list[int]] = {}

    def apply(self, event_type: EventType, job: Job) -> None:
        self.versions.setdefault(job.metadata.uid, []).append(int(job.metadata.resource_version))
        super().apply(event_type, job)


@dataclass
class Scene:
    """A reflector at work behind a wire that can be cut."""

    server: DevCluster
    namespace: str
    forwarder: Forwarder
    client: KubeClient
    store: Recorder
    reflector: Reflector

    def names(self) -> list[str]:
        return sorted(job.metadata.name for job in self.store.snapshot())

    def create(self, *names: str) -> None:
        create_jobs(self.server, *(job_document(self.namespace, name) for name in names))

    def delete(self, name: str) -> None:
        # Without controllers nobody would take the finalizer of a foreground or orphan deletion off.
        self.server.kubectl("delete", "job", name, f"-n={self.namespace}", "--cascade=background", "--wait=false")

    def wait_names(self, *names: str) -> None:
        until(lambda: self.names() == sorted(names), seconds=WAIT_SECONDS, what=f"{names} in the store")

    def wait_connected(self, connects: int) -> None:
        until(
            lambda: self.reflector.state.connects >= connects and self.reflector.state.connected_since is not None,
            seconds=WAIT_SECONDS,
            what=f"watch number {connects}",
        )


@contextmanager
def reflecting(server: DevCluster, folder: Path, **options: Any) -> Iterator[Scene]:
    namespace = create_namespace(server)
    with Forwarder(server_port(server)) as forwarder:
        client = KubeClient.from_kubeconfig(forwarded_kubeconfig(server, forwarder, folder))
        store = Recorder()
        jitter = Random(1)
        reflector = Reflector(client, f"aiqueue.dev/queue={namespace}", store, rng=jitter, **options)
        scene = Scene(server, namespace, forwarder, client, store, reflector)
        try:
            yield scene
        finally:
            assert reflector.stop()
            client.close()
    for told in store.versions.values():
        assert told == sorted(told), "what is told of one uid never goes back in time"


@pytest.fixture
def scene(server: DevCluster, tmp_path: Path) -> Iterator[Scene]:
    with reflecting(server, tmp_path, page=3) as made:
        yield made


def taken(store: JobStore) -> Changes:
    return store.drain(WAIT_SECONDS)


def test_a_list_of_several_pages_then_a_watch(scene: Scene) -> None:
    scene.create(*(f"j{number}" for number in range(8)))
    scene.reflector.start()
    first = taken(scene.store)
    assert sorted(job.metadata.name for job in first.upserts) == [f"j{number}" for number in range(8)]
    assert first.replaced
    scene.wait_connected(1)
    scene.create("later")
    assert [job.metadata.name for job in taken(scene.store).upserts] == ["later"]
    scene.client.patch_job(scene.namespace, "j0", {"metadata": {"annotations": {"aiqueue.dev/hold": "true"}}})
    (changed,) = taken(scene.store).upserts
    assert changed.metadata.annotations is not None
    assert changed.metadata.annotations.hold == "true"
    scene.delete("j1")
    (gone,) = taken(scene.store).absent
    assert gone.metadata.name == "j1"
    state = scene.reflector.state
    assert (state.synced, state.lists, state.relists, state.reconnects, state.failures) == (True, 1, 0, 0, 0)
    assert state.last_error is None
    assert scene.forwarder.accepted <= 2, "one connection for the pages, one for the watch"


def test_a_broken_connection_goes_on_where_it_was(scene: Scene) -> None:
    scene.create("a")
    scene.reflector.start()
    scene.wait_connected(1)
    taken(scene.store)
    scene.forwarder.cut("open")
    scene.wait_connected(2)
    scene.create("b")
    changes = taken(scene.store)
    assert [job.metadata.name for job in changes.upserts] == ["b"]
    assert not changes.replaced
    assert scene.reflector.state.relists == 0


def test_what_happened_while_cut_off_is_made_up_for(scene: Scene) -> None:
    """Among it a Job that was deleted and created again under its name."""
    scene.create("kept", "deleted", "again")
    scene.reflector.start()
    scene.wait_connected(1)
    before = {job.metadata.name: job for job in taken(scene.store).upserts}
    scene.forwarder.cut("flapping")
    until(lambda: scene.reflector.state.last_error is not None, seconds=WAIT_SECONDS, what="the failure")
    assert scene.store.synced
    assert len(scene.store) == 3, "what was known stays readable"
    scene.delete("deleted")
    scene.delete("again")
    until(lambda: "again" not in scene.server.kubectl("get", "jobs", "-A"), seconds=WAIT_SECONDS, what="the deletion")
    scene.create("again", "new")
    scene.forwarder.cut("open")
    scene.wait_names("again", "kept", "new")
    again = scene.store.by_name(scene.namespace, "again")
    assert again is not None
    assert again.metadata.uid != before["again"].metadata.uid
    upserts: dict[str, str] = {}
    absent: set[str] = set()

    def consumed() -> bool:
        changes = scene.store.drain(0.0)
        upserts.update({job.metadata.name: job.metadata.uid for job in changes.upserts})
        absent.update(job.metadata.uid for job in changes.absent)
        return {"again", "new"} <= upserts.keys()

    until(consumed, seconds=WAIT_SECONDS, what="the changes")
    assert upserts["again"] == again.metadata.uid
    assert absent == {before["deleted"].metadata.uid, before["again"].metadata.uid}
    until(lambda: scene.reflector.state.last_error is None, seconds=WAIT_SECONDS, what="the recovery")


def test_a_server_that_hangs_up_is_not_asked_in_a_tight_loop(scene: Scene) -> None:
    scene.reflector.start()
    scene.wait_connected(1)
    taken(scene.store)
    before, began = scene.forwarder.accepted, time.monotonic()
    scene.forwarder.cut("flapping")
    until(lambda: scene.reflector.state.failures >= 5, seconds=WAIT_SECONDS, what="five failures")
    attempts = scene.forwarder.accepted - before
    elapsed = time.monotonic() - began
    assert elapsed >= 4 * 0.1, "no two attempts without 0.1 s between them"
    assert attempts <= 1 + elapsed / 0.1
    assert scene.reflector.state.connected_since is None
    assert "no answer from" in (scene.reflector.state.last_error or "")


def test_watches_that_end_at_once_count_as_failures(server: DevCluster, tmp_path: Path) -> None:
    """A server that takes every watch and ends it within a second must make us slow down as one that refuses."""
    with reflecting(server, tmp_path, watch_seconds=(1, 1), healthy_seconds=30.0) as scene:
        scene.reflector.start()
        said: set[str] = set()

        def twice() -> bool:
            said.add(scene.reflector.state.last_error or "")
            return scene.reflector.state.failures >= 2 and len(said) == 2

        until(twice, seconds=WAIT_SECONDS, what="two short watches and what is said of them")
        assert said == {"", "watch of Jobs failed: the server ended it after less than 30 s"}
        assert scene.reflector.state.relists == 0


def test_watches_that_end_in_time_are_no_failures(server: DevCluster, tmp_path: Path) -> None:
    with reflecting(server, tmp_path, watch_seconds=(2, 2), healthy_seconds=0.5) as scene:
        scene.reflector.start()
        scene.wait_connected(3)
        state = scene.reflector.state
        assert (state.failures, state.relists, state.last_error) == (0, 0, None)
        scene.create("a")
        scene.wait_names("a")


def test_a_forgotten_version_leads_to_a_new_list(scene: Scene) -> None:
    """Etcd is compacted and the server restarted, so that nobody knows what came after our version."""
    scene.create("a", "b")
    scene.reflector.start()
    scene.wait_connected(1)
    taken(scene.store)
    scene.forwarder.cut("flapping")
    scene.delete("b")
    scene.create("c")
    direct = KubeClient.from_kubeconfig(scene.server.kubeconfig)
    compact(scene.server, int(direct.list_jobs(limit=1).metadata.resource_version))
    restart(scene.server)
    with pytest.raises(errors.Gone):
        list(direct.watch_jobs(resource_version="1", timeout_seconds=30))
    direct.close()
    assert scene.reflector.state.relists == 0
    scene.forwarder.cut("open")
    scene.wait_names("a", "c")
    assert scene.reflector.state.relists == 1
    changes = taken(scene.store)
    assert changes.replaced
    assert [job.metadata.name for job in changes.absent] == ["b"]


def test_a_server_killed_and_restarted(scene: Scene) -> None:
    scene.create("a")
    scene.reflector.start()
    scene.wait_connected(1)
    taken(scene.store)
    connects, accepted, began = scene.reflector.state.connects, scene.forwarder.accepted, time.monotonic()
    restart(scene.server)
    scene.create("b")
    scene.wait_names("a", "b")
    until(lambda: scene.reflector.state.last_error is None, seconds=WAIT_SECONDS, what="the recovery")
    elapsed = time.monotonic() - began
    assert scene.reflector.state.connects - connects <= 5
    assert scene.forwarder.accepted - accepted <= 2 + elapsed / 0.1
    assert scene.reflector.state.failures >= 1


def test_a_deleted_namespace_takes_its_jobs_along(cluster: DevCluster, tmp_path: Path) -> None:
    with reflecting(cluster, tmp_path) as scene:
        scene.create("a", "b")
        scene.reflector.start()
        scene.wait_names("a", "b")
        scene.wait_connected(1)
        taken(scene.store)
        cluster.kubectl("delete", "namespace", scene.namespace, "--wait=false")
        scene.wait_names()
        absent = {job.metadata.name for job in taken(scene.store).absent}
        assert absent == {"a", "b"}


def test_rights_may_come_later(server: DevCluster) -> None:
    user = create_namespace(server)
    client = KubeClient.from_kubeconfig(server.user_kubeconfig(user))
    store = JobStore()
    reflector = Reflector(client, "aiqueue.dev/queue", store, rng=Random(2))
    reflector.start()
    try:
        until(lambda: reflector.state.failures >= 2, seconds=WAIT_SECONDS, what="two refusals")
        assert f'User "{user}" cannot list resource "jobs"' in (reflector.state.last_error or "")
        assert not reflector.state.synced
        assert not store.synced
        server.kubectl("create", "clusterrole", user, "--verb=list,watch", "--resource=jobs.batch")
        server.kubectl("create", "clusterrolebinding", user, f"--clusterrole={user}", f"--user={user}")
        until(lambda: reflector.state.connected_since is not None, seconds=WAIT_SECONDS, what="the watch")
        assert store.synced
        assert reflector.state.last_error is None
    finally:
        assert reflector.stop()
        client.close()


@pytest.mark.parametrize("when", ["watching", "backing off"])
def test_stop_is_prompt(scene: Scene, when: str) -> None:
    scene.reflector.start()
    scene.wait_connected(1)
    if when == "backing off":
        backoff = scene.reflector._backoff
        backoff._shortest = backoff._longest
        scene.forwarder.cut("flapping")
        until(lambda: scene.reflector.state.failures > 0, seconds=WAIT_SECONDS, what="a back-off of half a minute")
    began = time.monotonic()
    assert scene.reflector.stop()
    assert time.monotonic() - began < LONGEST_SECONDS / 2
    assert not scene.reflector.state.running
    assert scene.reflector.stop()


def test_a_fault_of_the_sink_is_seen(server: DevCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the thread as any uncaught exception does, and the state says so."""

    class Broken(JobStore):
        def replace(self, jobs: Iterable[Job], resource_version: str) -> None:
            raise RuntimeError(f"no room for {len(list(jobs))} Jobs at {resource_version}")

    uncaught: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: uncaught.append(arguments.exc_type))
    client = KubeClient.from_kubeconfig(server.kubeconfig)
    jitter = Random(3)
    reflector = Reflector(client, "aiqueue.dev/queue=none", Broken(), rng=jitter)
    reflector.start()
    until(lambda: not reflector.state.running, seconds=WAIT_SECONDS, what="the end of the thread")
    assert "fault of its own: RuntimeError('no room for 0 Jobs" in (reflector.state.last_error or "")
    assert reflector.stop()
    assert uncaught == [RuntimeError]
    client.close()
