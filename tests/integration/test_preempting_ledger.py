"""Preemption on a real ledger: what is decided is committed, and whoever takes over at any moment goes on just so."""

from __future__ import annotations

from random import Random

import pytest

from aiqueue.queue.words import PreemptionRule, RunOutcome, WorkloadState
from fix_follow import GPU
from fix_leading import Leading

pytestmark = pytest.mark.integration


def tenant(name: str, nominal: int, more: str = "") -> str:
    quotas = f"[{{flavor: h100, resources: [{{name: {GPU}, nominal: {nominal}}}]}}]"
    return f"{{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {{name: {name}}}, spec: {{parent: lab, quotas: {quotas}{more}}}}}"


def queue(name: str, of: str, state: str = "Active") -> str:
    spec = f"{{tenant: {of}, state: {state}}}"
    return f"{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: {name}, namespace: team-a}}, spec: {spec}}}"


def job_class(name: str, priority: int, more: str = "") -> str:
    spec = f"{{priority: {priority}, gracePeriod: 60s{more}}}"
    return f"{{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {{name: {name}}}, spec: {spec}}}"


OBJECTS = (
    "{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {name: lab}}",
    tenant("research", 16),
    tenant("ops", 16),
    queue("train", "research"),
    queue("ops", "ops"),
    job_class("normal", 0),
    job_class("urgent", 10),
    job_class("short", 0, ", maxRuntime: 1h"),
)


@pytest.fixture
def lent(leading: Leading) -> Leading:
    """Two tenants of 16 GPUs each in one tree; four Jobs of 8 of the first have them all."""
    leading.configure(*OBJECTS)
    for number in range(1, 5):
        leading.submit(f"lent-{number}", "train", 8, "normal")
    leading.round()
    assert leading.engine.usage() == {("research", "h100", GPU): 32}
    return leading


def reclaim(leading: Leading) -> list[str]:
    """The other tenant asks for what is its own; answers the Jobs that are to make room for it."""
    leading.submit("own", "ops", 16, "normal")
    leading.round()
    told = leading.rows(
        "SELECT w.name, r.evict_rule, r.evict_outcome, r.preempted_by, w.state FROM run r JOIN workload w ON w.id = r.workload_id"
        " WHERE r.evict_at IS NOT NULL ORDER BY w.name"
    )
    assert {(row["evict_rule"], row["evict_outcome"], row["preempted_by"], row["state"]) for row in told} == {
        (PreemptionRule.WITHIN_NOMINAL, RunOutcome.PREEMPTED, leading.id_of("own"), WorkloadState.EVICTING)
    }
    return [str(row["name"]) for row in told]


def test_a_claim_is_in_the_ledger_from_its_plan_to_the_admission_and_a_successor_knows_it(lent: Leading) -> None:
    victims = reclaim(lent)
    assert len(victims) == 2
    claim = lent.claims()["own"]
    assert set(claim.run_ids) == {lent.run_of(name) for name in victims}
    assert (claim.tenant, dict(claim.counts)) == ("ops", {"main": 16})
    lent.check_successor()
    lent.submit("late", "ops", 1, "normal")
    lent.round()
    lent.check_successor()
    for name in victims:
        assert "own" in lent.claims()
        lent.suspend(name)
        lent.check_successor()
        lent.vacate(name)
        lent.check_successor()
    lent.round()
    assert lent.claims() == {}
    assert lent.engine.usage() == {("research", "h100", GPU): 16, ("ops", "h100", GPU): 16}
    lent.check_successor()


def test_a_victim_that_finishes_first_makes_room_at_once(lent: Leading) -> None:
    for name in reclaim(lent):
        lent.finish(name)
        lent.check_successor()
    (plan,) = lent.round()
    assert [admission.workload.name for admission in plan.admissions] == ["own"]
    lent.check_successor()


