"""Patches over the wire to a real API server: each is answered once, whatever becomes of the connections."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path

import pytest

from aiqueue.admission.kube.client import KubeClient, job_path
from aiqueue.admission.kube.wire import NO_ANSWER, Request, Wire
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from fix_kube import WAIT_SECONDS, Forwarder, create_jobs, forwarded_kubeconfig, job_document, server_port

pytestmark = pytest.mark.e2e


class Source:
    """Requests to be pulled, and how each was answered."""

    def __init__(self) -> None:
        self.left: deque[Request] = deque()
        self.answers: dict[str, list[int]] = {}
        self.failures = 0
        self._lock = threading.Lock()

    def add(self, namespace: str, name: str, body: object) -> None:
        key = f"{name} {len(self.answers)}"
        self.answers[key] = []
        self.left.append(Request(job_path(namespace, name), json.dumps(body).encode(), partial(self._answered, key)))

    def pull(self) -> Request | None:
        return self.left.popleft() if self.left else None

    def failed(self) -> None:
        self.failures += 1

    def _answered(self, key: str, status: int) -> None:
        with self._lock:
            self.answers[key].append(status)

    def statuses(self) -> list[int]:
        """Of all requests, each answered exactly once."""
        until(lambda: all(self.answers.values()), seconds=WAIT_SECONDS, what="an answer to every request")
        assert all(len(each) == 1 for each in self.answers.values())
        return [each[0] for each in self.answers.values()]


@contextmanager
def running(client: KubeClient, source: Source, connections: int) -> Iterator[Wire]:
    wire = Wire(client, connections, pull=source.pull, waiting=lambda: len(source.left), failed=source.failed)
    wire.start()
    yield wire
    wire.stop(1.0)
    assert not wire._thread.is_alive()


def hold(value: object) -> dict[str, object]:
    return {"metadata": {"annotations": {"aiqueue.dev/estimated-runtime": value}}}


def test_many_patches_share_a_few_connections(cluster: DevCluster, kube: KubeClient, kube_namespace: str) -> None:
    create_jobs(cluster, *(job_document(kube_namespace, f"j{number}") for number in range(5)))
    source = Source()
    for number in range(60):
        source.add(kube_namespace, f"j{number % 5}", hold(f"{number}s"))
    with running(kube, source, 4) as wire:
        wire.wake()
        assert source.statuses() == [HTTPStatus.OK] * 60
        assert 1 <= len(wire._all) <= 4
    seen = kube.get_job(kube_namespace, "j4")
    assert seen is not None
    assert seen.metadata.annotations is not None
    assert seen.metadata.annotations.estimated_runtime in {f"{number}s" for number in range(4, 60, 5)}


def test_refusals_are_statuses_and_keep_the_connection(cluster: DevCluster, kube: KubeClient, kube_namespace: str) -> None:
    create_jobs(cluster, job_document(kube_namespace, "a"))
    source = Source()
    source.add(kube_namespace, "a", {"metadata": {"resourceVersion": "1"}})
    source.add(kube_namespace, "b", hold("1s"))
    source.add(kube_namespace, "a", {"spec": {"parallelism": -1}})
    source.add(kube_namespace, "a", hold("1s"))
    with running(kube, source, 1) as wire:
        wire.wake()
        assert source.statuses() == [
            HTTPStatus.CONFLICT,
            HTTPStatus.NOT_FOUND,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.OK,
        ]


def test_a_server_that_falls_silent_is_no_answer_and_the_next_connection_goes_on(
    cluster: DevCluster, kube_namespace: str, tmp_path: Path
) -> None:
    create_jobs(cluster, job_document(kube_namespace, "a"))
    with Forwarder(server_port(cluster)) as forwarder:
        client = KubeClient.from_kubeconfig(forwarded_kubeconfig(cluster, forwarder, tmp_path))
        source = Source()
        with running(client, source, 2) as wire:
            source.add(kube_namespace, "a", hold("1s"))
            assert source.statuses() == [HTTPStatus.OK]  # found without being woken, too
            forwarder.cut("flapping")
            source.add(kube_namespace, "a", hold("2s"))
            wire.wake()
            until(lambda: source.failures or not source.left, seconds=WAIT_SECONDS, what="a connection to fail")
            forwarder.cut("open")
            assert source.statuses()[1] in (HTTPStatus.OK, NO_ANSWER)
            source.add(kube_namespace, "a", hold("3s"))
            wire.wake()
            assert source.statuses()[2] == HTTPStatus.OK
        client.close()


def test_who_stops_the_wire_hears_of_what_was_in_flight(cluster: DevCluster, kube_namespace: str, tmp_path: Path) -> None:
    create_jobs(cluster, job_document(kube_namespace, "a"))
    with Forwarder(server_port(cluster)) as forwarder:
        client = KubeClient.from_kubeconfig(forwarded_kubeconfig(cluster, forwarder, tmp_path))
        source = Source()
        with running(client, source, 1) as wire:
            source.add(kube_namespace, "a", hold("1s"))
            wire.wake()
            assert source.statuses() == [HTTPStatus.OK]
            forwarder.silence()
            source.add(kube_namespace, "a", hold("2s"))
            source.add(kube_namespace, "a", hold("3s"))
            wire.wake()
            until(lambda: len(source.left) == 1, seconds=WAIT_SECONDS, what="a request to be sent")
        assert [source.answers[key] for key in list(source.answers)[1:]] == [[NO_ANSWER], []]
        client.close()


def test_a_proxy_is_left_to_the_client(kube: KubeClient) -> None:
    assert Wire.possible(kube)
    kube.access._configuration.proxy = "http://127.0.0.1:1"
    assert not Wire.possible(kube)
