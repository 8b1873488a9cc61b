"""The doctor on real parts: what was damaged on purpose is named, what is safe is mended, and the controller goes on well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from aiqueue.admission.doctor.differences import Difference, Mend
from aiqueue.admission.doctor.examining import Examiner
from aiqueue.admission.doctor.kinds import Kind, Severity
from aiqueue.admission.doctor.mending import Mended, Mender
from aiqueue.admission.doctor.reading_cluster import ClusterReader
from aiqueue.admission.doctor.term import own_term
from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness import product
from aiqueue.queue.database import transaction
from fix_command import Command, Result
from fix_controller import ControllerProcess, Stage

pytestmark = pytest.mark.e2e


def asked(stage: Stage, *arguments: str, expect: int, role: str = "", eyes: Path | None = None) -> Result:
    """`aiqueue doctor` by the controller's login or one in another role, with the cluster administrator's eyes or others."""
    url = product.login(stage.installed.owner_url, role) if role else stage.installed.controller_url
    kubeconfig = eyes or stage.cluster.kubeconfig
    return Command(url)("doctor", f"--kubeconfig={kubeconfig}", "--pause=0.3", *arguments, expect=expect)


def told(result: Result) -> list[Mapping[str, Any]]:
    """The differences of an answer in JSON."""
    items: Any = result.json()["items"]
    return [item["status"] for item in items if item["kind"] == "Difference"]


def kinds(stage: Stage, *arguments: str, expect: int = 1) -> dict[str, str]:
    """What differs, by object."""
    return {each["object"]: each["kind"] for each in told(asked(stage, "--output=json", *arguments, expect=expect))}


def damage(stage: Stage, statement: str, **values: object) -> None:
    """Write to the ledger by hand, as its owner."""
    with transaction(stage.ledger) as connection:
        connection.execute(text(statement), values)


def mended(stage: Stage, name: str, kind: Kind, mend: Mend) -> Mended:
    """What becomes of the run of a Job where this is asked for, whatever differs."""
    told = Difference(kind, Severity.ERROR, name, "", "", "", mend, stage.workload(name)["uid"], stage.runs(name)[-1]["id"])
    client = KubeClient.from_kubeconfig(stage.cluster.kubeconfig)
    examiner = Examiner(lambda: transaction(stage.ledger), "default", ClusterReader(client, "default"))
    try:
        with own_term(stage.installed.controller_url) as term:
            (done,) = Mender(term, examiner.look(), client, claimed_by="test").mend([told])
    finally:
        client.close()
    return done


def kill(stage: Stage, leader: ControllerProcess) -> int:
    """Kill who leads once it has nothing to do, and have its lease run out; returns its term."""
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
    leader.kill()
    stage.expire_lease()
    (row,) = stage.rows("SELECT term FROM leader")
    return int(row["term"])


def test_what_was_damaged_under_a_controller_is_mended(stage: Stage) -> None:
    stage.tenants(gpus=16)
    stage.lead()
    for name in ("runs", "loses"):
        stage.create_job(name)
    for name in ("waits", "forgotten", "claims"):
        stage.create_job(name, gpus=16)
    for name in ("runs", "loses"):
        stage.until_running(name)
    for name in ("waits", "forgotten", "claims"):
        stage.until_state(name, "Pending")
    agreed = asked(stage, expect=0)
    assert (agreed.out, agreed.err) == ("", "ledger, engine and cluster agree\n")
    blinkered = asked(stage, "--output=json", expect=0, eyes=stage.installed.controller_kubeconfig)
    assert {each["kind"] for each in told(blinkered)} == {"NotLookedAt"}, "the controller's own account sees only what it needs"
    names = ("runs", "loses", "waits", "forgotten", "claims")
    ids = {name: stage.workload(name)["id"] for name in names}
    (lost,) = stage.runs("loses")
    for statement in (
        "UPDATE run SET closed_at = now(), outcome = 'Cancelled' WHERE id = :lost",
        "UPDATE workload SET state = 'Pending' WHERE id = :loses",
        "DELETE FROM workload_decision WHERE workload_id = :forgotten",
        "DELETE FROM workload WHERE id = :forgotten",
        "UPDATE workload SET state = 'Finished', ended_at = now() WHERE id = :waits",
        "INSERT INTO claim SELECT :claims, id, '{}', '[]', '{0}', now(), 1 FROM tenant WHERE name = 'research'",
        "INSERT INTO action (cluster_id, workload_id, run_id, attempt, kind, term) VALUES (1, :runs, :lost, 9, 'Suspend', 1)",
    ):
        damage(stage, statement, lost=lost["id"], **ids)
    space = stage.namespace
    (action,) = stage.rows("SELECT id FROM action WHERE attempt = 9")
    expected = {
        f"workload/{space}/loses": "RunningWithoutRun",
        f"job/{space}/forgotten": "JobUnknown",
        f"workload/{space}/waits": "WorkloadEnded",
        f"claim/{space}/claims": "ClaimWithoutRuns",
        f"action/{space}/runs/{action['id']}": "ActionWithoutEnd",
        f"queue/{space}/train/nvidia.com/gpu": "RateDiffers",
    }
    assert kinds(stage) == expected
    repaired = asked(stage, "--repair", expect=0)
    assert "nothing differs any more" in repaired.err
    for name in expected:
        assert name in repaired.out
    # The controller leads again, took the Job back, and goes on: the room that is left goes to who waits for it.
    assert stage.workload("loses")["state"] == "Admitted"
    assert stage.used() == 16
    assert [run["adopted"] for run in stage.runs("loses")] == [False, True]
    audited = stage.rows("SELECT kind, verb, login FROM audit WHERE claimed_by = 'ana, by aiqueue doctor' ORDER BY id")
    assert {(row["kind"], row["verb"]) for row in audited} == {
        ("Action", "Deleted"),
        ("Claim", "Deleted"),
        ("Usage", "Updated"),
        ("Workload", "Updated"),
    }
    stage.cluster.kubectl("delete", "job", "runs", "loses", f"-n={space}")
    stage.until(
        lambda: "Admitted" in {stage.workload(name)["state"] for name in ("waits", "forgotten", "claims")},
        "one that waited to be admitted",
    )
    assert kinds(stage, expect=0) == {}


def test_what_happened_while_nobody_led_is_told_and_mended(stage: Stage) -> None:
    space, kubectl = stage.namespace, stage.cluster.kubectl
    stage.tenants()
    led = stage.lead()
    begun, never = ("vanishes", "orphans", "rests", "goes-on", "overstays"), ("dropped", "stuck")
    for name in begun:
        stage.create_job(name, gpus=4)
    for name in never:
        stage.create_job(name, gpus=64)
    for name in begun:
        stage.until_running(name)
    for name in never:
        stage.until_state(name, "Pending")
    term = kill(stage, led)
    kubectl("delete", "job", "vanishes", "dropped", f"-n={space}", "--cascade=foreground", "--timeout=110s")
    kubectl("delete", "job", "orphans", f"-n={space}", "--cascade=orphan")
    kubectl("patch", "job", "rests", f"-n={space}", "--type=merge", '--patch={"spec": {"suspend": true}}')
    stage.create_job("new", gpus=4)
    ids = {name.replace("-", "_"): stage.workload(name)["id"] for name in (*begun, *never)}
    for statement in (
        "UPDATE workload SET state = 'Pending' WHERE id = :goes_on",
        "UPDATE run SET evict_at = now() - interval '1 hour', evict_outcome = 'Drained' WHERE workload_id = :overstays",
        "UPDATE workload SET state = 'Admitted', attempt = 1 WHERE id = :stuck",
        "INSERT INTO run (workload_id, attempt, cluster_id, tenant_id, term, opened_at, original, injected) SELECT :stuck, 1, cluster_id, tenant_id, 1, now(), '{}', '{}' FROM run WHERE workload_id = :overstays",
    ):
        damage(stage, statement, **ids)
    stage.until(lambda: not stage.pods("rests"), "the suspended Job's pods to go")
    stage.until(lambda: stage.job("rests")["status"].get("terminating", 0) == 0, "the Job controller to see it")
    by_others = {f"job/{space}/orphans": "OrphanedPods", f"term/{term}": "NobodyLeads", f"job/{space}/new": "JobUnknown"}
    by_doctor = {f"workload/{space}/dropped": "WorkloadWithoutJob", f"workload/{space}/goes-on": "StateDiffers"} | {
        f"run/{space}/{name}/{stage.runs(name)[0]['id']}": kind
        for name, kind in (
            ("vanishes", "RunOfGoneJob"),
            ("rests", "RunOfSuspendedJob"),
            ("stuck", "RunNeverStarted"),
            ("overstays", "RunNotStopped"),
        )
    }
    before = told(asked(stage, "--output=json", expect=1, role="reader"))
    assert {each["object"]: each["kind"] for each in before} == by_others | by_doctor
    (orphaned,) = (each["what"] for each in before if each["kind"] == "OrphanedPods")
    (pod,) = stage.pods("orphans")
    assert f"{space}/{pod['metadata']['name']} on {pod['spec']['nodeName']}" in orphaned
    assert stage.used() == 20, "looking changes nothing"
    assert "it takes the login of the controller" in asked(stage, "--repair", expect=1, role="reader").err
    repaired = asked(stage, "--repair", expect=1)
    for name in by_doctor:
        assert name in repaired.out
    assert stage.used() == 12
    assert {name: stage.workload(name)["state"] for name in (*begun, *never)} == {
        "vanishes": "Cancelled",
        "orphans": "Admitted",
        "rests": "Held",
        "goes-on": "Admitted",
        "overstays": "Admitted",
        "dropped": "Cancelled",
        "stuck": "Pending",
    }
    not_closed = mended(stage, "orphans", Kind.RUN_OF_GONE_JOB, Mend.CLOSE_RUN)
    assert (not_closed.done, not_closed.what) == (False, "not mended: pods of it live on")
    left = asked(stage, "--output=name", expect=1).out.split()
    assert set(left) == {f"term/{term + 2}", f"job/{space}/new", f"job/{space}/orphans"}
    damage(stage, "DELETE FROM action WHERE kind = 'Restore'")
    assert kinds(stage)[f"workload/{space}/rests"] == "TemplateNotRestored"
    asked(stage, "--repair", expect=1)
    # Taken out of our hands it still gets its template back, so that is no action without end.
    kubectl("label", "job", "rests", f"-n={space}", "aiqueue.dev/queue-")
    damage(stage, "UPDATE workload SET state = 'Cancelled', ended_at = now() WHERE id = :rests", **ids)
    assert "ActionWithoutEnd" not in asked(stage, "--repair", expect=1).out
    assert stage.rows("SELECT kind FROM action WHERE workload_id = :rests", **ids) == [{"kind": "Restore"}]
    # A controller goes on from there: it takes in what is new, ends what was to end, and gives back what the pods held.
    stage.lead()
    stage.until_running("new")
    stage.until(lambda: [run["outcome"] for run in stage.runs("overstays")] == ["Drained", "Running"], "the late end")
    stage.until(lambda: "nodeSelector" not in stage.job("rests")["spec"]["template"]["spec"], "the template to be put back")
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
    assert kinds(stage) == {f"job/{space}/orphans": "OrphanedPods"}
    kubectl("delete", "pod", pod["metadata"]["name"], f"-n={space}")
    stage.until(lambda: stage.used() == 12, "the orphan's quota to come back")
    assert asked(stage, expect=0).out == ""


def test_a_ledger_restored_from_an_older_backup_goes_on_after_the_repair(stage: Stage) -> None:
    stage.tenants()
    led = stage.lead()
    stage.create_job("later")
    stage.until_running("later")
    (run,) = stage.runs("later")
    pods = [pod["metadata"]["uid"] for pod in stage.pods("later")]
    term = kill(stage, led)
    for statement in (
        "DELETE FROM action",
        "DELETE FROM run",
        "DELETE FROM workload",
        "DELETE FROM queue_usage",
        "SELECT setval('run_id_seq', 1, false)",
    ):
        damage(stage, statement)
    (ledger,) = stage.rows("SELECT uid::text FROM ledger")
    assert kinds(stage) == {f"ledger/{ledger['uid']}": "LedgerOlder", f"term/{term}": "NobodyLeads"}
    refused = stage.start()
    stage.until(refused.ended, "the controller to refuse")
    assert "aiqueue doctor --repair" in refused.said()
    assert "ids of runs go on after" in asked(stage, "--repair", expect=1).out
    stage.lead()
    stage.until_state("later", "Admitted")
    (adopted,) = stage.runs("later")
    assert (adopted["adopted"], adopted["id"] > run["id"]) == (True, True)
    assert [pod["metadata"]["uid"] for pod in stage.pods("later")] == pods, "what runs was not touched"
    assert kinds(stage, expect=0) == {}
