"""Jobs whose pods end one by one, on the real control plane: what the first ones held goes to others while the last ones run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aiqueue.queue.database import transaction
from aiqueue.queue.store import usage
from fix_controller import GPU, Stage, job
from fix_tenants import Floor

pytestmark = pytest.mark.e2e

MERGE = "application/merge-patch+json"
INDEX = "batch.kubernetes.io/job-completion-index"


def submit(floor: Floor, name: str, queue: str, pods: int, **more: Any) -> None:
    """A Job of alice's, of pods of one GPU that run until they are told to end."""
    floor.alice.create(job(floor.namespace, name, queue=queue, pods=pods, gpus=1, **more))


def end(stage: Stage, name: str, pods: int = 1, *, of: Callable[[dict[str, Any]], bool] = lambda _: True) -> None:
    """Let some of the pods of a Job come to their end."""
    running = [pod for pod in stage.pods(name) if pod["status"]["phase"] == "Running" and of(pod)]
    for pod in sorted(running, key=lambda each: str(each["metadata"]["name"]))[:pods]:
        path = f"/api/v1/namespaces/{stage.namespace}/pods/{pod['metadata']['name']}"
        stage.cluster.api.call("PATCH", path, {"metadata": {"annotations": {"aiqueue.dev/dev-end": "now"}}}, content_type=MERGE)


def index(number: int) -> Callable[[dict[str, Any]], bool]:
    """The pod of an index."""
    return lambda pod: pod["metadata"]["annotations"].get(INDEX) == str(number)


def held(stage: Stage, name: str) -> int:
    """GPUs that the last run of a Job holds."""
    run = stage.runs(name)[-1]
    return sum(row["amount"] for row in stage.rows("SELECT amount FROM allocation WHERE run_id = :run", run=run["id"]))


def until_holds(stage: Stage, name: str, gpus: int) -> None:
    """Wait until the run of a Job, which is still open, holds so many."""
    stage.until(lambda: held(stage, name) == gpus, f"{name} to hold {gpus} GPUs")
    assert stage.runs(name)[-1]["closed_at"] is None
    with transaction(stage.ledger) as connection:
        assert usage.differing(connection) == 0


@pytest.mark.parametrize("mode", ["NonIndexed", "Indexed"])
def test_room_of_pods_that_are_through_goes_to_another_gang_while_the_rest_runs(floor: Floor, mode: str) -> None:
    stage, name = floor.stage, mode.lower()
    floor.tenant(name, 4)
    floor.queue(name)
    submit(floor, f"{name}-long", name, 4, completions=6, completionMode=mode)
    stage.until_running(f"{name}-long", 4)
    submit(floor, f"{name}-next", name, 2)
    floor.until_waiting(f"{name}-next", "WaitingForQuota")
    # Two are through, and two others take their place: nothing is free.
    end(stage, f"{name}-long", 2)
    stage.until(lambda: stage.workload(f"{name}-long")["succeeded"] == 2, "two pods to be through")
    stage.until_running(f"{name}-long", 4)
    assert held(stage, f"{name}-long") == 4
    floor.assert_untouched(f"{name}-next")
    end(stage, f"{name}-long", 2)
    floor.until_running(f"{name}-next")
    until_holds(stage, f"{name}-long", 2)
    assert len([pod for pod in stage.pods(f"{name}-long") if pod["status"]["phase"] == "Running"]) == 2
    assert stage.used() == 4
    # Who waits is told what is held now; who runs, what he was given and what of it he still holds.
    submit(floor, f"{name}-third", name, 3)
    waiting = floor.until_waiting(f"{name}-third", "WaitingForQuota")
    holders = {each["name"]: each["amount"] for each in waiting["decision"]["holders"]}
    assert holders == {f"{name}-long": "2", f"{name}-next": "2"}
    said = [line.split() for line in floor.sentences(f"{name}-long")]
    assert ["main", "h100", GPU, "2,", "at", "first", "4"] in said
    end(stage, f"{name}-long", 2)
    stage.until_state(f"{name}-long", "Finished")
    (row,) = stage.rows(
        "SELECT amount, opened_amount FROM allocation WHERE run_id = :run", run=stage.runs(f"{name}-long")[0]["id"]
    )
    # The last two end one after the other: the first of them may have been seen by itself.
    assert row["amount"] in (1, 2)
    assert row["opened_amount"] == 4
    floor.end(f"{name}-next")
    floor.until_running(f"{name}-third")


