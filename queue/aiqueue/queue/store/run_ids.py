"""The ids that runs are given: a sequence that only grows, also where the transaction that drew from it was rolled back.

Every run that was ever started stands on its Job by its id (`aiqueue.dev/run`). A ledger that was restored from an older backup would
give the same ids out again, and nobody could tell two runs apart: `newest` finds that out, `move_past` mends it.

A controller's role may insert runs and has no right to the sequence itself. So ids are drawn as runs draw them, by rows that Postgres
refuses: the ids they drew stay drawn.
"""

from __future__ import annotations

import re

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from aiqueue.queue.errors import LedgerConflict
from aiqueue.queue.store import leadership
from aiqueue.queue.store.statements import text

#: No backup lies further behind: somebody has to look at who wrote such an id.
MOST_AHEAD = 5_000_000
_AT_ONCE = 100_000

_SEQUENCE = "SELECT pg_get_serial_sequence('run', 'id')"
_NEWEST_ROW = "SELECT greatest((SELECT max(id) FROM run), (SELECT max(id) FROM archived_run), 0)"
_MAY_READ = "SELECT has_sequence_privilege(pg_get_serial_sequence('run', 'id'), 'SELECT')"
_MAY_DRAW = "SELECT has_table_privilege('run', 'INSERT') AND has_table_privilege('run', 'SELECT')"
_INSERT = "INSERT INTO run (workload_id, attempt, cluster_id, tenant_id, term, opened_at, original, injected, outcome)"
# An outcome that there is not: the row is refused, and the refusal shows it.
_DRAW_ONE = f"{_INSERT} VALUES (0, 0, 0, 0, 0, clock_timestamp(), '{{}}', '{{}}', '')"
# A workload that there is not: the first row is refused at the end, those after it are like it and not even written.
_DRAW_MANY = (
    f"{_INSERT} SELECT 0, 0, 0, 0, 0, clock_timestamp(), '{{}}', '{{}}', 'Running' FROM generate_series(1, :many)"
    " ON CONFLICT DO NOTHING"
)
_REFUSED_ROW = re.compile(r"\((\d+), ")


def newest(connection: Connection, beyond: int = 0) -> int:
    """An id that no run was ever given a greater one than; 0 before the first.

    Args:
        connection: in a transaction that may write, unless its role may read the sequence.
        beyond: only where the rows there are have no id as great as this, it is looked at closer.

    It is exact for who may read the sequence or insert runs, who draws one id for it. To others it may be less than it was.
    """
    known = int(connection.execute(text(_NEWEST_ROW)).scalar_one())
    if known >= beyond:
        return known
    if connection.execute(text(_MAY_READ)).scalar_one():
        sequence = connection.execute(text(_SEQUENCE)).scalar_one()
        drawn = connection.execute(text(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}")).scalar_one()
        return max(known, int(drawn))
    return max(known, _draw(connection)) if connection.execute(text(_MAY_DRAW)).scalar_one() else known


def move_past(connection: Connection, term: int, run_id: int) -> int:
    """Draw ids until `run_id` is among them. Returns how many were drawn.

    Raises:
        TermLost: another controller leads.
        LedgerConflict: `run_id` is further ahead than any backup lies behind.
    """
    leadership.fence(connection, term)
    first = _draw(connection)
    missing = run_id - first
    if missing > MOST_AHEAD:
        raise LedgerConflict(
            f"run id {run_id} is {missing} ahead of what this ledger has given out, and at most {MOST_AHEAD} are skipped: find out"
            " who wrote it, or have the owner of the database move the sequence of run.id"
        )
    for begun in range(0, max(missing, 0), _AT_ONCE):
        _draw_many(connection, min(_AT_ONCE, missing - begun))
    return max(missing, 0) + 1


def _draw(connection: Connection) -> int:
    try:
        with connection.begin_nested():
            connection.execute(text(_DRAW_ONE))
    except IntegrityError as error:
        detail = error.orig.diag.message_detail if isinstance(error.orig, psycopg.errors.CheckViolation) else None
        found = _REFUSED_ROW.search(detail or "")
        if found is None:
            raise
        return int(found[1])
    raise LedgerConflict("a run without an outcome was taken: the schema of the ledger is not the one of this program")


def _draw_many(connection: Connection, many: int) -> None:
    try:
        with connection.begin_nested():
            connection.execute(text(_DRAW_MANY), {"many": many})
    except IntegrityError as error:
        if not isinstance(error.orig, psycopg.errors.ForeignKeyViolation):
            raise
