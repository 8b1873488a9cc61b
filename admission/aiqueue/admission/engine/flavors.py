"""Which flavor each pod set takes: groups of flavors, what a shape needs of a tenant, and the search for a place.

Flavors that list the same resources form a group, in the order of the administrator's quotas. A pod set takes all the resources
of a group from one flavor of it, and may take different groups from different flavors. A resource that stands in two groups
belongs to the first of them.

`needs_of` works out once per tenant and shape what does not depend on usage: the flavors that match and are large enough.
`search` then finds the first place, in order of preference, that fits what is available now. It goes back on an earlier pod set's
flavor where a later pod set would otherwise not fit, so that a shape that does not fit can only come to fit when something is
freed: the wake-ups of parked work rest on that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.matching import mismatch
from aiqueue.admission.engine.tree import Cell, TenantNode
from aiqueue.queue.records import Allocation, Configuration, Decision, Flavor, PodSet, Quota, Shortfall
from aiqueue.queue.words import Fungibility

SEARCH_STEPS = 4096  # flavors looked at before a search with several pod sets gives up

Group = tuple[tuple[str, ...], tuple[str, ...]]  # (flavors in order, resources sorted)


@dataclass(frozen=True, slots=True)
class Option:
    """One flavor that a step may take, and how much of which cells that is."""

    flavor: str
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

    def borrows(self) -> bool:
        """Whether some of it is more than the tenant itself puts in."""
        return any(cell.parent is not None and cell.borrows(amount) for cell, amount in self.takes)


@dataclass(slots=True, eq=False)
class Needs:
    """What one shape asks of one tenant.

    Attributes:
        steps: one per pod set and group, in order.
        counts: pods by pod set.
        by_level: whether a flavor that needs no borrowing comes before one that does.
        cells: every cell that some place would take from.
        made: places by the options chosen, since the same few are taken over and over.
    """

    steps: tuple[Step, ...]
    counts: dict[str, int]
    by_level: bool
    cells: frozenset[Cell] = frozenset()
    made: dict[tuple[int, ...], Placement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cells = frozenset(cell for step in self.steps for option in step.options for cell, _ in option.takes)

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
    if len(steps) > 1 and search(needs, idle=True) is None:
        return reasons.exceeds_ceiling(node.name, shape, shortage(needs, idle=True), together=True)
    return needs


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
        else:
            options.append(Option(name, takes, _allocations(pod_set.name, name, tuple(amounts.items()))))
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
    needs: Needs, *, idle: bool = False, reserved: frozenset[Cell] = frozenset(), short: dict[Cell, int] | None = None
) -> Placement | None:
    """The first place in order of preference that fits.

    Args:
        needs: what is looked for.
        idle: look at the ceilings instead of what is available.
        reserved: cells that must not be taken from.
        short: filled with the least amount that was refused of each cell, where nothing fits.
    """
    if len(needs.steps) == 1 and not needs.by_level:
        for index, option in enumerate(needs.steps[0].options):
            if _fits(option, {}, idle, reserved, short):
                return needs.placement((index,))
        return None
    chosen: list[int] = []
    assumed: dict[Cell, int] = {}
    orders = [_preference(needs, 0, assumed)] if needs.steps else []
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
        if _fits(step.options[index], assumed, idle, reserved, short):
            _assume(assumed, step.options[index], 1)
            chosen.append(index)
            if len(chosen) == len(needs.steps):
                return needs.placement(tuple(chosen))
            orders.append(_preference(needs, len(chosen), assumed))
    return None


def _preference(needs: Needs, at: int, assumed: Mapping[Cell, int]) -> list[int]:
    """Indices of a step's options, the most preferred last."""
    options = needs.steps[at].options
    if not needs.by_level:
        return list(range(len(options)))[::-1]
    levels = [max(cell.borrow_level(assumed.get(cell, 0) + amount) for cell, amount in option.takes) for option in options]
    return sorted(range(len(options)), key=lambda index: (levels[index], index), reverse=True)


def _assume(assumed: dict[Cell, int], option: Option, sign: int) -> None:
    for cell, amount in option.takes:
        assumed[cell] = assumed.get(cell, 0) + sign * amount


def _fits(
    option: Option, assumed: Mapping[Cell, int], idle: bool, reserved: frozenset[Cell], short: dict[Cell, int] | None
) -> bool:
    for cell, amount in option.takes:
        if cell in reserved:
            return False
        wanted = amount + assumed.get(cell, 0) if assumed else amount
        if wanted > (cell.potential if idle else cell.available()):
            if short is not None:
                short[cell] = min(wanted, short.get(cell, wanted))
            return False
    return True


def _shortfall(cell: Cell, requested: int, available: int) -> Shortfall:
    return Shortfall(cell.tenant, cell.flavor, cell.resource, requested, max(0, available))


def shortage(needs: Needs, *, idle: bool = False) -> list[Shortfall]:
    """What is missing, flavor by flavor, at the first step that finds no room after the steps before it took theirs."""
    assumed: dict[Cell, int] = {}
    missing: list[Shortfall] = []
    for step in needs.steps:
        missing = []
        for option in step.options:
            over = [
                _shortfall(cell, wanted, limit)
                for cell, amount in option.takes
                if (wanted := amount + assumed.get(cell, 0)) > (limit := cell.potential if idle else cell.available())
            ]
            if not over:
                _assume(assumed, option, 1)
                break
            missing.extend(over)
        else:
            return missing
    return missing


def assign_for_adoption(configuration: Configuration, tenant_name: str, pod_sets: Sequence[PodSet]) -> tuple[Allocation, ...]:
    """What a run that already exists holds: of each group the first flavor that matches, whether or not there is room.

    Where no flavor of a group matches, the first is taken all the same, so that what runs is counted somewhere. Resources that
    the tenant does not list, and everything where there is no such tenant, are counted nowhere.
    """
    tenant = configuration.tenants.get(tenant_name)
    if tenant is None:
        return ()
    groups = groups_of(tenant.quotas)
    allocations: list[Allocation] = []
    for pod_set in pod_sets:
        parts, _ = split(totals_of(pod_set, groups), groups)
        for (names, _), amounts in parts:
            known = [configuration.flavors[name] for name in names if name in configuration.flavors]
            name = next((flavor.name for flavor in known if mismatch(flavor, pod_set) is None), names[0])
            allocations.extend(Allocation(pod_set.name, name, resource, amount) for resource, amount in amounts.items())
    return tuple(allocations)