@pytest.mark.parametrize(
    ("how", "waits"), [("deleted", False), ("held", False), ("another shape", True), ("another queue", True)]
)
def test_who_wants_something_else_claims_nothing_more_and_a_successor_agrees(lent: Leading, how: str, waits: bool) -> None:
    """Those who were told to make room go all the same, so nobody has to for what is asked for now; it is let in when they have."""
    victims = reclaim(lent)
    match how:
        case "deleted":
            lent.delete("own")
        case "held":
            lent.change("own", held_by_owner=True)
        case "another shape":
            lent.change("own", class_name="urgent", shape="f" * 40)
        case "another queue":
            lent.change("own", queue_name="train")
    plans = lent.round()
    lent.check_successor()
    assert lent.claims() == {}
    assert not any(plan.evictions for plan in plans)
    for name in victims:  # notice is not taken back
        lent.suspend(name)
        lent.vacate(name)
        plans += lent.round()
        lent.check_successor()
    assert ("own" in [admission.workload.name for plan in plans for admission in plan.admissions]) == waits


def test_a_successor_withdraws_a_claim_that_means_nothing_any_more(lent: Leading) -> None:
    """Here an older controller that leads in between, and knows of no claims, admits its workload."""
    victims = reclaim(lent)
    lent.do("CREATE TABLE kept AS SELECT * FROM claim")
    for name in victims:
        lent.suspend(name)
        lent.vacate(name)
    plan = lent.plan()
    assert [admission.workload.name for admission in plan.admissions] == ["own"]
    lent.commit(plan)
    lent.do("INSERT INTO claim SELECT * FROM kept")
    lent.succeed()
    assert lent.engine.claims() == {}
    withdrawn, *_ = lent.round()
    assert withdrawn.withdrawn_claims == (lent.id_of("own"),)
    assert lent.claims() == {}
    lent.check_successor()


def test_who_is_over_its_time_is_ended_for_good_and_told_before(lent: Leading) -> None:
    lent.finish("lent-1")
    lent.submit("brief", "train", 4, "short", max_runtime_seconds=1800)
    lent.round()
    assert lent.plan().evictions == ()
    lent.change("brief", max_runtime_seconds=50)  # within the grace of its class: it is told at once
    lent.check_successor()
    lent.round()
    (told,) = lent.rows(
        "SELECT r.evict_outcome, r.evict_rule, r.preempted_by, extract(epoch FROM r.evict_at - r.opened_at)::int AS lasts"
        " FROM run r JOIN workload w ON w.id = r.workload_id WHERE w.name = 'brief'"
    )
    assert told == {"evict_outcome": "Expired", "evict_rule": None, "preempted_by": None, "lasts": 50}
    todo = lent.rows("SELECT a.kind FROM action a JOIN workload w ON w.id = a.workload_id WHERE w.name = 'brief' ORDER BY a.id")
    assert [row["kind"] for row in todo] == ["Unsuspend", "Announce", "Expire"]
    lent.check_successor()


def step(leading: Leading, random: Random, number: int) -> None:
    """Something happens: any of what may."""
    known = leading.observer.step.mirror.known
    states = {name: known[f"uid-{name}"].state for name in leading.jobs}
    evicting = [name for name, state in states.items() if state is WorkloadState.EVICTING]
    releasing = [name for name, state in states.items() if state is WorkloadState.RELEASING]
    match random.randrange(12):
        case 0 | 1 | 2 | 3 | 4:
            class_name = random.choice(["normal", "normal", "urgent"])
            leading.submit(f"job-{number}", random.choice(["train", "ops"]), random.choice([1, 4, 8, 12, 16]), class_name)
        case 5 | 6 | 7 if releasing:
            leading.vacate(random.choice(releasing))
        case 5 | 6 | 7 if evicting:
            leading.suspend(random.choice(evicting))
        case 8 if evicting:
            leading.finish(random.choice(evicting))
        case 8 | 9:
            leading.delete(random.choice(sorted(leading.jobs)))
        case 10:
            leading.succeed()
        case _:
            nominal = random.choice([8, 16, 24])
            leading.configure(tenant("research", nominal), tenant("ops", 32 - nominal))


@pytest.mark.parametrize("seed", range(3))
def test_whoever_takes_over_at_any_moment_goes_on_as_its_predecessor_would_have(lent: Leading, seed: int) -> None:
    random = Random(seed)
    claimed = 0
    for number in range(25):
        step(lent, random, number)
        lent.check_successor()
        for plan in lent.round():
            claimed += len(plan.claims)
        lent.check_successor()
    assert claimed > 0
    while lent.jobs:
        lent.delete(min(lent.jobs))
        lent.round()
    assert not lent.engine.usage()
    assert not lent.claims()
    lent.check_successor()
