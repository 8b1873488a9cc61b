"""What observing a cluster changes in the ledger: a batch of facts, written in one transaction.

The controller works out the batch from observations and what it knows; `observing.write` makes it rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiqueue.queue.observations import Observation
from aiqueue.queue.records import Allocation
from aiqueue.queue.words import ActionKind, RunOutcome, WorkloadState


@dataclass(frozen=True, slots=True)
class NewWorkload:
    """A Job seen for the first time."""

    observation: Observation
    state: WorkloadState = WorkloadState.PENDING


@dataclass(frozen=True, slots=True)
class SeenAgain:
    """A known workload in a new condition. `pod_sets` says whether what it asks for is to be replaced by what was observed."""

    workload_id: int
    observation: Observation
    state: WorkloadState
    owner_suspended: bool
    pod_sets: bool = False


@dataclass(frozen=True, slots=True)
class Vanished:
    """A live workload whose Job is gone, or no longer asks to be managed."""

    workload_id: int
    state: WorkloadState = WorkloadState.CANCELLED


@dataclass(frozen=True, slots=True)
class ClosedRun:
    """An open run that gives its quota back, and where that leaves its workload."""

    run_id: int
    workload_id: int
    outcome: RunOutcome
    message: str
    state: WorkloadState


@dataclass(frozen=True, slots=True)
class StartedRun:
    """The unsuspend of a run was seen to be done."""

    run_id: int


@dataclass(frozen=True, slots=True)
class StoppedRun:
    """The suspend of a run was seen to be done, by us or by its owner; its workload is Releasing."""

    run_id: int
    workload_id: int
    outcome: RunOutcome
    message: str
    owner_suspended: bool = False


@dataclass(frozen=True, slots=True)
class AdoptedRun:
    """A Job that runs without an open run gets one at its size. `uid` finds the workload, new or known.

    `allocations` is what it still needs. `stamped_by` is the run of this ledger whose stamp it carries, if any: what that one wrote may
    still be in the template. `ready` says whether its whole gang is.
    """

    uid: str
    tenant: str
    namespace: str
    queue_name: str
    allocations: tuple[Allocation, ...]
    why: str
    stamped_by: int | None = None
    ready: bool = False


@dataclass(frozen=True, slots=True)
class ResizedRun:
    """An open run that needs no more than so many pods any more, by pod set. It never comes to hold more than it does.

    `requests` is what one pod of each asks for as its Job runs, by resource, in base units.
    """

    run_id: int
    workload_id: int
    counts: Mapping[str, int]
    requests: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Stood:
    """The whole gang of an open run was seen to be ready, or to be ready no more; that again gives it its time anew."""

    run_id: int
    ready: bool


@dataclass(frozen=True, slots=True)
class PutBack:
    """A workload whose gang was not ready waits again: from now on, and for a while.

    `requeues` is how often that was by now, `limit` how often its class lets it be. A pause of None holds it.
    """

    workload_id: int
    requeues: int
    limit: int
    pause_seconds: int | None


@dataclass(frozen=True, slots=True)
class NewAction:
    """Something the cluster must be made to see. `uid` finds the workload."""

    uid: str
    run_id: int | None
    attempt: int
    kind: ActionKind
    resource_version: str = ""


@dataclass(slots=True)
class Changes:
    """One batch. `done_actions` are ids of actions that the cluster agreed to, `released` ids of workloads that may begin afresh."""

    new: list[NewWorkload] = field(default_factory=list)
    seen: list[SeenAgain] = field(default_factory=list)
    vanished: list[Vanished] = field(default_factory=list)
    started: list[StartedRun] = field(default_factory=list)
    stopped: list[StoppedRun] = field(default_factory=list)
    closed: list[ClosedRun] = field(default_factory=list)
    adopted: list[AdoptedRun] = field(default_factory=list)
    resized: list[ResizedRun] = field(default_factory=list)
    stood: list[Stood] = field(default_factory=list)
    put_back: list[PutBack] = field(default_factory=list)
    released: list[int] = field(default_factory=list)
    actions: list[NewAction] = field(default_factory=list)
    done_actions: list[int] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (
            self.new
            or self.seen
            or self.vanished
            or self.started
            or self.stopped
            or self.closed
            or self.adopted
            or self.resized
            or self.stood
            or self.put_back
            or self.released
            or self.actions
            or self.done_actions
        )
