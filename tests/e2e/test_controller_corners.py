"""Corners between two steps that other tests pass through too fast to see."""

from __future__ import annotations

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
        "twice", labels={"aiqueue.dev/class": "brief"}, pod_annotations={"aiqueue.dev/dev-termination": "3s"}
    )
    stage.until(lambda: stage.job("twice")["status"].get("ready") == 1, "the Job to run")
    stage.apply(QUEUE.format(namespace=stage.namespace, state="Drain"), allow_drain=True)
    stage.until(lambda: stage.runs("twice")[0]["stopped_at"], "the Job to be stopped")
    stage.apply(QUEUE.format(namespace=stage.namespace, state="Active"))
    stage.until(lambda: len(stage.runs("twice")) > 1, "the Job to be admitted again")
    stage.until(lambda: stage.runs("twice")[-1]["started_at"], "the Job to be started again")
    stage.until(lambda: stage.job("twice")["status"].get("ready") == 1, "the Job to run again")
    assert [(run["attempt"], run["outcome"]) for run in stage.runs("twice")] == [(1, "Drained"), (2, "Running")]
    stage.cluster.kubectl("patch", "job", "twice", f"-n={stage.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    stage.until_state("twice", "Held")
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "the template to be put back")
    assert stage.job("twice")["spec"]["template"] == before["spec"]["template"]
