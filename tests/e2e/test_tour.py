"""The tour that README.md gives to a new user, command by command."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiqueue.cli.harness.waiting import until

ROOT = Path(__file__).parents[2]
COMMAND_SECONDS = 180
MISSPELT = "sed s/train/trian/ examples/gang-job.yaml | kubectl create -f -"


class Shell:
    """A shell that was told what `aiqueue dev env` prints. `aiqueue` is not on its PATH before."""

    def __init__(self, home: Path) -> None:
        self.options = f"--folder {shlex.quote(str(home / 'dev'))}"
        self._environment = {"PATH": os.defpath, "HOME": str(Path.home()), "XDG_STATE_HOME": str(home / "state")}
        self._entered = ""

    def run(self, line: str) -> str:
        """Run a line of the tour in the repository's folder; `aiqueue dev` gets a folder of the test's own."""
        script = self._entered + re.sub(r"^aiqueue dev (\w+)", rf"{self._aiqueue} dev \1 {self.options}", line)
        done = subprocess.run(
            ["/bin/sh", "-euc", script],
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_SECONDS,
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, line: str) -> str:
        """What a line says that is to fail."""
        with pytest.raises(AssertionError) as failure:
            self.run(line)
        return str(failure.value)

    def enter(self) -> None:
        """What eval "$(aiqueue dev env)" does, once for all lines to come."""
        self._entered = self.run("aiqueue dev env") + "\n"

    @property
    def _aiqueue(self) -> str:
        return "aiqueue" if self._entered else shlex.join([sys.executable, "-m", "aiqueue.cli.main"])


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    found = Shell(tmp_path)
    yield found
    found.run("aiqueue dev down --purge")


def test_the_lines_are_those_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    tour = [
        "aiqueue dev up",
        'eval "$(aiqueue dev env)"',
        "aiqueue apply -f examples/",
        MISSPELT,
        "kubectl create -f examples/gang-job.yaml",
        "aiqueue get workloads",
        "aiqueue explain workload default/gang",
        "kubectl get jobs",
        "aiqueue simulate examples/simulate/two-teams.yaml",
        "aiqueue dev down",
    ]
    places = [text.find(f"\n{line}") for line in tour]
    assert -1 not in places, tour[places.index(-1)]
    assert places == sorted(places)


def test_the_tour(shell: Shell) -> None:
    shell.run("aiqueue dev up")
    shell.enter()
    assert "tenant/research created" in shell.run("aiqueue apply -f examples/")
    assert "tenant/research unchanged" in shell.run("aiqueue apply -f examples/")
    assert "there is no queue trian in namespace default" in shell.refused(MISSPELT)
    shell.run("kubectl create -f examples/gang-job.yaml")

    def admitted() -> str | None:
        listed = shell.run("aiqueue get workloads --all")
        return listed if re.search(r"default +gang +(Admitted|Finished)", listed) else None

    until(admitted, seconds=60, what="the gang's admission")
    assert "Workload default/gang" in shell.run("aiqueue explain workload default/gang")
    started = re.compile(r"gang +(Running|Complete)")
    until(lambda: started.search(shell.run("kubectl get jobs")), seconds=60, what="the gang to be started")
    assert "vision/dream" in shell.run("aiqueue simulate examples/simulate/two-teams.yaml")
    status = json.loads(shell.run("aiqueue dev status -o json"))
    assert [each["name"] for each in status["programs"] if not each["running"]] == []
    assert {"controller", "webhook"} <= {each["name"] for each in status["programs"]}
    assert '"event": "leading"' in shell.run("aiqueue dev logs controller")
    assert '"event": "refused"' in shell.run("aiqueue dev logs webhook")
    shell.run("aiqueue dev down")
    shell.run("aiqueue dev up")
    assert re.search(r"default +gang ", shell.run("aiqueue get workloads --all")), "data outlives a stop"
