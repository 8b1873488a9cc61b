"""For how many pods a run still needs room."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from aiqueue.admission.controller import follow
from aiqueue.admission.controller.follow import Batch
from aiqueue.admission.controller.shrinking import needed
from aiqueue.admission.kube import jobs, objects
from aiqueue.queue.observations import Observation
from aiqueue.queue.records import PodSet
from aiqueue.queue.store.changes import ResizedRun
from aiqueue.queue.words import WorkloadState
from fix_follow import BEFORE, GPU, OURS, RUN, make_context, make_running, make_seen
from fix_kube import job_document

FOUR = (PodSet("main", 4, {GPU: 8}),)
ASKS = {"main": {GPU: 8}}


def running(pod_sets: tuple[PodSet, ...] = FOUR, **changes: Any) -> Observation:
    """A Job of four pods at once, ten in all, that goes on under our run."""
    return make_seen(pod_sets, **({"suspended": False, "stamp": OURS, "completions": 10} | changes))


@pytest.mark.parametrize(
    ("status", "pods"),
    [
        ({"active": 4}, 4),
        ({"active": 4, "succeeded": 6}, 4),
        ({"active": 3, "succeeded": 7}, 3),
        ({"active": 3, "succeeded": 6}, 4),  # one ended, and its successor is yet to come
        ({"active": 1, "succeeded": 9}, 1),
        ({"active": 0, "succeeded": 10}, 0),  # all are through, and the Job is about to say so
        ({"active": 2, "terminating": 2, "succeeded": 8}, 4),  # who is going holds its node
        ({"active": 0, "terminating": 3, "succeeded": 10}, 3),
        ({"active": 0, "succeeded": 0}, 4),  # none is there yet
        ({"active": 4, "succeeded": 5, "failed_indexes": 2}, 4),
        ({"active": 2, "succeeded": 5, "failed_indexes": 3}, 2),
        ({"active": 4, "succeeded": 3, "ending": True}, 4),
        ({"active": 1, "terminating": 1, "succeeded": 3, "ending": True}, 2),
        ({"active": 0, "succeeded": 3, "ending": True}, 0),
        ({"completions": None, "active": 4}, 4),
        ({"completions": None, "active": 2}, 4),  # two failed, and are made again
        ({"completions": None, "active": 3, "succeeded": 1}, 3),
        ({"completions": None, "active": 0, "succeeded": 2, "terminating": 1}, 1),
    ],
)
def test_pods_that_are_there_or_may_come(status: dict[str, Any], pods: int) -> None:
    assert needed(running(**status)) == pods


class TestFollowing:
    """What is written of it."""

    def resized(self, seen: Observation, context: follow.Context, **known: Any) -> list[ResizedRun]:
        batch = Batch()
        follow.follow(batch, seen, make_running(**known), context)
        assert not batch.changes.resized or seen.uid in batch.touched
        context.sizes.written(batch.changes)
        return batch.changes.resized

    def test_a_run_shrinks_once_for_each_pod_that_is_needed_no_more(self) -> None:
        context = make_context()
        assert self.resized(running(active=4, succeeded=6), context) == []
        assert self.resized(running(active=3, succeeded=7), context) == [ResizedRun(RUN, 11, {"main": 3}, ASKS)]
        assert self.resized(running(active=3, succeeded=7, ready=3), context) == []
        assert self.resized(running(active=1, succeeded=9), context) == [ResizedRun(RUN, 11, {"main": 1}, ASKS)]
        assert self.resized(running(active=0, succeeded=10), context) == []  # what is left goes with the run

    def test_it_never_grows_again(self) -> None:
        """Whatever is seen late or in the wrong order."""
        context = make_context()
        assert self.resized(running(active=1, succeeded=9), context) == [ResizedRun(RUN, 11, {"main": 1}, ASKS)]
        assert self.resized(running(active=4, succeeded=5), context) == []
        assert self.resized(running(active=2, succeeded=8), context) == []

    def test_a_new_term_says_it_again(self) -> None:
        assert self.resized(running(active=1, succeeded=9), make_context()) == [ResizedRun(RUN, 11, {"main": 1}, ASKS)]

    @pytest.mark.parametrize(
        "changes",
        [
            {"suspended": True, "active": 1},
            {"suspended": True, "active": 0, "terminating": 2},
        ],
    )
    def test_a_run_that_is_stopped_keeps_what_it_holds_until_its_pods_are_gone(self, changes: dict[str, Any]) -> None:
        assert self.resized(running(succeeded=9, **changes), make_context()) == []

    def test_a_new_run_of_the_same_workload_is_as_large_as_it_was_admitted(self) -> None:
        context = make_context()
        self.resized(running(active=1, succeeded=9), context)
        batch = Batch()
        done = running(active=0, succeeded=10, finished=WorkloadState.FINISHED)
        follow.follow(batch, done, make_running(), context)
        context.sizes.written(batch.changes)
        assert [each.run_id for each in batch.changes.closed] == [RUN]
        assert self.resized(running(active=3, succeeded=7), context) == [ResizedRun(RUN, 11, {"main": 3}, ASKS)]

    def test_a_job_is_adopted_at_what_it_still_needs(self) -> None:
        batch = Batch()
        seen = replace(running(active=2, succeeded=8), stamp=None, created_at=BEFORE)
        follow.follow(batch, seen, None, make_context())
        (adopted,) = batch.changes.adopted
        assert [(each.resource, each.amount) for each in adopted.allocations] == [(GPU, 16)]


def read(**status: Any) -> Observation:
    """An Indexed Job of ten that is read as the API server gives it."""
    document = job_document("ns", "it", parallelism=4, completions=10)
    document["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    document["status"] = status
    return jobs.observe(msgspec.convert(document, objects.Job), cluster="c")


@pytest.mark.parametrize(
    ("text", "indexes"),
    [("", 0), ("1", 1), ("1,3-5", 4), ("0-2,7", 4), ("12-19", 8), ("x", 0), ("1,x-3", 1), ("1;2", 0)],
)
def test_failed_indexes_are_counted(text: str, indexes: int) -> None:
    assert read(failedIndexes=text).failed_indexes == indexes


@pytest.mark.parametrize("kind", ["SuccessCriteriaMet", "FailureTarget"])
def test_a_job_whose_end_is_decided_makes_no_more_pods(kind: str) -> None:
    seen = read(active=2, conditions=[{"type": kind, "status": "True"}])
    assert seen.ending
    assert needed(seen) == 2
    assert not read(active=2, conditions=[{"type": kind, "status": "False"}]).ending
