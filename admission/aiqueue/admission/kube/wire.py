"""Requests by the thousand over a few connections, from one thread: for what is done to every Job, and nearly always succeeds.

The client's own way, a thread that waits for each answer, spends four to six times the CPU on a request (docs/performance.md), on machines
where the API server needs it. So a thread with an event loop keeps `connections` busy and pulls the next request when one of them is free.
Answers are not read beyond their status and whether they are JSON, nothing is retried, and whoever asked hears of each request exactly once: its status, or
`NO_ANSWER` where the connection broke or the time was up, after which the request may have been carried out or not.

A proxy is not supported: `Wire.possible` says whether a configuration can be served, and the client remains for all else.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import structlog
from kubernetes.utils.keepalive import tcp_keepalive_socket_options

from aiqueue.admission.backoff import Backoff
from aiqueue.admission.kube.client import CONNECT_TIMEOUT_SECONDS, MERGE_PATCH, READ_TIMEOUT_SECONDS, KubeClient
from aiqueue.queue.errors import AiqueueError

_log = structlog.get_logger()
NO_ANSWER = 0
_TICK_SECONDS = 0.1  # how late a deadline is noticed, and how often the source is asked without a call of `wake`
_OPENING_SECONDS = 0.5  # for connections that are being made, or closed, when the wire is told to stop
#: After a connection could not be made; the next is tried alone.
_RETRY_SECONDS, _RETRY_MOST_SECONDS = 0.5, 5.0
_NOT_WELL = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
_KEEPALIVE = tcp_keepalive_socket_options()


@dataclass(frozen=True, slots=True)
class Request:
    """A JSON merge patch on its way.

    Attributes:
        path: with its query, escaped.
        body: the patch.
        answered: called once, in the thread of the wire, with the status.
    """

    path: str
    body: bytes
    answered: Callable[[int], None]


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, wire: Wire, prefix: str) -> None:
        self._wire = wire
        self._prefix = prefix
        self._parser = httptools.HttpResponseParser(self)
        self._request: Request | None = None
        self._transport: asyncio.Transport | None = None
        self._is_json = False
        self.deadline = 0.0

    @property
    def asked(self) -> bool:
        """Whether a request waits for its answer."""
        return self._request is not None

    def send(self, request: Request, head: bytes) -> None:
        assert self._transport is not None  # noqa: S101 -- only connections that were made are idle
        self._request = request
        self.deadline = time.monotonic() + READ_TIMEOUT_SECONDS
        self._transport.write(
            b"PATCH %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b"
            % (f"{self._prefix}{request.path}".encode(), head, len(request.body), request.body)
        )

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of no class of asyncio's
        self.deadline = time.monotonic() + CONNECT_TIMEOUT_SECONDS  # until it is idle
        self._wire.made(self)
        for option in _KEEPALIVE:  # as the client's: a connection that is dead is found out before it is needed
            transport.get_extra_info("socket").setsockopt(*option)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            _log.warning("an answer of the API server is no HTTP", error=str(error))
            self.abort()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._wire.lost(self)
        self._end(NO_ANSWER)

    # What the parser calls

    def on_message_begin(self) -> None:
        self._is_json = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._is_json = value.startswith(b"application/json")

    def on_message_complete(self) -> None:
        if self._request is None:
            self.abort()  # an answer that nobody asked for
            return
        keep = self._parser.should_keep_alive()
        status = self._parser.get_status_code()
        # A page with which something before the API server says that all is well, or will be soon, is no word of the API server.
        self._end(status if self._is_json or status != HTTPStatus.OK else NO_ANSWER)
        if keep:
            self._wire.freed(self)
        else:
            self.close()

    def _end(self, status: int) -> None:
        request, self._request = self._request, None
        if request is not None:
            self._wire.heard(status)
            request.answered(status)


class Wire:
    """Sends what it pulls.

    Args:
        client: to whose server, and in whose name.
        connections: at most.
        pull: gives the next request, None when there is none to be sent now. Called in the thread of the wire.
        waiting: how many there may be to pull, so that no connection is made for nothing. Called there too.
        failed: no connection could be made, which is tried again after a while. Called there too.
    """

    def __init__(
        self,
        client: KubeClient,
        connections: int,
        *,
        pull: Callable[[], Request | None],
        waiting: Callable[[], int],
        failed: Callable[[], None],
    ) -> None:
        self._client = client
        self._connections = connections
        self._pull = pull
        self._waiting = waiting
        self._failed = failed
        self._loop = _new_loop()
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self._stopped = asyncio.Event()
        self._stopping = False
        self._deadline = 0.0
        self._woken = False
        self._said: dict[str, str] = {}  # what `_written` is made of
        self._written = b""
        self._idle: list[_Connection] = []
        self._all: set[_Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._open_again_at = 0.0
        self._backoff = Backoff(random.Random(), shortest_seconds=_RETRY_SECONDS, longest_seconds=_RETRY_MOST_SECONDS)

    @staticmethod
    def possible(client: KubeClient) -> bool:
        """Whether this client's server can be reached without its own transport."""
        return not client.access.has_proxy

    def start(self) -> None:
        """Begin to pull."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something to pull. From any thread."""
        if not self._woken and not self._stopping:
            self._woken = True
            self._loop.call_soon_threadsafe(self._pump)

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Pull nothing more, wait so long for answers, and close every connection. Unanswered requests hear `NO_ANSWER`."""
        if self._thread.ident is None:
            self._loop.close()
            return
        self._stopping = True
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._deadline = time.monotonic() + timeout_seconds
        self._thread.join(timeout=timeout_seconds + 1.0)

    # In the thread of the wire

    def freed(self, connection: _Connection) -> None:
        """A connection has been answered."""
        self._idle.append(connection)
        self._pump()

    def heard(self, status: int) -> None:
        """What became of a request, for those who ask this server too."""
        if status == NO_ANSWER or status in _NOT_WELL:
            self._client.writing.unwell(f"a patch was answered with {status}" if status else "a patch was not answered")
        elif status != HTTPStatus.INTERNAL_SERVER_ERROR:  # which may be a webhook's fault: who reads the answer can tell
            self._client.writing.well()

    def made(self, connection: _Connection) -> None:
        """A connection is there; whoever opens it may yet be told to stop, or too late."""
        self._all.add(connection)

    def lost(self, connection: _Connection) -> None:
        """A connection is no more."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _run(self) -> None:
        self._loop.set_exception_handler(_complain)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception:
            _log.exception("the wire ended in a way nobody expected")
            raise
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        while not self._stopping:
            now = time.monotonic()
            for each in [each for each in self._all - set(self._idle) if each.deadline < now]:
                each.abort()
                if not each.asked:  # never handed over; uvloop may not tell that it is no more
                    self.lost(each)
            self._pump()
            try:
                await asyncio.wait_for(self._stopped.wait(), _TICK_SECONDS)
            except TimeoutError:
                continue
        await self._end_all()

    async def _end_all(self) -> None:
        if self._opening:  # most are done within moments, and uvloop forgets a socket that is given up between TCP and TLS
            await asyncio.wait(self._opening, timeout=_OPENING_SECONDS)
        for task in self._opening:
            task.cancel()
        if self._opening:  # a loop that is closed before they have let go of their sockets fails, and leaks them
            await asyncio.wait(self._opening, timeout=CONNECT_TIMEOUT_SECONDS)
        while any(each.asked for each in self._all) and time.monotonic() < self._deadline:
            await asyncio.sleep(_TICK_SECONDS / 10)
        for each in list(self._all):
            each.abort()
        closed_by = time.monotonic() + _OPENING_SECONDS
        while self._all and time.monotonic() < closed_by:
            await asyncio.sleep(_TICK_SECONDS / 100)

    def _pump(self) -> None:
        self._woken = False
        if self._stopping or not self._waiting():
            return
        try:
            head = self._head()
        except AiqueueError as error:
            self._rest("no credentials for patches", error)
            return
        while self._idle:
            request = self._pull()
            if request is None:
                return
            # The one used last is the likeliest to be awake at both ends.
            self._idle.pop().send(request, head)
        most = 1 if self._backoff.failures else self._connections - len(self._all)
        wanted = min(most - len(self._opening), self._waiting() - len(self._opening))
        if time.monotonic() >= self._open_again_at:
            for _ in range(wanted):
                task = self._loop.create_task(self._open())
                self._opening.add(task)
                task.add_done_callback(self._opened)

    def _rest(self, what: str, error: BaseException) -> None:
        if time.monotonic() >= self._open_again_at:  # many fail at once
            _log.warning(what, error=str(error) or type(error).__name__)
            self._open_again_at = time.monotonic() + self._backoff.failed()
            self._failed()

    def _head(self) -> bytes:
        """What every request begins with; made anew where something else is to be said, such as another token."""
        said = self._client.headers(MERGE_PATCH)
        if said != self._said:
            host = {"Host": urlsplit(self._client.host).netloc}
            self._written = "".join(f"{name}: {value}\r\n" for name, value in (host | said).items()).encode("latin-1")
            self._said = said
        return self._written

    async def _open(self) -> None:
        at = self._client.access.endpoint()
        _, connection = await asyncio.wait_for(
            self._loop.create_connection(
                lambda: _Connection(self, at.prefix), at.host, at.port, ssl=at.tls, server_hostname=at.server_name
            ),
            CONNECT_TIMEOUT_SECONDS,
        )
        if connection not in self._all:
            raise ConnectionResetError("the server closed it at once")
        self._idle.append(connection)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._backoff.reset()
            self._pump()
        else:
            self._rest("no connection for patches", error)


def _complain(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Have what nobody waits for in the log: a connection that broke, or was given up while bytes came over it, is no fault of ours."""
    error = context.get("exception")
    if isinstance(error, OSError) or (isinstance(error, RuntimeError) and "the handler is closed" in str(error)):
        _log.warning("a connection for patches was lost", what=context.get("message"), error=str(error) or type(error).__name__)
    else:
        loop.default_exception_handler(context)


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not made for this platform
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
