"""Who could have a running workload put out, by which right and from when: facts, for `explain`.

What is told is what the rules allow as things stand, not what somebody wants. A workload of its own tenant may by its priority; one of
another tenant only while this one borrows, on every level up to where the two meet, something that the other has quota for. Whether
another's share is then small enough depends on what it asks for, so that is left to the decision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from aiqueue.admission.engine.instants import micros, moment
from aiqueue.admission.engine.runs import OpenRun
from aiqueue.admission.engine.tree import Cell, Pair, TenantNode
from aiqueue.queue.words import Reclaim, WithinTenant


@dataclass(frozen=True, slots=True)
class Borrowed:
    """What a tenant, with all under it, uses beyond its own of a pair that the run holds."""

    tenant: str
    flavor: str
    resource: str
    amount: int


@dataclass(frozen=True, slots=True)
class Taker:
    """A tenant that may take back what is lent.

    Attributes:
        reclaim: by its policy, whom it may take from.
        above: the priority that its workload has to be above; None where any priority does.
        pairs: the (flavor, resource) that it has quota for and that the tenant of the run borrows.
    """

    tenant: str
    reclaim: Reclaim
    above: int | None
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Exposure:
    """How an open run stands towards those who may need its room.

    Attributes:
        workload_id: whose run it is.
        run_id: which.
        preemptible: whether its class lets others put it out at all.
        priority: that of its class.
        candidate_from: from when others may put it out, by its minimal runtime; None where they never may.
        deadline: by when it would have to end were it put out now, or at `candidate_from` if that is later; None likewise.
        by_tenant: the rule for workloads of its own tenant: of higher priority, or also of the same where they are older.
        borrowing: on what its tenant, and those above it, borrow now, the nearest first.
        takers: the other tenants that may take that back, by name.
        ends_at: when its time is up by its limits, None where it has none.
        evict_at: when it has to end, where it was told to.
        claimant: the workload whose claim waits for its end, where one does.
        ready_by: when its gang has to be ready, or ready again; None where it is, or nobody looks.
    """

    workload_id: int
    run_id: int
    preemptible: bool
    priority: int
    candidate_from: datetime | None
    deadline: datetime | None
    by_tenant: WithinTenant
    borrowing: tuple[Borrowed, ...]
    takers: tuple[Taker, ...]
    ends_at: datetime | None = None
    evict_at: datetime | None = None
    claimant: int | None = None
    ready_by: datetime | None = None


def exposure_of(run: OpenRun, nodes: Mapping[str, TenantNode], now: datetime) -> Exposure:
    """How a run stands at `now`, by the usage that is agreed on. What it holds counts where its tenant is still configured."""
    terms = run.terms
    node = nodes.get(run.tenant)
    pairs = tuple((cell.flavor, cell.resource) for cell, _ in run.takes)
    from_us = run.candidate_from_us()
    return Exposure(
        run.workload.id,
        run.run_id,
        terms.preemptible,
        terms.priority,
        moment(from_us) if terms.preemptible else None,
        moment(run.deadline_us(max(micros(now), from_us))) if terms.preemptible else None,
        node.record.within_tenant if node is not None and terms.preemptible else WithinTenant.NEVER,
        _borrowing(node, pairs) if node is not None else (),
        _takers(node, pairs, terms.priority) if node is not None and terms.preemptible else (),
        None if terms.limit_us is None else moment(run.opened_us + terms.limit_us),
        run.evict_at,
        run.claimant,
        moment(ready_by_us) if (ready_by_us := run.ready_by_us()) is not None else None,
    )


def _over(cell: Cell) -> int:
    """What is borrowed there; a root borrows from nobody."""
    return max(0, cell.usage - cell.subtree) if cell.parent is not None else 0


def _borrowing(node: TenantNode, pairs: Collection[Pair]) -> tuple[Borrowed, ...]:
    return tuple(
        Borrowed(each.name, *pair, amount) for each in node.path() for pair in pairs if (amount := _over(each.cell(pair))) > 0
    )


def borrows_up_to(node: TenantNode, other: TenantNode, pairs: Collection[Pair]) -> bool:
    """Whether a tenant and those above it, up to where it meets another, all borrow something of these pairs."""
    above = set(other.path())
    return all(_borrows(each, pairs) for each in node.path() if each not in above)


def _borrows(node: TenantNode, pairs: Iterable[Pair]) -> bool:
    return any(pair in node.cells and _over(node.cells[pair]) > 0 for pair in pairs)


def _takers(node: TenantNode, pairs: Collection[Pair], priority: int) -> tuple[Taker, ...]:
    """Climb from the leaf; whoever is met may take back what it has quota for and every level up to there borrows."""
    found: list[Taker] = []
    below: list[TenantNode] = []
    side = node
    while side.parent is not None and _borrows(side, pairs):
        below.append(side)
        for leaf in (leaf for sibling in side.parent.children if sibling is not side for leaf in sibling.leaves):
            reclaim = leaf.record.reclaim
            listed = {(quota.flavor, quota.resource) for quota in leaf.record.quotas}
            wanted = tuple(pair for pair in pairs if pair in listed)
            if reclaim is not Reclaim.NEVER and all(_borrows(each, wanted) for each in below):
                lent = tuple(pair for pair in wanted if _over(node.cells[pair]) > 0)
                found.append(Taker(leaf.name, reclaim, priority if reclaim is Reclaim.LOWER_PRIORITY else None, lent))
        side = side.parent
    return tuple(sorted(found, key=lambda each: each.tenant))
