"""What programs and the whole machine used, from /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiqueue.cli.harness.errors import HarnessError

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Of the first line of /proc/stat.
_STEAL_FIELD = 7
_IDLE_FIELDS = (3, 4)


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far, and resident memory now, of a program and its descendants."""

    cpu_seconds: float
    resident_bytes: int


def _stat(pid: int) -> list[str]:
    # What follows the name, which may itself hold brackets: state, parent, ...
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _children() -> Mapping[int, Sequence[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(_stat(int(entry.name))[1])].append(int(entry.name))
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile
    return found


def usage(pid: int) -> Usage:
    """Of a program that runs; what its descendants used counts also when they have ended and been waited for."""
    children, left = _children(), [pid]
    ticks = resident = 0
    while left:
        each = left.pop()
        left += children.get(each, [])
        try:
            fields = _stat(each)
            memory = Path(f"/proc/{each}/statm").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(int(field) for field in fields[11:15])
        # Shared pages of Postgres would count once for each of its processes.
        resident += int(memory[1]) - (int(memory[2]) if each != pid else 0)
    return Usage(ticks / _TICKS_PER_SECOND, resident * _PAGE_BYTES)


def forget_peak(pid: int) -> None:
    """Let the peak of a program's resident memory begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """The most memory a program had resident since `forget_peak`; itself only, not its children."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise HarnessError(f"the kernel does not say how much memory process {pid} had")


@dataclass(frozen=True, slots=True)
class Machine:
    """CPU seconds of the whole machine so far: used by anybody, and taken by its host."""

    used: float
    stolen: float

    @classmethod
    def now(cls) -> Machine:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        ticks = os.sysconf("SC_CLK_TCK")
        idle = sum(fields[each] for each in _IDLE_FIELDS)
        return cls((sum(fields) - idle - fields[_STEAL_FIELD]) / ticks, fields[_STEAL_FIELD] / ticks)
