"""The figures of a simulation: waits, use of the cluster, fairness, work lost.

- wait: first admission less arrival, of the jobs that were admitted;
- completion: end less arrival, of the jobs that finished;
- percentile: by nearest rank, the least value that at least so many in a hundred do not exceed;
- makespan: first arrival to last end. A run that is cut off by `--until` counts as ended then, here and below;
- utilization of a resource: integral of what open runs hold, over the integral of the capacity during the makespan. The capacity
  is the cluster's where it is known, else the sum of nominal quota as it is in force at each time;
- work lost: of runs that were evicted and whose jobs have to do it again (Preempted, Drained, NotReady), the time since their start
  or last checkpoint; and that times what the run held. A run that expires loses nothing: nobody does its work again;
- dominant use of a tenant: its integral of the resource of which it had most compared with the capacity, as a share of that
  capacity, over its weight. A tenant of weight 0 has no share that could be fair, and is left out;
- utilization and dominant use are of all that runs held, lost work too: nobody else could have it meanwhile;
- Jain's index over the dominant uses x of the n tenants of which jobs arrived: (sum x)^2 / (n * sum x^2), 1 where all are alike (also all 0).

Sums are of integers, microseconds and base units, so no figure depends on an order of addition.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from aiqueue.admission.simulate.outcome import Outcome, SimulatedRun
from aiqueue.queue.records import Configuration
from aiqueue.queue.words import PreemptionRule, RunOutcome, WorkloadState

Number = int | float


@dataclass(slots=True)
class Waits:
    """Waits of jobs that were admitted, in microseconds; sorted when it is asked."""

    values: list[int] = field(default_factory=list)

    def mean(self) -> Number:
        """Seconds."""
        return mean_seconds(self.values)

    def percentile(self, percent: int) -> Number:
        """Seconds, by nearest rank; 0 where there are none."""
        self.values.sort()  # cheap where it is sorted
        rank = -(-percent * len(self.values) // 100)
        return seconds(self.values[max(rank, 1) - 1]) if self.values else 0


@dataclass(slots=True)
class TenantFigures:
    """What became of one tenant's jobs. `held` is what its runs held, by resource, in base units times microseconds.

    `ended` is how many runs ended in which way.
    """

    jobs: int = 0
    arrived: int = 0
    finished: int = 0
    ended: Counter[RunOutcome] = field(default_factory=Counter)
    waits: Waits = field(default_factory=Waits)
    held: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Figures:
    """What became of all jobs. `capacity` is the integral over the makespan, by resource, like `held` and `lost`.

    `ended` is how many runs ended in which way, `rules` by which right those that were preempted.
    """

    jobs: int
    finished: int
    makespan_us: int
    waits: Waits
    completions: list[int]
    held: dict[str, int]
    capacity: dict[str, int]
    ended: Counter[RunOutcome]
    rules: Counter[PreemptionRule]
    lost_us: int
    lost: dict[str, int]
    tenants: dict[str, TenantFigures]
    weights: Mapping[str, Fraction]

    @property
    def preemptions(self) -> int:
        """Runs that ended to make room for another job."""
        return self.ended[RunOutcome.PREEMPTED]

    def utilization(self) -> dict[str, float]:
        """By resource that has a capacity, sorted."""
        return {name: ratio(self.held.get(name, 0), self.capacity[name]) for name in sorted(self.capacity)}

    def dominant(self, tenant: str) -> Fraction:
        """The largest share of a resource's capacity that the tenant's runs held."""
        of_one = self.tenants[tenant].held
        return max(
            (Fraction(held, all_) for name, held in of_one.items() if (all_ := self.capacity.get(name, 0))), default=Fraction(0)
        )

    def jain(self) -> float:
        """Jain's index of the tenants that had jobs."""
        weights = {name: self.weights.get(name, Fraction(1)) for name, each in self.tenants.items() if name and each.arrived}
        uses = [self.dominant(name) / weight for name, weight in weights.items() if weight > 0]
        squares = sum(each * each for each in uses)
        return float(round(sum(uses) ** 2 / (len(uses) * squares), 9)) if squares else 1.0


def seconds(microseconds: int) -> Number:
    """Whole seconds as an integer, others with their microseconds."""
    whole, rest = divmod(microseconds, 1_000_000)
    return microseconds / 1_000_000 if rest else whole


def mean_seconds(values: Sequence[int]) -> Number:
    """The mean of microseconds in seconds, rounded to a microsecond; 0 of nothing."""
    return seconds(round(Fraction(sum(values), len(values)))) if values else 0


def ratio(part: int, whole: int) -> float:
    """A share, to nine digits; 0 of nothing."""
    return float(round(Fraction(part, whole), 9)) if whole else 0.0


