"""Named points between two steps of a loop where a test can make the process die, stop, hang, wait or fail.

A point costs one look at an empty dictionary while nothing is armed. Arming is by settings only, as a list of
`point=fault[:seconds][#time]`: `AIQUEUE_FAULTS="act.before-patch=stop,commit.after=kill#3,observe.in-write=delay:0.5"`. Each armed
point fires once: at the time it is reached that `#` says, else at the first. It says so on stderr before.

    lead         terms: taking one over, registering the cluster, renewing, giving it up
    rebuild      the ledger is read at the start of a term, and the engine built
    observe      what was seen goes into the ledger: drained, before, in and after the transaction
    close        the same, where runs give their quota back
    acknowledge  actions that were done are deleted
    configure    a new revision of the configuration is read
    commit       a Plan becomes a transaction, is confirmed to the engine, and told to who acts
    act          a Job is looked at, before and after each PATCH; notice to its pods
    confirm      the cluster is asked whether a Job or its pods are gone
    archive      what is over leaves the hot table

`in` is inside the transaction, after all was written and before COMMIT.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from dataclasses import dataclass
from enum import StrEnum

from aiqueue.queue.errors import InvalidInput, LedgerError
from aiqueue.queue.words import ActionKind


class Fault(StrEnum):
    """What an armed point does."""

    KILL = "kill"  # SIGKILL to this process
    STOP = "stop"  # SIGSTOP to this process: goes on after a SIGCONT
    RAISE = "raise"  # raise a LedgerError
    HANG = "hang"  # wait for ever in this thread
    DELAY = "delay"  # wait so many seconds in this thread


POINTS = (
    "lead.before-take-over",
    "lead.after-take-over",
    "lead.before-register",
    "lead.after-register",
    "lead.before-renew",
    "lead.after-renew",
    "lead.before-resign",
    "rebuild.before",
    "rebuild.after",
    "observe.drained",
    "observe.before-write",
    "observe.in-write",
    "observe.after-write",
    "close.before",
    "close.in",
    "close.after",
    "acknowledge.before",
    "acknowledge.after",
    "configure.before",
    "configure.after",
    "commit.before",
    "commit.in",
    "commit.after",
    "commit.confirmed",
    "act.before-look",
    "act.after-look",
    "act.before-patch",
    "act.after-patch",
    *(f"act.{when}-{kind.lower()}" for kind in ActionKind for when in ("before", "after")),
    "act.before-pods",
    "act.after-pods",
    "confirm.before-ask",
    "confirm.after-answer",
    "archive.before",
    "archive.in",
    "archive.after",
)
_ARMED = re.compile(
    r"(?P<point>[a-z.-]+)=(?P<fault>[a-z]+)(:(?P<seconds>[0-9]{1,4}(\.[0-9]{1,3})?))?(#(?P<time>[1-9][0-9]{0,5}))?"
)
_DELAY_SECONDS = 1.0


@dataclass(slots=True)
class _Armed:
    fault: Fault
    seconds: float
    left: int  # so many more times it has to be reached


_armed: dict[str, _Armed] = {}
_counting = threading.Lock()


def arm(text: str) -> None:
    """Arm the points of a settings string, and no others.

    Raises:
        InvalidInput: a point or a fault is not known.
    """
    found: dict[str, _Armed] = {}
    for item in filter(None, text.split(",")):
        match = _ARMED.fullmatch(item)
        if match is None or match["point"] not in POINTS or match["fault"] not in set(Fault):
            known = f"{', '.join(POINTS)} and {', '.join(Fault)}"
            raise InvalidInput("AIQUEUE_FAULTS", item, f"write point=fault[:seconds][#time] with a point of {known}")
        found[match["point"]] = _Armed(
            Fault(match["fault"]), float(match["seconds"] or _DELAY_SECONDS), int(match["time"] or 1)
        )
    _armed.clear()
    _armed.update(found)


def reach(point: str) -> None:
    """Do what is armed at this point, if anything.

    Raises:
        LedgerError: the point is armed with `raise`.
    """
    if not _armed:
        return
    with _counting:
        armed = _armed.get(point)
        if armed is None:
            return
        armed.left -= 1
        if armed.left:
            return
        del _armed[point]
    os.write(2, f"fault {armed.fault} at {point}\n".encode())
    match armed.fault:
        case Fault.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Fault.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Fault.RAISE:
            raise LedgerError(f"fault injected at {point}")
        case Fault.HANG:
            threading.Event().wait()
        case Fault.DELAY:
            threading.Event().wait(armed.seconds)


def reach_patch(when: str, kind: ActionKind) -> None:
    """The points `before` and `after` a PATCH: that of any kind, and that of its own.

    Raises:
        LedgerError: one of them is armed with `raise`.
    """
    if _armed:
        reach(f"act.{when}-patch")
        reach(f"act.{when}-{kind.lower()}")
