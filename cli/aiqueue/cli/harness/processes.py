"""Programs in the background: started, written down, found again, ended.

Nothing runs unrecorded: a new child waits on a pipe until its pid and start time are in the state file, and
ends itself if its starter dies before that. Each program leads its own session, so a Ctrl-C in the
terminal is not passed on to it, and its whole group can be ended.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from aiqueue.cli.harness import folders, state
from aiqueue.cli.harness.errors import HarnessError, ProgramFailed
from aiqueue.cli.harness.state import Identity, Instance, Record, State
from aiqueue.cli.harness.waiting import until

TERM_SECONDS = 15.0
KILL_SECONDS = 10.0
LOG_TAIL_LINES = 25

#: Waits for the word that it has been recorded, then becomes the program with the same pid.
GATE = 'read -r word && [ "$word" = go ] && exec "$@" </dev/null'

#: Children of this process by pid: only their parent can reap them.
_children: dict[int, subprocess.Popen[bytes]] = {}


def identify(pid: int) -> Identity | None:
    """The identity of a running process; None if there is none or only its exit status is left."""
    found = _identify_by_proc(pid) if sys.platform == "linux" else _identify_by_ps(pid)
    child = _children.get(pid)
    if found is None and child is not None:
        # It has ended, so this returns at once; without it a zombie would stay.
        child.wait(KILL_SECONDS)
        _children.pop(pid, None)
    return found


def _identify_by_proc(pid: int) -> Identity | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the name in brackets and may itself hold spaces and brackets.
    fields = text.rpartition(")")[2].split()
    if fields[0] in ("Z", "X"):
        return None
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Identity(pid, f"{boot}/{fields[19]}")


def _identify_by_ps(pid: int) -> Identity | None:
    found = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C", "PATH": os.defpath},
    )
    status, _, started = found.stdout.strip().partition(" ")
    if not status or status.startswith("Z"):
        return None
    return Identity(pid, " ".join(started.split()))


def myself() -> Identity:
    """The identity of this process."""
    found = identify(os.getpid())
    if found is None:
        raise HarnessError("this process cannot see itself: neither /proc nor ps answers")
    return found


def is_alive(identity: Identity) -> bool:
    """Whether this very process still runs."""
    return identify(identity.pid) == identity


def end(record: Record, *, term_seconds: float = TERM_SECONDS) -> None:
    """End a program and its process group: its stop signal, then SIGKILL after `term_seconds`.

    Returns at once if the program of the record is gone, whoever has its pid now.

    Raises:
        HarnessError: it survived SIGKILL (stuck in the kernel).
    """
    for sent, seconds in ((signal.Signals[record.stop_signal], term_seconds), (signal.SIGKILL, KILL_SECONDS)):
        if not is_alive(record.identity):
            return
        try:
            os.killpg(record.identity.pid, sent)
        except ProcessLookupError:
            return
        try:
            until(
                lambda: not is_alive(record.identity),
                seconds=seconds,
                what=f"the end of {record.name}",
                longest_pause_seconds=0.05,
            )
        except HarnessError:
            if sent is signal.SIGKILL:
                raise
        else:
            return


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """The last lines of a log, for an error message."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return f"({log} was never written)"
    return "\n".join(text.splitlines()[-lines:])


@dataclass(frozen=True, slots=True)
class User:
    """The account a program runs as, where it is not our own."""

    uid: int
    gid: int


