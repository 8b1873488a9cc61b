"""The clock of the ledger's server is stepped by hours, forward and back: nobody is put out for it, and nothing lasts for ever.

The controller's role is given a clock of the test's, found before Postgres's own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest

from aiqueue.cli.harness import databases
from fix_controller import GPU, Stage

pytestmark = pytest.mark.e2e

HOURS = 3600
QUICK = {"lease_seconds": "2"}

CLOCK = """
CREATE SCHEMA shim;
CREATE TABLE shim.step (seconds integer);
INSERT INTO shim.step VALUES (0);
CREATE FUNCTION shim.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
  SELECT pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => (SELECT seconds FROM shim.step))
$$;
GRANT USAGE ON SCHEMA shim TO PUBLIC;
GRANT SELECT ON shim.step TO PUBLIC;
ALTER ROLE "{login}" SET search_path = shim, pg_catalog, public
"""
TENANTS = """
apiVersion: aiqueue.dev/v1
kind: Flavor
metadata: {{name: h100}}
spec: {{nodeLabels: {{aiqueue.dev/pool: h100}}}}
---
{{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {{name: urgent}}, spec: {{priority: 1000}}}}
---
{{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {{name: patient}}, spec: {{gracePeriod: 30m}}}}
---
{{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {{name: hourly}}, spec: {{priority: 10, maxRuntime: 1h}}}}
---
{{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {{name: brief}}, spec: {{gracePeriod: 2s}}}}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {{name: patient}}
spec: {{quotas: [{{flavor: h100, resources: [{{name: nvidia.com/gpu, nominal: 8}}]}}]}}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {{name: brief}}
spec: {{quotas: [{{flavor: h100, resources: [{{name: nvidia.com/gpu, nominal: 8}}]}}]}}
---
{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: patient, namespace: {namespace}}}, spec: {{tenant: patient}}}}
---
{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: brief, namespace: {namespace}}}, spec: {{tenant: brief}}}}
"""


def submit(stage: Stage, name: str, queue: str, class_name: str, gpus: int = 4) -> None:
    stage.create_job(name, queue=queue, gpus=gpus, labels={"aiqueue.dev/class": class_name})


def step_to(stage: Stage, seconds: int) -> None:
    stage.rows("UPDATE shim.step SET seconds = :seconds RETURNING seconds", seconds=seconds)


def ledger_time(stage: Stage) -> datetime:
    """As who leads left it at the last renewal."""
    at: datetime = stage.rows("SELECT renewed_at FROM leader_lease")[0]["renewed_at"]
    return at


def passes(stage: Stage, seconds: float) -> Callable[[], bool]:
    """Whether the ledger's time has gone on by so much since this was called."""
    until = ledger_time(stage) + timedelta(seconds=seconds)
    return lambda: ledger_time(stage) > until


def have_asked(stage: Stage) -> int:
    """How many controllers have asked the ledger for the lead, and so know its time."""
    (found,) = stage.rows(
        "SELECT count(DISTINCT split_part(application_name, ' ', 2)) AS controllers FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name LIKE 'aiqueue-controller %'"
        " AND application_name NOT LIKE '%listen' AND state = 'idle' AND query = 'COMMIT'"
    )
    return int(found["controllers"])


def check_usage(stage: Stage) -> None:
    """What queues used is what at most 16 GPUs held for ten minutes."""
    rows = stage.rows("SELECT value, rate FROM queue_usage WHERE resource = :gpu", gpu=GPU)
    assert rows
    assert all(0 <= row["value"] < 16 * 600 and 0 <= row["rate"] <= 16 for row in rows), rows


def check_nobody_was_put_out(stage: Stage) -> None:
    """The run in its grace of half an hour is in its grace, the one that may take an hour goes on."""
    assert stage.workload("in-its-grace")["state"] == "Evicting"
    assert stage.workload("in-its-hour")["state"] == "Admitted"
    for name in ("in-its-grace", "in-its-hour"):
        (run,) = stage.runs(name)
        assert run["closed_at"] is None
        assert run["stopped_at"] is None
        assert stage.job(name)["spec"]["suspend"] is False
    check_usage(stage)


def test_stepped_forward_and_back(stage: Stage) -> None:
    login = urlsplit(stage.installed.controller_url).username
    with databases.connection(stage.installed.owner_url) as session:
        session.execute(CLOCK.format(login=login).encode())
    stage.apply(TENANTS.format(namespace=stage.namespace))
    controllers = [stage.lead(**QUICK), stage.start(**QUICK)]
    submit(stage, "in-its-grace", "patient", "patient")
    submit(stage, "in-its-hour", "patient", "hourly")
    stage.until_state("in-its-grace", "Admitted")
    stage.until_state("in-its-hour", "Admitted")
    submit(stage, "first", "patient", "urgent")
    stage.until_state("in-its-grace", "Evicting")
    start = ledger_time(stage)

    # Forward, with somebody else who could lead, and knew the time before.
    stage.until(lambda: have_asked(stage) == len(controllers), "both to have asked who leads")
    step_to(stage, 3 * HOURS)
    stage.until(lambda: any("clock was stepped" in each.said() for each in controllers), "the step to be noticed")
    stage.until(passes(stage, 2), "the ledger's time to go on")
    check_nobody_was_put_out(stage)
    submit(stage, "soon-out", "brief", "brief", gpus=8)
    stage.until_running("soon-out")
    assert ledger_time(stage) - start < timedelta(minutes=10)

    # Back, when nobody leads: the lease that was given then would last for hours.
    for each in controllers:
        each.kill()
    before = ledger_time(stage)
    step_to(stage, -3 * HOURS)
    stage.lead(**QUICK)
    stage.until(passes(stage, 2), "the ledger's time to go on")
    assert ledger_time(stage) > before
    check_nobody_was_put_out(stage)
    submit(stage, "second", "brief", "urgent", gpus=8)
    stage.until_running("second")
    assert [run["outcome"] for run in stage.runs("soon-out")] == ["Preempted"]
    (run,) = stage.runs("second")
    assert run["opened_at"] > before
    assert ledger_time(stage) - start < timedelta(minutes=10)

    # And back to what is true, while somebody leads.
    step_to(stage, 0)
    stage.until(passes(stage, 2), "the ledger's time to go on")
    check_nobody_was_put_out(stage)
    assert stage.used() == 16
