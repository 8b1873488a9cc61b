"""What programs used, from /proc, and what the API server counted, from its /metrics."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiqueue.cli.harness.api import Api
from aiqueue.cli.harness.errors import HarnessError

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Of one webhook, as its configuration calls it.
WEBHOOK = "jobs.aiqueue.dev"
_ASKED = "apiserver_admission_webhook_admission_duration_seconds"
_FAILED_OPEN = "apiserver_admission_webhook_fail_open_count"
_CHECKED = ("apiserver_validating_admission_policy_check_total", "apiserver_mutating_admission_policy_check_total")
_SERIES = re.compile(r"^(?P<name>[a-z_]+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$", re.MULTILINE)


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
class Counts:
    """What the API server has counted so far.

    Attributes:
        asked: requests that the webhook answered, allowed or refused.
        refused: those it refused.
        asked_seconds: how long these took, as the API server saw it.
        asked_quickly: how many of them took at most 5 ms.
        failed_open: requests let through because the webhook did not answer.
        policies: checks of each of aiqueue's policies.
    """

    asked: int
    refused: int
    asked_seconds: float
    asked_quickly: int
    failed_open: int
    policies: Mapping[str, int]

    def since(self, before: Counts) -> Counts:
        """What was added."""
        policies = {name: count - before.policies.get(name, 0) for name, count in self.policies.items()}
        return Counts(
            self.asked - before.asked,
            self.refused - before.refused,
            self.asked_seconds - before.asked_seconds,
            self.asked_quickly - before.asked_quickly,
            self.failed_open - before.failed_open,
            {name: count for name, count in policies.items() if count},
        )


def counts(api: Api) -> Counts:
    """Ask the API server."""
    answer = api.ask("GET", "/metrics")
    if answer.status != 200:
        raise HarnessError(f"the API server's /metrics answered {answer.status}")
    asked = refused = quickly = failed_open = 0
    seconds = 0.0
    policies: dict[str, int] = defaultdict(int)
    for series in _SERIES.finditer(answer.body.decode()):
        name, labels, value = series["name"], dict(re.findall(r'([a-z_]+)="([^"]*)"', series["labels"])), float(series["value"])
        if labels.get("name") == WEBHOOK and name == f"{_ASKED}_count":
            asked += int(value)
            refused += int(value) if labels["rejected"] == "true" else 0
        elif labels.get("name") == WEBHOOK and name == f"{_ASKED}_sum":
            seconds += value
        elif labels.get("name") == WEBHOOK and name == f"{_ASKED}_bucket" and labels["le"] == "0.005":
            quickly += int(value)
        elif labels.get("name") == WEBHOOK and name == _FAILED_OPEN:
            failed_open += int(value)
        elif name in _CHECKED:
            policies[labels["policy"]] += int(value)
    return Counts(asked, refused, seconds, quickly, failed_open, policies)
