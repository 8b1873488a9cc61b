"""Whatever stands in a Job, it is observed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given

from aiqueue.admission.kube import jobs, objects
from aiqueue.queue.observations import Observation
from aiqueue.queue.records import shape_of
from aiqueue.queue.units import MAX_AMOUNT
from aiqueue.queue.words import WorkloadState
from fix_jobs import whole_jobs


def observed(content: dict[str, Any]) -> Observation:
    return jobs.observe(msgspec.json.decode(json.dumps(content), type=objects.Job), cluster="c")


def strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for each in pair for text in strings(each)]
    if isinstance(value, (list, tuple)):
        return [text for each in value for text in strings(each)]
    return []


@given(whole_jobs)
def test_a_job_is_always_observed(content: dict[str, Any]) -> None:
    seen = observed(content)
    (pod_set,) = seen.pod_sets
    assert pod_set.name == "main"
    assert pod_set.count >= 0
    assert seen.shape == shape_of(seen.pod_sets, seen.class_name)
    assert all(amount > 0 and amount * pod_set.count <= MAX_AMOUNT for amount in pod_set.requests.values())
    assert min(seen.active, seen.terminating, seen.ready, seen.succeeded, seen.failed) >= 0
    assert not (seen.held_by_owner and seen.released_by_owner)
    assert (seen.stamp is None) or (seen.foreign_stamp is None)
    assert seen.finished in (None, WorkloadState.FINISHED, WorkloadState.FAILED)
    assert seen.created_at.tzinfo is not None
    # Postgres takes no NUL, and nobody wants a book for a sentence.
    ours = msgspec.to_builtins(
        {
            "pod_sets": [pod_set.requests, pod_set.node_selector, pod_set.tolerations, pod_set.affinity_terms],
            "texts": [seen.queue_name, seen.class_name, seen.user, seen.owner, seen.invalid, seen.foreign_stamp],
        }
    )
    assert all("\x00" not in text and len(text) <= 8 * 1024 for text in strings(ours))


@given(whole_jobs)
def test_what_is_valid_can_be_admitted(content: dict[str, Any]) -> None:
    seen = observed(content)
    (pod_set,) = seen.pod_sets
    if seen.invalid is None:
        assert pod_set.requests["pods"] == 1
        assert pod_set.count > 0 or content["spec"].get("completions") == 0
        assert pod_set.min_count is None or pod_set.min_count > 0
        assert pod_set.min_count is None or seen.stamp is not None or pod_set.min_count < pod_set.count
        assert seen.queue_name != ""
        assert jobs.durations(msgspec.json.decode(json.dumps(content), type=objects.Job)) is not None
