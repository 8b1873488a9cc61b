"""What came of a simulation, before it is reported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from aiqueue.admission.simulate.scenario import Scenario, SimulatedJob
from aiqueue.queue.records import Configuration
from aiqueue.queue.words import PreemptionRule, Reason, RunOutcome, WorkloadState


@dataclass(slots=True)
class SimulatedRun:
    """One admission of a job.

    Attributes:
        admitted_us, ended_us: microseconds since the start; ended is None while it runs.
        noticed_us, evict_at_us: when it was told to end, and by when; None where it never was. It may have ended before.
        reason: why it is ended by us, as a sentence; empty where it ended by itself.
        preempted_by: `namespace/name` of whom it makes room for, or empty.
        rule: by which right, where it makes room.
        pods: admitted, in all pod sets: fewer than the job asked for where it was admitted in part.
        flavors: pod set -> resource -> flavor.
        amounts: held, by resource.
        lost_us: work that its eviction lost and that has to be done again, as time.
    """

    admitted_us: int
    pods: int
    flavors: Mapping[str, Mapping[str, str]]
    amounts: Mapping[str, int]
    ended_us: int | None = None
    outcome: RunOutcome = RunOutcome.RUNNING
    reason: str = ""
    preempted_by: str = ""
    lost_us: int = 0
    noticed_us: int | None = None
    evict_at_us: int | None = None
    rule: PreemptionRule | None = None


@dataclass(slots=True)
class JobOutcome:
    """What became of a job. `tenant` is empty where its queue leads to none; `reason` and `message` are of one still pending."""

    job: SimulatedJob
    tenant: str = ""
    state: WorkloadState = WorkloadState.PENDING
    runs: list[SimulatedRun] = field(default_factory=list)
    reason: Reason | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A simulation that ended, by `until_us` or because nothing more will happen.

    Attributes:
        jobs: in the order of the scenario.
        configurations: (from when in microseconds, what was in force), by time.
        until_us: when it was cut off, None where it ran to its end.
    """

    scenario: Scenario
    jobs: Sequence[JobOutcome]
    configurations: Sequence[tuple[int, Configuration]]
    until_us: int | None = None
