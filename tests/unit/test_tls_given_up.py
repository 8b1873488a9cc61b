"""Connections over TLS that are given up at a bad moment: everything is closed, and no thread ends by it.

A fault of a thread, and a socket that nobody closed, are warnings, and those are errors here.
"""

from __future__ import annotations

import gc
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kubernetes import client as official

from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.wire import Request, Wire
from aiqueue.cli.harness.certificates import Authority

TIMES = 25
WATCHED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
Serve = Callable[[ssl.SSLSocket], object]


@contextmanager
def serving(folder: Path, serve: Serve) -> Iterator[KubeClient]:
    """A client of a server that does this once TLS is spoken, and closes the connection."""
    authority = Authority.open(folder)
    pair = authority.serving("tls")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)

    def one(connection: socket.socket) -> None:
        with connection:
            try:
                with context.wrap_socket(connection, server_side=True) as over_tls:
                    serve(over_tls)
            except OSError:  # the other end was first
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=one, args=(connection,), daemon=True))
            threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=accept)
        accepting.start()
        configuration = official.Configuration()
        configuration.host = f"https://127.0.0.1:{server.getsockname()[1]}"
        configuration.ssl_ca_cert = str(authority.file)
        client = KubeClient(configuration)
        try:
            yield client
        finally:
            client.close()
            server.shutdown(socket.SHUT_RDWR)
            accepting.join(60)
    for each in threads:
        each.join(60)
    gc.collect()


def reset(connection: ssl.SSLSocket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang_up(_connection: ssl.SSLSocket) -> None:
    """Close it: the other end believes that it is connected."""


@pytest.mark.parametrize("serve", [hang_up, reset])
def test_a_wire_is_stopped_while_its_server_hangs_up_on_it(tmp_path: Path, serve: Serve) -> None:
    before = threading.active_count()
    with serving(tmp_path, serve) as client:
        for _ in range(TIMES):
            greeted = threading.Event()

            def pull(greeted: threading.Event = greeted) -> Request:
                greeted.set()  # one is connected, and others are about to be
                return Request("/", b"{}", lambda _: None)

            wire = Wire(client, 8, pull=pull, waiting=lambda: 8, failed=greeted.set)
            wire.start()
            wire.wake()
            assert greeted.wait(60)
            wire.stop(0.1)
            wire._thread.join(60)
            assert wire._loop.is_closed()
            assert not wire._all
    assert threading.active_count() == before


def test_a_watch_is_closed_just_as_it_begins_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(connection: ssl.SSLSocket) -> None:
        connection.recv(1 << 16)
        connection.sendall(WATCHED)
        connection.settimeout(30)
        connection.recv(1)

    def read(self: ssl.SSLSocket, length: int = 1024, buffer: bytearray | None = None) -> object:
        watch.close()  # as another thread does it between the look whether the socket is open and the read
        return self._sslobj.read(length, buffer)  # type: ignore[attr-defined]  # as the method that it stands for

    with serving(tmp_path, watched) as client:
        watch = client.watch_jobs(resource_version="1")
        with monkeypatch.context() as patch:
            patch.setattr(ssl.SSLSocket, "read", read)
            assert list(watch) == []
