"""A ledger of years in minutes: rows that the product wrote, copied many times with other ids, names and times.

Only ids, uids, the digits that end a name, and times differ from row to row, so the copies have the types, sizes, empty columns and
documents of the product's own. `require_alike` compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.queue.database import transaction
from aiqueue.queue.records import Decision, Holder, Shortfall
from aiqueue.queue.store import housekeeping, usage
from aiqueue.queue.words import Reason
from ledger import world
from ledger.ground import Ground
from ledger.life import Life, One, in_parts

#: Of the sample, how many in a hundred were preempted once.
PREEMPTED = 5
#: Between copies of one row: a thousand copies of an archived one cover a week.
ARCHIVED_STEP = "600 s"
LIVE_STEP = "20 s"
COPIES_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Table:
    """How rows of a table are copied.

    Attributes:
        name: its name.
        condition: which rows are the sample.
        changed: expressions of the columns that differ; of others the value stays.
    """

    name: str
    condition: str
    changed: Mapping[str, str]


# `k` counts copies, from 1; ids of all copies of one row are apart by the same step.
_W, _R = "({} + k * :workloads)", "({} + k * :runs)"
_UID = f"md5({_W.format('t.{}')}::text)::uuid::text"


def _times(columns: Sequence[str], step: str) -> dict[str, str]:
    """Times rise with the ids of the copies, and those of one sample are spread over the step between copies."""
    moved = f"- (:copies - k) * interval '{step}' - (:workloads - t.{{key}} % :workloads) * interval '{step}' / :workloads"
    return {column: f"t.{column} {moved}" for column in columns}


def _table(table: str, condition: str, key: str, step: str, /, times: Sequence[str], **changed: str) -> Table:
    shifted = {column: expression.format(key=key) for column, expression in _times(times, step).items()}
    return Table(table, condition, shifted | changed)


def _of_workload(name: str, condition: str, step: str, times: Sequence[str]) -> Table:
    return _table(
        name,
        condition,
        "id",
        step,
        times=times,
        id=_W.format("t.id"),
        uid=_UID.format("id"),
        # A digit that no number of `world` begins with, so that no two live workloads have one name.
        name=f"left(t.name, -{world.DIGITS}) || '9' || lpad({_W.format('t.id')}::text, {world.DIGITS - 1}, '0')",
    )


_SAMPLED = "t.id <= :workloads"
_LIVE = f"{_SAMPLED} AND t.state IN ('Pending', 'Admitted')"
_OF_LIVE = f"t.workload_id IN (SELECT id FROM workload t WHERE {_LIVE})"  # noqa: S608 -- our own tables
_RUN = {"id": _R.format("t.id"), "workload_id": _W.format("t.workload_id")}
LIVE = (
    _of_workload("workload", _LIVE, LIVE_STEP, ("created_at", "observed_at", "state_since")),
    Table("pod_set", _OF_LIVE, {"workload_id": _W.format("t.workload_id")}),
    _table("run", _OF_LIVE, "workload_id", LIVE_STEP, times=("opened_at", "started_at", "closed_at"), **_RUN),
    Table(
        "allocation",
        f"t.run_id IN (SELECT id FROM run t WHERE {_OF_LIVE})",  # noqa: S608
        {"run_id": _R.format("t.run_id")},
    ),
)
ARCHIVE = (
    _of_workload("archived_workload", _SAMPLED, ARCHIVED_STEP, ("created_at", "observed_at", "ended_at")),
    _table(
        "archived_run",
        "t.workload_id <= :workloads",
        "workload_id",
        ARCHIVED_STEP,
        times=("opened_at", "started_at", "closed_at"),
        **_RUN,
    ),
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What was written by the product: the highest ids, and how many workloads of each kind."""

    workloads: int
    runs: int
    pending: int
    running: int
    ended: int


def write_sample(made: Ground, life: Life, *, pending: int, running: int, ended: int) -> Sample:
    """Have the product write workloads that wait, that run, and that are archived."""
    waiting = life.new(pending)
    some = life.new(running)
    life.start(life.admit(some))
    for part in in_parts(life.new(ended), 500):
        _live_to_the_end(life, part, waiting[0])
    life.decide(_decisions(waiting))
    with transaction(made.controller) as connection:
        while housekeeping.archive(connection, made.term, after_seconds=-1):
            pass
    return Sample(
        made.number("SELECT max(id) FROM archived_workload"),
        made.number("SELECT max(id) FROM archived_run"),
        pending,
        running,
        ended,
    )


def _live_to_the_end(life: Life, some: Sequence[One], by: One) -> None:
    admitted = life.start(life.admit(some))
    few = len(admitted) * PREEMPTED // 100
    if few:
        again = life.preempt(admitted[:few], by)
        admitted = [*life.start(life.admit(again)), *admitted[few:]]
    life.finish(admitted)


