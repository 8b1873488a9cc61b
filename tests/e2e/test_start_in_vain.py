"""A Job that is changed while it is to be started, and changed back before anybody sees that: it is started, and nobody is asked to help."""

from __future__ import annotations

import pytest

from aiqueue.admission.controller import questions
from aiqueue.admission.controller.confirm import Question
from aiqueue.admission.controller.facts import Fact, JobFound, JobGone, Result, Unstarted
from aiqueue.admission.controller.follow import CHANGED
from aiqueue.admission.kube.watches import EventType
from aiqueue.cli.harness.waiting import until
from fix_controller import Stage
from fix_kube import WAIT_SECONDS, create_jobs, job_document
from fix_life import annotate, check, end_pods
from fix_proxy import ApiProxy
from fix_workbench import Bench, result

pytestmark = pytest.mark.e2e


def tell(bench: Bench, how: EventType = EventType.MODIFIED) -> None:
    """The watch tells how the Job is."""
    job = bench.client.get_job(bench.namespace, "it")
    assert job is not None
    bench.observer.jobs.apply(how, job)


def answer(bench: Bench, question: Question) -> Fact:
    """What is answered once the watch has told of whatever the Job controller still writes."""
    answers: list[Fact] = []

    def answered() -> bool:
        tell(bench)
        found = question.ask()
        answers.extend([found] if found is not None else [])
        return bool(answers)

    until(answered, seconds=WAIT_SECONDS, what="an answer", longest_pause_seconds=0.05)
    return answers[0]


def find_changed(bench: Bench) -> Question:
    """Its start finds the Job changed, which is taken back at once; returns what is then asked."""
    action = bench.admit()
    bench.kubectl("annotate", "aiqueue.dev/hold=true")
    assert result(bench.hands(action)) is Result.MOOT
    bench.kubectl("annotate", "aiqueue.dev/hold-")
    step = bench.observer.step
    assert action.run_id is not None
    step.mirror.admitted(action.uid, action.run_id, action.attempt)
    row = step.mirror.known[action.uid]
    assert row.run is not None
    return questions.of_idle(bench.client, step.context, bench.observer.jobs, row, row.run)


def test_a_start_is_believed_to_have_come_to_nothing_only_when_cluster_and_watch_say_so(bench: Bench) -> None:
    tell(bench)
    question = find_changed(bench)
    assert question.ask() is None  # the watch has yet to tell that it was changed
    unstarted = answer(bench, question)
    assert isinstance(unstarted, Unstarted)
    assert unstarted.resource_version == bench.seen().resource_version
    # An earlier leader's start was on its way all the same.
    stamp = f"{bench.observer.step.context.ledger_uid}/{unstarted.run_id}/1"
    bench.kubectl("annotate", f"aiqueue.dev/run={stamp}")
    assert question.ask() is None
    assert isinstance(answer(bench, question), JobFound)
    bench.kubectl("annotate", "aiqueue.dev/run-")
    # Somebody else's was.
    bench.kubectl("patch", "--type=merge", '-p={"spec":{"suspend":false}}')
    found = answer(bench, question)
    assert isinstance(found, JobFound)
    assert not found.observation.suspended
    # It left us, and is gone: both are told as that it is there no more.
    bench.kubectl("label", "aiqueue.dev/queue-")
    assert question.ask() is None
    tell(bench, EventType.DELETED)
    assert isinstance(question.ask(), JobFound)
    bench.kubectl("delete")
    create_jobs(bench.cluster, job_document(bench.namespace, "it"))
    assert question.ask() == JobGone(unstarted.uid)


def start_in_vain(stage: Stage, name: str, gpus: int) -> None:
    """Nothing is told any more; a Job that waits for quota is held, gets its quota, is found held, and is held no more."""
    annotate(stage, name, hold="true")
    stage.tenants(gpus=gpus)
    stage.until(lambda: len(stage.runs(name)) == 1, f"{name} to be decided on")
    stage.until(lambda: not stage.rows("SELECT 1 FROM action"), f"{name} to be found changed")
    assert stage.unsuspends(str(stage.workload(name)["uid"])) == []
    annotate(stage, name, hold=None)


def test_a_change_that_is_taken_back_at_once_delays_a_start_and_keeps_no_quota(stage: Stage) -> None:
    """The watch tells of both at once; and it tells of neither to who leads next."""
    stage.tenants(gpus=4)
    with ApiProxy(stage.cluster) as proxy:
        led = stage.lead(kubeconfig=str(proxy.kubeconfig(stage.installed.controller_kubeconfig, stage.folder)))
        for name in ("told-late", "told-to-the-next"):
            stage.create_job(name)
            stage.until_state(name, "Pending")
        annotate(stage, "told-to-the-next", hold="true")
        stage.until_state("told-to-the-next", "Held")
        proxy.freeze_watches()
        start_in_vain(stage, "told-late", gpus=8)
        proxy.cut_watches()
        stage.until_running("told-late")
        assert proxy.count("get", "told-late") < 30, "it is asked after at a growing pause"
        annotate(stage, "told-to-the-next", hold=None)
        stage.until_state("told-to-the-next", "Pending")
        proxy.freeze_watches()
        start_in_vain(stage, "told-to-the-next", gpus=16)
        led.kill()
    stage.expire_lease()
    stage.lead()
    stage.until_running("told-to-the-next")
    assert stage.used() == 16
    for name in ("told-late", "told-to-the-next"):
        end_pods(stage, name)
        stage.until_state(name, "Finished")
        assert [(run["message"], run["started_at"] is not None) for run in stage.runs(name)] == [(CHANGED, False), ("", True)]
    check(stage, told_late=["Cancelled", "Finished"], told_to_the_next=["Cancelled", "Finished"])
    assert stage.used() == 0
