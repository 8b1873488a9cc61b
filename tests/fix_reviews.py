"""Asking a webhook as the API server does, but without one: reviews of Jobs over HTTPS with a verified certificate.

`Wire` is a stretch of network to Postgres that a test can cut, hang and mend.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import urllib3
from sqlalchemy import make_url

from fix_doors import WebhookProcess

PATH = "/validate/jobs"
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a webhook answered about a review."""

    allowed: bool
    code: int
    sentence: str
    warnings: tuple[str, ...]
    #: Whether the connection ends with this answer.
    last: bool


def job(namespace: str, queue: str, *, gpus: int = 1, pods: int = 1, name: str = "job", **metadata: Any) -> dict[str, Any]:
    """A Job that asks for GPUs, as the API server sends it."""
    amount = {"nvidia.com/gpu": str(gpus)} if gpus else {"cpu": "1"}
    container = {"name": "main", "image": "registry.example/main:1", "resources": {"requests": amount, "limits": amount}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace, "uid": "0", "labels": {"aiqueue.dev/queue": queue}, **metadata},
        "spec": {
            "parallelism": pods,
            "completions": pods,
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }


def review(
    content: Mapping[str, Any], *, old: Mapping[str, Any] | None = None, uid: str = "0-1-2", user: str = "alice"
) -> dict[str, Any]:
    """An AdmissionReview of its creation, or of its update from `old`."""
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": uid,
            "kind": {"group": "batch", "version": "v1", "kind": "Job"},
            "resource": {"group": "batch", "version": "v1", "resource": "jobs"},
            "name": content["metadata"]["name"],
            "namespace": content["metadata"]["namespace"],
            "operation": "CREATE" if old is None else "UPDATE",
            "userInfo": {"username": user, "groups": ["system:authenticated"]},
            "object": content,
            "oldObject": old,
            "dryRun": False,
            "options": {},
        },
    }


class Client:
    """Keep-alive connections to one webhook. Nothing is tried twice, so a failure shows."""

    def __init__(self, webhook: WebhookProcess, *, connections: int = 8, seconds: float = 60) -> None:
        self._pool = urllib3.HTTPSConnectionPool(
            "127.0.0.1",
            webhook.port,
            ca_certs=str(webhook.ca_file),
            maxsize=connections,
            block=True,
            retries=False,
            timeout=urllib3.Timeout(connect=seconds, read=seconds),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.close()

    @property
    def connections(self) -> int:
        """Connections made so far."""
        return self._pool.num_connections

    def send(self, body: Any, *, path: str = PATH, method: str = "POST", **headers: str) -> urllib3.BaseHTTPResponse:
        """Send a body as it is; `content_type` and the like are headers."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._pool.request(method, path, body=body, headers={**JSON, **named}, preload_content=True)

    def ask(self, content: Mapping[str, Any], **options: Any) -> Verdict:
        """Ask about a Job; see `review`."""
        asked = review(content, **options)
        answer = self.send(json.dumps(asked).encode())
        assert answer.status == 200, answer.data
        said = answer.json()
        assert (said["apiVersion"], said["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        response = said["response"]
        assert response["uid"] == asked["request"]["uid"]
        status = response.get("status") or {}
        return Verdict(
            allowed=response["allowed"],
            code=status.get("code", 200),
            sentence=status.get("message", ""),
            warnings=tuple(response.get("warnings") or ()),
            last=answer.headers.get("connection") == "close",
        )


class Wire:
    """Forwards TCP connections from a port of its own to a server.

    `flows`: bytes pass. `hang`: connections are taken and nothing passes. `cut`: connections end and none are taken.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._listener = self._listen(0)
        self._port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """The same database by way of this wire."""
        return self._url.set(host="127.0.0.1", port=self._port).render_as_string(hide_password=False)

    def hang(self) -> None:
        """Let nothing pass any more."""
        self._flowing.clear()

    def cut(self) -> None:
        """End all connections, and take no more."""
        _end(self._listener)
        self._flowing.set()
        with self._lock:
            ends, self._ends = self._ends, []
        for each in ends:
            _end(each)

    def mend(self) -> None:
        """Let everything pass again."""
        self._flowing.set()
        if self._listener.fileno() == -1:
            self._listener = self._listen(self._port)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                near, _ = listener.accept()
                far = socket.create_connection((self._url.host or "127.0.0.1", self._url.port or 5432))
                with self._lock:
                    self._ends += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, target), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                target.sendall(data)
        _end(source)
        _end(target)


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def wire_to(url: str) -> Iterator[Wire]:
    """A wire that is cut at the end of the block."""
    wire = Wire(url)
    try:
        yield wire
    finally:
        wire.cut()