class Supervisor:
    """The programs of one folder. Callers hold the folder's lock while they start or end any.

    Args:
        folder: holds the state file and `logs/`.
        owned: the programs end with this process: if it dies, the next start of anything ends them.
        scratch: a folder outside `folder` to be removed with a leftover.
    """

    def __init__(self, folder: Path, *, owned: bool, scratch: Path | None = None) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        self._owned = owned
        self._scratch = scratch

    def begin(self) -> None:
        """Make the folder ours, and end what an earlier run left in it.

        Raises:
            HarnessError: another living process owns the folder.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        found = state.load(self.folder)
        owner = myself() if self._owned else None
        if found.owner is not None and found.owner != owner and is_alive(found.owner):
            raise HarnessError(
                f"{self.folder} is in use by process {found.owner.pid}: choose another folder or end that process"
            )
        self.end_all()
        state.save(self.folder, replace(state.load(self.folder), owner=owner))
        state.remember(self.folder, self._scratch)

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        environment: Mapping[str, str],
        working_folder: Path | None = None,
        user: User | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Record:
        """Start a program in the background; its output goes to `logs/<name>.log`, that of last time is kept beside it.

        Args:
            name: what it is called in the state file, `status` and `logs`.
            argv: program and arguments.
            environment: all of its environment; nothing of ours is passed on.
            working_folder: D the folder.
            user: run as this account (we must be root).
            stop_signal: what asks it to end.

        Raises:
            ProgramFailed: it ended before it began.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        # One start, one log: an error shows what this run said, and a log does not grow for ever.
        if log.exists():
            log.replace(log.with_suffix(".log.previous"))
        words = tuple(str(word) for word in argv)
        with log.open("ab") as output:
            child = subprocess.Popen(
                ["/bin/sh", "-c", GATE, "gate", *words],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=working_folder or self.folder,
                env=dict(environment),
                start_new_session=True,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
            )
        _children[child.pid] = child
        identity = identify(child.pid)
        if identity is None or child.stdin is None:
            raise ProgramFailed(f"{name} ended before it began; the end of {log}:\n{tail(log)}")
        record = Record(name, identity, words, str(log), stop_signal.name)
        state.save(self.folder, state.load(self.folder).with_program(record))
        try:
            with child.stdin as gate:
                gate.write(b"go\n")
        except BrokenPipeError as error:
            raise ProgramFailed(f"{name} ended before it began; the end of {log}:\n{tail(log)}") from error
        return record

    def owns(self) -> bool:
        """Whether this process is the owner of the folder."""
        return state.load(self.folder).owner == myself()

    def find(self, name: str) -> Record | None:
        """The program of this name, if it runs."""
        return next((each for each in state.load(self.folder).programs if each.name == name and is_alive(each.identity)), None)

    def running(self) -> list[Record]:
        """The programs that run."""
        return [each for each in state.load(self.folder).programs if is_alive(each.identity)]

    def stop(self, name: str) -> None:
        """End one program, if it runs, and strike it out; in a folder never used there is nothing to do."""
        for record in state.load(self.folder).programs:
            if record.name == name:
                end(record)
                state.save(self.folder, state.load(self.folder).without_program(name))

    def end_all(self) -> None:
        """End the programs, the last started first."""
        end_programs(self.folder)

    def finish(self) -> None:
        """End what is left and give the folder up. Does nothing in a folder never used."""
        if (self.folder / state.STATE_FILE).exists():
            self.end_all()
            state.save(self.folder, replace(state.load(self.folder), owner=None))
        state.forget(self.folder)

    def require_alive(self, record: Record) -> None:
        """Raise with the tail of its log if a program has ended.

        Raises:
            ProgramFailed: it has.
        """
        if not is_alive(record.identity):
            raise ProgramFailed(f"{record.name} ended; the end of {record.log}:\n{tail(Path(record.log))}")


def end_programs(folder: Path) -> None:
    """End the programs written down in a folder, the last started first."""
    for record in reversed(state.load(folder).programs):
        end(record)
        state.save(folder, state.load(folder).without_program(record.name))


def sweep() -> list[Path]:
    """End what dead owners left behind, anywhere; return the folders concerned.

    To be called with no folder's lock held: it takes them, one at a time.
    """
    swept = []
    for instance in state.instances():
        if not _is_left_behind(instance):
            continue
        if not instance.folder.is_dir():
            _end_instance(instance)
            swept.append(instance.folder)
            continue
        with folders.locked(instance.folder / folders.LOCK):
            # Somebody may have swept it, and even begun to use it, before we had the lock.
            now = state.find_instance(instance.folder)
            if now is not None and _is_left_behind(now):
                _end_instance(now)
                state.save(now.folder, State(ports=now.state.ports))
                swept.append(now.folder)
    return swept


def _is_left_behind(instance: Instance) -> bool:
    owner = instance.state.owner
    return owner is not None and not is_alive(owner)


def _end_instance(instance: Instance) -> None:
    for record in reversed(instance.state.programs):
        end(record)
    if instance.scratch is not None:
        remove_tree(instance.scratch)
    state.forget(instance.folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder and all in it, if it is there."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
