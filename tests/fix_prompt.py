"""What has to be done in time, on a machine that may stand still for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
TRIES = 3


def prompt(act: Callable[[], T], within_seconds: float) -> T:
    """What an act answers that has to take less than so long.

    A loaded machine keeps everybody waiting now and then, so it is tried again: who is slow by himself is so each time.
    """
    took: list[float] = []
    for _ in range(TRIES):
        began = time.monotonic()
        answer = act()
        took.append(time.monotonic() - began)
        if took[-1] < within_seconds:
            return answer
    raise AssertionError(f"took {took} s, never less than {within_seconds:g} s")
