"""When to leave a server alone that does not answer well: one back-off for all who ask it.

Each request of ours that fails has a back-off of its own, which bounds nothing where thousands of them wait. So whoever begins requests on
his own account asks first for how long none should be begun. `IN_A_ROW` failures without a success between them begin a respite, and each
failure after it a longer one, up to `LONGEST_SECONDS`, or as long as the server asks for, within bounds; the first success ends it all. A single request that
fails for a reason of its own thus keeps nobody else waiting.
"""

from __future__ import annotations

import threading
from random import Random
from time import monotonic

from aiqueue.admission.backoff import Backoff

IN_A_ROW = 5
LONGEST_SECONDS = 5.0
_FRESH_SECONDS = 60.0  # a failure this long ago says nothing of now


class Respite:
    """How one server answers one sort of request. Safe for use by many threads."""

    def __init__(self, rng: Random) -> None:
        self._lock = threading.Lock()
        self._backoff = Backoff(rng, longest_seconds=LONGEST_SECONDS)
        self._failures = 0
        self._until = 0.0
        self._since = self._last = 0.0
        self._why = ""

    def seconds(self) -> float:
        """For how long no request should be begun; 0 for none."""
        return max(0.0, self._until - monotonic())

    def well(self) -> None:
        """A request was answered as it should."""
        if self._failures:  # read without the lock: it costs nothing while all is well
            with self._lock:
                self._failures = 0
                self._until = 0.0
                self._backoff.reset()

    def unwell(self, why: str, retry_after_seconds: float | None = None) -> None:
        """A request was not answered, or with an error of the server's own."""
        with self._lock:
            now = monotonic()
            if not self._failures:
                self._since = now
            self._failures += 1
            self._why, self._last = why, now
            if self._failures < IN_A_ROW or now < self._until:  # what fails within a respite was begun before it
                return
            self._until = now + self._backoff.failed(at_least_seconds=retry_after_seconds or 0.0)

    def problem(self) -> str | None:
        """A sentence where nothing has gone well for a while; None otherwise."""
        with self._lock:
            now = monotonic()
            if self._failures < IN_A_ROW or now - self._last > _FRESH_SECONDS:
                return None
            return f"for {now - self._since:.0f} s, {self._failures} times in a row; the latest: {self._why}"
