"""Who may have to make room: runs and claims of each leaf tenant, in the order in which they would be asked.

The order inside a leaf is: lower priority; least work lost; latest opened; id of the workload. Work lost is time (since the start
of the run, or its last checkpoint) times the amount held of the resource that is scarcest to whoever asks. A claim loses nothing,
and counts as opened when it was made.

Runs that are evicting and that no claim waits for stand apart: their room comes whatever is decided, so they are taken first, the
earliest end first.

A `Candidates` is made for one contest. Runs are sorted once for each leaf and resource; who came to be claimed since is stepped
over. Claims, and who is evicting unclaimed, are looked up as they stand, since the contest itself changes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf

from aiqueue.admission.engine.claims import Claims, HeldClaim
from aiqueue.admission.engine.instants import SECOND, Age, age_of, micros
from aiqueue.admission.engine.runs import OpenRun, Runs, Takes
from aiqueue.admission.engine.tree import Pair, TenantNode
from aiqueue.queue.words import Reclaim, WithinTenant

Rank = tuple[int, int, int, int, int]  # priority, work lost, -opened, workload, run (-1 for a claim): no two are equal


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks for room: its leaf tenant, what it would take there, its priority and its age."""

    leaf: TenantNode
    takes: Takes
    priority: int
    age: Age

    def may_ask(self, candidate: Candidate) -> bool:
        """Whether the policy of its tenant lets it ask a candidate."""
        if candidate.workload_id == self.age[3] or candidate.rank[0] > self.highest(candidate.leaf):
            return False
        return candidate.leaf is not self.leaf or candidate.rank[0] < self.priority or candidate.age > self.age

    def highest(self, leaf: TenantNode) -> float:
        """The highest priority that it may ask in a leaf."""
        record = self.leaf.record
        if leaf is self.leaf:
            if record.within_tenant is WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY:
                return self.priority
            return self.priority - 1 if record.within_tenant is WithinTenant.LOWER_PRIORITY else -inf
        if record.reclaim is Reclaim.ANY:
            return inf
        return self.priority - 1 if record.reclaim is Reclaim.LOWER_PRIORITY else -inf


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """What may have to make room: a run, or a claim that may be won over.

    Attributes:
        of: the run or the claim itself.
        leaf: the tenant that it is of.
        rank: where it stands inside its leaf.
    """

    of: OpenRun | HeldClaim
    leaf: TenantNode
    rank: Rank

    @property
    def takes(self) -> Takes:
        """What it holds."""
        return self.of.takes

    @property
    def workload_id(self) -> int:
        """Whose it is."""
        return self.of.workload.id

    @property
    def age(self) -> Age:
        """How old its workload is."""
        return age_of(self.of.workload) if isinstance(self.of, OpenRun) else self.of.age

    def first_run(self) -> bool:
        """Whether it is the first run of its workload."""
        return isinstance(self.of, OpenRun) and self.of.attempt <= 1

    def free(self) -> bool:
        """Whether nobody claims its room yet; a claim always is."""
        return not isinstance(self.of, OpenRun) or (self.of.claimant is None and self.of.evict_at is None)


