"""Listings on stdout: tables for people and pipes, JSON, YAML and names for programs.

A `Listing` knows its columns and rows, a `Printer` knows a format. On a terminal a table takes its width and shortens the
columns that say so; in a pipe columns are plain and whole.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

_GAP = "   "
_LEAST = 4  # a column narrower than this says nothing
_GREEN = frozenset({"Admitted", "Finished", "Running", "created", "configured", "Active"})
_YELLOW = frozenset({"Pending", "Reserved", "Evicting", "Releasing", "Preempted", "Drained", "NotReady", "Hold", "Drain"})
_RED = frozenset({"Failed", "Expired", "Held"})


class Output(StrEnum):
    """Formats of a listing."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `wide` ones show with `-o wide` only, `long` ones are shortened first where a terminal is too narrow."""

    title: str
    wide: bool = False
    long: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One object: its name as `kind/name`, a cell for each column, and all of it as a document of JSON values."""

    name: str
    cells: Sequence[str]
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows of one kind. `single`: one object was asked for by name, so JSON is that object and no list."""

    columns: Sequence[Column]
    rows: Sequence[Row] = field(default_factory=tuple)
    single: bool = False


class Printer(Protocol):
    """Prints a listing to stdout."""

    def print(self, listing: Listing) -> None:
        """Print all of it."""


def printer_for(output: Output) -> Printer:
    """The printer of a format."""
    if output is Output.JSON:
        return JsonPrinter()
    if output is Output.YAML:
        return YamlPrinter()
    if output is Output.NAME:
        return NamePrinter()
    wide = output is Output.WIDE
    return TerminalPrinter(wide=wide) if sys.stdout.isatty() else PlainPrinter(wide=wide)


class NamePrinter:
    """`kind/name`, one a line."""

    def print(self, listing: Listing) -> None:
        """Print all names."""
        for row in listing.rows:
            print(row.name)


class JsonPrinter:
    """The object that was asked for, else a List."""

    def print(self, listing: Listing) -> None:
        """Print one JSON document."""
        documents = [row.document for row in listing.rows]
        whole = (
            documents[0] if listing.single and len(documents) == 1 else {"apiVersion": "v1", "kind": "List", "items": documents}
        )
        print(json.dumps(whole, indent=2, ensure_ascii=False))


class YamlPrinter:
    """One document for each object, so that `aiqueue apply -f` takes it back."""

    def print(self, listing: Listing) -> None:
        """Print all documents."""
        import yaml

        if listing.rows:
            documents = [json.loads(json.dumps(row.document)) for row in listing.rows]
            print(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True, explicit_start=len(documents) > 1), end="")


class PlainPrinter:
    """Columns for pipes: nothing is cut or coloured."""

    def __init__(self, *, wide: bool = False) -> None:
        self.wide = wide

    def print(self, listing: Listing) -> None:
        """Print a heading and the rows."""
        print("\n".join(self.lines(listing)))

    def lines(self, listing: Listing) -> list[str]:
        """The table as lines; the first is the heading."""
        shown = _shown(listing, self.wide)
        table = [[listing.columns[index].title for index in shown]]
        table += [[printable(row.cells[index]) for index in shown] for row in listing.rows]
        widths = [max(len(line[column]) for line in table) for column in range(len(shown))]
        return [_GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]


def table_lines(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A small table within a text: an empty line, its title, and its lines indented."""
    listing = Listing([Column(column) for column in columns], [Row("", row, {}) for row in rows])
    return ["", title, *(f"  {line}" for line in PlainPrinter().lines(listing))]


class TerminalPrinter:
    """Columns for a terminal: as wide as it is, long columns shortened, states coloured."""

    def __init__(self, *, wide: bool = False) -> None:
        self.wide = wide

    def print(self, listing: Listing) -> None:
        """Print a heading and the rows."""
        from rich.console import Console

        console = Console()
        console.print(self.table(listing, console.width))

    def table(self, listing: Listing, width: int) -> Any:
        """The table as rich renders it in `width` cells."""
        from rich.cells import cell_len
        from rich.table import Table
        from rich.text import Text

        shown = _shown(listing, self.wide)
        columns = [listing.columns[index] for index in shown]
        lines = [[printable(row.cells[index]) for index in shown] for row in listing.rows]
        natural = [
            max(cell_len(text) for text in (column.title, *(line[number] for line in lines)))
            for number, column in enumerate(columns)
        ]
        room = width - len(_GAP) * (len(columns) - 1)
        table = Table(box=None, padding=(0, len(_GAP), 0, 0), pad_edge=False, header_style="bold")
        for column, fitted in zip(columns, fit(natural, [column.long for column in columns], room), strict=True):
            table.add_column(column.title, no_wrap=True, overflow="ellipsis", width=fitted)
        for line in lines:
            table.add_row(*(Text(text, style=_style(text)) for text in line))
        return table


def fit(natural: Sequence[int], long: Sequence[bool], room: int) -> list[int]:
    """Widths that together take at most `room`: the widest long column gives way first, then the widest of all."""
    widths = list(natural)
    for may_shrink in (long, [True] * len(widths)):
        for _ in range(sum(widths)):
            candidates = [index for index, shrinks in enumerate(may_shrink) if shrinks and widths[index] > _LEAST]
            if sum(widths) <= room or not candidates:
                break
            widths[max(candidates, key=lambda index: widths[index])] -= 1
    return widths


def _shown(listing: Listing, wide: bool) -> list[int]:
    return [index for index, column in enumerate(listing.columns) if wide or not column.wide]


def _style(cell: str) -> str:
    return "green" if cell in _GREEN else "yellow" if cell in _YELLOW else "red" if cell in _RED else ""


def printable(text: str) -> str:
    """The text without what could move a terminal's cursor."""
    return text if text.isprintable() else "".join(character if character.isprintable() else " " for character in text)
