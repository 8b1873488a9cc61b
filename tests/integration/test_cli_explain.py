"""`aiqueue explain`: why a workload waits, what it holds, how its runs ended."""

import pytest
from sqlalchemy import Engine, text

from aiqueue.queue.words import RunOutcome, WorkloadState
from fix_command import Command
from fix_rows import Rows, at

pytestmark = pytest.mark.integration

GPU = "nvidia.com/gpu"


def test_explain_a_waiting_workload(applied: Command, rows: Rows) -> None:
    holder = rows.workload("holder", requests={GPU: 6}, state=WorkloadState.ADMITTED)
    rows.run(holder, tenant="research", allocations=[("h100", GPU, 6)])
    rows.workload("first", requests={GPU: 4}, created=1)
    waiting = rows.workload("second", requests={GPU: 4}, created=2, attempt=1, user_name="ana")
    rows.run(waiting, tenant="research", closed=5, outcome=RunOutcome.NOT_READY, message="0 of 1 pods were ready")
    result = applied("explain", "workload", "team-a/second")
    assert result.err == ""
    for line in (
        "Workload team-a/second on cluster default",
        "It waits: WaitingForQuota",
        "  place 2 of 2 that wait in its tenant",
        "No controller leads the ledger now: nothing is admitted until one does.",
    ):
        assert line in result.out.splitlines()
    assert "team-a/holder" in result.out
    assert "0 of 1 pods were ready" in result.out
    explained = applied("explain", "workload", "second", "-n", "team-a", "-o", "json").json()["explanation"]
    assert isinstance(explained, dict)
    assert (explained["position"], explained["waitingInTenant"], explained["admittedNext"]) == (2, 2, False)
    assert explained["decision"]["reason"] == "WaitingForQuota"
    assert explained["decision"]["shortfalls"][0]["available"] == "2"
    assert explained["stored"] is None
    assert [run["status"]["outcome"] for run in explained["runs"]] == ["NotReady"]


def test_the_place_depends_on_what_the_queue_used(applied: Command, ledger: Engine, rows: Rows) -> None:
    """As in the controller: the same usage, told to the same engine."""
    more = "{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {name: fresh, namespace: team-a}, spec: {tenant: research, defaultClass: normal}}"
    applied("apply", "-f", "-", given=more)
    rows.workload("older", requests={GPU: 99}, created=1)
    rows.workload("younger", requests={GPU: 99}, created=2, queue="fresh")
    places = []
    for used in (0, 1000):
        with ledger.begin() as connection:
            connection.execute(text("DELETE FROM queue_usage"))
            fold = "INSERT INTO queue_usage SELECT id, :gpu, :used, 0, 604800, now() FROM queue WHERE name = 'train'"
            connection.execute(text(fold), {"gpu": GPU, "used": used})
        explained = [applied("explain", "workload", name, "-o", "json").json()["explanation"] for name in ("older", "younger")]
        places.append([each["position"] for each in explained if isinstance(each, dict)])
    assert places == [[1, 2], [2, 1]]


def test_explain_a_workload_that_fits(applied: Command, rows: Rows) -> None:
    rows.workload("fits", requests={GPU: 4})
    assert "It fits: the next Plan admits it." in applied("explain", "workload", "fits").out


def test_explain_a_running_workload(applied: Command, rows: Rows) -> None:
    workload = rows.workload("runs", requests={GPU: 4}, state=WorkloadState.EVICTING)
    injected = {"main": {"nodeSelector": {"gpu": "h100"}}}
    rows.run(
        workload,
        tenant="research",
        allocations=[("h100", GPU, 4)],
        started_at=at(9),
        evict_at=at(99),
        evict_outcome="Drained",
        evict_message="its tenant is drained",
        injected=injected,
    )
    out = applied("explain", "workload", "runs").out
    assert "must end   by 2026-01-01T12:01:39.000000Z (Drained): its tenant is drained" in out
    assert "nodes      gpu=h100 for main" in out
    assert "main      h100     nvidia.com/gpu   4" in out
    assert "It waits" not in out


def test_explain_asks_which_of_several(applied: Command, rows: Rows) -> None:
    rows.workload("w")
    rows.workload("w", namespace="team-b")
    result = applied("explain", "workload", "w", expect=4)
    assert result.err == "error: several namespaces have a workload w: say which with -n, of team-a, team-b\n"


def test_explain_is_read_only(applied: Command, rows: Rows, ledger: Engine) -> None:
    rows.workload("fits", requests={GPU: 4})
    applied("explain", "workload", "fits")
    with ledger.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM run")).scalar_one() == 0
        assert connection.execute(text("SELECT count(*) FROM plan")).scalar_one() == 0
