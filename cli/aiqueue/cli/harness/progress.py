"""Telling a person who waits what goes on: a live line on a terminal, plain lines elsewhere.

All of it goes to stderr: stdout is for data.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Protocol

REPORT_EVERY_SECONDS = 30.0


class Progress(Protocol):
    """Something that is told what happens."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def step(self, text: str) -> None:
        """What is being done right now; may be shown, shortened, or dropped."""

    def __enter__(self) -> Progress: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class PlainProgress:
    """Lines on stderr; a step at most every half minute."""

    def __init__(self) -> None:
        self._began = self._reported = time.monotonic()

    def say(self, text: str) -> None:
        """A line that stays."""
        print(text, file=sys.stderr, flush=True)

    def step(self, text: str) -> None:
        """A line every half minute."""
        now = time.monotonic()
        if now - self._reported >= REPORT_EVERY_SECONDS:
            self._reported = now
            self.say(f"  {now - self._began:.0f} s: {text}")

    def __enter__(self) -> PlainProgress:
        self._began = self._reported = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing to put back."""


class LiveProgress:
    """One line that changes, with a clock."""

    def __init__(self) -> None:
        # Not loaded where output is piped.
        from rich.console import Console
        from rich.status import Status

        self._console = Console(stderr=True)
        self._status = Status("", console=self._console)
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(text, highlight=False, markup=False)

    def step(self, text: str) -> None:
        """Show it at once."""
        from rich.markup import escape

        self._status.update(f"{time.monotonic() - self._began:.0f} s  {escape(text)}")

    def __enter__(self) -> LiveProgress:
        self._began = time.monotonic()
        self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._status.stop()


def for_this_terminal() -> Progress:
    """The one that suits stderr."""
    return LiveProgress() if sys.stderr.isatty() else PlainProgress()
