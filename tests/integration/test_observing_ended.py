"""A Job that is over and gone before anybody looked at it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from aiqueue.admission.kube import objects
from aiqueue.admission.kube.watches import EventType
from aiqueue.queue.words import WorkloadState
from fix_terms import Observer

pytestmark = pytest.mark.integration


def job(version: str, condition: str = "") -> objects.Job:
    """A waiting Job of no pods, or one that has ended with this condition."""
    metadata = {"name": "job-1", "namespace": "team-a", "uid": "uid-1", "labels": {"aiqueue.dev/queue": "train"}}
    spec = {"suspend": True, "parallelism": 1, "completions": 0, "template": {"spec": {}}}
    conditions = [{"type": condition, "status": "True"}] if condition else []
    content = {"metadata": {**metadata, "resourceVersion": version}, "spec": spec, "status": {"conditions": conditions}}
    return msgspec.convert(content, objects.Job)


@pytest.mark.parametrize(("condition", "state"), [("Complete", WorkloadState.FINISHED), ("Failed", WorkloadState.FAILED)])
def test_it_is_told_by_how_it_ended_and_not_by_its_being_gone(
    observer: Callable[..., Observer], condition: str, state: WorkloadState
) -> None:
    made = observer()
    made.jobs.replace([job("1")], "1")
    made.step.look([made.step.context.see(each) for each in made.jobs.drain(0).upserts])
    made.jobs.apply(EventType.MODIFIED, job("2", condition))
    made.jobs.apply(EventType.DELETED, job("3", condition))
    changes = made.jobs.drain(0)
    assert changes.upserts == ()
    made.step.ended(changes.absent)
    made.step.absent([each.metadata.uid for each in changes.absent])
    assert made.step.mirror.known["uid-1"].state is state
