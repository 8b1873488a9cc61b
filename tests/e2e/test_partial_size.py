"""Jobs with min-parallelism on the real control plane: the size they run at, what holds quota, and the size they get back."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from aiqueue.admission.controller.facts import Result
from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.words import ActionKind
from fix_controller import Stage, job
from fix_kube import WAIT_SECONDS, job_document
from fix_tenants import Floor
from fix_workbench import Bench, lay_out, result

pytestmark = pytest.mark.e2e

CLASSES = """
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: brief}, spec: {gracePeriod: 1s}}
---
{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: pressing}, spec: {priority: 100}}
"""
AT_LEAST = "aiqueue.dev/min-parallelism"


def tenant(floor: Floor, name: str, gpus: int, state: str = "Active") -> None:
    """A tenant that stands alone, in this state, with a queue."""
    quotas = f"quotas: [{{flavor: h100, resources: [{{name: nvidia.com/gpu, nominal: {gpus}}}]}}]"
    floor.stage.apply(
        f"{{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {{name: {name}}}, spec: {{{quotas}, state: {state}}}}}",
        allow_drain=True,
    )
    floor.queue(name)


def submit(
    floor: Floor, name: str, queue: str, pods: int, least: int | None = None, *, class_name: str = "brief", **more: Any
) -> dict[str, Any]:
    """A Job of alice's, of pods of one GPU, and of a class that gives a second's notice; as it is stored."""
    floor.stage.apply(CLASSES)
    annotations = {AT_LEAST: str(least)} if least is not None else {}
    labels = {"aiqueue.dev/class": class_name}
    return floor.alice.create(
        job(floor.namespace, name, queue=queue, pods=pods, gpus=1, annotations=annotations, labels=labels, **more)
    )


def until_runs_with(stage: Stage, name: str, pods: int, of: dict[str, Any]) -> None:
    """Wait until so many pods of a Job run, and see that there are no others, and that they hold what they have quota for."""
    stage.until_state(name, "Admitted")
    stage.until_running(name, pods)
    spec = stage.job(name)["spec"]
    assert (spec["suspend"], spec["parallelism"], spec["completions"]) == (False, pods, of["spec"]["completions"])
    assert len(stage.living(name)) == pods
    run = stage.runs(name)[-1]
    assert [row["amount"] for row in stage.rows("SELECT amount FROM allocation WHERE run_id = :run", run=run["id"])] == [pods]


def until_restored(stage: Stage, name: str, before: dict[str, Any]) -> None:
    """Wait until nothing is left to be done, and see that a stopped Job asks for what its owner wrote."""
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
    now = stage.job(name)
    assert now["spec"] == before["spec"]
    assert "aiqueue.dev/run" not in now["metadata"]["annotations"]


def test_a_job_runs_at_the_largest_size_that_fits_and_whole_when_there_is_room(floor: Floor) -> None:
    stage = floor.stage
    tenant(floor, "elastic", 6)
    filler = submit(floor, "filler", "elastic", 2)
    until_runs_with(stage, "filler", 2, filler)
    before = submit(floor, "stretch", "elastic", 6, 2)
    until_runs_with(stage, "stretch", 4, before)
    assert stage.used() == 6
    told = floor.alice.refused(before, {"spec": {"parallelism": 6}})
    assert "is running in queue elastic with quota for 4 pods at a time: spec.parallelism may be raised or lowered only" in told
    # It does not grow, whatever room there is.
    floor.end("filler")
    stage.until(lambda: stage.used() == 4, "the room of what has ended to come back")
    assert stage.job("stretch")["spec"]["parallelism"] == 4
    # It is stopped, and asks for what it asked for.
    tenant(floor, "elastic", 6, "Drain")
    stage.until_state("stretch", "Pending")
    until_restored(stage, "stretch", before)
    assert stage.used() == 0
    # And goes whole the next time.
    tenant(floor, "elastic", 6)
    until_runs_with(stage, "stretch", 6, before)
    assert stage.used() == 6
    assert floor.outcomes("stretch") == ["Drained", "Running"]


def test_a_job_larger_than_its_tenant_could_ever_have_runs_as_large_as_that(floor: Floor) -> None:
    """It asks for ten pods at a time and seven to complete; what its owner gets back is the ten."""
    stage = floor.stage
    tenant(floor, "small", 4)
    before = submit(floor, "wide", "small", 7, 3, parallelism=10)
    until_runs_with(stage, "wide", 4, before)
    floor.alice.patch(before, {"spec": {"suspend": True}})
    stage.until_state("wide", "Held")
    until_restored(stage, "wide", before)


def test_a_job_waits_where_there_is_less_room_than_it_makes_do_with(floor: Floor) -> None:
    stage = floor.stage
    tenant(floor, "narrow", 4)
    filler = submit(floor, "most", "narrow", 2)
    until_runs_with(stage, "most", 2, filler)
    submit(floor, "least-three", "narrow", 4, 3)
    waiting = floor.until_waiting("least-three", "WaitingForQuota")
    (short,) = waiting["decision"]["shortfalls"]
    assert (short["requested"], short["available"]) == ("3", "2")
    floor.end("most")
    floor.until_running("least-three")
    assert stage.job("least-three")["spec"]["parallelism"] == 4


def test_others_make_room_for_its_minimum_and_it_takes_all_that_fits_then(floor: Floor) -> None:
    """Of six GPUs one is free; three would do. Who makes room has five, and the Job may not have the eight it asks for."""
    stage = floor.stage
    tenant(floor, "pushed", 6)
    before = submit(floor, "yields", "pushed", 5, 2)
    until_runs_with(stage, "yields", 5, before)
    wide = submit(floor, "presses", "pushed", 8, 3, class_name="pressing")
    until_runs_with(stage, "presses", 6, wide)
    stage.until_state("yields", "Pending")
    until_restored(stage, "yields", before)
    assert stage.used() == 6
    assert floor.outcomes("yields", "presses") == ["Preempted", "Running"]


def test_admitted_again_before_its_size_is_back_a_job_keeps_the_size_of_its_owner(floor: Floor) -> None:
    """Its first run is of four pods, its second of all six; that one begins before what the first wrote was taken back."""
    stage = floor.stage
    tenant(floor, "twice", 6)
    filler = submit(floor, "beside", "twice", 2)
    until_runs_with(stage, "beside", 2, filler)
    before = submit(floor, "again", "twice", 6, 2, pod_annotations={"aiqueue.dev/dev-termination": "1h"})
    until_runs_with(stage, "again", 4, before)
    floor.end("beside")
    tenant(floor, "twice", 6, "Drain")
    stage.until(lambda: stage.runs("again")[0]["stopped_at"], "the Job to be stopped")
    tenant(floor, "twice", 6)
    stage.let_stop("again")
    stage.until(lambda: len(stage.runs("again")) > 1, "the Job to be admitted again")
    stage.until(lambda: stage.runs("again")[-1]["started_at"], "the Job to be started again")
    until_runs_with(stage, "again", 6, before)
    floor.alice.patch(before, {"spec": {"suspend": True}})
    stage.let_stop("again")
    stage.until_state("again", "Held")
    until_restored(stage, "again", before)


def test_a_size_that_its_owner_writes_while_the_job_is_stopped_is_kept(floor: Floor) -> None:
    stage = floor.stage
    tenant(floor, "edited", 4)
    before = submit(floor, "resized", "edited", 6, 2, pod_annotations={"aiqueue.dev/dev-termination": "2s"})
    until_runs_with(stage, "resized", 4, before)
    floor.alice.patch(before, {"spec": {"suspend": True}})
    changed = floor.alice.patch(before, {"spec": {"parallelism": 5}})
    stage.until_state("resized", "Held")
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
    assert stage.job("resized")["spec"] == {**before["spec"], "parallelism": changed["spec"]["parallelism"]}


class TestHands:
    """One action at a time."""

    @pytest.fixture
    @staticmethod
    def elastic(
        cluster: DevCluster, kube: KubeClient, kube_namespace: str, *, ledger: Engine, term: Any, observer: Any
    ) -> Bench:
        """A Job of six pods that makes do with two."""
        document = job_document(kube_namespace, "it", parallelism=6, completions=6)
        document["metadata"]["annotations"] = {AT_LEAST: "2"}
        return lay_out(cluster, kube, document, ledger=ledger, term=term, observer=observer)

    def stop(self, bench: Bench, unsuspend: Any) -> None:
        assert result(bench.hands(bench.evict(unsuspend))) is Result.DONE
        until(
            lambda: bench.seen().suspended_seen and bench.seen().active + bench.seen().terminating == 0,
            seconds=WAIT_SECONDS,
            what="the Job to be stopped",
        )

    def test_a_decided_run_is_of_the_decided_size_also_when_the_job_has_moved_on(self, elastic: Bench) -> None:
        action = elastic.admit(3)
        elastic.touch()
        assert result(elastic.hands(action)) is Result.DONE
        assert (elastic.seen().suspended, elastic.seen().parallelism) == (False, 3)
        until(lambda: elastic.seen().active == 3, seconds=WAIT_SECONDS, what="three pods")
        self.stop(elastic, action)
        assert elastic.seen().parallelism == 3
        assert result(elastic.until_done(elastic.restoration(action))[-1]) is Result.DONE
        assert elastic.seen().parallelism == 6

    def test_a_job_that_somebody_else_unsuspended_shrinks_to_what_has_quota(self, elastic: Bench) -> None:
        action = elastic.admit(3)
        elastic.kubectl("patch", "--type=merge", '-p={"spec":{"suspend":false}}')
        until(lambda: elastic.seen().active == 6, seconds=WAIT_SECONDS, what="six pods")
        assert result(elastic.hands(action)) is Result.DONE
        assert elastic.seen().parallelism == 3
        until(lambda: elastic.seen().active == 3, seconds=WAIT_SECONDS, what="three pods")
        self.stop(elastic, action)
        assert result(elastic.until_done(elastic.restoration(action))[-1]) is Result.DONE
        assert elastic.seen().parallelism == 6

    def test_a_run_that_was_never_started_leaves_the_size_alone(self, elastic: Bench) -> None:
        action = elastic.admit(3)
        assert result(elastic.hands(elastic.evict(action))) is Result.DONE
        assert result(elastic.until_done(elastic.restoration(elastic.action(ActionKind.SUSPEND)))[-1]) is Result.DONE
        assert (elastic.seen().suspended, elastic.seen().parallelism) == (True, 6)
