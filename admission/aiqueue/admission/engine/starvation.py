"""Who waited so long that others of its tree may no longer borrow what it waits for.

A head of a bucket is overdue when it has waited longer than its tenant's starvation bound. Within its own tenant those behind it
then leave alone what it may need (`buckets.py`). Over the tree it keeps other tenants from borrowing what it has a stake in: the
cells above it that have to give something for it to fit, were nothing used. What a tenant has of its own it may go on using.

- What is not overdue itself may borrow nothing that anybody overdue has a stake in.
- What is overdue may borrow nothing that the champion has a stake in: of the first overdue head of each tenant, whether they fit
  or not, that of the tenant which has the lowest share now; of equals, by priority, who asks for more. So where everybody waits
  too long, fair shares decide whose turn it is; a gang of a tenant that has little is not passed over for being large; and the
  champion waits for nobody, so no two wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aiqueue.admission.engine.buckets import Bucket, Contender, Line
from aiqueue.admission.engine.needs import Needs
from aiqueue.admission.engine.search import NOTHING
from aiqueue.admission.engine.tournament import Tournament
from aiqueue.admission.engine.tree import Cell, TenantNode


@dataclass(frozen=True, slots=True)
class Concern:
    """Who of a tree may borrow what he might not before, or the other way round.

    Attributes:
        fresh: all that is not overdue.
        overdue: all that is.
        lines: names of lines of which all is concerned.
    """

    root: TenantNode
    fresh: bool = False
    overdue: bool = False
    lines: frozenset[str] = frozenset()

    def concerns(self, bucket: Bucket) -> bool:
        """Whether a bucket of the tree is among them."""
        return (self.fresh if bucket.overdue is None else self.overdue) or bucket.line.name in self.lines

    def and_also(self, other: Concern) -> Concern:
        """Those of both."""
        fresh, overdue = self.fresh or other.fresh, self.overdue or other.overdue
        return Concern(self.root, fresh=fresh, overdue=overdue, lines=self.lines | other.lines)


class Watch:
    """The lines of each tree that have somebody overdue, and the tournament among these."""

    def __init__(self) -> None:
        self._trees: dict[str, dict[str, Line]] = {}
        self._tournament = Tournament(after=False)
        self._champions: dict[str, Contender] = {}  # by root

    def add(self, bucket: Bucket, root: TenantNode) -> None:
        """Enter a bucket whose head is past its deadline."""
        line = bucket.line
        bucket.overdue = bucket.item
        line.overdue.add(bucket.item)
        self._trees.setdefault(root.name, {})[line.name] = line

    def remove(self, bucket: Bucket, root: TenantNode) -> None:
        """Take it out."""
        line = bucket.line
        if bucket.overdue is not None:
            line.overdue.remove(bucket.overdue)
            bucket.overdue = None
            if not len(line.overdue):
                del self._trees[root.name][line.name]

    def watches(self, root: TenantNode) -> bool:
        """Whether anybody of a tree is overdue."""
        return bool(self._trees.get(root.name))

    def play(self, line: Line, node: TenantNode) -> Concern | None:
        """Let a line send its first overdue head, if it has one; answers whom it concerns that the champion is another now."""
        root = node.root
        first = next(_heads(line), None)
        vigil: Contender | None = None
        if first is not None and isinstance(first.needs, Needs) and first.needs.preferred is not None:
            vigil = Contender(line, first, first.needs.preferred)
        before = self._champions.pop(root.name, None)
        if vigil is None and line.vigil is None and before is None and not self.watches(root):
            return None
        line.vigil = vigil
        self._tournament.play(node, vigil)
        champion = self._tournament.winner(root)
        if champion is not None:
            self._champions[root.name] = champion
        if before is None or champion is None:
            return None if before is champion else Concern(root, overdue=True)
        if before.age == champion.age:
            return None
        alike = _stakes(before) == _stakes(champion)
        return Concern(root, lines=frozenset((before.line.name, champion.line.name)), overdue=not alike)

    def keepers(self, bucket: Bucket) -> Iterator[Bucket]:
        """Those of other tenants of its tree that may keep a bucket from borrowing."""
        node = bucket.line.node
        if node is None or not self.watches(node.root):
            return
        if bucket.overdue is not None:
            champion = self._champions.get(node.root.name)
            if champion is None or champion.line is bucket.line:
                return
            if champion.bucket.overdue is not None:  # else it is gone, and its line is still to be looked at
                yield champion.bucket
            return
        for line in self._trees[node.root.name].values():
            if line is not bucket.line:
                yield from _heads(line)

    def stakes_against(self, bucket: Bucket, needs: Needs) -> frozenset[Cell]:
        """The cells that a bucket may not borrow from."""
        found = NOTHING
        for keeper in self.keepers(bucket):
            if isinstance(keeper.needs, Needs):
                found |= keeper.needs.stakes & needs.above
                if found == needs.above:
                    break
        return found

    def keeper_of(self, bucket: Bucket, needs: Needs) -> Bucket | None:
        """The one that has a stake in what a bucket would have to borrow; of several the first in the order of names and lines."""
        found = [
            keeper
            for keeper in self.keepers(bucket)
            if isinstance(keeper.needs, Needs)
            and any(
                cell.borrows(amount) and cell.reaches(amount, keeper.needs.stakes)
                for cell, amount in ((cell, needs.most_of(cell)) for cell in needs.cells)
            )
        ]
        return min(found, key=lambda keeper: (keeper.line.name, keeper.item), default=None)


def _stakes(champion: Contender) -> frozenset[Cell]:
    needs = champion.bucket.needs
    return needs.stakes if isinstance(needs, Needs) else NOTHING


def _heads(line: Line) -> Iterator[Bucket]:
    """The overdue heads of a line in its order; of a Strict one only the very first of all."""
    for item in line.overdue:
        if line.strict and line.leader() != item[-1]:
            return
        yield line.buckets[item[-1]]
        if line.strict:
            return
