"""The benchmark of the engine still runs, and prints what it promises; what the figures are is not the concern here."""

from __future__ import annotations

import json

from fix_benchmarks import run_benchmark

SIZES = ("800", "1600")
CASES = {f"{right}_{spread}" for right in ("within", "nominal", "share") for spread in ("twenty_leaves", "one_leaf")}


def test_a_small_run_prints_one_line_with_every_figure() -> None:
    done = run_benchmark("bench_engine", "--only", "drain", "--only", "preempting", *SIZES)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["benchmark"] == "engine"
    assert tuple(found["sizes"]) == SIZES
    for size in SIZES:
        assert found["sizes"][size]["drain"]["admissions_per_second"] > 0
        assert found["sizes"][size]["preempting"].keys() == CASES
        for figures in found["sizes"][size]["preempting"].values():
            assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert found["preempting_growth"].keys() == CASES
    assert all(of_case.keys() == {"800_to_1600"} for of_case in found["preempting_growth"].values())


def test_what_is_not_what_it_says_is_not_measured() -> None:
    """So few runs that nobody borrows enough to have the greater share."""
    done = run_benchmark("bench_engine", "--only", "preempting", "100")
    assert done.returncode != 0
    assert not done.stdout
