"""Named points where a test can break the process."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiqueue.admission.controller import faults
from aiqueue.queue.errors import InvalidInput, LedgerError
from aiqueue.queue.words import ActionKind


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    faults._armed.clear()


def test_nothing_happens_where_nothing_is_armed() -> None:
    faults.arm("")
    for point in faults.POINTS:
        faults.reach(point)


def test_an_armed_point_fires_once() -> None:
    faults.arm("commit.before=raise,commit.after=raise")
    faults.reach("act.before-patch")
    with pytest.raises(LedgerError, match=r"commit\.before"):
        faults.reach("commit.before")
    faults.reach("commit.before")
    with pytest.raises(LedgerError):
        faults.reach("commit.after")


@pytest.mark.parametrize("text", ["nowhere=kill", "commit.before=explode", "commit.before", "=kill"])
def test_what_is_not_known_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"AIQUEUE_FAULTS is .*commit\.before.*kill, stop, raise, hang"):
        faults.arm(text)


@pytest.mark.parametrize(("fault", "number"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_a_process_dies_or_stops_at_its_point(fault: str, number: signal.Signals) -> None:
    program = (
        "from aiqueue.admission.controller import faults\n"
        f"faults.arm('commit.after={fault}')\nfaults.reach('commit.after')\nprint('went on')"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        if fault == "stop":
            import os

            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            assert os.WSTOPSIG(status) == number
            process.send_signal(signal.SIGCONT)
        said, _ = process.communicate(timeout=30)
    assert said == (b"" if fault == "kill" else b"went on\n")
    assert process.returncode == (-number if fault == "kill" else 0)


def test_a_hanging_point_hangs_its_thread_alone() -> None:
    faults.arm("act.after-patch=hang")
    hanging = threading.Thread(target=faults.reach, args=("act.after-patch",), daemon=True)
    hanging.start()
    hanging.join(0.05)
    assert hanging.is_alive()
    faults.reach("act.after-patch")


def text_of(argument: ast.expr) -> str:
    """A text that is written out."""
    assert isinstance(argument, ast.Constant), ast.unparse(argument)
    return str(argument.value)


def test_every_point_is_reached_somewhere() -> None:
    reached = set()
    for path in Path(faults.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            if ast.unparse(node.func) == "faults.reach":
                reached.add(text_of(node.args[0]))
            elif ast.unparse(node.func) == "faults.reach_patch":
                when = text_of(node.args[0])
                reached |= {f"act.{when}-patch", *(f"act.{when}-{kind.lower()}" for kind in ActionKind)}
    assert reached == set(faults.POINTS)
