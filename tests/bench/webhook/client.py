"""Sends requests to one HTTPS server and measures, in a process of its own: a JSON object on stdin, one on stdout.

Open loop: requests are due at fixed times whatever the server does, and latency counts from when a request was due, so
that waiting for a busy client or connection is not hidden. Closed loop: each connection sends again once it is answered.

One thread that waits in `select`, no event loop: the client takes little from what it measures on a small machine.
HTTP/1.1 with keep-alive; a connection that breaks is an error, since no request that failed may be hidden here.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import ssl
import sys
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Any

HOST = "127.0.0.1"
#: Stands for the number of a request in its path and body; the number is as long, so that the length is known before.
NUMBER = "0000000"
#: Nothing is waited for longer than this.
ANSWER_SECONDS = 20.0
#: A request that is sent later than this after it was due counts as late.
LATE_SECONDS = 0.001
_END_OF_HEAD = b"\r\n\r\n"
_END_OF_CHUNKS = b"\r\n0\r\n\r\n"


class BrokenOff(Exception):
    """The server closed a connection, or did not answer."""


@dataclass(frozen=True, slots=True)
class Template:
    """A POST with gaps for its number."""

    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, path: str, body: str, token: str) -> Template:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
            f"{f'Authorization: Bearer {token}' if token else 'User-Agent: bench'}\r\n"
            f"Content-Length: {len(body.encode())}\r\n\r\n"
        )
        return cls(tuple(each.encode() for each in f"{head}{body}".split(NUMBER)))

    def render(self, number: int) -> bytes:
        return f"{number:0{len(NUMBER)}d}".encode().join(self.parts)


@dataclass(slots=True)
class Tally:
    """What came of the requests; an answer is as expected if it has the status and the text that were asked for."""

    status: int
    text: bytes
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    #: How many were sent late, and the worst.
    late: int = 0
    latest: float = 0.0
    #: The first answer that was not as expected.
    unexpected: str = ""

    def answered(self, seconds: float, status: int, answer: bytes) -> None:
        self.latencies.append(seconds)
        self.statuses[status] += 1
        if not self.unexpected and (status != self.status or self.text not in answer):
            self.unexpected = answer.decode(errors="replace")[:2000]

    def sent(self, behind: float) -> None:
        if behind > LATE_SECONDS:
            self.late += 1
        self.latest = max(self.latest, behind)


class Connection:
    """One request at a time over one TLS connection."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        plain = socket.create_connection((HOST, port), timeout=ANSWER_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname=HOST)
        self._socket.setblocking(False)
        self._received = b""
        self.due = 0.0

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, request: bytes, due: float) -> None:
        """Send a request; `due` is when its latency begins."""
        self.due = due
        self._received = b""
        while request:
            try:
                request = request[self._socket.send(request) :]
            except ssl.SSLWantWriteError:
                select.select((), (self,), (), ANSWER_SECONDS)

    def receive(self) -> tuple[int, bytes] | None:
        """Status and whole answer, once it is all there."""
        while True:
            try:
                part = self._socket.recv(65536)
            except ssl.SSLWantReadError:
                return None
            if not part:
                raise BrokenOff(f"the server closed a connection after {self._received[:200]!r}")
            self._received += part
            if _is_whole(self._received):
                return int(self._received[9:12]), self._received


def _is_whole(answer: bytes) -> bool:
    end = answer.find(_END_OF_HEAD)
    if end < 0:
        return False
    head = answer[:end].lower()
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if found:
        return len(answer) >= end + len(_END_OF_HEAD) + int(rest.partition(b"\r\n")[0])
    return answer.endswith(_END_OF_CHUNKS)


def _await(busy: set[Connection], idle: deque[Connection], seconds: float, tally: Tally) -> None:
    """Wait at most so long for answers, and count those that came."""
    readable, _, _ = select.select(busy, (), (), max(seconds, 0))
    for connection in readable:
        answer = connection.receive()
        if answer is not None:
            tally.answered(perf_counter() - connection.due, *answer)
            busy.discard(connection)
            idle.append(connection)


def open_loop(idle: deque[Connection], request: Callable[[int], bytes], rate: float, count: int, tally: Tally) -> None:
    """Send `count` requests, one due every 1/rate seconds."""
    busy: set[Connection] = set()
    began = perf_counter() + 0.01
    for number in range(count):
        due = began + number / rate
        body = request(number)
        while (now := perf_counter()) < due or not idle:
            _await(busy, idle, due - now if idle else ANSWER_SECONDS, tally)
            if perf_counter() > now + ANSWER_SECONDS:
                raise BrokenOff(f"nothing was answered for {ANSWER_SECONDS:g} s")
        tally.sent(now - due)
        # The one used last is the likeliest to be awake at both ends.
        connection = idle.pop()
        connection.send(body, due)
        busy.add(connection)
        _await(busy, idle, 0, tally)
    _drain(busy, idle, tally)


def closed_loop(idle: deque[Connection], request: Callable[[int], bytes], seconds: float, tally: Tally) -> None:
    """Have every connection busy for so long."""
    busy: set[Connection] = set()
    number = 0
    deadline = perf_counter() + seconds
    while (now := perf_counter()) < deadline:
        while idle:
            connection = idle.pop()
            connection.send(request(number), now)
            busy.add(connection)
            number += 1
            now = perf_counter()
        _await(busy, idle, ANSWER_SECONDS, tally)
    _drain(busy, idle, tally)


def _drain(busy: set[Connection], idle: deque[Connection], tally: Tally) -> None:
    deadline = perf_counter() + ANSWER_SECONDS
    while busy:
        left = deadline - perf_counter()
        if left <= 0:
            raise BrokenOff(f"{len(busy)} requests were not answered within {ANSWER_SECONDS:g} s")
        _await(busy, idle, left, tally)


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Do what is ordered; see `load.Order`."""
    context = ssl.create_default_context(cafile=order["ca_file"])
    templates = [Template.of(path, body, order["token"]) for path, body in order["requests"]]
    first = int(order["first_number"])

    def request(number: int) -> bytes:
        return templates[number % len(templates)].render(first + number)

    connections = [Connection(int(order["port"]), context) for _ in range(int(order["connections"]))]
    tally = Tally(int(order["status"]), str(order["text"]).encode())
    gc.collect()
    gc.disable()
    began, cpu = perf_counter(), process_time()
    if order["rate"] is not None:
        open_loop(deque(connections), request, float(order["rate"]), int(order["count"]), tally)
    else:
        closed_loop(deque(connections), request, float(order["seconds"]), tally)
    took, used = perf_counter() - began, process_time() - cpu
    for each in connections:
        each.close()
    return {
        "latencies_ms": [round(each * 1000, 3) for each in tally.latencies],
        "statuses": dict(tally.statuses),
        "late": tally.late,
        "latest_ms": round(tally.latest * 1000, 3),
        "unexpected": tally.unexpected,
        "seconds": round(took, 4),
        "cpu_seconds": round(used, 4),
    }


if __name__ == "__main__":
    json.dump(measure(json.load(sys.stdin)), sys.stdout)
