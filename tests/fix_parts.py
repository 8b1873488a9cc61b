"""Says at the end of a run of tests how long each part (a folder of `tests/`) took, and what became of it."""

from __future__ import annotations

import time
from collections import Counter, defaultdict

import pytest

#: What counts as an outcome besides passing.
_NOT_PASSED = ("failed", "error", "skipped", "xfailed", "xpassed")


class _Part:
    """One folder under `tests/`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.outcomes: Counter[str] = Counter()


def _parts(reporter: pytest.TerminalReporter) -> dict[str, _Part]:
    parts: dict[str, _Part] = defaultdict(_Part)
    for outcome, reports in reporter.stats.items():
        for report in reports:
            if not isinstance(report, pytest.TestReport):
                continue
            folders = report.nodeid.split("/")[:-1]
            part = parts[folders[1] if len(folders) > 1 else "."]
            # Setting up counts too: a part that starts a cluster pays for it.
            part.seconds += report.duration
            if outcome in _NOT_PASSED or (outcome == "passed" and report.when == "call"):
                part.outcomes[outcome] += 1
    return parts


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each part, if more than one ran."""
    parts = _parts(terminalreporter)
    if len(parts) < 2:
        return
    terminalreporter.section("parts")
    for name, part in parts.items():
        terminalreporter.write_line(_line(name, part.seconds, part.outcomes))


def _line(name: str, seconds: float, outcomes: Counter[str]) -> str:
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items(), key=_passed_first))
    return f"{name:<12} {time.strftime('%M:%S', time.gmtime(seconds))}  {counted or 'nothing ran'}"


def _passed_first(item: tuple[str, int]) -> tuple[bool, str]:
    return item[0] != "passed", item[0]
