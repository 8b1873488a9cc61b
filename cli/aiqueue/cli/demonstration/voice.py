"""How the demo speaks: numbered acts, short lines, command lines with what they printed. All of it to stdout."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence

WIDTH = 110
_INDENT = "   "


class Voice:
    """Prints at once, so that a pipe sees the story as it happens."""

    def __init__(self) -> None:
        self._acts = 0
        self._bold, self._dim, self._plain = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")

    def act(self, title: str) -> None:
        """Begin an act."""
        self._acts += 1
        print(f"\n{self._bold}{self._acts}. {title}{self._plain}", flush=True)

    def say(self, text: str) -> None:
        """A sentence, wrapped."""
        print(textwrap.fill(text, WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT), flush=True)

    def command(self, line: str) -> None:
        """A command line that is about to be run."""
        print(f"{_INDENT}{self._bold}$ {line}{self._plain}", flush=True)

    def printed(self, text: str) -> None:
        """What a command printed."""
        for line in text.rstrip().splitlines():
            print(f"{_INDENT}{self._dim}{line}{self._plain}" if line else "", flush=True)

    def complained(self, text: str) -> None:
        """What a command that failed said: one long line often, so wrapped."""
        for line in text.strip().splitlines():
            self.printed(textwrap.fill(line, WIDTH - len(_INDENT), break_long_words=False, break_on_hyphens=False))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Rows of words in columns."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            print(_INDENT + "   ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip(), flush=True)
