"""How large the ledger gets: what a finished workload leaves behind, and whether the hot tables stay as they are under change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text

from aiqueue.queue.database import transaction
from aiqueue.queue.store import housekeeping
from ledger.ground import Ground
from ledger.life import Life
from stand.printing import Say, percentile

ARCHIVED = ("archived_workload", "archived_run")
HOT = (
    "workload",
    "pod_set",
    "run",
    "allocation",
    "action",
    "plan",
    "queue_usage",
    "shape_decision",
    "workload_decision",
    "claim",
)


def sizes(made: Ground, tables: Sequence[str]) -> dict[str, dict[str, int]]:
    """Bytes of each table (with what is stored beside it) and of its indexes."""
    with transaction(made.owner) as connection:
        return {
            table: {
                "bytes": connection.execute(
                    text("SELECT pg_table_size(CAST(:name AS regclass))"), {"name": table}
                ).scalar_one(),
                "index_bytes": connection.execute(
                    text("SELECT pg_indexes_size(CAST(:name AS regclass))"), {"name": table}
                ).scalar_one(),
            }
            for table in tables
        }


def indexes(made: Ground, tables: Sequence[str]) -> dict[str, int]:
    """Bytes of each index."""
    asked = text(
        "SELECT indexrelid::regclass::text, pg_relation_size(indexrelid) FROM pg_index"
        " WHERE indrelid::regclass::text = ANY(:tables) ORDER BY 1"
    )
    with transaction(made.owner) as connection:
        return {name: size for name, size in connection.execute(asked, {"tables": list(tables)})}  # noqa: C416 -- typed rows


def of_archive(made: Ground) -> dict[str, Any]:
    """Bytes that a workload takes in the archive, by table."""
    workloads = made.number("SELECT count(*) FROM archived_workload")
    found = sizes(made, ARCHIVED)
    total = sum(each["bytes"] + each["index_bytes"] for each in found.values())
    return {
        "workloads": workloads,
        "mib": round(total / 2**20, 1),
        "bytes_each": round(total / workloads),
        "by_table": {table: {name: round(size / workloads) for name, size in each.items()} for table, each in found.items()},
    }


def churn(made: Ground, life: Life, rounds: int, batch: int, say: Say) -> dict[str, Any]:
    """Let so many workloads live from first to last, and be archived, round after round; what grows in the hot tables?"""
    told: list[dict[str, Any]] = []
    archived: list[float] = []
    before = _counted(made)
    began = time.monotonic()
    for number in range(rounds):
        for _ in range(10):
            life.finish(life.start(life.admit(life.new(batch))))
            archived += _archive(made)
        if number in (0, rounds // 2, rounds - 1):
            say(f"round {number + 1} of {rounds}")
            total = {table: each["bytes"] + each["index_bytes"] for table, each in sizes(made, HOT).items()}
            told.append({"round": number + 1, "mib": round(sum(total.values()) / 2**20, 1), "bytes": total})
    seconds = time.monotonic() - began
    after = _counted(made)
    return {
        "workloads": rounds * 10 * batch,
        "per_second": round(rounds * 10 * batch / seconds),
        "hot_tables": told,
        "tables": {table: _moved(before[table], after[table]) for table in after},
        "archive_p50_ms": round(percentile(archived, 50), 2),
        "archive_p99_ms": round(percentile(archived, 99), 2),
    }


def _moved(before: dict[str, int], after: dict[str, int]) -> dict[str, Any]:
    updates, hot = (after[name] - before[name] for name in ("n_tup_upd", "n_tup_hot_upd"))
    return {
        "updates": updates,
        "hot": round(hot / updates, 3) if updates else None,
        "dead": after["n_dead_tup"],
        "vacuums": after["autovacuum_count"] - before["autovacuum_count"],
    }


def _counted(made: Ground) -> dict[str, dict[str, int]]:
    columns = ("n_tup_upd", "n_tup_hot_upd", "n_dead_tup", "autovacuum_count")
    asked = f"SELECT relname, {', '.join(columns)} FROM pg_stat_user_tables WHERE relname = ANY(:tables)"  # noqa: S608
    with transaction(made.owner) as connection:
        rows = connection.execute(text(asked), {"tables": [*HOT, "leader_lease"]})
        return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}


def _archive(made: Ground) -> list[float]:
    """Archive all that is over; returns milliseconds of each transaction."""
    found: list[float] = []
    moved: list[str] = [""]
    while moved:
        at = time.perf_counter()
        moved = made.write(lambda connection: housekeeping.archive(connection, made.term, after_seconds=0))
        found.append(1000 * (time.perf_counter() - at))
    return found[:-1]
