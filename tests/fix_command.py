"""The `aiqueue` command, run with a ledger of the test's own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from aiqueue.cli.main import app

OBJECTS = """
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {name: train, namespace: team-a}
spec: {tenant: research, defaultClass: normal}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {name: research}
spec:
  quotas:
  - flavor: h100
    resources: [{name: nvidia.com/gpu, nominal: 8}]
---
apiVersion: aiqueue.dev/v1
kind: Class
metadata: {name: normal}
spec: {priority: 100}
---
apiVersion: aiqueue.dev/v1
kind: Flavor
metadata: {name: h100}
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    def json(self) -> dict[str, object]:
        parsed: dict[str, object] = json.loads(self.out)
        return parsed


@dataclass(frozen=True)
class Command:
    """Runs `aiqueue` with an environment of its own: in this process, or as people do in one of its own."""

    database_url: str

    def __call__(self, *arguments: str, given: str = "", expect: int = 0) -> Result:
        environment: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("AIQUEUE_"))
        # A machine that is busy with other tests may stand still for longer than a person would wait.
        url = f"{self.database_url}{'&' if '?' in self.database_url else '?'}connect_timeout=60" if self.database_url else ""
        environment |= {"AIQUEUE_DATABASE_URL": url, "LOGNAME": "ana"}
        finished = CliRunner().invoke(app, arguments, input=given, env=environment, catch_exceptions=False)
        result = Result(finished.exit_code, finished.stdout, finished.stderr)
        assert result.code == expect, result
        return result

    def process(self, *arguments: str, expect: int) -> Result:
        """The same in a process of its own."""
        line = self.line(arguments)
        finished = subprocess.run(line, capture_output=True, text=True, env=self.environment(), timeout=180, check=False)
        result = Result(finished.returncode, finished.stdout, finished.stderr)
        assert result.code == expect, result
        assert "Traceback" not in result.err
        return result

    @staticmethod
    def line(arguments: Sequence[str]) -> list[str]:
        """The command line of such a process."""
        return [sys.executable, "-W", "error", "-m", "aiqueue.cli.main", *arguments]

    def environment(self) -> dict[str, str]:
        """Its environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIQUEUE_")}
        return {**kept, "AIQUEUE_DATABASE_URL": self.database_url}


@pytest.fixture
def aiqueue(ledger_url: str) -> Command:
    """The command, with the test's ledger."""
    return Command(ledger_url)


@pytest.fixture
def applied(aiqueue: Command) -> Command:
    """The command, with a ledger that holds `OBJECTS`."""
    aiqueue("apply", "-f", "-", given=OBJECTS)
    return aiqueue
