"""The thread that keeps a sink equal to the Jobs of a cluster, or to what it has of another kind: a paged list, then a watch from there on, for ever.

    list (all pages) --> sink.replace --> watch --event--> sink.apply
      ^                                   ^   |
      |                                   |   +-- the server ended it in time --> watch
      |                                   +------ failure: back-off, then the same resourceVersion
      +------------------------------------------ 410, unreadable answer, RELIST_AFTER failures in a row: back-off, then list

An ERROR event is the failure that its Status says. 429 waits as long as the server asked; 401 and 403 go on being tried,
since rights may be given at any time, and `ReflectorState.last_error` says what is missing.

Whatever did not end well is followed by a wait of at least 0.1 s. The back-off starts anew only after a watch that lasted:
a server that answers and hangs up must not be asked in a tight loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from time import monotonic
from typing import Any, Protocol

import structlog

from aiqueue.admission.backoff import Backoff
from aiqueue.admission.kube import errors
from aiqueue.admission.kube.client import MAX_PAGES, KubeClient
from aiqueue.admission.kube.kinds import JOBS, Kind
from aiqueue.admission.kube.watches import EventType, Watch, is_older
from aiqueue.queue.errors import AiqueueError

_log = structlog.get_logger()
# The API server reads each page from etcd, and looks at all Jobs behind it to say how many remain: few large pages take about half the
# time of many small ones.
PAGE = 5000
#: A connection over which nothing comes any more looks like one over which nothing happens: only a watch that does not end in time
#: gives it away. So watches are short; to begin one where the last ended costs the server next to nothing.
WATCH_SECONDS = (30, 60)
HEALTHY_SECONDS = 10.0
LONGEST_SECONDS = 10.0  # nothing is seen of the cluster meanwhile, and one request in so long is no load
RELIST_AFTER = 5


class Sink(Protocol):
    """What a reflector writes to; called from its thread only. `JobStore` is one."""

    def replace(self, objects: list[Any], resource_version: str, /) -> None:
        """Take in all objects as of `resource_version`."""

    def apply(self, event_type: EventType, changed: Any, /) -> None:
        """Take in one ADDED, MODIFIED or DELETED."""


@dataclass(frozen=True, slots=True)
class ReflectorState:
    """How a reflector is doing.

    Attributes:
        running: its thread lives.
        synced: the sink has had a whole list.
        connected_since: since when the present watch has been open; None without one.
        last_error: the latest failure as a sentence; None again once a watch is open.
        forbidden: the latest failure, if it still lasts, is that the account lacks a right.
        failing_since: since when nothing has gone well, in `time.monotonic`; None while a watch is open. A watch that is cut
            again at once has mended nothing: what was failing before it has been failing since then.
        lists: whole lists taken in. `relists` counts those after the first.
        connects: watches opened. `reconnects` counts those after the first.
        failures: attempts that did not end well, in all.
    """

    running: bool = False
    synced: bool = False
    connected_since: datetime | None = None
    last_error: str | None = None
    forbidden: bool = False
    failing_since: float | None = None
    lists: int = 0
    connects: int = 0
    failures: int = 0

    @property
    def relists(self) -> int:
        """Whole lists after the first."""
        return max(self.lists - 1, 0)

    @property
    def reconnects(self) -> int:
        """Watches after the first."""
        return max(self.connects - 1, 0)


class Reflector:
    """Start it once, stop it once. `state` may be read from any thread."""

    def __init__(
        self,
        client: KubeClient,
        label_selector: str,
        sink: Sink,
        *,
        rng: Random,
        kind: Kind = JOBS,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        page: int = PAGE,
        watch_seconds: tuple[int, int] = WATCH_SECONDS,
        healthy_seconds: float = HEALTHY_SECONDS,
    ) -> None:
        """Describe a reflector; nothing is started yet.

        Args:
            client: whose credentials must allow list and watch of the kind in all namespaces.
            label_selector: which of them; "" for all.
            sink: where they go.
            rng: of the jitter. The reflector's thread is its only user from `start` on.
            kind: what is reflected.
            clock: for `ReflectorState.connected_since`.
            page: objects a page of a list.
            watch_seconds: each watch lasts a random time between these, so that replicas do not reconnect together.
            healthy_seconds: how long a watch must last for the back-off to start anew.
        """
        self._client = client
        self._kind = kind
        self._selector = label_selector
        self._sink = sink
        self._rng = rng
        self._clock = clock
        self._page = page
        self._watch_seconds = watch_seconds
        self._healthy_seconds = healthy_seconds
        self._backoff = Backoff(rng, longest_seconds=LONGEST_SECONDS)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._watch: Watch | None = None
        self._resource_version: str | None = None  # how far we have come; None asks for a list
        self._failing_since: float | None = None  # the first of the failures that no watch that lasted has ended
        self._state = ReflectorState()
        self._thread = threading.Thread(target=self._run, name=f"aiqueue-reflector {kind.name}", daemon=True)

    @property
    def state(self) -> ReflectorState:
        """How it is doing now."""
        with self._lock:
            return self._state

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._note(running=True)
        self._thread.start()

    def stop(self, timeout_seconds: float = 35.0) -> bool:
        """End the thread and wait for it; returns whether it ended.

        A blocked watch and a back-off end at once. A request without an answer ends by its own timeout at the latest.
        """
        self._stop.set()
        with self._lock:
            watch = self._watch
        if watch is not None:
            watch.close()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._reflect()
        except Exception as error:
            # A fault of the program, not of the cluster: it must be seen, and the state must not claim that all is well.
            self._note(last_error=f"the reflector ended by a fault of its own: {error!r}")
            raise
        finally:
            self._note(running=False, connected_since=None)

    def _reflect(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except AiqueueError as error:
                if self._stop.is_set():
                    return
                self._stop.wait(self._failed(error))

    def _turn(self) -> None:
        """One list if need be, and one watch to its end."""
        if self._resource_version is None:
            self._resource_version = self._list()
        if self._resource_version is None or self._stop.is_set():
            return
        watch = self._open(self._resource_version)
        began = monotonic()
        try:
            self._follow(watch)
        finally:
            lasted = monotonic() - began >= self._healthy_seconds
            if lasted:
                self._backoff.reset()
                self._failing_since = None
        if not lasted and not self._stop.is_set():
            ended = f"the server ended it after less than {self._healthy_seconds:g} s"
            raise errors.Unavailable(ended, doing=f"watch of {self._kind.name}")

    def _list(self) -> str | None:
        """Take in a whole list and return its resourceVersion; None if stopped on the way."""
        began = monotonic()
        found: list[Any] = []
        token = ""
        doing = f"list of {self._kind.name}"
        for _ in range(MAX_PAGES):
            page = self._client.page(self._kind, self._selector, limit=self._page, continue_token=token)
            found.extend(page.items or ())
            token = page.metadata.continue_
            if self._stop.is_set():
                return None
            if not token:
                break
        else:
            raise errors.Unreadable(f"the list has more than {MAX_PAGES} pages", doing=doing)
        if not page.metadata.resource_version:
            raise errors.Unreadable("the list does not say of when it is", doing=doing)
        self._sink.replace(found, page.metadata.resource_version)
        self._note(synced=True, lists=self._state.lists + 1)
        _log.info(f"{self._kind.name} listed", found=len(found), list_seconds=round(monotonic() - began, 3))
        return page.metadata.resource_version

    def _open(self, resource_version: str) -> Watch:
        seconds = self._rng.randint(*self._watch_seconds)
        watch = self._client.watch(self._kind, self._selector, resource_version=resource_version, timeout_seconds=seconds)
        with self._lock:
            self._watch = watch
        connects = self._state.connects + 1
        self._note(connected_since=self._clock(), last_error=None, forbidden=False, failing_since=None, connects=connects)
        if self._stop.is_set():
            # `stop` may have looked before the watch was there to be closed.
            watch.close()
        return watch

    def _follow(self, watch: Watch) -> None:
        """Hand the events of a watch to the sink until it ends, and keep how far it has come."""
        try:
            for event in watch:
                if event.object is not None:
                    self._sink.apply(event.type, event.object)
                self._came_to(event.resource_version)
        finally:
            watch.close()
            with self._lock:
                self._watch = None
            self._note(connected_since=None)

    def _came_to(self, resource_version: str) -> None:
        """Keep how far the watch has come; an event that came late is no way back."""
        if resource_version and not is_older(resource_version, self._resource_version or ""):
            self._resource_version = resource_version

    def _failed(self, error: AiqueueError) -> float:
        """Take note of a failure; returns how many seconds to wait."""
        asked = error.retry_after_seconds if isinstance(error, errors.KubeError) else None
        if self._failing_since is None:
            self._failing_since = monotonic()
        forbidden = isinstance(error, errors.Forbidden)
        failures = self._state.failures + 1
        self._note(last_error=str(error), forbidden=forbidden, failing_since=self._failing_since, failures=failures)
        wait_seconds = self._backoff.failed(at_least_seconds=asked or 0.0)
        # Where etcd was restored, the server may never come to know our resourceVersion: so a list after some failures too.
        if isinstance(error, (errors.Gone, errors.Unreadable)) or self._backoff.failures % RELIST_AFTER == 0:
            self._resource_version = None
        return wait_seconds

    def _note(self, **changes: Any) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)
