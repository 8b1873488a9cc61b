"""Claims: room that is being vacated belongs to who had it vacated."""

from __future__ import annotations

from aiqueue.admission.engine.instants import Age, micros
from aiqueue.admission.engine.runs import Takes
from aiqueue.admission.engine.tree import TenantNode
from aiqueue.queue.records import Claim, Workload


class HeldClaim:
    """A claim that stands. Its takes are counted in the agreed usage, and the runs it waits for are not."""

    __slots__ = ("age", "claim", "claimed_us", "node", "priority", "takes", "workload")

    def __init__(self, claim: Claim, workload: Workload, node: TenantNode, takes: Takes, *, priority: int, age: Age) -> None:
        self.claim = claim
        self.workload = workload
        self.node = node
        self.takes = takes
        self.priority = priority
        self.age = age
        self.claimed_us = micros(claim.claimed_at)


class Claims:
    """Claims that stand, by workload and by tenant."""

    def __init__(self) -> None:
        self.of_workload: dict[int, HeldClaim] = {}
        self.of_tenant: dict[str, dict[int, HeldClaim]] = {}
