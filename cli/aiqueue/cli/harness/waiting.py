"""Waiting for a condition: bounded, backing off, with jitter."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from aiqueue.cli.harness.errors import HarnessError

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.25


def pause(attempt: int) -> None:
    """Sleep before attempt number `attempt` + 1 of something that failed: doubling from 50 ms to 2 s, cut short at random."""
    # Jitter only spreads attempts; it guards no secret.
    time.sleep(min(2.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.0))


def until(
    probe: Callable[[], T | None],
    *,
    seconds: float,
    what: str,
    longest_pause_seconds: float = LONGEST_PAUSE_SECONDS,
) -> T:
    """Ask `probe` until it answers something other than None or False, and return that.

    Args:
        probe: the condition; its own exceptions pass through.
        seconds: how long to go on asking. The probe is asked at least once.
        what: the condition in words, for the error.
        longest_pause_seconds: pauses grow from 10 ms to this, each cut short at random.

    Raises:
        HarnessError: the deadline passed.
    """
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        answer = probe()
        if answer is not None and answer is not False:
            return answer
        left = deadline - time.monotonic()
        if left <= 0:
            raise HarnessError(f"{what} did not happen within {seconds:g} s")
        # Jitter only spreads probes; it guards no secret.
        time.sleep(min(left, pause * random.uniform(0.5, 1.0)))
        pause = min(pause * 1.5, longest_pause_seconds)
