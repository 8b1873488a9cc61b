"""Listings on stdout, and durations for people."""

import io
import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from aiqueue.cli.ages import age, human
from aiqueue.cli.printers import (
    Column,
    JsonPrinter,
    Listing,
    NamePrinter,
    Output,
    PlainPrinter,
    Row,
    TerminalPrinter,
    YamlPrinter,
    fit,
    printer_for,
)
from fix_rows import at

COLUMNS = [Column("NAME"), Column("MIDDLE", long=True), Column("STATE"), Column("MORE", wide=True)]
ROWS = [
    Row("thing/a", ["a", "m" * 100, "Admitted", "w"], {"kind": "Thing", "name": "a"}),
    Row("thing/longer", ["longer", "é", "Pending", ""], {"kind": "Thing", "name": "longer"}),
]


def test_plain_columns_are_aligned_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    PlainPrinter().print(Listing(COLUMNS, ROWS))
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading == f"NAME     MIDDLE{' ' * 97}STATE"
    assert first == f"a        {'m' * 100}   Admitted"
    assert second.index("Pending") == heading.index("STATE")


def test_wide_columns_show_when_asked_for() -> None:
    assert PlainPrinter(wide=True).lines(Listing(COLUMNS, ROWS))[0].endswith("STATE      MORE")


def test_what_could_move_a_cursor_is_not_printed() -> None:
    (_, line) = PlainPrinter().lines(Listing([Column("A")], [Row("", ["x\x1b[31m\r\n\u202ey"], {})]))
    assert line == "x [31m   y"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_terminal_gets_what_fits_it(width: int) -> None:
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(TerminalPrinter().table(Listing(COLUMNS, ROWS), width))
    lines = out.getvalue().splitlines()
    assert len(lines) == 3  # nothing wraps
    assert all(len(line) <= width for line in lines)
    assert "longer" in lines[2]
    assert "Admitted" in lines[1]
    assert ("…" in lines[1]) == (width < 120)


@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), min_size=1, max_size=12), st.integers(0, 200))
def test_columns_fit_where_they_can(columns: list[tuple[int, bool]], room: int) -> None:
    natural, long = [width for width, _ in columns], [is_long for _, is_long in columns]
    widths = fit(natural, long, room)
    assert all(1 <= width <= most for width, most in zip(widths, natural, strict=True))
    assert sum(widths) <= max(room, 4 * len(columns))
    if any(width < most for width, most, is_long in zip(widths, natural, long, strict=True) if not is_long):
        assert all(width <= 4 for width, is_long in zip(widths, long, strict=True) if is_long)
    if sum(natural) <= room:
        assert widths == natural


def test_a_terminal_gets_colours_and_no_markup_of_others() -> None:
    out = io.StringIO()
    listing = Listing([Column("NAME"), Column("STATE")], [Row("", ["[bold]x[/bold]", "Failed"], {})])
    Console(file=out, width=80, force_terminal=True, color_system="standard").print(TerminalPrinter().table(listing, 80))
    assert "[bold]x[/bold]" in out.getvalue()
    assert "\x1b[31mFailed" in out.getvalue()


def test_json_is_the_object_or_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    JsonPrinter().print(Listing(COLUMNS, ROWS[:1], single=True))
    assert json.loads(capsys.readouterr().out) == ROWS[0].document
    JsonPrinter().print(Listing(COLUMNS, ROWS))
    assert json.loads(capsys.readouterr().out) == {"apiVersion": "v1", "kind": "List", "items": [row.document for row in ROWS]}
    JsonPrinter().print(Listing(COLUMNS))
    assert json.loads(capsys.readouterr().out)["items"] == []


def test_yaml_is_one_document_each(capsys: pytest.CaptureFixture[str]) -> None:
    YamlPrinter().print(Listing(COLUMNS, ROWS))
    assert list(yaml.safe_load_all(capsys.readouterr().out)) == [row.document for row in ROWS]
    YamlPrinter().print(Listing(COLUMNS))
    assert capsys.readouterr().out == ""


def test_names(capsys: pytest.CaptureFixture[str]) -> None:
    NamePrinter().print(Listing(COLUMNS, ROWS))
    assert capsys.readouterr().out == "thing/a\nthing/longer\n"


def test_a_pipe_gets_plain_columns() -> None:
    assert isinstance(printer_for(Output.TABLE), PlainPrinter)
    assert isinstance(printer_for(Output.YAML), YamlPrinter)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (310, "5m10s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 20 * 60, "3h20m"),
        (8 * 3600, "8h"),
        (48 * 3600 - 1, "47h"),
        (48 * 3600, "2d"),
        (4 * 86400 + 6 * 3600, "4d6h"),
        (8 * 86400, "8d"),
        (729 * 86400, "729d"),
        (3 * 365 * 86400 + 40 * 86400, "3y40d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_durations_read_as_kubectl_has_them(seconds: float, text: str) -> None:
    assert human(seconds) == text


def test_ages() -> None:
    assert age(at(0), at(125)) == "2m5s"
    assert age(None, at(0)) == ""
