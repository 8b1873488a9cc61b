"""Events about Jobs: what `kubectl describe job` shows of what aiqueue did and why.

Purpose: tell people, and never be in the way of the work itself. `Events.tell` only puts a note into a bounded queue; one thread
sends what is there.

Invariants:
- telling takes no request and no wait, whatever the API server does;
- at most `LENGTH` notes wait. When they are full the oldest Normal one makes room, else the oldest; what was dropped is counted;
- at most `PER_SECOND` requests a second on average, `BURST` at once; Warnings go first, and while the server is busy with the work itself
  they go alone;
- the same note about the same Job within `SERIES_SECONDS` is one Event whose series counts;
- a note is tried at most `TRIES` times, with back-off in between; what the server refuses for good is counted and forgotten.

Failure modes: a process that is killed loses what waits; a namespace that is being deleted takes no Events; a server that answers
late makes the queue fill and drop.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from aiqueue.admission.backoff import Backoff
from aiqueue.admission.kube import objects
from aiqueue.admission.kube.client import KubeClient, path_segment
from aiqueue.admission.kube.errors import KubeError, NotFound, TooManyRequests, Unavailable
from aiqueue.admission.kube.patches import instant
from aiqueue.queue.errors import AiqueueError
from aiqueue.queue.words import EventReason

_log = structlog.get_logger()
CONTROLLER = "aiqueue.dev/controller"
LENGTH = 1000
PER_SECOND = 20.0
BURST = 100
SERIES_SECONDS = 600.0
TRIES = 5
REQUEST_SECONDS = 5.0
STOP_SECONDS = 2.0
_SERIES = 2000  # notes of late that are remembered
_NOTE_BYTES = 1024  # the server's limit
_NAME_LENGTH = 200  # of 253, the rest tells Events about one Job apart
_SAY_SECONDS = 60.0
_BUSY_SECONDS = 0.25  # how often it is asked whether the server is still busy

Kind = Literal["Normal", "Warning"]
_WARNINGS = frozenset({EventReason.EVICTION_NOTICE, EventReason.EXPIRED})


@dataclass(frozen=True, slots=True)
class Event:
    """One note about one Job."""

    namespace: str
    name: str
    uid: str
    reason: EventReason
    note: str

    @property
    def kind(self) -> Kind:
        """Warning where the owner may have to do something, such as to save his work."""
        return "Warning" if self.reason in _WARNINGS else "Normal"


class EventWriter:
    """Events on the wire, in the group events.k8s.io."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._instance = f"{socket.gethostname()}-{os.getpid()}"[-128:]

    def create(self, event: Event, count: int) -> str:
        """Store an Event that was told so many times; returns the name it got.

        Raises:
            KubeError: it may not be stored, or could not be.
        """
        now = datetime.now(UTC)
        name = f"{event.name[:_NAME_LENGTH].rstrip('-.')}.{time.time_ns():x}"
        body: dict[str, Any] = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": event.namespace},
            "eventTime": instant(now),
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "action": str(event.reason),
            "reason": str(event.reason),
            "type": event.kind,
            "note": _bounded(event.note),
            "regarding": {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "namespace": event.namespace,
                "name": event.name,
                "uid": event.uid,
            },
        }
        if count > 1:
            body["series"] = {"count": count, "lastObservedTime": instant(now)}
        what = f"Event {event.reason} about Job {event.namespace}/{event.name}"
        self._client.create(_folder(event), body, objects.Object, what, timeout_seconds=REQUEST_SECONDS)
        return name

    def count(self, event: Event, name: str, count: int) -> None:
        """Say of a stored Event that by now it was told so many times.

        Raises:
            KubeError: `NotFound` where it has been cleared away.
        """
        body = {"series": {"count": count, "lastObservedTime": instant(datetime.now(UTC))}}
        path = f"{_folder(event)}/{path_segment(name)}"
        self._client.patch(path, body, objects.Object, f"count of Event {name}", timeout_seconds=REQUEST_SECONDS)


@dataclass(slots=True)
class _Waiting:
    """A note that is to be sent, told `count` times since it waits."""

    event: Event
    count: int = 1
    tries: int = 0


@dataclass(slots=True)
class _Sent:
    """A note that was stored, and how often it was told."""

    name: str
    count: int
    at: float


