"""Room is made for who has the better claim, on a real control plane: whose turn it is, until when, and who gets what is vacated."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from fix_controller import Stage
from fix_tenants import FLAVOR, Floor

pytestmark = pytest.mark.e2e

CLASSES = """
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: low}, spec: {priority: 1, gracePeriod: 1s}}
---
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: slow}, spec: {priority: 1, gracePeriod: 10m}}
---
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: settled}, spec: {priority: 1, gracePeriod: 1s, minRuntime: 6s}}
---
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: high}, spec: {priority: 1000, gracePeriod: 1s}}
"""


def of_class(name: str) -> dict[str, Any]:
    return {"labels": {"aiqueue.dev/class": name}}


@pytest.fixture
def arena(floor: Floor) -> Floor:
    """The floor, with classes of little and of much priority and grace."""
    floor.stage.apply(CLASSES)
    return floor


def open_tenant(floor: Floor, name: str, gpus: int, **spec: str) -> None:
    """A tenant of so many GPUs, and the queue of its name."""
    floor.tenant(name, gpus, **spec)
    floor.queue(name)


def until_waiting_for_victims(floor: Floor, name: str) -> list[int]:
    """Wait until a Job has a claim; returns the runs that it waits for."""
    statement = "SELECT c.run_ids FROM claim c JOIN workload w ON w.id = c.workload_id WHERE w.name = :name"
    floor.stage.until(lambda: floor.stage.rows(statement, name=name) or None, f"{name} to have a claim")
    floor.until_waiting(name, "WaitingForVictims")
    (claim,) = floor.stage.rows(statement, name=name)
    return list(claim["run_ids"])


def until_evicting(floor: Floor, name: str) -> Mapping[str, Any]:
    """Wait until the last run of a Job was told to end, and its Job knows; returns the run."""

    def noticed() -> bool:
        return "aiqueue.dev/evict-at" in floor.stage.job(name)["metadata"]["annotations"]

    floor.stage.until(noticed, f"{name} to have notice")
    return floor.stage.runs(name)[-1]


def end_pods(floor: Floor, name: str) -> None:
    """Let the pods of a Job end by themselves."""
    pods = [pod["metadata"]["name"] for pod in floor.stage.pods(name)]
    floor.alice.kubectl("annotate", "pod", *pods, f"-n={floor.namespace}", "aiqueue.dev/dev-end=now")


def test_within_a_tenant_the_higher_priority_has_the_lower_put_out(arena: Floor) -> None:
    open_tenant(arena, "within", 32)
    arena.submit("low", "within", 16, **of_class("low"), pod_annotations={"aiqueue.dev/dev-termination": "1h"})
    arena.submit("peer", "within", 16, **of_class("high"))
    arena.until_running("low", "peer")
    before = arena.stage.workload("low")
    arena.submit("high", "within", 16, **of_class("high"))
    assert until_waiting_for_victims(arena, "high") == [arena.stage.runs("low")[0]["id"]]
    arena.stage.until_state("low", "Releasing")
    arena.stage.let_stop("low")
    arena.until_running("high")
    (victim,) = arena.stage.runs("low")
    claimant = arena.stage.workload("high")
    assert (victim["outcome"], victim["preempted_by"], victim["evict_rule"]) == ("Preempted", claimant["id"], "WithinTenant")
    assert f"{arena.namespace}/high" in victim["message"]
    assert arena.stage.runs("high")[0]["opened_at"] >= victim["closed_at"]
    after = arena.stage.until_state("low", "Pending")
    kept = ("id", "created_at", "observed_at", "attempt")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert arena.outcomes("peer") == ["Running"]
    assert arena.stage.used() == 32
    end_pods(arena, "high")
    arena.until_running("low")
    assert arena.outcomes("low") == ["Preempted", "Running"]


def test_a_tenant_takes_its_own_back_from_who_borrows_but_lets_him_run_for_his_time(arena: Floor) -> None:
    arena.tenant("lab")
    open_tenant(arena, "owner", 16, parent="lab")
    open_tenant(arena, "guest", 16, parent="lab")
    arena.submit("guest-own", "guest", 16, **of_class("settled"))
    arena.submit("guest-lent", "guest", 16, **of_class("settled"))
    arena.until_running("guest-own", "guest-lent")
    arena.submit("owner-1", "owner", 16, **of_class("low"))
    arena.until_running("owner-1")
    (evicted,) = [run for name in ("guest-own", "guest-lent") for run in arena.stage.runs(name) if run["evict_at"] is not None]
    assert (evicted["outcome"], evicted["evict_rule"]) == ("Preempted", "WithinNominal")
    assert evicted["evict_at"] >= evicted["opened_at"] + timedelta(seconds=6)
    assert evicted["stopped_at"] >= evicted["evict_at"]
    assert arena.stage.used() == 32


def test_room_that_comes_sooner_is_the_claimants_at_once_and_nobody_slips_in(arena: Floor) -> None:
    open_tenant(arena, "sooner", 32)
    arena.submit("vacates", "sooner", 16, **of_class("slow"))
    arena.submit("stays", "sooner", 16, **of_class("high"))
    arena.until_running("vacates", "stays")
    arena.submit("claims", "sooner", 16, **of_class("high"))
    until_waiting_for_victims(arena, "claims")
    until_evicting(arena, "vacates")
    arena.submit("small", "sooner", 8, **of_class("low"))
    arena.stage.until(lambda: arena.explained("small")["stored"], "a word on who came last")
    end_pods(arena, "vacates")
    arena.until_running("claims")
    assert arena.outcomes("vacates") == ["Finished"]
    assert arena.stage.rows("SELECT * FROM claim") == []
    arena.assert_untouched("small")


def test_when_the_claimant_is_deleted_the_victims_leave_and_the_room_is_anybodys(arena: Floor) -> None:
    open_tenant(arena, "vain", 32)
    arena.stage.apply(
        "{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: soon}, spec: {priority: 1, gracePeriod: 10s}}"
    )
    arena.submit("told", "vain", 32, **of_class("soon"))
    arena.until_running("told")
    arena.submit("whim", "vain", 32, **of_class("high"))
    until_waiting_for_victims(arena, "whim")
    until_evicting(arena, "told")
    arena.submit("modest", "vain", 16, **of_class("soon"))
    arena.alice.kubectl("delete", "job", "whim", f"-n={arena.namespace}")
    arena.stage.until_state("whim", "Cancelled")
    arena.stage.until(lambda: arena.outcomes("told")[0] == "Preempted", "who was told to leave")
    arena.stage.until(lambda: arena.stage.used() == 32 or arena.outcomes("modest") == ["Running"], "the room to be used")
    assert arena.stage.rows("SELECT * FROM claim WHERE workload_id = :id", id=arena.stage.workload("whim")["id"]) == []


def test_the_next_leader_knows_who_waits_for_whom(stage: Stage) -> None:
    """Killed after it has told the victim to leave: nobody is told twice, nobody else gets the room."""
    quick = {"lease_seconds": "1"}
    stage.apply(FLAVOR)
    stage.apply(CLASSES)
    stage.tenants(gpus=8)
    first = stage.lead(**quick)
    stage.create_job("victim", labels={"aiqueue.dev/class": "low"}, pod_annotations={"aiqueue.dev/dev-termination": "1s"})
    stage.until_running("victim")
    first.kill()
    second = stage.start(faults="commit.after=kill", **quick)
    stage.create_job("claimant", labels={"aiqueue.dev/class": "high"})
    stage.until(second.ended, "the controller to be killed after its Plan")
    (told,) = stage.runs("victim")
    assert told["evict_outcome"] == "Preempted"
    (claim,) = stage.rows("SELECT * FROM claim")
    assert list(claim["run_ids"]) == [told["id"]]
    stage.create_job("rival", labels={"aiqueue.dev/class": "low"})
    stage.lead(**quick)
    stage.until_running("claimant")
    (left,) = stage.runs("victim")
    assert (left["outcome"], left["evict_at"]) == ("Preempted", told["evict_at"])
    assert stage.runs("rival") == []
    assert stage.rows("SELECT * FROM claim") == []
    assert stage.used() == 8