class Candidates:
    """The candidates of one contest.

    Args:
        runs: open runs, charged to the cells of `nodes`.
        claims: those that stand.
        nodes: tenants by name.
        now_us: the time of the contest.
    """

    def __init__(self, runs: Runs, claims: Claims, nodes: Mapping[str, TenantNode], now_us: int) -> None:
        self._runs = runs
        self._claims = claims
        self._nodes = nodes
        self._now_us = now_us
        self._eligible: dict[str, list[OpenRun]] = {}
        self._sorted: dict[tuple[str, str], list[Candidate]] = {}
        self._youngest: dict[tuple[str, Pair], dict[int, Age]] = {}
        self._leaving: dict[str, dict[int, OpenRun]] = {}
        self._totals: dict[tuple[str, str], int] = {}

    def moved(self) -> None:
        """What is agreed changed: forget what was remembered of it. To be called after each admission and claim."""

    # Runs.

    def eligible(self, leaf: TenantNode) -> list[OpenRun]:
        """Runs of a leaf that its contract lets others end now and that were not told to end when this was first asked."""
        known = self._eligible.get(leaf.name)
        if known is None:
            now_us = self._now_us
            known = self._eligible[leaf.name] = [
                run
                for run in self._runs.of_tenant.get(leaf.name, {}).values()
                if run.terms.preemptible
                and run.evict_at is None
                and run.claimant is None
                and run.takes
                and run.candidate_from_us() <= now_us
            ]
        return known

    def in_order(self, leaf: TenantNode, resource: str) -> list[Candidate]:
        """The runs of a leaf in candidate order, for somebody to whom this resource is the scarcest; and its claims."""
        key = (leaf.name, resource)
        known = self._sorted.get(key)
        if known is None:
            known = [Candidate(run, leaf, self._rank(run, resource)) for run in self.eligible(leaf)]
            known.sort(key=_by_rank)
            self._sorted[key] = known
        claims = self._claims.of_tenant.get(leaf.name)
        if not claims:
            return known
        return sorted([*known, *(_of_claim(held, leaf) for held in claims.values() if _may_be_won(held))], key=_by_rank)

    def youngest(self, leaf: TenantNode, pair: Pair, *, but: int) -> Iterator[tuple[int, Age]]:
        """Of each priority the youngest of the runs of a leaf that hold something of a pair, and all claims but that of a workload.

        May name some that came to be claimed.
        """
        key = (leaf.name, pair)
        known = self._youngest.get(key)
        if known is None:
            known = self._youngest[key] = {}
            for run in self.eligible(leaf):
                if _holds(run.takes, pair):
                    age, priority = age_of(run.workload), run.terms.priority
                    if priority not in known or age > known[priority]:
                        known[priority] = age
        yield from known.items()
        for held in self._claims.of_tenant.get(leaf.name, {}).values():
            if held.workload.id != but and _may_be_won(held) and _holds(held.takes, pair):
                yield held.priority, held.age

    # Those that leave anyway.

    def evicting(self, root: TenantNode) -> list[Candidate]:
        """Runs of a tree that were told to end and that no claim waits for, the earliest end first."""
        return self.in_turn(run for run in self._leavers(root).values() if run.claimant is None and run.evict_at is not None)

    def in_turn(self, runs: Iterable[OpenRun]) -> list[Candidate]:
        """Runs that leave anyway as candidates, the earliest end first."""
        found = [
            (micros(run.evict_at) if run.evict_at is not None else self._now_us, Candidate(run, node, self._rank(run, "")))
            for run in runs
            if run.takes and (node := self._nodes.get(run.tenant)) is not None
        ]
        found.sort(key=lambda each: (each[0], each[1].rank))
        return [candidate for _, candidate in found]

    def awaited(self, held: HeldClaim) -> Iterator[OpenRun]:
        """The runs that a claim waits for and that are still open."""
        for run_id in held.claim.run_ids:
            run = self._runs.open.get(run_id)
            if run is not None and run.claimant == held.workload.id:
                yield run

    def leave(self, runs: Iterable[OpenRun], root: TenantNode) -> None:
        """Remember runs that were found as victims: they leave, and may come to be unclaimed again."""
        known = self._leavers(root)
        for run in runs:
            known[run.run_id] = run

    def _leavers(self, root: TenantNode) -> dict[int, OpenRun]:
        known = self._leaving.get(root.name)
        if known is None:
            known = self._leaving[root.name] = {
                run.run_id: run
                for leaf in root.leaves
                for run in self._runs.of_tenant.get(leaf.name, {}).values()
                if run.claimant is not None or run.evict_at is not None
            }
        return known

    # Figures.

    def scarcest(self, asking: Asking) -> str:
        """Of what is asked for the resource of which it is the largest part of what the tree has; of equals the first by name."""
        asked: dict[str, int] = {}
        for cell, amount in asking.takes:
            asked[cell.resource] = asked.get(cell.resource, 0) + amount
        best, best_total = "", 0
        for name in sorted(asked):
            total = self._total(asking.leaf.root, name)
            if not best or asked[name] * best_total > asked[best] * total:
                best, best_total = name, total
        return best

    def _total(self, root: TenantNode, resource: str) -> int:
        """What a tree has of a resource, over all flavors."""
        key = (root.name, resource)
        known = self._totals.get(key)
        if known is None:
            known = self._totals[key] = sum(cell.subtree for (_, name), cell in root.cells.items() if name == resource)
        return known

    def _rank(self, run: OpenRun, resource: str) -> Rank:
        amount = 0
        for cell, each in run.takes:
            if cell.resource == resource:
                amount += each
        lost = 0
        if amount:
            lost = self._now_us - run.opened_us
            every = run.workload.checkpoint_seconds
            if lost < 0:
                lost = 0
            elif every:
                lost %= every * SECOND
            lost *= amount
        return (run.terms.priority, lost, -run.opened_us, run.workload.id, run.run_id)


def _holds(takes: Takes, pair: Pair) -> bool:
    return any((cell.flavor, cell.resource) == pair for cell, _ in takes)


def _by_rank(candidate: Candidate) -> Rank:
    return candidate.rank


def _may_be_won(held: HeldClaim) -> bool:
    return bool(held.takes) and bool(getattr(held, "preemptible", True))


def _of_claim(held: HeldClaim, leaf: TenantNode) -> Candidate:
    return Candidate(held, leaf, (held.priority, 0, -held.claimed_us, held.workload.id, -1))
