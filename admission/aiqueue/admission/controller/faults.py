"""Named points between two steps of a loop where a test can make the process die, stop, hang or fail.

A point costs one dictionary look-up in an empty dictionary while nothing is armed. Arming is by settings only:
`AIQUEUE_FAULTS="act.before-patch=stop,commit.after=kill"`. Each armed point fires once.
"""

from __future__ import annotations

import os
import signal
import threading
from enum import StrEnum

from aiqueue.queue.errors import InvalidInput, LedgerError
from aiqueue.queue.words import ActionKind


class Fault(StrEnum):
    """What an armed point does."""

    KILL = "kill"  # SIGKILL to this process
    STOP = "stop"  # SIGSTOP to this process: goes on after a SIGCONT
    RAISE = "raise"  # raise a LedgerError
    HANG = "hang"  # wait for ever in this thread


POINTS = (
    "observe.before-write",
    "observe.after-write",
    "commit.before",
    "commit.after",
    "act.before-patch",
    "act.after-patch",
    *(f"act.{when}-{kind.lower()}" for kind in ActionKind for when in ("before", "after")),
    "close.before",
    "close.after",
    "acknowledge.before",
)

_armed: dict[str, Fault] = {}


def arm(text: str) -> None:
    """Arm the points of a settings string.

    Raises:
        InvalidInput: a point or a fault is not known.
    """
    for item in filter(None, text.split(",")):
        point, _, fault = item.partition("=")
        if point not in POINTS or fault not in set(Fault):
            raise InvalidInput(
                "AIQUEUE_FAULTS", item, f"write point=fault with a point of {', '.join(POINTS)} and {', '.join(Fault)}"
            )
        _armed[point] = Fault(fault)


def reach(point: str) -> None:
    """Do what is armed at this point, if anything.

    Raises:
        LedgerError: the point is armed with `raise`.
    """
    if not _armed:
        return
    fault = _armed.pop(point, None)
    if fault is Fault.KILL:
        os.kill(os.getpid(), signal.SIGKILL)
    elif fault is Fault.STOP:
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fault is Fault.RAISE:
        raise LedgerError(f"fault injected at {point}")
    elif fault is Fault.HANG:
        threading.Event().wait()


def reach_patch(when: str, kind: ActionKind) -> None:
    """The points `before` and `after` a PATCH: that of any kind, and that of its own.

    Raises:
        LedgerError: one of them is armed with `raise`.
    """
    if _armed:
        reach(f"act.{when}-patch")
        reach(f"act.{when}-{kind.lower()}")
