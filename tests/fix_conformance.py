"""What every cluster does for a run: one suite, asked of the simulated cluster and of Kubernetes.

A test module derives `ClusterConformance` and gives it the fixture `world`. `KubernetesCluster` speaks to Kubernetes with the parts
that the controller is made of, so what the suite says of it, it says of them.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import pytest

from aiqueue.admission.kube import patches
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.errors import Conflict, NotFound
from aiqueue.admission.kube.jobs import observe
from aiqueue.admission.simulate.cluster import Cluster, Seen, SimulatedCluster
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.words import WorkloadState
from fix_kube import WAIT_SECONDS, job_document

LEDGER = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER_LEDGER = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
_LOOKS = 10


def stamp(attempt: int, run_id: int | None = None, ledger: str = LEDGER) -> RunStamp:
    """Of a run at an attempt; runs are numbered as their attempts unless told otherwise."""
    return RunStamp(ledger, attempt if run_id is None else run_id, attempt)


class World(ABC):
    """A cluster with the hands of those who use it."""

    cluster: Cluster

    @abstractmethod
    def create(self, *, pods: int = 1, fails: bool = False, brief: bool = False) -> str:
        """Submit a job; it runs until `end`, or only for a moment. Answers its uid."""

    @abstractmethod
    def end(self, uid: str) -> None:
        """Have the programs of a running job come to their end."""

    @abstractmethod
    def delete(self, uid: str) -> None:
        """Delete a job."""

    @abstractmethod
    def wait(self, probe: Callable[[], bool], what: str) -> None:
        """Let time pass until something is so."""

    def look(self, uid: str) -> Seen:
        """A job that is there."""
        seen = self.cluster.look(uid)
        assert seen is not None
        return seen

    def until(self, uid: str, holds: Callable[[Seen], bool], what: str) -> Seen:
        """Wait until a job looks like this."""
        self.wait(lambda: holds(self.look(uid)), f"{what} (last seen: {self.cluster.look(uid)})")
        return self.look(uid)

    def run(self, uid: str, attempt: int = 1, pods: int = 1) -> None:
        """Start a job and wait until all of it runs."""
        assert self.cluster.start(uid, stamp(attempt))
        self.until(uid, lambda seen: seen.active == seen.ready == pods, f"{pods} pods")

    def rest(self, uid: str) -> Seen:
        """Wait until a job holds nothing."""
        return self.until(uid, lambda seen: seen.at_rest, "its pods to be gone")


class ClusterConformance:
    """The suite. `world` is a fixture of whoever derives it."""

    def test_a_new_job_is_suspended_and_holds_nothing(self, world: World) -> None:
        uid = world.create(pods=2)
        world.wait(lambda: world.cluster.look(uid) is not None, "the job")
        assert world.look(uid) == Seen(suspended=True)
        assert world.look(uid).at_rest

    def test_a_started_job_runs_whole_under_its_stamp(self, world: World) -> None:
        uid = world.create(pods=3)
        assert world.cluster.start(uid, stamp(1))
        seen = world.until(uid, lambda seen: seen.ready == 3, "three pods")
        assert (seen.suspended, seen.active, seen.finished, seen.stamp) == (False, 3, None, stamp(1))
        assert not seen.at_rest

    def test_starting_again_changes_nothing(self, world: World) -> None:
        uid = world.create(pods=2)
        world.run(uid, pods=2)
        before = world.look(uid)
        assert world.cluster.start(uid, stamp(1))
        assert world.look(uid) == before

    def test_an_older_run_cannot_start_or_stop_what_a_later_one_has(self, world: World) -> None:
        uid = world.create()
        world.run(uid, attempt=2)
        before = world.look(uid)
        assert not world.cluster.start(uid, stamp(1))
        assert not world.cluster.stop(uid, stamp(1))
        assert world.look(uid) == before

    @pytest.mark.parametrize("other", [stamp(1, run_id=9), stamp(1, ledger=OTHER_LEDGER)])
    def test_another_run_of_the_same_attempt_is_refused(self, world: World, other: RunStamp) -> None:
        uid = world.create()
        world.run(uid)
        before = world.look(uid)
        assert not world.cluster.start(uid, other)
        assert not world.cluster.stop(uid, other)
        assert world.look(uid) == before

    def test_a_job_that_comes_to_its_end_is_finished_for_good(self, world: World) -> None:
        uid = world.create(pods=2, brief=True)
        assert world.cluster.start(uid, stamp(1))
        seen = world.until(uid, lambda seen: seen.finished is not None, "its end")
        assert (seen.finished, seen.active, seen.at_rest) == (WorkloadState.FINISHED, 0, True)
        assert not world.cluster.start(uid, stamp(2))
        assert not world.cluster.stop(uid, stamp(1))
        assert world.look(uid).finished is WorkloadState.FINISHED

    def test_a_job_may_fail(self, world: World) -> None:
        uid = world.create(fails=True, brief=True)
        assert world.cluster.start(uid, stamp(1))
        seen = world.until(uid, lambda seen: seen.finished is not None, "its end")
        assert (seen.finished, seen.active) == (WorkloadState.FAILED, 0)
        assert not world.cluster.start(uid, stamp(2))

    def test_a_stopped_job_holds_nothing_and_is_not_over(self, world: World) -> None:
        uid = world.create(pods=2)
        world.run(uid, pods=2)
        assert world.cluster.stop(uid, stamp(1))
        seen = world.rest(uid)
        assert (seen.suspended, seen.active, seen.ready, seen.finished, seen.stamp) == (True, 0, 0, None, stamp(1))

    def test_stopping_again_changes_nothing(self, world: World) -> None:
        uid = world.create()
        world.run(uid)
        assert world.cluster.stop(uid, stamp(1))
        before = world.rest(uid)
        assert world.cluster.stop(uid, stamp(1))
        assert world.look(uid) == before

    def test_a_run_that_was_stopped_never_starts_again(self, world: World) -> None:
        uid = world.create()
        world.run(uid)
        assert world.cluster.stop(uid, stamp(1))
        before = world.rest(uid)
        assert not world.cluster.start(uid, stamp(1))
        assert world.look(uid) == before

    def test_a_run_that_is_stopped_before_it_starts_never_starts(self, world: World) -> None:
        uid = world.create()
        world.wait(lambda: world.cluster.look(uid) is not None, "the job")
        assert world.cluster.stop(uid, stamp(1))
        assert not world.cluster.start(uid, stamp(1))
        seen = world.look(uid)
        assert (seen.suspended, seen.active, seen.stamp) == (True, 0, stamp(1))
        world.run(uid, attempt=2)

    def test_the_next_run_resumes_a_stopped_job_to_its_end(self, world: World) -> None:
        uid = world.create(pods=2)
        world.run(uid, attempt=1, pods=2)
        assert world.cluster.stop(uid, stamp(1))
        world.rest(uid)
        world.run(uid, attempt=2, pods=2)
        assert world.look(uid).stamp == stamp(2)
        assert not world.cluster.stop(uid, stamp(1))  # too late: it is another run's by now
        world.end(uid)
        seen = world.until(uid, lambda seen: seen.finished is not None, "its end")
        assert (seen.finished, seen.active) == (WorkloadState.FINISHED, 0)

    def test_a_stop_may_come_twice_with_runs_between(self, world: World) -> None:
        uid = world.create()
        for attempt in (1, 2):
            world.run(uid, attempt=attempt)
            assert world.cluster.stop(uid, stamp(attempt))
            assert world.rest(uid).stamp == stamp(attempt)

    def test_a_job_may_run_at_part_of_its_size_and_later_whole(self, world: World) -> None:
        uid = world.create(pods=3)
        assert world.cluster.start(uid, stamp(1), 2)
        before = world.until(uid, lambda seen: seen.active == seen.ready == 2, "two pods")
        assert world.cluster.start(uid, stamp(1), 1)  # it runs already, as it was started first
        assert world.look(uid) == before
        assert world.cluster.stop(uid, stamp(1))
        world.rest(uid)
        world.run(uid, attempt=2, pods=3)

    def test_a_job_whose_time_is_up_is_over_for_good(self, world: World) -> None:
        uid = world.create(pods=2)
        world.run(uid, pods=2)
        assert world.cluster.expire(uid, stamp(1))
        seen = world.until(uid, lambda seen: seen.finished is not None and seen.at_rest, "its end")
        assert seen.finished is WorkloadState.FAILED
        assert not world.cluster.start(uid, stamp(2))
        assert not world.cluster.stop(uid, stamp(1))
        assert not world.cluster.expire(uid, stamp(1))

    def test_only_the_run_that_has_a_job_can_have_its_time_be_up(self, world: World) -> None:
        uid = world.create()
        world.wait(lambda: world.cluster.look(uid) is not None, "the job")
        assert not world.cluster.expire(uid, stamp(1))
        world.run(uid, attempt=2)
        before = world.look(uid)
        assert not world.cluster.expire(uid, stamp(1))
        assert world.look(uid) == before
        assert world.cluster.stop(uid, stamp(2))
        before = world.rest(uid)
        assert not world.cluster.expire(uid, stamp(2))  # what does not run has no time
        assert world.look(uid) == before

    @pytest.mark.parametrize("running", [False, True])
    def test_a_deleted_job_is_gone(self, world: World, running: bool) -> None:
        uid = world.create()
        if running:
            world.run(uid)
        world.delete(uid)
        world.wait(lambda: world.cluster.look(uid) is None, "the job to be gone")
        assert not world.cluster.start(uid, stamp(2))
        assert not world.cluster.stop(uid, stamp(2))
        assert world.cluster.look(uid) is None

    def test_jobs_are_each_their_own(self, world: World) -> None:
        one, two, three = world.create(), world.create(pods=2), world.create()
        world.run(one)
        world.run(two, pods=2)
        assert world.cluster.stop(one, stamp(1))
        world.rest(one)
        seen = world.look(two)
        assert (seen.active, seen.ready, seen.stamp) == (2, 2, stamp(1))
        assert world.look(three) == Seen(suspended=True)

    def test_what_never_was_is_not_there(self, world: World) -> None:
        nobody = "00000000-0000-0000-0000-000000000000"
        assert world.cluster.look(nobody) is None
        assert not world.cluster.start(nobody, stamp(1))
        assert not world.cluster.stop(nobody, stamp(1))
        assert not world.cluster.expire(nobody, stamp(1))


class SimulatedWorld(World):
    """The simulated cluster; time passes when somebody waits."""

    BRIEF_US = 1_000
    LONG_US = 10**15

    def __init__(self) -> None:
        self.cluster: SimulatedCluster = SimulatedCluster()
        self._now_us = 0
        self._count = itertools.count()

    def create(self, *, pods: int = 1, fails: bool = False, brief: bool = False) -> str:
        uid = f"job-{next(self._count)}"
        self.cluster.create(uid, pods=pods, runtime_us=self.BRIEF_US if brief else self.LONG_US, fails=fails)
        return uid

    def end(self, uid: str) -> None:
        assert self.cluster.next_end_us is not None
        self._now_us = self.cluster.next_end_us
        assert self.cluster.advance(self._now_us) == [(uid, WorkloadState.FINISHED)]

    def delete(self, uid: str) -> None:
        self.cluster.delete(uid)

    def wait(self, probe: Callable[[], bool], what: str) -> None:
        if not probe():
            self._now_us += self.BRIEF_US
            self.cluster.advance(self._now_us)
        assert probe(), what


class KubernetesCluster:
    """Jobs of one namespace as a `Cluster`. Where the ledger would say whether a run may still start, the stamp does.

    `names` and `sizes` are of the jobs that were created: what the ledger knows of them.
    """

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self.names: dict[str, str] = {}
        self.sizes: dict[str, int] = {}

    def start(self, uid: str, stamp: RunStamp, pods: int | None = None) -> bool:
        for _ in range(_LOOKS):
            seen = self._observe(uid)
            if seen is None or seen.finished is not None:
                return False
            if seen.stamp is not None and seen.stamp.attempt >= stamp.attempt:
                return seen.stamp == stamp and not seen.suspended
            size = self.sizes[uid] if pods is None else pods
            if self._patch(seen, patches.unsuspend(uid, seen.resource_version, stamp, {}, (), parallelism=size)):
                return True
        raise AssertionError(f"job {uid} changed {_LOOKS} times while it was to be started")

    def stop(self, uid: str, stamp: RunStamp) -> bool:
        for _ in range(_LOOKS):
            seen = self._observe(uid)
            if seen is None or seen.finished is not None:
                return False
            if seen.stamp is not None and seen.stamp.attempt >= stamp.attempt and seen.stamp != stamp:
                return False
            if seen.suspended and seen.stamp == stamp:
                return True
            if self._patch(seen, patches.suspend(uid, seen.resource_version, stamp)):
                return True
        raise AssertionError(f"job {uid} changed {_LOOKS} times while it was to be stopped")

    def expire(self, uid: str, stamp: RunStamp) -> bool:
        for _ in range(_LOOKS):
            seen = self._observe(uid)
            if seen is None or seen.finished is not None or seen.suspended or seen.stamp != stamp:
                return False
            if self._patch(seen, patches.expire(uid, seen.resource_version, stamp)):
                return True
        raise AssertionError(f"job {uid} changed {_LOOKS} times while it was to expire")

    def look(self, uid: str) -> Seen | None:
        seen = self._observe(uid)
        if seen is None:
            return None
        return Seen(seen.suspended, seen.active, seen.terminating, seen.ready, seen.finished, seen.stamp)

    def _observe(self, uid: str) -> Observation | None:
        job = self._client.get_job(self._namespace, self.names[uid]) if uid in self.names else None
        return observe(job, cluster="default") if job is not None and job.metadata.uid == uid else None

    def _patch(self, seen: Observation, body: patches.Patch) -> bool:
        """False: it changed meanwhile, or went away."""
        try:
            self._client.patch_job(seen.namespace, seen.name, body)
        except (Conflict, NotFound):
            return False
        return True


class KubernetesWorld(World):
    """A namespace of a real control plane, whose fake nodes run pods."""

    def __init__(self, cluster: DevCluster, client: KubeClient, namespace: str) -> None:
        self.cluster: KubernetesCluster = KubernetesCluster(client, namespace)
        self._dev = cluster
        self._namespace = namespace
        self._count = itertools.count()

    def create(self, *, pods: int = 1, fails: bool = False, brief: bool = False) -> str:
        name = f"job-{next(self._count)}"
        document: dict[str, Any] = job_document(self._namespace, name, parallelism=pods, completions=pods, backoffLimit=0)
        document["spec"]["template"]["metadata"]["annotations"] = {
            "aiqueue.dev/dev-runtime": "100ms" if brief else "forever",
            "aiqueue.dev/dev-exit-code": "1" if fails else "0",
        }
        made = self._dev.api.call("POST", f"/apis/batch/v1/namespaces/{self._namespace}/jobs", document)
        uid: str = made["metadata"]["uid"]
        self.cluster.names[uid], self.cluster.sizes[uid] = name, pods
        return uid

    def end(self, uid: str) -> None:
        selector = f"batch.kubernetes.io/controller-uid={uid}"
        self._dev.kubectl("annotate", "pods", f"-n={self._namespace}", f"-l={selector}", "aiqueue.dev/dev-end=now")

    def delete(self, uid: str) -> None:
        self._dev.kubectl("delete", "job", self.cluster.names[uid], f"-n={self._namespace}", "--wait=false")

    def wait(self, probe: Callable[[], bool], what: str) -> None:
        until(probe, seconds=WAIT_SECONDS, what=what)
