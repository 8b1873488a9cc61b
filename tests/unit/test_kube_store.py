"""The store: order, absence, waking."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.store import Changes, JobStore
from aiqueue.admission.kube.watches import EventType

LONG_SECONDS = 60.0


def job(name: str, version: int, uid: str | None = None) -> Job:
    metadata = {"name": name, "namespace": "d", "uid": uid or name, "resourceVersion": str(version)}
    return msgspec.convert({"metadata": metadata, "spec": {"template": {"spec": {}}}}, Job)


def names(changes: Changes) -> list[str]:
    return [f"{each.metadata.name}{each.metadata.resource_version}" for each in changes.upserts]


def test_nothing_is_told_before_the_first_list() -> None:
    store = JobStore()
    store.reset_drain()
    assert not store.synced
    assert not store.drain(0.0)
    store.replace([], "1")
    assert store.synced
    assert store.listed_at == "1"
    assert store.drain(0.0) == Changes(replaced=True)


def test_changes_come_once_at_their_latest_in_the_order_of_first_change() -> None:
    store = JobStore()
    store.replace([], "1")
    store.drain(0.0)
    for told in (job("b", 2), job("a", 3), job("b", 4), job("c", 5)):
        store.apply(EventType.MODIFIED, told)
    assert names(store.drain(0.0)) == ["b4", "a3", "c5"]
    store.apply(EventType.ADDED, job("x", 5))
    store.apply(EventType.ADDED, job("y", 5))
    store.apply(EventType.DELETED, job("x", 6))
    store.apply(EventType.ADDED, job("x", 7))
    assert names(store.drain(0.0)) == ["y5", "x7"], "what went and came back changed first when it came back"
    store.apply(EventType.MODIFIED, job("a", 6))
    assert names(store.drain(0.0)) == ["a6"]


def test_deleted_and_missing_jobs_are_absent_as_last_known() -> None:
    store = JobStore()
    store.replace([job("a", 1), job("b", 2), job("c", 3)], "3")
    store.drain(0.0)
    store.apply(EventType.DELETED, job("a", 4))
    store.replace([job("b", 2)], "5")
    changes = store.drain(0.0)
    assert [each.metadata.name for each in changes.absent] == ["a", "c"]
    assert changes.absent[0].metadata.resource_version == "4"
    assert names(changes) == ["b2"]
    assert changes.replaced


def test_a_job_that_comes_back_is_not_absent() -> None:
    store = JobStore()
    store.replace([job("a", 1)], "1")
    store.drain(0.0)
    # The queue label was taken off and put back: the same uid leaves the selection and returns.
    store.apply(EventType.DELETED, job("a", 2))
    store.apply(EventType.ADDED, job("a", 3))
    assert store.drain(0.0) == Changes(upserts=(job("a", 3),))


def test_another_job_of_the_same_name_is_another_job() -> None:
    store = JobStore()
    store.replace([job("a", 1, "old")], "1")
    store.drain(0.0)
    store.apply(EventType.ADDED, job("a", 3, "new"))
    store.apply(EventType.DELETED, job("a", 2, "old"))
    assert store.by_name("d", "a") == job("a", 3, "new")
    assert store.get("old") is None
    changes = store.drain(0.0)
    assert (changes.upserts, changes.absent) == ((job("a", 3, "new"),), (job("a", 1, "old"),)), "one at a time has a name"


def test_a_late_event_of_a_job_that_is_gone_changes_nothing() -> None:
    store = JobStore()
    store.replace([job("a", 1, "old")], "1")
    store.drain(0.0)
    store.apply(EventType.DELETED, job("a", 4, "old"))
    store.apply(EventType.MODIFIED, job("a", 3, "old"))
    assert store.get("old") is None
    store.apply(EventType.DELETED, job("a", 4, "old"))
    changes = store.drain(0.0)
    assert (changes.upserts, changes.absent) == ((), (job("a", 4, "old"),))
    store.apply(EventType.ADDED, job("a", 6, "new"))
    store.drain(0.0)
    store.apply(EventType.MODIFIED, job("a", 2, "older yet"))
    assert store.by_name("d", "a") == job("a", 6, "new")
    assert not store.drain(0.0)


def test_what_was_passed_over_for_its_successor_stays_gone_when_that_goes_too() -> None:
    store = JobStore()
    store.replace([job("a", 1, "old")], "1")
    store.apply(EventType.ADDED, job("a", 5, "new"))
    store.apply(EventType.DELETED, job("a", 4, "old"))
    store.apply(EventType.DELETED, job("a", 6, "new"))
    store.apply(EventType.MODIFIED, job("a", 3, "old"))
    assert len(store) == 0


def test_what_the_list_has_already_is_left_aside() -> None:
    store = JobStore()
    store.replace([], "9")
    store.apply(EventType.MODIFIED, job("a", 8))
    assert len(store) == 0


def test_a_job_whose_label_comes_back_is_there_again() -> None:
    store = JobStore()
    store.replace([job("a", 1)], "1")
    store.apply(EventType.DELETED, job("a", 2))
    store.apply(EventType.ADDED, job("a", 3))
    assert store.get("a") == job("a", 3)


def test_what_went_is_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aiqueue.admission.kube.store.MAX_ENDED", 2)
    store = JobStore()
    store.replace([], "1")
    for number in range(5):
        store.apply(EventType.DELETED, job(str(number), number + 2))
    assert list(store._ended) == ["3", "4"]
    store.replace([], "9")
    assert not store._ended


def test_a_cluster_restored_from_a_backup_is_believed() -> None:
    store = JobStore()
    store.replace([job("a", 100)], "100")
    store.drain(0.0)
    store.replace([job("a", 50)], "60")
    assert names(store.drain(0.0)) == ["a50"]


def test_versions_that_are_no_numbers_are_taken_as_they_come() -> None:
    store = JobStore()
    store.replace([], "x")
    odd = msgspec.structs.replace(job("a", 1), metadata=msgspec.structs.replace(job("a", 1).metadata, resource_version="x9"))
    store.apply(EventType.MODIFIED, job("a", 5))
    store.apply(EventType.MODIFIED, odd)
    assert store.get("a") == odd


def test_a_consumer_that_begins_gets_everything() -> None:
    store = JobStore()
    store.replace([job("a", 1)], "1")
    store.apply(EventType.ADDED, job("b", 2))
    store.drain(0.0)
    store.reset_drain()
    changes = store.drain(0.0)
    assert (names(changes), changes.replaced) == (["a1", "b2"], True)
    assert not store.drain(0.0)


def test_nothing_is_kept_for_a_consumer_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby reflects for weeks and drains only when it leads."""
    monkeypatch.setattr("aiqueue.admission.kube.store.MAX_ABSENT", 3)
    store = JobStore()
    store.replace([job("a", 1), job("kept", 1)], "1")
    store.apply(EventType.DELETED, job("a", 2))
    store.replace([job("kept", 1)], "3")
    first = store.drain(0.0)
    assert (names(first), first.absent, first.replaced) == (["kept1"], (), True)
    # It has gone away again: up to the bound it is waited for.
    for number in range(3):
        store.apply(EventType.ADDED, job(f"b{number}", 10 + number))
        store.apply(EventType.DELETED, job(f"b{number}", 20 + number))
    assert len(store._absent) == 3
    store.apply(EventType.DELETED, job("c", 30))
    assert not store._absent
    store.apply(EventType.ADDED, job("d", 31))
    assert not store._dirty
    again = store.drain(LONG_SECONDS)
    assert (names(again), again.absent, again.replaced) == (["kept1", "d31"], (), True)
    store.apply(EventType.DELETED, job("d", 32))
    assert [each.metadata.name for each in store.drain(0.0).absent] == ["d"]


def test_what_goes_after_a_consumer_begins_is_told() -> None:
    """It compares what it knows with the store between `reset_drain` and its first drain."""
    store = JobStore()
    store.replace([job("a", 1), job("b", 1)], "1")
    store.reset_drain()
    assert store.get("a") is not None
    store.apply(EventType.DELETED, job("a", 2))
    changes = store.drain(0.0)
    assert (names(changes), changes.replaced) == (["b1"], True)
    assert [each.metadata.name for each in changes.absent] == ["a"]


def test_the_consumer_is_woken_by_a_change_and_by_a_poke() -> None:
    store = JobStore()
    store.replace([], "1")
    store.drain(0.0)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.drain, LONG_SECONDS)
        store.apply(EventType.ADDED, job("a", 2))
        assert names(waiting.result(LONG_SECONDS / 2)) == ["a2"]
        waiting = pool.submit(store.drain, LONG_SECONDS)
        store.poke()
        assert not waiting.result(LONG_SECONDS / 2)
        # A poke while nobody waits is kept for the next drain, once.
        store.poke()
        assert not pool.submit(store.drain, LONG_SECONDS).result(LONG_SECONDS / 2)
