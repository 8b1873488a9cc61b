"""Carries out actions, many at once but in order for each workload, until the cluster agrees.

What doing an action means is `hands`; when and in which order is decided here. An action that must be tried again waits for a
back-off with full jitter, and everything of its workload behind it. While paused, or when the term is not trusted, nothing is
begun. Nor is anything while the API server is to be left alone (`kube.respite`): what waits for it then waits once, not each action on
its own.

Starts of Jobs, of which there are most, can be taken by a lane first (`lane`): `begin_start` gives out those that nobody has tried, and what
did not go through at once comes back by `left` and is done like all else.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from aiqueue.admission.controller.facts import ActionEnded, Inbox, Result
from aiqueue.admission.controller.watchdog import Step
from aiqueue.admission.controller.workers import Workers
from aiqueue.queue.errors import AiqueueError
from aiqueue.queue.store.actions import Action
from aiqueue.queue.words import ActionKind

_log = structlog.get_logger()
_BACKOFF_FIRST_SECONDS = 0.05
_BACKOFF_MOST_SECONDS = 30.0
_IDLE_SECONDS = 0.5
_UNTRUSTED_SECONDS = 0.1  # trust comes back by a renewal, of which nobody tells


@dataclass(frozen=True, slots=True)
class Again:
    """Try the action again, after a back-off or at least `after_seconds`."""

    why: str
    after_seconds: float = 0.0


Ended = tuple[Result, str]
Hands = Callable[[Action], "Ended | Again"]


class Actor:
    """A pool of threads that does actions. Results are facts in the inbox; an action is held until it was acknowledged."""

    def __init__(
        self,
        hands: Hands,
        inbox: Inbox,
        *,
        threads: int,
        trusted: Callable[[], bool],
        now: Callable[[], datetime],
        resting: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Describe an actor; nothing is begun.

        Args:
            hands: do an action once.
            inbox: hears what became of them.
            threads: how many actions are done at once.
            trusted: whether the term is.
            now: the ledger's time.
            resting: for how many seconds the API server is to be left alone.
        """
        self._hands = hands
        self._inbox = inbox
        self._trusted = trusted
        self._now = now
        self._resting = resting
        self._workers = Workers("act", threads, self._work)
        self._condition = self._workers.condition
        self._waiting: dict[int, deque[Action]] = {}  # by workload, oldest first
        self._due: list[tuple[float, int, int]] = []  # (monotonic time, turn, workload); only a workload's latest turn counts
        self._turns: dict[int, int] = {}
        self._held: set[int] = set()  # action ids: waiting, being done, or done and not yet acknowledged
        self._failures: dict[int, int] = {}
        self._sequence = itertools.count()
        self._paused = False
        #: (turn, workload) for the lane, in order; None while there is no lane.
        self._starts: deque[tuple[int, int]] | None = None
        self._wake_lane: Callable[[], object] = lambda: None
        self._busy: set[int] = set()  # workloads whose oldest action is being done

    def start(self) -> None:
        """Begin to carry out actions."""
        self._workers.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Begin nothing new and wait for what is being done."""
        self._workers.stop(timeout_seconds)

    def pause(self, paused: bool) -> None:
        """Begin nothing while paused."""
        with self._condition:
            if paused != self._paused:
                self._paused = paused
                self._condition.notify_all()

    def open_lane(self, wake: Callable[[], object]) -> None:
        """Keep starts that nobody has tried for `begin_start`; `wake` is called when there are any."""
        with self._condition:
            self._starts = deque()
            self._wake_lane = wake

    @property
    def starts(self) -> int:
        """About how many starts wait for the lane."""
        return len(self._starts or ())

    def begin_start(self) -> Action | None:
        """The next start for the lane, None if none may begin now. It ends with `started` or `left`."""
        with self._condition:
            if self._paused or self._workers.stopping or not self._starts or self._resting() or not self._trusted():
                return None
            while self._starts:
                turn, workload_id = self._starts.popleft()
                if self._turns.get(workload_id) == turn:
                    self._busy.add(workload_id)
                    return self._waiting[workload_id][0]
            return None

    def started(self, action: Action) -> None:
        """The lane started the Job."""
        self._finish(action, (Result.DONE, ""))

    def left(self, action: Action, after_seconds: float = 0.0) -> None:
        """The lane could not start the Job at once, or does not know whether it did: it is a matter for the hands."""
        with self._condition:
            self._busy.discard(action.workload_id)
            self._give_turn(action, after_seconds)
            self._condition.notify()

    def submit(self, actions: Iterable[Action]) -> None:
        """Take actions on, in this order for each workload. Those already taken on are ignored."""
        with self._condition:
            before = self.starts
            for action in actions:
                if action.id in self._held:
                    continue
                self._held.add(action.id)
                line = self._waiting.setdefault(action.workload_id, deque())
                line.append(action)
                if len(line) == 1:
                    self._schedule(action)
            if self._due:
                self._condition.notify_all()
            woken = self.starts > before
        if woken:
            self._wake_lane()

    def withdraw(self, closed: Mapping[int, int]) -> None:
        """Forget actions of runs that were closed, given by workload: the ledger has deleted them.

        One that is being done is left to end as moot; a restoration is of a closed run by nature and stays.
        """
        with self._condition:
            for workload_id in closed.keys() & self._waiting.keys():
                line = self._waiting[workload_id]
                first = 1 if workload_id in self._busy else 0
                kept = [
                    action
                    for place, action in enumerate(line)
                    if place < first or action.run_id != closed[workload_id] or action.kind is ActionKind.RESTORE
                ]
                self._forget(workload_id, kept)

    def _forget(self, workload_id: int, kept: Sequence[Action]) -> None:
        """Keep these actions of a workload only, what is being done among them."""
        withdrawn = {action.id for action in self._waiting[workload_id]} - {action.id for action in kept}
        self._held -= withdrawn
        for action_id in withdrawn & self._failures.keys():
            del self._failures[action_id]
        self._waiting[workload_id] = deque(kept)
        if workload_id not in self._busy:
            self._next(workload_id)

    def take_back(self, workload_id: int, run_id: int) -> bool:
        """Forget the start of a run that is about to be closed; False where it is being done, or done: what became of it is yet to be heard.

        Whoever does it looks at the Job by himself: he may find that it asks again for what was decided on, and start it.
        """
        with self._condition:
            line = self._waiting.get(workload_id, deque())
            kept = [action for action in line if action.run_id != run_id or action.kind is not ActionKind.UNSUSPEND]
            if len(kept) == len(line) or (workload_id in self._busy and line[0] not in kept):
                return False
            self._forget(workload_id, kept)
            return True

    def is_at(self, workload_id: int) -> bool:
        """Whether something is just being done for this workload."""
        with self._condition:
            return workload_id in self._busy

    def acknowledged(self, action_ids: Iterable[int]) -> None:
        """The ledger knows that these are done."""
        with self._condition:
            self._held.difference_update(action_ids)

    @property
    def pending(self) -> int:
        """Actions taken on and not yet acknowledged."""
        with self._condition:
            return len(self._held)

    def _next(self, workload_id: int) -> None:
        """Give the oldest action of a workload its turn, if there is one."""
        line = self._waiting[workload_id]
        if line:
            self._schedule(line[0])
        else:
            del self._waiting[workload_id]
            self._turns.pop(workload_id, None)

    def _schedule(self, action: Action, after_seconds: float = 0.0) -> None:
        wait = (action.not_before - self._now()).total_seconds() if action.not_before else 0.0
        untried = action.kind is ActionKind.UNSUSPEND and action.id not in self._failures
        if self._starts is not None and untried and action.resource_version and wait <= 0:
            turn = self._turns[action.workload_id] = next(self._sequence)
            self._starts.append((turn, action.workload_id))
        else:
            self._give_turn(action, max(wait, after_seconds))

    def _give_turn(self, action: Action, after_seconds: float) -> None:
        turn = self._turns[action.workload_id] = next(self._sequence)
        heapq.heappush(self._due, (time.monotonic() + max(0.0, after_seconds), turn, action.workload_id))

    def _take(self) -> Action | None:
        """Wait for the next action that is due; None when stopping."""
        with self._condition:
            while not self._workers.stopping:
                ready_in = self._due[0][0] - time.monotonic() if self._due else _IDLE_SECONDS
                if ready_in > 0 or self._paused:
                    self._condition.wait(timeout=min(ready_in, _IDLE_SECONDS) if ready_in > 0 else _IDLE_SECONDS)
                elif (rest := self._resting()) > 0:
                    self._condition.wait(timeout=min(rest, _IDLE_SECONDS))
                elif not self._trusted():
                    self._condition.wait(timeout=_UNTRUSTED_SECONDS)
                else:
                    _, turn, workload_id = heapq.heappop(self._due)
                    if self._turns.get(workload_id) == turn:
                        self._busy.add(workload_id)
                        return self._waiting[workload_id][0]
            return None

    def _work(self) -> None:
        while (action := self._take()) is not None:
            try:
                with Step("does an action"):
                    outcome = self._hands(action)
            except AiqueueError as error:
                outcome = Again(str(error))
            except Exception as error:  # noqa: BLE001 -- a fault of ours must not lose the action or end the thread
                _log.exception("action failed in a way nobody expected", action=action.id, kind=action.kind)
                outcome = Again(repr(error))
            self._finish(action, outcome)

    def _finish(self, action: Action, outcome: Ended | Again) -> None:
        with self._condition:
            self._busy.discard(action.workload_id)
            if isinstance(outcome, Again):
                failures = self._failures[action.id] = self._failures.get(action.id, 0) + 1
                delay = random.uniform(0.5, 1.0) * min(_BACKOFF_MOST_SECONDS, _BACKOFF_FIRST_SECONDS * 2 ** min(failures, 20))
                delay = max(delay, min(outcome.after_seconds, _BACKOFF_MOST_SECONDS))
                if action.kind is ActionKind.ANNOUNCE and action.evict_at is not None:  # it may not keep back what is behind it
                    delay = min(delay, max(0.0, (action.evict_at - self._now()).total_seconds()))
                _log.warning(
                    "action to be tried again", kind=action.kind, job=f"{action.namespace}/{action.name}", why=outcome.why
                )
                self._schedule(action, delay)
            else:
                self._failures.pop(action.id, None)
                self._waiting[action.workload_id].popleft()
                self._next(action.workload_id)
            if self._due:
                self._condition.notify()
        if not isinstance(outcome, Again):
            self._inbox.put(ActionEnded(action, *outcome))
