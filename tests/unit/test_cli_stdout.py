"""What cannot be printed is said in a sentence, whatever the command, and with an exit code of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from aiqueue.cli import resources
from fix_command import Command

SCENARIO = str(resources.examples_path() / "simulate" / "two-teams.yaml")
LONG = 500  # Jobs whose list is longer than any buffer


@contextmanager
def full() -> Iterator[int]:
    """A disk without room."""
    target = os.open("/dev/full", os.O_WRONLY)
    yield target
    os.close(target)


@contextmanager
def closed_pipe() -> Iterator[int]:
    """What `head` leaves when it has seen enough."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def variables() -> dict[str, str]:
    """Under which Python keeps back what it prints, as most people's does."""
    return {name: value for name, value in Command("").environment().items() if name != "PYTHONUNBUFFERED"}


def run(arguments: list[str], stdout: int | None, stderr: int | None = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """`aiqueue` with this stdout and stderr; without one for None."""

    def close() -> None:
        for number, given in ((1, stdout), (2, stderr)):
            if given is None:
                os.close(number)

    return subprocess.run(
        Command.line(arguments),
        stdout=stdout,
        stderr=stderr,
        stdin=subprocess.DEVNULL,
        env=variables(),
        text=True,
        timeout=60,
        check=False,
        preexec_fn=close if None in (stdout, stderr) else None,  # nothing else leaves a child without one
    )


def many_jobs(folder: Path) -> str:
    """A scenario whose table is long."""
    job = (
        "---\napiVersion: batch/v1\nkind: Job\nmetadata: {{name: job-{number}, namespace: team-a,"
        " labels: {{aiqueue.dev/queue: train}}, annotations: {{simulate.aiqueue.dev/runtime: 5m}}}}\n"
        "spec: {{template: {{spec: {{restartPolicy: Never, containers: [{{name: main, image: none}}]}}}}}}\n"
    )
    path = folder / "many.yaml"
    path.write_text("".join(job.format(number=number) for number in range(LONG)))
    return str(path)


FULL, CLOSED = (full, "No space left on device"), (closed_pipe, "whoever read it has closed it")


@pytest.mark.parametrize(
    ("arguments", "target", "why"),
    [
        (["--help"], *FULL),
        (["version"], *CLOSED),
        (["simulate", SCENARIO], *CLOSED),
        (["simulate", SCENARIO, "-o", "json"], *FULL),
    ],
    ids=["help", "version", "table", "json"],
)
def test_every_command_says_that_it_cannot_print(
    arguments: list[str], target: Callable[[], AbstractContextManager[int]], why: str
) -> None:
    with target() as stdout:
        ended = run(arguments, stdout)
    assert ended.stderr == f"error: stdout cannot be written ({why}): what was printed there is not whole\n"
    assert ended.returncode == 5


def test_what_is_longer_than_any_buffer_ends_where_nobody_reads_on(tmp_path: Path) -> None:
    with subprocess.Popen(
        Command.line(["simulate", "-o", "json", many_jobs(tmp_path)]),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=variables(),
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
    assert said.splitlines()[-1].startswith("error: stdout cannot be written (whoever read it has closed it)")
    assert "Traceback" not in said
    assert process.returncode == 5


def test_without_any_stdout_only_what_prints_fails() -> None:
    ended = run(["version"], None)
    assert (ended.returncode, ended.stderr.count("\n")) == (5, 1), ended.stderr
    assert "stdout cannot be written (it is closed)" in ended.stderr
    refused = run(["simulate", "/nowhere.yaml"], None)
    assert (refused.returncode, "cannot be read" in refused.stderr) == (1, True)


def test_where_nobody_can_be_told_there_is_still_an_exit_code() -> None:
    with full() as target:
        assert run(["version"], target, target).returncode == 5
        assert run(["simulate", "/nowhere.yaml"], subprocess.DEVNULL, target).returncode == 1


def test_without_any_stderr_nothing_gets_among_the_data() -> None:
    ended = run(["simulate", "/nowhere.yaml"], subprocess.PIPE, None)
    assert (ended.returncode, ended.stdout) == (1, "")


def test_unbuffered_each_line_is_there_at_once() -> None:
    code = (
        "import os, sys; from aiqueue.cli import stdout\n"
        "with stdout.checked():\n    print('told'); os.write(1, b'then this\\n'); sys.stdout.write('x' * 300_000)"
    )
    ended = subprocess.run([sys.executable, "-u", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == "told\nthen this\n" + "x" * 300_000


def test_a_defect_is_told_though_stdout_is_full() -> None:
    code = "from aiqueue.cli import stdout\nwith stdout.checked():\n    print('told'); 1 / 0"
    with full() as target:
        ended = subprocess.run(
            [sys.executable, "-c", code],
            stdout=target,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            env=variables(),
        )
    assert "ZeroDivisionError" in ended.stderr
    assert ended.returncode == 1


def test_what_can_be_printed_is_printed_whole() -> None:
    ended = run(["simulate", "-o", "json", SCENARIO], subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert set(json.loads(ended.stdout)) == {"summary", "jobs"}
