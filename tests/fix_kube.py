"""Clients of an API server, and a wire to it that can be cut.

`kube` speaks to the session's cluster as its administrator, in `kube_namespace`, which is fresh for each test.
"""

from __future__ import annotations

import os
import secrets
import selectors
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness import guard
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until

WAIT_SECONDS = 60.0


def create_namespace(cluster: DevCluster) -> str:
    """A namespace of its own for one test."""
    name = f"kube-{secrets.token_hex(4)}"
    cluster.api.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def job_document(namespace: str, name: str, *, pod: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A suspended, labelled Job whose pods run until they are stopped."""
    template = {
        "metadata": {"annotations": {"aiqueue.dev/dev-runtime": "forever"}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "registry.example/main:1", "resources": {"requests": {"cpu": "10m"}}}],
            **(pod or {}),
        },
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "labels": {"aiqueue.dev/queue": namespace}},
        "spec": {"suspend": True, "template": template, **spec},
    }


def create_jobs(cluster: DevCluster, *documents: dict[str, Any]) -> None:
    """Create them one after the other."""
    api = cluster.api
    for each in documents:
        api.call("POST", f"/apis/batch/v1/namespaces/{each['metadata']['namespace']}/jobs", each)


@pytest.fixture
def kube(cluster: DevCluster) -> Iterator[KubeClient]:
    client = KubeClient.from_kubeconfig(cluster.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def kube_namespace(cluster: DevCluster) -> Iterator[str]:
    name = create_namespace(cluster)
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    api = cluster.api
    until(lambda: api.is_ok(account), seconds=WAIT_SECONDS, what=f"the service account of {name}", longest_pause_seconds=0.05)
    yield name
    api.ask("DELETE", f"/apis/batch/v1/namespaces/{name}/jobs", {"propagationPolicy": "Background"})
    if guard.KUBECONFIG_VARIABLE in os.environ:  # else it ends with the cluster, which is less work
        api.ask("DELETE", f"/api/v1/namespaces/{name}")


@dataclass(frozen=True, slots=True)
class Wire:
    """One connection through the forwarder. Without `far` it leads nowhere."""

    near: socket.socket
    far: socket.socket | None


class Forwarder:
    """A TCP wire to an API server on loopback. It listens on a port of its own; see `state`.

    Attributes:
        state: of new connections: `open` forwards them, `dead` takes them and answers nothing, `flapping` hangs up at once.
        accepted: connections taken so far.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._lock = threading.Lock()
        self._wires: list[Wire] = []
        self._ended = threading.Event()
        self._silent = threading.Event()
        self._threads: list[threading.Thread] = []
        self.state = "open"
        self.accepted = 0
        self.port = int(self._listener.getsockname()[1])
        self._spawn(self._accept)

    def __enter__(self) -> Forwarder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut(self.state)
        for thread in self._threads:
            thread.join(WAIT_SECONDS)
        self._listener.close()

    def cut(self, state: str) -> None:
        """Break all connections; new ones get `state`."""
        with self._lock:
            self.state = state
            wires, self._wires = self._wires, []
        for wire in wires:
            for end in (wire.near, wire.far):
                if end is not None:
                    _shut(end)

    def _spawn(self, target: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                wire = self._wire(near)
                if wire is not None:
                    self._wires.append(wire)
            if wire is None:
                near.close()
            else:
                self._spawn(self._carry, wire)

    def _wire(self, near: socket.socket) -> Wire | None:
        """What becomes of a new connection; None hangs up."""
        if self.state == "flapping":
            return None
        far = None
        if self.state == "open":
            try:
                far = socket.create_connection(self._target, WAIT_SECONDS)
            except OSError:
                return None  # the server is down: so are we
            far.settimeout(None)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return Wire(near, far)

    def _carry(self, wire: Wire) -> None:
        """Carry bytes both ways until one side ends."""
        pairs: dict[socket.socket, socket.socket | None] = {wire.near: wire.far}
        if wire.far is not None:
            pairs[wire.far] = wire.near
        with selectors.DefaultSelector() as selector:
            for end in pairs:
                selector.register(end, selectors.EVENT_READ)
            while all(self._pass(key.fileobj, pairs) for key, _ in selector.select()):
                pass
        for end in pairs:
            end.close()

    def silence(self) -> None:
        """From now on nothing is carried over any connection, and none is broken."""
        self._silent.set()

    def _pass(self, source: Any, pairs: dict[socket.socket, socket.socket | None]) -> bool:
        try:
            data = source.recv(1 << 16)
            target = pairs[source]
            if data and target is not None and not self._silent.is_set():
                target.sendall(data)
        except OSError:
            return False
        return bool(data)


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it ended by itself


def forwarded_kubeconfig(cluster: DevCluster, forwarder: Forwarder, folder: Path) -> Path:
    """The administrator's kubeconfig, but through the forwarder."""
    content = yaml.safe_load(cluster.kubeconfig.read_text())
    for each in content["clusters"]:
        each["cluster"]["server"] = f"https://127.0.0.1:{forwarder.port}"
    return write_kubeconfig(folder, content)


def write_kubeconfig(folder: Path, content: dict[str, Any]) -> Path:
    """A kubeconfig file of this content."""
    path = folder / f"kubeconfig-{secrets.token_hex(4)}"
    path.write_text(yaml.safe_dump(content))
    return path


def server_port(cluster: DevCluster) -> int:
    """Where the API server listens."""
    port = urlsplit(cluster.server).port
    assert port is not None
    return port
