"""Version 0004: lists find what an older version archived, and by and by the archive says of all whose they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic import command
from sqlalchemy import Connection, Engine, text

from aiqueue.migrations import upgrade
from aiqueue.migrations.schema import configuration as alembic_configuration
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.documents import Record
from aiqueue.queue.records import Flavor, Queue, Quota, Tenant
from aiqueue.queue.store import configuration, housekeeping, views
from aiqueue.queue.words import RunOutcome, WorkloadState
from fix_rows import Rows

pytestmark = pytest.mark.integration

WORKLOAD = """
INSERT INTO archived_workload (id, cluster_id, uid, namespace, name, queue_name, shape, user_name, owner, created_at, observed_at,
                               ended_at, state, attempt, pod_sets)
VALUES (:id, 1, 'old-' || :id, 'team-a', 'old-' || :id, 'train', 's', '', '', now(), now(), 'epoch'::timestamptz + make_interval(secs => :id),
        'Finished', 1, '[]')
"""
RUN = """
INSERT INTO archived_run (id, workload_id, attempt, tenant, adopted, opened_at, closed_at, outcome, message, allocations)
VALUES (:id, :workload, :attempt, :tenant, false, now(), now(), 'Finished', '', '[]')
"""
#: Tenants of the runs of each workload, in order.
RUNS: dict[int, list[str]] = {1001: ["research"], 1002: ["product"], 1003: [], 1004: ["product", "research"], 1005: ["lab"]}


@pytest.fixture
def older(empty_database_url: str) -> Iterator[Engine]:
    """A ledger whose archive version 0003 filled."""
    database = open_database(empty_database_url, application_name="aiqueue-test")
    objects: list[Record] = [Flavor("f"), Tenant("lab", quotas=(Quota("f", "cpu", 1),))]
    objects += [Tenant(name, parent="lab") for name in ("product", "research")]
    objects.append(Queue("team-a", "train", "research"))
    with transaction(database) as connection:
        upgrade(connection, "0003")
        configuration.apply(connection, objects, claimed_by=None)
        connection.execute(text("INSERT INTO cluster (name, kube_system_uid) VALUES ('default', 'u')"))
        fill(connection)
    yield database
    database.dispose()


def fill(connection: Connection) -> None:
    """Rows of the archive as version 0003 writes them."""
    number = 5000
    for workload, tenants in RUNS.items():
        connection.execute(text(WORKLOAD), {"id": workload})
        for attempt, tenant in enumerate(tenants, start=1):
            number += 1
            connection.execute(text(RUN), {"id": number, "workload": workload, "attempt": attempt, "tenant": tenant})


def names(database: Engine, tenant: str | None, limit: int = 2) -> list[str]:
    """Names of all that are over, page after page, with the tenants that they are told to be of."""
    found: list[str] = []
    after = None
    with transaction(database) as connection:
        while True:
            wanted = views.WorkloadFilter(tenant=tenant, ended=True)
            page = views.list_workloads(connection, wanted, after=after, limit=limit)
            found += [f"{view.name}:{view.tenant or ''}" for view in page.items]
            after = page.next
            if after is None:
                return found


def tell(database: Engine, most: int) -> int:
    with transaction(database) as connection:
        return housekeeping.tell_tenants(connection, 0, most)


EVERY = ["old-1005:lab", "old-1004:research", "old-1003:", "old-1002:product", "old-1001:research"]


@pytest.mark.parametrize("told", [0, 2, 5])
def test_lists_are_the_same_however_many_were_told(older: Engine, told: int) -> None:
    with transaction(older) as connection:
        upgrade(connection)
    if told:
        assert tell(older, told) == told
    for limit in (1, 2, 100):
        assert names(older, None, limit) == EVERY
        assert names(older, "research", limit) == ["old-1004:research", "old-1001:research"]
        assert names(older, "product", limit) == ["old-1002:product"]
        assert names(older, "lab", limit) == [EVERY[0], EVERY[1], EVERY[3], EVERY[4]]
        assert names(older, "nobody", limit) == []


def test_they_are_told_the_latest_first_until_none_is_left(older: Engine) -> None:
    with transaction(older) as connection:
        upgrade(connection)
    for told, left in ((2, [1001, 1002, 1003]), (2, [1001]), (1, []), (0, [])):
        assert tell(older, 2) == told
        with transaction(older) as connection:
            untold = connection.execute(text("SELECT id FROM archived_workload WHERE tenant IS NULL ORDER BY id")).scalars()
            assert list(untold) == left


def test_what_is_archived_now_says_whose_it_was(older: Engine) -> None:
    with transaction(older) as connection:
        upgrade(connection)
    rows = Rows(older)
    ran = rows.workload("ran", ended=5, state=WorkloadState.FINISHED)
    rows.run(ran, tenant="research", attempt=1, closed=1, outcome=RunOutcome.FINISHED)
    rows.run(ran, tenant="product", attempt=2, closed=2, outcome=RunOutcome.FINISHED)
    rows.workload("never", ended=6, state=WorkloadState.CANCELLED)
    with transaction(older) as connection:
        assert len(housekeeping.archive(connection, 0, after_seconds=0, most=1)) == 1
        assert len(housekeeping.archive(connection, 0, after_seconds=0)) == 1
        told = connection.execute(text("SELECT name, tenant FROM archived_workload WHERE id < 1000")).all()
    assert sorted(map(tuple, told)) == [("never", ""), ("ran", "product")]
    assert names(older, "product") == ["ran:product", "old-1002:product"]


def test_nobody_waits_for_an_archive_that_is_locked(older: Engine) -> None:
    with transaction(older) as connection:
        upgrade(connection)
    ended = Rows(older).workload("ended", ended=5, state=WorkloadState.FINISHED)
    with transaction(older) as other:
        other.execute(text("LOCK TABLE archived_workload IN SHARE MODE"))  # as to build an index
        with transaction(older) as connection:
            connection.execute(text("SET LOCAL statement_timeout = '1s'"))
            assert housekeeping.archive(connection, 0, after_seconds=0) == []
            assert housekeeping.tell_tenants(connection, 0) == 0
            assert connection.execute(text("SELECT id FROM workload")).scalars().all() == [ended]
    with transaction(older) as connection:
        assert len(housekeeping.archive(connection, 0, after_seconds=0)) == 1


def test_it_goes_down_and_up_again(older: Engine) -> None:
    with transaction(older) as connection:
        upgrade(connection)
    tell(older, 100)
    with transaction(older) as connection:
        command.downgrade(alembic_configuration(connection), "0003")
    with transaction(older) as connection:
        upgrade(connection)
    assert names(older, None) == EVERY
    assert tell(older, 100) == len(RUNS)
