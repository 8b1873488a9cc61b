"""What the wire shows of us with each patch: credentials that were renewed are shown from the next one on."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kubernetes import client as official

from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.wire import Request, Wire

SECONDS = 60.0


class Server(ThreadingHTTPServer):
    """Takes every patch, and keeps what each said of who sent it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.shown: list[tuple[str | None, str | None, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    """One connection, kept for the next patch."""

    protocol_version = "HTTP/1.1"

    def do_PATCH(self) -> None:
        assert isinstance(self.server, Server)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.shown.append((self.headers["Host"], self.headers["Authorization"], self.headers["Content-Type"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join(SECONDS)
    server.server_close()


def test_a_renewed_token_is_shown_with_the_next_patch() -> None:
    asked: deque[Request] = deque()
    answered: queue.SimpleQueue[int] = queue.SimpleQueue()
    with serving() as server:
        host = f"127.0.0.1:{server.server_port}"
        configuration = official.Configuration()
        configuration.host = f"http://{host}"
        configuration.api_key = {"BearerToken": "first"}
        configuration.api_key_prefix = {"BearerToken": "Bearer"}
        client = KubeClient(configuration, connections=1)
        wire = Wire(
            client,
            1,
            pull=lambda: asked.popleft() if asked else None,
            waiting=lambda: len(asked),
            failed=lambda: None,
        )
        wire.start()

        def patch() -> None:
            asked.append(Request("/job", b"{}", answered.put))
            wire.wake()
            assert answered.get(timeout=SECONDS) == 200

        patch()
        patch()
        configuration.api_key["BearerToken"] = "second"
        client.access.refused()
        patch()
        wire.stop()
        client.close()
    said = [f"Bearer {token}" for token in ("first", "first", "second")]
    assert server.shown == [(host, each, "application/merge-patch+json") for each in said]