class Events:
    """The queue and the thread that empties it. Safe for use by many threads."""

    def __init__(
        self,
        create: Callable[[Event, int], str],
        count: Callable[[Event, str, int], None],
        *,
        length: int = LENGTH,
        per_second: float = PER_SECOND,
        burst: int = BURST,
    ) -> None:
        self._create = create
        self._count = count
        self._length = length
        self._every = 1.0 / per_second
        self._ahead = burst / per_second
        self._condition = threading.Condition()
        self._urgent: dict[Event, _Waiting] = {}  # Warnings, oldest first
        self._normal: dict[Event, _Waiting] = {}
        self._series: dict[Event, _Sent] = {}  # used by the thread alone, least lately sent first
        self._backoff = Backoff(random.Random())
        self._free_at = time.monotonic() - self._ahead  # when the next request may go if the burst were used up
        self._stop_at: float | None = None
        self._said_at = -_SAY_SECONDS
        self._dropped_said = 0
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)
        #: Whether the server is needed for the work itself: Normal notes wait then.
        self.busy: Callable[[], bool] = lambda: False
        self.sent = 0
        self.dropped = 0
        self.failed = 0

    @classmethod
    def of(cls, client: KubeClient) -> Events:
        """Events that are stored by this client."""
        writer = EventWriter(client)
        return cls(writer.create, writer.count)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Send what waits, but for no longer than this. What is told from now on is dropped."""
        with self._condition:
            self._stop_at = time.monotonic() + timeout_seconds
            self._condition.notify_all()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        with self._condition:
            self.dropped += len(self._urgent) + len(self._normal)
            self._urgent.clear()
            self._normal.clear()

    def tell(self, event: Event) -> None:
        """Have a note sent some time soon, or dropped."""
        with self._condition:
            line = self._urgent if event.kind == "Warning" else self._normal
            known = line.get(event)
            if known is not None:
                known.count += 1
                return
            if self._stop_at is not None:
                self.dropped += 1
                return
            if len(self._urgent) + len(self._normal) >= self._length:
                self.dropped += 1
                if self._normal:
                    del self._normal[next(iter(self._normal))]
                elif line is self._normal:
                    return
                else:
                    del self._urgent[next(iter(self._urgent))]
            line[event] = _Waiting(event)
            self._condition.notify()

    @property
    def waiting(self) -> int:
        """Notes that are yet to be sent."""
        with self._condition:
            return len(self._urgent) + len(self._normal)

    def _take(self) -> _Waiting | None:
        """Wait for the next note that may be sent; None when it is time to end."""
        with self._condition:
            while True:
                now = time.monotonic()
                busy = self._stop_at is None and self.busy()
                line = self._urgent or ({} if busy else self._normal)
                if self._stop_at is not None and (now >= self._stop_at or not line):
                    return None
                self._free_at = max(self._free_at, now - self._ahead)
                if line and (self._free_at <= now or self._stop_at is not None):
                    self._free_at += self._every
                    return line.pop(next(iter(line)))
                self._condition.wait(timeout=self._free_at - now if line else _BUSY_SECONDS if busy else None)

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            try:
                self._send(taken)
                self._backoff.reset()
                self.sent += 1
                if self.dropped > self._dropped_said:
                    self._say("more was told than could be sent")
            except (TooManyRequests, Unavailable) as error:
                self._again(taken, error)
            except AiqueueError as error:  # refused: a namespace that is going, a right that is missing
                self._lose(taken, error)
            except Exception as error:  # noqa: BLE001 -- a fault of ours must not end the thread
                self._lose(taken, error)

    def _send(self, taken: _Waiting) -> None:
        known = self._series.pop(taken.event, None)
        now = time.monotonic()
        if known is not None and now - known.at < SERIES_SECONDS:
            known.count += taken.count
            known.at = now
            try:
                self._count(taken.event, known.name, known.count)
            except NotFound:  # cleared away: told anew
                known = None
            except AiqueueError:
                known.count -= taken.count
                self._series[taken.event] = known
                raise
        else:
            known = None
        if known is None:
            known = _Sent(self._create(taken.event, taken.count), taken.count, now)
        self._series[taken.event] = known
        if len(self._series) > _SERIES:
            del self._series[next(iter(self._series))]

    def _again(self, taken: _Waiting, error: KubeError) -> None:
        taken.tries += 1
        if taken.tries >= TRIES:
            self._lose(taken, error)
        pause = self._backoff.failed(at_least_seconds=error.retry_after_seconds or 0.0)
        with self._condition:
            if taken.tries < TRIES:
                line = self._urgent if taken.event.kind == "Warning" else self._normal
                later = line.pop(taken.event, None)
                taken.count += later.count if later is not None else 0
                rest = dict(line)
                line.clear()
                line[taken.event] = taken  # first again
                line.update(rest)
            until = time.monotonic() + pause
            while self._stop_at is None and (left := until - time.monotonic()) > 0:
                self._condition.wait(timeout=left)

    def _lose(self, taken: _Waiting, error: Exception) -> None:
        self.failed += 1
        self._say(f"{taken.event.reason} about {taken.event.namespace}/{taken.event.name}: {error}")

    def _say(self, why: str) -> None:
        """Have it in the log that Events are missing, now and then."""
        if time.monotonic() - self._said_at >= _SAY_SECONDS:
            self._said_at = time.monotonic()
            self._dropped_said = self.dropped
            _log.warning("Events not stored", why=why, failed=self.failed, dropped=self.dropped)


def _folder(event: Event) -> str:
    return f"/apis/events.k8s.io/v1/namespaces/{path_segment(event.namespace)}/events"


def _bounded(note: str) -> str:
    encoded = note.encode()
    return note if len(encoded) <= _NOTE_BYTES else encoded[: _NOTE_BYTES - 3].decode(errors="ignore") + "…"
