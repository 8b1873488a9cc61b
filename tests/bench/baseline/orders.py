"""What the executor is told to do, and what it tells in the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec


class Planned(msgspec.Struct, frozen=True):
    """A Job to create: when from the beginning, where, its path once it is there, its content as JSON, and how long it runs."""

    due_seconds: float
    collection: str
    path: str
    body: str
    run_seconds: float


class Order(msgspec.Struct, frozen=True):
    """What to do, and for how long at most."""

    port: int
    ca_file: str
    token: str
    jobs: Sequence[Planned]
    most_seconds: float


class Lived(msgspec.Struct):
    """What became of a Job, in seconds from the beginning. `spans` are from each unsuspend seen to when its end was seen or said."""

    sent: float = 0.0
    created: float = 0.0
    unsuspended: float = 0.0
    done: float = 0.0
    spans: list[tuple[float, float]] = msgspec.field(default_factory=list)


class Outcome(msgspec.Struct):
    """What came of an order. `began` is in seconds since the epoch; jobs are in the order of the order."""

    began: float
    jobs: Sequence[Lived]
    counts: dict[str, int]
    cpu_seconds: float
    resident_bytes: int


def done_by_ten_seconds(jobs: Iterable[Lived]) -> Sequence[int]:
    """How many Jobs were done in each ten seconds."""
    counts = Counter(int(lived.done // 10) for lived in jobs if lived.done)
    return [counts[each] for each in range(max(counts, default=-1) + 1)]
