"""The benchmark of replays still runs, and prints what it promises; what the figures are is not the concern here."""

from __future__ import annotations

import json
from pathlib import Path

from fix_benchmarks import run_benchmark
from fix_traces import write_cluster, write_table


def test_a_small_run_prints_one_line_with_every_figure(tmp_path: Path) -> None:
    rows = [(f"j{number}", f"t{number % 2}", number, 60, 1, 1 + number % 4) for number in range(100)]
    for name, quotas in (("philly", {"t0": 8, "t1": 8}), ("sdsc_blue_2001", None)):
        write_table(tmp_path / f"{name}.csv.gz", rows)
        write_cluster(tmp_path / f"{name}.json", 16, quotas)
    done = run_benchmark("bench_simulate", "--traces", str(tmp_path), "20", "50", "1000")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["benchmark"] == "simulate"
    assert (found["philly"]["tenants"], found["philly"]["queueing"]) == ("cohort", "BestEffort")
    assert (found["sdsc_blue_2001"]["tenants"], found["sdsc_blue_2001"]["queueing"]) == ("single", "Strict")
    for name in ("philly", "sdsc_blue_2001"):
        of_one = found[name]
        assert list(of_one["cpu_us_per_job"]) == ["20", "50", "100"]
        assert all(of_one[step]["wall_s"] >= 0 <= of_one[step]["cpu_s"] for step in ("load", "simulate", "report"))
        assert of_one["mean_wait_s"] > 0


def test_traces_that_are_absent_are_said_to_be(tmp_path: Path) -> None:
    done = run_benchmark("bench_simulate", "--traces", str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["philly"] == found["sdsc_blue_2001"] == f"skipped: the trace is not in {tmp_path}"
