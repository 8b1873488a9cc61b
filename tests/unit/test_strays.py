"""What would reach stderr past the log is in the log, a line of JSON each, in a process of its own, which ends when all is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

_PROCESS = """
import logging, sys, threading, warnings
from sqlalchemy.exc import OperationalError
from aiqueue.admission import strays
from aiqueue.cli.controller import configure_logging

# The interpreter cleans up in the midst of the first line, by which a library has something to log.
class Interrupted:
    def __init__(self, file):
        self.file, self.first = file, True
    def __getattr__(self, name):
        return getattr(self.file, name)
    def write(self, words):
        if self.first:
            self.first = False
            logging.getLogger("asyncio").error("Task was destroyed but it is pending!")
        self.file.write(words)

sys.stderr = Interrupted(sys.stderr)
configure_logging()
strays.gather()

class Dropped:
    def __del__(self):
        warnings.warn("left open", ResourceWarning)

def fail():
    raise LookupError("nobody caught this")

def logged(error):
    try:
        raise error
    except Exception:
        logging.getLogger("sqlalchemy.pool").error("it went wrong\\nwhile resetting", exc_info=True)

ended = threading.Thread(target=fail, name="worker")
ended.start()
ended.join()
logging.getLogger("psycopg").info("not to be told")
logging.getLogger("urllib3").warning("pool is %s", "full")
logged(OperationalError("SELECT secret", {}, Exception("server closed the connection")))
logged(KeyError("a defect"))
logging.getLogger("urllib3").warning("%d of %d", "no number")
with warnings.catch_warnings():
    warnings.simplefilter("always")
    warnings.warn("certificates are not looked at")
Dropped()
"""


def test_threads_libraries_and_dropped_errors_are_lines_of_the_log() -> None:
    environment = {"PATH": os.defpath, "PYTHONWARNINGS": "error", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    ran = subprocess.run(
        [sys.executable, "-c", _PROCESS], capture_output=True, text=True, timeout=30, env=environment, check=True
    )
    assert ran.stdout == ""
    lines: list[dict[str, Any]] = [json.loads(line) for line in ran.stderr.splitlines()]
    thread, interrupted, warning, broken, defect, mistaken, warned, dropped = lines

    assert (thread["event"], thread["thread"], thread["level"]) == (
        "a thread ended in a way nobody expected",
        "worker",
        "error",
    )
    assert thread["exception"].endswith("LookupError: nobody caught this")
    assert (interrupted["says"], interrupted["level"]) == ("Task was destroyed but it is pending!", "error")
    assert (warning["says"], warning["logger"], warning["level"]) == ("pool is full", "urllib3", "warning")
    assert "exception" not in warning
    assert broken["says"] == "it went wrong\nwhile resetting"
    assert "server closed the connection" in broken["error"]
    assert "exception" not in broken
    assert "in logged" in defect["exception"]
    assert defect["exception"].endswith("KeyError: 'a defect'")
    assert mistaken["says"] == "%d of %d ('no number',)"
    assert warned["logger"] == "py.warnings"
    assert "UserWarning: certificates are not looked at" in warned["says"]
    assert dropped["event"] == "an error was dropped, which nobody expected"
    assert "Dropped.__del__" in dropped["where"]
    assert "MainThread" in dropped["where"]
    assert dropped["exception"].endswith("ResourceWarning: left open")
