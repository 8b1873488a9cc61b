"""Runs that shrink, on a real ledger: rows, usage, engine and whoever takes over agree, whatever order things happen in."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest
from sqlalchemy import text

from aiqueue.admission.controller.facts import PodsGone
from aiqueue.queue.observations import Observation
from aiqueue.queue.records import PodSet, shape_of
from aiqueue.queue.store import housekeeping, usage, views
from fix_follow import GPU
from fix_leading import Leading

pytestmark = pytest.mark.integration

QUOTAS = f"[{{flavor: h100, resources: [{{name: {GPU}, nominal: 12}}]}}]"
OBJECTS = (
    "{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {name: lab}}",
    f"{{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {{name: research}}, spec: {{parent: lab, quotas: {QUOTAS}}}}}",
    "{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {name: other, namespace: team-a}, spec: {tenant: research}}",
    "{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: normal}, spec: {priority: 0, gracePeriod: 60s}}",
    "{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: urgent}, spec: {priority: 10, gracePeriod: 60s}}",
)


@pytest.fixture
def lab(leading: Leading) -> Leading:
    """A tenant of twelve GPUs behind two queues."""
    leading.configure(*OBJECTS)
    return leading


def check(lab: Leading) -> None:
    """Rows, decayed usage, the engine and a successor agree; nothing holds more than it was given."""
    lab.check_successor()
    with lab.term.transaction() as connection:
        held = housekeeping.usage(connection)
        kept = usage.load(connection)
        assert usage.differing(connection) == 0
        assert lab.observer.step.usages.agrees(kept)
        grown = connection.execute(text("SELECT count(*) FROM allocation WHERE amount > opened_amount")).scalar_one()
        paired = connection.execute(
            text("SELECT count(*) FROM allocation a JOIN run r ON r.id = a.run_id WHERE r.closed_at IS NULL AND a.amount <= 0")
        ).scalar_one()
    assert dict(lab.engine.usage()) == held
    assert sum(each.rate for each in kept.values()) == sum(held.values())
    assert (grown, paired) == (0, 0)


def admitted(lab: Leading) -> list[str]:
    """The Jobs that are let in now."""
    return [each.workload.name for plan in lab.round() for each in plan.admissions]


def held_by(lab: Leading, name: str) -> int:
    """GPUs that the open run of a Job holds."""
    rows = lab.rows("SELECT sum(amount) AS held FROM allocation WHERE run_id = :run", run=lab.run_of(name))
    return int(rows[0]["held"])


def test_what_the_first_pods_held_goes_to_others_while_the_last_ones_run(lab: Leading) -> None:
    lab.submit("long", "train", 8, "normal", completions=8)
    lab.submit("first", "train", 4, "normal", completions=4)
    lab.submit("next", "train", 6, "normal", completions=6)
    lab.round()
    before = lab.engine.usage()
    lab.change("long", active=3, ready=3, succeeded=5)
    assert (held_by(lab, "long"), sum(before.values()), sum(lab.engine.usage().values())) == (3, 12, 7)
    check(lab)
    assert admitted(lab) == []  # five are free, and six are asked for
    lab.change("long", active=2, ready=2, succeeded=6)
    assert admitted(lab) == ["next"]
    assert sum(lab.engine.usage().values()) == 12
    check(lab)
    lab.finish("long")
    check(lab)
    # What it was given is told of a run that is over, while it is in the hot tables and in the archive.
    for _ in range(2):
        with lab.term.transaction() as connection:
            (over,) = views.list_runs(connection, views.RunFilter(name="long", closed=True), limit=10).items
            assert [each.amount for each in over.allocations] == [8]
            housekeeping.archive(connection, lab.term.number, 0)
    assert lab.rows("SELECT count(*) AS left FROM workload WHERE name = 'long'")[0]["left"] == 0


def test_a_victim_that_shrinks_before_it_leaves_gives_its_room_to_who_claims_it(lab: Leading) -> None:
    lab.submit("long", "train", 10, "normal", completions=10)
    lab.round()
    lab.submit("pressing", "other", 6, "urgent", completions=6)
    lab.round()
    assert set(lab.claims()) == {"pressing"}
    lab.submit("late", "train", 7, "normal", completions=7)
    lab.change("long", active=7, ready=7, succeeded=3)
    check(lab)
    assert admitted(lab) == []
    lab.change("long", active=5, ready=5, succeeded=5)
    # There is room for either now, though whom it is claimed from has not left: it is the claimant's, who need not wait for the rest.
    assert admitted(lab) == ["pressing"]
    assert lab.claims() == {}
    check(lab)


def test_a_successor_shrinks_what_its_predecessor_had_not(lab: Leading) -> None:
    """Killed before it wrote, or of a version that does not know how to."""
    lab.submit("long", "train", 8, "normal", completions=8)
    lab.round()
    lab.change("long", active=2, ready=2, succeeded=6)
    lab.do("UPDATE allocation SET amount = 8", "UPDATE queue_usage SET rate = 8")
    lab.succeed()
    lab.observer.step.context.sizes = type(lab.observer.step.context.sizes)()
    lab.change("long")
    assert held_by(lab, "long") == 2
    check(lab)


def test_told_twice_and_late_it_stays_as_it_is(lab: Leading) -> None:
    lab.submit("long", "train", 8, "normal", completions=8)
    lab.round()
    for succeeded in (5, 5, 3, 6, 0, 6):
        lab.observer.step.context.sizes = type(lab.observer.step.context.sizes)()  # each time as a new term would
        before = held_by(lab, "long")
        lab.change("long", active=8 - succeeded, ready=8 - succeeded, succeeded=succeeded)
        check(lab)
        assert held_by(lab, "long") == min(before, 8 - succeeded)
    assert lab.rows("SELECT opened_amount FROM allocation")[0]["opened_amount"] == 8


@pytest.mark.parametrize(("asked", "asks"), [(1, 2), (2, 1)], ids=["more", "less"])
@pytest.mark.parametrize("succeeded", [0, 1])
def test_who_is_adopted_after_an_edit_gives_back_what_its_pods_held(
    lab: Leading, asked: int, asks: int, succeeded: int
) -> None:
    """Its stamp says that the template may hold what a run wrote, so what the ledger has of its owner's wish is from before the edit."""
    lab.submit("long", "train", 6, "normal", completions=6)
    lab.change("long", **pods_of(asked))
    lab.round()
    lab.suspend("long")
    run = lab.observer.step.mirror.known["uid-long"].run
    assert run is not None
    lab.observer.step.hear([PodsGone("uid-long", run.id)])
    lab.change("long", **pods_of(asks))
    left = 6 - succeeded
    lab.change("long", suspended=False, active=left, ready=left, succeeded=succeeded)
    (adopted,) = lab.rows("SELECT id, adopted FROM run WHERE closed_at IS NULL")
    assert (adopted["id"] > run.id, adopted["adopted"]) == (True, True)
    assert held_by(lab, "long") == asks * left
    check(lab)
    for still in (4, 2, 1):
        lab.change("long", active=still, ready=still, succeeded=6 - still)
        assert held_by(lab, "long") == asks * still
        check(lab)
        lab.succeed()
        lab.observer.step.context.sizes = type(lab.observer.step.context.sizes)()
    (held,) = lab.rows("SELECT a.amount, a.opened_amount FROM allocation a JOIN run r ON r.id = a.run_id WHERE r.adopted")
    assert (held["amount"], held["opened_amount"]) == (asks, asks * left)  # never more than it was met with
    lab.finish("long")
    check(lab)


