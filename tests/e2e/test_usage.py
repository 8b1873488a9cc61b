"""Decayed usage under real controllers: it orders queues, and outlives whoever counts it."""

from __future__ import annotations

import signal

import pytest

from aiqueue.queue.database import transaction
from aiqueue.queue.store import leadership, usage
from fix_controller import GPU, Stage
from fix_usage import usage_of_runs

pytestmark = pytest.mark.e2e

QUEUES = """
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {{name: other, namespace: {namespace}}}
spec: {{tenant: research}}
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {{name: third, namespace: {namespace}}}
spec: {{tenant: research}}
"""


def end(stage: Stage, name: str) -> None:
    """Let the pods of a Job succeed, and wait until its run is closed."""
    for pod in stage.pods(name):
        path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod['metadata']['name']}"
        ended = {"metadata": {"annotations": {"aiqueue.dev/dev-end": "now"}}}
        stage.cluster.api.call("PATCH", path, ended, content_type="application/merge-patch+json")
    stage.until_state(name, "Finished")


def test_what_a_queue_used_outlives_the_controller_and_puts_it_behind_another(stage: Stage) -> None:
    stage.tenants(gpus=8)
    stage.apply(QUEUES.format(namespace=stage.namespace))
    leader = stage.lead(usage_check_seconds="1")  # what the engine was told is all the time compared with what the ledger keeps
    stage.create_job("past")
    stage.until(lambda: stage.job("past")["status"].get("ready") == 1, "queue train to use something")
    end(stage, "past")
    stage.create_job("blocker", queue="third")
    stage.until(lambda: stage.job("blocker")["status"].get("ready") == 1, "the blocker to hold everything")
    stage.create_job("older")
    stage.until_state("older", "Pending")
    stage.create_job("younger", queue="other")
    stage.until_state("younger", "Pending")
    leader.signal(signal.SIGKILL)
    successor = stage.lead(usage_check_seconds="1")
    end(stage, "blocker")
    # By age alone the older one would go first; its queue has used what the other has not.
    stage.until_state("younger", "Admitted")
    assert stage.workload("older")["state"] == "Pending"
    for each in (leader, successor):
        assert "differs from the ledger" not in each.said()
        assert "counted again" not in each.said()
    with transaction(stage.ledger) as connection:
        now = leadership.current(connection).now
        kept = usage.load(connection)
        wanted = usage_of_runs(connection, now)
        assert usage.differing(connection) == 0
    assert {key: each.rate for key, each in kept.items()} == {key: rate for key, (_, rate) in wanted.items()}
    assert {key: each.at(now) for key, each in kept.items()} == {
        key: pytest.approx(value, rel=1e-9) for key, (value, _) in wanted.items()
    }
    assert {queue: each.rate for (_, queue, resource), each in kept.items() if resource == GPU} == {
        "train": 0,
        "third": 0,
        "other": 8,
    }


def test_usage_that_differs_from_what_runs_hold_is_noticed_and_counted_again(stage: Stage) -> None:
    stage.tenants(gpus=8)
    leader = stage.lead(usage_check_seconds="1")
    stage.create_job("one")
    stage.until_state("one", "Admitted")
    stage.do("UPDATE queue_usage SET rate = 5, value = 1e12")
    stage.until(lambda: "decayed usage was not what runs tell" in leader.said(), "it to be counted again")

    def kept() -> bool:
        with transaction(stage.ledger) as connection:
            (found, *_) = (each for (_, _, resource), each in usage.load(connection).items() if resource == GPU)
        return found.rate == 8 and found.value < 1e6

    stage.until(kept, "that to be kept")
    stage.until(lambda: "usage differs from the ledger" in leader.said(), "that to be told")
    assert not leader.ended()
