"""What benchmarks of whole systems say: progress while they run, and of which machine their figures are."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from stand.meters import Machine

Say = Callable[[str], None]
MIB = 2**20


@contextmanager
def progress(steps: int) -> Iterator[Say]:
    """Something to call at the beginning of each of so many steps: a bar on a terminal, lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda words: print(words, file=sys.stderr, flush=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<52}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=steps, completed=-1)

        def say(words: str) -> None:
            bar.update(task, description=words, advance=1)

        yield say


class OfMachine:
    """The machine over the time of a benchmark, from when this is made to `told`."""

    def __init__(self) -> None:
        self._began, self._load, self._machine = time.monotonic(), os.getloadavg(), Machine.now()

    def told(self) -> dict[str, Any]:
        """For the line of JSON."""
        seconds = time.monotonic() - self._began
        return {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "load_before": round(self._load[0], 2),
            "load_after": round(os.getloadavg()[0], 2),
            "seconds": round(seconds),
            "cores_stolen": round((Machine.now().stolen - self._machine.stolen) / seconds, 2),
        }


def percentile(values: Sequence[float], percent: float) -> float:
    """By nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


def rounded(values: Mapping[str, float], digits: int = 2) -> dict[str, float]:
    """Each value, rounded."""
    return {name: round(value, digits) for name, value in values.items()}
