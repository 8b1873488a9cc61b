"""State files: round trip, damage, the list of instances, and programs known for certain."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiqueue.cli.harness import processes, state
from aiqueue.cli.harness.errors import HarnessError, ProgramFailed
from aiqueue.cli.harness.processes import Supervisor
from aiqueue.cli.harness.state import Identity, Record, State
from aiqueue.cli.harness.waiting import until

ENVIRONMENT = {"PATH": os.defpath}
SLEEPER = ["/bin/sleep", "600"]


@pytest.fixture(autouse=True)
def own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what these tests leave behind from the sweeps of others."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


identities = st.builds(Identity, st.integers(1, 2**22), st.text())
records = st.builds(
    Record, st.text(), identities, st.lists(st.text()).map(tuple), st.text(), st.sampled_from(["SIGTERM", "SIGINT"])
)
states = st.builds(
    State, st.none() | identities, st.lists(records).map(tuple), st.dictionaries(st.text(), st.integers(1, 65535), max_size=6)
)


@given(states)
def test_a_state_survives_its_file(value: State) -> None:
    assert state.decode(state.encode(value)) == value


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"owner": null, "programs": [{}], "ports": {}}'])
def test_a_damaged_state_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / state.STATE_FILE).write_text(text)
    with pytest.raises(HarnessError, match=r"state\.json is damaged"):
        state.load(tmp_path)


def test_a_program_replaces_the_one_of_its_name() -> None:
    first, second = (Record("etcd", Identity(pid, "x"), (), "") for pid in (1, 2))
    assert State().with_program(first).with_program(second).programs == (second,)
    assert State().with_program(first).without_program("etcd").programs == ()


def test_an_unreadable_instance_is_reported_and_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state.remember(tmp_path / "good")
    (tmp_path / "state" / "aiqueue" / "instances" / "bad.json").write_text("{")
    assert [each.folder for each in state.instances()] == [tmp_path / "good"]
    assert "bad.json is damaged" in capsys.readouterr().err


def test_a_pid_given_to_another_program_is_not_signalled(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, owned=True)
    supervisor.begin()
    record = supervisor.start("sleeper", SLEEPER, environment=ENVIRONMENT)
    stale = Record("stale", Identity(record.identity.pid, "another boot/1"), (), "")
    processes.end(stale)
    assert processes.is_alive(record.identity)
    supervisor.finish()
    assert not processes.is_alive(record.identity)


def test_a_program_that_ignores_being_asked_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, owned=True)
    supervisor.begin()
    argv = ["/bin/sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 600; done"]
    record = supervisor.start("deaf", argv, environment=ENVIRONMENT)
    until(lambda: "deaf" in Path(record.log).read_text(), seconds=60, what="the trap")
    processes.end(record, term_seconds=0.1)
    assert not processes.is_alive(record.identity)
    supervisor.finish()


def test_a_program_that_cannot_run_is_an_error_with_its_log(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, owned=True)
    supervisor.begin()
    record = supervisor.start("absent", ["/nonexistent/program"], environment=ENVIRONMENT)
    until(lambda: not processes.is_alive(record.identity), seconds=60, what="its end")
    with pytest.raises(ProgramFailed, match="not found"):
        supervisor.require_alive(record)
    supervisor.finish()


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEPER) as owner:
        identity = processes.identify(owner.pid)
        state.save(tmp_path, State(owner=identity))
        with pytest.raises(HarnessError, match=f"in use by process {owner.pid}"):
            Supervisor(tmp_path, owned=True).begin()
        owner.kill()


STARTER = """
import sys, time
from pathlib import Path
from aiqueue.cli.harness.processes import Supervisor
supervisor = Supervisor(Path(sys.argv[1]), owned=True, scratch=Path(sys.argv[2]))
supervisor.begin()
supervisor.start("sleeper", ["/bin/sleep", "600"], environment={})
print("started", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("folder_goes", [False, True])
def test_what_a_killed_starter_left_is_swept(tmp_path: Path, folder_goes: bool) -> None:
    folder, scratch = tmp_path / "folder", tmp_path / "scratch"
    scratch.mkdir()
    argv = [sys.executable, "-c", STARTER, str(folder), str(scratch)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        (record,) = state.load(folder).programs
        assert processes.sweep() == []
        starter.send_signal(signal.SIGKILL)
    assert processes.is_alive(record.identity)
    if folder_goes:
        processes.remove_tree(folder)
    assert processes.sweep() == [folder]
    assert not processes.is_alive(record.identity)
    assert not scratch.exists()
    assert state.instances() == []
