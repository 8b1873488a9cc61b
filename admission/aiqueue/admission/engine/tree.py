"""The tenant tree and its algebra of nominal quota, borrowing and lending.

A `TenantNode` is a tenant; a `Cell` is what it has of one resource of one flavor, linked to the cell of its parent. All of the
algebra is in `Cell`, and is the same for leaves, inner tenants and roots:

    subtree    = own nominal + what every child puts in (its subtree less what it guarantees)
    guaranteed = max(0, subtree - lending limit) where there is one, else 0: never visible to the parent
    usage      = own runs + what every child uses beyond what it guarantees
    available  = what is left of the guaranteed + what the parent has available, up to the borrowing limit

Usage is kept by difference: a change walks up only as far as it is felt. A tenant that stands alone is the simplest tree, where
available is nominal less usage. Available may be negative where a quota was lowered or a run adopted: nothing is evicted for it.

While somebody claims room that is still being vacated there are two usages. `usage` is what was agreed: who makes room counts no
longer, and who claims it counts already. That is what all rules go by. `actual` is a cell of its own, in a tree of such cells, with
what open runs really hold. What is taken has to fit both, so nobody gets what is not there yet, nor what is another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set

from aiqueue.admission.engine.ordered import Ordered
from aiqueue.queue.records import Quota, Tenant
from aiqueue.queue.words import ObjectState

Pair = tuple[str, str]  # (flavor, resource)


class Cell:
    """What one tenant has, guarantees and uses of one resource of one flavor, in base units of the resource.

    Attributes:
        actual: the same with what open runs hold now, where claims make that another; None where they do not.
        twin: what `actual` was, and will be, when there is one.
    """

    __slots__ = (
        "actual",
        "borrowing_limit",
        "flavor",
        "guaranteed",
        "holders",
        "lending_limit",
        "lot",
        "nominal",
        "parent",
        "potential",
        "resource",
        "subtree",
        "tenant",
        "twin",
        "usage",
        "watch",
    )

    def __init__(self, tenant: str, pair: Pair) -> None:
        self.tenant = tenant
        self.flavor, self.resource = pair
        self.nominal = 0
        self.borrowing_limit: int | None = None
        self.lending_limit: int | None = None
        self.subtree = 0
        self.guaranteed = 0
        self.potential = 0
        self.usage = 0
        self.watch = 0  # the most that a contender under it would take from it: while there is room for that, all still fit
        self.parent: Cell | None = None
        self.actual: Cell | None = None
        self.twin: Cell | None = None
        self.lot: Ordered[tuple[int, int]] = Ordered()  # (need, bucket): parked until there is room for the need
        self.holders: Ordered[tuple[int, str, str, int]] = Ordered()  # (-amount, namespace, name, workload)

    def local_available(self) -> int:
        """What is left of what is guaranteed, and so never lent."""
        return self.guaranteed - self.usage if self.guaranteed > self.usage else 0

    def room(self) -> int:
        """What this cell alone lets through to its parent; at the root, what is left of everything."""
        if self.parent is None:
            return self.subtree - self.usage
        if self.borrowing_limit is None:
            return self.parent.left()
        stored = self.subtree - self.guaranteed
        used = max(0, self.usage - self.guaranteed)
        return stored - used + self.borrowing_limit

    def left(self) -> int:
        """What may still be taken here by the usage of this cell alone; negative where more is used than there is."""
        if self.parent is None:
            return self.subtree - self.usage
        beyond = self.parent.left()
        if self.borrowing_limit is not None:
            beyond = min(beyond, self.room())
        return self.local_available() + beyond

    def available(self) -> int:
        """What may be taken here now: what is left as agreed, and of what is really there."""
        return self.left() if self.actual is None else min(self.left(), self.actual.left())

    def refusing(self, amount: int) -> Cell:
        """Which usage refuses `amount`, that of this cell or the actual one; this one where both do."""
        return self if self.actual is None or amount > self.left() else self.actual

    def borrows(self, amount: int) -> bool:
        """Whether taking `amount` would use more than this tenant and those under it put in."""
        return self.usage + amount > self.subtree

    def above(self) -> Iterator[Cell]:
        """The cells of the tenants above, the nearest first."""
        cell = self.parent
        while cell is not None:
            yield cell
            cell = cell.parent

    def reaches(self, amount: int, cells: Set[Cell]) -> bool:
        """Whether taking `amount` here would take from any of these cells above it, now."""
        cell = self
        while cell.parent is not None:
            amount -= cell.local_available()
            if amount <= 0:
                return False
            cell = cell.parent
            if cell in cells:
                return True
        return False

    def stakes(self, amount: int) -> Iterator[Cell]:
        """The cells above that have to give something for `amount` to fit here, were all of them unused."""
        cell = self
        while cell.parent is not None:
            amount -= cell.guaranteed
            if amount <= 0:
                return
            cell = cell.parent
            yield cell

    def borrow_level(self, amount: int) -> int:
        """How high in the tree `amount` has to be borrowed from: 0 here, else the tenants climbed to one that can cover it."""
        if self.parent is None or not self.borrows(amount):
            return 0
        cell, level, rest = self, 0, amount
        while cell.parent is not None:
            rest -= cell.local_available()
            cell, level = cell.parent, level + 1
            if not cell.borrows(rest):
                break
        return level

    def add(self, amount: int) -> None:
        """Use `amount` more."""
        cell = self
        while cell.parent is not None:
            beyond = amount - cell.local_available()
            cell.usage += amount
            if beyond <= 0:
                return
            cell, amount = cell.parent, beyond
        cell.usage += amount

    def remove(self, amount: int) -> list[Cell]:
        """Use `amount` less, the exact inverse of `add`; answers the cells whose usage changed, lowest first."""
        changed: list[Cell] = []
        cell: Cell | None = self
        while cell is not None and amount > 0:
            stored = max(0, cell.usage - cell.guaranteed)
            cell.usage -= amount
            changed.append(cell)
            cell, amount = cell.parent, min(amount, stored)
        return changed

    def part(self) -> None:
        """Keep the actual usage apart from here on; that of the parent is already. It is the same cell each time."""
        if self.twin is None:
            self.twin = Cell(self.tenant, (self.flavor, self.resource))
            for name in ("nominal", "borrowing_limit", "lending_limit", "subtree", "guaranteed", "potential"):
                setattr(self.twin, name, getattr(self, name))
        self.twin.usage = self.usage
        self.twin.parent = self.parent.actual if self.parent is not None else None
        self.actual = self.twin

    def blocks(self, amount: int) -> list[tuple[Cell, int | None]]:
        """Which cells have to move before `amount` fits, which it does not now.

        Answers (cell, need): the last is the lowest cell that refuses, and what it must have as `room`. Before it come the cells
        below it. Where a guaranteed part would lessen the need any change counts, and the need is None.
        """
        found: list[tuple[Cell, int | None]] = []
        cell, need = self, amount
        while cell.parent is not None:
            need -= cell.local_available()
            if cell.borrowing_limit is not None and need > cell.room():
                return [*found, (cell, None if cell.guaranteed else need)]
            if cell.guaranteed:
                found.append((cell, None))
            cell = cell.parent
        found.append((cell, need))
        return found


class TenantNode:
    """A tenant in the tree.

    Attributes:
        children: sorted by name.
        leaves: the tenants under it that have none, or itself.
        root: the top of its tree.
        depth: tenants above it.
        fault: a sentence where its parents make no tree.
    """

    __slots__ = ("cells", "children", "depth", "fault", "leaves", "name", "parent", "record", "root")

    def __init__(self, record: Tenant) -> None:
        self.name = record.name
        self.record = record
        self.parent: TenantNode | None = None
        self.root = self
        self.depth = 0
        self.children: list[TenantNode] = []
        self.leaves: list[TenantNode] = []
        self.cells: dict[Pair, Cell] = {}
        self.fault: str | None = None

    def path(self) -> Iterator[TenantNode]:
        """This tenant and those above it, up to the root."""
        node: TenantNode | None = self
        while node is not None:
            yield node
            node = node.parent

    def under(self) -> Iterator[TenantNode]:
        """This tenant and all under it, each after the one above it."""
        todo = [self]
        while todo:
            node = todo.pop()
            yield node
            todo.extend(reversed(node.children))

    def cell(self, pair: Pair) -> Cell:
        """The cell of a pair, made with nothing in it (and so for the tenants above) where nobody listed it."""
        cell = self.cells.get(pair)
        if cell is None:
            cell = self.cells[pair] = Cell(self.name, pair)
            if self.parent is not None:
                cell.parent = self.parent.cell(pair)
                cell.potential = cell.parent.potential
                if cell.parent.actual is not None:
                    cell.part()
        return cell

    def closed_by(self) -> TenantNode | None:
        """The nearest tenant, this one or above, that is not Active or stands in no tree."""
        return next((node for node in self.path() if node.fault or node.record.state is not ObjectState.ACTIVE), None)

    def draining(self) -> TenantNode | None:
        """The nearest tenant, this one or above, that is being drained."""
        return next((node for node in self.path() if node.record.state is ObjectState.DRAIN), None)


def ways_up(cells: Iterable[Cell]) -> list[Cell]:
    """These cells and all above them, each once."""
    return list(dict.fromkeys(each for cell in cells for each in (cell, *cell.above())))


def build_tree(tenants: Mapping[str, Tenant]) -> dict[str, TenantNode]:
    """Make the nodes of all tenants, by name, with their quotas and no usage.

    A tenant whose parent is missing, or whose parents go round in a circle, stands alone and has its `fault` set.
    """
    nodes = {name: TenantNode(tenants[name]) for name in sorted(tenants)}
    for node in nodes.values():
        _link(node, nodes)
    ordered: list[TenantNode] = []  # parents before children
    todo = [node for node in nodes.values() if node.parent is None]
    while todo:
        node = todo.pop()
        ordered.append(node)
        for child in node.children:
            child.root, child.depth = node.root, node.depth + 1
        todo.extend(node.children)
    for node in reversed(ordered):
        _sum_up(node)
    for node in ordered:
        for cell in node.cells.values():
            _bound(cell)
    return nodes


def _link(node: TenantNode, nodes: Mapping[str, TenantNode]) -> None:
    parent = node.record.parent
    seen = [node.name]
    while parent is not None:
        if parent not in nodes:
            node.fault = f"its parent {parent} does not exist"
            return
        if parent in seen:
            node.fault = f"its parents go round in a circle: {' under '.join([*seen, parent])}"
            return
        seen.append(parent)
        parent = nodes[parent].record.parent
    if node.record.parent is not None:
        node.parent = nodes[node.record.parent]
        node.parent.children.append(node)


def _sum_up(node: TenantNode) -> None:
    """Fill subtree and guaranteed of a node whose children are done."""
    node.leaves = [leaf for child in node.children for leaf in child.leaves] or [node]
    for quota in node.record.quotas:
        _enter(node, quota)
    for child in node.children:
        for pair, below in child.cells.items():
            if pair not in node.cells:
                node.cells[pair] = Cell(node.name, pair)
            below.parent = node.cells[pair]
            below.parent.subtree += below.subtree - below.guaranteed
    if node.parent is not None:
        for cell in node.cells.values():
            if cell.lending_limit is not None:
                cell.guaranteed = max(0, cell.subtree - cell.lending_limit)


def _enter(node: TenantNode, quota: Quota) -> None:
    pair = (quota.flavor, quota.resource)
    cell = node.cells[pair] = Cell(node.name, pair)
    cell.nominal = cell.subtree = quota.nominal
    cell.borrowing_limit = quota.borrowing_limit
    cell.lending_limit = quota.lending_limit


def _bound(cell: Cell) -> None:
    """Fill the potential, the most that could ever be used here, of a cell whose parent is done."""
    if cell.parent is None:
        cell.potential = cell.subtree
        return
    cell.potential = cell.guaranteed + cell.parent.potential
    if cell.borrowing_limit is not None:
        cell.potential = min(cell.potential, cell.subtree + cell.borrowing_limit)
