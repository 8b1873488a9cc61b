"""The environment of the demo and the ways in which it is asked: shown as command lines, or read without a word."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from aiqueue.cli.demonstration.jobs import NAMESPACE
from aiqueue.cli.demonstration.voice import Voice
from aiqueue.cli.harness import installed
from aiqueue.cli.harness.environment import DevEnvironment
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.errors import AiqueueError

T = TypeVar("T")
#: For a fact to come true. Most do within a second; a loaded machine may take its time.
FACT_SECONDS = 60.0
COMMAND_SECONDS = 60.0


class NotAsTold(AiqueueError):
    """Something was not as the demo tells it."""


class Stage:
    """A running environment with aiqueue on it.

    Args:
        environment: started.
        voice: tells.
        folder: for the files that command lines name.
    """

    def __init__(self, environment: DevEnvironment, voice: Voice, folder: Path) -> None:
        self.environment = environment
        self.cluster = environment.cluster
        self.voice = voice
        self.folder = folder

    def write(self, document: dict[str, Any]) -> Path:
        """Keep a document as a file named for it."""
        path = self.folder / f"{document['metadata']['name']}.yaml"
        # JSON is YAML.
        path.write_text(json.dumps(document, indent=2) + "\n")
        return path

    def kubectl(self, *arguments: str | Path, kubeconfig: Path | None = None, aside: str = "") -> str:
        """Run kubectl, showing the command line and what it printed.

        Args:
            arguments: as on a command line; paths are shown by their last part.
            kubeconfig: D the administrator's.
            aside: shown after the command line, for example who runs it.

        Raises:
            HarnessError: it failed; carries what it said.
        """
        self.voice.command(_shown("kubectl", arguments) + (f"    # {aside}" if aside else ""))
        printed = self.cluster.kubectl(*map(str, arguments), kubeconfig_file=kubeconfig)
        self.voice.printed(printed)
        return printed

    def refused(self, *arguments: str | Path, kubeconfig: Path, aside: str) -> str:
        """Run a kubectl that the API server is to refuse, showing the command line and what it said; return that on one line.

        Raises:
            NotAsTold: it was not refused.
        """
        line = _shown("kubectl", arguments)
        self.voice.command(f"{line}    # {aside}")
        try:
            printed = self.cluster.kubectl(*map(str, arguments), kubeconfig_file=kubeconfig)
        except HarnessError as error:
            # Before it the harness names the command; files are shown by their last part, as in the command line.
            said = str(error).partition(" failed: ")[2].replace(f"{self.folder}/", "")
            self.voice.complained(said)
            return " ".join(said.split())
        raise NotAsTold(f"not as told: {line} was not refused, but answered: {printed.strip()}")

    def is_stored(self, name: str) -> bool:
        """Whether the API server has a Job of this name.

        Raises:
            NotAsTold: it does not say.
        """
        status = self.cluster.api.ask("GET", _job_path(name)).status
        if status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND):
            raise NotAsTold(f"not as told: whether there is a Job {name} was answered {status}")
        return status == HTTPStatus.OK

    def aiqueue(self, *arguments: str | Path) -> str:
        """Run `aiqueue` as the ledger's administrator, showing the command line and what it printed.

        Raises:
            NotAsTold: it failed; carries what it said.
        """
        self.voice.command(_shown("aiqueue", arguments))
        printed = self._run(*arguments)
        self.voice.printed(printed)
        return printed

    def ledger(self, *arguments: str) -> dict[str, Any]:
        """What `aiqueue ... -o json` answers, not shown.

        Raises:
            NotAsTold: it failed; carries what it said.
        """
        answer = json.loads(self._run(*arguments, "-o", "json"))
        if not isinstance(answer, dict):
            raise NotAsTold(f"aiqueue {' '.join(arguments)} -o json answered with no object")
        return answer

    def _run(self, *arguments: str | Path) -> str:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(Path.home()),
            "LC_ALL": "C.UTF-8",
            "AIQUEUE_DATABASE_URL": installed.admin_url(self.environment),
        }
        done = subprocess.run(
            [sys.executable, "-m", "aiqueue.cli.main", *map(str, arguments)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        if done.returncode != 0:
            raise NotAsTold(f"{_shown('aiqueue', arguments)} ended with exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def job(self, name: str) -> dict[str, Any]:
        """A Job as the API server has it."""
        return self.cluster.api.call("GET", _job_path(name))

    def pods(self, name: str) -> list[dict[str, Any]]:
        """The pods of a Job, whatever their phase."""
        listed = self.cluster.api.call(
            "GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=batch.kubernetes.io/job-name%3D{name}"
        )
        return list(listed["items"])

    def await_(self, fact: Callable[[], T | None], told: str) -> T:
        """Return what `fact` answers as soon as that is something.

        Raises:
            NotAsTold: it was nothing for too long.
        """
        try:
            return until(fact, seconds=FACT_SECONDS, what=told)
        except HarnessError as error:
            raise NotAsTold(f"not as told: {error}") from error

    def require(self, found: object, expected: object, told: str) -> None:
        """Raise unless what was found is what the story says.

        Raises:
            NotAsTold: it is not.
        """
        if found != expected:
            raise NotAsTold(f"not as told: {told} is {found!r} where the story says {expected!r}")


def _job_path(name: str) -> str:
    return f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs/{name}"


def _shown(program: str, arguments: tuple[str | Path, ...]) -> str:
    return shlex.join([program, *(each.name if isinstance(each, Path) else each for each in arguments)])
