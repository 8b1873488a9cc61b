"""Reading the Standard Workload Format of the Parallel Workloads Archive.

A line is a job of 18 fields with blanks between them, -1 for what is not known; lines that begin with `;` are comments. Used are:

    1 job number    2 submit time    4 run time    5 allocated processors    8 requested processors    15 queue    16 partition

A processor is read as a device, a job as a gang of as many pods with one device each: the processors it asked for, where that is
not known those it got. Its tenant is its queue (`queue-3`), else its partition, else `unknown`. Jobs that ran no time, or of
which no processors or no submit time are known, are left out, and the trace's notes say how many.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from aiqueue.admission.simulate.tracefile import MAX_JOBS, Shapes, Trace, TraceErrors, TraceJob, by_arrival, lines, microseconds
from aiqueue.queue.documents import raise_if_any
from aiqueue.queue.documents.problems import Phrase

FIELDS = 18
_NUMBER = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,12})?", re.ASCII)
_MAX_PROCESSORS = 10_000_000
#: Place in the line (from 0), name and whether it is counted in whole numbers, of what is used.
_USED = (
    (0, "job number", True),
    (1, "submit time", False),
    (3, "run time", False),
    (4, "allocated processors", True),
    (7, "requested processors", True),
    (14, "queue", True),
    (15, "partition", True),
)


def read_swf(path: Path) -> Trace:
    """Read a file in the Standard Workload Format.

    Raises:
        InvalidInput: it cannot be read, or something is wrong in it; several errors are told, up to a bound.
    """
    errors = TraceErrors(str(path))
    shapes = Shapes()
    jobs: list[TraceJob] = []
    seen: dict[str, int] = {}
    left_out = Counter[str]()
    with closing(lines(path)) as text:
        for number, line in enumerate(text, start=1):
            fields = line.split()
            if not fields or fields[0].startswith(";"):
                continue
            if _wrong(number, fields, errors, seen):
                if errors.enough:
                    break
                continue
            why = _left_out(fields)
            if why is not None:
                left_out[why] += 1
                continue
            arrival_us, runtime_us = microseconds(fields[1]), microseconds(fields[3])
            if arrival_us is None or runtime_us is None:
                raise AssertionError("both were found to be times")
            asked = int(fields[7])
            shape = shapes.place(asked if asked > 0 else int(fields[4]), 1, 0)
            jobs.append(TraceJob(fields[0], _tenant(fields), arrival_us, runtime_us, shape))
    raise_if_any(errors.errors)
    notes = tuple(f"left out {count} of {len(seen)} jobs: {why}" for why, count in sorted(left_out.items()))
    return Trace(str(path), tuple(shapes.known), by_arrival(jobs), notes)


def _wrong(number: int, fields: Sequence[str], errors: TraceErrors, seen: dict[str, int]) -> bool:
    """Whether something is wrong with a job, which is then told."""
    known = len(errors.errors)
    if len(fields) != FIELDS:
        errors.at(number, "the line", Phrase(f"{len(fields)} fields"), f"write {FIELDS} fields, -1 for what is not known")
        return True
    for place, name, whole in _USED:
        cell = fields[place]
        if not _NUMBER.fullmatch(cell) or (whole and "." in cell):
            errors.at(number, name, cell, f"write a {'whole ' if whole else ''}number, -1 for what is not known")
        elif not whole and not cell.startswith("-") and microseconds(cell) is None:
            errors.at(number, name, cell, "write seconds, at most 100 years")
        elif "processors" in name and int(cell) > _MAX_PROCESSORS:
            errors.at(number, name, cell, f"write at most {_MAX_PROCESSORS}")
    first = seen.setdefault(fields[0], number)
    if first != number:
        errors.at(number, "job number", fields[0], f"give each job a number of its own: line {first} has the same")
    if len(seen) > MAX_JOBS:
        errors.at(number, "the file", Phrase("too long"), f"write at most {MAX_JOBS} jobs")
    return len(errors.errors) > known


def _left_out(fields: Sequence[str]) -> str | None:
    """Why a job cannot be replayed, None where it can."""
    if fields[1].startswith("-"):
        return "when they were submitted is not known"
    if fields[3].startswith("-") or not microseconds(fields[3]):
        return "they ran no time"
    if int(fields[4]) <= 0 and int(fields[7]) <= 0:
        return "they had no processors"
    return None


def _tenant(fields: Sequence[str]) -> str:
    queue, partition = int(fields[14]), int(fields[15])
    return f"queue-{queue}" if queue >= 0 else f"partition-{partition}" if partition >= 0 else "unknown"
