"""A Plan while it is being decided."""

from __future__ import annotations

from aiqueue.admission.engine.journal import Journal
from aiqueue.admission.engine.needs import Placement
from aiqueue.admission.engine.plan import Admission, Eviction
from aiqueue.admission.engine.runs import OpenRun, Runs
from aiqueue.admission.engine.tree import TenantNode
from aiqueue.queue.records import Claim, Workload


class Draft:
    """What was decided so far, and what takes it back.

    Attributes:
        now_us: when, in microseconds since 1970.
        journal: what undoes it.
        admissions, placements: in the order decided, parallel.
        evictions, claims, withdrawn: in the order decided; the last are workloads whose claim ends.
        roots: of the trees that something was decided in.
    """

    def __init__(self, runs: Runs, now_us: int) -> None:
        self._runs = runs
        self.now_us = now_us
        self.journal = Journal()
        self.admissions: list[Admission] = []
        self.placements: list[Placement] = []
        self.evictions: list[Eviction] = []
        self.claims: list[Claim] = []
        self.withdrawn: list[int] = []
        self.roots: dict[str, TenantNode] = {}

    @property
    def decided(self) -> bool:
        """Whether anything was decided that has to be taken back if it is not confirmed."""
        return bool(self.admissions or self.evictions or self.claims or self.withdrawn)

    def admit(self, workload: Workload, leaf: TenantNode, placement: Placement) -> None:
        """Give a workload its quota."""
        self.journal.do(self._runs.charge, self._runs.discharge, placement.takes, workload)
        self.placements.append(placement)
        self.admissions.append(
            Admission(workload, leaf.name, workload.attempt + 1, placement.allocations, placement.flavors, placement.counts)
        )
        self.roots[leaf.root.name] = leaf.root

    def evict(self, eviction: Eviction) -> None:
        """Tell a run to end."""
        self.journal.do(self._tell, self._untell, self._runs.open[eviction.run_id], eviction)
        self.evictions.append(eviction)

    def claim(self, claim: Claim, root: TenantNode) -> None:
        """Note a claim."""
        self.claims.append(claim)
        self.roots[root.name] = root

    def _tell(self, run: OpenRun, eviction: Eviction) -> None:
        self._runs.tell(run, eviction.evict_at)

    def _untell(self, run: OpenRun, _: Eviction) -> None:
        self._runs.tell(run, None)
