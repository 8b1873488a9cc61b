"""Which flavor each pod set takes: groups of flavors, what a shape needs of a tenant, and the search for a place.

Flavors that list the same resources form a group, in the order of the administrator's quotas. A pod set takes all the resources
of a group from one flavor of it, and may take different groups from different flavors. A resource that stands in two groups
belongs to the first of them.

`needs_of` works out once per tenant and shape what does not depend on usage: the flavors that match and are large enough.
`search` then finds the first place, in order of preference, that fits what is available now. It goes back on an earlier pod set's
flavor where a later pod set would otherwise not fit, so that a shape that does not fit can only come to fit when something is
freed: the wake-ups of parked work rest on that.

Flavors of one pod set that contradict each other, the same node label with different values, are never taken together: no node has
both.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import islice, product

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.matching import mismatch
from aiqueue.admission.engine.tree import Cell, TenantNode
from aiqueue.queue.records import Allocation, Decision, Flavor, PodSet, Quota, Shortfall
from aiqueue.queue.words import Fungibility

SEARCH_STEPS = 4096  # flavors looked at before a search with several pod sets gives up
NOTHING: frozenset[Cell] = frozenset()


class Bound(Enum):
    """What a place must keep within."""

    AVAILABLE = "available"  # what may be taken now
    POTENTIAL = "potential"  # what could ever be used
    NOMINAL = "nominal"  # what is the tenant's own
    NONE = "none"


Group = tuple[tuple[str, ...], tuple[str, ...]]  # (flavors in order, resources sorted)


@dataclass(frozen=True, slots=True)
class Option:
    """One flavor that a step may take, with the labels of its nodes, and how much of which cells that is."""

    flavor: str
    labels: Mapping[str, str]
    takes: tuple[tuple[Cell, int], ...]
    allocations: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One pod set's resources of one group: takes exactly one of the options, which are in order of preference."""

    pod_set: str
    options: tuple[Option, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """A flavor for every step. `takes` sums up by cell."""

    takes: tuple[tuple[Cell, int], ...]
    allocations: tuple[Allocation, ...]
    flavors: dict[str, dict[str, str]]
    counts: dict[str, int]


@dataclass(slots=True, eq=False)
class Needs:
    """What one shape asks of one tenant.

    Attributes:
        steps: one per pod set and group, in order.
        counts: pods by pod set.
        by_level: whether a flavor that needs no borrowing comes before one that does.
        cells: every cell that some place would take from.
        clashes: (step, option, earlier step, its option) that contradict each other.
        stakes: cells of the tenants above that have to give something for some place, were nothing used.
        above: all cells of the tenants above.
        preferred: the first place all of which is within the tenant's nominal, else the first of all.
        made: places by the options chosen, since the same few are taken over and over.
    """

    steps: tuple[Step, ...]
    counts: dict[str, int]
    by_level: bool
    cells: frozenset[Cell] = frozenset()
    clashes: frozenset[tuple[int, int, int, int]] = frozenset()
    stakes: frozenset[Cell] = frozenset()
    above: frozenset[Cell] = frozenset()
    preferred: Placement | None = None
    made: dict[tuple[int, ...], Placement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clashes = frozenset(
            (later, one, earlier, other)
            for later, step in enumerate(self.steps)
            for earlier, before in enumerate(self.steps[:later])
            if step.pod_set == before.pod_set
            for one, option in enumerate(step.options)
            for other, known in enumerate(before.options)
            if _contradict(option.labels, known.labels)
        )
        self.cells = frozenset(
            cell
            for at, step in enumerate(self.steps)
            for index, option in enumerate(step.options)
            if self._has_place(at, index)
            for cell, _ in option.takes
        )
        if self.cells and all(cell.parent is None for cell in self.cells):
            return  # who shares with nobody needs nothing of what follows
        self.stakes = frozenset(above for cell in self.cells for above in cell.stakes(self.most_of(cell)))
        self.above = frozenset(above for cell in self.cells for above in cell.above())
        self.preferred = search(self, Bound.NOMINAL) or search(self, Bound.NONE)

    def _has_place(self, at: int, index: int) -> bool:
        """Whether some place takes option `index` of step `at`: whether it does not contradict all that others could take."""
        if not self.clashes:
            return True
        choices = [(index,) if each == at else range(len(step.options)) for each, step in enumerate(self.steps)]
        return any(
            not any(self.clash(chosen[:later], chosen[later]) for later in range(len(chosen)))
            for chosen in islice(product(*choices), SEARCH_STEPS)
        )

    def most_of(self, cell: Cell) -> int:
        """The most that a place takes of a cell: every step that can takes from it."""
        of_steps = (
            [amount for option in step.options for taken, amount in option.takes if taken is cell] for step in self.steps
        )
        return sum(max(amounts, default=0) for amounts in of_steps)

    def clash(self, chosen: Sequence[int], index: int) -> bool:
        """Whether option `index` of the next step contradicts one of those chosen for the steps before."""
        at = len(chosen)
        return any((at, index, earlier, other) in self.clashes for earlier, other in enumerate(chosen))

    def placement(self, chosen: tuple[int, ...]) -> Placement:
        """The place that takes option `chosen[i]` of step i."""
        known = self.made.get(chosen)
        if known is not None:
            return known
        options = [step.options[index] for step, index in zip(self.steps, chosen, strict=True)]
        takes: dict[Cell, int] = {}
        for option in options:
            _assume(takes, option, 1)
        allocations = tuple(each for option in options for each in option.allocations)
        flavors: dict[str, dict[str, str]] = {name: {} for name in self.counts}
        for each in allocations:
            flavors[each.pod_set][each.resource] = each.flavor
        made = self.made[chosen] = Placement(tuple(takes.items()), allocations, flavors, self.counts)
        return made


def groups_of(quotas: Iterable[Quota]) -> tuple[Group, ...]:
    """The groups of a tenant's flavors, in the administrator's order."""
    listed: dict[str, list[str]] = {}
    for quota in quotas:
        listed.setdefault(quota.flavor, []).append(quota.resource)
    groups: dict[tuple[str, ...], list[str]] = {}
    for flavor, resources in listed.items():
        groups.setdefault(tuple(sorted(resources)), []).append(flavor)
    return tuple((tuple(flavors), resources) for resources, flavors in groups.items())


def totals_of(pod_set: PodSet, groups: Sequence[Group]) -> dict[str, int]:
    """What a pod set needs in all, by resource, zero amounts left out; its pods themselves where `pods` is listed."""
    totals = {name: pod_set.requests[name] * pod_set.count for name in sorted(pod_set.requests)}
    if any("pods" in resources for _, resources in groups):
        totals["pods"] = pod_set.count
    return {name: amount for name, amount in totals.items() if amount > 0}


def split(totals: Mapping[str, int], groups: Sequence[Group]) -> tuple[list[tuple[Group, dict[str, int]]], list[str]]:
    """Share out the resources among the groups that cover them first; answers also the resources that no group covers."""
    parts: list[tuple[Group, dict[str, int]]] = []
    rest = dict(totals)
    for group in groups:
        covered = {name: rest.pop(name) for name in group[1] if name in rest}
        if covered:
            parts.append((group, covered))
    return parts, list(rest)


def needs_of(node: TenantNode, flavors: Mapping[str, Flavor], pod_sets: Sequence[PodSet], shape: str) -> Needs | Decision:
    """What a shape asks of a tenant, or the reason why it can never have it as things are configured."""
    groups = groups_of(node.record.quotas)
    steps: list[Step] = []
    for pod_set in pod_sets:
        parts, uncovered = split(totals_of(pod_set, groups), groups)
        for resource in uncovered:
            if "/" in resource:
                return reasons.not_covered(node.name, shape, pod_set.name, resource, sorted({r for g in groups for r in g[1]}))
        for (names, _), amounts in parts:
            step = _step_of(node, flavors, pod_set, (names, amounts), shape)
            if isinstance(step, Decision):
                return step
            steps.append(step)
    by_level = node.record.when_can_borrow is Fungibility.TRY_NEXT_FLAVOR and node.parent is not None
    needs = Needs(tuple(steps), {pod_set.name: pod_set.count for pod_set in pod_sets}, by_level)
    if needs.clashes and search(needs, Bound.NONE) is None:
        return reasons.no_matching_flavors_together(node.name, shape, _clashing(needs))
    if len(steps) > 1 and search(needs, Bound.POTENTIAL) is None:
        return reasons.exceeds_ceiling(node.name, shape, shortage(needs, Bound.POTENTIAL), together=True)
    return needs


def _contradict(labels: Mapping[str, str], others: Mapping[str, str]) -> bool:
    return any(others.get(key, value) != value for key, value in labels.items())


def _clashing(needs: Needs) -> list[tuple[str, str, str]]:
    """(pod set, flavor, flavor) that contradict each other, in order."""
    found = {
        (needs.steps[later].pod_set, needs.steps[earlier].options[other].flavor, needs.steps[later].options[one].flavor): None
        for later, one, earlier, other in sorted(needs.clashes, key=lambda each: (each[2], each[3], each[0], each[1]))
    }
    return list(found)


def _step_of(
    node: TenantNode, known: Mapping[str, Flavor], pod_set: PodSet, part: tuple[Sequence[str], Mapping[str, int]], shape: str
) -> Step | Decision:
    """The flavors of a group that match a pod set and are large enough for it, or why there are none."""
    refused: list[tuple[str, str]] = []
    exceeded: list[Shortfall] = []
    options: list[Option] = []
    names, amounts = part
    for name in names:
        flavor = known.get(name)
        why = mismatch(flavor, pod_set) if flavor is not None else "there is no such flavor"
        if why is not None:
            refused.append((name, why))
            continue
        takes = tuple((node.cell((name, resource)), amount) for resource, amount in amounts.items())
        over = [_shortfall(cell, amount, cell.potential) for cell, amount in takes if amount > cell.potential]
        if over:
            exceeded.extend(over)
        elif flavor is not None:
            options.append(Option(name, flavor.node_labels, takes, _allocations(pod_set.name, name, tuple(amounts.items()))))
    if options:
        return Step(pod_set.name, tuple(options))
    if exceeded:
        return reasons.exceeds_ceiling(node.name, shape, exceeded, together=False)
    return reasons.no_matching_flavor(node.name, shape, pod_set.name, refused)


@lru_cache(maxsize=4096)
def _allocations(pod_set: str, flavor: str, amounts: tuple[tuple[str, int], ...]) -> tuple[Allocation, ...]:
    """The same for every tenant, so they share it."""
    return tuple(Allocation(pod_set, flavor, resource, amount) for resource, amount in amounts)


def search(
    needs: Needs,
    bound: Bound = Bound.AVAILABLE,
    *,
    reserved: Set[Cell] = NOTHING,
    stakes: Set[Cell] = NOTHING,
    short: dict[Cell, int] | None = None,
) -> Placement | None:
    """The first place in order of preference that fits.

    Args:
        needs: what is looked for.
        bound: what it must keep within.
        reserved: cells that must not be taken from.
        stakes: cells of other tenants that must not be borrowed from.
        short: filled with the least amount that was refused of each cell, where nothing fits.
    """
    guards = (reserved, stakes) if reserved or stakes else None
    by_level = needs.by_level and bound is Bound.AVAILABLE
    if len(needs.steps) == 1 and not by_level:
        for index, option in enumerate(needs.steps[0].options):
            if _fits(option, {}, bound, guards, short):
                return needs.placement((index,))
        return None
    return _search_deep(needs, bound, by_level, guards, short)


def _search_deep(
    needs: Needs, bound: Bound, by_level: bool, guards: tuple[Set[Cell], Set[Cell]] | None, short: dict[Cell, int] | None
) -> Placement | None:
    """Depth first over the steps, going back where a later one finds no room."""
    chosen: list[int] = []
    assumed: dict[Cell, int] = {}
    orders = [_preference(needs.steps[0], by_level, assumed)] if needs.steps else []
    if not needs.steps:
        return needs.placement(())
    for _ in range(SEARCH_STEPS):
        step = needs.steps[len(chosen)]
        if not orders[-1]:
            orders.pop()
            if not chosen:
                return None
            _assume(assumed, needs.steps[len(chosen) - 1].options[chosen.pop()], -1)
            continue
        index = orders[-1].pop()
        if needs.clashes and needs.clash(chosen, index):
            continue
        if _fits(step.options[index], assumed, bound, guards, short):
            _assume(assumed, step.options[index], 1)
            chosen.append(index)
            if len(chosen) == len(needs.steps):
                return needs.placement(tuple(chosen))
            orders.append(_preference(needs.steps[len(chosen)], by_level, assumed))
    return None


def _preference(step: Step, by_level: bool, assumed: Mapping[Cell, int]) -> list[int]:
    """Indices of a step's options, the most preferred last."""
    options = step.options
    if not by_level:
        return list(range(len(options)))[::-1]
    levels = [max(cell.borrow_level(assumed.get(cell, 0) + amount) for cell, amount in option.takes) for option in options]
    return sorted(range(len(options)), key=lambda index: (levels[index], index), reverse=True)


def _assume(assumed: dict[Cell, int], option: Option, sign: int) -> None:
    for cell, amount in option.takes:
        assumed[cell] = assumed.get(cell, 0) + sign * amount


def _limit(cell: Cell, wanted: int, bound: Bound) -> int:
    """The most of a cell that the bound allows."""
    if bound is Bound.AVAILABLE:
        return cell.available()
    if bound is Bound.POTENTIAL:
        return cell.potential
    return cell.nominal if bound is Bound.NOMINAL else wanted


def _fits(
    option: Option,
    assumed: Mapping[Cell, int],
    bound: Bound,
    guards: tuple[Set[Cell], Set[Cell]] | None,
    short: dict[Cell, int] | None,
) -> bool:
    for cell, amount in option.takes:
        wanted = amount + assumed.get(cell, 0) if assumed else amount
        if guards is not None and (cell in guards[0] or (cell.borrows(wanted) and cell.reaches(wanted, guards[1]))):
            return False
        if wanted > (cell.available() if bound is Bound.AVAILABLE else _limit(cell, wanted, bound)):
            if short is not None:
                short[cell] = min(wanted, short.get(cell, wanted))
            return False
    return True


def _shortfall(cell: Cell, requested: int, available: int) -> Shortfall:
    return Shortfall(cell.tenant, cell.flavor, cell.resource, requested, max(0, available))


def shortage(needs: Needs, bound: Bound = Bound.AVAILABLE) -> list[Shortfall]:
    """What is missing, flavor by flavor, at the first step that finds no room after the steps before it took theirs."""
    assumed: dict[Cell, int] = {}
    missing: list[Shortfall] = []
    chosen: list[int] = []
    for step in needs.steps:
        missing = []
        for index, option in enumerate(step.options):
            if needs.clashes and needs.clash(chosen, index):
                continue
            over = [
                _shortfall(cell, wanted, limit)
                for cell, amount in option.takes
                if (wanted := amount + assumed.get(cell, 0)) > (limit := _limit(cell, wanted, bound))
            ]
            if not over:
                _assume(assumed, option, 1)
                chosen.append(index)
                break
            missing.extend(over)
        else:
            return missing or _least_refused(needs, bound)
    return []


def _least_refused(needs: Needs, bound: Bound) -> list[Shortfall]:
    """What is missing where the first flavors that fit contradict all that is left for the next step."""
    short: dict[Cell, int] = {}
    search(needs, bound, short=short)
    return [_shortfall(cell, amount, _limit(cell, amount, bound)) for cell, amount in short.items()]
