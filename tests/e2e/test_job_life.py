"""What owners do to a Job between its creation and its end, on the real control plane: move, hold, release, edit, delete."""

from __future__ import annotations

from typing import Any

import pytest

from fix_controller import GPU, Stage
from fix_life import (
    BRIEF,
    annotate,
    change,
    check,
    delete,
    end_pods,
    ends,
    exists,
    give,
    move,
    refused,
    suspend,
    tenants,
)

pytestmark = pytest.mark.e2e

#: Its pods go when the test says so (`Stage.let_stop`).
SLOW = {"aiqueue.dev/dev-termination": "1h"}
PATIENT = "{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: patient}, spec: {gracePeriod: 1h}}"


def asks(gpus: int) -> dict[str, Any]:
    """An edit of what the only container asks for."""
    amounts = {"cpu": "1", GPU: str(gpus)}
    container = {"name": "main", "image": "registry.example/main:1", "resources": {"requests": amounts, "limits": amounts}}
    return {"spec": {"template": {"spec": {"containers": [container]}}}}


def test_a_job_is_moved_to_another_queue_wherever_it_stands(led: Stage) -> None:
    give(led, "full", 8)
    give(led, "roomy", 8)
    give(led, "drained", 8)
    led.create_job("stays", queue="full", gpus=8)
    led.until_running("stays")
    # It waits, or is held.
    led.create_job("pending", queue="full", gpus=2)
    led.create_job("held", queue="full", gpus=2, annotations={"aiqueue.dev/hold": "true"})
    led.until_state("pending", "Pending")
    led.until_state("held", "Held")
    for name in ("pending", "held"):
        move(led, name, "roomy")
    led.until_running("pending")
    led.until(lambda: led.workload("held")["queue_name"] == "roomy", "the held one to be moved")
    change(led, "held", asks(1))
    annotate(led, "held", hold="false")
    led.until_running("held")
    assert led.used() == 8 + 2 + 1
    # It runs, and is told to end: it may not leave with what it holds.
    told = refused(led, "stays", {"metadata": {"labels": {"aiqueue.dev/queue": "roomy"}}})
    assert "is running in queue full and may not leave it" in told
    led.apply(PATIENT)
    for name in ("told", "evicted", "halted"):
        labels = {"aiqueue.dev/class": "patient"} if name == "told" else BRIEF
        led.create_job(name, queue="drained", gpus=2, labels=labels, pod_annotations=SLOW)
        led.until_running(name)
    # It is stopped by us, and its pods are still going: they hold what they hold where they are, then it waits elsewhere.
    give(led, "drained", 8, "Drain")
    led.until_state("told", "Evicting")
    assert "may not leave it" in refused(led, "told", {"metadata": {"labels": {"aiqueue.dev/queue": "roomy"}}})
    for name in ("evicted", "halted"):
        led.until_state(name, "Releasing")
        move(led, name, "roomy")
    give(led, "drained", 8)  # it could go on there
    assert led.used() == 11 + 6
    delete(led, "told")
    led.let_stop("told")
    led.until(lambda: led.used() == 11 + 4, "the room of the one that was told to end")
    for name in ("evicted", "halted"):
        led.let_stop(name)
        led.until(lambda name=name: len(tenants(led, name)) == 2, f"{name} to be admitted again")  # type: ignore[misc]
        led.until_running(name)
        assert tenants(led, name) == ["drained", "roomy"]
    check(
        led,
        stays=["Running"],
        pending=["Running"],
        held=["Running"],
        told=["Drained"],
        evicted=["Drained", "Running"],
        halted=["Drained", "Running"],
    )
    assert tenants(led, "pending") == tenants(led, "held") == ["roomy"]
    assert led.used() == 11 + 4


def test_its_owner_stops_a_running_job_and_lets_it_go_on_as_often_as_he_likes(led: Stage) -> None:
    give(led, "mine", 8)
    before = led.create_job("stopped", queue="mine", gpus=4)
    led.create_job("quick", queue="mine", gpus=4, pod_annotations=SLOW)
    led.until_running("stopped")
    for again in (1, 2):
        suspend(led, "stopped")
        led.until_state("stopped", "Held")
        led.until(lambda: led.used() == 4, "its quota to come back")
        told = refused(led, "stopped", {"spec": {"suspend": False}})
        assert "only aiqueue may set spec.suspend to false" in told
        led.until(lambda: not led.rows("SELECT 1 FROM action"), "its template to be put back")
        assert led.job("stopped")["spec"] == before["spec"]
        annotate(led, "stopped", hold="false")
        led.until(lambda again=again: len(led.runs("stopped")) == again + 1, "a further run")  # type: ignore[misc]
        led.until_state("stopped", "Admitted")
        led.until_running("stopped")
        assert "aiqueue.dev/hold" not in led.job("stopped")["metadata"]["annotations"]
    # Released while its pods are still going, it goes on when they are gone.
    led.until_running("quick")
    suspend(led, "quick")
    led.until_state("quick", "Releasing")
    annotate(led, "quick", hold="false")
    led.let_stop("quick")
    led.until(lambda: len(led.runs("quick")) == 2, "it to be admitted again")
    led.until_running("quick")
    check(led, stopped=["Cancelled", "Cancelled", "Running"], quick=["Cancelled", "Running"])
    assert {run["message"] for run in led.runs("stopped")[:2]} == {"suspended by its owner"}
    assert led.used() == 8


