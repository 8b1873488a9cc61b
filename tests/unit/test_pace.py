"""How much of a chore is done at once, and when it comes next."""

from __future__ import annotations

from aiqueue.admission.controller.pace import Pace


def busy(pace: Pace, seconds: float, seconds_a_part: float) -> tuple[int, list[float]]:
    """Let time pass with always more to do; returns the parts that were done and how long each time took."""
    now, done, took = 0.0, 0, []
    while now < seconds:
        if pace.due(now):
            parts = pace.amount
            took.append(parts * seconds_a_part)
            pace.done(now, now + took[-1], parts)
            done += parts
            now += took[-1]
        now += 0.01
    return done, took


def test_it_waits_at_first_and_when_nothing_is_left() -> None:
    pace = Pace(pause_seconds=10)
    assert not pace.due(100.0)
    assert not pace.due(109.0)
    assert pace.due(110.0)
    pace.done(110.0, 110.01, pace.amount - 1)
    assert not pace.due(120.0)
    assert pace.due(120.01)


def test_while_more_is_left_it_takes_its_share_of_the_time_and_no_long_time_at_once() -> None:
    done, took = busy(Pace(seconds=0.04, share=0.1), seconds=1000.0, seconds_a_part=0.0001)
    assert 0.09 < sum(took) / 1000.0 < 0.11
    assert max(took) <= 0.041
    assert done > 1000.0 * 0.09 / 0.0001


def test_slow_parts_are_done_few_at_a_time_and_never_none() -> None:
    pace = Pace(seconds=0.04, share=0.1, least=20, most=2000)
    _, took = busy(pace, seconds=1000.0, seconds_a_part=0.01)
    assert pace.amount == 20
    assert sum(took) / 1000.0 < 0.11
    busy(pace, seconds=5000.0, seconds_a_part=0.0)
    assert pace.amount == 2000


def test_few_parts_that_took_long_do_not_slow_it_down() -> None:
    pace = Pace()
    before = pace.amount
    pace.done(0.0, 0.03, 1)
    assert pace.amount == before
