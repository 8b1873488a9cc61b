"""Version 0005: what runs when it comes counts as ready, and going down lets those run on that were to end for not being so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic import command
from sqlalchemy import Engine, text

from aiqueue.migrations import upgrade
from aiqueue.migrations.schema import configuration as alembic_configuration
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.documents import Record
from aiqueue.queue.records import Flavor, Queue, Quota, Tenant
from aiqueue.queue.store import configuration

pytestmark = pytest.mark.integration


@pytest.fixture
def older(empty_database_url: str) -> Iterator[Engine]:
    """A ledger of version 0004 with a run that was started, one that was not, and one that is over."""
    database = open_database(empty_database_url, application_name="aiqueue-test")
    objects: list[Record] = [
        Flavor("f"),
        Tenant("research", quotas=(Quota("f", "cpu", 1),)),
        Queue("team-a", "train", "research"),
    ]
    with transaction(database) as connection:
        upgrade(connection, "0004")
        configuration.apply(connection, objects, claimed_by=None)
        connection.execute(text("INSERT INTO cluster (name, kube_system_uid) VALUES ('default', 'u')"))
    with transaction(database) as connection:
        for name, state in (("started", "Admitted"), ("admitted", "Admitted"), ("over", "Finished")):
            connection.execute(text(WORKLOAD), {"name": name, "state": state})
            connection.execute(text(RUN), {"name": name, "started": name != "admitted", "over": name == "over"})
    yield database
    database.dispose()


WORKLOAD = """
INSERT INTO workload (cluster_id, uid, namespace, name, queue_name, shape, created_at, state, resource_version, suspended)
VALUES (1, :name, 'team-a', :name, 'train', 's', now(), :state, '1', false)
"""
RUN = """
INSERT INTO run (workload_id, attempt, cluster_id, tenant_id, term, opened_at, started_at, closed_at, outcome, original, injected)
SELECT w.id, 1, 1, t.id, 1, now(), CASE WHEN :started THEN now() END, CASE WHEN :over THEN now() END,
       CASE WHEN :over THEN 'Finished' ELSE 'Running' END, '{}', '{}'
  FROM workload w, tenant t WHERE w.name = :name
"""


def test_what_runs_counts_as_ready(older: Engine) -> None:
    with transaction(older) as connection:
        upgrade(connection, "0005")
        found = connection.execute(
            text("SELECT w.name, r.ready_at = now(), w.requeues FROM run r JOIN workload w ON w.id = r.workload_id ORDER BY 1")
        )
        assert list(map(tuple, found)) == [("admitted", None, 0), ("over", None, 0), ("started", True, 0)]


def test_it_goes_down_and_nobody_ends_for_not_being_ready(older: Engine) -> None:
    with transaction(older) as connection:
        upgrade(connection, "0005")
        connection.execute(
            text(
                "UPDATE run SET evict_outcome = 'NotReady', evict_at = now(), evict_message = 'too late', evict_noticed_at = now()"
                " WHERE closed_at IS NULL"
            )
        )
        connection.execute(text("UPDATE workload SET state = 'Evicting', requeues = 2 WHERE state = 'Admitted'"))
    with transaction(older) as connection:
        command.downgrade(alembic_configuration(connection), "0004")
        states = connection.execute(text("SELECT state FROM workload ORDER BY name")).scalars().all()
        ends = connection.execute(text("SELECT count(*) FROM run WHERE evict_at IS NOT NULL")).scalar_one()
    assert (states, ends) == (["Admitted", "Finished", "Admitted"], 0)
