"""How long the lists of the `aiqueue` command take: what the database takes, the whole list, and the whole command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, event, text

from aiqueue.cli import explanation
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.product import PROGRAM
from aiqueue.cli.ledger import now_of
from aiqueue.cli.listings import Query, answer
from aiqueue.queue.database import open_database, transaction
from ledger.ground import Ground
from stand.printing import Say, percentile

_OPTIONS = ("namespace", "queue", "tenant", "state")
EXPLAIN = "explain"
#: An explanation has an engine built of the whole ledger: it is asked for so many times at most.
EXPLANATIONS = 2


@dataclass(frozen=True, slots=True)
class Case:
    """One list; the plural `explain` stands for the explanation of the workload of that name."""

    plural: str
    query: Query = field(default_factory=Query)

    @property
    def arguments(self) -> list[str]:
        """As they are written on the command line."""
        name = [] if self.query.name is None else [self.query.name]
        if self.plural == EXPLAIN:
            return [EXPLAIN, "workload", *name, "--namespace", self.query.namespace or ""]
        given = [(option, getattr(self.query, option)) for option in _OPTIONS]
        options = [word for option, value in given if value is not None for word in (f"--{option}", value)]
        return ["get", self.plural, *name, *options, *(["--all"] if self.query.everything else [])]

    def __str__(self) -> str:
        return " ".join(self.arguments)


def cases(made: Ground) -> list[Case]:
    """Every list with every option, also where nothing is to be found."""
    live, run, over = (_some(made, table, state) for table, state in _PLACES)
    space, queue, tenant, name = live
    workloads = [
        Query(),
        Query(tenant=tenant),
        Query(tenant="tree-0"),
        Query(queue=queue),
        Query(queue="no-such-queue"),
        Query(namespace=space),
        Query(namespace=space, queue=queue),
        Query(state="Pending"),
        Query(state="Admitted"),
        Query(state="Held"),
        Query(state="Finished"),
        Query(state="Failed"),
        Query(everything=True),
        Query(everything=True, tenant=tenant),
        Query(everything=True, tenant="no-such-tenant"),
        Query(everything=True, queue=queue),
        Query(everything=True, queue="no-such-queue"),
        Query(everything=True, namespace=space),
        Query(state="Finished", tenant=tenant),
        Query(state="Finished", queue=queue),
        Query(state="Failed", namespace=space),
        Query(namespace=space, name=name),
        Query(namespace=over[0], name=over[3]),
        Query(name=over[3]),
        Query(name="no-such-name"),
    ]
    runs = [
        Query(),
        Query(tenant=tenant),
        Query(namespace=space),
        Query(everything=True),
        Query(everything=True, tenant=tenant),
        Query(everything=True, tenant="no-such-tenant"),
        Query(everything=True, namespace=space),
        Query(state="Preempted"),
        Query(state="Failed"),
        Query(state="Preempted", tenant=tenant),
        Query(namespace=over[0], name=over[3]),
        Query(name="no-such-name"),
    ]
    found = [*(Case("workloads", each) for each in workloads), *(Case("runs", each) for each in runs)]
    found += [
        Case(plural) for plural in ("claims", "tenants", "queues", "classes", "flavors", "clusters", "decisions", "audit")
    ]
    found += [
        Case("queues", Query(tenant=tenant)),
        Case("tenants", Query(name=tenant)),
        Case("decisions", Query(tenant=tenant)),
    ]
    found += [Case(EXPLAIN, Query(namespace=each[0], name=each[3])) for each in (live, run, over)]
    return found


_PLACES = (("workload", "Pending"), ("workload", "Admitted"), ("archived_workload", "Finished"))


def _some(made: Ground, table: str, state: str) -> tuple[str, str, str, str]:
    """Namespace, queue, tenant and name of some workload in that state, not the first and not the last."""
    with transaction(made.owner) as connection:
        row = connection.execute(
            text(
                f"SELECT w.namespace, w.queue_name, t.name, w.name FROM {table} w"  # noqa: S608 -- our own tables
                " JOIN queue q ON q.namespace = w.namespace AND q.name = w.queue_name JOIN tenant t ON t.id = q.tenant_id"
                f" WHERE w.id >= (SELECT (min(id) + max(id)) / 2 FROM {table} WHERE state = :state) AND w.state = :state"
                " ORDER BY w.id LIMIT 1"
            ),
            {"state": state},
        ).one()
    return row[0], row[1], row[2], row[3]


def measure(made: Ground, times: int, command_times: int, only: str, say: Say) -> dict[str, Any]:
    """Time every list so many times, and its command so many times; the command of the first list as often as the list.

    Args:
        made: where.
        times: for each list.
        command_times: for each command.
        only: those whose command has this in it.
        say: is told of the progress.
    """
    found: dict[str, Any] = {}
    environment = {"AIQUEUE_DATABASE_URL": made.reader_url, "PATH": os.defpath, "HOME": os.environ.get("HOME", "/")}
    starts = [_command(["version"], environment) for _ in range(times if command_times else 0)]
    with _opened(made.reader_url) as database:
        for case in [each for each in cases(made) if only in str(each)]:
            say(str(case))
            first = not found
            asked = [_ask(database, case) for _ in range(min(times, EXPLANATIONS) if case.plural == EXPLAIN else times)]
            repeated = times if first and command_times else min(len(asked), command_times)
            commands = [_command(case.arguments, environment) for _ in range(repeated)]
            whole = [each.whole for each in asked]
            found[str(case)] = {
                "rows": asked[0].rows,
                "p50_ms": round(percentile(whole, 50), 1),
                "worst_ms": round(max(whole), 1),
                "database_p50_ms": round(percentile([each.database for each in asked], 50), 1),
                **_spread("command", commands),
            }
    return {"start": _spread("command", starts), "lists": found}


def _spread(name: str, values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"{name}_p50_ms": round(percentile(values, 50), 1), f"{name}_worst_ms": round(max(values), 1)}


@dataclass(frozen=True, slots=True)
class _Asked:
    """Milliseconds of the whole list, of its statements in the database, and the rows it had."""

    whole: float
    database: float
    rows: int


@contextmanager
def _opened(url: str) -> Iterator[Engine]:
    database = open_database(url, application_name="aiqueue-bench-reader", pool_size=1, statement_timeout_seconds=600)
    try:
        yield database.execution_options(isolation_level="REPEATABLE READ")
    finally:
        database.dispose()


def _ask(database: Engine, case: Case) -> _Asked:
    spent: list[float] = []
    begun: list[float] = []

    def before(*_: object) -> None:
        begun.append(time.perf_counter())

    def after(*_: object) -> None:
        spent.append(1000 * (time.perf_counter() - begun.pop()))

    with transaction(database) as connection:
        now = now_of(connection)
        event.listen(connection, "before_cursor_execute", before)
        event.listen(connection, "after_cursor_execute", after)
        at = time.perf_counter()
        if case.plural == EXPLAIN:
            explanation.explain(connection, case.query.namespace, case.query.name or "", now)
            rows = 1
        else:
            rows = len(answer(connection, case.plural, case.query, now).listing.rows)
        return _Asked(1000 * (time.perf_counter() - at), sum(spent), rows)


def _command(arguments: list[str], environment: dict[str, str]) -> float:
    at = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *PROGRAM[1:], *arguments], env=environment, capture_output=True, text=True, check=False
    )
    took = 1000 * (time.perf_counter() - at)
    if done.returncode != 0 and "there is no" not in done.stderr:
        raise HarnessError(f"aiqueue {' '.join(arguments)} failed: {done.stderr.strip()[-2000:]}")
    return took
