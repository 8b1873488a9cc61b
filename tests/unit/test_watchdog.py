"""Whose step does not move ends the process; who is slow, nested, idle or stopped with all the others does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from aiqueue.admission.controller import watchdog
from aiqueue.admission.controller.watchdog import Step, Watchdog
from aiqueue.cli.harness.waiting import until

STUCK_SECONDS = 1.0
WAIT_SECONDS = 60.0


@contextmanager
def watched(stuck_seconds: float = STUCK_SECONDS, **options: object) -> Iterator[tuple[Watchdog, threading.Event]]:
    ended = threading.Event()
    dog = Watchdog(stuck_seconds, end=ended.set, **options)  # type: ignore[arg-type]  # what a test gives it
    dog.start()
    yield dog, ended
    dog.stop()


@contextmanager
def hanging(what: str, allowed_seconds: float = 0.0) -> Iterator[None]:
    """A thread in a step that lasts as long as the block."""
    entered, leave = threading.Event(), threading.Event()

    def hang() -> None:
        with Step(what, allowed_seconds):
            entered.set()
            leave.wait()

    thread = threading.Thread(target=hang, name="poor-thread")
    thread.start()
    entered.wait(WAIT_SECONDS)
    yield
    leave.set()
    thread.join(WAIT_SECONDS)


def test_a_thread_that_stands_still_ends_the_process_and_the_log_says_where(capsys: pytest.CaptureFixture[str]) -> None:
    with watched() as (dog, ended), hanging("mends the roof"):
        assert ended.wait(WAIT_SECONDS)
        (sentence,) = dog.problems()
        assert sentence.startswith("thread poor-thread mends the roof and has not got on for ")
    said = capsys.readouterr().out
    assert "thread poor-thread mends the roof" in said
    assert "leave.wait()" in said


def test_who_moves_or_has_left_is_left_alone() -> None:
    with watched() as (dog, ended):
        over = time.monotonic() + 2.5 * STUCK_SECONDS
        with Step("goes round"):
            while time.monotonic() < over:
                watchdog.beat()
                with Step("is within"):
                    ended.wait(STUCK_SECONDS / 8)
        assert not ended.wait(1.5 * STUCK_SECONDS)
        assert dog.problems() == []


def test_what_a_step_may_take_longer_is_its_own() -> None:
    with watched() as (_, ended), hanging("reads a large book", allowed_seconds=60.0):
        assert not ended.wait(2 * STUCK_SECONDS)


def test_a_process_that_was_stopped_is_not_ended_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic
    with watched(stuck_seconds=5.0) as (dog, ended), hanging("works"):
        with monkeypatch.context() as patched:
            patched.setattr(time, "monotonic", lambda: now() + 3600)
            until(lambda: dog._looked_at > now() + 1800, seconds=WAIT_SECONDS, what="a look after an hour's stop")
            assert all(seen.seconds < 5.0 for seen in dog._seen.values())
        assert not ended.is_set()


def test_what_is_needed_and_has_ended_ends_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    lacking: list[str] = []
    with watched(lacking=lambda: lacking[0] if lacking else None) as (dog, ended):
        assert not ended.wait(STUCK_SECONDS)
        lacking.append("the reflector has ended")
        assert ended.wait(WAIT_SECONDS)
        assert dog.problems() == ["the reflector has ended"]
    assert "the reflector has ended" in capsys.readouterr().out


def test_a_watchdog_that_looks_no_more_is_a_problem_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    dog = Watchdog(STUCK_SECONDS)
    assert dog.problems() == []
    later = time.monotonic() + 60
    monkeypatch.setattr(time, "monotonic", lambda: later)
    (sentence,) = dog.problems()
    assert sentence.startswith("the watchdog has not looked for ")
