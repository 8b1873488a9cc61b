"""Which Jobs a new term looks at first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from aiqueue.admission.controller.arrears import Arrears
from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.store import JobStore
from aiqueue.admission.kube.watches import EventType
from aiqueue.queue.store.known import Known, OpenRun
from aiqueue.queue.words import WorkloadState

ROW = Known(
    id=1,
    uid="a",
    namespace="d",
    name="a",
    queue_name="q",
    class_name=None,
    shape="s",
    state=WorkloadState.PENDING,
    attempt=0,
    observed_at=datetime(2026, 1, 15, tzinfo=UTC),
    resource_version="7",
    status=(True, 0, 0, 0, 0, 0),
    stamp=None,
    hold_requested=False,
    release_requested=False,
    owner_suspended=False,
    invalid=None,
)


def job(uid: str, version: str = "7", *, suspend: bool | None = True) -> Job:
    metadata = {"name": uid, "namespace": "d", "uid": uid, "resourceVersion": version}
    return msgspec.convert({"metadata": metadata, "spec": {"suspend": suspend, "template": {"spec": {}}}}, Job)


def test_what_waits_as_the_ledger_says_is_looked_at_later_and_once() -> None:
    store = JobStore()
    store.replace([job("a"), job("b")], "9")
    arrears = Arrears(store)
    known = {uid: replace(ROW, uid=uid) for uid in ("a", "b")}
    assert list(arrears.urgent(store.snapshot(), known)) == []
    assert len(arrears) == 2
    store.apply(EventType.MODIFIED, job("a", "10"))
    store.apply(EventType.DELETED, job("b", "11"))
    assert list(arrears.some()) == [job("a", "10")], "as it is by now, and only what is there"
    assert not arrears
    assert list(arrears.some()) == []


@pytest.mark.parametrize(
    ("seen", "changes"),
    [
        (job("a", "8"), {}),
        (job("a", suspend=False), {}),
        (job("a", suspend=None), {}),
        (job("new"), {}),
        (job("a"), {"state": WorkloadState.HELD}),
        (job("a"), {"state": WorkloadState.CANCELLED}),
        (job("a"), {"stamp": "another-ledger/1/1"}),
        (job("a"), {"run": OpenRun(1, 1, started=False)}),
    ],
)
def test_all_else_is_looked_at_first(seen: Job, changes: dict[str, Any]) -> None:
    arrears = Arrears(JobStore())
    assert list(arrears.urgent([seen], {"a": replace(ROW, **changes)})) == [seen]
    assert not arrears


def test_no_round_looks_at_all_of_a_large_cluster() -> None:
    store = JobStore()
    jobs = [job(str(number)) for number in range(2500)]
    store.replace(jobs, "9")
    arrears = Arrears(store)
    assert list(arrears.urgent(jobs, {str(number): replace(ROW, uid=str(number)) for number in range(2500)})) == []
    assert [len(list(arrears.some())) for _ in range(4)] == [1000, 1000, 500, 0]
