"""The life of workloads, written as aiqueue's controller writes it, by the same functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TypeVar

from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import Decision
from aiqueue.queue.store import observing, plans
from aiqueue.queue.store.changes import Changes, ClosedRun, NewWorkload, SeenAgain, StartedRun, StoppedRun
from aiqueue.queue.words import PreemptionRule, RunOutcome, WorkloadState
from ledger import world
from ledger.ground import Ground

Item = TypeVar("Item")
_LEDGER = "00000000-0000-4000-8000-000000000000"
_GRACE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class One:
    """A workload of the ledger, with its last run."""

    id: int
    seen: Observation
    tenant: str
    attempt: int = 0
    run_id: int = 0
    unsuspend_id: int = 0


class Life:
    """Makes workloads and takes them through their lives, each call in one transaction."""

    def __init__(self, made: Ground, queues: int, revision: int) -> None:
        self._made = made
        self._places = world.places(queues)
        self._numbers = count(1)
        self._seqs = count(1)
        self._revision = revision

    def moved(self, revision: int) -> None:
        """The configuration is at another revision."""
        self._revision = revision

    def unborn(self, amount: int) -> list[tuple[Observation, str]]:
        """So many Jobs that the ledger never saw, with their tenants."""
        found = []
        for _ in range(amount):
            number = next(self._numbers)
            place = self._places[number % len(self._places)]
            found.append((world.observation(number, place), place.tenant))
        return found

    def observe(self, unborn: Sequence[tuple[Observation, str]]) -> list[One]:
        """See Jobs for the first time."""
        written = self._observe(Changes(new=[NewWorkload(seen) for seen, _ in unborn]))
        return [One(written.workload_ids[seen.uid], seen, tenant) for seen, tenant in unborn]

    def new(self, amount: int) -> list[One]:
        """So many new workloads, a thousand in a transaction."""
        found: list[One] = []
        for some in in_parts(self.unborn(amount), 1000):
            found += self.observe(some)
        return found

    def admit(self, some: Sequence[One], decisions: Sequence[Decision] = ()) -> list[One]:
        """Commit a Plan that admits them."""
        admissions = [_admission(each) for each in some]
        committed = self._commit(admissions=admissions, decisions=decisions)
        return [
            replace(each, attempt=each.attempt + 1, run_id=run_id, unsuspend_id=action_id)
            for each, run_id, action_id in zip(some, committed.run_ids, committed.unsuspend_ids, strict=True)
        ]

    def start(self, some: Sequence[One]) -> list[One]:
        """See that they were started."""
        running = [replace(each, seen=_started(each)) for each in some]
        self._observe(
            Changes(
                seen=[SeenAgain(each.id, each.seen, WorkloadState.ADMITTED, owner_suspended=False) for each in running],
                started=[StartedRun(each.run_id) for each in running],
                done_actions=[each.unsuspend_id for each in running],
            )
        )
        return running

    def finish(self, some: Sequence[One]) -> None:
        """See that they have ended."""
        self._observe(
            Changes(
                seen=[SeenAgain(each.id, _finished(each), WorkloadState.FINISHED, owner_suspended=False) for each in some],
                closed=[ClosedRun(each.run_id, each.id, RunOutcome.FINISHED, "", WorkloadState.FINISHED) for each in some],
            )
        )

    def preempt(self, some: Sequence[One], by: One) -> list[One]:
        """Have them put out for another, until they wait again."""
        message = f"preempted for {by.seen.namespace}/{by.seen.name}"
        evictions = [
            plans.EvictionRow(
                run_id=each.run_id,
                workload_id=each.id,
                attempt=each.attempt,
                outcome=RunOutcome.PREEMPTED,
                message=message,
                evict_at=each.seen.created_at + _GRACE,
                preempted_by=by.id,
                rule=PreemptionRule.WITHIN_TENANT,
            )
            for each in some
        ]
        actions = self._commit(evictions=evictions).eviction_action_ids
        stopped = [StoppedRun(each.run_id, each.id, RunOutcome.PREEMPTED, message) for each in some]
        self._observe(Changes(stopped=stopped, done_actions=list(actions)))
        waiting = [replace(each, seen=replace(each.seen, suspended=True, stamp=None, active=0, ready=0)) for each in some]
        self._observe(
            Changes(
                seen=[SeenAgain(each.id, each.seen, WorkloadState.PENDING, False, pod_sets=True) for each in waiting],
                closed=[
                    ClosedRun(each.run_id, each.id, RunOutcome.PREEMPTED, message, WorkloadState.PENDING) for each in waiting
                ],
            )
        )
        return waiting

    def decide(self, decisions: Sequence[Decision]) -> None:
        """Commit a Plan that says why some wait."""
        self._commit(decisions=decisions)

    def _commit(
        self,
        admissions: Sequence[plans.AdmissionRow] = (),
        evictions: Sequence[plans.EvictionRow] = (),
        decisions: Sequence[Decision] = (),
    ) -> plans.Committed:
        plan = plans.PlanRows(next(self._seqs), self._revision, datetime.now(UTC), admissions, evictions, decisions=decisions)
        return self._made.write(lambda connection: plans.commit(connection, self._made.term, self._made.cluster_id, plan))

    def _observe(self, changes: Changes) -> observing.Written:
        made = self._made
        return made.write(lambda connection: observing.write(connection, made.term, made.cluster_id, changes))


def in_parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items, at most so many at a time."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def _admission(each: One) -> plans.AdmissionRow:
    return plans.AdmissionRow(
        workload_id=each.id,
        attempt=each.attempt + 1,
        tenant=each.tenant,
        namespace=each.seen.namespace,
        queue_name=each.seen.queue_name or "",
        resource_version=each.seen.resource_version,
        allocations=world.allocations(each.seen),
        original={"main": {"nodeSelector": {}, "tolerations": []}},
        injected={"main": {"nodeSelector": dict(world.NODE_LABELS), "tolerations": []}},
    )


def _started(each: One) -> Observation:
    return replace(
        each.seen,
        resource_version=str(int(each.seen.resource_version) + 1),
        suspended=False,
        started=True,
        stamp=RunStamp(_LEDGER, each.run_id, each.attempt),
        active=each.seen.pod_sets[0].count,
    )


def _finished(each: One) -> Observation:
    return replace(
        each.seen,
        resource_version=str(int(each.seen.resource_version) + 1),
        active=0,
        succeeded=each.seen.pod_sets[0].count,
        finished=WorkloadState.FINISHED,
    )
