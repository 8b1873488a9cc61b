"""docs/simulate.md names what there is: every option, annotation and column."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from aiqueue.admission.simulate import reading, traces
from aiqueue.cli.main import app

PAGE = (Path(__file__).parents[2] / "docs" / "simulate.md").read_text()


def test_every_option_is_told_and_every_option_told_is_one() -> None:
    command = typer.main.get_group(app).commands["simulate"]
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")} - {
        "--output",
        "--help",
    }
    assert options == set(re.findall(r"(?<!-)--[a-z]+\b", PAGE))


def test_every_annotation_and_column_is_told() -> None:
    for annotation in (reading.AT, reading.ARRIVAL, reading.RUNTIME, reading.CHECKPOINT, reading.FAILS):
        assert f"`{annotation}:" in PAGE
    for column in (*traces.REQUIRED, *traces.OPTIONAL):
        assert f"`{column}`" in PAGE


def test_what_the_page_links_to_is_there() -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / link).is_file()
