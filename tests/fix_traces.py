"""Traces: the real ones where they are, small ones of a test's own, and a textbook scheduler to compare with."""

from __future__ import annotations

import csv
import gzip
import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

COLUMNS = ("job_id", "tenant", "submit_s", "duration_s", "pods", "gpus_per_pod")
FOLDER = Path(__file__).parents[2] / "shared" / "traces"


def real_trace(name: str) -> tuple[Path, Path]:
    """The trace of that name and the file of its cluster; a test that asks for one that is absent is skipped."""
    paths = FOLDER / f"{name}.csv.gz", FOLDER / f"{name}.json"
    if not all(path.is_file() for path in paths):
        pytest.skip(f"the trace {name} is not here: it is looked for in ../shared/traces from the project's root")
    return paths


def write_table(path: Path, rows: Iterable[Sequence[object]], columns: Sequence[str] = COLUMNS) -> Path:
    """A job table, packed if the name says so."""
    lines = [",".join(columns), *(",".join(map(str, row)) for row in rows)]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_cluster(path: Path, total: int, quotas: Mapping[str, int] | None = None) -> Path:
    """The file of a cluster."""
    path.write_text(json.dumps({"total_gpus": total, "tenant_quota_gpus": quotas}))
    return path


def table_rows(table: Path) -> list[dict[str, str]]:
    """The rows of a packed table, as they are written."""
    with gzip.open(table, "rt") as file:
        return list(csv.DictReader(file))


def textbook_starts(rows: Iterable[Mapping[str, str]], devices: int) -> dict[str, int]:
    """When first-come first-served on `devices` starts each row's job, in seconds: by the book, and of nothing of ours."""
    starts: dict[str, int] = {}
    running: list[tuple[int, int]] = []  # end, devices
    now, free = 0, devices
    for row in rows:
        now, wanted = max(now, int(row["submit_s"])), int(row["pods"]) * int(row["gpus_per_pod"])
        while running and (free < wanted or running[0][0] <= now):
            end, freed = heapq.heappop(running)
            now, free = max(now, end), free + freed
        heapq.heappush(running, (now + int(row["duration_s"]), wanted))
        starts[row["job_id"]], free = now, free - wanted
    return starts
