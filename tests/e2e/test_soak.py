"""Whatever dies, nothing is lost; and each thing that could be lost would be noticed.

`make soak` goes on for as long as it is told; here every named point kills a controller once, and thirty more are broken at random.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from aiqueue.admission.controller.faults import POINTS
from aiqueue.cli.harness.waiting import until
from fix_soak import MORE, Rested, Soaked
from soak import invariants, jobs
from soak.jobs import DEV_END, RUN

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_killed_at_every_point_and_at_thirty_moments_nothing_is_lost(soaked: Soaked) -> None:
    tally = soaked.soak.breaker.tally
    assert set(POINTS) - set(tally.kills) == set()
    assert tally.breaks >= len(POINTS) + MORE
    assert set(soaked.soak.outages.tally) == set(soaked.soak.outages.kinds)
    assert soaked.broken == {}
    figures = soaked.soak.told()
    print(figures)
    assert figures["runs"] > 0


DAMAGED = {
    "no_job_lost": [
        "DELETE FROM workload WHERE name = 'waits'",
        "UPDATE workload SET state = 'Pending' WHERE name = 'held'",
        "UPDATE workload SET state = 'Releasing' WHERE name = 'runs'",
        (
            "INSERT INTO workload (cluster_id, uid, namespace, name, queue_name, shape, created_at, state, resource_version, suspended)"
            " SELECT cluster_id, 'nobody', namespace, 'nobody', queue_name, shape, created_at, 'Pending', '1', true"
            " FROM workload WHERE name = 'waits'"
        ),
    ],
    "none_admitted_twice": [
        "UPDATE workload SET attempt = attempt + 1 WHERE name = 'runs'",
        "UPDATE run r SET attempt = r.attempt + 1 FROM workload w WHERE w.id = r.workload_id AND w.name = 'runs'",
        # Its start is nobody's then.
        "UPDATE archived_run SET id = -id WHERE id = (SELECT max(id) FROM archived_run WHERE NOT adopted AND started_at IS NOT NULL)",
    ],
    "none_in_part": [
        (
            "UPDATE allocation a SET amount = 2 * amount FROM run r JOIN workload w ON w.id = r.workload_id"
            " WHERE a.run_id = r.id AND w.name = 'runs';"
            "UPDATE queue_usage u SET rate = 2 * rate FROM run r JOIN workload w ON w.id = r.workload_id"
            " WHERE u.queue_id = r.queue_id AND r.closed_at IS NULL AND w.name = 'runs'"
        ),
    ],
    "usage_agrees": [
        "UPDATE queue_usage SET rate = rate + 1 WHERE rate > 0",
        "UPDATE queue_usage SET rate = 0",
    ],
    "no_ceiling_passed": [
        (
            "INSERT INTO run (workload_id, attempt, cluster_id, tenant_id, term, opened_at, closed_at, outcome, original, injected)"
            " SELECT w.id, 1, w.cluster_id, t.id, 1, clock_timestamp(), clock_timestamp(), 'Cancelled', '{}', '{}'"
            " FROM workload w JOIN tenant t ON t.name = 'research' WHERE w.name = 'waits';"
            "INSERT INTO allocation (run_id, pod_set, flavor_id, resource, amount)"
            " SELECT max(r.id), 'main', max(f.id), 'nvidia.com/gpu', 1000 FROM run r CROSS JOIN flavor f;"
            "UPDATE workload SET attempt = 1 WHERE name = 'waits'"
        ),
    ],
    "none_waits_for_the_unready": [
        (
            "UPDATE run r SET started_at = r.started_at - interval '2 hours' FROM workload w"
            " WHERE w.id = r.workload_id AND w.name = 'unready'"
        ),
        (
            "UPDATE run r SET ready_at = r.started_at, unready_since = NULL FROM workload w"
            " WHERE w.id = r.workload_id AND w.name = 'unready'"
        ),
    ],
    "back_offs_are_waited_out": [
        (
            "UPDATE workload SET attempt = attempt - 1, not_before = clock_timestamp() + interval '1 hour' WHERE name = 'runs';"
            "UPDATE workload SET attempt = attempt + 1, not_before = NULL WHERE name = 'runs'"
        ),
    ],
    "no_action_left": [
        (
            "INSERT INTO action (cluster_id, workload_id, run_id, attempt, kind, term)"
            " SELECT r.cluster_id, r.workload_id, r.id, r.attempt, 'Announce', r.term FROM run r JOIN workload w ON w.id = r.workload_id"
            " WHERE w.name = 'runs'"
        ),
    ],
}


@pytest.mark.parametrize(
    ("name", "damage"), [(name, damage) for name, damages in DAMAGED.items() for damage in damages], ids=lambda text: text[:40]
)
def test_a_damaged_ledger_is_noticed_by_the_invariant_that_it_breaks(rested: Rested, name: str, damage: str) -> None:
    assert list(rested.broken(damage)) == [name]


def test_a_second_open_run_is_noticed(rested: Rested) -> None:
    seen = rested.soak.evidence()
    run = seen.open_runs()[rested.uids["runs"]]
    first = replace(run, id=-1, attempt=1, closed_at=run.opened_at + timedelta(seconds=1), held={}, opened={})
    seen.runs = [*(each for each in seen.runs if each.id != run.id), first, replace(run, attempt=2)]
    seen.workloads = [replace(each, attempt=2) if each.uid == run.uid else each for each in seen.workloads]
    sentences = list(invariants.none_admitted_twice(seen))
    assert [each for each in sentences if "was opened while run" in each]


def test_quota_that_comes_back_too_soon_is_noticed(rested: Rested) -> None:
    uid = rested.uids["lived"]
    (life,) = [each for each in rested.soak.pods.lives() if each.job_uid == uid]
    damage = f"UPDATE archived_run SET closed_at = '{life.seen_at + timedelta(seconds=1)}' WHERE workload_id = (SELECT id FROM archived_workload WHERE uid = '{uid}')"  # noqa: S608 -- ours
    broken = rested.broken(damage)
    assert list(broken) == ["released_when_gone"]
    assert life.name in broken["released_when_gone"][0]


def test_a_template_that_is_not_its_owners_is_noticed(rested: Rested) -> None:
    rested.patch("held", {"spec": {"template": {"spec": {"nodeSelector": {"left": "behind"}}}}})
    broken = rested.broken()
    rested.patch("held", {"spec": {"template": {"spec": {"nodeSelector": None}}}})
    assert list(broken) == ["templates_are_their_owners"]
    assert rested.broken() == {}


def test_a_job_that_nobody_knows_is_noticed(rested: Rested) -> None:
    before = rested.soak.owners.wishes.copy()
    rested.soak.owners.submit(jobs.make(rested.namespace, "unheard"))
    broken = rested.broken()
    rested.soak.world.api.call("DELETE", jobs.path(rested.namespace, "unheard"), {"propagationPolicy": "Background"})
    rested.soak.owners.wishes = before
    assert list(broken) == ["no_job_lost"]
    assert rested.broken() == {}


def test_a_second_unsuspend_is_noticed(rested: Rested) -> None:
    """The same PATCH again changes nothing in the Job, but it was sent."""
    world = rested.soak.world
    job = world.api.call("GET", f"/apis/batch/v1/namespaces/{rested.namespace}/jobs/runs")
    kept = dict(rested.soak.starts.unsuspends)
    stamp = job["metadata"]["annotations"][RUN]
    body = {"metadata": {"uid": job["metadata"]["uid"], "annotations": {RUN: stamp}}, "spec": {"suspend": False}}
    world.controller.patch_job(rested.namespace, "runs", body)
    broken = rested.until_broken()
    rested.soak.starts.unsuspends = kept
    assert list(broken) == ["none_admitted_twice"]
    assert "2 times" in broken["none_admitted_twice"][0]


def test_a_controller_that_ends_by_itself_is_noticed(rested: Rested) -> None:
    fleet = rested.soak.fleet
    started = fleet.start()
    until(started.is_warm, seconds=60, what="a controller to be ready")
    os.kill(started.pid, signal.SIGINT)
    until(lambda: list(fleet.reap()) or None, seconds=60, what="its end")
    broken = rested.broken()
    fleet.unexpected.clear()
    assert list(broken) == ["nothing_unexpected"]
    assert "ended by itself with 0" in broken["nothing_unexpected"][0]


def test_a_door_that_lets_wrong_jobs_in_is_noticed(rested: Rested) -> None:
    """The API server asks it no more, and it does not know; nothing is stored."""
    door, where = rested.soak.door.open(), jobs.path(rested.namespace) + "?dryRun=All"
    wrong = jobs.make(rested.namespace, "wrong", queue="nowhere")

    def judged() -> bool:
        began = time.monotonic()
        return door.judge("wrong", began, rested.soak.world.api.ask("POST", where, wrong))

    assert not judged()
    assert door.complaints == []
    door.unregister()
    until(judged, seconds=60, what="a wrong Job to be let in")
    broken = rested.broken()
    door.complaints.clear()
    door.end()
    assert list(broken) == ["the_door_is_kept"]
    assert "Job wrong is wrong and was let in" in broken["the_door_is_kept"][0]


def test_a_door_that_holds_somebody_up_is_noticed_and_one_that_ends_by_itself(rested: Rested) -> None:
    door = rested.soak.door.open(failurePolicy="Fail")
    os.kill(door.pid, signal.SIGTERM)

    def ended() -> bool:
        door.step()
        return not door.pid

    until(ended, seconds=60, what="the end of the webhook")
    rested.soak.owners.submit_wrong(jobs.make(rested.namespace, "held-up", queue="nowhere"))
    broken = rested.broken()
    door.complaints.clear()
    door.close()
    assert list(broken) == ["the_door_is_kept"]
    by_itself, held_up = broken["the_door_is_kept"]
    assert "ended by itself with 0" in by_itself
    assert "somebody was held up" in held_up


def test_a_gang_in_part_is_noticed(rested: Rested) -> None:
    """One of its two pods is taken away: nobody is there to mend it."""
    world = rested.soak.world
    world.controller.patch_job(rested.namespace, "runs", {"spec": {"parallelism": 1}})
    broken = rested.until_broken()
    assert list(broken) == ["none_in_part"]
    world.controller.patch_job(rested.namespace, "runs", {"spec": {"parallelism": 2}})
    until(lambda: not rested.broken(), seconds=60, what="the second pod")


def test_an_open_run_of_a_job_that_is_over_is_noticed(rested: Rested) -> None:
    """With nobody there to see it, its end is not in the ledger."""
    world = rested.soak.world
    where = f"/api/v1/namespaces/{rested.namespace}/pods"
    for pod in world.api.call("GET", where)["items"]:
        note = {"metadata": {"annotations": {DEV_END: "now"}}}
        world.api.call("PATCH", f"{where}/{pod['metadata']['name']}", note, content_type="application/merge-patch+json")
    job = f"/apis/batch/v1/namespaces/{rested.namespace}/jobs/runs"
    until(lambda: world.api.call("GET", job)["status"].get("completionTime"), seconds=60, what="the end of the Job")
    assert list(rested.broken()) == ["no_run_of_the_finished"]
