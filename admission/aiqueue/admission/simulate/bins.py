"""A simulation cut into equal steps of time, for a picture: what was held, who waited and how long, on average in each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aiqueue.admission.simulate.figures import capacities, cut_off, ended_at
from aiqueue.admission.simulate.outcome import Outcome
from aiqueue.admission.simulate.timeline import waits

Values = list[float | None]


@dataclass(frozen=True, slots=True)
class Steps:
    """`count` equal steps from `start_us` to `end_us`."""

    start_us: int
    end_us: int
    count: int

    def edge(self, index: int) -> int:
        """Where step `index` begins, and the one before ends."""
        return self.start_us + (self.end_us - self.start_us) * index // self.count

    def of(self, time_us: int) -> int:
        """The step that a time lies in; times outside lie in the first or the last."""
        index = (time_us - self.start_us) * self.count // (self.end_us - self.start_us)
        return min(max(index, 0), self.count - 1)

    def spread(self, sums: list[int], began_us: int, ended_us: int, amount: int) -> None:
        """Add an amount that stood from one time to another to the integrals of the steps it touches."""
        began_us, ended_us = max(began_us, self.start_us), min(ended_us, self.end_us)
        if began_us >= ended_us:
            return
        for index in range(max(self.of(began_us) - 1, 0), min(self.of(ended_us) + 2, self.count)):
            overlap = min(ended_us, self.edge(index + 1)) - max(began_us, self.edge(index))
            if overlap > 0:
                sums[index] += amount * overlap

    def means(self, integrals: Sequence[int]) -> list[float]:
        """The mean of each step."""
        return [total / max(1, self.edge(index + 1) - self.edge(index)) for index, total in enumerate(integrals)]


@dataclass(slots=True)
class Binned:
    """By tenant, or whatever it is called: integrals of what was held, of what of that was lost, of who waited; waits by arrival."""

    steps: Steps
    held: dict[str, list[int]] = field(default_factory=dict)
    lost: dict[str, list[int]] = field(default_factory=dict)
    waiting: dict[str, list[int]] = field(default_factory=dict)
    waits: dict[str, list[list[int]]] = field(default_factory=dict)
    capacity: list[int] = field(default_factory=list)

    def utilization(self, name: str) -> list[float]:
        """Share of the capacity, in each step."""
        return self._shares(self.held[name])

    def wasted(self, name: str) -> list[float]:
        """That part of `utilization` whose work an eviction lost."""
        return self._shares(self.lost[name])

    def _shares(self, integrals: list[int]) -> list[float]:
        return [part / all_ if all_ else 0.0 for part, all_ in zip(integrals, self.capacity, strict=True)]

    def queue(self, name: str) -> list[float]:
        """Jobs that waited, in each step."""
        return self.steps.means(self.waiting[name])

    def mean_waits(self, names: Sequence[str]) -> Values:
        """Mean wait in seconds of the jobs that arrived in each step; None where none did that was admitted."""
        return [sum(found) / len(found) / 1e6 if found else None for found in self._waits_of(names)]

    def percentile_waits(self, names: Sequence[str], percent: int) -> Values:
        """Percentile by nearest rank, in seconds, like `mean_waits`."""
        return [
            sorted(found)[max(-(-percent * len(found) // 100), 1) - 1] / 1e6 if found else None
            for found in self._waits_of(names)
        ]

    def _waits_of(self, names: Sequence[str]) -> list[list[int]]:
        return [[wait for name in names for wait in self.waits[name][index]] for index in range(self.steps.count)]


def binned(outcome: Outcome, resource: str | None, names: dict[str, str], count: int) -> Binned:
    """Cut an outcome into `count` steps.

    Args:
        outcome: of which all.
        resource: what is looked at of what runs hold.
        names: tenant -> the name under which it is counted.
        count: of steps.
    """
    cut = cut_off(outcome)
    start = min((job.job.arrival_us for job in outcome.jobs), default=0)
    last_end = max((ended_at(run, cut) for job in outcome.jobs for run in job.runs[-1:]), default=start)
    last_arrival = max((job.job.arrival_us for job in outcome.jobs), default=start)
    end = max(last_end, last_arrival if outcome.until_us is None else outcome.until_us, start + count)
    found = Binned(Steps(start, end, count))
    steps = found.steps
    for name in dict.fromkeys(names.values()):
        found.held[name], found.lost[name], found.waiting[name] = [0] * count, [0] * count, [0] * count
        found.waits[name] = [[] for _ in range(count)]
    for job in outcome.jobs:
        name = names[job.tenant]
        for began, ended in waits(job):
            steps.spread(found.waiting[name], began, end if ended is None else ended, 1)
        for run in job.runs:
            amount = run.amounts.get(resource, 0) if resource else 0
            if amount:
                ended_us = ended_at(run, cut)
                steps.spread(found.held[name], run.admitted_us, ended_us, amount)
                steps.spread(found.lost[name], ended_us - run.lost_us, ended_us, amount)
        if job.runs:
            arrival = job.job.arrival_us
            found.waits[name][steps.of(arrival)].append(job.runs[0].admitted_us - arrival)
    found.capacity = [0] * count
    stages = capacities(outcome)
    for (since, capacity), until in zip(stages, [at_us for at_us, _ in stages[1:]] + [end], strict=False):
        steps.spread(found.capacity, since, until, capacity.get(resource, 0) if resource else 0)
    return found
