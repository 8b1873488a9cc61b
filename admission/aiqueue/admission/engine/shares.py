"""Fair shares: how much of what could be lent a tenant borrows, by its weight.

    share = max over resources of (borrowed / lendable) / weight
    borrowed = sum over flavors of what is used beyond the subtree quota
    lendable = sum over the pairs known at the root of the most that could ever be used in the parent

A tenant that borrows nothing has share 0. One of weight 0 that borrows has an infinite one; of two such the ratio decides.
Shares are only ever compared among siblings, whose lendable is the same. So they are kept as integers, over a common denominator
of all siblings, and comparing them is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import lcm

from aiqueue.admission.engine.tree import Cell, TenantNode

#: (infinite, amount over the common denominator of the siblings)
Share = tuple[bool, int]
_NONE: Share = (False, 0)


class Scale:
    """What turns the amounts that one tenant borrows into shares that compare with those of its siblings.

    Attributes:
        parts: for each resource that can be lent, the factor and the cells of all flavors.
        denominator: of the integers, the same for all siblings.
    """

    __slots__ = ("_known", "_node", "denominator", "parts", "weightless")

    def __init__(self, node: TenantNode) -> None:
        self._node = node
        self._known = -1
        self.weightless = node.record.weight == 0
        self.parts: list[tuple[int, list[Cell]]] = []
        self.denominator = 1

    def measure(self) -> None:
        """Look again where cells were added since: a run may hold what nobody listed."""
        if self._known == len(self._node.cells) or self._node.parent is None:
            return
        parent = self._node.parent
        lendable: dict[str, int] = {}
        for pair in self._node.root.cells:
            lendable[pair[1]] = lendable.get(pair[1], 0) + parent.cell(pair).potential
        siblings = [child.record.weight for child in parent.children if child.record.weight > 0]
        over = lcm(*(amount for amount in lendable.values() if amount > 0)) * lcm(*(each.numerator for each in siblings))
        weight = self._node.record.weight or Fraction(1)
        cells: dict[str, list[Cell]] = {}
        for (_, resource), cell in self._node.cells.items():
            cells.setdefault(resource, []).append(cell)
        self.parts = [
            (over * weight.denominator // (lendable[resource] * weight.numerator), of_one)
            for resource, of_one in cells.items()
            if lendable.get(resource, 0) > 0
        ]
        self.denominator = over
        self._known = len(self._node.cells)

    def share(self, added: Mapping[Cell, int]) -> Share:
        """The share were `added` used on top."""
        self.measure()
        most = 0
        for factor, cells in self.parts:
            borrowed = 0
            for cell in cells:
                over = cell.usage + added.get(cell, 0) - cell.subtree
                if over > 0:
                    borrowed += over
            if borrowed:
                most = max(most, borrowed * factor)
        return (self.weightless, most) if most else _NONE


class Scales:
    """The scales of all tenants of one configuration, made when they are first asked for."""

    def __init__(self) -> None:
        self._of: dict[str, Scale] = {}

    def of(self, node: TenantNode) -> Scale:
        """That of a tenant."""
        scale = self._of.get(node.name)
        if scale is None:
            scale = self._of[node.name] = Scale(node)
        return scale


def share_of(node: TenantNode) -> Fraction | None:
    """The share of a tenant as it is; 0 at a root, None where it is infinite."""
    if node.parent is None:
        return Fraction(0)
    scale = Scale(node)
    infinite, amount = scale.share({})
    return None if infinite else Fraction(amount, scale.denominator)
