"""What probes are told: alive unless the process is past help, ready unless something keeps it from its work."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aiqueue.admission.controller.health import Health


@contextmanager
def answering(problems: list[str], past_help: list[str]) -> Iterator[Health]:
    health = Health("127.0.0.1:0", lambda: problems, lambda: past_help)
    health.start()
    yield health
    health.stop()


def asked(health: Health, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", health.port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_one_that_works_is_alive_and_ready() -> None:
    with answering([], []) as health:
        assert [asked(health, path) for path in ("/healthz", "/readyz")] == [(200, "ok\n")] * 2
        assert asked(health, "/metrics")[0] == 404


def test_one_that_is_not_ready_is_alive() -> None:
    with answering(["the ledger cannot be reached", "Jobs have not been listed yet"], []) as health:
        assert asked(health, "/healthz") == (200, "ok\n")
        assert asked(health, "/readyz") == (503, "the ledger cannot be reached\nJobs have not been listed yet\n")


def test_one_that_is_past_help_says_so() -> None:
    with answering([], ["thread act-1 does an action and has not got on for 121.0 s"]) as health:
        assert asked(health, "/healthz") == (503, "thread act-1 does an action and has not got on for 121.0 s\n")


def test_who_hangs_up_before_the_answer_causes_no_words(capfd: pytest.CaptureFixture[str]) -> None:
    inside, gone = threading.Event(), threading.Event()

    def slowly() -> list[str]:
        inside.set()
        assert gone.wait(60)
        return ["a" * 100_000]

    health = Health("127.0.0.1:0", slowly)
    health.start()
    with socket.create_connection(("127.0.0.1", health.port)) as prober:
        prober.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert inside.wait(60)
        handler = next(each for each in threading.enumerate() if "process_request_thread" in each.name)
        prober.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # it is closed by a reset
    gone.set()
    handler.join(60)
    assert not handler.is_alive()
    health.stop()
    assert capfd.readouterr() == ("", "")
