"""One thing on which ledger, engine and cluster do not agree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from aiqueue.admission.doctor.kinds import Kind, Severity

_SHOWN = 5


class Mend(StrEnum):
    """What `--repair` does about a difference."""

    CLOSE_RUN = "CloseRun"  # give the quota of a run back that is proven over
    END_WORKLOAD = "EndWorkload"  # it is over, as its Job is
    SET_STATE = "SetState"  # the state that its run, or the lack of one, says
    WRITE_START = "WriteStart"  # the action that makes a Job that runs the run's own
    WRITE_STOP = "WriteStop"  # the action that ends a run whose end was decided
    WRITE_RESTORE = "WriteRestore"  # the action that puts a template back
    DELETE_ACTION = "DeleteAction"  # it means nothing any more
    DELETE_CLAIM = "DeleteClaim"  # it means nothing any more
    COUNT_USAGE = "CountUsage"  # count the decayed usage of queues again, from their runs
    MOVE_RUN_IDS = "MoveRunIds"  # give out no run id a second time
    LEAD_ANEW = "LeadAnew"  # nothing is written: a controller does it when it begins to lead


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs, and what to do.

    Attributes:
        object: what it is about, as `kind/name`; with `kind` it names a difference from look to look.
        what: what differs, as a sentence.
        cause: what likely made it so.
        repair: what mends it: what `--repair` will do where it is safe, else what a person can do.
        mend: what `--repair` does; None where it does nothing.
        uid, row: of the Job, and the id of the run, action or workload in the ledger that it is about; for the mend.
    """

    kind: Kind
    severity: Severity
    object: str
    what: str
    cause: str
    repair: str
    mend: Mend | None = None
    uid: str = ""
    row: int = 0

    @property
    def safe(self) -> bool:
        """Whether `--repair` mends it."""
        return self.mend is not None

    @property
    def alarming(self) -> bool:
        """Whether it is more than information."""
        return self.severity is not Severity.INFORMATION

    @property
    def key(self) -> tuple[Kind, str]:
        """What makes two differences the same in two looks."""
        return (self.kind, self.object)


def named(names: Iterable[str]) -> str:
    """The first few names as a phrase: `a, b and 7 more`."""
    every = sorted(names)
    head = ", ".join(every[:_SHOWN])
    return head if len(every) <= _SHOWN else f"{head} and {len(every) - _SHOWN} more"


def counted(number: int, noun: str) -> str:
    """`1 pod`, `2 pods`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
