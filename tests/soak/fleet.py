"""Controllers as processes: started armed, found leading, ended."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from soak.nurse import Nursery
from soak.world import World

LEASE_SECONDS = 1
STUCK_SECONDS = 6
ARCHIVE_AFTER_SECONDS = 2
_BY_WATCHDOG = 70
_MOST_UNEXPECTED = 20
_TRACEBACK = "Traceback (most recent call last)"
_UNEXPECTED = ("nobody expected", _TRACEBACK, '"exception"')
_LINES_BEFORE, _LINES_BELOW = 3, 40


@dataclass(frozen=True, slots=True)
class Arm:
    """A fault that a controller is started with."""

    point: str
    fault: str
    seconds: float = 1.0
    time: int = 1

    def __str__(self) -> str:
        return f"{self.point}={self.fault}:{self.seconds:.2f}#{self.time}"


@dataclass(slots=True)
class Controller:
    """One `aiqueue controller`.

    Attributes:
        arm: what it was started with.
        signalled: the last signal that we sent to end it.
        led: the terms that it led in.
    """

    pid: int
    log: Path
    arm: Arm | None
    started: float
    signalled: signal.Signals | None = None
    led: list[int] = field(default_factory=list)
    stopped_until: float | None = None
    warm: bool = False
    #: How it ended, as subprocess has it; None while it runs.
    code: int | None = None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def is_warm(self) -> bool:
        """Whether it knows the cluster, so that it can take over at once."""
        self.warm = self.warm or "Jobs listed" in self.said()
        return self.warm and self.stopped_until is None and self.alive()

    def alive(self) -> bool:
        return self.code is None

    def is_stopped(self) -> bool:
        """Whether it sits in SIGSTOP."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except (FileNotFoundError, ProcessLookupError):
            return False

    def ended_itself(self) -> bool:
        """Whether its watchdog ended it."""
        return self.code == _BY_WATCHDOG

    def send(self, number: signal.Signals) -> None:
        """Send a signal; those that end it are remembered."""
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.signalled = number
        if self.alive():
            with suppress(
                ProcessLookupError
            ):  # it has ended, and its number may soon be another's: the nursery tells of it next
                os.kill(self.pid, number)


@dataclass(frozen=True, slots=True)
class Lead:
    """Who leads, as the ledger says."""

    term: int
    pid: int | None
    elected_at: datetime
    now: datetime


class Fleet:
    """The controllers of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.controllers: list[Controller] = []
        self.unexpected: list[str] = []
        self._numbers = itertools.count()
        self._logs = world.folder / "controllers"
        self._logs.mkdir(parents=True, exist_ok=True)
        self.nursery = Nursery()

    def start(self, arm: Arm | None = None) -> Controller:
        """Start one more."""
        number = next(self._numbers)
        log = self._logs / f"{number:05}.log"
        environment = self.world.installed.controller_environment(
            AIQUEUE_LEASE_SECONDS=str(LEASE_SECONDS),
            AIQUEUE_STUCK_SECONDS=str(STUCK_SECONDS),
            AIQUEUE_ARCHIVE_AFTER_SECONDS=str(ARCHIVE_AFTER_SECONDS),
            AIQUEUE_USAGE_CHECK_SECONDS="1",
            AIQUEUE_FAULTS=str(arm) if arm is not None else "",
            PATH=os.defpath,
            HOME=str(self.world.folder),
            PYTHONWARNINGS="error",
            **{name: value for name, value in os.environ.items() if name == "PYTHONPATH"},
        )
        log.touch()
        made = Controller(self.nursery.start(environment, log), log, arm, time.monotonic())
        self.controllers.append(made)
        return made

    def lead(self) -> Lead:
        """Ask the ledger who leads; the holder of a term says its pid."""
        (row,) = self.world.rows("SELECT term, holder, elected_at, clock_timestamp() AS now FROM leader WHERE id = 1")
        parts = str(row["holder"]).rsplit("-", 2)
        pid = int(parts[1]) if len(parts) == 3 and parts[1].isdigit() else None
        return Lead(row["term"], pid, row["elected_at"], row["now"])

    def of_pid(self, pid: int | None) -> Controller | None:
        """The controller that has this pid and runs."""
        return next((each for each in self.controllers if each.pid == pid and each.alive()), None)

    def reap(self) -> Iterator[Controller]:
        """Those that have ended since; each once. One that nobody ended and no fault killed is noted as unexpected.

        Raises:
            HarnessError: that was so of too many.
        """
        codes = self.nursery.ended()
        for each in self.controllers:
            each.code = codes.get(each.pid)
        for each in [each for each in self.controllers if not each.alive()]:
            self.controllers.remove(each)
            self._examine(each)
            yield each

    def end(self) -> None:
        """Kill what is left."""
        self.kill()
        self.nursery.end()

    def kill(self) -> None:
        """Kill all that run, and return when they have ended."""
        for each in self.controllers:
            each.send(signal.SIGKILL)
        until(lambda: list(self.reap()) is not None and not self.controllers, seconds=30, what="the end of controllers")

    def _examine(self, ended: Controller) -> None:
        code, said = ended.code, ended.said()
        by_fault = ended.arm is not None and ended.arm.fault == "kill" and code == -signal.SIGKILL
        expected = by_fault or (ended.signalled is not None and code in (0, -ended.signalled)) or ended.ended_itself()
        # One that is asked to stop while it is stuck or stopped may be ended by us in the end.
        expected = expected or (ended.signalled is signal.SIGKILL and code == -signal.SIGKILL)
        if not expected:
            tail = " | ".join(said.splitlines()[-3:])
            self.unexpected.append(f"controller {ended.log.name} ended by itself with {code}: {tail[-600:]}")
            if len(self.unexpected) >= _MOST_UNEXPECTED:
                raise HarnessError(f"controllers do not live: {self.unexpected[-1]}")
        lines = said.splitlines()
        at = next((n for n, line in enumerate(lines) if any(sign in line for sign in _UNEXPECTED)), None)
        if at is not None:  # what stands before and below a bare traceback tells whose it is
            around = lines[max(0, at - _LINES_BEFORE) : at + _LINES_BELOW] if _TRACEBACK in lines[at] else lines[at : at + 1]
            self.unexpected.append(f"controller {ended.log.name} said: " + "\n".join(line[:1500] for line in around))
