"""`aiqueue simulate`: what would become of these Jobs under this configuration. Needs neither ledger nor cluster."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aiqueue.admission.simulate.tenancy import Tenancy
from aiqueue.cli.exits import WrongUsage, say
from aiqueue.cli.files import complete, read_texts
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.units import parse_duration
from aiqueue.queue.words import Queueing

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
            metavar="FILE...",
            help="Files, folders (their *.yaml and *.yml) or - for stdin, with objects and Jobs.",
            autocompletion=complete,
        ),
    ] = None,
    *,
    until: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Stop at this time, such as 1h; at the end by default.")
    ] = None,
    output: Annotated[SimulateOutput, typer.Option("--output", "-o")] = SimulateOutput.TABLE,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Replay a job table (.csv, .csv.gz) or an .swf, .swf.gz instead.")
    ] = None,
    cluster: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="What the trace ran on: total_gpus, tenant_quota_gpus.")
    ] = None,
    tenants: Annotated[
        Tenancy | None,
        typer.Option(
            help="Whose quota the trace runs on: single (default), one tenant has all; isolated, each tenant has its own;"
            " cohort, the same, lending all they leave unused."
        ),
    ] = None,
    queueing: Annotated[Queueing | None, typer.Option(help="Of the trace's tenants: BestEffort (default) or Strict.")] = None,
    timeline: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Write how queue and cluster stood over time.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Draw utilization, queue length and waits over time.")
    ] = None,
) -> None:
    """Play Jobs through the engine on a virtual clock: when each would start and end, and why those wait that do.

    A Job says in annotations when it arrives and how long it really takes: simulate.aiqueue.dev/arrival: 10s (0s by default)
    and simulate.aiqueue.dev/runtime: 5m. An eviction loses its work, unless simulate.aiqueue.dev/checkpoint: 60s says how often
    it is saved; simulate.aiqueue.dev/fails: "true" has it fail in the end. An object or Node with simulate.aiqueue.dev/at: 30s
    applies at that time. Nodes limit nothing yet, only quota does.

    With --trace and --cluster it replays jobs that ran somewhere, under quotas of that cluster.
    """
    until_us = parse_duration(until, field="--until") * 1_000_000 if until is not None else None
    for option, place in (("--timeline", timeline), ("--plot", plot)):
        if place is not None and not place.parent.is_dir():  # told before it plays, which may take a while
            raise InvalidInput(option, str(place), "name a file in a folder that exists")
    if trace is None:
        for option, given in (("--cluster", cluster), ("--tenants", tenants), ("--queueing", queueing)):
            if given is not None:
                raise WrongUsage(f"{option} is of a trace: name that with --trace, or leave {option} out")
        scenario = _scenario(files or [])
    elif files or cluster is None:
        raise WrongUsage("with --trace FILE say --cluster FILE.json, and name no other files")
    else:
        scenario = _replayed(trace, cluster, tenants or Tenancy.SINGLE, queueing or Queueing.BEST_EFFORT)
    outcome = _played(scenario, until_us)
    for option, path, drawn in (("--timeline", timeline, _timeline), ("--plot", plot, _plot)):
        if path is not None:
            _write(option, path, drawn(outcome))
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


def _replayed(trace: Path, cluster: Path, tenants: Tenancy, queueing: Queueing) -> Scenario:
    """What a trace says; what was left out of it is said on stderr."""
    from aiqueue.admission.simulate.tenancy import read_cluster, scenario_of
    from aiqueue.admission.simulate.traces import read_trace

    machine = read_cluster(cluster)
    found = read_trace(trace)
    for note in found.notes:
        say(f"{trace}: {note}")
    if not found.jobs:
        say(f"{trace}: there is no job to simulate")
    return scenario_of(found, machine, tenants=tenants, queueing=queueing)


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


def _timeline(outcome: Outcome) -> str:
    from aiqueue.admission.simulate import timeline

    return timeline.text(outcome)


def _plot(outcome: Outcome) -> str:
    from aiqueue.admission.simulate import plot

    return plot.svg(outcome)


def _write(option: str, path: Path, text: str) -> None:
    """Write what an option asked for.

    Raises:
        InvalidInput: it cannot be written there.
    """
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        fix = f"it cannot be written ({error.strerror or error}): name a file in a folder that exists"
        raise InvalidInput(option, str(path), fix) from None


def _print(outcome: Outcome, output: SimulateOutput) -> None:
    from aiqueue.admission.simulate import report

    if output is SimulateOutput.JSON:
        sys.stdout.buffer.write(report.encoded(outcome))
        return
    from rich.console import Console

    Console().print(report.table(outcome))
