"""Elastic work: the largest size that fits, found by halving, is the one found by trying all; and every place, in order."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hypothesis import assume, given
from hypothesis import strategies as st

from aiqueue.admission.engine.flavors import needs_of
from aiqueue.admission.engine.needs import Needs, Placement
from aiqueue.admission.engine.search import MAX_PLACES, places, search
from aiqueue.admission.engine.sizes import Sizes
from aiqueue.admission.engine.tree import Cell, TenantNode, build_tree
from aiqueue.queue.records import Configuration, PodSet, Toleration, shape_of
from fix_builders import make_workload
from fix_engine_places import Places
from fix_engine_quotas import Quotas, total
from fix_engine_shares import count, counted
from fix_engine_worlds import EXAMPLES, FLAVORS, GPU, Dice, Kind, configurations

LEAVES = ("t0", "t1", "t2", "t3")
OPEN = Kind(closed=False)
ANYWHERE = (Toleration("spot", "Exists"),)
STATE_BYTES, SETS_BYTES = 200, 24


def elastic(data: bytes) -> tuple[PodSet, ...]:
    """One to three pod sets, of which at least the first makes do with less."""
    dice = Dice(data)
    found = []
    for index in range(dice.pick([1, 2, 1, 3])):
        least = 1 + dice.below(2)
        most = least + dice.pick([3, 1, 5, 8])
        requests = {GPU: dice.pick([1, 1, 2])}
        if dice.mostly(False, True, of=3):
            requests["cpu"] = 1 + dice.below(2)
        selector: dict[str, str] = dice.mostly({}, {"kind": "b"}, of=8)
        min_count = least if index == 0 else dice.mostly(least, None, of=3)
        found.append(PodSet(f"set-{index}", most, requests, min_count, selector, dice.mostly(ANYWHERE, (), of=4)))
    return tuple(found)


@dataclass
class Room:
    """A leaf of a tree in which something is used, and what there is to keep clear of."""

    configuration: Configuration
    node: TenantNode
    pod_sets: tuple[PodSet, ...]
    reserved: frozenset[Cell]
    stakes: frozenset[Cell]

    @property
    def shape(self) -> str:
        return shape_of(self.pod_sets, None)

    def sizes(self) -> Sizes:
        found = Sizes.of(self.node, FLAVORS, self.pod_sets, self.shape)
        assert found is not None
        return found

    def at(self, counts: dict[str, int]) -> Needs | None:
        """What so many pods ask for; None where they never fit."""
        pod_sets = [replace(each, count=counts[each.name]) for each in self.pod_sets]
        needs = needs_of(self.node, FLAVORS, pod_sets, self.shape)
        return needs if isinstance(needs, Needs) else None

    def place(self, needs: Needs) -> Placement | None:
        return search(needs, reserved=self.reserved, stakes=self.stakes)


@st.composite
def rooms(draw: st.DrawFn) -> Room:
    configuration = draw(configurations(OPEN))
    dice = Dice(draw(st.binary(min_size=STATE_BYTES, max_size=STATE_BYTES)))
    nodes = build_tree(configuration.tenants)
    node = nodes[dice.pick(LEAVES)]
    cells = [nodes[name].cells[pair] for name in LEAVES for pair in sorted(nodes[name].cells)]
    for cell in cells:
        if dice.mostly(False, True, of=2):
            cell.add(dice.below(4))
    if dice.mostly(False, True, of=3):  # somebody claims room that is still being vacated
        for each in node.root.under():
            for cell in each.cells.values():
                cell.part()
        for cell in cells:
            if cell.actual is not None:
                cell.actual.add(dice.below(3))
    guarded = dice.mostly(False, True, of=3)
    own = [node.cells[pair] for pair in sorted(node.cells)]
    above = list(dict.fromkeys(up for cell in own for up in cell.above()))
    reserved = frozenset(cell for cell in own if guarded and dice.below(3) == 0)
    stakes = frozenset(cell for cell in above if guarded and dice.below(2) == 0)
    return Room(configuration, node, elastic(draw(st.binary(min_size=SETS_BYTES, max_size=SETS_BYTES))), reserved, stakes)


def every_size(pod_sets: tuple[PodSet, ...]) -> Iterator[dict[str, int]]:
    """By its definition, the full size first."""
    deltas = {each.name: each.count - (each.min_count or each.count) for each in pod_sets}
    last = sum(deltas.values())
    for step in range(last + 1):
        yield {each.name: each.count - (deltas[each.name] * step) // last for each in pod_sets}


@counted(part=10, whole=5, none=5, several=20, guarded=10, borrows_from_above=3, second_flavor=3)
@EXAMPLES
@given(rooms())
def test_halving_finds_the_largest_size_that_fits(room: Room) -> None:
    sizes = room.sizes()
    found = sizes.largest(room.place)
    fitting = [
        placement for counts in every_size(room.pod_sets) if (needs := room.at(counts)) and (placement := room.place(needs))
    ]
    assert (found is None) == (not fitting)
    if found is not None:
        assert found.counts == fitting[0].counts
        assert found.allocations == fitting[0].allocations
    whole = {each.name: each.count for each in room.pod_sets}
    first = {quota.flavor for quota in room.node.record.quotas[:1]}
    count(
        part=found is not None and found.counts != whole,
        whole=found is not None and found.counts == whole,
        none=found is None,
        several=len(room.pod_sets) > 1,
        guarded=bool(room.reserved or room.stakes),
        borrows_from_above=found is not None and any(cell.borrows(amount) for cell, amount in found.takes),
        second_flavor=found is not None and any(each.flavor not in first for each in found.allocations),
    )


@counted(moves=20)
@EXAMPLES
@given(rooms())
def test_what_fits_at_a_size_fits_at_every_smaller_one(room: Room) -> None:
    """Also what could ever fit, and also in the very same flavors."""
    fits: list[bool] = []
    ever: list[bool] = []
    before: set[tuple[tuple[str, str, str], ...]] = set()
    for counts in every_size(room.pod_sets):
        needs = room.at(counts)
        ever.append(needs is not None)
        fits.append(needs is not None and room.place(needs) is not None)
        here = (
            {tuple((each.pod_set, each.resource, each.flavor) for each in place.allocations) for place in places(needs)}
            if needs is not None
            else set()
        )
        assert before <= here or len(here) == MAX_PLACES
        before = here
    assert fits == sorted(fits)
    assert ever == sorted(ever)
    count(moves=fits[0] != fits[-1])


@counted(some_never=10)
@EXAMPLES
@given(rooms(), st.integers(0, 30))
def test_sizes_are_those_of_the_definition(room: Room, which: int) -> None:
    sizes = room.sizes()
    every = list(every_size(room.pod_sets))
    assert [sizes.counts(step) for step in range(sizes.last + 1)] == every
    assert all(isinstance(sizes.at(step), Needs) == (room.at(every[step]) is not None) for step in range(sizes.last + 1))
    possible = [counts for counts in every if room.at(counts) is not None]
    if possible:
        assert isinstance(sizes.most, Needs)
        assert isinstance(sizes.least, Needs)
        assert (sizes.most.counts, sizes.least.counts) == (possible[0], every[-1])
    else:
        refusal = needs_of(room.node, FLAVORS, [replace(s, count=every[-1][s.name]) for s in room.pod_sets], room.shape)
        assert sizes.most == sizes.least == refusal
    counts = every[which % len(every)]
    step = sizes.step_of(counts)
    assert step is not None
    assert sizes.counts(step) == counts
    assert step == sizes.last or sizes.counts(step + 1) != counts
    count(some_never=0 < len(possible) < len(every))


@counted(kept=10, refused=5)
@EXAMPLES
@given(rooms(), st.integers(0, 30))
def test_no_size_below_what_is_claimed_is_taken(room: Room, which: int) -> None:
    sizes = room.sizes()
    every = list(every_size(room.pod_sets))
    claimed = every[which % len(every)]
    found = sizes.largest(room.place, at_least=claimed)
    best = sizes.largest(room.place)
    enough = best is not None and all(best.counts[name] >= claimed[name] for name in claimed)
    assert (found is not None) == enough
    if found is not None and best is not None:
        assert found.counts == best.counts
    count(kept=found is not None, refused=found is None and best is not None)


@counted(several=20, guarded=5, kept_out=3)
@EXAMPLES
@given(rooms())
def test_places_are_all_that_could_ever_fit_in_the_order_of_preference(room: Room) -> None:
    """Whatever is available now; but for those that take what is reserved, or borrow what others have a stake in."""
    needs = room.at({each.name: each.count for each in room.pod_sets})
    assume(needs is not None)
    assert needs is not None
    idle = Quotas(room.configuration.tenants)
    known = Places(room.configuration, idle)
    workload = make_workload(1, pod_sets=room.pod_sets)
    ever = [place for place in known.all(room.node.name, workload) if known.possible(room.node.name, total(place))]

    def clear(place: tuple[tuple[Cell, int], ...]) -> bool:
        return not any(
            cell in room.reserved or (cell.borrows(amount) and cell.reaches(amount, room.stakes)) for cell, amount in place
        )

    takes = [tuple((room.node.cells[pair], amount) for pair, amount in total(place).items()) for place in ever]
    expected = [place for place, each in zip(ever, takes, strict=True) if clear(each)][:MAX_PLACES]
    found = list(places(needs, reserved=room.reserved, stakes=room.stakes))
    assert [total(each.allocations) for each in found] == [total(each) for each in expected]
    assert len({each.allocations for each in found}) == len(found)
    count(several=len(found) > 1, guarded=bool(room.reserved or room.stakes), kept_out=len(expected) < len(ever))
