"""Version 0003: an older ledger learns how long its workloads ran, and goes down again under claims and notices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError

from aiqueue.migrations import upgrade
from aiqueue.migrations.schema import configuration as alembic_configuration
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.store import housekeeping, known, work

pytestmark = pytest.mark.integration

DAY = 86_400.0
#: Runs by workload: (began, ended) so many seconds ago; None has not ended.
RUNS: dict[int, list[tuple[float, float | None]]] = {
    1: [],
    2: [(10.5, 0.25)],
    3: [(200.25, 100.0), (90.0, 89.0), (60.0, None)],
    4: [(10.0, 20.0), (5.0, 5.0)],  # a clock that went backward
    5: [(80 * 365 * DAY, 0.0)],
    6: [(60.0, None)],
}
RAN = {1: 0, 2: 11, 3: 102, 4: 0, 5: int(80 * 365 * DAY), 6: 0}
CONFIGURATION = """
INSERT INTO flavor (name, node_labels, node_taints, tolerations, topology_levels) VALUES ('f', '{}', '[]', '[]', '{}');
INSERT INTO cluster (name, kube_system_uid) VALUES ('c', 'u');
INSERT INTO tenant (name, weight_thousandths, queueing, "order", when_can_borrow, when_can_preempt, within_tenant, reclaim, state,
                    starvation_bound_seconds, usage_half_life_seconds, usage_weights_thousandths)
VALUES ('t', 1000, 'Strict', '{submitted}', 'MayStopSearch', 'TryNextFlavor', 'Never', 'Never', 'Active', 0, 60, '{}');
INSERT INTO queue (namespace, name, tenant_id, weight_thousandths, state) VALUES ('n', 'q', 1, 1000, 'Active');
"""
WORKLOAD = """
INSERT INTO workload (id, cluster_id, uid, namespace, name, queue_name, shape, created_at, state, resource_version, suspended)
OVERRIDING SYSTEM VALUE VALUES (:id, 1, 'u' || :id, 'n', 'w' || :id, 'q', 's', now(), :state, '1', false)
"""
RUN = """
INSERT INTO run (workload_id, attempt, cluster_id, tenant_id, queue_id, term, opened_at, closed_at, outcome, original, injected,
                 evict_at, evict_outcome, evict_message)
SELECT :id, :attempt, 1, 1, 1, 1, now() - make_interval(secs => :began), now() - make_interval(secs => :ended), :outcome, '{}', '{}',
       CASE WHEN :told THEN now() END, CASE WHEN :told THEN 'Drained' END, CASE WHEN :told THEN 'drained' END
