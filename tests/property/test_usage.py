"""Decayed usage is the exact integral of what was held, however often and wherever it is folded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import permutations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from aiqueue.queue.records import Tenant
from aiqueue.queue.usage import Usage, first_use, normalised, totals_of_trees
from fix_builders import make_tenant

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400
PRECISION = 1e-9
EXAMPLES = settings(max_examples=300)

HALF_LIVES = st.sampled_from([1, 60, 3_600, DAY, 7 * DAY, 365 * DAY])
#: Microseconds after START: close together, spread over a month, and at one instant.
MOMENTS = st.one_of(st.integers(0, 5), st.integers(0, 10**7), st.integers(0, 30 * DAY * 10**6))
AMOUNTS = st.one_of(st.integers(1, 64), st.integers(1, 2**45))
#: (opened, closed, amount) of runs; a run may be closed at the instant it was opened.
RUNS = st.lists(st.tuples(MOMENTS, MOMENTS, AMOUNTS).map(lambda run: (*sorted(run[:2]), run[2])), min_size=1, max_size=12)

Runs = list[tuple[int, int, int]]


def at(micros: float) -> datetime:
    return START + timedelta(microseconds=micros)


def segment(amount: int, opened: float, closed: float, now: float, half_life_seconds: int) -> float:
    """What is left at `now` of `amount` held from `opened` to `closed` (microseconds), by the closed form."""
    if now <= opened:
        return 0.0
    closed = min(closed, now)
    decay = math.log(2) / half_life_seconds
    held, since = (closed - opened) / 1e6, (now - closed) / 1e6
    return amount / decay * -math.expm1(-decay * held) * math.exp(-decay * since)


def moves_of(runs: Runs) -> list[tuple[int, int]]:
    """(microseconds, change) in their order; what opens at an instant comes before what closes at it."""
    moves = [(opened, amount) for opened, _, amount in runs] + [(closed, -amount) for _, closed, amount in runs]
    return sorted(moves, key=lambda move: (move[0], move[1] < 0))


def folded(moves: list[tuple[int, int]], half_life_seconds: int) -> Usage:
    (first, amount), *rest = moves
    usage = first_use(at(first), amount, half_life_seconds)
    for moment, change in rest:
        usage = usage.moved(at(moment), change, half_life_seconds)
        assert usage.value >= 0
        assert usage.rate >= 0
    return usage


def close(found: float, wanted: float) -> bool:
    """Equal to a relative 1e-9, down to where floats have no more digits."""
    return math.isclose(found, wanted, rel_tol=PRECISION, abs_tol=1e-290)


@EXAMPLES
@given(runs=RUNS, looks=st.lists(MOMENTS, max_size=8), after=MOMENTS, half_life=HALF_LIVES)
def test_folded_at_any_instants_it_is_the_closed_form(runs: Runs, looks: list[int], after: int, half_life: int) -> None:
    moves = moves_of(runs)
    end = max(closed for _, closed, _ in runs) + after
    wanted = sum(segment(amount, opened, closed, end, half_life) for opened, closed, amount in runs)
    plain = folded(moves, half_life)
    # Folding where nothing moves changes nothing: usage does not depend on when anybody looked.
    seen = [(moment, 0) for look in looks if (moment := moves[0][0] + look) <= end]
    often = folded(sorted([*moves, *seen], key=lambda move: move[0]), half_life)
    event("nothing is left" if wanted < 1e-290 else "something is left")
    assert plain.rate == often.rate == 0
    assert close(plain.at(at(end)), wanted)
    assert close(often.at(at(end)), wanted)


@EXAMPLES
@given(runs=RUNS, now=MOMENTS, half_life=HALF_LIVES)
def test_runs_that_go_on_are_counted_up_to_the_moment(runs: Runs, now: int, half_life: int) -> None:
    """Moves after the moment are not told yet: what is open holds its amount until then."""
    told = [move for move in moves_of(runs) if move[0] <= now]
    wanted = sum(segment(amount, opened, closed, now, half_life) for opened, closed, amount in runs)
    usage = folded(told, half_life) if told else first_use(START, 0, half_life)
    event("something is open" if usage.rate else "nothing is open")
    assert usage.rate == sum(amount for opened, closed, amount in runs if opened <= now < closed)
    assert close(usage.at(at(now)), wanted)


@EXAMPLES
@given(
    before=st.tuples(st.integers(0, 10**6), AMOUNTS),
    changes=st.lists(AMOUNTS, min_size=2, max_size=4),
    later=MOMENTS,
    half_life=HALF_LIVES,
)
def test_the_order_of_moves_of_one_instant_does_not_matter(
    before: tuple[int, int], changes: list[int], later: int, half_life: int
) -> None:
    """To the last bit: ledger, engine and simulator may each have their own order."""
    moment, amount = before
    start = first_use(START, amount, half_life)
    found = set[Usage]()
    for order in permutations(changes):
        usage = start
        for change in order:
            usage = usage.moved(at(moment), change, half_life)
        found.add(usage)
    assert found == {start.moved(at(moment), sum(changes), half_life)}
    (usage,) = found
    assert usage.at(at(moment + later)) >= 0


@EXAMPLES
@given(runs=RUNS, now=MOMENTS)
def test_a_half_life_of_nothing_forgets_at_once(runs: Runs, now: int) -> None:
    usage = folded(moves_of(runs), 0)
    assert (usage.value, usage.rate, usage.at(at(now))) == (0.0, 0, 0.0)
    held = first_use(START, 5, 0)
    assert held.at(at(now)) == 0.0
    # From when it has one, it remembers what is still held.
    assert held.moved(at(now), 0, DAY).at(at(now) + timedelta(seconds=10)) == pytest.approx(50, rel=1e-3)


@EXAMPLES
@given(value=st.floats(0, 1e18), rate=st.integers(0, 2**45), half_life=HALF_LIVES, steps=st.lists(MOMENTS, max_size=5))
def test_it_never_falls_below_nothing_and_never_passes_what_its_rate_can_hold(
    value: float, rate: int, half_life: int, steps: list[int]
) -> None:
    usage = Usage(value, rate, half_life, START)
    most = max(value, rate * half_life / math.log(2)) * (1 + PRECISION)
    for step in sorted(steps):
        assert 0 <= usage.at(at(step)) <= most
        usage = usage.moved(at(step), 0, half_life)


def test_a_clock_that_went_back_takes_nothing_away() -> None:
    usage = first_use(at(10**7), 4, DAY)
    assert usage.at(at(0)) == 0.0
    back = usage.moved(at(0), 2, DAY)
    assert (back.as_of, back.rate, back.value) == (at(10**7), 6, 0.0)


def test_a_half_life_halves() -> None:
    usage = Usage(1000.0, 0, DAY, START)
    assert [usage.at(START + timedelta(days=days)) for days in (0, 1, 2)] == pytest.approx([1000, 500, 250])
    # Held for ever it comes to rate * h/ln 2, half of which after one half-life.
    full = 8 * DAY / math.log(2)
    assert first_use(START, 8, DAY).at(START + timedelta(days=1)) == pytest.approx(full / 2)
    assert first_use(START, 8, DAY).at(START + timedelta(days=60)) == pytest.approx(full)


def of(**seconds: float) -> Mapping[str, Usage]:
    return {resource: Usage(value, 0, DAY, START) for resource, value in seconds.items()}


@pytest.mark.parametrize(
    ("usages", "weights", "queue_weight", "millionths"),
    [
        (of(gpu=640.0), {}, Fraction(1), 10_000_000),  # 64 GPUs for ten seconds are ten seconds of the whole tree
        (of(gpu=640.0, cpu=500.0), {}, Fraction(1), 10_500_000),
        (of(gpu=640.0, cpu=500.0), {"cpu": Fraction(0)}, Fraction(1), 10_000_000),
        (of(gpu=640.0, cpu=500.0), {"gpu": Fraction(1, 2), "cpu": Fraction(4)}, Fraction(1), 7_000_000),
        (of(gpu=640.0), {}, Fraction(2), 5_000_000),
        (of(gpu=640.0), {}, Fraction(0), 10_000_000),
        (of(gpu=640.0, memory=1e15), {}, Fraction(1), 10_000_000),  # nobody has quota of memory
        (of(), {}, Fraction(1), 0),
        (of(gpu=0.00001), {}, Fraction(1), 0),
    ],
)
def test_usage_is_compared_as_seconds_of_the_whole_tree(
    usages: Mapping[str, Usage], weights: Mapping[str, Fraction], queue_weight: Fraction, millionths: int
) -> None:
    assert normalised(usages, {"gpu": 64, "cpu": 1000, "memory": 0}, weights, queue_weight, START) == millionths


@given(names=st.permutations(["gpu", "cpu", "memory", "disk"]), values=st.lists(st.floats(0, 1e15), min_size=4, max_size=4))
def test_the_order_of_resources_does_not_matter(names: list[str], values: list[float]) -> None:
    usages = of(**dict(zip(["cpu", "disk", "gpu", "memory"], values, strict=True)))
    totals = {"gpu": 64, "cpu": 3000, "memory": 7**20, "disk": 11**15}
    shuffled = {name: usages[name] for name in names}
    assert normalised(shuffled, totals, {}, Fraction(3), START) == normalised(usages, totals, {}, Fraction(3), START)


def test_what_a_tree_has_is_the_nominal_of_all_of_its_tenants() -> None:
    tenants: dict[str, Tenant] = {
        tenant.name: tenant
        for tenant in (
            make_tenant("leaf", {"h100": {"gpu": 8, "cpu": 10}, "a100": {"gpu": 4}}, parent="middle"),
            make_tenant("middle", {"h100": {"gpu": 2}}, parent="top"),
            make_tenant("top", {"l4": {"gpu": 1}}),
            make_tenant("alone", {"h100": {"gpu": 100}}),
            make_tenant("orphan", {"h100": {"gpu": 7}}, parent="nobody"),
            make_tenant("a", {"h100": {"gpu": 3}}, parent="b"),
            make_tenant("b", {"h100": {"gpu": 5}}, parent="a"),
        )
    }
    totals = totals_of_trees(tenants)
    assert totals["leaf"] == totals["middle"] == totals["top"] == {"gpu": 15, "cpu": 10}
    assert [totals[name] for name in ("alone", "orphan", "a", "b")] == [{"gpu": 100}, {"gpu": 7}, {"gpu": 3}, {"gpu": 5}]
