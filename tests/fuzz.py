"""Look for counterexamples for a while: the property tests over and over, every round from another seed.

    python tests/fuzz.py MINUTES [TEST FILE...]

A round is one file of tests. The seed of each is printed, so that it can be given again. It stops at the first failure, with the
command that repeats it; else when the time is up, with how many examples that were and how many of them had what.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import SystemRandom
from time import monotonic

HERE = Path(__file__).parent
PASSING = re.compile(r"- (\d+) passing")
TALLY = re.compile(r"^(test_\w+): (\d+) examples; (.*)$", re.MULTILINE)
SHARE = re.compile(r"(\w[\w ]*) (\d+) %")


@dataclass
class Sums:
    """What all rounds so far came to."""

    rounds: int = 0
    examples: int = 0
    tests: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    had: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))

    def add(self, output: str) -> None:
        """Count what one round printed."""
        self.rounds += 1
        self.examples += sum(int(number) for number in PASSING.findall(output))
        for test, number, shares in TALLY.findall(output):
            self.tests[test] += int(number)
            for what, percent in SHARE.findall(shares):
                self.had[test, what] += int(number) * int(percent) / 100

    def report(self, seconds: float) -> str:
        """Figures for a person."""
        lines = [f"{self.examples} examples in {self.rounds} rounds, {self.examples / seconds:.0f} a second"]
        for test, number in sorted(self.tests.items()):
            shares = [
                f"{what} {100 * had / number:.0f} %" for (of, what), had in sorted(self.had.items()) if of == test and number
            ]
            lines.append(f"  {test}: {number}; {', '.join(shares)}")
        return "\n".join(lines)


def command(file: str, seed: int) -> list[str]:
    """What runs a file of tests from a seed."""
    return [sys.executable, "-m", "pytest", "--quiet", file, f"--hypothesis-seed={seed}"]


def main(arguments: list[str]) -> int:
    """Go on until the time is up or something fails; answers the exit code."""
    try:
        minutes = float(arguments[0])
    except (IndexError, ValueError):
        print("give the minutes to go on for, such as 5, and perhaps files of tests", file=sys.stderr)
        return 2
    files = arguments[1:] or [str(path.relative_to(HERE.parent)) for path in sorted((HERE / "property").glob("test_*.py"))]
    sums, dice, began = Sums(), SystemRandom(), monotonic()
    dice.shuffle(files)  # so that a short run does not always see the same ones
    for file in cycle(files):
        if monotonic() - began >= 60 * minutes:
            break
        seed = dice.randrange(2**32)
        print(f"{file} --hypothesis-seed={seed}", flush=True)
        statistics = [*command(file, seed), "--hypothesis-show-statistics"]
        done = subprocess.run(statistics, cwd=HERE.parent, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            print(done.stdout[done.stdout.find("= FAILURES") :], done.stderr, sep="\n")
            print(f"failed: repeat it with\n  {' '.join(command(file, seed))}")
            return 1
        sums.add(done.stdout)
    print(sums.report(monotonic() - began))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
