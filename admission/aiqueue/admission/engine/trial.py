"""A tree lent to a search for victims: what it would look like with the asker in it and others out of it.

Only agreed usage is touched, and only at cells of leaves, from which all other usage follows. So any order of putting things back
restores everything exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiqueue.admission.engine.runs import Takes
from aiqueue.admission.engine.shares import Scales, Share
from aiqueue.admission.engine.tree import Cell, Pair, TenantNode


class Trial:
    """One tree, as it would be.

    Attributes:
        leaf: the tenant of who asks.
        needed: the pairs that there is too little of.
    """

    def __init__(self, leaf: TenantNode, takes: Takes, scales: Scales) -> None:
        self.leaf = leaf
        self._asked: dict[Cell, int] = {}
        for cell, amount in takes:
            self._asked[cell] = self._asked.get(cell, 0) + amount
        self.needed: tuple[Pair, ...] = tuple(
            (cell.flavor, cell.resource) for cell, amount in self._asked.items() if amount > cell.left()
        )
        self._cells = list(self._asked)
        self._own = [cell for cell in self._cells if (cell.flavor, cell.resource) in set(self.needed)]
        self._scales = scales
        self._path = {node.name: node for node in leaf.path()}
        self._net: dict[Cell, int] = {}
        self._shares: dict[str, Share] = {}
        self._borrowing: dict[str, bool] = {}
        self._ways: dict[str, tuple[TenantNode, ...]] = {}
        self._needed_cells: dict[str, frozenset[Cell]] = {}

    # What changes it.

    def enter(self) -> None:
        """Charge what is asked for."""
        self.use(tuple(self._asked.items()), self.leaf)

    def use(self, takes: Takes, leaf: TenantNode) -> None:
        """Charge what a leaf takes."""
        net = self._net
        for cell, amount in takes:
            cell.add(amount)
            net[cell] = net.get(cell, 0) + amount
        self._forget(leaf)

    def free(self, takes: Takes, leaf: TenantNode) -> None:
        """The inverse of `use`."""
        net = self._net
        for cell, amount in takes:
            cell.remove(amount)
            net[cell] = net.get(cell, 0) - amount
        self._forget(leaf)

    def restore(self) -> None:
        """Leave the tree as it was found."""
        while self._net:
            cell, amount = self._net.popitem()
            if amount > 0:
                cell.remove(amount)
            elif amount < 0:
                cell.add(-amount)
        self._shares.clear()
        self._borrowing.clear()

    def _forget(self, leaf: TenantNode) -> None:
        node: TenantNode | None = leaf
        while node is not None:
            self._shares.pop(node.name, None)
            self._borrowing.pop(node.name, None)
            node = node.parent

    # What is asked of it.

    def fits(self) -> bool:
        """Whether all that is asked for is within every limit."""
        return all(cell.left() >= 0 for cell in self._cells)

    def within_nominal(self) -> bool:
        """Whether the asker's tenant uses no more than its own of all that is needed."""
        return all(cell.usage <= cell.subtree for cell in self._own)

    def on_path(self, node: TenantNode) -> bool:
        """Whether it is the asker's tenant, or above it."""
        return node.name in self._path

    def needs(self, takes: Takes, leaf: TenantNode) -> bool:
        """Whether any of what a leaf takes is needed."""
        cells = self.needed_of(leaf)
        return any(cell in cells for cell, _ in takes)

    def needed_of(self, leaf: TenantNode) -> frozenset[Cell]:
        """The cells of a leaf of what is needed."""
        known = self._needed_cells.get(leaf.name)
        if known is None:
            cells = frozenset(leaf.cells[pair] for pair in self.needed if pair in leaf.cells)
            known = self._needed_cells[leaf.name] = cells
        return known

    def borrows(self, node: TenantNode) -> bool:
        """Whether a tenant uses more than its own of anything that is needed."""
        known = self._borrowing.get(node.name)
        if known is None:
            cells = node.cells
            known = False
            for pair in self.needed:
                cell = cells.get(pair)
                if cell is not None and cell.usage > cell.subtree:
                    known = True
                    break
            self._borrowing[node.name] = known
        return known

    def share(self, node: TenantNode) -> Share:
        """The share of a tenant."""
        known = self._shares.get(node.name)
        if known is None:
            known = self._shares[node.name] = self._scales.of(node).share(_NOTHING)
        return known

    def way(self, leaf: TenantNode) -> tuple[TenantNode, ...]:
        """Another leaf and the tenants above it, up to below the lowest common ancestor with the asker."""
        known = self._ways.get(leaf.name)
        if known is None:
            found = []
            node: TenantNode | None = leaf
            while node is not None and node.name not in self._path:
                found.append(node)
                node = node.parent
            known = self._ways[leaf.name] = tuple(found)
        return known

    def sides(self, leaf: TenantNode) -> tuple[TenantNode, TenantNode]:
        """The two children of the lowest common ancestor: the asker's, and the one that another leaf is under."""
        theirs = self.way(leaf)[-1]
        mine = self.leaf
        while mine.parent is not theirs.parent and mine.parent is not None:
            mine = mine.parent
        return mine, theirs

    def meets_at(self, leaf: TenantNode) -> int:
        """How deep the lowest common ancestor of the asker and another leaf is; that of its own is itself."""
        return leaf.depth if leaf is self.leaf else self.way(leaf)[-1].depth - 1

    def is_less(self, leaf: TenantNode) -> bool:
        """Whether the asker's share, where it meets another leaf, is less than that one's side."""
        mine, theirs = self.sides(leaf)
        return self.share(mine) < self.share(theirs)

    def stays_no_more(self, leaf: TenantNode, takes: Takes) -> bool:
        """Whether it would still be no more were that leaf to take this less."""
        mine, theirs = self.sides(leaf)
        least = self.share(mine)
        self.free(takes, leaf)
        holds = least <= self.share(theirs)
        self.use(takes, leaf)
        return holds


_NOTHING: Mapping[Cell, int] = {}
