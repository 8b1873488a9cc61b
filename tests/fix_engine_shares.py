"""How many examples of a property test had what: counted, printed at the end, and asserted."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import pytest
from hypothesis import event

Test = Callable[..., Any]


@dataclass
class Tally:
    """What the examples of one test had."""

    test: str
    examples: int = 0
    had: Counter[str] = field(default_factory=Counter)

    def share(self, what: str) -> float:
        """Percent of the examples."""
        return 100 * self.had[what] / self.examples if self.examples else 0.0

    def __str__(self) -> str:
        shares = ", ".join(f"{what} {self.share(what):.0f} %" for what in sorted(self.had))
        return f"{self.test}: {self.examples} examples; {shares}"


TALLIES: dict[str, Tally] = {}
_current: list[Tally] = []


def counted(**least: int) -> Callable[[Test], Test]:
    """Count what the examples of a test have, and fail it unless at least these shares of them, in percent, have these.

    It stands above `@given`. A name that is more than one word is written with underscores.
    """

    def decorate(test: Test) -> Test:
        @wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            tally = Tally(test.__name__)
            _current.append(tally)
            try:
                test(*args, **kwargs)
            finally:
                _current.pop()
                TALLIES[test.__name__] = tally
            for what, share in least.items():
                name = what.replace("_", " ")
                assert tally.share(name) >= share, f"fewer than {share} % of the examples had {name}: {tally}"

        return run

    return decorate


def count(**had: bool) -> None:
    """Tell what the present example had; to be called once for each."""
    tally = _current[-1]
    tally.examples += 1
    for what, present in had.items():
        name = what.replace("_", " ")
        tally.had[name] += present
        event(f"{name}: {present}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the shares."""
    for tally in TALLIES.values():
        terminalreporter.write_line(str(tally))
