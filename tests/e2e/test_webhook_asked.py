"""What the API server asks the webhook about and what not, and how new the answers are."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from sqlalchemy import text

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.database import transaction
from fix_doors import Doors
from fix_managed import QUEUE, Actor
from fix_shop import a_job, change_refused, label, note, told

pytestmark = pytest.mark.e2e
WAIT_SECONDS = 60.0


def test_a_cron_jobs_job_is_refused_in_an_event(shop: Doors, alice: Actor) -> None:
    made = a_job(shop.namespace, "lost")
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "nightly", "namespace": shop.namespace},
        "spec": {
            "schedule": "0 0 1 1 *",
            "jobTemplate": {"metadata": {"labels": made["metadata"]["labels"]}, "spec": made["spec"]},
        },
    }
    path = f"/apis/batch/v1/namespaces/{shop.namespace}/cronjobs"
    alice.kubectl("create", "--filename=-", stdin=json.dumps(cron))
    # As if it had last run years ago: its time came long since, and the controller makes the Job at once.
    status = {"status": {"lastScheduleTime": "2020-01-01T00:00:00Z"}}
    api = shop.cluster.api
    api.call("PATCH", f"{path}/nightly/status", status, content_type="application/merge-patch+json")

    def message() -> str:
        events = api.call("GET", f"/api/v1/namespaces/{shop.namespace}/events?fieldSelector=reason=FailedCreate")["items"]
        return next((each["message"] for each in events if each["involvedObject"]["name"] == "nightly"), "")

    until(lambda: message() != "", seconds=WAIT_SECONDS, what="the event of the refused Job")
    api.call("DELETE", f"{path}/nightly")
    before, _, sentence = message().partition(" denied the request: Job ")
    assert before == 'Error creating job: admission webhook "jobs.aiqueue.dev"'
    assert sentence.startswith(f"{shop.namespace}/nightly-")
    assert sentence.endswith(
        f": there is no queue lost in namespace {shop.namespace}; what would change it: queue {shop.namespace}/lost created, or "
        "the label aiqueue.dev/queue set to one that exists"
    )


def test_what_nobody_is_asked_about(doors: Doors, alice: Actor, controller: Actor) -> None:
    """The webhook is gone and a request that it would be asked about fails: all that goes through, it was not asked about."""
    webhook = doors.open()
    team, api = doors.namespace, doors.cluster.api
    path = f"/apis/batch/v1/namespaces/{team}/jobs"
    merge = "application/merge-patch+json"
    waiting, going, running = (alice.create(a_job(team, name=name)) for name in ("waiting", "going", "running"))
    doors.register(webhook, failurePolicy="Fail")
    webhook.kill()

    unlabelled = alice.create(a_job(team, None, "No_Class", notes={"hold": "perhaps", "min-parallelism": "x"}))
    alice.patch(unlabelled, note("max-runtime", "y") | {"spec": {"parallelism": 7}})

    alice.patch(waiting, {"metadata": {"annotations": {"example.com/mine": "1"}, "finalizers": ["example.com/keep"]}})
    api.call("PATCH", f"{path}/waiting/status", {"status": {"active": 0}}, content_type=merge)

    controller.patch(running, {"spec": {"suspend": False}} | note("run", "ledger/1/1"))
    until(
        lambda: bool(alice.get(running)["status"].get("active")),
        seconds=WAIT_SECONDS,
        what="its pods, which the Job controller makes",
    )

    alice.patch(going, {"metadata": {"finalizers": ["example.com/keep"]}})
    api.call("DELETE", f"{path}/going?propagationPolicy=Foreground")
    alice.patch(going, note("hold", "perhaps"))
    alice.patch(going, {"metadata": {"finalizers": []}})

    for stored, change in (
        (waiting, note("hold", "true")),
        (waiting, label(team="blue")),
        (waiting, {"spec": {"parallelism": 2}}),
    ):
        with pytest.raises(HarnessError, match="failed calling webhook"):
            alice.patch(stored, change)
    with pytest.raises(HarnessError, match="failed calling webhook"):
        alice.create(a_job(team))
    alice.patch(waiting, {"metadata": {"finalizers": []}})


def test_a_job_outlives_its_queue(doors: Doors, alice: Actor) -> None:
    """Closing or deleting a queue makes none of its Jobs impossible to change, and lets no other in."""
    team = doors.namespace
    doors.open()
    inside, outside = alice.create(a_job(team, parallelism=1)), alice.create(a_job(team, "train"))
    queue = f"apiVersion: aiqueue.dev/v1\nkind: Queue\nmetadata: {{name: cpu, namespace: {team}}}\nspec: {{tenant: ops, state: Hold}}\n"
    doors.apply(queue)
    closed = f"Job {team}/{{}}: queue {team}/cpu is in state Hold; what would change it: queue {team}/cpu set to Active"
    refused = closed.format(outside["metadata"]["name"])
    until(
        lambda: _answer(alice, outside, label(queue="cpu")) == refused, seconds=WAIT_SECONDS, what="the closed queue to refuse"
    )
    changed = alice.patch(inside, note("checkpoint", "5m") | label(team="blue") | {"spec": {"backoffLimit": 3}})
    assert changed["spec"]["backoffLimit"] == 3
    assert change_refused(alice, changed, {"spec": {"parallelism": 2}}) == closed.format(inside["metadata"]["name"])
    with transaction(doors.ledger) as connection:
        connection.execute(text("DELETE FROM queue WHERE namespace = :namespace AND name = 'cpu'"), {"namespace": team})
        connection.execute(text("UPDATE config_revision SET revision = revision + 1"))
    lost = f"Job {team}/{outside['metadata']['name']}: there is no queue cpu in namespace {team}; "
    until(
        lambda: _answer(alice, outside, label(queue="cpu")).startswith(lost), seconds=WAIT_SECONDS, what="the queue to be gone"
    )
    alice.patch(inside, note("checkpoint", "6m"))
    alice.patch(inside, label(queue="train") | {"metadata": {"labels": {QUEUE: "train"}}})


def _answer(actor: Actor, stored: dict[str, Any], change: dict[str, Any]) -> str:
    """What a patch is refused with; it is put back if it is not."""
    try:
        actor.patch(stored, change)
    except HarnessError as error:
        return told(error)
    actor.patch(stored, {"metadata": {"labels": stored["metadata"]["labels"]}})
    return ""


def test_what_an_administrator_writes_holds_within_a_second(doors: Doors, alice: Actor) -> None:
    team = doors.namespace
    doors.open()
    queue = f"apiVersion: aiqueue.dev/v1\nkind: Queue\nmetadata: {{name: cpu, namespace: {team}}}\nspec: {{tenant: ops, state: STATE}}\n"
    stored = alice.create(a_job(team, "train"))
    took = []
    for _ in range(3):
        doors.apply(queue.replace("STATE", "Hold"))
        began = time.monotonic()
        until(lambda: _answer(alice, stored, label(queue="cpu")) != "", seconds=WAIT_SECONDS, what="the closed queue to refuse")
        took.append(time.monotonic() - began)
        doors.apply(queue.replace("STATE", "Active"))
        assert _answer(alice, stored, label(queue="cpu")) == "", "what was opened is open at once: the ledger is read first"
    assert min(took) < 1.0, took  # a busy machine delays any of them
