"""Corners between two steps that other tests pass through too fast to see."""

from __future__ import annotations

import signal

import pytest

from fix_controller import Stage

pytestmark = pytest.mark.e2e

QUEUE = """{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: train, namespace: {namespace}}},
            spec: {{tenant: research, state: {state}}}}}"""


def test_admitted_again_before_its_template_is_back_a_job_keeps_the_template_of_its_owner(stage: Stage) -> None:
    stage.tenants(gpus=8)
    stage.apply("{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: brief}, spec: {gracePeriod: 1s}}")
    stage.lead()
    before = stage.create_job(
        "twice", labels={"aiqueue.dev/class": "brief"}, pod_annotations={"aiqueue.dev/dev-termination": "1h"}
    )
    stage.until_running("twice")
    stage.apply(QUEUE.format(namespace=stage.namespace, state="Drain"), allow_drain=True)
    stage.until(lambda: stage.runs("twice")[0]["stopped_at"], "the Job to be stopped")
    stage.apply(QUEUE.format(namespace=stage.namespace, state="Active"))
    stage.let_stop("twice")
    stage.until(lambda: len(stage.runs("twice")) > 1, "the Job to be admitted again")
    stage.until(lambda: stage.runs("twice")[-1]["started_at"], "the Job to be started again")
    stage.until_running("twice")
    assert [(run["attempt"], run["outcome"]) for run in stage.runs("twice")] == [(1, "Drained"), (2, "Running")]
    stage.cluster.kubectl("patch", "job", "twice", f"-n={stage.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    stage.let_stop("twice")
    stage.until_state("twice", "Held")
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "the template to be put back")
    assert stage.job("twice")["spec"]["template"] == before["spec"]["template"]


def test_a_ledger_that_differs_from_the_engine_is_noticed_and_the_engine_rebuilt(stage: Stage) -> None:
    stage.tenants(gpus=8)
    leader = stage.lead(usage_check_seconds="1", lease_seconds="30")
    stage.create_job("first")
    stage.until_running("first")
    stage.create_job("second", gpus=4)
    stage.until_state("second", "Pending")
    stage.do("UPDATE allocation SET amount = 4")
    stage.until(lambda: "usage differs from the ledger" in leader.said(), "the difference to be noticed")
    stage.until_state("second", "Admitted")
    assert leader.said().count("engine built") == 2
    assert "leading no more" not in leader.said()


def test_a_ledger_that_ends_every_session_loses_nothing(stage: Stage) -> None:
    stage.tenants(gpus=32)
    leader = stage.lead()
    made = [stage.create_job(f"job-{number}") for number in range(4)]
    for _ in range(5):
        stage.do(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'aiqueue-controller%'"
            " AND datname = current_database()"
        )
    made += [stage.create_job("after", gpus=0)]
    for job in made:
        stage.until_state(job["metadata"]["name"], "Admitted")
        stage.until(lambda job=job: stage.unsuspends(job["metadata"]["uid"]) or None, "it to be started")  # type: ignore[misc]
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
    for job in made:
        assert [run["attempt"] for run in stage.runs(job["metadata"]["name"])] == [1]
        assert len(stage.unsuspends(job["metadata"]["uid"])) == 1
    assert not leader.ended()


def test_a_plan_that_hangs_before_its_commit_is_overtaken_and_writes_nothing(stage: Stage) -> None:
    """The cycle hangs while the term is renewed no more, as in a process that was stopped: the successor goes on alone."""
    stage.tenants(gpus=8)
    stale = stage.lead(faults="commit.before=stop", lease_seconds="2")
    stage.create_job("once")
    stage.until(stale.stopped, "the leader to stop before its commit")
    stage.lead(lease_seconds="2")
    stage.until_running("once")
    stale.signal(signal.SIGCONT)
    stage.until(lambda: "leading no more" in stale.said(), "the old leader to notice")
    assert [run["attempt"] for run in stage.runs("once")] == [1]
    assert stage.used() == 8
    assert not stale.ended()


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
