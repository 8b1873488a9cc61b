"""The benchmark of the doors still runs, and prints what it promises; what the figures are is not the concern here."""

from __future__ import annotations

import json

import pytest

from fix_benchmarks import run_benchmark

SMALL = ("--rates=40", "--seconds=0.5", "--closed-seconds=0.2", "--rounds=1", "--connections=4", "--queues=5,10")
MODES = ("nothing", "policies", "both")


@pytest.mark.e2e
def test_a_small_run_prints_one_line_with_every_figure() -> None:
    done = run_benchmark("bench_webhook", *SMALL)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["benchmark"] == "webhook"
    at, requests = found["latency_at"]["40"], 20
    for mode in MODES:
        assert at[mode]["requests"] == requests
        assert 0 < at[mode]["p50_ms"] <= at[mode]["p90_ms"] <= at[mode]["p99_ms"] <= at[mode]["max_ms"]
    # What the doors add may be noise here, but it is the difference of what was measured.
    assert at["added_by_both"]["p99_ms"] == pytest.approx(at["both"]["p99_ms"] - at["nothing"]["p99_ms"], abs=0.011)
    assert at["webhook_seen_by_server"]["asked"] == requests
    for mode in MODES:
        assert found["throughput"][mode]["per_second"]["median"] > 0
        assert found["throughput"][mode]["cpu_ms_per_request"]["apiserver"] >= 0
    assert found["refused"]["latency"]["requests"] > 0
    assert list(found["webhook_alone_with_queues"]) == ["5", "10"]


@pytest.mark.e2e
def test_what_cannot_be_measured_is_said_and_prints_no_figures() -> None:
    done = run_benchmark("bench_webhook", "--queues=0")
    assert done.returncode != 0
    assert not done.stdout
    assert "--queues" in done.stderr
