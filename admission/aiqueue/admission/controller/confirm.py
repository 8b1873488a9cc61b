"""Asks the cluster before an absence is believed: of Jobs that the watch took away, of pods, of starts (`questions`).

Questions are asked again, with a growing pause, until the answer is the one that lets the ledger move: a Job that is gone, a
Job that has no pod alive, a Job that nobody started. One question is open for each Job and kind at a time. While the API server is to be left alone
(`kube.respite`) nothing is asked.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from aiqueue.admission.controller import faults
from aiqueue.admission.controller.facts import Fact, Inbox
from aiqueue.admission.controller.watchdog import Step
from aiqueue.admission.controller.workers import Workers
from aiqueue.queue.errors import AiqueueError

_log = structlog.get_logger()
_FIRST_PAUSE_SECONDS = 0.05
_MOST_PAUSE_SECONDS = 5.0
_IDLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask: `ask` answers with a fact, or None for "not yet". `key` is what makes two questions the same."""

    key: tuple[str, ...]
    ask: Callable[[], Fact | None]


class Confirmer:
    """A few threads that ask questions until they are answered."""

    def __init__(self, inbox: Inbox, *, threads: int = 4, resting: Callable[[], float] = lambda: 0.0) -> None:
        self._inbox = inbox
        self._resting = resting
        self._workers = Workers("confirm", threads, self._work)
        self._condition = self._workers.condition
        self._due: list[tuple[float, int, Question, float]] = []
        self._open: set[tuple[str, ...]] = set()
        self._sequence = itertools.count()

    def start(self) -> None:
        """Begin to ask."""
        self._workers.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Ask nothing more."""
        self._workers.stop(timeout_seconds)

    def ask(self, question: Question) -> None:
        """Take a question on, unless the same one is open."""
        with self._condition:
            if question.key in self._open:
                return
            self._open.add(question.key)
            heapq.heappush(self._due, (time.monotonic(), next(self._sequence), question, _FIRST_PAUSE_SECONDS))
            self._condition.notify()

    def _take(self) -> tuple[Question, float] | None:
        with self._condition:
            while not self._workers.stopping:
                ready_in = self._due[0][0] - time.monotonic() if self._due else _IDLE_SECONDS
                ready_in = max(ready_in, self._resting())
                if ready_in <= 0:
                    _, _, question, pause = heapq.heappop(self._due)
                    return question, pause
                self._condition.wait(timeout=ready_in)
            return None

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            question, pause = taken
            answer: Fact | None = None
            try:
                with Step("asks about a Job"):
                    faults.reach("confirm.before-ask")
                    answer = question.ask()
                    faults.reach("confirm.after-answer")
            except AiqueueError as error:
                _log.warning("question to be asked again", question=question.key, error=str(error))
            except Exception:  # noqa: BLE001 -- a fault of ours must not lose the question or end the thread
                _log.exception("question failed in a way nobody expected", question=question.key)
            with self._condition:
                if answer is None:
                    again = time.monotonic() + pause * random.uniform(0.5, 1.0)
                    longer = min(pause * 2, _MOST_PAUSE_SECONDS)
                    heapq.heappush(self._due, (again, next(self._sequence), question, longer))
                    self._condition.notify()
                else:
                    self._open.discard(question.key)
            if answer is not None:
                self._inbox.put(answer)
