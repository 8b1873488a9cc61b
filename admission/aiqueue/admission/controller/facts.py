"""What workers report back to the cycle, which alone writes to the ledger."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from aiqueue.queue.observations import Observation
from aiqueue.queue.store.actions import Action


class Result(StrEnum):
    """How an action ended."""

    DONE = "done"  # the cluster agrees
    MOOT = "moot"  # nothing is left to do: the Job is gone, over or changed, which observing sees too
    REFUSED = "refused"  # the API server will never take it


@dataclass(frozen=True, slots=True)
class ActionEnded:
    """An action needs no further attempt."""

    action: Action
    result: Result
    message: str = ""


@dataclass(frozen=True, slots=True)
class JobGone:
    """A GET found no Job of this uid."""

    uid: str


@dataclass(frozen=True, slots=True)
class JobFound:
    """A Job that the watch took away is there all the same, for example without its label."""

    observation: Observation


@dataclass(frozen=True, slots=True)
class PodsGone:
    """A consistent list found no pod alive of this Job."""

    uid: str
    run_id: int


@dataclass(frozen=True, slots=True)
class Unstarted:
    """A GET found this Job untouched by a run whose start came to nothing, at the version that the watch had told last."""

    uid: str
    run_id: int
    resource_version: str


Fact = ActionEnded | JobGone | JobFound | PodsGone | Unstarted


class Inbox:
    """Facts on their way to the cycle. `wake` is called for each, so that the cycle need not poll."""

    def __init__(self) -> None:
        self._facts: queue.SimpleQueue[Fact] = queue.SimpleQueue()
        self.wake: Callable[[], object] = lambda: None

    def put(self, fact: Fact) -> None:
        """Report a fact."""
        self._facts.put(fact)
        self.wake()

    def drain(self, at_most: int = 5000) -> list[Fact]:
        """Take what has been reported, oldest first."""
        facts: list[Fact] = []
        while len(facts) < at_most:
            try:
                facts.append(self._facts.get_nowait())
            except queue.Empty:
                break
        return facts
