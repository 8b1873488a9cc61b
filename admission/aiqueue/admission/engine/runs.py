"""Open runs: who holds what, in the tree and by tenant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from aiqueue.admission.engine.events import RunStanding
from aiqueue.admission.engine.instants import SECOND, micros
from aiqueue.admission.engine.plan import Admission
from aiqueue.admission.engine.terms import Terms
from aiqueue.admission.engine.tree import Cell, Pair, TenantNode
from aiqueue.queue.records import Allocation, Run, Workload

Takes = tuple[tuple[Cell, int], ...]


class OpenRun:
    """A run that holds quota. `takes` is empty where its tenant is no longer configured.

    Attributes:
        opened_us: when it began, in microseconds since 1970.
        terms: the contract it is under.
        claimant: the workload whose claim waits for its end, where one does.
        evict_at: when it was told to end.
        started_us, ready_us, unready_us: as in `RunStanding`, in microseconds since 1970.
    """

    __slots__ = (
        "allocations",
        "attempt",
        "claimant",
        "evict_at",
        "opened_us",
        "ready_us",
        "run_id",
        "started_us",
        "takes",
        "tenant",
        "terms",
        "unready_us",
        "workload",
    )

    def __init__(
        self, run_id: int, known: Run | Admission, opened_at: datetime, terms: Terms, evict_at: datetime | None = None
    ) -> None:
        self.run_id = run_id
        self.workload = known.workload
        self.attempt = known.attempt
        self.tenant = known.tenant
        self.allocations = known.allocations
        self.opened_us = micros(opened_at)
        self.terms = terms
        self.evict_at = evict_at
        self.claimant: int | None = None
        self.takes: Takes = ()
        self.started_us: int | None = None
        self.ready_us: int | None = None
        self.unready_us: int | None = None
        if isinstance(known, Run):
            self.stand(known)

    def stand(self, told: Run | RunStanding) -> None:
        """Learn how far its gang is."""
        self.started_us = micros(told.started_at) if told.started_at is not None else None
        self.ready_us = micros(told.ready_at) if told.ready_at is not None else None
        self.unready_us = micros(told.unready_since) if told.unready_since is not None else None

    def ready_by_us(self) -> int | None:
        """By when its gang has to be ready, or ready again; None where it is, or nobody looks."""
        if self.started_us is None:
            return None
        if self.ready_us is None:
            return self.started_us + self.terms.ready_us
        return self.unready_us + self.terms.recovery_us if self.unready_us is not None else None

    def candidate_from_us(self) -> int:
        """From when on others may have it put out: then its grace ends no sooner than its minimal runtime."""
        return self.opened_us + max(0, self.terms.min_runtime_us - self.terms.grace_us)

    def deadline_us(self, now_us: int) -> int:
        """When it ends if it is put out for another workload now."""
        return max(now_us + self.terms.grace_us, self.opened_us + self.terms.min_runtime_us)

    def lost_us(self, now_us: int) -> int:
        """Work that its end now would lose, as time: since its start, or its last checkpoint."""
        elapsed = max(0, now_us - self.opened_us)
        every = self.workload.checkpoint_seconds
        return elapsed % (every * SECOND) if every else elapsed


class Runs:
    """Open runs by id, and what each tenant's runs hold in all.

    Attributes:
        of_tenant: the runs of each tenant.
        leaving: those that were told to end.
        priorities: by tenant, how many of its runs that may be put out have each priority.
        moved: roots of the trees in which figures, or who holds them, changed since somebody cleared it.
    """

    def __init__(self) -> None:
        self.open: dict[int, OpenRun] = {}
        self.of_workload: dict[int, int] = {}
        self.of_tenant: dict[str, dict[int, OpenRun]] = {}
        self.leaving: dict[int, OpenRun] = {}
        self.priorities: dict[str, dict[int, int]] = {}
        self.held: dict[tuple[str, str, str], int] = {}
        self.moved: dict[str, None] = {}

    def charge(self, takes: Takes, workload: Workload) -> None:
        """Count what a workload takes; the inverse is `discharge`."""
        for leaf, amount in takes:
            leaf.add(amount)
            if leaf.actual is not None:
                leaf.actual.add(amount)
        self._hold(takes, workload)

    def discharge(self, takes: Takes, workload: Workload) -> list[Cell]:
        """Count it no longer; answers the cells whose usage fell."""
        changed: list[Cell] = []
        for leaf, amount in reversed(takes):
            changed.extend(leaf.remove(amount))
        return changed + self._vacate(takes, workload)

    def _vacate(self, takes: Takes, workload: Workload) -> list[Cell]:
        """Count it no longer among what is really held; answers the cells of that whose usage fell."""
        changed: list[Cell] = []
        for leaf, amount in reversed(takes):
            if leaf.actual is not None:
                changed.extend(leaf.actual.remove(amount))
        self._hold(takes, workload, holds=False)
        return changed

    def _hold(self, takes: Takes, workload: Workload, *, holds: bool = True) -> None:
        for leaf, amount in takes:
            holder = (-amount, workload.namespace, workload.name, workload.id)
            for cell in (leaf, *leaf.above()):
                if holds:
                    cell.holders.add(holder)
                else:
                    cell.holders.remove(holder)
            self.moved[cell.tenant] = None

    def keep(self, run: OpenRun, takes: Takes) -> None:
        """Enter a run whose takes are charged already."""
        run.takes = takes
        self.open[run.run_id] = run
        self.of_workload[run.workload.id] = run.run_id
        self.of_tenant.setdefault(run.tenant, {})[run.run_id] = run
        if run.evict_at is not None:
            self.leaving[run.run_id] = run
        self._grade(run)
        for each in run.allocations:
            if each.amount:  # a run whose last pods are ending may hold nothing
                key = (run.tenant, each.flavor, each.resource)
                self.held[key] = self.held.get(key, 0) + each.amount

    def tell(self, run: OpenRun, evict_at: datetime | None) -> None:
        """Note when a run was told to end; None takes that back."""
        run.evict_at = evict_at
        if evict_at is None:
            self.leaving.pop(run.run_id, None)
        else:
            self.leaving[run.run_id] = run

    def put_under(self, run: OpenRun, terms: Terms) -> None:
        """Put an open run under other terms."""
        self._ungrade(run)
        run.terms = terms
        self._grade(run)

    def _grade(self, run: OpenRun) -> None:
        if run.terms.preemptible:
            of_tenant = self.priorities.setdefault(run.tenant, {})
            of_tenant[run.terms.priority] = of_tenant.get(run.terms.priority, 0) + 1

    def _ungrade(self, run: OpenRun) -> None:
        if run.terms.preemptible:
            of_tenant = self.priorities[run.tenant]
            of_tenant[run.terms.priority] -= 1
            if not of_tenant[run.terms.priority]:
                del of_tenant[run.terms.priority]
            if not of_tenant:
                del self.priorities[run.tenant]

    def enter(self, run: OpenRun, nodes: Mapping[str, TenantNode]) -> None:
        """Enter a run and charge what it holds."""
        takes = takes_of(nodes.get(run.tenant), run.allocations)
        self.charge(takes, run.workload)
        self.keep(run, takes)

    def close(self, run_id: int) -> tuple[OpenRun, list[Cell]] | None:
        """Forget a run; answers it and the cells whose usage fell, or None where it is not known."""
        run = self.open.pop(run_id, None)
        if run is None:
            return None
        if self.of_workload.get(run.workload.id) == run_id:
            del self.of_workload[run.workload.id]
        self.leaving.pop(run_id, None)
        self._ungrade(run)
        of_tenant = self.of_tenant[run.tenant]
        del of_tenant[run_id]
        if not of_tenant:
            del self.of_tenant[run.tenant]
        for each in run.allocations:
            if each.amount:
                key = (run.tenant, each.flavor, each.resource)
                self.held[key] -= each.amount
                if not self.held[key]:
                    del self.held[key]
        # Of who makes room for a claim, only what it really held is still counted.
        release = self.discharge if run.claimant is None else self._vacate
        return run, release(run.takes, run.workload)

    def rebind(self, nodes: Mapping[str, TenantNode]) -> None:
        """Charge every run to the cells of a tree that was built anew."""
        for run in self.open.values():
            run.claimant = None
            run.takes = takes_of(nodes.get(run.tenant), run.allocations)
            self.charge(run.takes, run.workload)


def takes_of(node: TenantNode | None, allocations: Iterable[Allocation]) -> Takes:
    """What allocations take of a tenant's cells, summed up by cell; nothing where there is no such tenant."""
    if node is None:
        return ()
    sums: dict[Pair, int] = {}
    for each in allocations:
        pair = (each.flavor, each.resource)
        sums[pair] = sums.get(pair, 0) + each.amount
    return tuple((node.cell(pair), amount) for pair, amount in sums.items() if amount > 0)
