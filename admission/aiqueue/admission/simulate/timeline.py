"""How the queue and the cluster stood over time.

A sample is how things stand once everything of one instant has happened. There is one for each instant at which something changed;
where that is more than `MAX_ROWS`, time is cut into that many equal steps and the last change of each is kept, so that every row
is still what really was at its time. Columns of the CSV:

    time_seconds            since the start
    queue_length            jobs that wait: they arrived or were evicted, do not run, are not over and not held
    running_jobs            jobs with an open run
    oldest_wait_seconds     the longest that one of those that wait has waited, since it arrived or was evicted last
    evicting_jobs           those of the running jobs that were told to end and still run
    preemptions             runs that ended to make room for another job, so far
    used_RESOURCE           what open runs hold, in base units
    utilization_RESOURCE    used over the capacity in force then; empty where nothing says what that is
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from heapq import heappop, heappush
from itertools import groupby
from operator import itemgetter

from aiqueue.admission.simulate.figures import Number, capacities, ratio, resources_of, seconds
from aiqueue.admission.simulate.outcome import JobOutcome, Outcome, SimulatedRun
from aiqueue.queue.words import RunOutcome, WorkloadState

MAX_ROWS = 10_000
_TIME = itemgetter(0)


class _Kind(Enum):
    """What changed. The first two are of jobs, the others of runs."""

    WAITS = 0
    WAITS_NO_MORE = 1
    OPENS = 2
    IS_TOLD = 3
    CLOSES = 4


_Change = tuple[int, int, SimulatedRun | None, _Kind]  # when, which job, the run where it is one's


@dataclass(frozen=True, slots=True)
class Sample:
    """How things stood from a time on, until the next. `used` and `capacity` are by resource, in base units."""

    time_us: int
    waiting: int
    running: int
    oldest_wait_us: int
    evicting: int
    preemptions: int
    used: dict[str, int]
    capacity: dict[str, int]


@dataclass(slots=True)
class _Tally:
    """How things stand as changes are counted. `since`: which jobs wait, since when."""

    used: dict[str, int]
    since: dict[int, int] = field(default_factory=dict)
    waiting: list[tuple[int, int]] = field(default_factory=list)  # those that wait no longer leave when they come to the front
    running: int = 0
    evicting: int = 0
    preemptions: int = 0

    def count(self, change: _Change) -> None:
        """Count one change."""
        time_us, index, run, kind = change
        if kind is _Kind.WAITS:
            self.since[index] = time_us
            heappush(self.waiting, (time_us, index))
        elif run is None:
            del self.since[index]
        elif kind is _Kind.IS_TOLD:
            self.evicting += 1
        else:
            sign = 1 if kind is _Kind.OPENS else -1
            self.running += sign
            for name, amount in run.amounts.items():
                self.used[name] += sign * amount
            if kind is _Kind.CLOSES:
                self.evicting -= run.noticed_us is not None
                self.preemptions += run.outcome is RunOutcome.PREEMPTED

    def oldest_wait_us(self, time_us: int) -> int:
        """How long who waits longest has waited."""
        while self.waiting and self.since.get(self.waiting[0][1]) != self.waiting[0][0]:
            heappop(self.waiting)
        return time_us - self.waiting[0][0] if self.waiting else 0


def samples(outcome: Outcome, most: int = MAX_ROWS) -> Iterator[Sample]:
    """What changed, by time, at most `most` samples."""
    changes = _changes(outcome)
    kept = _kept(changes, most)
    tally = _Tally(dict.fromkeys(resources_of(run for job in outcome.jobs for run in job.runs), 0))
    steps = capacities(outcome)[::-1]
    capacity: dict[str, int] = {}
    for time_us, of_one in groupby(changes, key=_TIME):
        for change in of_one:
            tally.count(change)
        if kept is None or time_us in kept:
            while steps and steps[-1][0] <= time_us:
                capacity = steps.pop()[1]
            oldest_us = tally.oldest_wait_us(time_us)
            waiting, used = len(tally.since), dict(tally.used)
            yield Sample(time_us, waiting, tally.running, oldest_us, tally.evicting, tally.preemptions, used, capacity)


def _changes(outcome: Outcome) -> list[_Change]:
    """All there is to sample, by time; of one job in the order it happened."""
    changes: list[_Change] = []
    for index, job in enumerate(outcome.jobs):
        for began, ended in waits(job):
            if outcome.until_us is not None and began > outcome.until_us:
                continue
            changes.append((began, index, None, _Kind.WAITS))
            if ended is not None:
                changes.append((ended, index, None, _Kind.WAITS_NO_MORE))
        for run in job.runs:
            changes.append((run.admitted_us, index, run, _Kind.OPENS))
            if run.noticed_us is not None:
                changes.append((run.noticed_us, index, run, _Kind.IS_TOLD))
            if run.ended_us is not None:
                changes.append((run.ended_us, index, run, _Kind.CLOSES))
    changes.sort(key=_TIME)
    return changes


def waits(job: JobOutcome) -> Iterator[tuple[int, int | None]]:
    """From when to when a job waited; to None where it still does at the end."""
    began: int | None = job.job.arrival_us
    for run in job.runs:
        if began is not None:
            yield began, run.admitted_us
        began = run.ended_us
    if began is not None and job.state in (WorkloadState.PENDING, WorkloadState.RESERVED):
        yield began, None


def _kept(changes: Sequence[_Change], most: int) -> frozenset[int] | None:
    """The times to keep, None for all."""
    times = [time_us for time_us, _ in groupby(map(_TIME, changes))]
    if len(times) <= most:
        return None
    first, span = times[0], times[-1] - times[0] + 1
    last_of: dict[int, int] = {}
    for time_us in times:
        last_of[(time_us - first) * most // span] = time_us
    return frozenset(last_of.values())


def rows(outcome: Outcome, most: int = MAX_ROWS) -> Iterator[list[str | Number]]:
    """The CSV's rows, the header first; resources stand by name."""
    names = sorted(
        {name for _, capacity in capacities(outcome) for name in capacity}.union(
            resources_of(run for job in outcome.jobs for run in job.runs)
        )
    )
    columns = (f"{what}_{name}" for name in names for what in ("used", "utilization"))
    jobs = ("queue_length", "running_jobs", "oldest_wait_seconds", "evicting_jobs", "preemptions")
    yield ["time_seconds", *jobs, *columns]
    for each in samples(outcome, most):
        row: list[str | Number] = [seconds(each.time_us), each.waiting, each.running, seconds(each.oldest_wait_us)]
        row += [each.evicting, each.preemptions]
        for name in names:
            used, capacity = each.used.get(name, 0), each.capacity.get(name, 0)
            row += [used, ratio(used, capacity) if capacity else ""]
        yield row


def text(outcome: Outcome, most: int = MAX_ROWS) -> str:
    """The CSV."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows(outcome, most))
    return file.getvalue()
