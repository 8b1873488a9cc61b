"""The ledger's clock between two looks at it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta


class LedgerClock:
    """Postgres's clock, sampled at each term and commit, carried on by the local monotonic clock, never backward.

    A step of either machine's wall clock moves nothing here but at the next sample, and then only forward.
    """

    def __init__(self, sample: datetime, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._base = sample
        self._base_monotonic = monotonic()
        self._last = sample

    def sample(self, now: datetime) -> None:
        """Take a fresh reading of the database's clock."""
        with self._lock:
            self._base = now
            self._base_monotonic = self._monotonic()

    def now(self) -> datetime:
        """The time of the ledger, as well as it is known here."""
        with self._lock:
            projected = self._base + timedelta(seconds=self._monotonic() - self._base_monotonic)
            self._last = max(self._last, projected)
            return self._last
