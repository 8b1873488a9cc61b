"""Processes of aiqueue in one shape: started side by side, and waited for in their own words."""

from __future__ import annotations

import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aiqueue.cli.harness import processes, services
from aiqueue.cli.harness.certificates import Authority
from aiqueue.cli.harness.environment import DevEnvironment
from aiqueue.cli.harness.errors import HarnessError, ProgramFailed
from aiqueue.cli.harness.services import Service

LASTS = (sys.executable, "-c", "import os, time; print(os.environ['WORD'], flush=True); time.sleep(600)")
#: Of what is asked in these tests, by status.
SENTENCE = "no certificate yet: put tls.crt into the folder"


class Readyz(BaseHTTPRequestHandler):
    """Ready at /readyz of a server whose `ready` is set."""

    def do_GET(self) -> None:
        ready = getattr(self.server, "ready", False) and self.path == "/readyz"
        body = b"ready" if ready else SENTENCE.encode()
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing: the output is that of the tests."""


class Server(ThreadingHTTPServer):
    """Answers on loopback until it is closed."""

    ready = False

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers that end with the test."""
    running: list[Server] = []

    def start(context: ssl.SSLContext | None = None) -> Server:
        server = Server(("127.0.0.1", 0), Readyz)
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DevEnvironment]:
    """An environment in which neither cluster nor server was ever started."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = DevEnvironment(tmp_path / "dev")
    yield made
    made.down()


def test_what_is_lacking_is_said_in_the_process_s_own_words(serve: Callable[..., Server]) -> None:
    server = serve()
    assert services.readiness(server.port) == SENTENCE
    server.ready = True
    assert services.readiness(server.port) == ""


def test_over_https_only_the_right_authority_s_certificate_will_do(serve: Callable[..., Server], tmp_path: Path) -> None:
    right, wrong = Authority.open(tmp_path / "right"), Authority.open(tmp_path / "wrong")
    pair = right.serving("tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    server = serve(context)
    server.ready = True
    assert services.readiness(server.port, right.file) == ""
    assert "CERTIFICATE_VERIFY_FAILED" in services.readiness(server.port, wrong.file)
    assert services.readiness(server.port).startswith("it does not answer: "), "plain HTTP"


def test_nobody_answering_is_said(tmp_path: Path) -> None:
    assert services.readiness(1).startswith("it does not answer: ")
    assert services.readiness(1, tmp_path / "absent.crt").startswith("it does not answer: ")


def service(name: str, lacking: Callable[[], str], argv: tuple[str, ...] = LASTS) -> Service:
    return Service(name, argv, lambda: {"WORD": name}, lacking)


def test_all_are_started_before_the_first_is_waited_for(environment: DevEnvironment) -> None:
    def lacks_the_other() -> str:
        return "" if environment.find_service("second") else "the other one"

    services.start(environment, [service("first", lacks_the_other), service("second", lambda: "")])
    before = [environment.find_service(name) for name in ("first", "second")]
    assert None not in before
    services.start(environment, [service("first", lambda: ""), service("second", lambda: "")])
    assert [environment.find_service(name) for name in ("first", "second")] == before, "what runs is left alone"


def test_one_that_is_not_ready_in_time_is_quoted(environment: DevEnvironment, serve: Callable[..., Server]) -> None:
    server = serve()
    words = f"readiness of the door did not happen within 0.2 s: {SENTENCE}; see `aiqueue dev logs door`"
    with pytest.raises(HarnessError, match=words):
        services.start(environment, [service("door", partial(services.readiness, server.port))], seconds=0.2)


def test_one_that_ended_shows_its_log_and_can_be_started_again(environment: DevEnvironment) -> None:
    ends = (sys.executable, "-c", "import sys; sys.exit('no ledger')")
    with pytest.raises(ProgramFailed, match=r"door ended; the end of .*\n(.*\n)*no ledger"):
        services.start(environment, [service("door", lambda: "it does not answer", ends)])
    services.start(environment, [service("door", lambda: "")])
    record = environment.find_service("door")
    assert record is not None
    assert processes.is_alive(record.identity)
