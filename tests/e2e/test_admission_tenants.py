"""Who is admitted and who waits for what, on the real control plane: pods, the ledger and what `aiqueue explain` says.

The nodes have 32 GPUs in all; nobody gets more from quota than that, so what is admitted runs.
"""

from __future__ import annotations

import pytest

from fix_controller import GPU
from fix_tenants import Floor

pytestmark = pytest.mark.e2e

HOLD = "aiqueue.dev/hold"


def test_a_tenant_borrows_up_to_its_limit_and_what_it_borrowed_comes_back_when_the_run_ends(floor: Floor) -> None:
    stage = floor.stage
    floor.tenant("lab")
    floor.tenant("chemistry", 8, ", borrowingLimit: 8", parent="lab")
    floor.tenant("physics", 16, parent="lab", preemption="{reclaim: Never}")
    for name in ("chemistry", "physics"):
        floor.queue(name)
    for name in ("own", "borrowed"):
        floor.submit(name, "chemistry", 8)
    floor.until_running("own", "borrowed")
    # 8 GPUs of physics are idle, and chemistry may not have them.
    floor.submit("too-much", "chemistry", 8)
    waiting = floor.until_waiting("too-much", "WaitingForQuota")
    (short,) = waiting["decision"]["shortfalls"]
    assert short == {"tenant": "chemistry", "flavor": "h100", "resource": GPU, "requested": "8", "available": "0"}
    assert f"needs 8 {GPU} of flavor h100, tenant chemistry has 0 of 16 free: short by 8" in floor.sentences("too-much")
    # By its policy physics takes nothing back by force: it gets its idle half and waits for the other.
    floor.submit("lender-1", "physics", 8)
    floor.until_running("lender-1")
    floor.submit("lender-2", "physics", 8)
    waiting = floor.until_waiting("lender-2", "WaitingForQuota")
    assert {holder["name"] for holder in waiting["decision"]["holders"]} >= {"borrowed"}
    assert f"needs 8 {GPU} of flavor h100, tenant physics has 0 of 24 free: short by 8" in floor.sentences("lender-2")
    assert stage.used() == 24
    assert floor.outcomes("own", "borrowed", "lender-1") == ["Running"] * 3
    # It was asked for later than `too-much`, and is within what is its own.
    floor.end("borrowed")
    floor.until_running("lender-2")
    floor.until_waiting("too-much", "WaitingForQuota")
    floor.end("lender-1")
    floor.until_running("too-much")
    assert floor.outcomes("own", "borrowed", "lender-1", "lender-2", "too-much") == [
        "Running",
        "Finished",
        "Finished",
        "Running",
        "Running",
    ]


def test_of_two_tenants_that_want_more_each_gets_the_share_of_its_weight(floor: Floor) -> None:
    stage = floor.stage
    floor.tenant("university", 6, state="Hold")
    floor.tenant("one", 0, parent="university")
    floor.tenant("two", 0, parent="university", weight="2")
    for name in ("one", "two"):
        floor.queue(name)
    # All of the lighter tenant's work is older.
    names = {queue: [f"{queue}-{number}" for number in range(6)] for queue in ("one", "two")}
    for queue, jobs in names.items():
        for name in jobs:
            floor.submit(name, queue, 1)
    floor.until_waiting("one-0", "TenantClosed")
    floor.tenant("university", 6)
    stage.until(lambda: stage.used() == 6, "all GPUs to be in use")
    floor.until_running("one-0", "one-1", "two-0", "two-1", "two-2", "two-3")
    floor.until_waiting("one-2", "WaitingForQuota")
    waiting = floor.until_waiting("two-5", "WaitingForQuota")
    assert {holder["name"].partition("-")[0] for holder in waiting["decision"]["holders"]} == {"one", "two"}
    # The place of one that ends goes to who has less for its weight now.
    floor.end("one-0")
    floor.until_running("one-2")
    floor.end("two-0")
    floor.until_running("two-4")
    assert [stage.workload(name)["state"] for name in ("one-3", "two-5")] == ["Pending", "Pending"]


@pytest.mark.parametrize(("held", "reason"), [("tenant", "TenantClosed"), ("queue", "QueueClosed")], ids=["tenant", "queue"])
def test_hold_admits_nothing_new_and_lets_go_on_what_runs(floor: Floor, held: str, reason: str) -> None:
    name = f"resting-{held}"

    def put(state: str) -> None:
        floor.tenant(name, 16, state=state if held == "tenant" else "Active")
        floor.queue(name, state if held == "queue" else "Active")

    put("Active")
    before, after = f"before-{held}", f"after-{held}"
    floor.submit(before, name, 8)
    floor.until_running(before)
    put("Hold")
    floor.submit(after, name, 8)
    floor.until_waiting(after, reason)
    said = floor.sentences(after)
    assert f"It waits: {reason}" in said
    what = f"tenant {name}" if held == "tenant" else f"queue {floor.namespace}/{name}"
    assert f"{what} is in state Hold" in said
    assert f"what would change it: {what} set to Active" in said
    assert floor.outcomes(before) == ["Running"]
    put("Active")
    floor.until_running(before, after)
    assert floor.stage.used() == 16


def test_a_job_that_its_owner_holds_waits_though_there_is_room_and_is_passed(floor: Floor) -> None:
    floor.tenant("ready", 8, queueing="Strict")
    floor.queue("ready")
    held = floor.submit("held", "ready", 8, annotations={HOLD: "true"})
    floor.stage.until_state("held", "Held")
    floor.submit("passes", "ready", 8)
    floor.until_running("passes")
    floor.until_waiting("held", "WorkloadHeld")
    assert "is held" in floor.sentences("held")
    floor.end("passes")
    floor.until_waiting("held", "WorkloadHeld")
    assert floor.stage.used() == 0
    floor.alice.patch(held, {"metadata": {"annotations": {HOLD: "false"}}})
    floor.until_running("held")


def test_strict_blocks_what_is_behind_its_head_and_best_effort_lets_it_pass(floor: Floor) -> None:
    for name, queueing in (("in-line", "Strict"), ("at-will", "BestEffort")):
        floor.tenant(name, 16, queueing=queueing)
        floor.queue(name)
        for job, gpus in (("runs", 8), ("big", 16), ("small", 8)):
            floor.submit(f"{job}-{name}", name, gpus)
    floor.until_running("runs-in-line", "runs-at-will", "small-at-will")
    for name in ("in-line", "at-will"):
        floor.until_waiting(f"big-{name}", "WaitingForQuota")
    waiting = floor.until_waiting("small-in-line", "BehindHead")
    head = f"{floor.namespace}/big-in-line"
    assert waiting["decision"]["details"]["head"] == head
    assert f"tenant in-line is Strict and its head {head} waits for quota: nothing behind it is admitted" in floor.sentences(
        "small-in-line"
    )
    assert (waiting["position"], waiting["waitingInTenant"]) == (2, 2)
    assert floor.stage.used() == 24
    floor.end("runs-in-line")
    floor.until_running("big-in-line")
    floor.until_waiting("small-in-line", "WaitingForQuota")
    floor.end("runs-at-will")
    floor.until_waiting("big-at-will", "WaitingForQuota")
    floor.end("small-at-will")
    floor.until_running("big-at-will")
