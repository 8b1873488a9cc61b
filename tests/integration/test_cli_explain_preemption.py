"""`aiqueue explain` and `get` where runs make room: both sides of a preemption, from notice to the free room and after."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import text

from aiqueue.admission.controller.commit import rows_of
from aiqueue.admission.controller.rewriting import Standing
from aiqueue.admission.engine import Engine, Plan
from aiqueue.admission.retelling import Retelling
from aiqueue.queue.database import transaction
from aiqueue.queue.store import housekeeping, plans
from aiqueue.queue.words import Reason, RunOutcome, WorkloadState
from fix_command import Command
from fix_rows import START, Rows

pytestmark = pytest.mark.integration

GPU = "nvidia.com/gpu"
OBJECTS = """
{apiVersion: aiqueue.dev/v1, kind: Flavor, metadata: {name: h100}}
---
{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {name: lab}, spec: {}}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {name: research}
spec: {parent: lab, quotas: [{flavor: h100, resources: [{name: nvidia.com/gpu, nominal: 8}]}]}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {name: product}
spec: {parent: lab, quotas: [{flavor: h100, resources: [{name: nvidia.com/gpu, nominal: 8}]}]}
---
{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {name: train, namespace: team-a}, spec: {tenant: research, defaultClass: normal}}
---
{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {name: serve, namespace: team-b}, spec: {tenant: product, defaultClass: normal}}
---
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: normal}, spec: {priority: 100, gracePeriod: 2m}}
---
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: low}, spec: {priority: 10, gracePeriod: 2m, maxRuntime: 24h}}
---
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: young}, spec: {priority: 10, minRuntime: 1h}}
---
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: fixed}, spec: {priority: 10, preemptible: false}}
"""


def since(**ago: float) -> float:
    """A moment before now, as the seconds that `Rows` counts."""
    return (datetime.now(UTC) - timedelta(**ago) - START).total_seconds()


@pytest.fixture
def shop(aiqueue: Command) -> Command:
    """The command, with a ledger of two tenants that lend to each other."""
    aiqueue("apply", "-f", "-", given=OBJECTS)
    return aiqueue


def running(rows: Rows, name: str, gpus: int, *, minutes: float = 60, **others: Any) -> int:
    """A workload of team-b that borrows, and its run; returns the id of the run."""
    team = {"namespace": "team-b", "queue": "serve", "class_name": "low"} | others
    workload = rows.workload(name, requests={GPU: gpus}, state=WorkloadState.ADMITTED, attempt=1, **team)
    tenant = "product" if team["queue"] == "serve" else "research"
    opened = since(minutes=minutes)
    return rows.run(workload, tenant=tenant, allocations=[("h100", GPU, gpus)], opened=opened, started_at=datetime.now(UTC))


def decide(database: Database) -> Plan:
    """Commit one Plan as the controller does, of an engine that was told all that the ledger holds; nobody leads, which is term 0."""
    with transaction(database) as connection:
        engine, held = Engine(), Retelling.of(connection)
        for event in held.events():
            engine.observe(event)
        seq: int = connection.execute(text("SELECT count(*) + 1 FROM plan")).scalar_one()
        plan = engine.decide(connection.execute(text("SELECT clock_timestamp()")).scalar_one())
        plans.commit(connection, 0, 1, rows_of(plan, seq, held.configuration, lambda _: "1", lambda _: Standing()))
        return plan


def explained(command: Command, name: str) -> dict[str, Any]:
    found = command("explain", "workload", name, "-o", "json").json()["explanation"]
    assert isinstance(found, dict)
    return found


def said(command: Command, name: str) -> list[str]:
    return [" ".join(line.split()) for line in command("explain", "workload", name).out.splitlines()]


def starting(lines: list[str], beginning: str) -> str:
    found = [line for line in lines if line.startswith(beginning)]
    assert len(found) == 1, (beginning, lines)
    return found[0]


def test_before_anybody_is_told(shop: Command, rows: Rows) -> None:
    """What the next Plan does is said of both sides."""
    running(rows, "big", 12)
    rows.workload("gang", requests={GPU: 8})
    claimant, victim = said(shop, "gang"), said(shop, "big")
    assert starting(claimant, "The next Plan has 1 run put out for it, by ")
    assert "It waits: WaitingForVictims" in claimant
    told = starting(victim, "The next Plan has it end by ")
    assert told.endswith("which takes back its own nominal quota that tenant product borrows")
    assert explained(shop, "big")["evictedNext"]["rule"] == "WithinNominal"
    assert [each["rule"] for each in explained(shop, "gang")["makesRoomNext"]] == ["WithinNominal"]


def test_both_sides_while_room_is_made(shop: Command, rows: Rows, ledger: Database) -> None:
    running(rows, "big", 12)
    rows.workload("gang", requests={GPU: 8})
    plan = decide(ledger)
    (eviction,) = plan.evictions
    claimant = said(shop, "gang")
    assert "It waits: WaitingForVictims" in claimant
    assert starting(claimant, "waits for one run to make room: team-b/big until ")
    assert starting(claimant, "It claims nvidia.com/gpu=8 of h100 for 1 pod of main, since ")
    at = eviction.evict_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    assert f"team-b/big product nvidia.com/gpu=12 Noticed {at} WithinNominal" in claimant
    claim = explained(shop, "gang")["claim"]
    assert [(each["name"], each["state"], each["evictAt"]) for each in claim["victims"]] == [("big", "Noticed", at)]
    victim = said(shop, "big")
    assert f"must end by {at} (Preempted for team-a/gang): {eviction.message}" in victim
    assert "by right WithinNominal" in victim
    assert starting(victim, "told 20")
    assert starting(victim, "now it runs on for 1")
    assert "Who could have it put out" not in victim
    listed = shop("get", "workloads", "-n", "team-b", "-o", "wide").out.splitlines()[1].split()
    assert listed[:2] == ["big", "Evicting"]
    assert {"Preempted", "team-a/gang", "WithinNominal"} <= set(listed)
    assert {"team-a/gang", "WithinNominal"} <= set(shop("get", "runs", "-o", "wide").out.splitlines()[1].split())
    assert shop("get", "claims").out.splitlines()[1].split()[:6] == [
        "team-a",
        "gang",
        "research",
        "h100",
        "nvidia.com/gpu=8",
        "1/1",
    ]
    assert "no claims found" in shop("get", "claims", "--tenant", "product").err


@pytest.mark.parametrize(
    "step",
    [
        ("evict_at = now() - interval '1 minute'", "Suspending", "now its time is over: its Job is being stopped"),
        ("evict_at = now() - interval '1 minute', stopped_at = now()", "Releasing", "now its Job was stopped at "),
    ],
)
def test_the_steps_of_a_victim(shop: Command, rows: Rows, ledger: Database, step: tuple[str, str, str]) -> None:
    changes, state, sentence = step
    running(rows, "big", 12)
    rows.workload("gang", requests={GPU: 8})
    decide(ledger)
    with ledger.begin() as connection:
        connection.execute(text(f"UPDATE run SET {changes}"))  # noqa: S608 -- our own columns
    assert [each["state"] for each in explained(shop, "gang")["claim"]["victims"]] == [state]
    assert starting(said(shop, "big"), sentence)


def test_those_behind_a_claim_hear_of_the_claimant(shop: Command, rows: Rows, ledger: Database) -> None:
    """There are 6 free, and they are the claimant's as soon as 2 more are."""
    running(rows, "stays", 8)
    running(rows, "big", 2, minutes=10)
    rows.workload("gang", requests={GPU: 8}, created=1)
    decide(ledger)
    rows.workload("late", requests={GPU: 4}, created=2)
    late = said(shop, "late")
    assert "It waits: BehindClaim" in late
    assert starting(late, "would fit, but the room is being vacated for team-a/gang")
    assert starting(late, "team-a/gang waits for one run to make room: team-b/big until ")
    found = explained(shop, "late")
    assert (found["decision"]["details"]["claimant"], found["claimant"]["reason"]) == ("team-a/gang", "WaitingForVictims")


