"""Controllers that die, stop or lead the wrong cluster: what must never happen does not, and the rest goes on."""

from __future__ import annotations

import signal

import pytest

from fix_controller import Stage

pytestmark = pytest.mark.e2e

CONTROLLER = "system:serviceaccount:aiqueue-system:aiqueue-controller"
QUICK = {"lease_seconds": "2"}


def slip_by(stage: Stage, name: str) -> None:
    """Start a Job behind the ledger's back, with the only account that could."""
    stage.cluster.kubectl(
        "patch", "job", name, f"-n={stage.namespace}", f"--as={CONTROLLER}", "--type=merge", '-p={"spec":{"suspend":false}}'
    )


@pytest.mark.parametrize(
    "fault", ["commit.after=kill", "act.before-patch=kill", "act.after-patch=kill", "acknowledge.before=kill"]
)
def test_killed_between_two_steps_a_job_is_started_once(stage: Stage, fault: str) -> None:
    stage.tenants(gpus=8)
    first = stage.lead(faults=fault, **QUICK)
    made = stage.create_job("once")
    stage.until(first.ended, "the controller to be killed")
    assert stage.used() == 8
    stage.lead(**QUICK)
    stage.until_running("once")
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
    assert stage.used() == 8
    assert [(run["attempt"], run["outcome"]) for run in stage.runs("once")] == [(1, "Running")]
    stage.until(lambda: stage.unsuspends(made["metadata"]["uid"]) or None, "the audit log to have the unsuspend")
    assert len(stage.unsuspends(made["metadata"]["uid"])) == 1


@pytest.mark.parametrize(
    "fault", ["observe.before-write=kill", "observe.after-write=kill", "commit.before=kill", "commit.before=raise"]
)
def test_broken_before_the_commit_nothing_is_lost(stage: Stage, fault: str) -> None:
    stage.tenants(gpus=8)
    first = stage.lead(faults=fault, **QUICK)
    made = stage.create_job("kept")
    if fault.endswith("kill"):
        stage.until(first.ended, "the controller to be killed")
        stage.lead(**QUICK)
    stage.until_running("kept")
    assert stage.used() == 8
    stage.until(lambda: stage.unsuspends(made["metadata"]["uid"]) or None, "the audit log to have the unsuspend")
    assert len(stage.unsuspends(made["metadata"]["uid"])) == 1


def test_the_standby_takes_over_from_a_killed_leader(stage: Stage) -> None:
    stage.tenants(gpus=16)
    leader = stage.lead(**QUICK)
    standby = stage.start(**QUICK)
    stage.create_job("before")
    stage.until_state("before", "Admitted")
    leader.kill()
    stage.create_job("after")
    stage.until_running("after")
    assert "engine built" in standby.said()
    assert stage.used() == 16
    assert len(stage.runs("before")) == 1