def test_a_work_queue_holds_what_its_pods_do_once_one_is_through(floor: Floor) -> None:
    """Nobody takes the place of a pod of a Job without completions once one has succeeded."""
    stage = floor.stage
    floor.tenant("crew", 3)
    floor.queue("crew")
    submit(floor, "work-queue", "crew", 3, completions=None)
    stage.until_running("work-queue", 3)
    submit(floor, "after-it", "crew", 1)
    end(stage, "work-queue", 1)
    floor.until_running("after-it")
    until_holds(stage, "work-queue", 2)
    end(stage, "work-queue", 2)
    stage.until_state("work-queue", "Finished")


def test_an_index_that_failed_for_good_needs_no_room(floor: Floor) -> None:
    stage = floor.stage
    floor.tenant("indexes", 3)
    floor.queue("indexes")
    notes = {"aiqueue.dev/dev-exit-code": "1", "aiqueue.dev/dev-only-index": "0"}
    per_index: dict[str, Any] = {"completionMode": "Indexed", "backoffLimitPerIndex": 0, "backoffLimit": 2**31 - 1}
    submit(floor, "of-indexes", "indexes", 3, pod_annotations=notes, **per_index)
    stage.until_running("of-indexes", 3)
    submit(floor, "after-index", "indexes", 1)
    end(stage, "of-indexes", of=index(0))
    floor.until_running("after-index")
    until_holds(stage, "of-indexes", 2)
    assert stage.job("of-indexes")["status"]["failedIndexes"] == "0"
    end(stage, "of-indexes", 2)
    stage.until_state("of-indexes", "Failed")


def test_a_job_that_met_its_success_policy_holds_what_is_still_going(floor: Floor) -> None:
    stage = floor.stage
    floor.tenant("leaders", 4)
    floor.queue("leaders")
    policy = {"completionMode": "Indexed", "successPolicy": {"rules": [{"succeededIndexes": "0"}]}}
    submit(floor, "led-by-one", "leaders", 4, pod_annotations={"aiqueue.dev/dev-termination": "1h"}, **policy)
    stage.until_running("led-by-one", 4)
    submit(floor, "follows", "leaders", 1)
    end(stage, "led-by-one", of=index(0))
    # Three are going yet, and hold what they do; the room of the first is another's at once.
    floor.until_running("follows")
    until_holds(stage, "led-by-one", 3)
    stage.let_stop("led-by-one")
    stage.until_state("led-by-one", "Finished")
    assert stage.used(GPU) == 1


def test_a_run_that_was_told_to_end_gives_back_what_is_through_and_starts_whole_again(floor: Floor) -> None:
    """A drain with a grace; then the Job is admitted at its size again, and shrinks to what is left of it."""
    stage = floor.stage
    floor.stage.apply("{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: patient}, spec: {gracePeriod: 10s}}")
    floor.tenant("drained", 4)
    floor.queue("drained")
    submit(floor, "half-done", "drained", 4, labels={"aiqueue.dev/class": "patient"})
    stage.until_running("half-done", 4)
    quotas = f"quotas: [{{flavor: h100, resources: [{{name: {GPU}, nominal: 4}}]}}]"
    drain = f"{{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {{name: drained}}, spec: {{{quotas}, state: Drain}}}}"
    stage.apply(drain, allow_drain=True)
    stage.until_state("half-done", "Evicting")
    end(stage, "half-done", 2)
    until_holds(stage, "half-done", 2)
    stage.until_state("half-done", "Pending")
    assert stage.used() == 0
    floor.tenant("drained", 4)
    stage.until(lambda: len(stage.runs("half-done")) == 2, "it to be admitted again")
    stage.until(lambda: sum(pod["status"]["phase"] == "Running" for pod in stage.pods("half-done")) == 2, "two pods to run")
    until_holds(stage, "half-done", 2)
    end(stage, "half-done", 2)
    stage.until_state("half-done", "Finished")
