"""Version 0002: an older ledger is filled with what its queues used."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, text

from aiqueue.migrations import upgrade
from aiqueue.migrations.schema import configuration as alembic_configuration
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.store import usage
from fix_usage import segment

pytestmark = pytest.mark.integration

WEEK = 604_800
DAY = 86_400.0
#: (queue, resource, amount, opened and closed so many seconds ago); `new` was made after the runs by that name.
LIVE: list[tuple[str, str | None, int, float, float | None]] = [
    ("q", "gpu", 8, 7200.0, 3600.0),
    ("q", "gpu", 4, 1800.0, None),
    ("q", "cpu", 4_000_000_000_000_001, 60.0, None),
    ("forgetful", "gpu", 16, 60.0, None),
    ("idle", None, 0, 60.0, 30.0),
]
ARCHIVED: list[tuple[str, str | None, int, float, float | None]] = [
    ("q", "gpu", 2, 40 * DAY, 30 * DAY),
    ("q", "gpu", 1, 20_000 * DAY, 19_000 * DAY),  # longer ago than Postgres raises to powers
    ("gone", "gpu", 32, 60.0, 30.0),
    ("new", "gpu", 64, DAY, 3600.0),
]
CONFIGURATION = """
INSERT INTO flavor (name, node_labels, node_taints, tolerations, topology_levels) VALUES ('f', '{}', '[]', '[]', '{}');
INSERT INTO cluster (name, kube_system_uid) VALUES ('c', 'u');
INSERT INTO tenant (name, weight_thousandths, queueing, "order", when_can_borrow, when_can_preempt, within_tenant, reclaim, state,
                    starvation_bound_seconds, usage_half_life_seconds, usage_weights_thousandths)
SELECT name, 1000, 'Strict', '{submitted}', 'MayStopSearch', 'TryNextFlavor', 'Never', 'Never', 'Active', 0, h, '{}'
  FROM (VALUES ('t', 604800), ('f', 0)) AS v(name, h);
INSERT INTO queue (namespace, name, tenant_id, weight_thousandths, state, created_at)
SELECT 'n', name, CASE WHEN name = 'forgetful' THEN 2 ELSE 1 END, 1000, 'Active',
       CASE WHEN name = 'new' THEN now() ELSE '1900-01-01' END
  FROM unnest('{q,forgetful,idle,new}'::text[]) name;
"""
WORKLOAD = """
INSERT INTO workload (id, cluster_id, uid, namespace, name, queue_name, shape, created_at, state, resource_version, suspended)
OVERRIDING SYSTEM VALUE VALUES (:id, 1, 'u' || :id, 'n', 'w' || :id, :queue, 's', now(), 'Admitted', '1', false)
"""
RUN = """
INSERT INTO run (id, workload_id, attempt, cluster_id, tenant_id, queue_id, term, opened_at, closed_at, outcome, original, injected)
OVERRIDING SYSTEM VALUE
SELECT :id, :id, 1, 1, 1, q.id, 1, now() - make_interval(secs => :opened), now() - make_interval(secs => :closed), :outcome, '{}', '{}'
  FROM queue q WHERE q.name = :queue
"""
ALLOCATION = "INSERT INTO allocation (run_id, pod_set, flavor_id, resource, amount) VALUES (:id, 'main', 1, :resource, :amount)"
ARCHIVED_WORKLOAD = """
INSERT INTO archived_workload (id, cluster_id, uid, namespace, name, queue_name, shape, user_name, owner, created_at, observed_at,
                               ended_at, state, attempt, pod_sets)
VALUES (:id, 1, 'u' || :id, 'n', 'w' || :id, :queue, 's', '', '', now(), now(), now(), 'Finished', 1, '[]')
"""
ARCHIVED_RUN = """
INSERT INTO archived_run (id, workload_id, attempt, tenant, adopted, opened_at, closed_at, outcome, message, allocations)
VALUES (:id, :id, 1, 't', false, now() - make_interval(secs => :opened), now() - make_interval(secs => :closed), 'Finished', '',
        jsonb_build_array(jsonb_build_array('main', 'f', CAST(:resource AS text), CAST(:amount AS bigint))))
