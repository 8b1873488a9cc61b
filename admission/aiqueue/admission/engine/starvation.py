"""Who waited so long that others of its tree may no longer borrow what it waits for.

A head of a bucket is overdue when it has waited longer than its tenant's starvation bound. Within its own tenant those behind it
then leave alone what it may need (`buckets.py`). Over the tree, other tenants may no longer borrow what it has a stake in: the
cells above it that have to give something for it to fit, were nothing used. What a tenant has of its own it may go on using.

Among those who are overdue the one whose deadline passed first keeps back all others and nobody keeps it back, so that two of them
never wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiqueue.admission.engine.buckets import Bucket, Overdue
from aiqueue.admission.engine.flavors import NOTHING, Needs
from aiqueue.admission.engine.ordered import Ordered
from aiqueue.admission.engine.tree import Cell, TenantNode


class Watch:
    """The overdue heads of each tree, by deadline."""

    def __init__(self) -> None:
        self._trees: dict[str, Ordered[Overdue]] = {}
        self._buckets: dict[int, Bucket] = {}

    def add(self, root: TenantNode, bucket: Bucket) -> None:
        """Enter a bucket whose head is past its deadline."""
        bucket.overdue = (bucket.deadline, *bucket.entries.first, bucket.serial)
        self._trees.setdefault(root.name, Ordered()).add(bucket.overdue)
        self._buckets[bucket.serial] = bucket

    def remove(self, root: TenantNode, bucket: Bucket) -> None:
        """Take it out."""
        if bucket.overdue is not None:
            self._trees[root.name].remove(bucket.overdue)
            del self._buckets[bucket.serial]
            bucket.overdue = None

    def watches(self, root: TenantNode) -> bool:
        """Whether anybody of a tree is overdue."""
        known = self._trees.get(root.name)
        return known is not None and len(known) > 0

    def keepers(self, bucket: Bucket) -> Iterator[Bucket]:
        """Those of other tenants of its tree that may keep a bucket from borrowing, who is longest overdue first."""
        node = bucket.line.node
        known = self._trees.get(node.root.name) if node is not None else None
        for entry in known or ():
            if bucket.overdue is not None and bucket.overdue < entry:
                return
            keeper = self._buckets[entry[-1]]
            if keeper.line is not bucket.line and _counts(keeper):
                yield keeper

    def stakes_against(self, bucket: Bucket) -> frozenset[Cell]:
        """The cells that a bucket may not borrow from."""
        found = NOTHING
        for keeper in self.keepers(bucket):
            if isinstance(keeper.needs, Needs):
                found |= keeper.needs.stakes
        return found

    def keeper_of(self, bucket: Bucket, needs: Needs) -> Bucket | None:
        """The first that has a stake in what a bucket would have to borrow."""
        for keeper in self.keepers(bucket):
            if isinstance(keeper.needs, Needs) and any(
                cell.borrows(amount) and cell.reaches(amount, keeper.needs.stakes)
                for step in needs.steps
                for option in step.options
                for cell, amount in option.takes
            ):
                return keeper
        return None


def _counts(keeper: Bucket) -> bool:
    """Whether it waits for nobody of its own tenant."""
    if keeper.line.strict:
        return keeper.line.leader() == keeper.serial
    return isinstance(keeper.needs, Needs) and keeper.line.gang_before(keeper, keeper.needs) is None
