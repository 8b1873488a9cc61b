"""When the whole of a request must be over, however its answer comes.

A timeout of a socket is the longest pause between two parts of an answer: a server, or what stands before it, that sends a byte now and then
keeps whoever waits for it for ever. So each read of an answer, of its headers too, is given only what is left of the request's time. A process
that ends itself where a thread stands still (`controller.watchdog`) relies on it: `REQUEST_SECONDS` is half of what it allows.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: From the beginning of a request, but for names to be looked up, to the last byte of its answer. The API server itself by default gives a
#: request up after as long.
REQUEST_SECONDS = 60.0


class Deadline:
    """Until when the answer of one request may be read, and how long nothing may come of it; may be moved as long as it is read.

    Args:
        seconds: from now on that everything may take.
        silent_seconds: that pass at most between two parts.
    """

    __slots__ = ("_seconds", "_silent_seconds", "_until")

    def __init__(self, seconds: float, silent_seconds: float) -> None:
        self.move(seconds, silent_seconds)

    def move(self, seconds: float, silent_seconds: float) -> None:
        """Begin anew, from now on."""
        self._seconds, self._silent_seconds = seconds, silent_seconds
        self._until = monotonic() + seconds

    @property
    def over(self) -> bool:
        """Whether no time is left."""
        return monotonic() >= self._until

    @property
    def next_seconds(self) -> float:
        """How long to wait for the next part; 0 or less when it is over."""
        return min(self._until - monotonic(), self._silent_seconds)

    def why(self, error: Exception) -> str:
        """Why the answer is not there, where reading it has failed with `error`."""
        return f"it was not there after {self._seconds:g} s" if self.over else str(error)


@contextmanager
def within(seconds: float, silent_seconds: float) -> Iterator[Deadline]:
    """Have the request that this thread begins in the block keep to a deadline; its answer does so after the block too."""
    deadline = _present.deadline = Deadline(seconds, silent_seconds)
    try:
        yield deadline
    finally:
        _present.deadline = None


def keep(pool: urllib3.PoolManager) -> None:
    """Have the connections of a pool that was not used yet keep to deadlines."""
    # Connections through SOCKS are of classes of their own.
    if pool.pool_classes_by_scheme["http"] is urllib3.HTTPConnectionPool:
        pool.pool_classes_by_scheme = {"http": HTTPConnectionPool, "https": HTTPSConnectionPool}


class _Present(threading.local):
    deadline: Deadline | None = None


_present = _Present()


class _Parts(io.RawIOBase):
    """What comes from a socket, for as long as there is time."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection = connection
        self._deadline = deadline
        # It keeps the socket open until this is closed, also where the connection is closed before.
        self._raw: socket.SocketIO = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        seconds = self._deadline.next_seconds
        if seconds <= 0:
            raise TimeoutError("the answer was not whole in time")
        self._connection.settimeout(seconds)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        deadline = _present.deadline
        if deadline is not None:
            unbounded, self.fp = self.fp, io.BufferedReader(_Parts(sock, deadline))
            unbounded.close()


class _Connection(HTTPConnection):
    response_class = _Response


class _TlsConnection(HTTPSConnection):
    response_class = _Response


# Errors name these, and a person knows urllib3's.
class HTTPConnectionPool(urllib3.HTTPConnectionPool):
    """Connections without TLS whose answers keep to deadlines."""

    ConnectionCls = _Connection


class HTTPSConnectionPool(urllib3.HTTPSConnectionPool):
    """Connections over TLS whose answers keep to deadlines."""

    ConnectionCls = _TlsConnection
