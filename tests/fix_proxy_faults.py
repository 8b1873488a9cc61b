"""What `ApiProxy` (fix_proxy) can have befall requests and the events of watches, and what a process has cost meanwhile."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

Verb = Literal["", "connect", "list", "watch", "get", "patch", "create"]
#: What becomes of the events that came within a while, given those that came before.
Meddler = Callable[[list[bytes], list[bytes]], list[bytes]]

_REASONS = {
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls one request.

    Attributes:
        forward: whether the server hears of it.
        status: the answer's, None for the server's own.
        body: of the answer, None for the server's own.
        headers: further ones of an answer that is not the server's.
        late_seconds: how long the answer's headers take.
        trickle: so many bytes of the body at a time, and the seconds between them; (0, 0) for all at once.
        ends: whether the answer is whole, breaks off in its middle, or never comes and the connection breaks.
    """

    forward: bool = True
    status: int | None = None
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    late_seconds: float = 0.0
    trickle: tuple[int, float] = (0, 0.0)
    ends: Literal["whole", "truncated", "lost"] = "whole"


LOST = Fault(ends="lost")
TRUNCATED = Fault(ends="truncated")
GARBAGE = Fault(body=b"<html>upstream \xff is busy")


def status_object(code: int, **more: Any) -> dict[str, Any]:
    """The Status with which an API server says that something did not succeed."""
    said = {"status": "Failure", "message": f"injected {code}", "reason": _REASONS.get(code, ""), "code": code}
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, **said, **more}


def answer(status: int, *, retry_after: int | None = None) -> Fault:
    """The API server refuses, in its own words; nothing is done."""
    headers = (("Content-Type", "application/json"), *((("Retry-After", str(retry_after)),) if retry_after is not None else ()))
    return Fault(forward=False, status=status, body=json.dumps(status_object(status)).encode(), headers=headers)


def page(status: int, text: str = "default backend - nothing here") -> Fault:
    """Something before the API server answers, in words of its own."""
    return Fault(forward=False, status=status, body=text.encode(), headers=(("Content-Type", "text/html"),))


def slow(late_seconds: float, trickle: tuple[int, float] = (0, 0.0)) -> Fault:
    """The server takes its time."""
    return Fault(late_seconds=late_seconds, trickle=trickle)


@dataclass(slots=True)
class Rule:
    """Which requests a fault befalls: of this verb and with this text in their path, after `skip`, so many `times`, in part."""

    fault: Fault
    verb: Verb
    path: str
    skip: int
    times: int | None
    fraction: float
    hits: int = 0

    def meets(self, verb: str, path: str, rng: Random) -> bool:
        if (self.verb and self.verb != verb) or self.path not in path or self.times == 0 or rng.random() >= self.fraction:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that reached the proxy, when (`time.monotonic`), and what was answered; 0 where nothing was."""

    at: float
    verb: str
    path: str
    status: int


def unchanged(batch: list[bytes], _history: list[bytes]) -> list[bytes]:
    """As they came."""
    return batch


def doubled(batch: list[bytes], _history: list[bytes]) -> list[bytes]:
    """Each event twice."""
    return [line for line in batch for _ in range(2)]


def reversed_order(batch: list[bytes], _history: list[bytes]) -> list[bytes]:
    """Newest first: of one object the old after the new, and of several in the wrong order."""
    return batch[::-1]


def disorderly(rng: Random) -> Meddler:
    """In any order, some of them twice, and among them some of what came long before."""

    def meddle(batch: list[bytes], history: list[bytes]) -> list[bytes]:
        told = [*batch, *rng.sample(batch, len(batch) // 2), *rng.sample(history, min(len(history), 10))]
        rng.shuffle(told)
        return told

    return meddle


@dataclass(frozen=True, slots=True)
class Effort:
    """What a process has cost so far."""

    cpu_seconds: float
    resident_bytes: int

    @classmethod
    def of(cls, pid: int) -> Effort:
        """That of a process that lives."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return cls(ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