"""
SUSPEND = """
INSERT INTO action (cluster_id, workload_id, run_id, attempt, kind, term)
SELECT 1, workload_id, id, attempt, 'Suspend', 1 FROM run WHERE evict_at IS NOT NULL
"""


def fill(connection: Connection) -> None:
    """Rows as a controller of version 0002 writes them; the run of workload 6 is being evicted."""
    connection.execute(text(CONFIGURATION))
    for workload_id, runs in RUNS.items():
        running = any(ended is None for _, ended in runs)
        state = "Pending" if not running else "Evicting" if workload_id == 6 else "Admitted"
        connection.execute(text(WORKLOAD), {"id": workload_id, "state": state})
        for attempt, (began, ended) in enumerate(runs, start=1):
            values = {"id": workload_id, "attempt": attempt, "began": began, "ended": ended, "told": workload_id == 6}
            connection.execute(text(RUN), {**values, "outcome": "Running" if ended is None else "Preempted"})
    connection.execute(text(SUSPEND))


@pytest.fixture
def older(empty_database_url: str) -> Iterator[Engine]:
    """A database filled as version 0002."""
    database = open_database(empty_database_url, application_name="aiqueue-test")
    with transaction(database) as connection:
        upgrade(connection, "0002")
        fill(connection)
    yield database
    database.dispose()


def rows(database: Engine, statement: str) -> list[Mapping[str, Any]]:
    with transaction(database) as connection:
        return [dict(row) for row in connection.execute(text(statement)).mappings()]


def go(database: Engine, version: str) -> None:
    with transaction(database) as connection:
        if version == "0002":
            command.downgrade(alembic_configuration(connection), version)
        else:
            upgrade(connection, version)


def ran(database: Engine) -> dict[int, int]:
    return {row["id"]: row["ran_seconds"] for row in rows(database, "SELECT id, ran_seconds FROM workload")}


def test_it_is_filled_from_the_closed_runs_and_all_else_is_yet_to_be_said(older: Engine) -> None:
    go(older, "0003")
    assert ran(older) == RAN
    assert rows(older, "SELECT DISTINCT checkpoint_seconds, max_runtime_seconds FROM workload") == [
        {"checkpoint_seconds": None, "max_runtime_seconds": None}
    ]
    assert rows(older, "SELECT DISTINCT evict_rule FROM run") == [{"evict_rule": None}]
    go(older, "head")
    with transaction(older) as connection:
        assert work.load_claims(connection) == []
        assert len(work.load_pending(connection)) == 4
        assert len(work.load_open_runs(connection)) == 2
        assert len(known.load(connection, 1)) == 6


def test_a_controller_of_the_version_before_writes_as_it_did(older: Engine) -> None:
    go(older, "head")
    with transaction(older) as connection:
        connection.execute(text(WORKLOAD), {"id": 7, "state": "Evicting"})
        values = {"id": 7, "attempt": 1, "began": 1.0, "ended": None, "told": True, "outcome": "Running"}
        connection.execute(text(RUN), values)
        connection.execute(text("DELETE FROM action"))
        connection.execute(text(SUSPEND))
    assert ran(older)[7] == 0
    with transaction(older) as connection:
        connection.execute(text("UPDATE run SET closed_at = now(), outcome = 'Drained' WHERE workload_id = 7"))
        connection.execute(text("UPDATE workload SET state = 'Finished', ended_at = now() - interval '1 day' WHERE id = 7"))
        connection.execute(text("INSERT INTO claim VALUES (7, 1, '{}', '[]', '{}', now(), 1)"))  # it does not know of it
        assert housekeeping.archive(connection, 0, after_seconds=0) == ["u7"]
        assert work.load_claims(connection) == []


def test_the_lists_are_closed(older: Engine) -> None:
    go(older, "0003")
    for statement, constraint in (
        ("UPDATE run SET evict_rule = 'Whim'", "ck_run_evict_rule_known"),
        ("UPDATE action SET kind = 'Whim'", "ck_action_kind_known"),
        ("UPDATE workload SET ran_seconds = -1", "ck_workload_ran_seconds_not_negative"),
        ("INSERT INTO claim VALUES (99, 1, '{}', '[]', '{}', now(), 1)", "fk_claim_workload_id_workload"),
    ):
        with pytest.raises(IntegrityError, match=constraint), transaction(older) as connection:
            connection.execute(text(statement))


def test_it_goes_down_under_claims_and_notices_and_up_again(older: Engine) -> None:
    go(older, "0003")
    with transaction(older) as connection:
        connection.execute(text("INSERT INTO claim VALUES (1, 1, '{}', '[]', '{7}', now(), 1)"))
        connection.execute(
            text(
                "UPDATE run SET evict_at = now(), evict_outcome = 'Expired', evict_message = 'its time is up'"
                " WHERE workload_id = 3 AND closed_at IS NULL"
            )
        )
        connection.execute(text("UPDATE workload SET state = 'Evicting', max_runtime_seconds = 60 WHERE id = 3"))
        connection.execute(text("UPDATE run SET evict_rule = 'FinalShare', preempted_by = 1 WHERE workload_id = 6"))
        connection.execute(
            text(
                "INSERT INTO action (cluster_id, workload_id, run_id, attempt, kind, term)"
                " SELECT 1, workload_id, id, attempt, kind, 1 FROM run CROSS JOIN (VALUES ('Announce'), ('Expire')) AS v(kind)"
                " WHERE closed_at IS NULL"
            )
        )
    go(older, "0002")
    assert rows(older, "SELECT workload_id, kind FROM action") == [{"workload_id": 6, "kind": "Suspend"}]
    still = rows(
        older,
        "SELECT r.workload_id, w.state, r.evict_outcome FROM run r JOIN workload w ON w.id = r.workload_id"
        " WHERE r.closed_at IS NULL ORDER BY 1",
    )
    assert still == [  # who was to end for good goes on, since nobody would see to it
        {"workload_id": 3, "state": "Admitted", "evict_outcome": None},
        {"workload_id": 6, "state": "Evicting", "evict_outcome": "Drained"},
    ]
    go(older, "0003")
    assert ran(older) == RAN
    with transaction(older) as connection:
        assert work.load_claims(connection) == []
