"""The harness's own client: its connections are kept while they stand."""

import ssl
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from aiqueue.cli.harness.api import Api, _readable
from aiqueue.cli.harness.certificates import Authority
from aiqueue.cli.harness.waiting import until


class Answering(BaseHTTPRequestHandler):
    """Answers `{}`, that of `/late` when it is told to; the last call of a connection is one of `/last`, after whose answer it is closed without a word of that."""

    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        answer = b"{}"
        if self.path == "/late":
            assert self.server.late.wait(60)
            answer = b'{"late": true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.close_connection = self.path == "/last"

    def finish(self) -> None:
        super().finish()
        self.server.ended.release()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.accepted = 0
        self.late = threading.Event()
        self.ended = threading.Semaphore(0)

    def verify_request(self, *_: object) -> bool:
        self.accepted += 1
        return True


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path)


@pytest.fixture
def server(authority: Authority) -> Iterator[Server]:
    pair = authority.serving("serving")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with Server(context) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def idle_ended(api: Api) -> bool:
    return all(_readable(each.sock) for each in api._idle)


def test_calls_share_a_connection_until_it_ends(authority: Authority, server: Server) -> None:
    api = Api(server.server_address[1], authority.file, authority.client("admin", "ann"))
    assert [api.call("GET", path) for path in ("/", "/last")] == [{}, {}]
    assert server.accepted == 1
    assert server.ended.acquire(timeout=60)
    until(partial(idle_ended, api), seconds=60, what="the end of the connection")
    assert api.call("GET", "/") == {}, "nobody is told of it"
    assert server.accepted == 2
    del api  # what it kept is closed
    assert server.ended.acquire(timeout=60)


def test_a_late_answer_is_not_taken_for_that_of_the_next_call(authority: Authority, server: Server) -> None:
    api = Api(server.server_address[1], authority.file, authority.client("admin", "ann"))
    assert api.call("GET", "/") == {}
    with pytest.raises(TimeoutError):
        api.ask("GET", "/late", seconds=0.2)
    server.late.set()
    assert api.call("GET", "/") == {}
    assert server.accepted == 2
