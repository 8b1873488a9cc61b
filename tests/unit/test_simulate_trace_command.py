"""`aiqueue simulate --trace`: what is printed and written, and what is said of options that do not go together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aiqueue.cli.main import app
from fix_outcomes import elements_of
from fix_traces import write_cluster, write_table

ROWS = [(f"job-{number}", f"tenant-{number % 3}", 7 * number, 60 + number % 5, 1 + number % 2, 2) for number in range(60)]


@pytest.fixture
def trace(tmp_path: Path) -> list[str]:
    """A trace of three tenants, as options."""
    table = write_table(tmp_path / "t.csv.gz", ROWS)
    cluster = write_cluster(tmp_path / "c.json", 24, {f"tenant-{number}": 8 for number in range(3)})
    return ["simulate", "--trace", str(table), "--cluster", str(cluster)]


def run(*arguments: str, expect: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == expect, done.output
    return done.stdout, done.stderr


@pytest.mark.parametrize("tenants", ["single", "isolated", "cohort"])
@pytest.mark.parametrize("queueing", ["Strict", "BestEffort"])
def test_every_tenancy_finishes_every_job(trace: list[str], tenants: str, queueing: str) -> None:
    out, err = run(*trace, "--tenants", tenants, "--queueing", queueing, "-o", "json")
    found = json.loads(out)
    assert (found["summary"]["jobs"], found["summary"]["finished"], err) == (60, 60, "")
    assert [job["name"] for job in found["jobs"]] == [row[0] for row in ROWS]
    assert len({job["tenant"] for job in found["jobs"]}) == (1 if tenants == "single" else 3)


def test_single_and_best_effort_unless_told_otherwise(trace: list[str]) -> None:
    assert run(*trace, "-o", "json") == run(*trace, "--tenants=single", "--queueing=BestEffort", "-o", "json")


def test_a_table_a_timeline_and_a_plot(trace: list[str], tmp_path: Path) -> None:
    out, _ = run(*trace, "--tenants=cohort", f"--timeline={tmp_path / 'x.csv'}", f"--plot={tmp_path / 'x.svg'}")
    assert "tenant-2" in out
    assert (tmp_path / "x.csv").read_text().startswith("time_seconds,queue_length,running_jobs,oldest_wait_seconds,")
    assert elements_of((tmp_path / "x.svg").read_text())[-1].tag == "svg"


def test_until(trace: list[str]) -> None:
    found = json.loads(run(*trace, "--until=60s", "-o", "json")[0])
    assert found["summary"]["finished"] == 1
    assert {job["reason"] for job in found["jobs"] if job["arrival_seconds"] > 60} == {"PendingEvaluation"}


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", [("a", "t", 0, 0, 1, 1), ("b", "t", 0, 5, 1, 1)])
    _, err = run("simulate", "--trace", str(table), "--cluster", str(write_cluster(tmp_path / "c.json", 8)))
    assert err == f"{table}: left out 1 of 2 jobs, which ran no time\n"


def test_a_trace_without_jobs(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", [])
    out, err = run("simulate", "--trace", str(table), "--cluster", str(write_cluster(tmp_path / "c.json", 8)), "-o", "json")
    assert json.loads(out)["jobs"] == []
    assert err == f"{table}: there is no job to simulate\n"


def test_options_that_do_not_go_together(trace: list[str], tmp_path: Path) -> None:
    for option in ("--cluster=c.json", "--tenants=single", "--queueing=Strict"):
        _, err = run("simulate", "some.yaml", option, expect=2)
        assert "is of a trace: name that with --trace" in err
    for wrong in (trace[:3], [*trace, "some.yaml"]):
        _, err = run(*wrong, expect=2)
        assert err == "error: with --trace FILE say --cluster FILE.json, and name no other files\n"
    _, err = run(*trace, f"--plot={tmp_path}/none/x.svg", expect=1)
    assert err == f"error: --plot is '{tmp_path}/none/x.svg': name a file in a folder that exists\n"
    _, err = run(*trace, f"--timeline={tmp_path}", expect=1)
    assert "it cannot be written (Is a directory)" in err


def test_every_error_is_a_sentence(trace: list[str], tmp_path: Path) -> None:
    table = write_table(tmp_path / "bad.csv", [("a", "t", "x", 1, 1, 1), ("b", "t", 1, 1, 0, 1)])
    _, err = run("simulate", "--trace", str(table), *trace[3:], expect=1)
    assert [line.partition(" is ")[0] for line in err.splitlines()] == [
        f"error: {table}, line 2: submit_s",
        f"error: {table}, line 3: pods",
    ]


def test_same_input_same_bytes_whatever_the_seed_of_hashes(trace: list[str], tmp_path: Path) -> None:
    seen: set[bytes] = set()
    for seed in ("1", "2"):
        files = [tmp_path / f"x{seed}.csv", tmp_path / f"x{seed}.svg"]
        command = [sys.executable, "-m", "aiqueue.cli.main", *trace, "--tenants=cohort", "-o", "json"]
        written = [f"--timeline={files[0]}", f"--plot={files[1]}"]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run([*command, *written], env=environment, capture_output=True, check=True, timeout=60)
        seen.add(b"\0".join([done.stdout, *(file.read_bytes() for file in files)]))
    assert len(seen) == 1
