"""The life of labelled Jobs under a real controller, read back from the API server and the ledger."""

from __future__ import annotations

import json

import pytest

from fix_controller import GPU, Stage

pytestmark = pytest.mark.e2e


def test_a_gang_is_held_whole_and_admitted_whole(led: Stage) -> None:
    led.tenants(gpus=32)
    led.create_job("small", pods=2)
    led.until_state("small", "Admitted")
    led.create_job("big", pods=4)
    decision = led.until(
        lambda: led.rows("SELECT d.* FROM shape_decision d JOIN workload w ON w.shape = d.shape WHERE w.name = 'big'") or None,
        "a decision on the big gang",
    )[0]
    assert decision["reason"] == "WaitingForQuota"
    (shortfall,) = decision["evidence"]["shortfalls"]
    assert shortfall["requested"] - shortfall["available"] == 16
    assert led.job("big")["spec"]["suspend"] is True
    assert led.pods("big") == []
    led.until(lambda: len({pod["spec"].get("nodeName") for pod in led.pods("small")} - {None}) == 2, "two pods on two nodes")
    assert led.used() == 16
    for pod in led.pods("small"):
        led.cluster.kubectl("annotate", "pod", pod["metadata"]["name"], f"-n={led.namespace}", "aiqueue.dev/dev-end=now")
    led.until_state("small", "Finished")
    led.until_state("big", "Admitted")
    led.until_running("big", 4)
    assert led.used() == 32
    led.until(lambda: not led.rows("SELECT * FROM shape_decision"), "nobody to be said to wait")
    uid = led.job("big")["metadata"]["uid"]
    led.until(lambda: led.unsuspends(uid) or None, "the audit log to have the unsuspend")
    assert len(led.unsuspends(uid)) == 1


def test_other_work_runs_beside_it_and_unlabelled_jobs_are_left_alone(led: Stage) -> None:
    led.tenants(gpus=8)
    plain = led.create_job("plain", queue=None, gpus=0)
    led.create_job("gpu", pods=2)
    led.create_job("cpu", queue="ops", gpus=0)
    led.until_state("cpu", "Admitted")
    led.until_running("plain")
    after = led.job("plain")
    assert after["spec"] == plain["spec"]
    assert "annotations" not in after["metadata"] or not any(
        key.startswith("aiqueue.dev/run") for key in after["metadata"]["annotations"]
    )
    assert led.workload("plain") == {"state": None}
    assert led.workload("gpu")["state"] == "Pending"
    decided = "SELECT d.reason FROM shape_decision d JOIN workload w ON w.shape = d.shape WHERE w.name = 'gpu'"
    assert [row["reason"] for row in led.until(lambda: led.rows(decided) or None, "a word on it")] == ["ExceedsCeiling"]


