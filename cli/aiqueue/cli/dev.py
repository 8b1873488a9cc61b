"""`aiqueue dev`: a real cluster, a real database and aiqueue on them, on this machine, in the background.

Data goes to stdout and messages to stderr. Exit status: 0 done; 1 an error, said in a sentence; 3 from `status`, if
something does not run; 5 stdout cannot be written.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from aiqueue.cli.exits import Unwritable
from aiqueue.queue.errors import AiqueueError

if TYPE_CHECKING:
    from aiqueue.cli.harness.environment import DevEnvironment, ProgramStatus

app = typer.Typer(help="Run a real Kubernetes and a real Postgres on this machine.", no_args_is_help=True)

NOT_RUNNING = 3
FOLLOW_PAUSE_SECONDS = 0.2

Folder = Annotated[Path | None, typer.Option("--folder", help="Where to keep it; by default a folder of the user's state.")]


class Output(StrEnum):
    """How `status` prints."""

    TABLE = "table"
    JSON = "json"


@contextmanager
def _environment(folder: Path | None) -> Iterator[DevEnvironment]:
    """The environment of a folder; an error in the block becomes a sentence and exit status 1."""
    try:
        # Certificates and the database driver take a while to import: only when needed.
        from aiqueue.cli.harness.environment import DevEnvironment
    except ModuleNotFoundError as error:
        _fail(f"`aiqueue dev` needs the Python package {error.name!r}: pip install 'aiqueue[dev]'")
    try:
        yield DevEnvironment(folder)
    except Unwritable:
        raise  # of the output, not of the environment
    except AiqueueError as error:
        _fail(str(error))


def _fail(sentence: str) -> NoReturn:
    print(f"error: {sentence}", file=sys.stderr)
    raise typer.Exit(1)


def _option(folder: Path | None) -> str:
    return f" --folder {shlex.quote(str(folder))}" if folder else ""


def _exports(environment: DevEnvironment) -> list[str]:
    from aiqueue.cli.harness import installed

    folders = [environment.binaries]
    if shutil.which("aiqueue") is None:
        # Not resolved: a Python of a virtual environment is a link, and its neighbours are what is wanted.
        folders.append(Path(sys.executable).parent)
    path = ":".join(shlex.quote(str(each)) for each in folders)
    return [
        f"export KUBECONFIG={shlex.quote(str(environment.kubeconfig))}",
        f"export AIQUEUE_KUBECONFIG={shlex.quote(str(environment.kubeconfig))}",
        f"export AIQUEUE_DATABASE_URL={shlex.quote(installed.admin_url(environment))}",
        f"export AIQUEUE_REPAIR_DATABASE_URL={shlex.quote(installed.controller_url(environment))}",
        f'export PATH={path}:"$PATH"',
    ]


@app.command()
def up(folder: Folder = None) -> None:
    """Start what does not run yet, aiqueue on it among them. It goes on running when this command ends."""
    with _environment(folder) as environment:
        from aiqueue.cli.harness import installed

        installed.enlist()
        already = environment.up()
        print("already running" if already else f"running: {environment.cluster.server}", file=sys.stderr)
        print(f'to use it here: eval "$(aiqueue dev env{_option(folder)})", which is', file=sys.stderr)
        print("\n".join(_exports(environment)))


@app.command()
def down(
    folder: Folder = None,
    purge: Annotated[bool, typer.Option("--purge", help="Also remove data, certificates and logs.")] = False,
) -> None:
    """Stop everything; data is kept."""
    with _environment(folder) as environment:
        environment.down(purge=purge)
        print("stopped, and all data removed" if purge else "stopped; data is kept", file=sys.stderr)


@app.command()
def env(folder: Folder = None) -> None:
    """Print what a shell needs: eval "$(aiqueue dev env)"."""
    with _environment(folder) as environment:
        if not environment.is_running():
            _fail(f"nothing runs: start it with `aiqueue dev up{_option(folder)}`")
        print("\n".join(_exports(environment)))


@app.command()
def status(
    folder: Folder = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="table or json.")] = Output.TABLE,
) -> None:
    """Show each program; exit status 3 if one does not run."""
    with _environment(folder) as environment:
        found = environment.status()
        if output is Output.JSON:
            print(_json(environment, found))
        else:
            _print_table(found)
    if any(each.pid is None for each in found):
        raise typer.Exit(NOT_RUNNING)


def _json(environment: DevEnvironment, found: list[ProgramStatus]) -> str:
    # No password here: `env` is the one that says it.
    programs = [{"name": each.name, "running": each.pid is not None, "pid": each.pid, "log": str(each.log)} for each in found]
    return json.dumps(
        {"folder": str(environment.folder), "kubeconfig": str(environment.kubeconfig), "programs": programs}, indent=2
    )


def _print_table(found: list[ProgramStatus]) -> None:
    rows = [("PROGRAM", "STATE", "PID", "LOG")]
    rows += [(each.name, "running" if each.pid else "stopped", str(each.pid or "-"), str(each.log)) for each in found]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(word.ljust(width) for word, width in zip(row, widths, strict=False)), row[3]]))


@app.command()
def logs(
    program: Annotated[str, typer.Argument(help="A program of `status`, or `audit`.")],
    folder: Folder = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the program ends.")] = False,
) -> None:
    """Print the log of a program."""
    with _environment(folder) as environment:
        path = environment.log(program)
        writer = "kube-apiserver" if program == "audit" else program

        def runs() -> bool:
            return any(each.name == writer and each.pid is not None for each in environment.status())

        try:
            for line in _lines(path, runs if follow else lambda: False):
                print(line, end="", flush=follow)
        except KeyboardInterrupt:
            return


def _lines(path: Path, runs: Callable[[], bool]) -> Iterator[str]:
    import time

    with path.open(errors="replace") as handle:
        while True:
            # Asked before reading, so that what is written until the end is still printed.
            goes_on = runs()
            yield from handle
            if not goes_on:
                return
            time.sleep(FOLLOW_PAUSE_SECONDS)
