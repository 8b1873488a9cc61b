"""Serves an application over TLS with bounds on whatever a client may do: connections, handshakes, request heads, idle time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aiqueue.queue.errors import InvalidInput, RefusedToStart

_VARIABLE = "AIQUEUE_WEBHOOK_ADDRESS"
_BACKLOG = 1024
#: Below the usual limit of open files, 1024, with room for sessions of the ledger.
MOST_CONNECTIONS = 800
HANDSHAKE_SECONDS = 5.0
#: A request's head must have come so long after its first byte, or after the connection was made.
HEAD_SECONDS = 10.0
MOST_HEAD_BYTES = 64 * 2**10
#: Longer than an API server keeps an idle connection (90 s), so that it is never closed just as a request is sent.
_IDLE_SECONDS = 120
_TLS_SHUTDOWN_SECONDS = 1.0
#: Connections that were made just before the server stopped accepting have so long to send their request.
LAST_REQUEST_SECONDS = 0.5
#: What is in flight after that may take this long.
FINISH_SECONDS = 3


def listen(address: str, *, share_port: bool) -> socket.socket:
    """A socket bound to `host:port` or `[v6]:port`, not yet accepting.

    Raises:
        InvalidInput: the address is none of this machine, or not of this form.
        RefusedToStart: the port is taken, or not for this user.
    """
    host, colon, written = address.rpartition(":")
    if (
        not colon
        or not written.isdecimal()
        or int(written) > 65535
        or (":" in host and not (host[:1] == "[" and host[-1:] == "]"))
    ):
        raise InvalidInput(_VARIABLE, address, "write host:port, for example 0.0.0.0:8443 or [::]:8443")
    host = host.strip("[]")
    try:
        ((family, kind, protocol, _, where), *_) = socket.getaddrinfo(
            host or None, int(written), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise InvalidInput(_VARIABLE, address, f"name an address of this machine ({error.strerror or error})") from None
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # [::] takes IPv4 too, whatever the system's default.
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(where)
        # Held from now on, so that a second webhook learns at once that the port is taken.
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        raise RefusedToStart(
            f"{_VARIABLE} is {address!r}, and this process cannot listen there ({error.strerror or error}): choose another"
        ) from None
    bound.setblocking(False)
    return bound


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose connections are bounded in number, and whose request heads are in time and size."""

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as the class above has it
        """Take a connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
            return
        self._head_begins()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a connection."""
        self._head_ends()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what was sent."""
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.transport.abort()

    def on_message_begin(self) -> None:
        """A request's first byte came."""
        super().on_message_begin()
        self._head_begins()

    def on_headers_complete(self) -> None:
        """A request's head came whole."""
        self._head_ends()
        super().on_headers_complete()

    def _head_begins(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_ends(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._head_bytes = 0


class Server(uvicorn.Server):
    """uvicorn on a socket of ours. Signals are its owner's to handle; `should_exit` ends it, with `force_exit` at once."""

    def __init__(self, app: Any, context: ssl.SSLContext) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_IDLE_SECONDS,
                timeout_graceful_shutdown=FINISH_SECONDS,
                ssl_context_factory=lambda _config, _default: context,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept: as the class above does, with a deadline for the handshake."""

        def protocol() -> BoundedProtocol:
            return BoundedProtocol(self.config, self.server_state, {})

        self.servers = [
            await asyncio.get_running_loop().create_server(
                protocol,
                sock=each,
                ssl=self.config.ssl,
                backlog=_BACKLOG,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_SECONDS,
            )
            for each in sockets or []
        ]
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, hear out whoever has just connected, and finish as the class above does."""
        for each in self.servers:
            each.close()
        if not self.force_exit:
            await asyncio.sleep(LAST_REQUEST_SECONDS)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield
