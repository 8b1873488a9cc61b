"""Ends a process of which a thread stands still: what hangs cannot be mended from inside, and another controller can go on.

    loop:      with Step("does an action"): ...      each turn of a loop; `beat` within, where one turn is long
    watchdog:  looks every so often which step has not moved for `stuck_seconds` -> a sentence and a stack in the log, exit

A step is work, or a wait that has a bound of its own well below `stuck_seconds`. Each request to the API server is a beat, and is over in half
of `stuck_seconds` by default (`kube.deadlines`). Time is counted by the watchdog's own looks: what passes while the whole process is stopped
or starved counts as one look at most, so nobody is ended for having been stopped.

What holds the interpreter's lock, the watchdog itself included, is not seen here: /healthz does not answer then either.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import structlog

_log = structlog.get_logger()
EXIT_STATUS = 70  # EX_SOFTWARE
_LOOK_MOST_SECONDS = 1.0
_TELL_SECONDS = 2.0  # whoever hangs may hold what the log needs
_SILENT_SECONDS = 10.0


class Step:
    """The calling thread is at work on `what`, a phrase that follows its name, until the block ends. Steps may be nested."""

    __slots__ = ("_before", "_key", "allowed_seconds", "turn", "what")

    def __init__(self, what: str, allowed_seconds: float = 0.0) -> None:
        """Describe a step.

        Args:
            what: that is done.
            allowed_seconds: so much more than `stuck_seconds` it may take, for what waits long by its nature.
        """
        self.what = what
        self.allowed_seconds = allowed_seconds

    def __enter__(self) -> None:
        self._key = threading.get_ident()
        self._before = _steps.get(self._key)
        self.turn = next(_turns)
        _steps[self._key] = self

    def __exit__(self, *_: object) -> None:
        if self._before is None:
            _steps.pop(self._key, None)
        else:
            self._before.turn = next(_turns)
            _steps[self._key] = self._before


def beat() -> None:
    """The step of the calling thread, if it is in one, has got on."""
    present = _steps.get(threading.get_ident())
    if present is not None:
        present.turn = next(_turns)


#: What threads are at, by thread. Each of its operations is atomic.
_steps: dict[int, Step] = {}
_turns = itertools.count()


@dataclass(slots=True)
class _Seen:
    turn: int
    seconds: float = 0.0  # that the step has not moved for


class Watchdog:
    """Looks after the threads of this process. Start it once, stop it once."""

    def __init__(
        self,
        stuck_seconds: float,
        lacking: Callable[[], str | None] = lambda: None,
        *,
        end: Callable[[], object] = lambda: os._exit(EXIT_STATUS),
    ) -> None:
        """Describe a watchdog; nothing is started yet.

        Args:
            stuck_seconds: how long a step may take.
            lacking: a sentence where something without which the process is of no use has ended, else None. Must not block.
            end: ends the process.
        """
        self._stuck_seconds = stuck_seconds
        self._lacking = lacking
        self._end = end
        self._every = min(_LOOK_MOST_SECONDS, stuck_seconds / 4)
        self._seen: dict[int, _Seen] = {}
        self._looked_at = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._looked_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)

    def problems(self) -> list[str]:
        """Why this process is past help, in sentences: what /healthz says, should the process not have ended by itself."""
        found = [sentence for _, sentence in self._stuck()]
        silent = time.monotonic() - self._looked_at
        if not self._stop.is_set() and silent > self._every + _SILENT_SECONDS:
            found.append(f"the watchdog has not looked for {silent:.0f} s")
        return found + [lacking for lacking in (self._lacking(),) if lacking is not None]

    def _watch(self) -> None:
        while not self._stop.wait(self._every):
            self._look()
            ended, lacking = self._stuck(), self._lacking()
            if (ended or lacking is not None) and not self._stop.is_set():
                self._give_up(ended, lacking)
                return

    def _look(self) -> None:
        now = time.monotonic()
        passed = min(now - self._looked_at, 2 * self._every)
        self._looked_at = now
        before, self._seen = self._seen, {}
        for thread, present in list(_steps.items()):
            turn, seen = present.turn, before.get(thread)
            if seen is None or seen.turn != turn:
                seen = _Seen(turn)
            else:
                seen.seconds += passed
            self._seen[thread] = seen

    def _stuck(self) -> list[tuple[int, str]]:
        """Threads that stand still, each with a sentence."""
        names = {each.ident: each.name for each in threading.enumerate()}
        found = []
        for thread, seen in list(self._seen.items()):
            present = _steps.get(thread)
            if present is None or present.turn != seen.turn or seen.seconds < self._stuck_seconds + present.allowed_seconds:
                continue
            found.append(
                (thread, f"thread {names.get(thread, thread)} {present.what} and has not got on for {seen.seconds:.1f} s")
            )
        return found

    def _give_up(self, stuck: list[tuple[int, str]], lacking: str | None) -> None:
        """Say why and end the process, also where the log itself is what hangs."""
        why = "; ".join([sentence for _, sentence in stuck] + ([lacking] if lacking is not None else []))
        frames = sys._current_frames()  # noqa: SLF001 -- nothing else tells where another thread stands
        stacks = {sentence: traceback.format_stack(frames[thread]) for thread, sentence in stuck if thread in frames}

        def tell() -> None:
            _log.critical("the process ends itself: what it was doing is taken up by the next that leads", why=why)
            for sentence, lines in stacks.items():
                _log.critical("where it stood", thread=sentence, stack="".join(lines))
            sys.stdout.flush()
            sys.stderr.flush()

        telling = threading.Thread(target=tell, name="last words", daemon=True)
        telling.start()
        telling.join(_TELL_SECONDS)
        self._end()
