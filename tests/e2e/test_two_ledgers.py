"""A cluster has one ledger, and a ledger knows all that it gave out: a second one, and one restored from an old backup, touch nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiqueue.admission.kube import names
from fix_controller import ControllerProcess, Stage, staged
from fix_ledger import Copies

pytestmark = pytest.mark.e2e

QUICK = {"lease_seconds": "2"}
CLAIM = f"/api/v1/namespaces/{names.SYSTEM_NAMESPACE}/configmaps/{names.CLAIM}"


@pytest.fixture
def second(stage: Stage, ledger_copies: Copies, tmp_path: Path) -> Iterator[Stage]:
    """Another ledger for the same cluster and namespace; nobody handed the cluster over to it."""
    url, folder = ledger_copies.take(), tmp_path / "second"
    folder.mkdir()
    with staged(stage.cluster, stage.namespace, url, folder, hand_over=False) as made:
        yield made
    ledger_copies.give_back(url)


def refused(stage: Stage, **settings: str) -> ControllerProcess:
    """A controller that ends with a sentence."""
    process = stage.start(**QUICK, **settings)
    stage.until(process.ended, "the controller to refuse")
    assert process.process.returncode == 1, process.said()
    assert "othing was touched" in process.said()
    return process


def standing(stage: Stage, *jobs: str) -> list[Any]:
    """What a controller could have changed of each Job; its status moves on by itself."""
    found = [stage.job(name) for name in jobs]
    return [(each["spec"], each["metadata"].get("annotations"), each["metadata"]["generation"]) for each in found]


def test_a_second_ledger_is_refused_until_the_cluster_is_handed_over(stage: Stage, second: Stage) -> None:
    """Both would see the same pending Job, and the second has the quota to start it."""
    stage.tenants(gpus=0)
    second.tenants(gpus=32)
    first = stage.lead(**QUICK)
    made = stage.create_job("wanted")
    stage.until_state("wanted", "Pending")
    assert stage.cluster.api.call("GET", CLAIM)["data"][names.CLAIM_LEDGER] == stage.uid
    before = standing(stage, "wanted")

    said = refused(second).said()
    assert f"this cluster is run by ledger {stage.uid}" in said
    assert standing(stage, "wanted") == before
    assert second.rows("SELECT 1 FROM cluster UNION ALL SELECT 1 FROM workload") == []
    assert not first.ended()

    # Its administrator does as the sentence says, but for having stopped the first ledger's controller.
    _, *command = shlex.split(said[said.index("kubectl --namespace=") :].splitlines()[0])
    stage.cluster.kubectl(*command)
    second.lead(**QUICK)
    second.until_running("wanted")
    stage.until(first.ended, "the first ledger's controller to notice that the cluster is not its own any more")
    assert f"this cluster is run by ledger {second.uid}" in first.said()
    assert second.used() == 8
    assert stage.rows("SELECT 1 FROM run") == []
    second.until(lambda: second.unsuspends(made["metadata"]["uid"]) or None, "the audit log to have the unsuspend")
    assert len(second.unsuspends(made["metadata"]["uid"])) == 1


def test_a_cluster_that_says_nothing_of_ledgers_is_not_led(stage: Stage) -> None:
    """The manifests were not applied: once they are, the controller goes on by itself."""
    kept = stage.cluster.api.call("GET", CLAIM)
    stage.cluster.api.call("DELETE", CLAIM)
    waiting = stage.start(**QUICK)
    stage.until(lambda: f"get of ConfigMap {names.SYSTEM_NAMESPACE}/{names.CLAIM} failed" in waiting.said(), "it to be missed")
    assert "apply the manifests of this version" in waiting.said()
    assert stage.rows("SELECT 1 FROM cluster") == []
    metadata = {key: kept["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    collection = CLAIM.rpartition("/")[0]
    stage.cluster.api.call("POST", collection, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    stage.until(lambda: "engine built" in waiting.said(), "the controller to lead")
    assert stage.cluster.api.call("GET", CLAIM)["data"] == {names.CLAIM_LEDGER: stage.uid, names.CLAIM_CLUSTER: "default"}


def test_a_ledger_restored_from_an_old_backup_touches_nothing_and_then_takes_its_jobs_back(stage: Stage) -> None:
    """The backup is of a time when `early` ran for its first run; since then it was stopped, ran again, and `late` came."""
    stage.tenants(gpus=16)
    leader = stage.lead(**QUICK)
    for name in ("early", "late"):
        stage.create_job(name)
        stage.until_running(name)
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "the ledger to know that both were started")
    leader.kill()
    run = stage.runs("early")[0]["id"]
    newest = stage.runs("late")[0]["id"]
    # What the ledger has is as old as the backup; what the Job carries is not.
    stamp = f"{stage.uid}/{newest + 7}/2"
    as_controller = "--as=system:serviceaccount:aiqueue-system:aiqueue-controller"
    stage.cluster.kubectl(
        "annotate", "job", "early", f"-n={stage.namespace}", as_controller, "--overwrite", f"aiqueue.dev/run={stamp}"
    )
    stage.do(
        "DELETE FROM action",
        "DELETE FROM allocation WHERE run_id <> (SELECT min(id) FROM run)",
        "DELETE FROM run WHERE id <> (SELECT min(id) FROM run)",
        "DELETE FROM pod_set p USING workload w WHERE w.id = p.workload_id AND w.name = 'late'",
        "DELETE FROM workload WHERE name = 'late'",
        "UPDATE queue_usage SET rate = 8 WHERE rate > 8",
        "SELECT setval('run_id_seq', (SELECT min(id) FROM run))",
    )
    before = standing(stage, "early", "late")
    for _ in range(2):  # to try again changes nothing
        said = refused(stage).said()
        assert f"2 Jobs (for example {stage.namespace}/early, {stage.namespace}/late) carry runs of this ledger" in said
        assert f"up to {newest + 7}, and it has given out none after {run}" in said
        assert "`aiqueue doctor --repair`" in said
    assert standing(stage, "early", "late") == before
    assert [row["id"] for row in stage.rows("SELECT id FROM run")] == [run]

    stage.do(f"SELECT setval('run_id_seq', {newest + 7})")
    stage.lead(**QUICK)
    stage.until_state("late", "Admitted")
    stage.until(lambda: len(stage.runs("early")) == 2, "the later run of the first Job to be taken up")
    assert [(run["outcome"], run["adopted"]) for run in stage.runs("early")] == [("Cancelled", False), ("Running", True)]
    assert [(run["outcome"], run["adopted"]) for run in stage.runs("late")] == [("Running", True)]
    assert stage.used() == 16
    assert [stage.job(name)["spec"]["suspend"] for name in ("early", "late")] == [False, False]
