"""`aiqueue simulate` with files, as people and programs run it."""

from __future__ import annotations

import json
import os
import pty
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aiqueue.cli import resources
from aiqueue.cli.files import complete
from aiqueue.cli.main import app
from fix_command import Command, Result
from fix_simulate import Document, class_, flavor, job, one_tenant, queue, tenant, text_of


def run(*arguments: str, given: str = "", expect: int = 0) -> Result:
    """The command in this process, with no ledger to be found."""
    environment: dict[str, str | None] = dict.fromkeys(name for name in os.environ if name.startswith("AIQUEUE_"))
    finished = CliRunner().invoke(app, ("simulate", *arguments), input=given, env=environment, catch_exceptions=False)
    result = Result(finished.exit_code, finished.stdout, finished.stderr)
    assert result.code == expect, result
    return result


def process(*arguments: str, seed: str = "random", given: str = "") -> bytes:
    """What the command prints in a process of its own, under a seed of Python's hashes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIQUEUE_")}
    finished = subprocess.run(
        Command.line(("simulate", *arguments)),
        input=given.encode(),
        capture_output=True,
        env={**environment, "PYTHONHASHSEED": seed},
        timeout=120,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, b"")
    return finished.stdout


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """Two jobs for one GPU, the second drained while it runs."""
    path = tmp_path / "scene.yaml"
    documents = [
        *one_tenant(),
        class_(gracePeriod="20s"),
        tenant(at="400s", state="Drain"),
        tenant(at="500s"),
        job("a", runtime="5m", of_class="normal"),
        job("b", runtime="5m", arrival="10s", of_class="normal", checkpoint="50s"),
        job("big", 2),
    ]
    path.write_text(text_of(*documents))
    return path


def test_the_document_is_as_promised(scene: Path) -> None:
    document: dict[str, Any] = run(str(scene), "-o", "json").json()
    flavors = {"main": {"nvidia.com/gpu": "h100"}}
    ran = {"pods": 1, "flavors": flavors, "preempted_by": "", "rule": "", "evict_at_seconds": None, "lost_seconds": 0}
    common = {"namespace": "team-a", "tenant": "research"}
    assert document["jobs"] == [
        {
            **common,
            "name": "a",
            "arrival_seconds": 0,
            "state": "Finished",
            "runs": [{"admitted_seconds": 0, "ended_seconds": 300, "outcome": "Finished", "reason": "", **ran}],
            "reason": "",
            "message": "",
        },
        {
            **common,
            "name": "big",
            "arrival_seconds": 0,
            "state": "Pending",
            "runs": [],
            "reason": "ExceedsCeiling",
            "message": document["jobs"][1]["message"],
        },
        {
            **common,
            "name": "b",
            "arrival_seconds": 10,
            "state": "Finished",
            "runs": [
                {
                    "admitted_seconds": 300,
                    "ended_seconds": 420,
                    "outcome": "Drained",
                    "reason": "tenant research is being drained",
                    **ran,
                    "evict_at_seconds": 420,
                    "lost_seconds": 20,
                },
                {"admitted_seconds": 500, "ended_seconds": 700, "outcome": "Finished", "reason": "", **ran},
            ],
            "reason": "",
            "message": "",
        },
    ]
    assert document["jobs"][1]["message"]
    assert document["summary"] == {
        "jobs": 3,
        "finished": 2,
        "makespan_seconds": 700,
        "mean_wait_seconds": 145,
        "p50_wait_seconds": 0,
        "p95_wait_seconds": 290,
        "p99_wait_seconds": 290,
        "mean_completion_seconds": (300 + 690) / 2,
        "utilization": {"nvidia.com/gpu": round(620 / 700, 9)},
        "preemptions": 0,
        "lost_work_seconds": 20,
        "lost_resource_seconds": {"nvidia.com/gpu": 20},
        "jain_fairness": 1.0,
    }


def test_files_folders_and_stdin_are_the_same(scene: Path) -> None:
    whole = run(str(scene), "-o", "json").out
    assert run(str(scene.parent), "-o", "json").out == whole
    assert run("-", "-o", "json", given=scene.read_text()).out == whole
    halves = scene.read_text().split("---\n")
    for name, part in (("one", halves[:3]), ("two", halves[3:])):
        (scene.parent / f"{name}.yaml").write_text("---\n".join(part))
    scene.unlink()
    assert run(str(scene.parent / "one.yaml"), str(scene.parent / "two.yaml"), "-o", "json").out == whole


def test_until(scene: Path) -> None:
    document: dict[str, Any] = run(str(scene), "--until", "5m", "-o", "json").json()
    assert [each["state"] for each in document["jobs"]] == ["Finished", "Pending", "Admitted"]
    assert document["jobs"][2]["runs"][0]["ended_seconds"] is None
    assert document["summary"]["finished"] == 1


def test_the_table_is_for_people(scene: Path) -> None:
    shown = run(str(scene))
    assert "research" in shown.out
    assert "ExceedsCeiling" in shown.out
    assert shown.err == ""


def test_what_is_left_out_is_told_on_stderr(tmp_path: Path) -> None:
    path = tmp_path / "scene.yaml"
    path.write_text(text_of(*one_tenant(), job("a", queue=None)))
    shown = run(str(path), "-o", "json")
    assert json.loads(shown.out)["jobs"] == []
    assert shown.err.splitlines() == [
        "left out: 1 Job that has no label aiqueue.dev/queue, which aiqueue leaves alone",
        "there is no Job to simulate: add some of batch/v1 with the label aiqueue.dev/queue",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((), 2, "name the files to simulate, or - for stdin"),
        (("nowhere.yaml",), 1, "FILE is 'nowhere.yaml': it cannot be read (No such file or directory)"),
        (("-", "--until", "noon"), 1, "--until is 'noon': write a duration"),
        (("-", "-o", "yaml"), 2, "yaml"),
    ],
)
def test_wrong_usage_is_told(arguments: tuple[str, ...], code: int, said: str) -> None:
    result = run(*arguments, expect=code)
    assert result.out == ""
    assert said in result.err


def test_every_wrong_document_is_told_and_nothing_is_played(tmp_path: Path) -> None:
    path = tmp_path / "scene.yaml"
    path.write_text(text_of(*one_tenant(), job("a", runtime=None), job("b", arrival="soon")))
    result = run(str(path), "-o", "json", expect=1)
    assert result.out == ""
    assert [line.split(" is ")[0] for line in result.err.splitlines()] == [
        f"error: {path}, document 4 (Job a): metadata.annotations[simulate.aiqueue.dev/runtime]",
        f"error: {path}, document 5 (Job b): metadata.annotations[simulate.aiqueue.dev/arrival]",
    ]


def busy() -> tuple[list[Document], list[Document]]:
    """Objects and Jobs of a scene in which much depends on much: a tree, edits, drains, several queues and classes."""
    dice = random.Random(5)
    objects = [
        flavor(),
        flavor("spot", nodeLabels={"spot": "yes"}),
        class_("normal", gracePeriod="3s"),
        class_("high", priority=5, gracePeriod="0s"),
        tenant("lab", 2),
    ]
    for name in ("red", "green", "blue"):
        quotas = [{"flavor": each, "resources": [{"name": "nvidia.com/gpu", "nominal": 4}]} for each in ("h100", "spot")]
        common: dict[str, Any] = {"parent": "lab", "quotas": quotas, "queueing": dice.choice(("Strict", "BestEffort"))}
        objects += [tenant(name, **common), queue(f"{name}-a", name), queue(f"{name}-b", name)]
        objects += [tenant(name, at="40s", state="Drain", **common), tenant(name, at="60s", **common)]
    jobs = [
        job(
            f"j{number:03}",
            dice.randint(1, 6),
            queue=f"{dice.choice(('red', 'green', 'blue'))}-{dice.choice('ab')}",
            of_class=dice.choice(("normal", "high")),
            arrival=f"{dice.randint(0, 90)}s",
            runtime=f"{dice.randint(1, 90)}s",
            checkpoint=f"{dice.randint(1, 20)}s",
        )
        for number in range(120)
    ]
    return objects, jobs


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    objects, jobs = busy()
    path = tmp_path / "scene.yaml"
    path.write_text(text_of(*objects, *jobs))
    printed = process(str(path), "-o", "json", seed="1")
    document = json.loads(printed)
    assert document["summary"]["finished"] == 120
    assert sum(len(each["runs"]) for each in document["jobs"]) > 130
    assert len({json.dumps(run["flavors"]) for each in document["jobs"] for run in each["runs"]}) > 1
    assert process(str(path), "-o", "json", seed="2") == printed


def test_the_order_of_the_administrators_documents_changes_nothing(tmp_path: Path) -> None:
    objects, jobs = busy()
    printed = process("-", "-o", "json", given=text_of(*objects, *jobs))
    dice = random.Random(7)
    for number in range(2):
        mixed: list[Document] = list(jobs)
        for each in dice.sample(objects, len(objects)):
            mixed.insert(dice.randint(0, len(mixed)), each)
        path = tmp_path / f"{number}.yaml"
        path.write_text(text_of(*mixed))
        assert process(str(path), "-o", "json", seed=str(number)) == printed


def test_progress_is_shown_on_a_terminal_only(scene: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        line = [sys.executable, "-W", "error", "-m", "aiqueue.cli.main", "simulate", str(scene), "-o", "json"]
        environment = {**os.environ, "TERM": "xterm"}
        finished = subprocess.run(line, stdout=subprocess.PIPE, stderr=theirs, env=environment, timeout=60, check=True)
        shown = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "jobs ended" in shown
    assert "2/3" in shown
    assert json.loads(finished.stdout)["summary"]["jobs"] == 3


def test_the_example_tells_what_its_comments_say() -> None:
    path = resources.examples_path() / "simulate" / "two-teams.yaml"
    document: dict[str, Any] = run(str(path), "-o", "json").json()
    jobs = {each["name"]: each for each in document["jobs"]}
    minutes = {
        name: [(run["admitted_seconds"] / 60, run["ended_seconds"] / 60, run["outcome"]) for run in each["runs"]]
        for name, each in jobs.items()
    }
    assert minutes == {
        "pretrain": [(0, 15.5, "Preempted"), (60.5, 72.5, "Preempted"), (122.5, 157.5, "Finished")],
        "finetune": [(15.5, 60.5, "Drained"), (72.5, 122.5, "Finished")],
        "dream": [],
    }
    assert [run["lost_seconds"] for name in ("pretrain", "finetune") for run in jobs[name]["runs"]] == [30, 120, 0, 300, 0]
    assert {run["rule"] for run in jobs["pretrain"]["runs"]} == {"WithinNominal", ""}
    assert document["summary"]["lost_work_seconds"] == 450
    assert jobs["dream"]["reason"] == "ExceedsCeiling"
    assert run(str(path)).err == ""


def test_files_are_completed(tmp_path: Path) -> None:
    for name in ("scene.yaml", "scene.yml", "scene.txt", ".hidden.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "scenes").mkdir()
    assert complete(f"{tmp_path}/sc") == [f"{tmp_path}/{name}" for name in ("scene.yaml", "scene.yml", "scenes/")]
    assert complete(f"{tmp_path}/") == [f"{tmp_path}/{name}" for name in ("scene.yaml", "scene.yml", "scenes/")]
    assert complete(f"{tmp_path}/nowhere/x") == []
