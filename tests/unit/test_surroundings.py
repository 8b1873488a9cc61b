"""What is known of LimitRanges and RuntimeClasses, what moved, and what follows for a Job."""

from __future__ import annotations

from typing import Any

import msgspec

from aiqueue.admission.controller.sight import concerned
from aiqueue.admission.kube import jobs, kinds, objects
from aiqueue.admission.kube.store import JobStore
from aiqueue.admission.kube.surroundings import Surroundings
from aiqueue.admission.kube.watches import EventType
from aiqueue.queue.observations import Observation
from aiqueue.queue.words import WorkloadState
from fix_follow import make_known, make_open_run
from fix_kube import job_document


def limit_range(version: int, cpu: str = "1", namespace: str = "ns", name: str = "a", **more: Any) -> kinds.LimitRange:
    item = {"type": "Container", "default": {"cpu": cpu}, "defaultRequest": {"cpu": cpu}, **more}
    metadata = {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}", "resourceVersion": str(version)}
    return msgspec.convert({"metadata": metadata, "spec": {"limits": [item]}}, kinds.LimitRange)


def runtime_class(version: int, name: str = "gvisor", **more: Any) -> kinds.RuntimeClass:
    metadata = {"name": name, "uid": name, "resourceVersion": str(version)}
    return msgspec.convert({"metadata": metadata, **more}, kinds.RuntimeClass)


def job(namespace: str = "ns", name: str = "it", runtime: str | None = None, **asked: str) -> objects.Job:
    """A Job of one container that asks for these."""
    container = {"name": "main", "image": "i", "resources": {"requests": asked} if asked else {}}
    pod = {"containers": [container], **({"runtimeClassName": runtime} if runtime else {})}
    document = job_document(namespace, name, pod=pod)
    document["metadata"] |= {"uid": f"{namespace}-{name}", "resourceVersion": "1"}
    return msgspec.convert(document, objects.Job)


def seen(surroundings: Surroundings | None, of: objects.Job) -> Observation:
    return jobs.observe(of, cluster="c", surroundings=surroundings)


def cpu(surroundings: Surroundings | None, of: objects.Job) -> int | None:
    return seen(surroundings, of).pod_sets[0].requests.get("cpu")


def test_a_job_is_counted_with_what_is_known_now_and_its_shape_follows() -> None:
    around = Surroundings()
    before = seen(around, job())
    assert (cpu(None, job()), cpu(around, job())) == (None, None)
    around.limit_ranges.apply(EventType.ADDED, limit_range(5, "2"))
    assert cpu(around, job()) == 2000
    assert cpu(around, job(cpu="3")) == 3000
    assert cpu(around, job("elsewhere")) is None
    assert cpu(None, job()) is None  # the webhook knows nothing of it
    assert seen(around, job()).shape != before.shape
    around.limit_ranges.apply(EventType.MODIFIED, limit_range(6, "4"))
    assert cpu(around, job()) == 4000
    around.limit_ranges.apply(EventType.DELETED, limit_range(7, "4"))
    assert seen(around, job()).shape == before.shape


def test_of_several_defaults_the_largest_counts() -> None:
    around = Surroundings()
    around.limit_ranges.replace(
        [limit_range(1, "1", name="a"), limit_range(1, "3", name="b"), limit_range(1, "2", name="c")], "1"
    )
    assert cpu(around, job()) == 3000
    assert seen(around, job()).invalid is None


def test_what_is_older_or_says_nothing_new_moves_nothing() -> None:
    woken: list[None] = []
    around = Surroundings(lambda: woken.append(None))
    around.limit_ranges.replace([limit_range(5, "2")], "5")
    around.runtime_classes.replace([runtime_class(5)], "5")
    assert around.synced
    moved = around.moved()
    assert (moved.namespaces, moved.classes, len(woken)) == ({"ns"}, {"gvisor"}, 2)
    around.limit_ranges.apply(EventType.MODIFIED, limit_range(4, "8"))
    around.limit_ranges.apply(EventType.MODIFIED, limit_range(6, "2"))  # somebody labelled it
    around.limit_ranges.replace([limit_range(6, "2")], "7")
    around.runtime_classes.apply(EventType.MODIFIED, runtime_class(9))
    assert not around.moved()
    assert len(woken) == 2
    assert cpu(around, job()) == 2000
    around.limit_ranges.replace([], "9")
    assert around.moved().namespaces == {"ns"}
    assert cpu(around, job()) is None


def test_it_is_not_relied_on_before_both_kinds_were_listed() -> None:
    around = Surroundings()
    around.limit_ranges.replace([], "1")
    assert not around.synced
    around.runtime_classes.replace([], "1")
    assert around.synced


def test_a_runtime_class_adds_its_overhead_and_where_its_pods_may_run() -> None:
    around = Surroundings()
    asks = job(runtime="gvisor", cpu="1")
    assert "there is no RuntimeClass of that name" in (seen(around, asks).invalid or "")
    scheduling = {"nodeSelector": {"sandbox": "yes"}, "tolerations": [{"key": "sandbox", "operator": "Exists"}]}
    around.runtime_classes.apply(
        EventType.ADDED, runtime_class(1, overhead={"podFixed": {"cpu": "250m"}}, scheduling=scheduling)
    )
    found = seen(around, asks)
    (pod_set,) = found.pod_sets
    assert found.invalid is None
    assert pod_set.requests["cpu"] == 1250
    assert pod_set.node_selector == {"sandbox": "yes"}
    assert [each.key for each in pod_set.tolerations] == ["sandbox"]
    assert around.moved().concerns(asks)


def test_what_runs_is_not_complained_of() -> None:
    """The template of a Job that was started holds what a run wrote, and its pods are there."""
    document = job_document("ns", "it", pod={"runtimeClassName": "gone"})
    document["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    document["metadata"]["annotations"] = {"aiqueue.dev/run": "00000000-0000-4000-8000-000000000001/7/1"}
    assert seen(Surroundings(), msgspec.convert(document, objects.Job)).invalid is None


def test_who_is_yet_to_be_started_is_looked_at_again_and_nobody_else() -> None:
    around, store = Surroundings(), JobStore()
    names = ("waits", "held", "decided", "runs", "over", "unknown")
    store.replace(
        [*(job(name=name) for name in names), job("elsewhere", "waits"), job("elsewhere", "boxed", runtime="gvisor")], "1"
    )
    known = {
        "ns-waits": make_known(),
        "ns-held": make_known(state=WorkloadState.HELD),
        "ns-decided": make_known(make_open_run()),
        "ns-runs": make_known(make_open_run(started=True)),
        "ns-over": make_known(state=WorkloadState.FINISHED),
        "elsewhere-waits": make_known(),
        "elsewhere-boxed": make_known(),
    }
    assert list(concerned(around, store, known)) == []
    around.limit_ranges.apply(EventType.ADDED, limit_range(1))
    assert [each.metadata.name for each in concerned(around, store, known)] == ["waits", "held", "decided"]
    assert list(concerned(around, store, known)) == []
    around.runtime_classes.apply(EventType.ADDED, runtime_class(1))
    assert [each.metadata.name for each in concerned(around, store, known)] == ["boxed"]


def test_several_refusals_are_told_but_not_a_book_of_them() -> None:
    around = Surroundings()
    bounds = {f"example.com/{number}": "1" for number in range(40)}
    around.limit_ranges.apply(EventType.ADDED, limit_range(1, min=bounds))
    invalid = seen(around, job()).invalid
    assert invalid is not None
    assert invalid.count("wants at least 1") == 3
