"""Decayed usage: what a queue really held, older use counting for less.

Usage of a resource is the integral of the amount held over time, halved every half-life: what was held `age` seconds ago counts
2^(-age / half-life). It is kept as (value, rate, as of) and evaluated lazily, so that it depends on when runs opened, closed and
changed size, and on nothing else; there is no tick. The exact integral of a rate r held from s to t is r * h/ln 2 * (1 - 2^-((t-s)/h)).

Purpose elsewhere: `aiqueue.queue.store` keeps it per queue and resource and folds it in the transaction that moves a run; the
engine orders the queues of a tenant by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from math import exp, expm1, log

from aiqueue.queue.records import Tenant

_MILLIONTHS = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What one queue used of one resource.

    Attributes:
        value: decayed use up to `as_of`, in base units times seconds.
        rate: held since `as_of`, in base units.
        half_life_seconds: by which it decays until it is folded next; 0 forgets at once, so usage is always 0.
        as_of: when it was folded.
    """

    value: float
    rate: int
    half_life_seconds: int
    as_of: datetime

    def at(self, moment: datetime) -> float:
        """The usage at a moment, in base units times seconds; before `as_of` as it was then known."""
        if self.half_life_seconds == 0:
            return 0.0
        seconds = max(0.0, (moment - self.as_of).total_seconds())
        decay = log(2) / self.half_life_seconds
        passed = decay * seconds
        # What is left of the old, and the integral since: each exact where little time passed and where much did.
        return self.value * exp(-passed) + self.rate / decay * -expm1(-passed)

    def moved(self, moment: datetime, change: int, half_life_seconds: int) -> Usage:
        """Folded at a moment from which `change` more (or less) is held and the half-life is this one."""
        return Usage(self.at(moment), self.rate + change, half_life_seconds, max(moment, self.as_of))


def first_use(moment: datetime, amount: int, half_life_seconds: int) -> Usage:
    """Usage of a queue that held nothing before this moment."""
    return Usage(0.0, amount, half_life_seconds, moment)


def folded(known: Usage | None, moment: datetime, change: int, half_life_seconds: int) -> Usage:
    """What is known of a queue, folded at a moment from which `change` more (or less) is held; None where it held nothing yet."""
    if known is None:
        return first_use(moment, change, half_life_seconds)
    return known.moved(moment, change, half_life_seconds)


def normalised(
    usages: Mapping[str, Usage],
    totals: Mapping[str, int],
    weights: Mapping[str, Fraction],
    queue_weight: Fraction,
    moment: datetime,
) -> int:
    """The usage of a queue as one number: the less, the sooner its work goes where its tenant's `order` says `usage`.

    For each resource, its usage over all that the tree has of it, times the tenant's weight of the resource; the sum of these over
    the queue's weight. So it says for how many seconds' worth of the whole tree the queue has used, whatever the units of the
    resources are. An integer, so that queues that differ by less than a rounding error are equal.

    Args:
        usages: of the queue, by resource; those of resources that the tree has nothing of are passed over.
        totals: nominal amounts of the whole tree, by resource, as of `totals_of_trees`.
        weights: of resources, as the queue's tenant gives them; 1 where it gives none.
        queue_weight: of the queue; 0 counts as 1, since such queues come last whatever they used.
        moment: at which it is evaluated.

    Returns:
        Millionths of a second.
    """
    total = 0.0
    for resource in sorted(usages):  # in one order always: sums of floats depend on it
        of_tree = totals.get(resource, 0)
        if of_tree:
            total += float(weights.get(resource, 1)) * usages[resource].at(moment) / of_tree
    return round(_MILLIONTHS * total / float(queue_weight or 1))


def totals_of_trees(tenants: Mapping[str, Tenant]) -> dict[str, dict[str, int]]:
    """By tenant, what the whole tree that it stands in has of each resource: nominal over all flavors and tenants of the tree.

    A tenant whose parents are missing or go round in a circle stands alone. Tenants of one tree share one mapping.
    """
    of_root: dict[str, dict[str, int]] = {}
    found: dict[str, dict[str, int]] = {}
    for name, tenant in tenants.items():
        found[name] = totals = of_root.setdefault(_root(name, tenants), {})
        for quota in tenant.quotas:
            totals[quota.resource] = totals.get(quota.resource, 0) + quota.nominal
    return found


def _root(name: str, tenants: Mapping[str, Tenant]) -> str:
    at, seen = name, {name}
    while (parent := tenants[at].parent) is not None:
        if parent not in tenants or parent in seen:
            return name
        seen.add(parent)
        at = parent
    return at
