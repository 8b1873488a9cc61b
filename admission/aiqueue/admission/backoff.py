"""How long to wait before trying again."""

from __future__ import annotations

from random import Random

SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 30.0
_MAX_DOUBLINGS = 16  # enough to reach any sensible longest; keeps the power small


class Backoff:
    """Exponential back-off with full jitter: attempt n waits between the shortest and min(longest, shortest * 2**n).

    It is for its owner to say when things are well again: a server that takes a connection and drops it at once is not.
    """

    def __init__(
        self, rng: Random, *, shortest_seconds: float = SHORTEST_SECONDS, longest_seconds: float = LONGEST_SECONDS
    ) -> None:
        self._rng = rng
        self._shortest = shortest_seconds
        self._longest = longest_seconds
        self._failures = 0

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    def failed(self, *, at_least_seconds: float = 0.0) -> float:
        """Count a failure; returns how many seconds to wait.

        Args:
            at_least_seconds: what the server asked for; followed up to the longest, and never less far than `LONGEST_SECONDS`,
                and spread by a tenth so that clients that were all told the same do not come back together.
        """
        self._failures += 1
        ceiling = min(self._longest, self._shortest * 2.0 ** min(self._failures, _MAX_DOUBLINGS))
        own = self._rng.uniform(self._shortest, ceiling)
        asked = min(at_least_seconds, max(self._longest, LONGEST_SECONDS))
        return max(own, asked + self._rng.uniform(0.0, asked / 10))

    def reset(self) -> None:
        """Things are well again."""
        self._failures = 0
