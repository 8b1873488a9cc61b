"""What the engine is told. Every event is a fact that the ledger already holds."""

from __future__ import annotations

from dataclasses import dataclass

from aiqueue.queue.records import Configuration, Run, Workload


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

    Quota is taken even where that leaves usage above a limit. If the workload was pending it no longer is.
    """

    run: Run


@dataclass(frozen=True, slots=True)
class RunClosed:
    """A run gave its quota back. Unknown ids are ignored. The workload comes back by WorkloadPending if it waits again."""

    run_id: int


Event = ConfigurationChanged | WorkloadPending | WorkloadGone | RunOpened | RunClosed
