"""Every benchmark of real parts still runs, and prints what it promises; what the figures are is not the concern here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fix_benchmarks import run_benchmark

pytestmark = pytest.mark.e2e

WEBHOOK = ("--rates=40", "--seconds=0.5", "--closed-seconds=0.2", "--rounds=1", "--connections=4", "--queues=5,10")
MODES = ("nothing", "policies", "both")
PROGRAMS = {"apiserver", "etcd", "postgres", "controller"}


def measured(name: str, *options: str) -> dict[str, Any]:
    """What a small run prints: one line, of this benchmark."""
    done = run_benchmark(f"bench_{name}", *options)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["benchmark"] == name
    assert found["machine"]["cores"] > 0
    return dict(found)


def test_the_doors() -> None:
    found = measured("webhook", *WEBHOOK)
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


def test_letting_jobs_in() -> None:
    found = measured("admission", "--jobs=60", "--raw=30", "--lone=5", "--rate=20", "--policies")
    (size,) = found["sizes"]
    assert size["jobs"] == 60
    assert size["per_second"] == pytest.approx(60 / size["seconds"], rel=0.05)
    assert len(size["raw"]) == 2
    assert size["of_raw"] == pytest.approx(size["per_second"] / size["raw_per_second"], rel=0.05)
    assert set(size["cpu_seconds"]) == set(size["resident_mib"]) == PROGRAMS
    alone = found["create_to_unsuspend"]
    assert alone["jobs"] == 5
    assert 0 < alone["p50_ms"] <= alone["p99_ms"] <= alone["max_ms"]


def test_many_priorities_in_many_tenants() -> None:
    found = measured("baseline", "--share=0.01", "--raw=30")
    assert found["finished"] == found["jobs"] > 90
    assert found["quota_used"]["never_exceeded"] is True
    assert 0 < found["quota_used"]["work"] <= found["quota_used"]["executor"] <= 1
    assert found["admissions"] >= found["jobs"] + found["evictions"] - found["never_started"]
    assert set(found["cpu_seconds"]) >= PROGRAMS


def test_a_restart() -> None:
    found = measured("restart", "--jobs=60", "--rounds=1", "--kinds=standby")
    assert str(60) in json.dumps(found)


def test_the_ledger() -> None:
    found = measured(
        "ledger", "--archived=1000", "--live=1000", "--queues=30", "--commits=20", "--churn=1", "--times=1", "--commands=0"
    )
    assert found["lists"]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("webhook", "--queues=0"),
        ("admission", "--jobs=0"),
        ("baseline", "--share=0"),
        ("restart", "--jobs=0"),
        ("ledger", "--queues=0"),
    ],
)
def test_what_cannot_be_measured_is_said_and_prints_no_figures(name: str, option: str) -> None:
    done = run_benchmark(f"bench_{name}", option)
    assert done.returncode != 0
    assert not done.stdout
    assert option.partition("=")[0] in done.stderr
