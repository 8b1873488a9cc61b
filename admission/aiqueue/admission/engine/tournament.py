"""Who goes next: the hierarchical fair-share tournament.

Of each leaf tenant its next workload that fits contends. At each tenant with others under it the winner among these is the one

1. whose part of the tree, with the contender admitted, uses no more than its own of what the contender takes;
2. then, whose share is lowest, after admission (`shares.py`);
3. then, whose contender has the higher priority;
4. then, whose contender is older.

The winner stands for that tenant one level up. Roots do not compete for quota; among them priority decides, then age, only to
say who is written first.

The tournament lives from decide to decide. Who won is kept at each tenant in a heap of its children; what an admission or an
arrival changes is the way from one leaf to its root, so that is all that is played again (`play`).
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count

from aiqueue.admission.engine.buckets import Contender
from aiqueue.admission.engine.instants import Age
from aiqueue.admission.engine.shares import Scale
from aiqueue.admission.engine.tree import Cell, TenantNode

_SLACK = 32  # entries out of date that a heap may hold beside four for each child
#: borrows (or has weight 0), share, -priority, (where shares are as they are) -what the share would be, age
_Key = tuple[bool, bool, int, int, int, Age]


class _Seat:
    """A tenant in the tournament: who stands for it, and the heap of its children by what they bring."""

    __slots__ = ("after", "heap", "node", "parent", "played", "scale", "winner")

    def __init__(self, node: TenantNode, parent: _Seat | None, *, after: bool) -> None:
        self.after = after
        self.node = node
        self.parent = parent
        self.scale = Scale(node)
        self.heap: list[tuple[_Key, int, _Seat]] = []
        self.played = 0  # entries of this seat that carry another number are out of date; no two of any seats carry the same
        self.winner: Contender | None = None

    def key(self) -> _Key:
        """Where it stands among its siblings."""
        winner = self.winner
        if winner is None:
            raise ValueError(f"tenant {self.node.name} has nobody in the tournament")
        reserved = winner.line.reserved
        for cell, amount in reversed(reserved):  # it does not stand in its own tenant's way
            cell.remove(amount)
        key = self._key(winner)
        for cell, amount in reserved:
            cell.add(amount)
        return key

    def _key(self, winner: Contender) -> _Key:
        climbs = winner.depth - self.node.depth
        borrows = False
        added: dict[Cell, int] = {}
        for leaf, wanted in winner.placement.takes:
            cell, amount = leaf, wanted
            for _ in range(climbs):
                amount = max(0, amount - cell.local_available())
                if cell.parent is not None:
                    cell = cell.parent
            if amount > 0:
                added[cell] = amount
            if cell.usage + amount > cell.subtree:
                borrows = True
        infinite, share = self.scale.share(added)
        if self.after:
            return (borrows, infinite, share, -winner.priority, 0, winner.age)
        return (self.scale.weightless, *self.scale.share({}), -winner.priority, -share, winner.age)

    def crown(self) -> None:
        """Find who stands for it among its children."""
        heap = self.heap
        if len(heap) > 4 * len(self.node.children) + _SLACK:
            heap = self.heap = [each for each in heap if each[1] == each[2].played]
            heapify(heap)
        while heap and heap[0][1] != heap[0][2].played:
            heappop(heap)
        self.winner = heap[0][2].winner if heap else None


class Tournament:
    """The tournament over all trees of one configuration.

    Args:
        after: go by shares as they would be with the contender admitted. Else by shares as they are, whatever it asks for; who
            has weight 0 comes last, and of equals who asks for more comes first, since room for the other comes by sooner.
    """

    def __init__(self, *, after: bool = True) -> None:
        self._after = after
        self._seats: dict[str, _Seat] = {}
        self._roots: list[tuple[int, Age, int, _Seat]] = []
        # What came over from another queue may stand as high as the entry, out of date, that it left there.
        self._plays = count(1)

    def clear(self) -> None:
        """Begin anew, over other trees."""
        self._seats.clear()
        self._roots.clear()

    def play(self, leaf: TenantNode, contender: Contender | None) -> None:
        """Let a leaf send this contender, or nobody, and play its way up again. Also after its usage changed."""
        seat = self._seat(leaf)
        seat.winner = contender
        while seat.parent is not None:
            seat.played = next(self._plays)
            if seat.winner is not None:
                heappush(seat.parent.heap, (seat.key(), seat.played, seat))
            seat = seat.parent
            seat.crown()
        seat.played = next(self._plays)
        if seat.winner is not None:
            heappush(self._roots, (-seat.winner.priority, seat.winner.age, seat.played, seat))
            if len(self._roots) > 4 * len(self._seats) + _SLACK:
                self._roots = [each for each in self._roots if each[2] == each[3].played]
                heapify(self._roots)

    def winner(self, root: TenantNode) -> Contender | None:
        """Who won in one tree."""
        seat = self._seats.get(root.name)
        return seat.winner if seat is not None else None

    def best(self) -> Contender | None:
        """Who goes next, None where nobody is left."""
        roots = self._roots
        while roots and roots[0][2] != roots[0][3].played:
            heappop(roots)
        return roots[0][3].winner if roots else None

    def _seat(self, node: TenantNode) -> _Seat:
        seat = self._seats.get(node.name)
        if seat is None:
            parent = self._seat(node.parent) if node.parent is not None else None
            seat = self._seats[node.name] = _Seat(node, parent, after=self._after)
        return seat