def test_a_stopped_leader_starts_nothing_when_it_wakes(stage: Stage) -> None:
    stage.tenants(gpus=8)
    stale = stage.lead(faults="act.before-patch=stop", **QUICK)
    made = stage.create_job("late")
    stage.until(stale.stopped, "the leader to stop before its PATCH")
    stage.lead(**QUICK)
    stage.until_running("late")
    stage.cluster.kubectl("patch", "job", "late", f"-n={stage.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    stage.until_state("late", "Held")
    assert stage.used() == 0
    stale.signal(signal.SIGCONT)
    stage.until(lambda: "leading no more" in stale.said(), "the old leader to notice")
    stage.until(
        lambda: (
            [
                e
                for e in stage.audit()
                if e["verb"] == "patch"
                and e.get("responseStatus", {}).get("code") == 409
                and made["metadata"]["name"] in e["requestURI"]
            ]
            or None
        ),
        "the late PATCH to be refused by its resourceVersion",
    )
    assert stage.job("late")["spec"]["suspend"] is True
    assert stage.living("late") == []
    assert len(stage.unsuspends(made["metadata"]["uid"])) == 1
    assert stage.used() == 0


def test_jobs_of_another_ledger_are_not_touched(stage: Stage) -> None:
    """The ledger is lost and an empty one is put in its place: the controller says why it refuses, and changes nothing."""
    stage.tenants()
    leader = stage.lead(**QUICK)
    stage.create_job("theirs")
    stage.until(lambda: stage.job("theirs")["status"].get("ready") == 1, "the Job to run and say so")
    leader.kill()
    before = stage.job("theirs")
    stage.do(
        "TRUNCATE workload, run, allocation, action, pod_set, cluster, plan, archived_workload, archived_run,"
        " workload_decision, shape_decision CASCADE",
        "UPDATE ledger SET uid = gen_random_uuid()",
    )
    empty = stage.start(**QUICK)
    stage.until(empty.ended, "the controller to refuse")
    assert empty.process.returncode == 1
    assert "were started by ledger" in empty.said()
    assert "nothing was touched" in empty.said()
    assert stage.job("theirs")["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert stage.rows("SELECT * FROM cluster") == []


def test_a_ledger_of_another_cluster_is_refused(stage: Stage) -> None:
    stage.tenants()
    stage.do("INSERT INTO cluster (name, kube_system_uid) VALUES ('default', 'another')")
    wrong = stage.start(**QUICK)
    stage.until(wrong.ended, "the controller to refuse")
    assert wrong.process.returncode == 1
    assert "this cluster has" in wrong.said()


def test_a_running_job_is_adopted_if_it_was_there_first(stage: Stage) -> None:
    stage.tenants(gpus=8)
    for name in ("one", "two"):
        stage.create_job(name)
        slip_by(stage, name)
        stage.until_running(name)
    stage.lead(**QUICK)
    stage.until_state("one", "Admitted")
    stage.until_state("two", "Admitted")
    assert stage.used() == 16  # over the quota of 8: adopted, not killed
    assert [run["adopted"] for name in ("one", "two") for run in stage.runs(name)] == [True, True]
    assert {row["kind"] for row in stage.rows("SELECT kind FROM audit WHERE verb = 'Adopted'")} == {"Workload"}
    stage.create_job("next")
    stage.until(lambda: stage.workload("next")["state"] == "Pending", "the next to wait")
    for name in ("one", "two"):
        (pod,) = stage.pods(name)
        stage.cluster.kubectl("annotate", "pod", pod["metadata"]["name"], f"-n={stage.namespace}", "aiqueue.dev/dev-end=now")
    stage.until_state("next", "Admitted")
    assert [run["outcome"] for run in stage.runs("one")] == ["Finished"]


def test_a_ledger_that_lost_its_runs_adopts_its_own_jobs(stage: Stage) -> None:
    """Restored from an old backup: the Jobs carry this ledger's stamp, so they are taken back, not stopped."""
    stage.tenants(gpus=8)
    leader = stage.lead(**QUICK)
    made = stage.create_job("ours")
    stage.until_running("ours")
    leader.kill()
    stage.do("TRUNCATE workload, run, allocation, action, pod_set, plan, workload_decision, shape_decision CASCADE")
    stage.lead(**QUICK)
    stage.until_state("ours", "Admitted")
    assert [run["adopted"] for run in stage.runs("ours")] == [True]
    assert stage.used() == 8
    assert stage.job("ours")["spec"]["suspend"] is False
    assert len(stage.unsuspends(made["metadata"]["uid"])) == 1


def test_an_adopted_job_keeps_its_own_template_when_its_owner_stops_it(stage: Stage) -> None:
    stage.tenants(gpus=8)
    made = stage.create_job("mine", template={"tolerations": [{"key": "mine", "operator": "Exists"}]})
    slip_by(stage, "mine")
    stage.until_running("mine")
    stage.lead(**QUICK)
    stage.until_state("mine", "Admitted")
    stage.cluster.kubectl("patch", "job", "mine", f"-n={stage.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    stage.until_state("mine", "Held")
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
    assert stage.job("mine")["spec"]["template"] == made["spec"]["template"]
    assert stage.used() == 0
    stage.cluster.kubectl("annotate", "job", "mine", f"-n={stage.namespace}", "aiqueue.dev/hold=false")
    stage.until_running("mine")
    assert [run["adopted"] for run in stage.runs("mine")] == [True, False]


def test_a_job_that_slipped_by_is_stopped_but_not_too_many(stage: Stage) -> None:
    stage.tenants(gpus=0)
    leader = stage.lead(unknown_jobs_per_minute="1", **QUICK)
    stage.create_job("slipped", gpus=0, queue="train")
    stage.until(lambda: stage.workload("slipped")["state"] is not None, "it to be known")
    leader.kill()
    # A Job of the same second might have been there first, and is adopted in doubt.
    later = "SELECT 1 FROM cluster WHERE clock_timestamp() > registered_at + interval '2 seconds'"
    stage.until(lambda: stage.rows(later) or None, "the registration to lie clearly in the past")
    stage.apply(
        f"{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: train, namespace: {stage.namespace}}}, spec: {{tenant: research, state: Hold}}}}"
    )
    for name in ("slip-1", "slip-2", "slip-3"):
        stage.create_job(name)
        slip_by(stage, name)
    again = stage.lead(unknown_jobs_per_minute="1", **QUICK)
    stage.until(lambda: "TooManyUnknownJobs" in again.readiness(), "readiness to tell")
    running = [name for name in ("slip-1", "slip-2", "slip-3") if not stage.job(name)["spec"]["suspend"]]
    assert len(running) >= 2
    for name in running:
        stage.cluster.kubectl("patch", "job", name, f"-n={stage.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    stage.until(lambda: "TooManyUnknownJobs" not in again.readiness(), "readiness to recover")
    for name in ("slip-1", "slip-2", "slip-3"):
        stage.until(lambda name=name: stage.job(name)["spec"]["suspend"], "all to be suspended")  # type: ignore[misc]