def _decisions(waiting: Sequence[One]) -> list[Decision]:
    """Why they wait, by tenant and shape."""
    found: dict[tuple[str, str], Decision] = {}
    for each in waiting:
        gpus = each.seen.pod_sets[0].requests[world.GPU] * each.seen.pod_sets[0].count
        found[each.tenant, each.seen.shape] = Decision(
            reason=Reason.WAITING_FOR_QUOTA,
            message=f"{gpus} {world.GPU} of {world.FLAVOR} are asked for, 0 of 64 are free in tenant {each.tenant}",
            would_change="runs of this tenant that end, or more quota",
            tenant=each.tenant,
            shape=each.seen.shape,
            shortfalls=(Shortfall(each.tenant, world.FLAVOR, world.GPU, gpus, 0),),
            holders=(Holder(each.seen.namespace, each.seen.name, world.FLAVOR, world.GPU, 8),),
        )
    return list(found.values())


def copy(made: Ground, tables: Sequence[Table], sample: Sample, some: range, copies: int) -> None:
    """Make some of so many copies, which are numbered from 1, a few in a transaction."""
    for begin in range(some.start, some.stop, COPIES_AT_ONCE):
        values = {"workloads": sample.workloads, "runs": sample.runs, "copies": copies}
        values |= {"first": begin, "last": min(some.stop, begin + COPIES_AT_ONCE) - 1}
        with transaction(made.owner) as connection:
            for table in tables:
                connection.execute(text(_copying(connection, table)), values)


def _copying(connection: Connection, table: Table) -> str:
    columns = list(
        connection.execute(
            text("SELECT column_name FROM information_schema.columns WHERE table_name = :name ORDER BY ordinal_position"),
            {"name": table.name},
        ).scalars()
    )
    names = ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(table.changed.get(column, f't."{column}"') for column in columns)
    order = "t.id" if "id" in columns else "1"
    return (
        f"INSERT INTO {table.name} ({names}) OVERRIDING SYSTEM VALUE"  # noqa: S608 -- names of our own tables
        f" SELECT {values} FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS k, {table.name} t WHERE {table.condition} ORDER BY k, {order}"
    )


def count_on(made: Ground) -> None:
    """Have ids of new rows follow those of copies."""
    for table in ("workload", "run"):
        last = f"greatest((SELECT max(id) FROM {table}), (SELECT max(id) FROM archived_{table}))"  # noqa: S608 -- of ours
        made.run(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last})")


def settle(made: Ground, queues: int) -> int:
    """After copying live rows: ids go on behind them, usage is counted again, and tenants own what their runs hold.

    Returns the revision of the configuration.
    """
    count_on(made)
    made.write(lambda connection: usage.repair(connection, made.term))
    held: dict[str, dict[str, int]] = {}
    with transaction(made.owner) as connection:
        for (tenant, _, resource), amount in housekeeping.usage(connection).items():
            held.setdefault(tenant, {})[resource] = amount
    return made.apply(world.records(queues, held))


def require_alike(made: Ground, sample: Sample, tables: Sequence[Table]) -> None:
    """Compare copies with what the product wrote, column by column: how often it is empty, its size, and the forms of documents.

    Raises:
        HarnessError: they differ.
    """
    with transaction(made.owner) as connection:
        for table in tables:
            key = next(column for column in ("id", "run_id", "workload_id") if column in table.changed)
            border = sample.runs if table.name in ("run", "allocation", "archived_run") else sample.workloads
            own = _profile(connection, table.name, f"t.{key} <= {border}")
            copied = _profile(connection, table.name, f"t.{key} > {border} AND t.{key} <= {2 * border}")
            differing = sorted(column for column in own if own[column] != copied[column])
            if differing:
                told = "; ".join(f"{column} {own[column]}, copied {copied[column]}" for column in differing)
                raise HarnessError(f"copies of rows of {table.name} are not as the product writes them: {told}")


def _profile(connection: Connection, table: str, condition: str) -> dict[str, tuple[Any, ...]]:
    columns = text("SELECT column_name, data_type FROM information_schema.columns WHERE table_name = :name")
    found: dict[str, tuple[Any, ...]] = {}
    for column, kind in connection.execute(columns, {"name": table}).all():
        value = f't."{column}"'
        form = f"string_agg(DISTINCT regexp_replace({value}::text, '[0-9]+', '0', 'g'), ' ')" if kind == "jsonb" else "NULL"
        asked = (
            f"SELECT count(*), round(avg(({value} IS NULL)::int), 3), round(avg(pg_column_size({value}))), {form}"  # noqa: S608
            f" FROM {table} t WHERE {condition}"
        )
        found[column] = (kind, *connection.execute(text(asked)).one())
    return found
