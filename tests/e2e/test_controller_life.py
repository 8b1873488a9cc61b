"""The life of labelled Jobs under a real controller, read back from the API server and the ledger."""

from __future__ import annotations

import json

import pytest

from fix_controller import GPU, Stage

pytestmark = pytest.mark.e2e


def test_a_gang_is_held_whole_and_admitted_whole(stage: Stage) -> None:
    stage.tenants(gpus=32)
    stage.lead()
    stage.create_job("small", pods=2)
    stage.until_state("small", "Admitted")
    stage.create_job("big", pods=4)
    decision = stage.until(
        lambda: (
            stage.rows("SELECT d.* FROM shape_decision d JOIN workload w ON w.shape = d.shape WHERE w.name = 'big'") or None
        ),
        "a decision on the big gang",
    )[0]
    assert decision["reason"] == "WaitingForQuota"
    (shortfall,) = decision["evidence"]["shortfalls"]
    assert shortfall["requested"] - shortfall["available"] == 16
    assert stage.job("big")["spec"]["suspend"] is True
    assert stage.pods("big") == []
    stage.until(
        lambda: len({pod["spec"].get("nodeName") for pod in stage.pods("small")} - {None}) == 2, "two pods on two nodes"
    )
    assert stage.used() == 16
    for pod in stage.pods("small"):
        stage.cluster.kubectl("annotate", "pod", pod["metadata"]["name"], f"-n={stage.namespace}", "aiqueue.dev/dev-end=now")
    stage.until_state("small", "Finished")
    stage.until_state("big", "Admitted")
    stage.until_running("big", 4)
    assert stage.used() == 32
    assert stage.rows("SELECT * FROM shape_decision") == []
    assert len(stage.unsuspends(stage.job("big")["metadata"]["uid"])) == 1


def test_other_work_runs_beside_it_and_unlabelled_jobs_are_left_alone(stage: Stage) -> None:
    stage.tenants(gpus=8)
    stage.lead()
    plain = stage.create_job("plain", queue=None, gpus=0)
    stage.create_job("gpu", pods=2)
    stage.create_job("cpu", queue="ops", gpus=0)
    stage.until_state("cpu", "Admitted")
    stage.until_running("plain")
    after = stage.job("plain")
    assert after["spec"] == plain["spec"]
    assert "annotations" not in after["metadata"] or not any(
        key.startswith("aiqueue.dev/run") for key in after["metadata"]["annotations"]
    )
    assert stage.workload("plain") == {"state": None}
    assert stage.workload("gpu")["state"] == "Pending"
    rows = stage.rows("SELECT d.reason FROM shape_decision d JOIN workload w ON w.shape = d.shape WHERE w.name = 'gpu'")
    assert [row["reason"] for row in rows] == ["ExceedsCeiling"]


