"""One watch of Jobs, or of another kind: a stream of events that another thread can close.

The events come as lines of JSON. An ERROR event carries a Status, not an object of the kind, and is raised; so the type of an event is read
before its object is decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
import urllib3

from aiqueue.admission.kube import errors, objects
from aiqueue.admission.kube.kinds import JOBS, Kind

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

_READ_BYTES = 1 << 16
MAX_LINE_BYTES = 16 << 20  # etcd takes objects of 1.5 MiB by default

_envelope = msgspec.json.Decoder(objects.Envelope)
_bookmark = msgspec.json.Decoder(objects.Bookmark)
_status = msgspec.json.Decoder(objects.Status)


class EventType(StrEnum):
    """What an event says of its object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"  # gone, or no longer of the selection
    BOOKMARK = "BOOKMARK"  # nothing happened; the watch has come this far


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event. `object` is of the kind that is watched, None for a bookmark; `resource_version` is how far the watch has come."""

    type: EventType
    object: Any
    resource_version: str


def is_older(version: str, than: str) -> bool:
    """Whether a resourceVersion is certainly older than another: both are numbers and it is the lesser."""
    return _is_number(version) and _is_number(than) and int(version) < int(than)


def _is_number(version: str) -> bool:
    return version.isascii() and version.isdigit()


def decode_event(line: bytes, watched: Kind = JOBS) -> WatchEvent:
    """Decode one line of a watch.

    Raises:
        KubeError: an ERROR event, as the error of its Status: `Gone` where the resourceVersion is too old.
        Unreadable: the line is no watch event.
    """
    doing = f"watch of {watched.name}"
    try:
        envelope = _envelope.decode(line)
        if envelope.type == "ERROR":
            raise error_of(_status.decode(envelope.object), doing=doing)
        kind = EventType(envelope.type)
        if kind is EventType.BOOKMARK:
            return WatchEvent(kind, None, _bookmark.decode(envelope.object).metadata.resource_version)
        found = watched.one.decode(envelope.object)
    except (msgspec.DecodeError, ValueError) as error:
        raise errors.Unreadable(f"not an event: {error}", doing=doing) from error
    return WatchEvent(kind, found, found.metadata.resource_version)


def error_of(status: objects.Status, *, doing: str) -> errors.KubeError:
    """The error for a Status object."""
    details = status.details or objects.StatusDetails()
    error = errors.of_status(
        status.code,
        message=status.message or "no message",
        reason=status.reason,
        doing=doing,
        retry_after_seconds=details.retry_after_seconds,
    )
    error.about = details.name
    if isinstance(error, errors.Invalid) and any(cause.field == "metadata.uid" for cause in details.causes or ()):
        # A uid that is not the object's is a 409 only where the resourceVersion differs too; else "field is immutable".
        return errors.Conflict(error.message, status=error.status, reason=error.reason, doing=doing)
    return error


class Watch:
    """Iterate over it for events; it ends when the server ends the watch or when it is closed.

    `close` may be called from any thread, at any time, more than once; an iteration blocked in a read ends at once.

    The server ends a watch when its time is up. One that is still open `lasts_seconds` after it began has lost its server, whether it is
    silent or sends bits of an event for ever.
    """

    def __init__(self, response: BaseHTTPResponse, *, lasts_seconds: float, kind: Kind = JOBS) -> None:
        self._response = response
        self._kind = kind
        self._doing = f"watch of {kind.name}"
        self._lasts_seconds = lasts_seconds
        self._until = monotonic() + lasts_seconds
        self._lock = Lock()
        self._closed = False
        self._iterating = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the watch. The thread that iterates lets go of the connection."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self._iterating:
                self._response.close()
                return
            # Only the receiving side is shut down: closing a socket that another thread reads from would not wake it.
            try:
                self._response.shutdown()
            except (OSError, ValueError, RuntimeError):
                # The connection is broken already: then nobody is blocked in it.
                return

    def __iter__(self) -> Iterator[WatchEvent]:
        """Yield events.

        Raises:
            KubeError: see `decode_event`; `Unavailable` when the connection breaks or stays silent beyond its read timeout.
        """
        with self._lock:
            if self._closed:
                return
            self._iterating = True
        try:
            for line in self._lines():
                yield decode_event(line, self._kind)
        finally:
            with self._lock:
                self._iterating = False
                # The stream may end in the middle, so the connection is not fit for another request.
                self._response.close()

    def _lines(self) -> Iterator[bytes]:
        pending: list[bytes] = []
        pending_bytes = 0
        while True:
            chunk = self._read()
            if not chunk:
                if pending_bytes and not self._closed:
                    raise errors.Unavailable("the connection ended within an event", doing=self._doing)
                return
            first, *rest = chunk.split(b"\n")
            pending.append(first)
            pending_bytes += len(first)
            if pending_bytes > MAX_LINE_BYTES:
                raise errors.Unreadable(f"an event is longer than {MAX_LINE_BYTES} bytes", doing=self._doing)
            if not rest:
                continue
            *whole, last = (b"".join(pending), *rest)
            pending, pending_bytes = [last], len(last)
            yield from (line for line in whole if line)

    def _read(self) -> bytes:
        """Some bytes as soon as there are any; none at the end or once closed."""
        if self._closed:
            return b""
        left = self._until - monotonic()
        connection: Any = self._response.connection
        if left <= 0:
            raise errors.Unavailable(f"the server did not end it within {self._lasts_seconds:g} s", doing=self._doing)
        try:
            if connection is not None and connection.sock is not None:
                connection.sock.settimeout(left)
            return self._response.read1(_READ_BYTES)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            # A read in a socket that `close` has shut down fails in one of several ways, none of which says so.
            if self._closed:
                return b""
            if isinstance(error, urllib3.exceptions.ReadTimeoutError):
                silent = f"nothing came any more, and the server did not end it within {self._lasts_seconds:g} s"
                raise errors.Unavailable(silent, doing=self._doing) from error
            raise errors.Unavailable(f"the connection broke: {error}", doing=self._doing) from error
        except AttributeError:  # of the TLS socket, which `close` has shut down just as it began to read
            if self._closed:
                return b""
            raise
