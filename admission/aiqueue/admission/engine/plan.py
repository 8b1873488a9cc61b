"""What the engine answers: a Plan, which is nothing until it is confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aiqueue.queue.records import Allocation, Claim, Decision, Workload
from aiqueue.queue.words import PreemptionRule, RunOutcome


@dataclass(frozen=True, slots=True)
class Admission:
    """A workload gets its quota. `flavors` maps pod set -> resource -> flavor; `counts` pod set -> pods admitted."""

    workload: Workload
    tenant: str
    attempt: int
    allocations: tuple[Allocation, ...]
    flavors: dict[str, dict[str, str]]
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Eviction:
    """A run is told to end by `evict_at`, and why. `preempted_by` is the workload that claims its room, `rule` by which right.

    An `outcome` of EXPIRED means that its time is up: it ends for good, and is not requeued.
    """

    run_id: int
    workload_id: int
    attempt: int
    outcome: RunOutcome
    evict_at: datetime
    message: str
    preempted_by: int | None = None
    rule: PreemptionRule | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Decided at `now` on `config_revision`; deterministic: same events, same Plan.

    Attributes:
        admissions: in the order decided. Bounded.
        evictions: in the order decided. Bounded.
        claims: new ones, in the order decided; one for a workload that has a claim replaces it.
        withdrawn_claims: workload ids whose claim ends without their admission. An admission ends its claim by itself.
        decisions: verdicts that are new or differ from the last confirmed ones. One per (tenant, shape) in general and
            one per workload for the reasons in OVERRIDE_REASONS.
        withdrawn_shapes: (tenant, shape) pairs whose verdict no longer stands because nothing of that shape waits there.
        withdrawn_workloads: workload ids whose override no longer stands.
        wake_at: when the engine wants to be asked again though nothing happened; `now` itself if the bound on a Plan was reached.
    """

    now: datetime
    config_revision: int
    admissions: tuple[Admission, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    claims: tuple[Claim, ...] = ()
    withdrawn_claims: tuple[int, ...] = ()
    decisions: tuple[Decision, ...] = ()
    withdrawn_shapes: tuple[tuple[str, str], ...] = ()
    withdrawn_workloads: tuple[int, ...] = ()
    wake_at: datetime | None = None

    @property
    def empty(self) -> bool:
        """Whether committing it would write nothing."""
        return not (
            self.admissions
            or self.evictions
            or self.claims
            or self.withdrawn_claims
            or self.decisions
            or self.withdrawn_shapes
            or self.withdrawn_workloads
        )
