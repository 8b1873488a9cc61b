"""What Kubernetes does to Jobs by itself, with aiqueue between: schedules, time to live, retries, replacements, deadlines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aiqueue.cli.harness.waiting import until
from fix_controller import Stage, job
from fix_life import BRIEF, MERGE_PATCH, check, end_pods, exists, give, suspend
from fix_managed import WAIT_SECONDS, send

pytestmark = pytest.mark.e2e

#: Its pods go when the test says so (`Stage.let_stop`).
SLOW = {"aiqueue.dev/dev-termination": "1h"}


DEADLINE_SECONDS = 8


def failing(code: int = 1) -> dict[str, str]:
    """Annotations of pods that fail when they end."""
    return {"aiqueue.dev/dev-exit-code": str(code)}


class TestSchedules:
    """A CronJob's Jobs wait suspended, and are active for Kubernetes all the while."""

    @dataclass
    class Schedule:
        """A CronJob whose times are minutes that are over, so that it is due as soon as it is asked."""

        stage: Stage
        name: str
        began: datetime = field(default_factory=lambda: datetime.now(UTC))

        def create(self, policy: str, queue: str) -> None:
            template = job(self.stage.namespace, "any", queue=queue, gpus=4)
            content = {
                "apiVersion": "batch/v1",
                "kind": "CronJob",
                "metadata": {"name": self.name, "namespace": self.stage.namespace},
                "spec": {
                    "schedule": self._of(minutes_ago=2),
                    "timeZone": "Etc/UTC",
                    "concurrencyPolicy": policy,
                    "jobTemplate": {"metadata": {"labels": template["metadata"]["labels"]}, "spec": template["spec"]},
                },
            }
            self._send("POST", "", content)
            before = (datetime.now(UTC) - timedelta(minutes=10)).strftime("%Y-%m-%dT%H:%M:%SZ")
            self._send("PATCH", f"/{self.name}/status", {"status": {"lastScheduleTime": before}})

        def again(self) -> None:
            """It is due once more."""
            self._send("PATCH", f"/{self.name}", {"spec": {"schedule": self._of(minutes_ago=1)}})
            self._send("PATCH", f"/{self.name}", {"metadata": {"annotations": {"due": "again"}}})

        def jobs(self) -> list[str]:
            """Its Jobs, oldest first."""
            found = self._send("GET", "", jobs=True)["items"]
            mine = [each for each in found if each["metadata"]["name"].startswith(f"{self.name}-")]
            return sorted(each["metadata"]["name"] for each in mine)

        def replaced(self, old: str) -> list[str] | None:
            """Its Jobs once this one is gone and another is there: between the two there is a moment with none."""
            found = self.jobs()
            return found if found and old not in found else None

        def refused_a_second(self) -> bool:
            """Whether Kubernetes said that it does not start another one."""
            where = f"/api/v1/namespaces/{self.stage.namespace}/events?fieldSelector=involvedObject.name%3D{self.name}"
            return any(each["reason"] == "JobAlreadyActive" for each in self.stage.cluster.api.call("GET", where)["items"])

        def _of(self, minutes_ago: int) -> str:
            """The schedule that was due so many minutes before the minute in which it was created."""
            return f"{(self.began - timedelta(minutes=minutes_ago)).minute} * * * *"

        def _send(self, method: str, path: str, body: object = None, *, jobs: bool = False) -> dict[str, Any]:
            folder = f"/apis/batch/v1/namespaces/{self.stage.namespace}/{'jobs' if jobs else 'cronjobs'}{path}"
            content = MERGE_PATCH if method == "PATCH" else "application/json"
            return send(self.stage.cluster, self.stage.cluster.kubeconfig, method, folder, body, content_type=content)

        def end(self) -> None:
            self._send("DELETE", f"/{self.name}")

    @pytest.fixture
    @staticmethod
    def schedules(led: Stage) -> Iterator[dict[str, Schedule]]:
        """One of each policy for a queue with room, and for one without."""
        give(led, "room", 16)
        give(led, "crammed", 4)
        led.create_job("crams", queue="crammed", gpus=4)
        led.until_running("crams")
        made = {}
        for policy in ("Allow", "Forbid", "Replace"):
            for queue in ("room", "crammed"):
                one = made[f"{policy} {queue}"] = TestSchedules.Schedule(led, f"{policy.lower()}-{queue}")
                one.create(policy, queue)
        yield made
        for one in made.values():
            one.end()

    def test_each_concurrency_policy_does_what_it_says(self, led: Stage, schedules: dict[str, Schedule]) -> None:
        first: dict[str, str] = {}
        for which, one in schedules.items():
            first[which] = led.until(lambda one=one: one.jobs() or None, f"{one.name} to create a Job")[0]  # type: ignore[misc]
        for which, name in first.items():
            led.until_state(name, "Admitted" if which.endswith("room") else "Pending")
            if which.endswith("room"):
                led.until_running(name)
        for one in schedules.values():
            one.again()
        for queue in ("room", "crammed"):
            # A Job that waits is active: another one is not begun beside it where that is forbidden.
            forbid, allow, replace = (schedules[f"{policy} {queue}"] for policy in ("Forbid", "Allow", "Replace"))
            led.until(lambda one=forbid: one.refused_a_second(), "the second Job to be forbidden")  # type: ignore[misc]
            assert forbid.jobs() == [first[f"Forbid {queue}"]]
            led.until(lambda one=allow: len(one.jobs()) == 2, "the second Job to be created")  # type: ignore[misc]
            # Whether it runs or waits, it makes place for the next.
            old = first[f"Replace {queue}"]
            (new,) = led.until(lambda one=replace, old=old: one.replaced(old), "the first Job to be replaced")  # type: ignore[misc]
            led.until_state(old, "Cancelled")
            led.until_state(new, "Admitted" if queue == "room" else "Pending")
        (new,) = schedules["Replace room"].jobs()
        led.until_running(new)
        led.until(lambda: led.used() == 4 + 16, "whoever has room to run: two allowed, one alone, and one in place of another")
        check(led, **{first["Replace room"]: ["Cancelled"], first["Replace crammed"]: [], new: ["Running"]})
        assert {led.workload(name)["owner"] for name in first.values()} == {f"CronJob/{one.name}" for one in schedules.values()}


