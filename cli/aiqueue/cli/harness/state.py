"""What is written down about running programs, so that any later process can find and end them.

Two kinds of file:

- `<folder>/state.json`, one per cluster or server: its programs, ports and owner.
- `<state folder>/instances/<hash>.json`, one per folder in use: where that folder is and a copy of
  its state, so that the next start of anything finds what a killed test run left behind, wherever its temporary
  folder was and even if that is gone.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from aiqueue.cli.harness import folders
from aiqueue.cli.harness.errors import HarnessError

STATE_FILE = "state.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for ever: a pid alone may be given to another program later."""

    pid: int
    #: Boot and start tick on Linux, start time elsewhere; survives exec.
    started: str


@dataclass(frozen=True, slots=True)
class Record:
    """A program that the harness started."""

    name: str
    identity: Identity
    argv: tuple[str, ...]
    log: str
    #: What asks it to end, by name.
    stop_signal: str = "SIGTERM"


@dataclass(frozen=True, slots=True)
class State:
    """The content of one state file."""

    #: The process whose end makes the instance a leftover; None if it is to outlive its starter.
    owner: Identity | None = None
    programs: tuple[Record, ...] = ()
    #: Kept when the programs are gone, to be taken again.
    ports: dict[str, int] = field(default_factory=dict)

    def with_program(self, record: Record) -> State:
        """The same with this program, in place of any of its name."""
        others = tuple(each for each in self.programs if each.name != record.name)
        return replace(self, programs=(*others, record))

    def without_program(self, name: str) -> State:
        """The same without the program of this name."""
        return replace(self, programs=tuple(each for each in self.programs if each.name != name))


def encode(state: State) -> str:
    """The text of a state file."""
    return json.dumps(asdict(state), indent=1) + "\n"


def decode(text: str) -> State:
    """The inverse of `encode`.

    Raises:
        HarnessError: the text is not a state file.
    """
    try:
        raw = json.loads(text)
        owner = raw["owner"]
        return State(
            owner=Identity(**owner) if owner else None,
            programs=tuple(_record(each) for each in raw["programs"]),
            ports={str(name): int(port) for name, port in raw["ports"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HarnessError(f"the text is not a state file of the harness: {error}") from error


def _record(raw: dict[str, Any]) -> Record:
    return Record(raw["name"], Identity(**raw["identity"]), tuple(raw["argv"]), raw["log"], raw.get("stop_signal", "SIGTERM"))


def load(folder: Path) -> State:
    """Read the state of a folder; a folder never used has the empty state.

    Raises:
        HarnessError: the file is damaged. It names pids, so nothing is guessed from it.
    """
    path = folder / STATE_FILE
    try:
        return decode(path.read_text())
    except FileNotFoundError:
        return State()
    except HarnessError as error:
        raise HarnessError(f"{path} is damaged ({error}): end the programs it names, if any, and remove it") from error


def save(folder: Path, state: State) -> None:
    """Write the state of a folder in one step, there and in the list of instances if it is on it."""
    folders.write_private(folder / STATE_FILE, encode(state))
    entry = find_instance(folder)
    if entry is not None:
        _write_entry(replace(entry, state=state))


@dataclass(frozen=True, slots=True)
class Instance:
    """An entry of the list of instances: a folder in use, with a copy of its state."""

    folder: Path
    #: Goes with the folder when it is swept.
    scratch: Path | None
    #: A copy, since temporary folders are removed under running programs.
    state: State


def _register() -> Path:
    return folders.state_folder() / "instances"


def _entry_path(folder: Path) -> Path:
    return _register() / (hashlib.sha256(str(folder).encode()).hexdigest()[:16] + ".json")


def _write_entry(instance: Instance) -> None:
    content = {
        "folder": str(instance.folder),
        "scratch": str(instance.scratch) if instance.scratch else None,
        "state": encode(instance.state),
    }
    folders.write_private(_entry_path(instance.folder), json.dumps(content, indent=1) + "\n")


def _read_entry(path: Path) -> Instance | None:
    try:
        raw = json.loads(path.read_text())
        scratch = raw["scratch"]
        return Instance(Path(raw["folder"]), Path(scratch) if scratch else None, decode(raw["state"]))
    except FileNotFoundError:
        return None  # Another process has just taken it off.
    except (ValueError, KeyError, TypeError, HarnessError) as error:
        raise HarnessError(f"{path} is damaged ({error}): remove it") from error


def find_instance(folder: Path) -> Instance | None:
    """The entry of a folder, if it is on the list."""
    return _read_entry(_entry_path(folder))


def remember(folder: Path, scratch: Path | None = None) -> None:
    """Enter a folder into the list of instances; `scratch` is a folder that goes with it when swept."""
    _register().mkdir(parents=True, exist_ok=True)
    _write_entry(Instance(folder, scratch, load(folder)))


def forget(folder: Path) -> None:
    """Take a folder off the list of instances."""
    _entry_path(folder).unlink(missing_ok=True)


def instances() -> list[Instance]:
    """The list of instances, without entries that cannot be read: those are reported on stderr and left alone."""
    found = []
    for path in sorted(_register().glob("*.json")):
        try:
            entry = _read_entry(path)
        except HarnessError as error:
            # Of another version of aiqueue, perhaps; it must not keep this one from starting.
            print(f"warning: {error}; programs that it names are not ended", file=sys.stderr)
        else:
            found += [entry] if entry is not None else []
    return found