def test_a_run_that_was_put_out_tells_its_story(shop: Command, rows: Rows, ledger: Database) -> None:
    run_id = running(rows, "big", 12, minutes=100, checkpoint_seconds=3600)
    rows.workload("gang", requests={GPU: 8})
    decide(ledger)
    with ledger.begin() as connection:
        connection.execute(
            text(
                "UPDATE run SET stopped_at = opened_at + interval '101 minutes', closed_at = opened_at + interval '102 minutes',"
                " outcome = 'Preempted', message = evict_message WHERE id = :id"
            ),
            {"id": run_id},
        )
        connection.execute(text("UPDATE workload SET state = 'Pending' WHERE name = 'big'"))
    assert [each["state"] for each in explained(shop, "gang")["claim"]["victims"]] == ["Gone"]
    story = said(shop, "big")
    assert "saves every 1h" in story
    assert "Run 1 was put out (Preempted) for team-a/gang" in story
    assert starting(story, "why it makes room for team-a/gang of tenant research, which takes back its own nominal quota")
    assert starting(story, "told 20")
    assert starting(story, "stopped 20")
    assert starting(story, "room free 20")
    assert "lost 41m of work since its last checkpoint, as it saves every 1h" in story
    (run,) = explained(shop, "big")["runs"]
    assert (run["status"]["lostSeconds"], run["status"]["evictRule"]) == (41 * 60, "WithinNominal")
    assert run["status"]["preemptedBy"] == "team-a/gang"
    with ledger.begin() as connection:
        connection.execute(text("UPDATE workload SET state = 'Finished', ended_at = created_at WHERE name = 'big'"))
    with ledger.begin() as connection:
        housekeeping.archive(connection, 0, after_seconds=0)
    archived = said(shop, "big")
    assert "Run 1 was put out (Preempted) for team-a/gang" in archived
    assert "by right WithinNominal" in archived
    assert not [line for line in archived if line.startswith(("told", "lost"))]