def figures_of(outcome: Outcome) -> Figures:
    """Work out every figure, in one pass over the runs."""
    start, end = span_of(outcome)
    tenants: dict[str, TenantFigures] = {}
    waits, completions = Waits(), list[int]()
    lost, lost_us = dict[str, int](), 0
    rules = Counter[PreemptionRule]()
    for job in outcome.jobs:
        of_tenant = tenants.get(job.tenant)
        if of_tenant is None:
            of_tenant = tenants[job.tenant] = TenantFigures()
        of_tenant.jobs += 1
        of_tenant.arrived += outcome.until_us is None or job.job.arrival_us <= outcome.until_us
        if job.runs:
            wait = job.runs[0].admitted_us - job.job.arrival_us
            waits.values.append(wait)
            of_tenant.waits.values.append(wait)
        if job.state is WorkloadState.FINISHED:
            of_tenant.finished += 1
            completions.append(ended_at(job.runs[-1], end) - job.job.arrival_us)
        for run in job.runs:
            add(of_tenant.held, run.amounts, ended_at(run, end) - run.admitted_us)
            of_tenant.ended[run.outcome] += 1
            if run.outcome is RunOutcome.PREEMPTED and run.rule is not None:
                rules[run.rule] += 1
            if run.lost_us:
                lost_us += run.lost_us
                add(lost, run.amounts, run.lost_us)
    held, ended = dict[str, int](), Counter[RunOutcome]()
    for of_tenant in tenants.values():
        add(held, of_tenant.held, 1)
        ended.update(of_tenant.ended)
    return Figures(
        jobs=len(outcome.jobs),
        finished=len(completions),
        makespan_us=end - start,
        waits=waits,
        completions=completions,
        held=held,
        capacity=_capacity_over(outcome, start, end),
        ended=ended,
        rules=rules,
        lost_us=lost_us,
        lost=lost,
        tenants={name: tenants[name] for name in sorted(tenants)},
        weights=_weights(outcome),
    )


def span_of(outcome: Outcome) -> tuple[int, int]:
    """First arrival and last end, in microseconds; twice the first arrival where nothing ran."""
    start = min((job.job.arrival_us for job in outcome.jobs), default=0)
    cut = cut_off(outcome)
    return start, max((ended_at(run, cut) for job in outcome.jobs for run in job.runs[-1:]), default=start)


def cut_off(outcome: Outcome) -> int:
    """When runs that are still open count as ended."""
    if outcome.until_us is not None:
        return outcome.until_us
    return max((run.admitted_us for job in outcome.jobs for run in job.runs), default=0)


def ended_at(run: SimulatedRun, cut: int) -> int:
    """When a run ended, or was cut off."""
    return cut if run.ended_us is None else run.ended_us


def add(sums: dict[str, int], amounts: Mapping[str, int], times: int) -> None:
    """Add amounts by resource, so many times."""
    for name, amount in amounts.items():
        sums[name] = sums.get(name, 0) + amount * times


def capacities(outcome: Outcome) -> list[tuple[int, dict[str, int]]]:
    """(from when, capacity by resource), by time; resources without quota are not listed, as nothing limits them."""
    listed: list[tuple[int, dict[str, int]]] = []
    for at_us, configuration in outcome.configurations:
        nominal = nominal_of(configuration)
        if outcome.scenario.capacity is not None:
            nominal = {name: outcome.scenario.capacity.get(name, amount) for name, amount in nominal.items()}
        if listed and listed[-1][0] == at_us:
            listed.pop()
        listed.append((at_us, nominal))
    return listed


def nominal_of(configuration: Configuration) -> dict[str, int]:
    """The sum of nominal quota, by resource."""
    sums: dict[str, int] = {}
    for tenant in configuration.tenants.values():
        for quota in tenant.quotas:
            sums[quota.resource] = sums.get(quota.resource, 0) + quota.nominal
    return sums


def _capacity_over(outcome: Outcome, start: int, end: int) -> dict[str, int]:
    steps = capacities(outcome)
    ends = [at_us for at_us, _ in steps[1:]] + [end]
    integral: dict[str, int] = {}
    for (since, capacity), until in zip(steps, ends, strict=False):
        add(integral, capacity, max(0, min(until, end) - max(since, start)))
    return integral


def _weights(outcome: Outcome) -> dict[str, Fraction]:
    """The weight of each tenant, as it was last."""
    weights: dict[str, Fraction] = {}
    for _, configuration in outcome.configurations:
        weights.update((name, tenant.weight) for name, tenant in configuration.tenants.items())
    return weights


def resources_of(runs: Iterable[SimulatedRun]) -> list[str]:
    """Every resource that was held, sorted."""
    return sorted({name for run in runs for name in run.amounts})
