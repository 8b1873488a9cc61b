"""Gangs that are not ready in time, or not ready any more, under a real controller; pods are as ready as the test says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from aiqueue.cli import explanation, explanation_text
from aiqueue.queue.database import transaction
from fix_controller import MERGE_PATCH, Stage, is_ready

pytestmark = pytest.mark.e2e

NEVER = {"aiqueue.dev/dev-ready": "never"}
CLASSES = """
apiVersion: aiqueue.dev/v1
kind: Class
metadata: {name: eager}
spec: {readyTimeout: 2s, requeueLimit: 1}
---
apiVersion: aiqueue.dev/v1
kind: Class
metadata: {name: once}
spec: {readyTimeout: 1h, requeueLimit: 0}
---
apiVersion: aiqueue.dev/v1
kind: Class
metadata: {name: fragile}
spec: {readyTimeout: 1h, recoveryTimeout: 2s}
---
apiVersion: aiqueue.dev/v1
kind: Class
metadata: {name: patient}
spec: {readyTimeout: 1h, recoveryTimeout: 1h}
"""


ONCE = "{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: once}, spec: {readyTimeout: 2s, requeueLimit: 0}}"


def create(led: Stage, name: str, class_name: str, **options: Any) -> None:
    led.create_job(name, gpus=1, labels={"aiqueue.dev/class": class_name}, **{"pods": 2, **options})


def explained(led: Stage, name: str) -> str:
    """What `aiqueue explain` prints."""
    with transaction(led.ledger) as connection:
        (now,) = led.rows("SELECT clock_timestamp() AS now")
        moment: datetime = now["now"]
        return "\n".join(explanation_text.lines(explanation.explain(connection, led.namespace, name, moment), moment))


def annotate_pod(led: Stage, name: str, *annotations: str) -> None:
    """Change the first pod of a Job."""
    pod = min(each["metadata"]["name"] for each in led.pods(name) if is_ready(each))
    written = {"metadata": {"annotations": dict(each.split("=", 1) for each in annotations)}}
    led.cluster.api.call("PATCH", f"/api/v1/namespaces/{led.namespace}/pods/{pod}", written, content_type=MERGE_PATCH)


def notes(led: Stage, name: str) -> dict[str, str]:
    """What Events say of a Job, by reason."""
    where = f"/api/v1/namespaces/{led.namespace}/events?fieldSelector=involvedObject.name%3D{name}"
    return {each["reason"]: each["message"] for each in led.cluster.api.call("GET", where)["items"]}


def until_run(led: Stage, name: str, what: str, attempt: int = 1) -> Mapping[str, Any]:
    """Wait until a column of a run is filled."""

    def probe() -> Mapping[str, Any] | None:
        found = [run for run in led.runs(name) if run["attempt"] == attempt and run[what] is not None]
        return found[0] if found else None

    return led.until(probe, f"{what} of run {attempt} of {name}")


def ran(led: Stage, name: str) -> list[tuple[str, str]]:
    return [(run["outcome"], run["message"]) for run in led.runs(name)]


def test_a_gang_that_is_not_wholly_ready_in_time_is_put_back_and_in_the_end_held(led: Stage) -> None:
    led.tenants()
    led.apply(CLASSES)
    create(led, "never", "eager", pod_annotations=NEVER)
    halfway = {**NEVER, "aiqueue.dev/dev-only-index": "0"}
    create(led, "half", "once", pod_annotations=halfway, completionMode="Indexed")
    create(led, "whole", "patient")
    # It is given no more time once one of its pods was seen to be ready, however long that took.
    led.until(lambda: led.workload("half").get("ready") == 1, "half of a gang to be seen to be ready")
    led.apply(ONCE)
    for name, ready in (("never", 0), ("half", 1)):
        run = until_run(led, name, "closed_at")
        timeout = "its gang was not wholly ready within 2s (readyTimeout)"
        assert (run["outcome"], run["message"]) == ("NotReady", f"{timeout}: {ready} of 2 pods were ready")
        assert run["started_at"] + timedelta(seconds=2) <= run["evict_at"] <= run["stopped_at"] <= run["closed_at"]
        assert run["ready_at"] is None
    never, half = led.workload("never"), led.workload("half")
    assert (never["state"], never["requeues"]) == ("Pending", 1)
    assert never["not_before"] - never["requeued_at"] == timedelta(seconds=60)
    (run,) = led.runs("never")
    assert never["requeued_at"] == run["closed_at"]
    led.until(lambda: "requeue 1 of 1 (requeueLimit)" in explained(led, "never"), "its back-off to be told")
    assert "It waits: Backoff" in explained(led, "never")
    assert (half["state"], half["requeues"], half["not_before"]) == ("Held", 1, None)
    assert "its gang was not ready 1 time, and its class requeues it 0 at most (requeueLimit)" in explained(led, "half")
    assert 'what would change it: the annotation aiqueue.dev/hold set to "false"' in explained(led, "half")
    led.until(lambda: {"Evicted", "Requeued"} <= notes(led, "never").keys(), "its Events")
    assert "waits again as if it were new, for 1m at least (requeue 1 of 1)" in notes(led, "never")["Requeued"]
    led.until(lambda: "Held" in notes(led, "half"), "its Event")
    assert "its class requeues it 0 times at most (requeueLimit)" in notes(led, "half")["Held"]

    until_run(led, "whole", "ready_at")
    assert "2 of 2 pods; the whole gang was at" in explained(led, "whole")

    # Released, both begin afresh at once, and what was counted against them is forgotten.
    for name in ("never", "half"):
        led.cluster.kubectl("annotate", "job", name, f"-n={led.namespace}", "aiqueue.dev/hold=false")
    for name, state in (("never", "Pending"), ("half", "Held")):
        until_run(led, name, "closed_at", attempt=2)
        assert [outcome for outcome, _ in ran(led, name)] == ["NotReady", "NotReady"]
        assert (led.workload(name)["state"], led.workload(name)["requeues"]) == (state, 1)
    assert led.used() == 2


def test_a_gang_that_is_ready_no_more_gets_its_time_to_recover_and_no_longer(led: Stage) -> None:
    led.tenants()
    led.apply(CLASSES)
    failing = {"aiqueue.dev/dev-exit-code": "1"}
    create(led, "loses", "fragile")
    create(led, "fails", "fragile", pod_annotations=failing, backoffLimit=6)
    create(led, "heals", "patient", pod_annotations=failing, backoffLimit=6)
    for name in ("loses", "fails", "heals"):
        until_run(led, name, "ready_at")
    annotate_pod(led, "loses", "aiqueue.dev/dev-ready=never")
    annotate_pod(led, "fails", "aiqueue.dev/dev-end=now")
    annotate_pod(led, "heals", "aiqueue.dev/dev-end=now")
    until_run(led, "heals", "unready_since")
    assert "1 of 2 pods, not the whole gang since" in explained(led, "heals")
    assert "(recoveryTimeout)" in explained(led, "heals")
    for name in ("loses", "fails"):
        run = until_run(led, name, "closed_at")
        again = "its gang was not wholly ready again within 2s (recoveryTimeout): 1 of 2 pods were ready"
        assert (run["outcome"], run["message"]) == ("NotReady", again)
        assert run["unready_since"] + timedelta(seconds=2) <= run["evict_at"]
        assert led.job(name)["spec"]["suspend"] is True
        assert led.workload(name)["requeues"] == 1
    led.until(lambda: led.runs("heals")[0]["unready_since"] is None, "another pod to take its place")
    assert [run["outcome"] for run in led.runs("heals")] == ["Running"]
