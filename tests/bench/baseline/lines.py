"""Requests over a fixed number of connections, at less CPU than a general client takes: the machine is shared with what is measured."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable

import httptools

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.ports import LOOPBACK

#: Called with the status and the body of an answer.
Answered = Callable[[int, bytes], None]
#: Called with what ended a connection early.
Failed = Callable[[BaseException], None]


class _Line(asyncio.Protocol):
    """A connection: one request at a time."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self._answered: Answered | None = None
        self._transport: asyncio.WriteTransport | None = None

    def send(self, request: bytes, answered: Answered) -> None:
        assert self._transport is not None
        self._answered = answered
        self._transport.write(request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transports of uvloop are of no class of asyncio's.
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lines.lost(self)
        if self._answered is not None:
            self._lines.failed(
                HarnessError(f"the API server ended a connection before it answered: {exc or 'nobody said why'}")
            )

    # What the parser calls

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        answered, self._answered = self._answered, None
        body, self._body = bytes(self._body), bytearray()
        self._lines.freed(self)
        if answered is not None:
            answered(self._parser.get_status_code(), body)


class Lines:
    """Sends each request on the first connection that is free. Those that have ended because nobody used them are not made again."""

    def __init__(self, port: int, ca_file: str, token: str, failed: Failed) -> None:
        self.failed = failed
        self._port = port
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._head = f"Host: {LOOPBACK}:{port}\r\nAuthorization: Bearer {token}\r\nAccept: application/json\r\n"
        # Each in its turn: the API server ends a connection on which nothing was asked for a while.
        self._idle: deque[_Line] = deque()
        self._waiting: deque[tuple[bytes, Answered]] = deque()
        self._all = 0

    async def open(self, connections: int) -> None:
        """Connect; call once."""
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, line = await loop.create_connection(lambda: _Line(self), LOOPBACK, self._port, ssl=self._tls)
            self._idle.append(line)
            self._all += 1

    def send(self, method: str, path: str, content_type: str, body: bytes, answered: Answered) -> None:
        """Send at once, or when a connection is free."""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        request = head.encode() + body
        if self._idle:
            self._idle.popleft().send(request, answered)
        elif not self._all:
            self.failed(HarnessError("the API server has ended every connection, since none was used for a while"))
        else:
            self._waiting.append((request, answered))

    def freed(self, line: _Line) -> None:
        """A connection has been answered."""
        if self._waiting:
            line.send(*self._waiting.popleft())
        else:
            self._idle.append(line)

    def lost(self, line: _Line) -> None:
        """A connection is no more."""
        self._all -= 1
        if line in self._idle:
            self._idle.remove(line)
