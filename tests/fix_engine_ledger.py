"""Plays histories in which work makes room for other work, and keeps what the ledger would hold of it: claims and notices."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import ceil
from typing import Self

from aiqueue.admission.engine import ClaimHeld, Eviction, Plan, WorkloadGone
from aiqueue.queue.records import Claim, Configuration, Run, Workload
from aiqueue.queue.words import RunOutcome
from fix_builders import START
from fix_engine_player import Player
from fix_engine_quotas import Holding, Quotas
from fix_engine_worlds import Op


def seconds(moment: datetime) -> int:
    """Seconds since `START`, rounded up."""
    return ceil((moment - START).total_seconds())


@dataclass
class Before:
    """How things stood when a Plan was asked for."""

    configuration: Configuration
    runs: dict[int, Run]
    claims: dict[int, Claim]
    pending: dict[int, Workload]
    claimants: dict[int, Workload]
    now: datetime


@dataclass
class Ledger(Player):
    """A player of worlds in which somebody may have to make room.

    Attributes:
        claims: those that stand, by workload.
        claimants: who claims, as it was when it came to.
        notices: what open runs were told, by run.
        befores: of each Plan in `plans`, how things stood.
    """

    preempts: bool = True
    claims: dict[int, Claim] = field(default_factory=dict)
    claimants: dict[int, Workload] = field(default_factory=dict)
    notices: dict[int, Eviction] = field(default_factory=dict)
    befores: list[Before] = field(default_factory=list)

    def move(self, op: Op) -> None:
        match op.what, op.about:
            case "leave", int(number):
                told = self.told_to_end()
                if told:
                    self.leave(told[number % len(told)], early=number % 2 == 0, by_itself=number % 7 == 0)
            case "lapse", int(number):
                told = self.told_to_end()
                if told:
                    self.lapse(told[number % len(told)])
            case "forgo", int(number):
                self.forgo(number)
            case _:
                known = dict(self.pending)
                super().move(op)
                if any(self.pending.get(number) is not known.get(number) for number in self.claims):
                    self.decide()  # what a claim comes to is in no ledger before somebody decides

    def forgo(self, number: int) -> None:
        """One who claims is held by its owner, or is gone."""
        claimants = sorted(self.claims.keys() & self.pending.keys())
        if not claimants:
            return
        workload = self.pending[claimants[number % len(claimants)]]
        if number % 2:
            self.pend(replace(workload, held_by_owner=True))
        else:
            del self.pending[workload.id]
            self.engine.observe(WorkloadGone(workload.id))

    def told_to_end(self) -> list[int]:
        """Open runs that were."""
        return sorted(run.id for run in self.runs.values() if run.evict_at is not None)

    def lapse(self, run_id: int) -> None:
        """Time goes on to a deadline, if that lies ahead; nobody ends yet."""
        evict_at = self.runs[run_id].evict_at
        if evict_at is not None:
            self.now = max(self.now, seconds(evict_at))

    def leave(self, run_id: int, *, early: bool = False, by_itself: bool = False) -> None:
        """One that was told to end does so, now or at its deadline. Its workload waits again unless it finished or its time is up."""
        if not early:
            self.lapse(run_id)
        notice = self.notices.get(run_id)
        ends = by_itself or (notice is not None and notice.outcome is RunOutcome.EXPIRED)
        self.close(run_id, back=not ends)

    def close(self, run_id: int, *, back: bool) -> None:
        run = self.runs[run_id]
        ran = run.workload.ran_seconds + max(0, self.now - seconds(run.opened_at))
        self.runs[run_id] = replace(run, workload=replace(run.workload, ran_seconds=ran))
        notice = self.notices.pop(run_id, None)
        super().close(run_id, back=back and (notice is None or notice.outcome is not RunOutcome.EXPIRED))

    def decide(self) -> Plan:
        before = Before(
            self.configuration, dict(self.runs), dict(self.claims), dict(self.pending), dict(self.claimants), self.time
        )
        plan = super().decide()
        self.befores.append(before)
        for eviction in plan.evictions:
            self.notices[eviction.run_id] = eviction
            self.seen.add(f"evicts {eviction.outcome}")
            if eviction.rule is not None:
                self.seen.add(f"rule {eviction.rule}")
        for workload_id in (*plan.withdrawn_claims, *(each.workload.id for each in plan.admissions)):
            self.claims.pop(workload_id, None)
        for claim in plan.claims:
            self.claims[claim.workload_id] = claim
            self.claimants[claim.workload_id] = before.pending[claim.workload_id]
        if plan.withdrawn_claims:
            self.seen.add("withdraws")
        return plan

    def rebuilt(self) -> Self:
        other = super().rebuilt()
        other.notices = dict(self.notices)
        for number in sorted(self.claims, reverse=True):
            other.claims[number] = self.claims[number]
            other.engine.observe(ClaimHeld(self.claims[number]))
        return other

    # What came of it.

    def waited_for(self) -> set[int]:
        """Open runs that some claim waits for."""
        return {run_id for claim in self.claims.values() for run_id in claim.run_ids} & self.runs.keys()

    def agreed(self, without: Iterable[int] = ()) -> list[Holding]:
        """What is agreed: open runs that nobody's claim waits for, and claims, but for those of these workloads."""
        waited = self.waited_for()
        holdings: list[Holding] = [(run.tenant, run.allocations) for run in self.runs.values() if run.id not in waited]
        return holdings + [(each.tenant, each.allocations) for each in self.claims.values() if each.workload_id not in without]

    def agreed_quotas(self) -> Quotas:
        """The tree as agreed."""
        return Quotas(self.configuration.tenants, self.agreed())

    def had(self) -> Mapping[str, bool]:
        names = {each.removeprefix("rule ") for each in self.seen if each.startswith("rule ")}
        return {
            **super().had(),
            "preempts": "evicts Preempted" in self.seen,
            "withdraws": "withdraws" in self.seen,
            "expires": "evicts Expired" in self.seen,
            **{name: name in names for name in ("WithinTenant", "WithinNominal", "FinalShare", "InitialShare")},
        }


def played(history: tuple[Configuration, list[Op]], *, drops: bool = True) -> Ledger:
    """What is left of a history."""
    first, ops = history
    ledger = Ledger(first, drops=drops)
    for op in ops:
        ledger.play(op)
    return ledger


def told(ledger: Ledger, outcome: RunOutcome) -> Iterator[tuple[Before, Plan, Eviction]]:
    """Every notice of a kind, with the Plan it is in and how things stood before that."""
    for before, plan in zip(ledger.befores, ledger.plans, strict=True):
        for eviction in plan.evictions:
            if eviction.outcome is outcome:
                yield before, plan, eviction
