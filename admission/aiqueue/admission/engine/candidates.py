"""Who may have to make room: runs of each leaf tenant, in the order in which they would be asked.

The order inside a leaf is: lower priority; least work lost; latest opened; id of the workload. Work lost is time (since the start
of the run, or its last checkpoint) times the amount held of the resource that is scarcest to whoever asks.

Claims are nobody's candidates, nor are the runs that one waits for: what is claimed is the claimant's until it is admitted, gone,
or wants it no longer.

Runs that are evicting and that no claim waits for stand apart: their room comes whatever is decided, so they are taken first, the
earliest end first.

A `Candidates` is made for one contest. Runs are sorted once for each leaf and resource; who came to be claimed since is stepped
over. Who is evicting unclaimed is looked up as it stands, since the contest itself changes that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop
from math import inf

from aiqueue.admission.engine.instants import Age, age_of, micros
from aiqueue.admission.engine.runs import OpenRun, Runs, Takes
from aiqueue.admission.engine.tree import Pair, TenantNode
from aiqueue.queue.records import Workload
from aiqueue.queue.words import Reclaim, WithinTenant

Rank = tuple[int, int, int, int, int]  # priority, work lost, -opened, workload, run: no two are equal

SHARE_RUNS = 5
"""In how many of its runs, from the first on, a workload may be put out by the rules on shares.

Without a bound these could go round together with the other rules for ever (`preemption.py`). Few enough that whoever is caught in
that comes to rest; enough for one who is put out because tenants come and go, which is what shares are for.
"""


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks for room: its leaf tenant, what it would take there, its priority and its age."""

    leaf: TenantNode
    takes: Takes
    priority: int
    age: Age

    def may_ask(self, candidate: Candidate) -> bool:
        """Whether the policy of its tenant lets it ask a candidate."""
        if candidate.rank[0] > self.highest(candidate.leaf):
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


class Candidate:
    """A run that may have to make room.

    Attributes:
        of: the run itself.
        leaf: the tenant that it is of.
        rank: where it stands inside its leaf.
    """

    __slots__ = ("leaf", "of", "rank")

    def __init__(self, of: OpenRun, leaf: TenantNode, rank: Rank) -> None:
        self.of = of
        self.leaf = leaf
        self.rank = rank

    @property
    def takes(self) -> Takes:
        """What it holds."""
        return self.of.takes

    @property
    def age(self) -> Age:
        """How old its workload is."""
        return age_of(self.of.workload)

    def for_shares(self) -> bool:
        """Whether the rules on shares may put it out: not in later runs of its workload."""
        return self.of.attempt <= SHARE_RUNS

    def free(self) -> bool:
        """Whether nobody told it to end, nor claims its room."""
        return self.of.claimant is None and self.of.evict_at is None


class Order:
    """The candidates of a leaf, sorted only as far as somebody looked.

    Args:
        leaf: whose they are.
        rank: tells where one stands.
        runs: its runs.
    """

    __slots__ = ("_groups", "_heap", "_known", "_leaf", "_rank")

    def __init__(self, leaf: TenantNode, rank: Callable[[OpenRun], Rank], runs: Iterable[OpenRun]) -> None:
        self._leaf = leaf
        self._rank = rank
        self._known: list[Candidate] = []
        by_priority: dict[int, list[OpenRun]] = {}
        for run in runs:
            by_priority.setdefault(run.terms.priority, []).append(run)
        self._groups = sorted(by_priority.items(), reverse=True)  # what is not looked at is not even ranked
        self._heap: list[tuple[Rank, OpenRun]] = []

    def at(self, place: int) -> Candidate | None:
        """The one at a place, from 0; None where there are not so many."""
        known = self._known
        while place >= len(known):
            if not self._heap:
                if not self._groups:
                    return None
                self._heap = [(self._rank(run), run) for run in self._groups.pop()[1]]
                heapify(self._heap)
            rank, run = heappop(self._heap)
            known.append(Candidate(run, self._leaf, rank))
        return known[place]


