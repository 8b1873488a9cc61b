"""Every phase of an eviction on the real control plane: notice, deadline, pods that go or do not, what comes after.

A queue in state Drain evicts here; `test_eviction_preemption` has victims of other workloads.
"""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fix_controller import Stage

pytestmark = pytest.mark.e2e

QUEUE = """{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: train, namespace: {namespace}}},
            spec: {{tenant: research, state: {state}}}}}"""
CLASSES = """
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: brief}, spec: {gracePeriod: 1s}}
---
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: patient}, spec: {gracePeriod: 10m}}
"""
BRIEF = {"aiqueue.dev/class": "brief"}
PATIENT = {"aiqueue.dev/class": "patient"}
NOTE = "aiqueue.dev/evict-at"
LASTING = {"aiqueue.dev/dev-termination": "1h"}  # until `Stage.let_stop`


def set_stage(stage: Stage) -> None:
    """32 GPUs, an open queue, and two classes of little and of much grace."""
    stage.tenants()
    stage.apply(CLASSES)


def turn(stage: Stage, state: str) -> None:
    """Drain the queue, or open it again."""
    stage.apply(QUEUE.format(namespace=stage.namespace, state=state), allow_drain=True)


def run(stage: Stage, name: str, labels: dict[str, str] = BRIEF, **options: Any) -> dict[str, Any]:
    """Create a Job and wait until it runs."""
    made = stage.create_job(name, labels=labels, **options)
    stage.until_state(name, "Admitted")
    stage.until_running(name, options.get("pods", 1))
    return made


def until_noticed(stage: Stage, name: str) -> datetime:
    """Wait until a Job has notice, and return its deadline."""
    stage.until(lambda: NOTE in stage.job(name)["metadata"]["annotations"] or None, f"{name} to have notice")
    return datetime.fromisoformat(stage.job(name)["metadata"]["annotations"][NOTE])


def noticed(stage: Stage, uid: str) -> bool:
    """Whether a Job ever had notice, by the audit log of the API server."""
    patched = [
        each["requestObject"].get("metadata", {})
        for each in stage.audit()
        if each["verb"] == "patch" and "requestObject" in each
    ]
    return any(each.get("uid") == uid and NOTE in (each.get("annotations") or {}) for each in patched)


def events(stage: Stage, name: str) -> list[str]:
    """Reasons of what aiqueue told of a Job, oldest first."""
    where = f"/api/v1/namespaces/{stage.namespace}/events?fieldSelector=involvedObject.name%3D{name}"
    found = [each for each in stage.cluster.api.call("GET", where)["items"] if each["reportingComponent"].startswith("aiqueue")]
    return [each["reason"] for each in sorted(found, key=lambda each: str(each["eventTime"]))]


def end_pods(stage: Stage, name: str) -> None:
    """Let the pods of a Job end by themselves."""
    names = [pod["metadata"]["name"] for pod in stage.pods(name)]
    stage.cluster.kubectl("annotate", "pod", *names, f"-n={stage.namespace}", "aiqueue.dev/dev-end=now")


