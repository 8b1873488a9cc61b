"""What one shape asks of one tenant, whatever is used: the flavors to choose from, and the places they make.

A pod set takes all the resources of a group from one flavor of it: that choice is a step. Flavors of one pod set that contradict
each other, the same node label with different values, are never taken together: no node has both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product

from aiqueue.admission.engine.tree import Cell
from aiqueue.queue.records import Allocation

SEARCH_STEPS = 4096  # flavors looked at before a search with several steps gives up


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
        preferred: the first place all of which is within the tenant's nominal, else the first of all; None of a tenant without
            others, who keeps nothing from anybody.
        size: what the first flavors would give, by step and resource: for sorting.
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
    size: tuple[int, ...] = ()
    made: dict[tuple[int, ...], Placement] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.size = tuple(amount for step in self.steps for _, amount in step.options[0].takes)
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
            assume(takes, option, 1)
        allocations = tuple(each for option in options for each in option.allocations)
        flavors: dict[str, dict[str, str]] = {name: {} for name in self.counts}
        for each in allocations:
            flavors[each.pod_set][each.resource] = each.flavor
        made = self.made[chosen] = Placement(tuple(takes.items()), allocations, flavors, self.counts)
        return made


def assume(assumed: dict[Cell, int], option: Option, sign: int) -> None:
    """Take what an option takes, or with a sign of -1 give it back."""
    for cell, amount in option.takes:
        assumed[cell] = assumed.get(cell, 0) + sign * amount


def _contradict(labels: Mapping[str, str], others: Mapping[str, str]) -> bool:
    return any(others.get(key, value) != value for key, value in labels.items())
