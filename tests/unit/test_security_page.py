"""docs/security.md: every threat names a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "security.md"
HEADER = ["threat", "what stops it", "test"]
REFERENCE = re.compile(r"`([a-z0-9]+/[a-z0-9_]+\.py(?:::\w+)+)`")


def rows() -> list[list[str]]:
    """Cells of every line of the tables of threats."""
    found: list[list[str]] = []
    in_threats = False
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            in_threats = False
        elif cells == HEADER:
            in_threats = True
        elif in_threats and set(cells[0]) != {"-"}:
            found.append(cells)
    return found


def references() -> list[str]:
    return sorted({name for cells in rows() for name in REFERENCE.findall(cells[-1])})


def defines(names: list[str], body: list[ast.stmt]) -> bool:
    """Whether a test of this name (in this class) is defined there."""
    for each in body:
        if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and each.name == names[0]:
            return not isinstance(each, ast.ClassDef) if len(names) == 1 else defines(names[1:], each.body)
    return False


def test_there_are_threats_of_every_actor() -> None:
    assert len(rows()) >= 40
    assert len(re.findall(r"^\| threat \|", PAGE.read_text(), re.MULTILINE)) == 7


@pytest.mark.parametrize("cells", rows(), ids=lambda cells: cells[0])
def test_every_threat_names_what_stops_it_and_a_test(cells: list[str]) -> None:
    assert len(cells) == len(HEADER)
    assert all(cells)
    rest = REFERENCE.sub("", cells[-1]).strip(", ")
    assert REFERENCE.search(cells[-1])
    assert rest == "", f"{rest!r} is no test"


@pytest.mark.parametrize("reference", references())
def test_every_test_that_is_named_is_there(reference: str) -> None:
    path, *names = reference.split("::")
    assert names[-1].startswith("test_")
    assert defines(names, ast.parse((TESTS / path).read_text()).body)


def test_a_test_that_is_gone_would_be_noticed() -> None:
    here = ast.parse(Path(__file__).read_text()).body
    assert defines(["test_a_test_that_is_gone_would_be_noticed"], here)
    assert not defines(["test_that_never_was"], here)
    assert not defines(["TestSuite", "test_x"], here)
