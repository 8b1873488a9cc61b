"""How much of a chore is done at once, and when it comes next, so that what is urgent hardly waits for it."""

from __future__ import annotations


class Pace:
    """A chore of many small parts, done some parts at a time, between other things.

    As many parts at once as take about `seconds` by what the last time took; when all were done it comes again after
    `pause_seconds`, and when more may be left as soon as it took no more than `share` of the time.

    Args:
        seconds: that it may take at a time.
        share: of the time that it may take while there is more to do.
        pause_seconds: until it is looked at again when there was no more.
        least, most: parts at a time, whatever they take.
    """

    def __init__(
        self,
        *,
        seconds: float = 0.04,
        share: float = 0.2,
        pause_seconds: float = 10.0,
        least: int = 20,
        most: int = 2000,
    ) -> None:
        self._seconds = seconds
        self._share = share
        self._pause_seconds = pause_seconds
        self._least = least
        self._most = most
        self._due_at: float | None = None
        #: How many parts to do next.
        self.amount = min(most, 5 * least)

    def due(self, now: float) -> bool:
        """Whether it is time, by a monotonic clock; the first time after a pause."""
        if self._due_at is None:
            self._due_at = now + self._pause_seconds
        return now >= self._due_at

    def done(self, began: float, ended: float, parts: int) -> None:
        """So many parts were done; fewer than `amount` means that none are left."""
        took = max(ended - began, 0.0)
        if parts < self.amount:  # what few of them took says little of many
            self._due_at = ended + self._pause_seconds
            return
        self._due_at = ended + took * (1 - self._share) / self._share
        wanted = int(parts * self._seconds / took) if took else self._most
        self.amount = max(self._least, min(self._most, 2 * self.amount, wanted))
