"""The ledger's clock between two looks at it."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from aiqueue.admission.controller.clock import LedgerClock
from fix_follow import AFTER


class Monotonic:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_it_goes_on_by_the_local_monotonic_clock() -> None:
    local = Monotonic()
    clock = LedgerClock(AFTER, local)
    assert clock.now() == AFTER
    local.seconds += 2.5
    assert clock.now() == AFTER + timedelta(seconds=2.5)


def test_a_sample_ahead_is_taken_and_one_behind_waits_until_it_is_caught_up() -> None:
    local = Monotonic()
    clock = LedgerClock(AFTER, local)
    clock.sample(AFTER + timedelta(seconds=60))
    assert clock.now() == AFTER + timedelta(seconds=60)
    clock.sample(AFTER + timedelta(seconds=50))
    assert clock.now() == AFTER + timedelta(seconds=60)
    local.seconds += 5
    assert clock.now() == AFTER + timedelta(seconds=60)
    local.seconds += 10
    assert clock.now() == AFTER + timedelta(seconds=65)


@given(st.lists(st.tuples(st.floats(0, 1e4), st.none() | st.floats(-1e4, 1e4))))
def test_it_never_goes_backward(steps: list[tuple[float, float | None]]) -> None:
    local = Monotonic()
    clock = LedgerClock(AFTER, local)
    last = clock.now()
    for passes, sample in steps:
        local.seconds += passes
        if sample is not None:
            clock.sample(AFTER + timedelta(seconds=sample))
        now = clock.now()
        assert now >= last
        last = now
