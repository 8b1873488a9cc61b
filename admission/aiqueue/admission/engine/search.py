"""The search for a place: the first, in order of preference, that fits what is available now.

It goes back on an earlier pod set's flavor where a later pod set would otherwise not fit, so that a shape that does not fit can
only come to fit when something is freed: the wake-ups of parked work rest on that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from enum import Enum
from itertools import islice

from aiqueue.admission.engine.needs import SEARCH_STEPS, Needs, Option, Placement, Step, assume
from aiqueue.admission.engine.tree import Cell
from aiqueue.queue.records import Shortfall

NOTHING: frozenset[Cell] = frozenset()
MAX_PLACES = 64  # that `places` answers


class Bound(Enum):
    """What a place must keep within."""

    AVAILABLE = "available"  # what may be taken now
    ACTUAL = "actual"  # what could be taken now if nobody claimed room
    POTENTIAL = "potential"  # what could ever be used
    NOMINAL = "nominal"  # what is the tenant's own
    NONE = "none"


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
    return next(_walk(needs, bound, by_level, guards, short), None)


def places(needs: Needs, *, reserved: Set[Cell] = NOTHING, stakes: Set[Cell] = NOTHING) -> Iterator[Placement]:
    """The places that could ever fit, in the administrator's order, whatever is available now; at most `MAX_PLACES`.

    Args:
        needs: what is looked for.
        reserved: cells that must not be taken from.
        stakes: cells of other tenants that must not be borrowed from, as things are.
    """
    guards = (reserved, stakes) if reserved or stakes else None
    return islice(_walk(needs, Bound.POTENTIAL, False, guards, None), MAX_PLACES)


def _walk(
    needs: Needs, bound: Bound, by_level: bool, guards: tuple[Set[Cell], Set[Cell]] | None, short: dict[Cell, int] | None
) -> Iterator[Placement]:
    """All places that fit, depth first over the steps, going back where a later one finds no room."""
    if not needs.steps:
        yield needs.placement(())
        return
    chosen: list[int] = []
    assumed: dict[Cell, int] = {}
    orders = [_preference(needs.steps[0], by_level, assumed)]
    for _ in range(SEARCH_STEPS):
        if not orders[-1]:
            orders.pop()
            if not chosen:
                return
            assume(assumed, needs.steps[len(chosen) - 1].options[chosen.pop()], -1)
            continue
        index = orders[-1].pop()
        if needs.clashes and needs.clash(chosen, index):
            continue
        option = needs.steps[len(chosen)].options[index]
        if not _fits(option, assumed, bound, guards, short):
            continue
        if len(chosen) + 1 == len(needs.steps):
            yield needs.placement((*chosen, index))
            continue
        assume(assumed, option, 1)
        chosen.append(index)
        orders.append(_preference(needs.steps[len(chosen)], by_level, assumed))


def _preference(step: Step, by_level: bool, assumed: Mapping[Cell, int]) -> list[int]:
    """Indices of a step's options, the most preferred last."""
    options = step.options
    if not by_level:
        return list(range(len(options)))[::-1]
    levels = [max(cell.borrow_level(assumed.get(cell, 0) + amount) for cell, amount in option.takes) for option in options]
    return sorted(range(len(options)), key=lambda index: (levels[index], index), reverse=True)


def _limit(cell: Cell, wanted: int, bound: Bound) -> int:
    """The most of a cell that the bound allows."""
    if bound is Bound.AVAILABLE:
        return cell.available()
    if bound is Bound.ACTUAL:
        return (cell.actual or cell).left()
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


def shortfall(cell: Cell, requested: int, available: int) -> Shortfall:
    """What is missing of a cell."""
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
                shortfall(cell, wanted, limit)
                for cell, amount in option.takes
                if (wanted := amount + assumed.get(cell, 0)) > (limit := _limit(cell, wanted, bound))
            ]
            if not over:
                assume(assumed, option, 1)
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
    return [shortfall(cell, amount, _limit(cell, amount, bound)) for cell, amount in short.items()]