def suspend(stage: Stage, name: str) -> None:
    stage.cluster.kubectl("patch", "job", name, f"-n={stage.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')


def until_nothing_is_left(stage: Stage) -> None:
    """What was done is acknowledged a moment after it can be seen."""
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")


def ends(stage: Stage, name: str) -> list[tuple[int, str]]:
    """Attempts of a Job and how they ended."""
    return [(each["attempt"], each["outcome"]) for each in stage.runs(name)]


def test_who_finishes_in_his_grace_is_finished_and_has_no_need_of_it(led: Stage) -> None:
    set_stage(led)
    run(led, "done-in-time", PATIENT, pods=2)
    turn(led, "Drain")
    deadline = until_noticed(led, "done-in-time")
    assert led.runs("done-in-time")[0]["evict_at"] == deadline
    assert timedelta(minutes=9) < deadline - datetime.now(UTC) <= timedelta(minutes=10)
    led.until(
        lambda: (
            [pod["metadata"]["annotations"].get(NOTE) for pod in led.pods("done-in-time")]
            == [led.job("done-in-time")["metadata"]["annotations"][NOTE]] * 2
        ),
        "both pods to have it too",
    )
    assert led.workload("done-in-time")["state"] == "Evicting"
    assert led.used() == 16
    end_pods(led, "done-in-time")
    led.until_state("done-in-time", "Finished")
    assert ends(led, "done-in-time") == [(1, "Finished")]
    led.until(lambda: led.used() == 0, "its room to be free at once")
    led.until(lambda: events(led, "done-in-time") == ["Admitted", "EvictionNotice"], "that to be told")
    until_nothing_is_left(led)


def test_quota_comes_back_when_the_pods_are_gone_and_not_before(led: Stage) -> None:
    """They ignore the signal for a while; then the Job waits again, as old as it was."""
    set_stage(led)
    made = run(led, "slow", pod_annotations=LASTING)
    before = led.workload("slow")
    turn(led, "Drain")
    led.until_state("slow", "Releasing")
    (stopped,) = led.runs("slow")
    assert stopped["stopped_at"] >= stopped["evict_at"]
    assert led.job("slow")["spec"]["suspend"] is True
    led.until_stopping("slow")
    assert len(led.living("slow")) == 1
    assert led.used() == 8
    (still,) = led.rows("SELECT clock_timestamp() AS held")
    led.let_stop("slow")
    after = led.until_state("slow", "Pending")
    assert led.living("slow") == []
    (closed,) = led.runs("slow")
    assert (closed["outcome"], closed["message"]) == ("Drained", f"queue {led.namespace}/train is being drained")
    assert closed["stopped_at"] <= still["held"] <= closed["closed_at"]
    kept = ("id", "created_at", "observed_at", "attempt")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    led.until(lambda: "aiqueue.dev/run" not in led.job("slow")["metadata"]["annotations"], "the template to be put back")
    now = led.job("slow")
    assert now["spec"]["template"] == made["spec"]["template"]
    assert not {NOTE, "aiqueue.dev/stopped"} & now["metadata"]["annotations"].keys()
    led.until(lambda: events(led, "slow") == ["Admitted", "EvictionNotice", "Evicted", "Requeued"], "that to be told")


def test_a_node_that_is_dead_keeps_its_quota_until_somebody_says_that_the_pods_are_gone(led: Stage) -> None:
    set_stage(led)
    led.tenants(gpus=8)
    run(led, "stranded", pod_annotations=LASTING)
    led.apply(
        f"{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: next, namespace: {led.namespace}}}, spec: {{tenant: research}}}}"
    )
    turn(led, "Drain")
    led.until_state("stranded", "Releasing")
    led.create_job("waits", queue="next", labels=BRIEF)
    led.until(
        lambda: led.rows("SELECT 1 FROM workload_decision WHERE reason = 'WaitingForVictims'") or None, "the next to wait"
    )
    (claim,) = led.rows("SELECT c.run_ids, w.name FROM claim c JOIN workload w ON w.id = c.workload_id")
    assert (claim["name"], list(claim["run_ids"])) == ("waits", [led.runs("stranded")[0]["id"]])
    led.until_stopping("stranded")
    (pod,) = led.pods("stranded")
    assert led.used() == 8
    assert led.workload("waits")["state"] == "Pending"
    led.cluster.kubectl("delete", "pod", pod["metadata"]["name"], f"-n={led.namespace}", "--grace-period=0", "--force")
    led.until_state("waits", "Admitted")
    assert ends(led, "stranded") == [(1, "Drained")]
    assert led.rows("SELECT * FROM claim") == []


def test_who_is_deleted_in_his_grace_leaves_his_room_when_his_pods_are_gone(led: Stage) -> None:
    set_stage(led)
    run(led, "deleted", PATIENT, pod_annotations={"aiqueue.dev/dev-termination": "1s"})
    turn(led, "Drain")
    until_noticed(led, "deleted")
    led.cluster.kubectl("delete", "job", "deleted", f"-n={led.namespace}", "--cascade=background", "--wait=false")
    led.until_state("deleted", "Cancelled")
    led.until(lambda: led.used() == 0, "its room to be free")
    assert ends(led, "deleted") == [(1, "Drained")]
    until_nothing_is_left(led)


def test_who_is_suspended_by_his_owner_in_his_grace_stays_so(led: Stage) -> None:
    """He made room as he was told to, and is not started again before his owner says so."""
    set_stage(led)
    run(led, "mine", PATIENT)
    turn(led, "Drain")
    until_noticed(led, "mine")
    suspend(led, "mine")
    led.until_state("mine", "Held")
    assert ends(led, "mine") == [(1, "Drained")]
    assert led.used() == 0
    turn(led, "Active")
    led.until(lambda: not led.rows("SELECT 1 FROM action"), "the template to be put back")
    run(led, "other", PATIENT)
    assert led.workload("mine")["state"] == "Held"
    assert led.job("mine")["spec"]["suspend"] is True
    led.cluster.kubectl("annotate", "job", "mine", f"-n={led.namespace}", "aiqueue.dev/hold=false")
    led.until_running("mine")
    led.until(lambda: ends(led, "mine") == [(1, "Drained"), (2, "Running")], "its second run")
    assert NOTE not in led.job("mine")["metadata"]["annotations"]


def test_a_job_over_its_time_is_expired_and_not_taken_up_again(led: Stage) -> None:
    set_stage(led)
    led.create_job("limited", labels=BRIEF, annotations={"aiqueue.dev/max-runtime": "3s"})
    ended = led.until_state("limited", "Expired")
    assert ends(led, "limited") == [(1, "Expired")]
    assert ended["ran_seconds"] >= 3
    assert led.used() == 0
    (condition,) = [each for each in led.job("limited")["status"]["conditions"] if each["type"] == "Failed"]
    assert condition["reason"] == "DeadlineExceeded"
    led.until(lambda: events(led, "limited") == ["Admitted", "EvictionNotice", "Expired"], "that to be told")
    led.until(lambda: noticed(led, str(ended["uid"])), "the audit log to have its notice")
    until_nothing_is_left(led)


@pytest.mark.parametrize("deadline", [2, 3600], ids=["sooner", "later"])
def test_a_deadline_of_its_owners_is_its_owners(led: Stage, deadline: int) -> None:
    """A Job that ends by it has failed; one that it would let go on for longer is over its time."""
    set_stage(led)
    name = f"deadline-{deadline}"
    limit = {"aiqueue.dev/max-runtime": "1h" if deadline == 2 else "2s"}
    led.create_job(name, labels=BRIEF, annotations=limit, activeDeadlineSeconds=deadline)
    led.until_state(name, "Failed" if deadline == 2 else "Expired")
    assert ends(led, name) == [(1, "Failed" if deadline == 2 else "Expired")]


KILLS = (
    "commit.after",
    "act.before-announce",
    "act.after-announce",
    "act.before-suspend",
    "act.after-suspend",
    "close.before",
    "close.after",
    "act.before-restore",
    "act.after-restore",
)


def test_killed_in_each_phase_an_eviction_goes_its_way(stage: Stage) -> None:
    """One controller after the other is killed, each a phase further: notice, stop, release and restoration happen all the same."""
    stage.tenants()
    stage.apply("{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: long}, spec: {gracePeriod: 1h}}")
    leader = stage.lead()
    made = run(stage, "often", {"aiqueue.dev/class": "long"}, pod_annotations={"aiqueue.dev/dev-termination": "1s"})
    before = stage.workload("often")
    leader.kill()
    turn(stage, "Drain")
    for point in KILLS:
        if point == "act.before-suspend":
            told_in_time(stage, "often")
        victim = stage.start(faults=f"{point}=kill")
        stage.expire_lease()
        stage.until(victim.ended, f"a controller to be killed at {point}")
        assert victim.process.returncode == -signal.SIGKILL
        # Quota is taken as long as there may be pods.
        assert stage.used() == 8 or stage.living("often") == []
        assert len(stage.runs("often")) == 1
    stage.expire_lease()
    last = stage.lead()
    until_nothing_is_left(stage)
    assert ends(stage, "often") == [(1, "Drained")]
    after = stage.workload("often")
    kept = ("id", "created_at", "observed_at", "attempt")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["state"] == "Pending"
    assert stage.job("often")["spec"]["template"] == made["spec"]["template"]
    turn(stage, "Active")
    stage.until(lambda: ends(stage, "often") == [(1, "Drained"), (2, "Running")], "its second run")
    stage.until_running("often")
    stage.until(lambda: len(stage.unsuspends(made["metadata"]["uid"])) == 2 or None, "the audit log to have both unsuspends")
    assert not last.ended()


def told_in_time(stage: Stage, name: str) -> None:
    """See that somebody tells a Job and its pods of a deadline that is far off, whoever died meanwhile; then have it come at once."""
    stage.expire_lease()
    telling = stage.lead()
    deadline = until_noticed(stage, name)
    stage.until(lambda: None not in {pod["metadata"]["annotations"].get(NOTE) for pod in stage.pods(name)}, "its pod too")
    assert datetime.now(UTC) < deadline
    stage.until(
        lambda: [each["kind"] for each in stage.rows("SELECT kind FROM action")] == ["Suspend"], "that to be acknowledged"
    )
    telling.kill()
    stage.do("UPDATE run SET evict_at = clock_timestamp()", "UPDATE action SET not_before = clock_timestamp()")
