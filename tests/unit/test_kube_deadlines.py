"""Whatever stands before an API server sends an answer in however small parts: the request is over in time, and the process lives on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from kubernetes import client as official

from aiqueue.admission.kube import deadlines, errors
from aiqueue.admission.kube.client import KubeClient
from aiqueue.queue.settings import Settings

BOUND_SECONDS = 0.5
PAUSE_SECONDS = 0.02
WELL = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
VERSION = b'{"major":"1","minor":"36","gitVersion":"v1.36.0"}'


@contextmanager
def answered(at_once: bytes, again: bytes, whole: bytes = b"") -> Iterator[KubeClient]:
    """A client of somebody who sends a part at once and another again and again; to all but the first request something whole."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(20)

        def answer() -> None:
            for first in (True, False):
                with suppress(OSError):  # who gave up has hung up
                    connection, _ = listening.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(at_once if first else whole)
                        ends = time.monotonic() + 20 * BOUND_SECONDS
                        while first and not over.wait(PAUSE_SECONDS) and time.monotonic() < ends:
                            connection.sendall(again)

        serving = threading.Thread(target=answer)
        serving.start()
        configuration = official.Configuration()
        configuration.host = f"http://127.0.0.1:{listening.getsockname()[1]}"
        client = KubeClient(configuration)
        yield client
        over.set()
        client.close()
        listening.close()
        serving.join(30)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests last no longer than a test likes to wait."""
    monkeypatch.setattr(deadlines, "REQUEST_SECONDS", BOUND_SECONDS)


@pytest.mark.parametrize(
    ("at_once", "again"),
    [
        (b"HTTP/1.1 2", b"0"),
        (WELL + b"X-Slow: ", b"x"),
        (WELL + b"Content-Length: 1000000\r\n\r\n", b" "),
        (WELL + b"Transfer-Encoding: chunked\r\n\r\n1;slow=", b"x"),
        (WELL + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (WELL + b"Content-Length: 1000000\r\n\r\n", b""),
    ],
    ids=["status line", "a header", "body", "a chunk's length", "chunks", "silence"],
)
def test_an_answer_in_small_parts_is_given_up_in_time(at_once: bytes, again: bytes) -> None:
    with answered(at_once, again) as client:
        began = time.monotonic()
        with pytest.raises(errors.Unavailable, match=f"it was not there after {BOUND_SECONDS:g} s"):
            client.server_version()
        assert time.monotonic() - began < 10 * BOUND_SECONDS, "it goes on for twice as long"


def test_each_request_is_progress_and_is_over_well_before_a_process_ends_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = WELL + b"Content-Length: %d\r\n\r\n%b" % (len(VERSION), VERSION)
    begun: list[str] = []
    with answered(WELL + b"X-Slow: ", b"x", whole) as client:
        client.progress = lambda: begun.append("a request")
        with pytest.raises(errors.Unavailable):
            client.server_version()
        assert client.server_version() == (1, 36)
        assert begun == ["a request"] * 2
    monkeypatch.undo()
    assert Settings().stuck_seconds >= 2 * deadlines.REQUEST_SECONDS
