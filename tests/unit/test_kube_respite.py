"""When a server is left alone, and when it is not."""

from __future__ import annotations

from random import Random

import pytest

from aiqueue.admission.kube import respite
from aiqueue.admission.kube.respite import IN_A_ROW, LONGEST_SECONDS, Respite


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(respite, "monotonic", made)
    return made


def made(seed: int = 1) -> Respite:
    return Respite(Random(seed))


def fail(resting: Respite, times: int = IN_A_ROW, retry_after_seconds: float | None = None) -> None:
    for _ in range(times):
        resting.unwell("no answer", retry_after_seconds)


@pytest.mark.usefixtures("clock")
def test_a_single_failure_keeps_nobody_waiting() -> None:
    resting = made()
    for _ in range(100):
        fail(resting, IN_A_ROW - 1)
        assert resting.seconds() == 0
        resting.well()


def test_failures_in_a_row_begin_a_respite_that_a_success_ends(clock: Clock) -> None:
    resting = made()
    fail(resting)
    assert 0.1 <= resting.seconds() <= 0.2
    clock.now += 0.05
    assert resting.seconds() < 0.2
    resting.well()
    assert resting.seconds() == 0
    fail(resting, IN_A_ROW - 1)
    assert resting.seconds() == 0


def test_it_grows_to_a_bound_while_nothing_goes_well(clock: Clock) -> None:
    resting = made()
    fail(resting, IN_A_ROW - 1)
    rests = []
    for _ in range(60):
        fail(resting, 1)
        rests.append(resting.seconds())
        clock.now += rests[-1]
    assert max(rests) <= LONGEST_SECONDS
    assert sum(rests[10:]) / 50 > LONGEST_SECONDS / 3


@pytest.mark.usefixtures("clock")
def test_what_fails_within_a_respite_was_begun_before_it() -> None:
    resting = made()
    fail(resting)
    rest = resting.seconds()
    fail(resting, 100)
    assert resting.seconds() == rest


def test_what_the_server_asks_for_is_followed_within_bounds(clock: Clock) -> None:
    resting = made()
    fail(resting, IN_A_ROW, retry_after_seconds=12.0)
    assert 12.0 <= resting.seconds() <= 13.2
    clock.now += 20
    fail(resting, 1, retry_after_seconds=86_400.0)
    assert 30.0 <= resting.seconds() <= 33.0


def test_it_says_what_is_wrong_and_since_when_and_forgets_it_in_time(clock: Clock) -> None:
    resting = made()
    fail(resting, IN_A_ROW - 1)
    assert resting.problem() is None
    clock.now += 7
    fail(resting, 1)
    assert resting.problem() == "for 7 s, 5 times in a row; the latest: no answer"
    clock.now += 61
    assert resting.problem() is None, "nobody has asked since: there is no telling"
    fail(resting, 1)
    assert resting.problem() is not None
    resting.well()
    assert resting.problem() is None
