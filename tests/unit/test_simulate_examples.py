"""What the example of taking capacity back comes to, worked out by hand from what its comments say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aiqueue.cli import resources
from aiqueue.cli.main import app

EXAMPLE = resources.examples_path() / "simulate" / "taking-back.yaml"
MINUTE = 60


@pytest.fixture(scope="module")
def played() -> dict[str, Any]:
    done = CliRunner().invoke(app, ("simulate", "-o", "json", str(EXAMPLE)), catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def runs(played: dict[str, Any], name: str) -> list[tuple[float, float, str, str]]:
    """Of a job's runs: minutes of admission and end, outcome, and for whom and by which right it was put out."""
    (job,) = (each for each in played["jobs"] if each["name"] == name)
    return [
        (
            run["admitted_seconds"] / MINUTE,
            run["ended_seconds"] / MINUTE,
            run["outcome"],
            f"{run['preempted_by']} {run['rule']}".strip(),
        )
        for run in job["runs"]
    ]


def test_who_borrows_and_loses_least_makes_room(played: dict[str, Any]) -> None:
    """At 12m sweep-b has 10m x 8 to lose, sweep-a 11m x 8 and pretrain 12m x 16; at 16m it is 15m x 8 and 1m x 16."""
    assert runs(played, "sweep-b")[0] == (2, 14, "Preempted", "vision/evaluate WithinNominal")
    assert runs(played, "evaluate") == [(14, 44, "Finished", "")]
    assert runs(played, "pretrain")[0] == (0, 18, "Preempted", "vision/index WithinNominal")
    assert runs(played, "index") == [(18, 48, "Finished", "")]


def test_urgent_work_leaves_alone_who_has_just_begun(played: dict[str, Any]) -> None:
    assert runs(played, "sweep-a")[0] == (1, 22, "Preempted", "speech/hotfix WithinTenant")
    assert runs(played, "sweep-b")[1] == (18, 78, "Finished", "")
    assert runs(played, "hotfix") == [(22, 52, "Expired", "")]


def test_who_made_room_comes_back_with_what_was_saved(played: dict[str, Any]) -> None:
    """pretrain ran for 18m and saved 15m of its 4h, so 3h45m are left; the others begin anew."""
    assert runs(played, "sweep-a")[1] == (44, 104, "Finished", "")
    assert runs(played, "pretrain")[1] == (52, 52 + 225, "Finished", "")
    assert played["summary"]["preemptions"] == 3
    # sweep-b 12m, pretrain 3m, sweep-a 21m; of 8, 16 and 8 GPUs.
    assert played["summary"]["lost_work_seconds"] == 36 * MINUTE
    assert played["summary"]["lost_resource_seconds"] == {"nvidia.com/gpu": (12 * 8 + 3 * 16 + 21 * 8) * MINUTE}


def test_its_comments_name_it_as_it_is_called() -> None:
    assert f"aiqueue simulate examples/simulate/{Path(EXAMPLE).name}" in EXAMPLE.read_text()
