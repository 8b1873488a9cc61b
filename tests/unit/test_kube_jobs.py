"""A Job as the ledger sees it: examples."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from aiqueue.admission.kube import jobs, objects
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import NodeRequirement, Toleration, shape_of
from aiqueue.queue.words import WorkloadState

STAMP = "0f8fad5b-d9cb-469f-a165-70867728950e/12/3"


def job(
    spec: dict[str, Any] | None = None,
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    pod: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **metadata: Any,
) -> objects.Job:
    content = {
        "metadata": {
            "name": "a",
            "namespace": "team",
            "uid": "u",
            "resourceVersion": "7",
            "creationTimestamp": "2026-11-21T10:00:00Z",
            "labels": {"aiqueue.dev/queue": "train"} if labels is None else labels,
            "annotations": annotations or {},
            **metadata,
        },
        "spec": {"template": {"spec": pod or {}}, **(spec or {})},
        "status": status or {},
    }
    return msgspec.json.decode(msgspec.json.encode(content), type=objects.Job)


def seen(*arguments: Any, **keywords: Any) -> Observation:
    return jobs.observe(job(*arguments, **keywords), cluster="default")


def test_a_suspended_job_of_four_pods() -> None:
    gpu = {"resources": {"limits": {"nvidia.com/gpu": "8", "cpu": "0"}}}
    pod = {
        "containers": [gpu],
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}, {"key": "team", "value": "a", "tolerationSeconds": 5}],
    }
    observation = seen({"parallelism": 4, "completions": 10, "suspend": True}, pod=pod)
    (pod_set,) = observation.pod_sets
    assert (observation.cluster, observation.uid, observation.namespace, observation.name) == ("default", "u", "team", "a")
    assert (observation.queue_name, observation.class_name, observation.resource_version) == ("train", None, "7")
    assert (pod_set.name, pod_set.count, pod_set.min_count) == ("main", 4, None)
    assert pod_set.requests == {"nvidia.com/gpu": 8, "pods": 1}, "a request of nothing asks for nothing"
    assert pod_set.node_selector == {"zone": "a"}
    assert pod_set.tolerations == (Toleration("gpu", "Exists"), Toleration("team", "Equal", "a", toleration_seconds=5))
    assert observation.created_at == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert observation.shape == shape_of(observation.pod_sets, None)
    assert observation.suspended
    assert not observation.running
    assert observation.invalid is None


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        ({}, 1),
        ({"parallelism": 3}, 3),
        ({"parallelism": 3, "completions": 2}, 2),
        ({"parallelism": 2, "completions": 9}, 2),
        ({"parallelism": 9, "completions": 1}, 1),
        ({"completions": 9}, 1),
        ({"parallelism": 5, "completions": 0}, 0),
        ({"parallelism": 0, "completions": 0}, 0),
    ],
)
def test_the_gang_is_what_runs_at_once(spec: dict[str, Any], count: int) -> None:
    observation = seen(spec)
    assert observation.pod_sets[0].count == count
    assert observation.invalid is None


def test_a_job_paused_by_parallelism_waits_with_a_sentence() -> None:
    observation = seen({"parallelism": 0, "completions": 3})
    assert observation.pod_sets[0].count == 0
    assert observation.invalid == (
        "spec.parallelism is 0: write 1 or more: the Job waits until then, since it asks for no pods"
    )


@pytest.mark.parametrize(("text", "min_count"), [("1", 1), ("3", 3), ("003", 3)])
def test_min_parallelism(text: str, min_count: int) -> None:
    observation = seen({"parallelism": 4}, annotations={"aiqueue.dev/min-parallelism": text})
    assert (observation.pod_sets[0].min_count, observation.invalid) == (min_count, None)


@pytest.mark.parametrize("text", ["", "0", "-1", "4", "5", "1.5", "two", "1_0", " 1", "+1", "9" * 30])
def test_a_wrong_min_parallelism_is_named(text: str) -> None:
    observation = seen({"parallelism": 4}, annotations={"aiqueue.dev/min-parallelism": text})
    assert observation.pod_sets[0].min_count is None
    assert observation.invalid is not None
    assert observation.invalid.startswith(f"metadata.annotations[aiqueue.dev/min-parallelism] is {text!r}: write ")


def test_min_parallelism_is_not_compared_with_the_admitted_size() -> None:
    """A run may have been admitted at the minimum; that makes the annotation no error."""
    observation = seen({"parallelism": 2}, annotations={"aiqueue.dev/min-parallelism": "2", "aiqueue.dev/run": STAMP})
    assert (observation.pod_sets[0].min_count, observation.invalid) == (2, None)


def test_durations_are_read() -> None:
    annotations = {"aiqueue.dev/max-runtime": "1h30m", "aiqueue.dev/estimated-runtime": "10m", "aiqueue.dev/checkpoint": "90s"}
    assert jobs.durations(job(annotations=annotations)) == jobs.Durations(5400, 600, 90)
    assert jobs.durations(job()) == jobs.Durations()
    observation = seen(annotations=annotations)
    assert (observation.max_runtime_seconds, observation.checkpoint_seconds, observation.invalid) == (5400, 90, None)
    without = seen()
    assert (without.max_runtime_seconds, without.checkpoint_seconds) == (None, None)
    assert observation.shape == without.shape  # how long it may run is not what it asks for


def test_a_wrong_duration_says_nothing_and_takes_nothing_from_the_others() -> None:
    observation = seen(annotations={"aiqueue.dev/max-runtime": "1h", "aiqueue.dev/checkpoint": "often"})
    assert (observation.max_runtime_seconds, observation.checkpoint_seconds) == (3600, None)


@pytest.mark.parametrize("name", ["max-runtime", "estimated-runtime", "checkpoint"])
@pytest.mark.parametrize("text", ["", "0s", "10", "-1s", "1.5h", "1h 30m", "forever", "9999999d", "x" * 300_000])
def test_a_wrong_duration_is_named(name: str, text: str) -> None:
    annotations = {f"aiqueue.dev/{name}": text}
    observation = seen(annotations=annotations)
    assert observation.invalid is not None
    assert observation.invalid.startswith(f"metadata.annotations[aiqueue.dev/{name}] is '{text[:20]}")
    assert len(observation.invalid) < 300
    with pytest.raises(InvalidInput):
        jobs.durations(job(annotations=annotations))


@pytest.mark.parametrize(("text", "held", "released"), [("true", True, False), ("false", False, True), (None, False, False)])
def test_hold(text: str | None, held: bool, released: bool) -> None:
    observation = seen(annotations={} if text is None else {"aiqueue.dev/hold": text})
    assert (observation.held_by_owner, observation.released_by_owner, observation.invalid) == (held, released, None)


@pytest.mark.parametrize("text", ["", "True", "yes", "1"])
def test_hold_knows_two_words(text: str) -> None:
    observation = seen(annotations={"aiqueue.dev/hold": text})
    assert not observation.held_by_owner
    assert not observation.released_by_owner
    assert observation.invalid is not None
    assert observation.invalid.startswith(f"metadata.annotations[aiqueue.dev/hold] is {text!r}: ")


def test_all_that_is_wrong_is_said_at_once() -> None:
    observation = seen(annotations={"aiqueue.dev/hold": "maybe", "aiqueue.dev/checkpoint": "often"})
    assert observation.invalid is not None
    assert "hold" in observation.invalid
    assert "checkpoint" in observation.invalid


def test_unreadable_requests_are_named() -> None:
    observation = seen(pod={"containers": [{"resources": {"requests": {"cpu": "lots"}}}]})
    assert observation.pod_sets[0].requests == {}
    assert observation.invalid is not None
    assert "spec.template.spec.containers[0].resources.requests[cpu] is 'lots'" in observation.invalid


def test_requests_beyond_what_the_ledger_counts_are_named() -> None:
    observation = seen({"parallelism": 2**20}, pod={"containers": [{"resources": {"requests": {"memory": "8Ei"}}}]})
    assert observation.invalid is not None
    observation = seen({"parallelism": 2**20}, pod={"containers": [{"resources": {"requests": {"memory": "4Ei"}}}]})
    assert observation.invalid is not None
    assert "memory of 1048576 pods" in observation.invalid


def test_the_run_annotation() -> None:
    ours = seen(annotations={"aiqueue.dev/run": STAMP})
    assert ours.stamp == RunStamp("0f8fad5b-d9cb-469f-a165-70867728950e", 12, 3)
    assert ours.foreign_stamp is None
    foreign = seen(annotations={"aiqueue.dev/run": "me\x00", "aiqueue.dev/user": "\x00" + "x" * 5000})
    assert (foreign.stamp, foreign.foreign_stamp) == (None, "me?"), "Postgres takes no NUL"
    assert foreign.user.startswith("?x")
    assert len(foreign.user) == 1024


def test_a_job_without_the_label_is_not_managed() -> None:
    assert seen(labels={}).queue_name is None
    empty = seen(labels={"aiqueue.dev/queue": ""})
    assert empty.queue_name == ""
    assert empty.invalid is not None


def test_labels_of_kueue_mean_nothing_by_themselves() -> None:
    """A policy of the component kueue-labels turns them into ours as a Job is created."""
    labels = {"kueue.x-k8s.io/queue-name": "theirs", "kueue.x-k8s.io/priority-class": "high"}
    assert seen(labels=labels).queue_name is None


@pytest.mark.parametrize(
    ("condition", "state"),
    [("Complete", WorkloadState.FINISHED), ("Failed", WorkloadState.FAILED), ("SuccessCriteriaMet", None)],
)
def test_the_end(condition: str, state: WorkloadState | None) -> None:
    at = "2026-11-21T11:00:00Z"
    observation = seen(status={"conditions": [{"type": condition, "status": "True", "lastTransitionTime": at}]})
    assert observation.finished == state
    assert observation.finished_at == (datetime(2026, 11, 21, 11, tzinfo=UTC) if state else None)
    denied = seen(status={"conditions": [{"type": condition, "status": "False", "lastTransitionTime": at}]})
    assert (denied.finished, denied.finished_at) == (None, None)


def test_status_and_metadata() -> None:
    observation = seen(
        status={
            "active": 3,
            "ready": 2,
            "terminating": 1,
            "succeeded": 4,
            "failed": 5,
            "startTime": "2026-11-21T10:00:00Z",
            "conditions": [{"type": "Suspended", "status": "True", "lastTransitionTime": None}],
        },
        annotations={"aiqueue.dev/user": "alice@example.com"},
        deletionTimestamp="2026-11-21T11:00:00Z",
        ownerReferences=[
            {"kind": "Other", "name": "x", "uid": "1"},
            {"kind": "CronJob", "name": "nightly", "uid": "2", "controller": True},
        ],
    )
    counts = (observation.active, observation.ready, observation.terminating, observation.succeeded, observation.failed)
    assert counts == (3, 2, 1, 4, 5)
    assert observation.suspended_seen
    assert observation.started
    assert not seen().started
    assert observation.deleting
    assert observation.running
    assert (observation.user, observation.owner) == ("alice@example.com", "CronJob/nightly")


def test_required_node_affinity() -> None:
    def terms(*written: dict[str, Any]) -> Any:
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(written)}}
        return seen(pod={"affinity": {"nodeAffinity": required}}).pod_sets[0].affinity_terms

    zone = {"key": "zone", "operator": "In", "values": ["a", "b"]}
    gpu = {"key": "gpu", "operator": "Exists"}
    assert seen().pod_sets[0].affinity_terms == ()
    assert terms({"matchExpressions": [zone, gpu]}, {}) == (
        (NodeRequirement("zone", "In", ("a", "b")), NodeRequirement("gpu", "Exists")),
    )
    # An empty term matches no node, so it must not read as "any node will do".
    assert terms({}) == ((NodeRequirement("metadata.name", "In", ()),),)


def test_what_restore_puts_back_is_what_stood_there() -> None:
    written = {
        "nodeSelector": {"zone": "a"},
        "tolerations": [{"key": "k", "value": "v"}, {"operator": "Exists", "tolerationSeconds": 0}],
    }
    assert jobs.template_of(job({"parallelism": 3}, pod=written)) == {**written, "parallelism": 3}
    assert jobs.template_of(job()) == {"nodeSelector": {}, "tolerations": [], "parallelism": None}
