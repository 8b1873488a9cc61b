"""Tell a new engine what the ledger holds.

The order is part of the meaning: runs and workloads are understood by the configuration, a claim by the runs that it waits for and the
workload that it is of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from aiqueue.admission.engine.events import ClaimHeld, ConfigurationChanged, Event, RunOpened, UsageMoved, WorkloadPending
from aiqueue.queue.records import Claim, Configuration, Run, Workload
from aiqueue.queue.store import configuration, usage, work
from aiqueue.queue.store.usage import UsageKey
from aiqueue.queue.usage import Usage


@dataclass(frozen=True, slots=True)
class Retelling:
    """All that an engine decides by, as of one transaction."""

    configuration: Configuration
    runs: Sequence[Run]
    usages: Mapping[UsageKey, Usage]
    pending: Sequence[Workload]
    claims: Sequence[Claim]

    @classmethod
    def of(cls, connection: Connection) -> Retelling:
        """Read it."""
        return cls(
            configuration.load(connection),
            work.load_open_runs(connection),
            usage.load(connection),
            work.load_pending(connection),
            work.load_claims(connection),
        )

    def events(self) -> Iterator[Event]:
        """What to tell, in this order."""
        yield ConfigurationChanged(self.configuration)
        yield from map(RunOpened, self.runs)
        if self.usages:
            yield UsageMoved(self.usages)
        yield from map(WorkloadPending, self.pending)
        yield from map(ClaimHeld, self.claims)