"""


def fill(connection: Connection) -> datetime:
    """Rows in a ledger of version 0001; answers the instant that ages are counted from."""
    connection.execute(text(CONFIGURATION))
    for number, (queue, resource, amount, opened, closed) in enumerate(LIVE, start=1):
        connection.execute(text(WORKLOAD), {"id": number, "queue": queue})
        outcome = "Running" if closed is None else "Finished"
        run = {"id": number, "queue": queue, "opened": opened, "closed": closed, "outcome": outcome}
        connection.execute(text(RUN), run)
        if resource is not None:
            connection.execute(text(ALLOCATION), {"id": number, "resource": resource, "amount": amount})
    for number, (queue, resource, amount, opened, closed) in enumerate(ARCHIVED, start=100):
        connection.execute(text(ARCHIVED_WORKLOAD), {"id": number, "queue": queue})
        values = {"id": number, "resource": resource, "amount": amount, "opened": opened, "closed": closed}
        connection.execute(text(ARCHIVED_RUN), values)
    now: datetime = connection.execute(text("SELECT now()")).scalar_one()
    return now


@pytest.fixture
def older(empty_database_url: str) -> Iterator[Engine]:
    """A database to be filled as version 0001."""
    database = open_database(empty_database_url, application_name="aiqueue-test")
    yield database
    database.dispose()


def test_it_is_filled_from_the_runs_that_the_ledger_holds(older: Engine) -> None:
    with transaction(older) as connection:
        upgrade(connection, "0001")
        now = fill(connection)
        upgrade(connection, "0002")
    wanted = {"gpu": 0.0, "cpu": 0.0}
    for queue, resource, amount, opened, closed in (*LIVE, *ARCHIVED):
        if queue == "q" and resource is not None:
            wanted[resource] += segment(amount, opened - (closed or 0), closed or 0, WEEK)
    with transaction(older) as connection:
        assert usage.differing(connection) == 0
        found = usage.load(connection)
    assert {key: (kept.value, kept.rate, kept.half_life_seconds) for key, kept in found.items()} == {
        ("n", "q", "gpu"): (pytest.approx(wanted["gpu"], rel=1e-9), 4, WEEK),
        ("n", "q", "cpu"): (pytest.approx(wanted["cpu"], rel=1e-9), 4_000_000_000_000_001, WEEK),
        ("n", "forgetful", "gpu"): (0.0, 16, 0),
    }
    assert {kept.as_of for kept in found.values()} == {now}


def test_what_is_counted_again_later_is_what_was_filled_in(older: Engine) -> None:
    with transaction(older) as connection:
        upgrade(connection, "0001")
        fill(connection)
        upgrade(connection, "0002")
    with transaction(older) as connection:
        filled = usage.load(connection)
        upgrade(connection)
        connection.execute(text("UPDATE queue_usage SET rate = rate + 1"))
        connection.execute(text("INSERT INTO queue_usage SELECT id, 'gpu', 9, 5, 60, now() FROM queue WHERE name = 'new'"))
        assert usage.repair(connection, 0) == len(filled) + 1 == 4
        again = usage.load(connection)
    nothing = again.pop(("n", "new", "gpu"))  # what ran by its name before it was made is not its own
    assert (nothing.value, nothing.rate, nothing.half_life_seconds) == (0.0, 0, WEEK)
    for key, kept in again.items():
        assert kept.rate == filled[key].rate
        assert kept.value == pytest.approx(filled[key].at(kept.as_of), rel=1e-9)


def test_it_goes_down_under_data_and_up_again_to_the_same(older: Engine) -> None:
    with transaction(older) as connection:
        upgrade(connection, "0001")
        fill(connection)
        upgrade(connection)
    with transaction(older) as connection:
        before = usage.load(connection)
        command.downgrade(alembic_configuration(connection), "0001")
        assert connection.execute(text("SELECT to_regclass('queue_usage')")).scalar_one() is None
        runs = "SELECT (SELECT count(*) FROM run), (SELECT count(*) FROM archived_run)"
        assert connection.execute(text(runs)).one() == (len(LIVE), len(ARCHIVED))
        upgrade(connection)
        after = usage.load(connection)
    assert {key: kept.rate for key, kept in after.items()} == {key: kept.rate for key, kept in before.items()}
    for key, kept in after.items():
        assert kept.value == pytest.approx(before[key].at(kept.as_of), rel=1e-9)
