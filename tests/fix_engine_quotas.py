"""The algebra of the tenant tree and of shares, by its definitions: every figure is summed up from what runs hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from aiqueue.queue.records import Allocation, Tenant

Pair = tuple[str, str]  # flavor, resource
Holding = tuple[str, Sequence[Allocation]]  # tenant, what a run of it holds
Amounts = Mapping[Pair, int]
Share = tuple[bool, Fraction]  # infinite, share; where it is infinite the ratio of borrowed and lendable
Definition = Callable[["Quotas", str, Pair], int]


def total(place: Sequence[Allocation]) -> dict[Pair, int]:
    """Amounts by (flavor, resource)."""
    sums: dict[Pair, int] = {}
    for each in place:
        sums[each.flavor, each.resource] = sums.get((each.flavor, each.resource), 0) + each.amount
    return sums


def once(definition: Definition) -> Definition:
    """Work a figure out once, since nothing changes under it."""
    name = definition.__name__

    def known(self: "Quotas", tenant: str, pair: Pair) -> int:
        key = (name, tenant, pair)
        figure = self.figures.get(key)
        if figure is None:
            figure = self.figures[key] = definition(self, tenant, pair)
        return figure

    return known


class Tree:
    """What is known of tenants whatever is used: who is whose child, what is listed, and who shares with whom."""

    def __init__(self, tenants: Mapping[str, Tenant]) -> None:
        self.tenants = tenants
        self.children: dict[str, list[str]] = {name: [] for name in tenants}
        self.listed: dict[tuple[str, Pair], tuple[int, int | None, int | None]] = {}
        for name, tenant in tenants.items():
            if tenant.parent is not None:
                self.children[tenant.parent].append(name)
            for quota in tenant.quotas:
                limits = (quota.nominal, quota.borrowing_limit, quota.lending_limit)
                self.listed[name, (quota.flavor, quota.resource)] = limits

    def up(self, name: str) -> list[str]:
        """A tenant and those above it, the root last."""
        parent = self.tenants[name].parent
        return [name] if parent is None else [name, *self.up(parent)]

    def root(self, name: str) -> str:
        return self.up(name)[-1]

    def meeting(self, one: str, other: str) -> str | None:
        """The lowest tenant above (or at) both, None where they stand in different trees."""
        return next((each for each in self.up(one) if each in self.up(other)), None)

    def known(self, root: str) -> list[Pair]:
        """Every pair that some tenant of the tree lists."""
        return sorted({pair for name, pair in self.listed if self.root(name) == root})

    def depth(self, name: str) -> int:
        """Levels of tenants from the root down to this one."""
        return len(self.up(name))


@dataclass
class Quotas:
    """The algebra at one moment.

    Attributes:
        tenants: by name, or what is known of them.
        holdings: what is used.
    """

    tenants: Mapping[str, Tenant] | Tree
    holdings: Sequence[Holding] = ()
    figures: dict[tuple[str, str, Pair], int] = field(default_factory=dict)
    tree: Tree = field(init=False)
    held: dict[tuple[str, Pair], int] = field(init=False)

    def __post_init__(self) -> None:
        self.tree = self.tenants if isinstance(self.tenants, Tree) else Tree(self.tenants)
        self.held = {}
        for tenant, place in self.holdings:
            if tenant not in self.tree.tenants:  # of a tenant that was deleted: counts nowhere
                continue
            for pair, amount in total(place).items():
                self.held[tenant, pair] = self.held.get((tenant, pair), 0) + amount

    def limits(self, name: str, pair: Pair) -> tuple[int, int | None, int | None]:
        """Nominal, borrowing limit, lending limit."""
        return self.tree.listed.get((name, pair), (0, None, None))

    def parent(self, name: str) -> str | None:
        return self.tree.tenants[name].parent

    @once
    def subtree(self, name: str, pair: Pair) -> int:
        below = sum(self.subtree(child, pair) - self.guaranteed(child, pair) for child in self.tree.children[name])
        return self.limits(name, pair)[0] + below

    @once
    def guaranteed(self, name: str, pair: Pair) -> int:
        lending = self.limits(name, pair)[2]
        return 0 if lending is None or self.parent(name) is None else max(0, self.subtree(name, pair) - lending)

    @once
    def usage(self, name: str, pair: Pair) -> int:
        below = (max(0, self.usage(child, pair) - self.guaranteed(child, pair)) for child in self.tree.children[name])
        return self.held.get((name, pair), 0) + sum(below)

    @once
    def left(self, name: str, pair: Pair) -> int:
        """What is left of what is guaranteed."""
        return max(0, self.guaranteed(name, pair) - self.usage(name, pair))

    @once
    def available(self, name: str, pair: Pair) -> int:
        parent = self.parent(name)
        if parent is None:
            return self.subtree(name, pair) - self.usage(name, pair)
        guaranteed, usage = self.guaranteed(name, pair), self.usage(name, pair)
        beyond = self.available(parent, pair)
        borrowing = self.limits(name, pair)[1]
        if borrowing is not None:
            beyond = min(beyond, self.subtree(name, pair) - guaranteed - max(0, usage - guaranteed) + borrowing)
        return self.left(name, pair) + beyond

    @once
    def potential(self, name: str, pair: Pair) -> int:
        parent = self.parent(name)
        if parent is None:
            return self.subtree(name, pair)
        most = self.guaranteed(name, pair) + self.potential(parent, pair)
        borrowing = self.limits(name, pair)[1]
        return most if borrowing is None else min(most, self.subtree(name, pair) + borrowing)

    def fits(self, name: str, amounts: Amounts) -> bool:
        return all(amount <= self.available(name, pair) for pair, amount in amounts.items())

    def above(self, name: str, amounts: Amounts) -> bool:
        """Whether a tenant uses more of one of these pairs than it and those under it put in."""
        return any(self.usage(name, pair) > self.subtree(name, pair) for pair in amounts)

    def borrows(self, name: str, pair: Pair, amount: int) -> bool:
        """Whether a tenant that takes this more comes to use more than it puts in; one that shares with nobody borrows nothing."""
        return self.parent(name) is not None and self.usage(name, pair) + amount > self.subtree(name, pair)

    def level(self, name: str, pair: Pair, amount: int) -> int:
        """How far up what is taken is borrowed: the tenants climbed to the first that can cover it, or to the root."""
        path = self.tree.up(name)
        if not self.borrows(name, pair, amount):
            return 0
        rest = amount
        for climbed, (below, each) in enumerate(pairwise(path), 1):
            rest -= self.left(below, pair)
            if self.usage(each, pair) + rest <= self.subtree(each, pair):
                return climbed
        return len(path) - 1

    def share(self, name: str) -> Share:
        """Of a tenant that has a parent: the greatest part it borrows of what its parent could lend of a resource, over weight."""
        parent = self.parent(name)
        if parent is None:
            return False, Fraction(0)
        known = self.tree.known(self.tree.root(name))
        used = {pair for tenant, pair in self.held if name in self.tree.up(tenant)}
        ratio = Fraction(0)
        for resource in sorted({pair[1] for pair in known}):
            lendable = sum(self.potential(parent, pair) for pair in known if pair[1] == resource)
            pairs = [pair for pair in used.union(known) if pair[1] == resource]
            borrowed = sum(max(0, self.usage(name, pair) - self.subtree(name, pair)) for pair in pairs)
            if lendable > 0:
                ratio = max(ratio, Fraction(borrowed, lendable))
        weight = self.tree.tenants[name].weight
        if weight == 0 or ratio == 0:
            return ratio > 0, ratio
        return False, ratio / weight
