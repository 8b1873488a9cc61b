"""Decayed usage: what a queue really held, older use counting for less.

Usage of a resource is the integral of the amount held over time, halved every half-life: what was held `age` seconds ago counts
2^(-age / half-life). It is kept as (value, rate, as of) and evaluated lazily, so that it depends on when runs opened, closed and
changed size, and on nothing else; there is no tick. The exact integral of a rate r held from s to t is r * h/ln 2 * (1 - 2^-((t-s)/h)).

Purpose elsewhere: `aiqueue.queue.store` keeps it per queue and resource and folds it in the transaction that moves a run; the
engine orders the queues of a tenant by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from math import expm1, log


@dataclass(frozen=True, slots=True)
class Usage:
    """What one queue used of one resource.

    Attributes:
        value: decayed use up to `as_of`, in base units times seconds.
        rate: held since `as_of`, in base units.
        half_life_seconds: by which it decays until it is folded next; 0 forgets at once, so usage is always 0.
        as_of: when it was folded.
    """

    value: float
    rate: int
    half_life_seconds: int
    as_of: datetime

    def at(self, moment: datetime) -> float:
        """The usage at a moment, in base units times seconds; before `as_of` as it was then known."""
        if self.half_life_seconds == 0:
            return 0.0
        seconds = max(0.0, (moment - self.as_of).total_seconds())
        decay = log(2) / self.half_life_seconds
        forgotten = -expm1(-decay * seconds)  # the part that is gone; exact where little time passed
        return self.value - self.value * forgotten + self.rate / decay * forgotten

    def moved(self, moment: datetime, change: int, half_life_seconds: int) -> Usage:
        """Folded at a moment from which `change` more (or less) is held and the half-life is this one."""
        return Usage(self.at(moment), self.rate + change, half_life_seconds, max(moment, self.as_of))


def first_use(moment: datetime, amount: int, half_life_seconds: int) -> Usage:
    """Usage of a queue that held nothing before this moment."""
    return Usage(0.0, amount, half_life_seconds, moment)