def test_a_run_goes_to_the_nodes_of_its_flavor_and_the_template_comes_back(stage: Stage) -> None:
    stage.tenants()
    stage.lead()
    mine = {"nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [{"key": "mine", "operator": "Exists"}]}
    for number in range(1, 5):
        stage.cluster.kubectl("label", "node", f"gpu-{number}", "kubernetes.io/os=linux", "--overwrite")
    before = stage.create_job("steered", template=mine)
    stage.until_state("steered", "Admitted")
    stage.until_running("steered")
    assert stage.job("steered")["spec"]["template"]["spec"]["nodeSelector"] == {
        "kubernetes.io/os": "linux",
        "aiqueue.dev/pool": "h100",
    }
    stage.cluster.kubectl("patch", "job", "steered", f"-n={stage.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    stage.until_state("steered", "Held")
    assert [run["outcome"] for run in stage.runs("steered")] == ["Cancelled"]
    assert stage.used() == 0
    stage.until(lambda: "aiqueue.dev/run" not in stage.job("steered")["metadata"]["annotations"], "the template to be restored")
    assert stage.job("steered")["spec"]["template"] == before["spec"]["template"]
    stage.cluster.kubectl("annotate", "job", "steered", f"-n={stage.namespace}", "aiqueue.dev/hold=false")
    stage.until_state("steered", "Admitted")
    stage.until_running("steered")
    assert [(run["attempt"], run["outcome"]) for run in stage.runs("steered")] == [(1, "Cancelled"), (2, "Running")]


def test_a_job_recreated_under_its_name_is_another_workload(stage: Stage) -> None:
    stage.tenants(gpus=8)
    stage.lead()
    first = stage.create_job("again", pod_annotations={"aiqueue.dev/dev-termination": "3s"})
    stage.until_running("again")
    stage.cluster.kubectl("delete", "job", "again", f"-n={stage.namespace}", "--cascade=background")
    second = stage.create_job("again")
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    stage.until(lambda: len(stage.rows("SELECT 1 FROM workload WHERE name = 'again'")) == 2, "both workloads to be known")
    assert stage.used() <= 8
    stage.until(lambda: stage.job("again")["status"].get("ready") == 1, "the second to run")
    rows = stage.rows("SELECT w.uid, w.state, r.outcome FROM workload w JOIN run r ON r.workload_id = w.id ORDER BY w.id")
    assert rows == [
        {"uid": first["metadata"]["uid"], "state": "Cancelled", "outcome": "Cancelled"},
        {"uid": second["metadata"]["uid"], "state": "Admitted", "outcome": "Running"},
    ]
    assert stage.used() == 8
    assert len(stage.unsuspends(second["metadata"]["uid"])) == 1


def test_a_pending_job_may_be_held_changed_and_moved(stage: Stage) -> None:
    stage.tenants(gpus=8)
    stage.lead()
    stage.create_job("blocker")
    stage.until_state("blocker", "Admitted")
    stage.create_job("held", annotations={"aiqueue.dev/hold": "true"})
    stage.until_state("held", "Held")
    stage.create_job("moved", gpus=4)
    stage.until_state("moved", "Pending")
    edit = {
        "spec": {
            "template": {
                "spec": {
                    "containers": [
                        {
                            "name": "main",
                            "image": "registry.example/main:1",
                            "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}},
                        }
                    ]
                }
            }
        }
    }
    stage.cluster.kubectl("patch", "job", "moved", f"-n={stage.namespace}", f"-p={json.dumps(edit)}")
    stage.cluster.kubectl("label", "job", "moved", f"-n={stage.namespace}", "aiqueue.dev/queue=ops", "--overwrite")
    stage.cluster.kubectl("delete", "job", "blocker", f"-n={stage.namespace}")
    stage.until_state("blocker", "Cancelled")
    stage.until(lambda: stage.used() == 0, "the quota to come back")
    assert stage.workload("held")["state"] == "Held"
    assert stage.workload("moved")["queue_name"] == "ops"
    stage.cluster.kubectl("delete", "job", "moved", f"-n={stage.namespace}")
    stage.until_state("moved", "Cancelled")
    stage.cluster.kubectl("label", "job", "held", f"-n={stage.namespace}", "aiqueue.dev/queue-")
    stage.until_state("held", "Cancelled")


def test_drain_evicts_with_grace_and_requeues(stage: Stage) -> None:
    stage.tenants()
    stage.apply("{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: brief}, spec: {gracePeriod: 1s}}")
    stage.lead()
    stage.create_job("drained", labels={"aiqueue.dev/class": "brief"})
    stage.until_running("drained")
    drain = f"""{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: train, namespace: {stage.namespace}}},
                 spec: {{tenant: research, state: Drain}}}}"""
    stage.apply(drain, allow_drain=True)
    stage.until(lambda: stage.runs("drained")[0]["outcome"] == "Drained", "the run to be drained")
    stage.until_state("drained", "Pending")
    assert stage.pods("drained") == []
    assert stage.used() == 0
    stage.apply(drain.replace("Drain", "Active"))
    stage.until_running("drained")
    assert [(run["attempt"], run["outcome"]) for run in stage.runs("drained")] == [(1, "Drained"), (2, "Running")]


def test_every_request_is_the_service_accounts_and_none_is_forbidden(stage: Stage) -> None:
    earlier = len(stage.audit())
    stage.tenants()
    leader = stage.lead()
    stage.create_job("quick", runtime="100ms")
    stage.until_state("quick", "Finished")
    leader.kill()
    uid = stage.job("quick")["metadata"]["uid"]
    stage.until(lambda: stage.unsuspends(uid) or None, "the audit log to have the unsuspend")
    ours = [entry for entry in stage.audit()[earlier:] if entry.get("userAgent", "").startswith("aiqueue-controller/")]
    assert {entry["verb"] for entry in ours} >= {"list", "patch", "get"}
    assert {entry["user"]["username"] for entry in ours} == {"system:serviceaccount:aiqueue-system:aiqueue-controller"}
    assert [entry["requestURI"] for entry in ours if entry.get("responseStatus", {}).get("code") == 403] == []


def test_resources_other_than_gpus_are_counted_as_kubernetes_does(stage: Stage) -> None:
    stage.tenants()
    stage.lead()
    sidecar = {
        "name": "side",
        "image": "registry.example/side:1",
        "restartPolicy": "Always",
        "resources": {"requests": {"cpu": "500m"}},
    }
    stage.create_job("sum", queue="ops", gpus=0, cpu="1500m", pods=2, template={"initContainers": [sidecar]})
    stage.until_state("sum", "Admitted")
    assert stage.used("cpu") == 4000
    assert stage.used(GPU) == 0


def test_a_job_may_leave_while_it_is_suspended_and_its_quota_comes_back(stage: Stage) -> None:
    stage.tenants(gpus=8)
    stage.lead()
    stage.create_job("leaving", pod_annotations={"aiqueue.dev/dev-termination": "2s"})
    stage.until_running("leaving")
    stage.cluster.kubectl("patch", "job", "leaving", f"-n={stage.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    stage.cluster.kubectl("label", "job", "leaving", f"-n={stage.namespace}", "aiqueue.dev/queue-")
    stage.until_state("leaving", "Cancelled")
    stage.until(lambda: stage.used() == 0, "the quota to come back")
    assert stage.pods("leaving") == []
    stage.until(lambda: "aiqueue.dev/run" not in stage.job("leaving")["metadata"]["annotations"], "what the run wrote to go")
    stage.cluster.kubectl("label", "job", "leaving", f"-n={stage.namespace}", "aiqueue.dev/queue=train")
    stage.until_state("leaving", "Admitted")
    stage.until_running("leaving")
    assert [run["outcome"] for run in stage.runs("leaving")] == ["Cancelled", "Running"]
