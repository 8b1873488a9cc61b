"""Further programs of the development environment, and what `aiqueue dev` says when nothing runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aiqueue.cli import dev
from aiqueue.cli.harness import processes
from aiqueue.cli.harness.environment import DevEnvironment
from aiqueue.cli.harness.errors import HarnessError, ProgramFailed
from aiqueue.cli.harness.waiting import until

SAYS_ITS_ENVIRONMENT = ["/bin/sh", "-c", "echo ledger is $LEDGER; echo kubeconfig is ${KUBECONFIG:-unset}; exec sleep 600"]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DevEnvironment:
    """An environment in which neither cluster nor server was ever started."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/of/somebody")
    return DevEnvironment(tmp_path / "dev")


def test_a_service_runs_until_down(environment: DevEnvironment) -> None:
    environment.stop_service("helper")
    record = environment.start_service("helper", SAYS_ITS_ENVIRONMENT, {"LEDGER": "here"})
    assert environment.start_service("helper", SAYS_ITS_ENVIRONMENT, {}) == record, "one of a name is enough"
    log = environment.log("helper")
    until(lambda: log.read_text() == "ledger is here\nkubeconfig is unset\n", seconds=60, what="its words")
    assert {each.name: each.pid for each in environment.status()}["helper"] == record.identity.pid
    environment.down()
    assert not processes.is_alive(record.identity)
    assert "helper" not in {each.name for each in environment.status()}


def test_a_service_that_ended_is_shown_and_can_be_started_again(environment: DevEnvironment) -> None:
    record = environment.start_service("helper", ["/bin/sh", "-c", "echo no ledger; exit 1"], {})
    until(lambda: not processes.is_alive(record.identity), seconds=60, what="its end")
    with pytest.raises(ProgramFailed, match=r"helper ended; the end of .*\nno ledger"):
        environment.require_service(record)
    assert {each.name: each.pid for each in environment.status()}["helper"] is None
    again = environment.start_service("helper", SAYS_ITS_ENVIRONMENT, {})
    assert again.identity != record.identity
    environment.stop_service("helper")
    assert not processes.is_alive(again.identity)


@pytest.mark.parametrize("name", ["etcd", "postgres", "audit"])
def test_a_service_cannot_take_the_name_of_a_part(environment: DevEnvironment, name: str) -> None:
    with pytest.raises(HarnessError, match="choose another"):
        environment.start_service(name, SAYS_ITS_ENVIRONMENT, {})


def test_nothing_running_is_said_in_words_and_status(environment: DevEnvironment) -> None:
    options = ["--folder", str(environment.folder)]
    shown = CliRunner().invoke(dev.app, ["status", "-o", "json", *options])
    assert shown.exit_code == dev.NOT_RUNNING
    assert not any(each["running"] for each in json.loads(shown.stdout)["programs"])
    table = CliRunner().invoke(dev.app, ["status", *options])
    assert table.stdout.startswith("PROGRAM ")
    for arguments, words in (
        (["env"], "nothing runs"),
        (["logs", "etcd"], "has not written"),
        (["logs", "absent"], "no program"),
    ):
        refused = CliRunner().invoke(dev.app, [*arguments, *options])
        assert refused.exit_code == 1
        assert refused.stdout == ""
        assert words in refused.stderr
    assert CliRunner().invoke(dev.app, ["down", *options]).exit_code == 0


def test_following_a_log_ends_with_its_program(environment: DevEnvironment) -> None:
    record = environment.start_service("helper", ["/bin/sh", "-c", "echo first; sleep 600"], {})
    code = "from aiqueue.cli.dev import app; app()"
    argv = [sys.executable, "-c", code, "logs", "helper", "--follow", "--folder", str(environment.folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "first\n"
        processes.end(record)
        assert follower.stdout.read() == ""
    assert follower.returncode == 0
