"""The doctor on real parts: what was damaged on purpose is named, what is safe is mended, and the controller goes on well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import text

from aiqueue.queue.database import transaction
from fix_command import Command, Result
from fix_controller import Stage

pytestmark = pytest.mark.e2e


def asked(stage: Stage, *arguments: str, expect: int) -> Result:
    """`aiqueue doctor` by the controller's login, with the cluster administrator's eyes."""
    command = Command(stage.installed.controller_url)
    kubeconfig = str(stage.cluster.kubeconfig)
    return command("doctor", f"--kubeconfig={kubeconfig}", "--pause=0.3", *arguments, expect=expect)


def told(result: Result) -> list[Mapping[str, Any]]:
    """The differences of an answer in JSON."""
    items: Any = result.json()["items"]
    return [item["status"] for item in items if item["kind"] == "Difference"]


def kinds(stage: Stage, *arguments: str, expect: int = 1) -> dict[str, str]:
    """What differs, by object."""
    return {each["object"]: each["kind"] for each in told(asked(stage, "--output=json", *arguments, expect=expect))}


def damage(stage: Stage, statement: str, **values: object) -> None:
    """Write to the ledger by hand, as its owner."""
    with transaction(stage.ledger) as connection:
        connection.execute(text(statement), values)


def test_what_was_damaged_under_a_controller_is_mended(stage: Stage) -> None:
    stage.tenants(gpus=16)
    stage.lead()
    for name in ("runs", "loses"):
        stage.create_job(name)
    for name in ("waits", "forgotten", "claims"):
        stage.create_job(name, gpus=16)
    for name in ("runs", "loses"):
        stage.until_running(name)
    for name in ("waits", "forgotten", "claims"):
        stage.until_state(name, "Pending")
    agreed = asked(stage, expect=0)
    assert (agreed.out, agreed.err) == ("", "ledger, engine and cluster agree\n")
    names = ("runs", "loses", "waits", "forgotten", "claims")
    ids = {name: stage.workload(name)["id"] for name in names}
    (lost,) = stage.runs("loses")
    for statement in (
        "UPDATE run SET closed_at = now(), outcome = 'Cancelled' WHERE id = :lost",
        "UPDATE workload SET state = 'Pending' WHERE id = :loses",
        "DELETE FROM workload_decision WHERE workload_id = :forgotten",
        "DELETE FROM workload WHERE id = :forgotten",
        "UPDATE workload SET state = 'Finished', ended_at = now() WHERE id = :waits",
        "INSERT INTO claim SELECT :claims, id, '{}', '[]', '{0}', now(), 1 FROM tenant WHERE name = 'research'",
        "INSERT INTO action (cluster_id, workload_id, run_id, attempt, kind, term) VALUES (1, :runs, :lost, 9, 'Suspend', 1)",
    ):
        damage(stage, statement, lost=lost["id"], **ids)
    space = stage.namespace
    (action,) = stage.rows("SELECT id FROM action WHERE attempt = 9")
    expected = {
        f"workload/{space}/loses": "RunningWithoutRun",
        f"job/{space}/forgotten": "JobUnknown",
        f"workload/{space}/waits": "WorkloadEnded",
        f"claim/{space}/claims": "ClaimWithoutRuns",
        f"action/{space}/runs/{action['id']}": "ActionWithoutEnd",
        f"queue/{space}/train/nvidia.com/gpu": "RateDiffers",
    }
    assert kinds(stage) == expected
    repaired = asked(stage, "--repair", expect=0)
    assert "nothing differs any more" in repaired.err
    for name in expected:
        assert name in repaired.out
    # The controller leads again, took the Job back, and goes on: the room that is left goes to who waits for it.
    assert stage.workload("loses")["state"] == "Admitted"
    assert stage.used() == 16
    assert [run["adopted"] for run in stage.runs("loses")] == [False, True]
    audited = stage.rows("SELECT kind, verb, login FROM audit WHERE claimed_by = 'aiqueue doctor' ORDER BY id")
    assert {(row["kind"], row["verb"]) for row in audited} == {
        ("Action", "Deleted"),
        ("Claim", "Deleted"),
        ("Usage", "Updated"),
        ("Workload", "Updated"),
    }
    stage.cluster.kubectl("delete", "job", "runs", "loses", f"-n={space}")
    stage.until(
        lambda: "Admitted" in {stage.workload(name)["state"] for name in ("waits", "forgotten", "claims")},
        "one that waited to be admitted",
    )
    assert kinds(stage, expect=0) == {}
