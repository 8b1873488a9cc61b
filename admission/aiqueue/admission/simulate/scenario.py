"""What is simulated: edits of the configuration and jobs, each at its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiqueue.queue.documents import Record
from aiqueue.queue.records import PodSet

#: Second 0 of the virtual clock. Any moment would do; this one makes times in messages easy to read.
START = datetime(2000, 1, 1, tzinfo=UTC)


def moment(microseconds: int) -> datetime:
    """A time of the virtual clock as the engine takes it."""
    return START + timedelta(microseconds=microseconds)


@dataclass(frozen=True, slots=True)
class SimulatedJob:
    """A job that somebody will submit.

    Attributes:
        arrival_us: when, in microseconds since the start.
        runtime_us: how long its pods really take, were all of them to run and none ever stopped.
        checkpoint_us: how often it really saves its work; None loses all of a run that is evicted.
        told_checkpoint_seconds: how often it says that it does, which is what the scheduler goes by.
        max_runtime_seconds: its owner's limit on each run.
        held: submitted with the owner's hold.
        invalid: the sentence that says what is wrong with it.
        fails: it fails at the end of its runtime.
    """

    namespace: str
    name: str
    queue_name: str
    class_name: str | None
    pod_sets: tuple[PodSet, ...]
    shape: str
    arrival_us: int
    runtime_us: int
    checkpoint_us: int | None = None
    held: bool = False
    invalid: str | None = None
    fails: bool = False
    told_checkpoint_seconds: int | None = None
    max_runtime_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """Objects that are applied together at one time, in the order of their kinds and names."""

    at_us: int
    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """Everything that will happen from outside.

    Attributes:
        edits: by time, one for each time.
        jobs: by arrival; of one time in the order of the input.
        capacity: of the cluster by resource, where it is known; else the sum of nominal quota stands for it.
    """

    edits: Sequence[Edit]
    jobs: Sequence[SimulatedJob]
    capacity: Mapping[str, int] | None = None