def pods_of(gpus: int) -> dict[str, Any]:
    """Six pods that ask for so many GPUs each."""
    pod_sets = (PodSet("main", 6, {GPU: gpus}),)
    return {"pod_sets": pod_sets, "shape": shape_of(pod_sets, "normal")}


@pytest.mark.parametrize("seed", range(3))
def test_any_history_agrees_with_what_is_made_of_its_end(lab: Leading, seed: int) -> None:
    """Pods end, Jobs come, finish, make room for others, are put out and wait again; now and then another takes over."""
    dice, number = Random(seed), 0
    shrank = 0
    for _ in range(60):
        running = [name for name, job in lab.jobs.items() if not job.suspended and job.active]
        leaving = [name for name, job in lab.jobs.items() if job.suspended and job.stamp is not None]
        match dice.randrange(8):
            case 0 | 1:
                number += 1
                pods = dice.randint(1, 7)
                class_name = dice.choice(["normal", "normal", "urgent"])
                completions = dice.choice([pods, pods, pods + 2, None])
                lab.submit(f"job-{number}", dice.choice(["train", "other"]), pods, class_name, completions=completions)
            case 2 | 3 | 4 if running:
                name = dice.choice(running)
                before = held_by(lab, name)
                end_a_pod(lab, name)
                shrank += name in lab.jobs and held_by(lab, name) < before
            case 5 if running:
                name = dice.choice(running)
                if lab.rows("SELECT 1 FROM run WHERE id = :run AND evict_at IS NOT NULL", run=lab.run_of(name)):
                    lab.suspend(name)
            case 6 if leaving:
                lab.vacate(dice.choice(leaving))
            case 7 if dice.random() < 0.3:
                lab.succeed()
                lab.observer.step.context.sizes = type(lab.observer.step.context.sizes)()
        if dice.random() < 0.7:
            lab.round()
        check(lab)
    assert shrank > 3


def end_a_pod(lab: Leading, name: str) -> None:
    """A pod of a Job succeeds; another takes its place if one is to, and with the last the Job completes."""
    job = lab.jobs[name]
    succeeded = job.succeeded + 1
    active = _active(replace(job, active=job.active - 1), succeeded)
    if active == 0:
        lab.finish(name)
    else:
        lab.change(name, active=active, ready=active, succeeded=succeeded)


def _active(job: Observation, succeeded: int) -> int:
    if job.completions is None:
        return job.active
    return min(job.pod_sets[0].count, job.completions - succeeded)
