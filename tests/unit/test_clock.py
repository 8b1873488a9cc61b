"""The ledger's clock between two looks at it, and while the clock that it follows is stepped."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiqueue.admission.controller.clock import STEP_SECONDS, LedgerClock
from fix_follow import AFTER

HOURS = 3600.0


class Monotonic:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_it_goes_on_by_the_local_monotonic_clock() -> None:
    local = Monotonic()
    clock = LedgerClock(AFTER, local)
    assert clock.now() == AFTER
    local.seconds += 2.5
    assert clock.now() == AFTER + after(2.5)


def test_a_sample_a_little_ahead_is_taken_and_one_a_little_behind_waits_until_it_is_caught_up() -> None:
    local = Monotonic()
    clock = LedgerClock(AFTER, local)
    assert clock.sample(AFTER + after(1.5)) == clock.now() == AFTER + after(1.5)
    assert clock.sample(AFTER + after(0.5)) == clock.now() == AFTER + after(1.5)
    local.seconds += 0.5
    assert clock.now() == AFTER + after(1.5)
    local.seconds += 1
    assert clock.now() == AFTER + after(2)


@pytest.mark.parametrize("hours", [3, -3])
def test_a_step_is_followed_slowly_until_it_is_made_up_for(hours: int) -> None:
    local = Monotonic()
    clock = LedgerClock(AFTER, local)
    for minute in range(1, 10):
        local.seconds += 60
        clock.sample(AFTER + after(hours * HOURS + 60 * minute))
        went = clock.now() - AFTER
        assert after(0.89 * 60 * minute) <= went <= after(1.11 * 60 * minute)
    for minute in range(10, 2100):
        local.seconds += 60
        clock.sample(AFTER + after(hours * HOURS + 60 * minute))
    assert abs(clock.now() - (AFTER + after(hours * HOURS + 60 * 2099))) <= after(STEP_SECONDS)


def test_an_answer_that_took_long_is_no_step() -> None:
    local = Monotonic()
    clock = LedgerClock(AFTER, local)
    time_of = clock.asking()
    local.seconds += 20
    assert time_of(AFTER + after(1)) == AFTER + after(20)
    time_of = clock.asking()
    local.seconds += 20
    assert time_of(AFTER + after(41)) == AFTER + after(41)  # a second ahead, however long it took


def test_it_begins_no_earlier_than_who_led_before() -> None:
    local = Monotonic()
    clock = LedgerClock(AFTER, local)
    clock.at_least(AFTER + after(HOURS))
    clock.at_least(AFTER + after(60))
    assert clock.now() == AFTER + after(HOURS)
    local.seconds += 10
    clock.sample(AFTER + after(10))
    assert AFTER + after(HOURS + 8) <= clock.now() <= AFTER + after(HOURS + 10)


@given(st.lists(st.tuples(st.floats(0, 1e4), st.none() | st.floats(-1e4, 1e4), st.floats(0, 100))))
def test_it_never_goes_backward_nor_much_faster_or_slower_than_time(steps: list[tuple[float, float | None, float]]) -> None:
    local = Monotonic()
    clock = LedgerClock(AFTER, local)
    last = clock.now()
    since_reading = 0.0
    for passes, reading, waits in steps:
        time_of = clock.asking()
        local.seconds += passes + waits
        since_reading += passes + waits
        if reading is not None:
            assert time_of(AFTER + after(reading)) == clock.now()
        now = clock.now()
        assert last <= now <= last + after(passes + waits + 0.1 * since_reading + STEP_SECONDS + 1e-5)
        last = now
        since_reading = 0.0 if reading is not None else since_reading
