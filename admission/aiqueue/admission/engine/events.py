"""What the engine is told. Every event is a fact that the ledger already holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from aiqueue.queue.records import Claim, Configuration, Run, Workload
from aiqueue.queue.usage import Usage


@dataclass(frozen=True, slots=True)
class ConfigurationChanged:
    """The administrator's objects as of a revision; replaces what was known before."""

    configuration: Configuration


@dataclass(frozen=True, slots=True)
class WorkloadPending:
    """A workload waits (state Pending or Held): new, changed, or back after its run closed. Replaces what was known of it."""

    workload: Workload


@dataclass(frozen=True, slots=True)
class WorkloadGone:
    """A workload waits no longer, other than by admission: cancelled, finished, deleted. Unknown ids are ignored."""

    workload_id: int


@dataclass(frozen=True, slots=True)
class RunOpened:
    """A run is open that the engine did not admit itself: adopted, or read back from the ledger at a start.

    Quota is taken even where that leaves usage above a limit. If the workload was pending it no longer is. A run that is open already
    is replaced.
    """

    run: Run


@dataclass(frozen=True, slots=True)
class RunClosed:
    """A run gave its quota back. Unknown ids are ignored. The workload comes back by WorkloadPending if it waits again."""

    run_id: int


@dataclass(frozen=True, slots=True)
class RunStanding:
    """How far the gang of an open run is; replaces what was known of it, also from `RunOpened`. Unknown ids are ignored.

    Attributes:
        started_at: when its Job was let go; None where it was not yet, or nobody is to look at its pods.
        ready_at: when its whole gang was first ready.
        unready_since: since when it no longer is; None while it is, or never was.
    """

    run_id: int
    started_at: datetime | None
    ready_at: datetime | None = None
    unready_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class ClaimHeld:
    """A claim that the engine did not make itself: read back from the ledger at a start, after its runs and its workload.

    One that means nothing any more is withdrawn by the next Plan.
    """

    claim: Claim


@dataclass(frozen=True, slots=True)
class UsageMoved:
    """What queues used, by (namespace, queue, resource); replaces what was known of each. Nothing known is nothing used.

    The ledger folds it where runs open, close or change size, and tells what it folded.
    """

    usages: Mapping[tuple[str, str, str], Usage]


Event = ConfigurationChanged | WorkloadPending | WorkloadGone | RunOpened | RunClosed | RunStanding | ClaimHeld | UsageMoved
