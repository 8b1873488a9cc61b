"""Starts controllers, and the webhook, by fork from a process that has imported all they need: importing is most of what a start costs.

A program of its own. On stdin it reads a line of JSON for each, `{"environment": {...}, "log": "...", "command": "controller"}`, and answers on stdout
`started PID`, later `ended PID CODE` (negative for a signal, as subprocess has it). When its stdin ends it kills what is left.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys

from aiqueue.admission.controller import process as _all_that_is_needed  # noqa: F401 -- imported for the children
from aiqueue.admission.webhook import process as _the_webhook  # noqa: F401
from aiqueue.cli import controller as _the_command  # noqa: F401
from aiqueue.cli import ledger as _its_settings  # noqa: F401
from aiqueue.cli.main import app

_MOST_BYTES = 65_536


def main() -> None:
    """Start what is asked for, tell of what ended, until stdin ends; in a child, be what was asked for."""
    reading, writing = os.pipe()
    for end in (reading, writing):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(writing)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    children: set[int] = set()
    gc.freeze()
    rest = b""
    while True:
        ready, _, _ = select.select([0, reading], [], [])
        if reading in ready:
            os.read(reading, _MOST_BYTES)
            _tell_of_ended(children)
        if 0 in ready:
            given = os.read(0, _MOST_BYTES)
            if not given:
                break
            *lines, rest = (rest + given).split(b"\n")
            for line in lines:
                asked = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.closerange(3, 64)
                    _become(asked["environment"], asked["log"])
                    app([asked["command"]])
                children.add(pid)
                _say(f"started {pid}")
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def _become(environment: dict[str, str], log: str) -> None:
    """Have the environment and the output of who is to be."""
    os.environ.clear()
    os.environ.update(environment)
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)


def _tell_of_ended(children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        _say(f"ended {pid} {os.waitstatus_to_exitcode(status)}")


def _say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
