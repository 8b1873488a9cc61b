"""A Postgres that waits for its disk, with a ledger and a term of its own, and what it costs to work on it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, text

from aiqueue.cli.harness import product
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.postgres import PROGRAM, DevPostgres
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.documents import Record
from aiqueue.queue.store import clusters, configuration, leadership
from stand import meters
from stand.printing import percentile

Result = TypeVar("Result")
LEASE_SECONDS = 3600.0
LONG_SECONDS = 3600.0


@dataclass(slots=True)
class Ground:
    """What `ground` sets up.

    Attributes:
        owner: the ledger as the owner of its tables.
        controller: as the controller, in term `term`.
        reader_url: as somebody who may only look.
    """

    postgres: DevPostgres
    owner: Engine
    controller: Engine
    reader_url: str
    term: int
    cluster_id: int

    @property
    def postgres_pid(self) -> int:
        return next(each.identity.pid for each in self.postgres.running() if each.name == PROGRAM)

    def apply(self, records: list[Record]) -> int:
        """Write configuration; returns its revision."""
        with transaction(self.owner) as connection:
            configuration.apply(connection, records, claimed_by="bench")
            return configuration.revision(connection)

    def write(self, what: Callable[[Connection], Result]) -> Result:
        """One transaction of the controller."""
        with transaction(self.controller) as connection:
            return what(connection)

    def run(self, statement: str, **values: Any) -> None:
        """One statement of the owner."""
        with transaction(self.owner) as connection:
            connection.execute(text(statement), values)

    def number(self, statement: str, **values: Any) -> int:
        """Ask the ledger for one number."""
        with transaction(self.owner) as connection:
            return int(connection.execute(text(statement), values).scalar_one())

    def vacuum(self) -> None:
        """What autovacuum would come to in time, at once."""
        with self.owner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM (ANALYZE)"))


def _open(url: str, name: str, pool_size: int) -> Engine:
    return open_database(
        url,
        application_name=name,
        pool_size=pool_size,
        statement_timeout_seconds=LONG_SECONDS,
        idle_in_transaction_timeout_seconds=LONG_SECONDS,
    )


@contextmanager
def ground(folder: Path, records: list[Record]) -> Iterator[Ground]:
    """Start Postgres with a migrated ledger that holds `records`; end and remove it with the block.

    Raises:
        HarnessError: something does not start.
    """
    with ExitStack() as stack:
        postgres = stack.enter_context(DevPostgres.create(folder, durable=True, owned=True))
        stack.callback(postgres.purge)
        url = postgres.create_database("aiqueue")
        product.migrate(url)
        owner = _open(url, "aiqueue-bench", 4)
        stack.callback(owner.dispose)
        with transaction(owner) as connection:
            cluster = clusters.register(connection, "bench", "bench-kube-system-uid")
        controller = _open(product.login(url, "controller"), "aiqueue-bench-controller", 1)
        stack.callback(controller.dispose)
        with transaction(controller) as connection:
            term = leadership.take_over(connection, "bench", LEASE_SECONDS)
        if term is None:
            raise HarnessError("the new ledger has a leader already")
        made = Ground(postgres, owner, controller, product.login(url, "reader"), term, cluster.id)
        made.apply(records)
        yield made


@dataclass(frozen=True, slots=True)
class Cost:
    """What doing something many times took: milliseconds of each time, and CPU seconds of Postgres and of this process."""

    times: tuple[float, ...]
    postgres_seconds: float
    python_seconds: float

    def told(self, amount: int = 1) -> dict[str, float]:
        """For the line of JSON, where each time does so many things at once."""
        seconds, count = math.fsum(self.times) / 1000, len(self.times)
        return {
            "times": count,
            "per_second": round(count / seconds, 1),
            **({} if amount == 1 else {"rows_per_second": round(count * amount / seconds)}),
            "p50_ms": round(percentile(self.times, 50), 2),
            "p99_ms": round(percentile(self.times, 99), 2),
            "postgres_cpu_ms": round(1000 * self.postgres_seconds / count, 2),
            "python_cpu_ms": round(1000 * self.python_seconds / count, 2),
        }


def timed(made: Ground, steps: Iterator[Callable[[], object]]) -> Cost:
    """Do each of the steps, and time it. What comes between the steps is not timed, but its CPU counts."""
    pid, times = made.postgres_pid, []
    before, began = meters.usage(pid).cpu_seconds, time.process_time()
    for step in steps:
        at = time.perf_counter()
        step()
        times.append(1000 * (time.perf_counter() - at))
    return Cost(tuple(times), meters.usage(pid).cpu_seconds - before, time.process_time() - began)
