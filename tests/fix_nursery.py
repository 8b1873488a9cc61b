"""Processes of `aiqueue` by fork from one that has imported all they need, since importing is most of what a start costs.

They run the command line `aiqueue controller` or `aiqueue webhook` with an environment, a pid and a log of their own, as those of the soak do, and end with
the session. What starts an interpreter itself (`aiqueue dev up`, the demo, the tour, the upgrade, the wheel) is tested as a program.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from aiqueue.cli.harness.waiting import until
from soak.nurse import Nursery

WAIT_SECONDS = 60.0
_kept: list[Nursery] = []
#: It answers in the order in which it was asked.
_one_by_one = threading.Lock()


class Process(Protocol):
    """What tests ask of a process: as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def send_signal(self, sig: int, /) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...


class Child:
    """One that was forked."""

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        if self.returncode is None:
            self.returncode = self._nursery.ended().get(self.pid)
        return self.returncode

    def send_signal(self, sig: int, /) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # ended, and about to be told
                os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended.

        Raises:
            HarnessError: it goes on for longer.
        """
        until(
            lambda: self.poll() is not None,
            seconds=timeout or WAIT_SECONDS,
            what=f"process {self.pid} to end",
            longest_pause_seconds=0.05,
        )
        assert self.returncode is not None
        return self.returncode


def start(command: str, environment: Mapping[str, str], log: Path) -> Process:
    """Start `aiqueue COMMAND`, which writes to this file; warnings are errors in it."""
    log.touch()  # for whoever reads it before the child is there
    with _one_by_one:
        if not _kept:
            _kept.append(Nursery())
        return Child(_kept[0], _kept[0].start(environment, log, command))


def pytest_sessionfinish() -> None:
    """End it, and with it whatever was left."""
    while _kept:
        _kept.pop().end()
