"""Whose turn it is to make room: the leaf to be asked next, and whom of it.

From the root down it is the tenant with the highest share; of equals one with others under it before a leaf, then the one with the
first candidate, those of other tenants before the asker's own. Left out are leaves in which nobody is left, and tenants that do not use more than their own of anything needed,
but for the asker's tenant and those above it.

The children of each tenant are kept in a heap. What was taken from a leaf moves it and the tenants above it, so only those are
entered again (`asked`). Who is left out stays so, since usage only falls.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from aiqueue.admission.engine.candidates import Asking, Candidate, Candidates, Order
from aiqueue.admission.engine.tree import Cell, TenantNode
from aiqueue.admission.engine.trial import Trial
from aiqueue.queue.words import Reclaim

#: (the asker's own, rank)
_Place = tuple[bool, tuple[int, ...]]
#: (has a share that is not infinite, -share, is a leaf, place of the first candidate)
_Key = tuple[bool, int, bool, _Place]


class Lane:
    """The candidates of one leaf that the asker's policy lets be asked, in order.

    Attributes:
        leaf: of whom.
        own: whether it is the asker's.
        refused: the first that was refused and may be asked again.
    """

    __slots__ = ("_asking", "_at", "_cells", "_head", "_highest", "_order", "_resource", "_source", "leaf", "own", "refused")

    def __init__(self, leaf: TenantNode, asking: Asking, cells: frozenset[Cell], source: Candidates, resource: str) -> None:
        self.leaf = leaf
        self.own = leaf is asking.leaf
        self.refused: Candidate | None = None
        self._asking = asking
        self._cells = cells
        self._highest = asking.highest(leaf)
        self._source = source
        self._resource = resource
        self._order: Order | None = None
        self._at = 0 if cells else -1  # -1: nobody is left
        self._head: Candidate | None = None

    def head(self) -> Candidate | None:
        """The first that is left."""
        if self._head is None and self._at >= 0:
            self._head = self._find()
        return self._head

    def _find(self) -> Candidate | None:
        if self._order is None:
            self._order = self._source.in_order(self.leaf, self._resource)
        while (candidate := self._order.at(self._at)) is not None and candidate.rank[0] <= self._highest:
            if candidate.free() and self._asking.may_ask(candidate):
                for cell, _ in candidate.takes:
                    if cell in self._cells:
                        return candidate
            self._at += 1
        self._at = -1
        return None

    def step(self) -> None:
        """Go past the first."""
        self._head = None
        if self._at >= 0:
            self._at += 1

    def refuse(self) -> None:
        """Go past the first; who is put out for no share is not asked again."""
        head = self.head()
        if self.refused is None and head is not None and head.for_shares():
            self.refused = head
        self.step()

    def end(self) -> None:
        """Have nobody left."""
        self._head, self._at = None, -1

    def again(self) -> bool:
        """Begin again with the one that was refused; answers whether there is one."""
        self._head, self._at = self.refused, -1
        return self.refused is not None


class Turns:
    """The lanes of all leaves of a tree that may be asked."""

    def __init__(self, asking: Asking, candidates: Candidates, trial: Trial) -> None:
        self._root = asking.leaf.root
        self._trial = trial
        leaves = [asking.leaf] if asking.leaf.record.reclaim is Reclaim.NEVER else self._root.leaves
        resource = candidates.scarcest(asking)
        self._lanes = {leaf.name: Lane(leaf, asking, trial.needed_of(leaf), candidates, resource) for leaf in leaves}
        self._heaps: dict[str, list[tuple[_Key, str, int, TenantNode]]] = {}
        self._entered: dict[str, int] = {}  # entries of a tenant that carry another number are out of date

    def again(self) -> None:
        """Begin again with the first of each leaf that was refused and may be asked again."""
        self._lanes = {name: lane for name, lane in self._lanes.items() if lane.again()}
        self._heaps.clear()

    def next(self) -> Lane | None:
        """The leaf to be asked next, None where nobody is left."""
        node = self._root
        if self._left_out(node):
            return None
        while (child := self._first(node)) is not None:
            node = child
        return self._lanes[node.name]

    def asked(self, lane: Lane) -> None:
        """Somebody of a leaf was taken or refused."""
        node: TenantNode | None = lane.leaf
        while node is not None and node.parent is not None:
            self._entered[node.name] = self._entered.get(node.name, 0) + 1
            heap = self._heaps.get(node.parent.name)
            if heap is not None and not self._left_out(node):
                heappush(heap, self._entry(node))
            node = node.parent

    def _first(self, node: TenantNode) -> TenantNode | None:
        """The child whose turn it is, None where there is none."""
        if not node.children:
            return None
        heap = self._heaps.get(node.name)
        if heap is None:
            heap = self._heaps[node.name] = [self._entry(child) for child in node.children if not self._left_out(child)]
            heapify(heap)
        while heap:
            _, name, number, child = heap[0]
            if number == self._entered.get(name, 0) and not self._left_out(child):
                return child
            heappop(heap)
        return None

    def _left_out(self, node: TenantNode) -> bool:
        if not self._trial.on_path(node) and not self._trial.borrows(node):
            return True
        if node.children:
            return self._first(node) is None
        lane = self._lanes.get(node.name)
        return lane is None or lane.head() is None

    def _entry(self, node: TenantNode) -> tuple[_Key, str, int, TenantNode]:
        infinite, share = self._trial.share(node)
        key = (not infinite, -share, not node.children, self._first_place(node))
        return key, node.name, self._entered.get(node.name, 0), node

    def _first_place(self, node: TenantNode) -> _Place:
        """The least place of a candidate under a tenant that is not left out; it decides between equals alone."""
        if node.children:
            some = (self._first_place(child) for child in node.children if not self._left_out(child))
            return min(some, default=_NOWHERE)
        lane = self._lanes[node.name]
        head = lane.head()
        return (lane.own, head.rank) if head is not None else _NOWHERE


_NOWHERE: _Place = (True, ())
