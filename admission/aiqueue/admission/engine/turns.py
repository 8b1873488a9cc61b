"""Whose turn it is to make room: the leaf to be asked next, and whom of it.

From the root down it is the tenant with the highest share; of equals one with others under it before a leaf, then the one with the
first candidate. Left out are leaves in which nobody is left, and tenants that do not use more than their own of anything needed,
but for the asker's tenant and those above it.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiqueue.admission.engine.candidates import Asking, Candidate, Candidates
from aiqueue.admission.engine.tree import Cell, TenantNode
from aiqueue.admission.engine.trial import Trial
from aiqueue.queue.words import Reclaim


class Lane:
    """The candidates of one leaf that the asker's policy lets be asked, in order.

    Attributes:
        leaf: of whom.
        own: whether it is the asker's.
        refused: the first that was refused and may be asked again.
    """

    __slots__ = ("_asking", "_at", "_cells", "_highest", "_known", "_resource", "_source", "leaf", "own", "refused")

    def __init__(self, leaf: TenantNode, asking: Asking, cells: frozenset[Cell], source: Candidates, resource: str) -> None:
        self.leaf = leaf
        self.own = leaf is asking.leaf
        self.refused: Candidate | None = None
        self._asking = asking
        self._cells = cells
        self._highest = asking.highest(leaf)
        self._source = source
        self._resource = resource
        self._known: Sequence[Candidate] | None = None
        self._at = 0

    def head(self) -> Candidate | None:
        """The first that is left."""
        known = self._known
        if known is None:
            known = self._known = self._source.in_order(self.leaf, self._resource) if self._cells else ()
        while self._at < len(known):
            candidate = known[self._at]
            if candidate.rank[0] > self._highest:
                break
            if candidate.free() and any(cell in self._cells for cell, _ in candidate.takes) and self._asking.may_ask(candidate):
                return candidate
            self._at += 1
        self.end()
        return None

    def step(self) -> None:
        """Go past the first."""
        self._at += 1

    def refuse(self) -> None:
        """Go past the first; who was put out before is not asked again."""
        head = self.head()
        if self.refused is None and head is not None and head.first_run():
            self.refused = head
        self._at += 1

    def end(self) -> None:
        """Have nobody left."""
        self._known, self._at = (), 0

    def again(self) -> bool:
        """Begin again with the one that was refused first; answers whether there is one."""
        self._known, self._at = ((self.refused,) if self.refused is not None else ()), 0
        return self.refused is not None


class Turns:
    """The lanes of all leaves of a tree that may be asked."""

    def __init__(self, asking: Asking, candidates: Candidates, trial: Trial) -> None:
        self._root = asking.leaf.root
        self._trial = trial
        leaves = [asking.leaf] if asking.leaf.record.reclaim is Reclaim.NEVER else self._root.leaves
        resource = candidates.scarcest(asking)
        self._lanes = {leaf.name: Lane(leaf, asking, trial.needed_of(leaf), candidates, resource) for leaf in leaves}

    def again(self) -> None:
        """Begin again with the first of each leaf that was refused and may be asked again."""
        self._lanes = {name: lane for name, lane in self._lanes.items() if lane.again()}

    def next(self) -> Lane | None:
        """The leaf to be asked next, None where nobody is left."""
        node = self._root
        if self._pruned(node):
            return None
        while node.children:
            node = self._greatest([child for child in node.children if not self._pruned(child)])
        return self._lanes[node.name]

    def _pruned(self, node: TenantNode) -> bool:
        if not self._trial.on_path(node) and not self._trial.borrows(node):
            return True
        if node.children:
            return all(self._pruned(child) for child in node.children)
        lane = self._lanes.get(node.name)
        return lane is None or lane.head() is None

    def _greatest(self, nodes: list[TenantNode]) -> TenantNode:
        if len(nodes) == 1:
            return nodes[0]
        most = max((self._trial.share(node), bool(node.children)) for node in nodes)
        equal = [node for node in nodes if (self._trial.share(node), bool(node.children)) == most]
        return equal[0] if len(equal) == 1 else min(equal, key=self._first_rank)

    def _first_rank(self, node: TenantNode) -> tuple[int, ...]:
        """The least rank of a candidate under a tenant that is not left out."""
        if node.children:
            return min(self._first_rank(child) for child in node.children if not self._pruned(child))
        head = self._lanes[node.name].head()
        return head.rank if head is not None else ()
