"""The ledger's clock between two looks at it, and through its steps.

The ledger's time is Postgres's clock, carried on by the local monotonic clock. It never goes backward and never stands still for long.
Where Postgres's clock is stepped, forward or back, by more than `STEP_SECONDS`, the ledger's time does not follow: it goes on as if
nothing had happened, and makes up for the difference by and by, a tenth of the time that passes. So a grace that lasts two minutes
lasts between 108 and 132 seconds, whatever happens to the clock meanwhile, and nobody's time is up all of a sudden.

Every session of a term asks here what time it is (`leadership.fence`), so what is written and what is decided go by one clock. A
renewal of the lease leaves the ledger's time in the ledger, and whoever leads next begins no earlier. A standby keeps such a clock
from its start, so that a step between two terms is none for it either; where somebody leads then, it begins with his. Only where every
controller starts afresh is Postgres's clock taken as it is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

_log = structlog.get_logger()
#: A difference up to this is taken at once; a late answer or a slow drift makes no more.
STEP_SECONDS = 2.0
#: Of the time that passes, so much is made up for of a step.
_SHARE = 0.1


class LedgerClock:
    """Postgres's clock, sampled at every write and renewal, carried on by the local monotonic clock, never backward.

    A step of the local wall clock moves nothing here.
    """

    def __init__(self, sample: datetime, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._base = sample
        self._base_monotonic = monotonic()
        self._last = sample
        self._stepped = False

    def asking(self) -> Callable[[datetime], datetime]:
        """Call this before the database's clock is read, and what it returns with the reading: that returns the ledger's time."""
        asked = self._monotonic()
        return lambda reading: self.sample(reading, asked)

    def sample(self, reading: datetime, asked: float | None = None) -> datetime:
        """Take a reading of the database's clock. Returns the time of the ledger.

        Args:
            reading: taken between `asked` and now.
            asked: when it was asked for, by the monotonic clock; now if it is not given.
        """
        with self._lock:
            monotonic = self._monotonic()
            passed = monotonic - self._base_monotonic
            carried = self._base + timedelta(seconds=passed)
            waited = timedelta() if asked is None else timedelta(seconds=monotonic - asked)
            # No difference is what lies within the time that the answer took.
            ahead = max(reading - carried, timedelta()) or min(reading - (carried - waited), timedelta())
            stepped = abs(ahead.total_seconds()) > STEP_SECONDS
            if stepped and not self._stepped:
                _log.warning("the ledger's clock was stepped: it is followed slowly", by_seconds=ahead.total_seconds())
            self._stepped = stepped
            if stepped:
                allowed = timedelta(seconds=_SHARE * passed)
                ahead = min(max(ahead, -allowed), allowed)
            self._base, self._base_monotonic = carried + ahead, monotonic
            return self._now(monotonic)

    def at_least(self, moment: datetime) -> None:
        """The ledger's time was so late already, by the word of who led before."""
        with self._lock:
            monotonic = self._monotonic()
            if self._now(monotonic) < moment:
                self._base, self._base_monotonic = moment, monotonic

    def now(self) -> datetime:
        """The time of the ledger, as well as it is known here."""
        with self._lock:
            return self._now(self._monotonic())

    def _now(self, monotonic: float) -> datetime:
        self._last = max(self._last, self._base + timedelta(seconds=monotonic - self._base_monotonic))
        return self._last