def test_a_job_is_edited_and_taken_in_while_it_is_suspended(led: Stage) -> None:
    give(led, "small", 8)
    led.create_job("fills", queue="small", gpus=6)
    led.until_running("fills")
    led.create_job("shrinks", queue="small", gpus=4)
    led.create_job("grows", queue="small", gpus=1, annotations={"aiqueue.dev/hold": "true"})
    late = led.create_job("late", queue=None, gpus=1, suspend=True)
    led.until_state("shrinks", "Pending")
    led.until_state("grows", "Held")
    assert led.workload("late")["state"] is None
    change(led, "grows", asks(9))
    annotate(led, "grows", hold="false")
    led.until_state("grows", "Pending")
    change(led, "shrinks", asks(1))
    led.until_running("shrinks")
    move(led, "late", "small")
    led.until_running("late")
    assert late["metadata"]["uid"] == led.workload("late")["uid"]
    assert led.used() == 8
    decided = "SELECT d.reason FROM shape_decision d JOIN workload w ON w.shape = d.shape WHERE w.name = 'grows'"
    (decision,) = led.until(lambda: led.rows(decided) or None, "a word on the one that grew")
    assert decision["reason"] == "ExceedsCeiling"
    check(led, fills=["Running"], shrinks=["Running"], late=["Running"], grows=[])


def test_however_a_job_is_deleted_its_quota_is_held_until_its_pods_are_gone(led: Stage) -> None:
    give(led, "going", 8)
    for name in ("foreground", "background", "orphaned", "kept"):
        led.create_job(name, queue="going", gpus=2, pod_annotations=SLOW)
    for name in ("foreground", "background", "orphaned", "kept"):
        led.until_running(name)
    led.create_job("never-ran", queue="going", gpus=2)
    led.until_state("never-ran", "Pending")
    for name in ("kept", "never-ran"):
        change(led, name, {"metadata": {"finalizers": ["example.com/keep"]}})
    delete(led, "foreground", "Foreground")
    delete(led, "background")
    delete(led, "orphaned", "Orphan")
    delete(led, "kept")
    delete(led, "never-ran")
    # While somebody's finalizer keeps a Job, its pods run on; one that waits is over as soon as it is being deleted.
    led.until_state("never-ran", "Cancelled")
    for name in ("background", "orphaned"):
        led.until_state(name, "Cancelled")
    for name in ("foreground", "background"):
        led.until_stopping(name)
    assert led.used() == 8
    for name in ("foreground", "background"):
        led.let_stop(name)
    led.until_state("foreground", "Cancelled")
    led.until(lambda: led.used() == 4, "the quota of two to come back")
    assert ends(led, "orphaned") == ends(led, "kept") == ["Running"]
    led.until_running("orphaned")
    led.until_running("kept")
    end_pods(led, "orphaned")
    led.until(lambda: led.used() == 2, "the orphans to end")
    for name in ("kept", "never-ran"):
        change(led, name, {"metadata": {"finalizers": None}})
    led.until_state("kept", "Cancelled")
    led.let_stop("kept")
    led.until(lambda: led.used() == 0, "all quota to come back")
    gone = ["Cancelled"]
    check(led, foreground=gone, background=gone, orphaned=gone, kept=gone, never_ran=[])
    assert {run["message"] for name in ("foreground", "orphaned", "kept") for run in led.runs(name)} == {"the Job was deleted"}
    for name in ("foreground", "orphaned", "kept", "never-ran"):
        assert not exists(led, name)


def test_what_happens_while_aiqueue_is_down_is_found_out(stage: Stage) -> None:
    give(stage, "down", 24)
    first = stage.lead()
    for name, more in {"ttl": {"ttlSecondsAfterFinished": 0}, "finished": {}, "orphaned": {}, "stopped": {}}.items():
        stage.create_job(name, queue="down", gpus=4, **more)
    stage.create_job("moved", queue="down", gpus=4)
    for name in ("ttl", "finished", "orphaned", "stopped", "moved"):
        stage.until_running(name)
    stage.create_job("bigger", queue="down", gpus=8)
    stage.until_state("bigger", "Pending")
    # Of what runs the ledger knows that it was started.
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
    first.kill()
    end_pods(stage, "ttl")
    end_pods(stage, "finished")
    delete(stage, "orphaned", "Orphan")
    suspend(stage, "stopped")
    suspend(stage, "moved")
    move(stage, "moved", None)
    change(stage, "bigger", asks(4))
    stage.until(lambda: not exists(stage, "ttl"), "Kubernetes to delete what was to be deleted when it had ended")
    stage.until(lambda: stage.job("finished")["status"].get("succeeded") == 1, "a Job to end")
    stage.lead()
    # A Job that is gone does not tell how it ended.
    stage.until_state("ttl", "Cancelled")
    stage.until_state("finished", "Finished")
    stage.until_state("stopped", "Held")
    stage.until_state("moved", "Cancelled")
    stage.until_state("orphaned", "Cancelled")
    stage.until_running("bigger")
    stage.until(lambda: stage.used() == 4 + 4, "the quota of all but the orphan and what was admitted")
    end_pods(stage, "orphaned")
    stage.until(lambda: stage.used() == 4, "the orphan to end")
    gone = ["Cancelled"]
    check(stage, ttl=gone, finished=["Finished"], orphaned=gone, stopped=gone, moved=gone, bigger=["Running"])
    for name in ("stopped", "moved"):
        assert "nodeSelector" not in stage.job(name)["spec"]["template"]["spec"]
        assert "aiqueue.dev/run" not in stage.job(name)["metadata"].get("annotations", {})
