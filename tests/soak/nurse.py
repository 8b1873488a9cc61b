"""The other end of `soak.nursery`: has it start processes, and hears how they ended."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from aiqueue.cli.harness.errors import HarnessError


class Nursery:
    """The process that starts controllers, see `soak.nursery`; it ends with ours."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._started: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._ended: dict[int, int] = {}
        threading.Thread(target=self._read, name="nursery", daemon=True).start()

    def start(self, environment: Mapping[str, str], log: Path, command: str = "controller") -> int:
        """Start a controller, or what another command of aiqueue runs; answers its pid.

        Raises:
            HarnessError: there is none after a minute.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"environment": dict(environment), "log": str(log), "command": command}) + "\n")
        self._process.stdin.flush()
        try:
            return self._started.get(timeout=60)
        except queue.Empty:
            raise HarnessError(f"no {command} was started within 60 s") from None

    def ended(self) -> Mapping[int, int]:
        """How those that have ended did, by pid."""
        return self._ended

    def end(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with suppress(ValueError):  # closed
            for line in self._process.stdout:
                what, *numbers = line.split()
                if what == "started":
                    self._ended.pop(int(numbers[0]), None)  # of another that had its number
                    self._started.put(int(numbers[0]))
                else:
                    self._ended[int(numbers[0])] = int(numbers[1])
