"""A trace: jobs that ran somewhere, as records, and the lines of the file they are read from.

Files are read as a stream, a line at a time; a line, the number of jobs and the number of errors are bounded.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from aiqueue.queue.documents.problems import Phrase, Problems
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.records import PodSet
from aiqueue.queue.units import MAX_DURATION_SECONDS

#: The resource that the devices of a trace are counted as.
GPU = "nvidia.com/gpu"
MAX_LINE_CHARACTERS = 65_536
MAX_JOBS = 5_000_000
#: After this many errors a file is read no further.
MAX_ERRORS = 20
_GZIP = b"\x1f\x8b"
_SECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)


class InvalidTrace(InvalidInput):
    """A trace or the file of its cluster cannot be read, or does not say what it must."""


class TraceJob(NamedTuple):
    """One job: `shape` is its place in `Trace.shapes`, times are microseconds since the start of the trace."""

    name: str
    tenant: str
    arrival_us: int
    runtime_us: int
    shape: int


@dataclass(frozen=True, slots=True)
class Trace:
    """What a trace file holds.

    Attributes:
        source: the file, for messages.
        shapes: the pod sets that jobs ask for; jobs that ask for the same share them.
        jobs: by arrival, of one time in the order of the file.
        notes: sentences about what was left out or read otherwise than it is written.
    """

    source: str
    shapes: tuple[tuple[PodSet, ...], ...]
    jobs: tuple[TraceJob, ...]
    notes: tuple[str, ...] = ()

    @property
    def tenants(self) -> tuple[str, ...]:
        """Names of the tenants that have jobs, sorted."""
        return tuple(sorted({job.tenant for job in self.jobs}))


class TraceErrors(Problems):
    """What is wrong with a file, by line, until there is enough of it."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.source = source

    @property
    def enough(self) -> bool:
        """Whether to stop reading."""
        return len(self.errors) >= MAX_ERRORS

    def at(self, line: int, column: str, value: object, fix: str) -> None:
        """Note what is wrong in a line, if there is not enough already."""
        if not self.enough:
            self.where = f"{self.source}, line {line}"
            self.add(column, Phrase("empty") if value == "" else value, fix)


class Shapes:
    """The pod sets met so far, each once: a trace has many jobs and few shapes."""

    def __init__(self) -> None:
        self.known: list[tuple[PodSet, ...]] = []
        self._places: dict[tuple[int, int, int], int] = {}

    def place(self, pods: int, gpus: int, millicores: int) -> int:
        """The place of one pod set `main` of `pods` pods that each ask for so much."""
        key = (pods, gpus, millicores)
        place = self._places.get(key)
        if place is None:
            requests = {name: amount for name, amount in ((GPU, gpus), ("cpu", millicores)) if amount}
            place = self._places[key] = len(self.known)
            self.known.append((PodSet("main", pods, requests),))
        return place


def lines(path: Path) -> Generator[str]:
    """The lines of a text file, unpacked if it is gzip. Close it where it may not be read to its end.

    Raises:
        InvalidTrace: it cannot be read, is not UTF-8, is damaged, or a line is longer than a trace's can be.
    """
    number = 0
    try:
        with ExitStack() as opened:
            file = opened.enter_context(path.open("rb"))
            packed = file.peek(2)[:2] == _GZIP
            plain = opened.enter_context(gzip.GzipFile(fileobj=file)) if packed else file
            text = opened.enter_context(io.TextIOWrapper(plain, "utf-8-sig"))
            readline = text.readline
            while line := readline(MAX_LINE_CHARACTERS):
                number += 1
                if len(line) == MAX_LINE_CHARACTERS and not line.endswith("\n"):
                    fix = f"write one job a line, at most {MAX_LINE_CHARACTERS} characters"
                    raise InvalidTrace("the line", Phrase("too long"), fix, where=f"{path}, line {number}")
                yield line
    except UnicodeDecodeError:
        raise InvalidTrace(
            "the text", Phrase("not UTF-8"), "save the file as UTF-8", where=f"{path}, after line {number}"
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        damage = f"it cannot be unpacked ({error}): pack it again with gzip"
        raise InvalidTrace("the file", Phrase("damaged"), damage, where=f"{path}, after line {number}") from None
    except OSError as error:
        raise InvalidTrace("--trace", str(path), f"it cannot be read ({error.strerror or error}): name a file") from None


def microseconds(text: str) -> int | None:
    """Seconds as a trace writes them, at least 0 and at most 100 years, rounded to microseconds; None if they are not."""
    if text.isdecimal() and text.isascii() and len(text) <= 10:  # nearly all are
        seconds = int(text)
        return seconds * 1_000_000 if seconds <= MAX_DURATION_SECONDS else None
    text = text.strip()
    if not _SECONDS.fullmatch(text):
        return None
    whole, _, part = text.partition(".")
    found = int(whole) * 1_000_000 + (int((part + "0000000")[:7]) + 5) // 10
    return found if found <= MAX_DURATION_SECONDS * 1_000_000 else None


def by_arrival(jobs: list[TraceJob]) -> tuple[TraceJob, ...]:
    """The jobs by arrival; of one time they keep their order."""
    jobs.sort(key=_arrival)
    return tuple(jobs)


def _arrival(job: TraceJob) -> int:
    return job.arrival_us