def test_who_could_have_a_running_one_put_out(shop: Command, rows: Rows) -> None:
    running(rows, "big", 12)
    lines = said(shop, "big")
    assert "its tenant work of a priority above 10" in lines
    assert "others tenant research may take back what tenant product borrows, 4 nvidia.com/gpu of h100" in lines
    assert "from when now" in lines
    assert starting(lines, "limit 20").endswith("then it has run for as long as it may")
    exposure = explained(shop, "big")["exposure"]
    assert exposure["takers"] == [
        {
            "tenant": "research",
            "reclaim": "Any",
            "abovePriority": None,
            "pairs": [{"flavor": "h100", "resource": GPU}],
        }
    ]
    assert exposure["borrowing"] == [{"tenant": "product", "flavor": "h100", "resource": GPU, "amount": "4"}]


def test_who_is_left_alone_for_now_or_for_good(shop: Command, rows: Rows) -> None:
    running(rows, "young", 4, minutes=1, class_name="young")
    running(rows, "fixed", 4, class_name="fixed")
    young, fixed = said(shop, "young"), said(shop, "fixed")
    assert starting(young, "from when 20").endswith("until then its minRuntime protects it")
    assert starting(young, "others nobody: ")
    assert "nobody: its class is not preemptible" in fixed
    assert explained(shop, "fixed")["exposure"]["candidateFrom"] is None


@pytest.mark.parametrize(
    ("class_name", "minutes", "why"),
    [
        ("normal", 60, "nobody of tenant research who could be asked has less priority; no other tenant borrows it"),
        ("fixed", 60, "1 run that might be asked may not be preempted, by class; "),
        ("young", 1, "1 run that might be asked is within minRuntime, the first until 20"),
    ],
)
def test_why_it_has_nobody_put_out(shop: Command, rows: Rows, class_name: str, minutes: float, why: str) -> None:
    running(rows, "own", 8, minutes=minutes, namespace="team-a", queue="train", class_name=class_name)
    running(rows, "theirs", 8, minutes=60)
    rows.workload("waits", requests={GPU: 4})
    lines = said(shop, "waits")
    assert "It waits: WaitingForQuota" in lines
    assert starting(lines, f"it has nobody put out: {why}")
    assert explained(shop, "waits")["prospects"]["eligible"] == 0


def test_a_tenant_that_never_takes_says_so(shop: Command, rows: Rows) -> None:
    never = OBJECTS.replace("{parent: lab,", "{parent: lab, preemption: {withinTenant: Never, reclaim: Never},")
    shop("apply", "-f", "-", given=never)
    running(rows, "big", 12)
    rows.workload("waits", requests={GPU: 8})
    assert "it has nobody put out: withinTenant and reclaim of tenant research are Never" in said(shop, "waits")


def test_one_that_runs_smaller_than_it_asks_for(shop: Command, rows: Rows, ledger: Database) -> None:
    workload = rows.workload("elastic", requests={GPU: 2}, pods=4, state=WorkloadState.ADMITTED, class_name="low")
    rows.run(workload, tenant="research", allocations=[("h100", GPU, 6)], opened=since(minutes=5))
    with ledger.begin() as connection:
        connection.execute(text("UPDATE pod_set SET min_count = 2"))
    assert "size 3 of the 4 pods of main that it asks for" in said(shop, "elastic")
    assert explained(shop, "elastic")["sizes"] == [{"podSet": "main", "admitted": 3, "requested": 4}]


def test_a_run_that_was_drained(shop: Command, rows: Rows) -> None:
    """Nobody asked for its room, so there is no right; what it lost is said all the same."""
    workload = rows.workload("w", requests={GPU: 1})
    rows.run(
        workload,
        tenant="research",
        opened=0,
        closed=600,
        outcome=RunOutcome.DRAINED,
        evict_outcome="Drained",
        evict_message="tenant research is being drained",
        evict_at=START + timedelta(seconds=590),
        evict_noticed_at=START + timedelta(seconds=500),
    )
    rows.decision(Reason.BACKOFF, workload_id=workload)
    lines = said(shop, "w")
    assert "Run 1 was put out (Drained)" in lines
    assert "why tenant research is being drained" in lines
    assert "lost 10m of work since its start" in lines
    assert not [line for line in lines if line.startswith("by right")]
