"""`aiqueue simulate`: what would become of these Jobs under this configuration. Needs neither ledger nor cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from aiqueue.cli.exits import WrongUsage, say
from aiqueue.cli.files import read_texts
from aiqueue.queue.units import parse_duration

if TYPE_CHECKING:
    from aiqueue.admission.simulate.outcome import Outcome
    from aiqueue.admission.simulate.scenario import Scenario


class SimulateOutput(StrEnum):
    """How `simulate` prints what came of it."""

    TABLE = "table"
    JSON = "json"


def simulate(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE...", help="Files, folders (their *.yaml and *.yml) or - for stdin, with objects and Jobs."
        ),
    ] = None,
    *,
    until: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Stop at this time, such as 1h; at the end by default.")
    ] = None,
    output: Annotated[SimulateOutput, typer.Option("--output", "-o")] = SimulateOutput.TABLE,
) -> None:
    """Play Jobs through the engine on a virtual clock: when each would start and end, and why those wait that do.

    A Job says in annotations when it arrives and how long it really takes: simulate.aiqueue.dev/arrival: 10s (0s by default)
    and simulate.aiqueue.dev/runtime: 5m. An eviction loses its work, unless simulate.aiqueue.dev/checkpoint: 60s says how often
    it is saved; simulate.aiqueue.dev/fails: "true" has it fail in the end. An object or Node with simulate.aiqueue.dev/at: 30s
    applies at that time. Nodes limit nothing yet, only quota does.
    """
    until_us = parse_duration(until, field="--until") * 1_000_000 if until is not None else None
    outcome = _played(_scenario(files or []), until_us)
    _print(outcome, output)


def _scenario(files: list[str]) -> Scenario:
    """What the files say; what was left out is said on stderr."""
    if not files:
        raise WrongUsage("name the files to simulate, or - for stdin")
    from aiqueue.admission.simulate.reading import read

    reading = read(read_texts(files, "FILE"))
    for warning in reading.warnings:
        say(warning)
    if not reading.scenario.jobs:
        say("there is no Job to simulate: add some of batch/v1 with the label aiqueue.dev/queue")
    return reading.scenario


def _played(scenario: Scenario, until_us: int | None) -> Outcome:
    from aiqueue.admission.simulate import loop

    with _progress_bar() as progress:
        return loop.simulate(scenario, until_us=until_us, progress=progress)


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], object] | None]:
    """A bar on stderr, of jobs that ended; none where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("jobs ended"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda ended, jobs: bar.update(task, completed=ended, total=jobs)


def _print(outcome: Outcome, output: SimulateOutput) -> None:
    from aiqueue.admission.simulate import report

    if output is SimulateOutput.JSON:
        sys.stdout.buffer.write(report.encoded(outcome))
        return
    from rich.console import Console

    Console().print(report.table(outcome))