class Candidates:
    """The candidates of one contest.

    Args:
        runs: open runs, charged to the cells of `nodes`.
        nodes: tenants by name.
        now_us: the time of the contest.
    """

    def __init__(self, runs: Runs, nodes: Mapping[str, TenantNode], now_us: int) -> None:
        self._runs = runs
        self._nodes = nodes
        self._now_us = now_us
        self._orders: dict[tuple[str, str], Order] = {}
        self._searches: dict[tuple[str, Pair], _Least] = {}
        self._youngest: dict[tuple[str, Pair], dict[int, Workload]] = {}
        self._evicting: dict[str, list[Candidate]] = {}
        self._borrowers: dict[tuple[str, tuple[Pair, ...]], list[TenantNode]] = {}
        self._totals: dict[tuple[str, str], int] = {}

    def moved(self) -> None:
        """Forget what was remembered of usage, and of who is claimed. To be called whenever either changed."""
        self._evicting.clear()
        self._borrowers.clear()

    # Those who stay unless they are asked.

    def in_order(self, leaf: TenantNode, resource: str) -> Order:
        """The runs of a leaf in the order of somebody to whom this resource is the scarcest."""
        key = (leaf.name, resource)
        order = self._orders.get(key)
        if order is None:
            order = self._orders[key] = Order(leaf, lambda run: self._rank(run, resource), self._eligible(leaf.name))
        return order

    def any_below(self, leaf: TenantNode, pair: Pair, highest: float) -> bool:
        """Whether anybody of a leaf who holds something of a pair has at most this priority.

        May count some that came to be claimed.
        """
        priorities = self._runs.priorities.get(leaf.name)
        if not priorities or min(priorities) > highest:
            return False
        key = (leaf.name, pair)
        known = self._searches.get(key)
        if known is None:
            known = self._searches[key] = _Least(run for run in self._eligible(leaf.name) if _holds(run.takes, pair))
        return known.at_most(highest)

    def any_younger(self, leaf: TenantNode, pair: Pair, priority: int, age: Age) -> bool:
        """The same of those who have just this priority, and are younger."""
        if priority not in self._runs.priorities.get(leaf.name, ()):
            return False
        key = (leaf.name, pair)
        known = self._youngest.get(key)
        if known is None:
            known = self._youngest[key] = {}
            for run in self._eligible(leaf.name):
                if _holds(run.takes, pair):
                    best = known.get(run.terms.priority)
                    if best is None or (run.workload.submitted, run.workload.id) > (best.submitted, best.id):
                        known[run.terms.priority] = run.workload
        youngest = known.get(priority)
        return youngest is not None and age_of(youngest) > age

    def _eligible(self, tenant: str) -> Iterator[OpenRun]:
        """Runs that their contract lets others end now, and that nobody told to end."""
        now_us = self._now_us
        for run in list(self._runs.of_tenant.get(tenant, {}).values()):
            terms = run.terms
            if not terms.preemptible or run.evict_at is not None or run.claimant is not None:
                continue
            if run.takes and (not terms.min_runtime_us or run.candidate_from_us() <= now_us):
                yield run

    # Those that leave anyway.

    def evicting(self, root: TenantNode) -> list[Candidate]:
        """Runs of a tree that were told to end and that no claim waits for, the earliest end first."""
        known = self._evicting.get(root.name)
        if known is None:
            found = [
                (micros(run.evict_at), Candidate(run, node, self._rank(run, "")))
                for run in self._runs.leaving.values()
                if run.claimant is None and run.evict_at is not None and run.takes
                if (node := self._nodes.get(run.tenant)) is not None and node.root is root
            ]
            found.sort(key=lambda each: (each[0], each[1].rank))
            known = self._evicting[root.name] = [candidate for _, candidate in found]
        return known

    # Figures.

    def borrowers(self, root: TenantNode, pairs: tuple[Pair, ...]) -> list[TenantNode]:
        """The leaves of a tree that use more than their own of any of these."""
        key = (root.name, pairs)
        known = self._borrowers.get(key)
        if known is None:
            known = self._borrowers[key] = [leaf for leaf in root.leaves if _borrows(leaf, pairs)]
        return known

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
        workload = run.workload
        lost = 0
        if amount:
            lost = run.lost_us(self._now_us) * amount
        return (run.terms.priority, lost, -run.opened_us, workload.id, run.run_id)


class _Least:
    """The least priority among some runs, looked for only as far as need be."""

    __slots__ = ("_least", "_rest")

    def __init__(self, runs: Iterator[OpenRun]) -> None:
        self._rest = runs
        self._least: int | None = None

    def at_most(self, highest: float) -> bool:
        """Whether any has at most this priority."""
        if self._least is None or self._least > highest:
            for run in self._rest:
                if self._least is None or run.terms.priority < self._least:
                    self._least = run.terms.priority
                    if self._least <= highest:
                        break
        return self._least is not None and self._least <= highest


def _holds(takes: Takes, pair: Pair) -> bool:
    return pair in [(cell.flavor, cell.resource) for cell, _ in takes]


def _borrows(node: TenantNode, pairs: tuple[Pair, ...]) -> bool:
    cells = node.cells
    return any((cell := cells.get(pair)) is not None and cell.usage > cell.subtree for pair in pairs)