def test_a_job_that_is_deleted_as_soon_as_it_has_ended_is_told_by_how_it_ended(led: Stage) -> None:
    give(led, "brief", 8)
    names = [f"{kind}-{number}" for kind in ("done", "fails") for number in range(4)]
    for name in names:
        notes = failing() if name.startswith("fails") else None
        led.create_job(name, queue="brief", gpus=1, runtime="50ms", ttlSecondsAfterFinished=0, pod_annotations=notes)
    for name in names:
        led.until_state(name, "Finished" if name.startswith("done") else "Failed")
    led.until(lambda: not any(exists(led, name) for name in names), "Kubernetes to delete them")
    check(led, **{name: ["Finished" if name.startswith("done") else "Failed"] for name in names})
    assert led.used() == 0


def test_of_whatever_kind_it_is_a_job_has_one_run_to_its_end(led: Stage) -> None:
    give(led, "kinds", 16)
    indexed = {"completionMode": "Indexed"}
    one_fails = {**failing(), "aiqueue.dev/dev-only-index": "1"}
    led.create_job("retries", queue="kinds", gpus=1, backoffLimit=1, runtime="50ms", pod_annotations=failing())
    led.create_job(
        "by-index",
        **indexed,
        queue="kinds",
        pods=3,
        gpus=1,
        backoffLimit=None,
        backoffLimitPerIndex=0,
        maxFailedIndexes=2,
        runtime="50ms",
        pod_annotations=one_fails,
    )
    led.create_job(
        "too-many",
        **indexed,
        queue="kinds",
        pods=2,
        gpus=1,
        backoffLimit=None,
        backoffLimitPerIndex=0,
        maxFailedIndexes=0,
        pod_annotations=one_fails,
    )
    rules = {"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}]}
    led.create_job(
        "policy", queue="kinds", gpus=1, backoffLimit=6, podFailurePolicy=rules, runtime="50ms", pod_annotations=failing(42)
    )
    success = {"rules": [{"succeededIndexes": "0", "succeededCount": 1}]}
    led.create_job("succeeds", **indexed, queue="kinds", pods=3, gpus=1, successPolicy=success, pod_annotations=SLOW)
    led.create_job("work-queue", queue="kinds", pods=2, gpus=1, completions=None)
    for name, pods in (("too-many", 2), ("succeeds", 3), ("work-queue", 2)):
        led.until_running(name, pods)
    end_pods(led, "too-many", 1)
    end_pods(led, "succeeds", 0)
    end_pods(led, "work-queue")
    # The criteria are met, the other pods are going: what they hold is held.
    led.until(lambda: "SuccessCriteriaMet" in conditions(led, "succeeds"), "one to have been enough")
    led.until_stopping("succeeds")
    assert "Complete" not in conditions(led, "succeeds")
    assert led.runs("succeeds")[0]["closed_at"] is None
    led.let_stop("succeeds")
    ended = {
        "retries": "Failed",
        "by-index": "Failed",
        "too-many": "Failed",
        "policy": "Failed",
        "succeeds": "Finished",
        "work-queue": "Finished",
    }
    for name, state in ended.items():
        led.until_state(name, state)
    reasons = {name: conditions(led, name)["Failed"] for name, state in ended.items() if state == "Failed"}
    assert reasons == {
        "retries": "BackoffLimitExceeded",
        "by-index": "FailedIndexes",
        "too-many": "MaxFailedIndexesExceeded",
        "policy": "PodFailurePolicy",
    }
    assert led.job("retries")["status"]["failed"] == 2
    check(led, **{name: [state] for name, state in ended.items()})
    assert led.used() == 0


def conditions(stage: Stage, name: str) -> dict[str, str]:
    """Reasons of the conditions of a Job that hold, by type."""
    found = stage.job(name)["status"].get("conditions", ())
    return {each["type"]: each.get("reason", "") for each in found if each["status"] == "True"}


def test_whoever_is_put_out_starts_anew_when_its_pods_are_gone_and_so_does_its_deadline(led: Stage) -> None:
    give(led, "replaces", 8)
    for name, policy in (("at-once", "TerminatingOrFailed"), ("when-failed", "Failed")):
        led.create_job(name, queue="replaces", gpus=2, labels=BRIEF, podReplacementPolicy=policy, pod_annotations=SLOW)
        led.until_running(name)
    led.create_job("deadline", queue="replaces", gpus=2, labels=BRIEF, activeDeadlineSeconds=DEADLINE_SECONDS)
    led.until(lambda: led.job("deadline")["status"].get("startTime"), "the one with a deadline to be started")
    began = led.job("deadline")["status"]["startTime"]
    give(led, "replaces", 8, "Drain")
    names = ("at-once", "when-failed", "deadline")
    for name in ("at-once", "when-failed"):
        led.until_state(name, "Releasing")
        led.until_stopping(name)
    assert led.used() >= 4
    assert {len(led.pods(name)) for name in ("at-once", "when-failed")} == {1}
    for name in ("at-once", "when-failed"):
        led.let_stop(name)
    led.until(lambda: led.used() == 0, "their pods to be gone")
    assert [pod for name in names for pod in led.living(name)] == []
    # Kubernetes counts the owner's deadline from when the Job was last resumed.
    time_over = datetime.fromisoformat(began) + timedelta(seconds=DEADLINE_SECONDS + 1)
    until(lambda: datetime.now(UTC) > time_over, seconds=WAIT_SECONDS, what="the first deadline to be past")
    assert led.workload("deadline")["state"] == "Pending"
    give(led, "replaces", 8)
    for name in names:
        led.until(lambda name=name: len(led.runs(name)) == 2, f"{name} to be admitted again")  # type: ignore[misc]
    for name in ("at-once", "when-failed"):
        led.until_running(name)
    led.until_state("deadline", "Failed")
    assert led.job("deadline")["status"]["startTime"] > began
    assert conditions(led, "deadline")["Failed"] == "DeadlineExceeded"
    twice = ["Drained", "Running"]
    check(led, at_once=twice, when_failed=twice, deadline=["Drained", "Failed"])
    assert led.used() == 4
    for name in ("at-once", "when-failed"):
        suspend(led, name)
        led.let_stop(name)
        led.until_state(name, "Held")