def test_a_run_goes_to_the_nodes_of_its_flavor_and_the_template_comes_back(led: Stage) -> None:
    led.tenants()
    mine = {"nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [{"key": "mine", "operator": "Exists"}]}
    for number in range(1, 5):
        led.cluster.kubectl("label", "node", f"gpu-{number}", "kubernetes.io/os=linux", "--overwrite")
    before = led.create_job("steered", template=mine)
    led.until_state("steered", "Admitted")
    led.until_running("steered")
    assert led.job("steered")["spec"]["template"]["spec"]["nodeSelector"] == {
        "kubernetes.io/os": "linux",
        "aiqueue.dev/pool": "h100",
    }
    led.cluster.kubectl("patch", "job", "steered", f"-n={led.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    led.until_state("steered", "Held")
    assert [run["outcome"] for run in led.runs("steered")] == ["Cancelled"]
    assert led.used() == 0
    led.until(lambda: "aiqueue.dev/run" not in led.job("steered")["metadata"]["annotations"], "the template to be restored")
    assert led.job("steered")["spec"]["template"] == before["spec"]["template"]
    led.cluster.kubectl("annotate", "job", "steered", f"-n={led.namespace}", "aiqueue.dev/hold=false")
    led.until_state("steered", "Admitted")
    led.until_running("steered")
    assert [(run["attempt"], run["outcome"]) for run in led.runs("steered")] == [(1, "Cancelled"), (2, "Running")]


def test_a_job_recreated_under_its_name_is_another_workload(led: Stage) -> None:
    led.tenants(gpus=8)
    first = led.create_job("again", pod_annotations={"aiqueue.dev/dev-termination": "3s"})
    led.until_running("again")
    led.cluster.kubectl("delete", "job", "again", f"-n={led.namespace}", "--cascade=background")
    second = led.create_job("again")
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    led.until(lambda: len(led.rows("SELECT 1 FROM workload WHERE name = 'again'")) == 2, "both workloads to be known")
    assert led.used() <= 8
    led.until(lambda: led.job("again")["status"].get("ready") == 1, "the second to run")
    rows = led.rows(
        "SELECT w.uid, w.state, r.outcome FROM workload w JOIN run r ON r.workload_id = w.id WHERE w.name = 'again' ORDER BY w.id"
    )
    assert rows == [
        {"uid": first["metadata"]["uid"], "state": "Cancelled", "outcome": "Cancelled"},
        {"uid": second["metadata"]["uid"], "state": "Admitted", "outcome": "Running"},
    ]
    assert led.used() == 8
    led.until(lambda: led.unsuspends(second["metadata"]["uid"]) or None, "the audit log to have the unsuspend")
    assert len(led.unsuspends(second["metadata"]["uid"])) == 1


def test_a_pending_job_may_be_held_changed_and_moved(led: Stage) -> None:
    led.tenants(gpus=8)
    led.create_job("blocker")
    led.until_state("blocker", "Admitted")
    led.create_job("held", annotations={"aiqueue.dev/hold": "true"})
    led.until_state("held", "Held")
    led.create_job("moved", gpus=4)
    led.until_state("moved", "Pending")
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
    led.cluster.kubectl("patch", "job", "moved", f"-n={led.namespace}", f"-p={json.dumps(edit)}")
    led.cluster.kubectl("label", "job", "moved", f"-n={led.namespace}", "aiqueue.dev/queue=ops", "--overwrite")
    led.cluster.kubectl("delete", "job", "blocker", f"-n={led.namespace}")
    led.until_state("blocker", "Cancelled")
    led.until(lambda: led.used() == 0, "the quota to come back")
    assert led.workload("held")["state"] == "Held"
    assert led.workload("moved")["queue_name"] == "ops"
    led.cluster.kubectl("delete", "job", "moved", f"-n={led.namespace}")
    led.until_state("moved", "Cancelled")
    led.cluster.kubectl("label", "job", "held", f"-n={led.namespace}", "aiqueue.dev/queue-")
    led.until_state("held", "Cancelled")


def test_drain_evicts_with_grace_and_requeues(led: Stage) -> None:
    led.tenants()
    led.apply("{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: brief}, spec: {gracePeriod: 1s}}")
    led.create_job("drained", labels={"aiqueue.dev/class": "brief"})
    led.until_running("drained")
    drain = f"""{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: train, namespace: {led.namespace}}},
                 spec: {{tenant: research, state: Drain}}}}"""
    led.apply(drain, allow_drain=True)
    led.until(lambda: led.runs("drained")[0]["outcome"] == "Drained", "the run to be drained")
    led.until_state("drained", "Pending")
    assert led.living("drained") == []
    assert led.used() == 0
    led.apply(drain.replace("Drain", "Active"))
    led.until_running("drained")
    assert [(run["attempt"], run["outcome"]) for run in led.runs("drained")] == [(1, "Drained"), (2, "Running")]


def test_resources_other_than_gpus_are_counted_as_kubernetes_does(led: Stage) -> None:
    led.tenants()
    sidecar = {
        "name": "side",
        "image": "registry.example/side:1",
        "restartPolicy": "Always",
        "resources": {"requests": {"cpu": "500m"}},
    }
    led.create_job("sum", queue="ops", gpus=0, cpu="1500m", pods=2, template={"initContainers": [sidecar]})
    led.until_state("sum", "Admitted")
    assert led.used("cpu") == 4000
    assert led.used(GPU) == 0


def test_a_job_may_leave_while_it_is_suspended_and_its_quota_comes_back(led: Stage) -> None:
    led.tenants(gpus=8)
    led.create_job("leaving", pod_annotations={"aiqueue.dev/dev-termination": "2s"})
    led.until_running("leaving")
    led.cluster.kubectl("patch", "job", "leaving", f"-n={led.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    led.cluster.kubectl("label", "job", "leaving", f"-n={led.namespace}", "aiqueue.dev/queue-")
    led.until_state("leaving", "Cancelled")
    led.until(lambda: led.used() == 0, "the quota to come back")
    assert led.living("leaving") == []
    led.until(lambda: "aiqueue.dev/run" not in led.job("leaving")["metadata"]["annotations"], "what the run wrote to go")
    led.cluster.kubectl("label", "job", "leaving", f"-n={led.namespace}", "aiqueue.dev/queue=train")
    led.until_state("leaving", "Admitted")
    led.until_running("leaving")
    assert [run["outcome"] for run in led.runs("leaving")] == ["Cancelled", "Running"]
