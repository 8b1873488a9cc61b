"""A cluster as far as a run needs one, and the one that a simulation runs on.

`Cluster` says what starting, stopping and looking mean; one suite of tests asks it of `SimulatedCluster` and of Kubernetes.
Commands name the run they act for. They do nothing twice, and none acts against a later run or brings back one that was stopped:

    created: suspended ──start(1)──> runs ──ends by itself──> Finished or Failed, for good
                 ▲                    │
                 └──────stop(1)───────┘     then start(2), and so on; start(1) stays refused
                                            expire(1), while it runs: Failed, for good

Each start says how many pods run at once, all of the job's unless told otherwise; what an earlier run was given counts no more.

Of the simulated one: pods are ready as soon as a job is started, and gone as soon as it is stopped. A job works off its runtime
while it runs, and a stop loses what was done since the last checkpoint of that run, or since its start. Work is conserved: it is
pods times time, so k of n pods take n/k times as long, rounded up to a microsecond, and a later run of another size goes on
with what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Protocol

from aiqueue.queue.observations import RunStamp
from aiqueue.queue.words import WorkloadState


@dataclass(frozen=True, slots=True)
class Seen:
    """A job as its cluster shows it.

    Attributes:
        suspended: may have no pods, once those it had are gone.
        active: pods that run or are about to.
        terminating: pods that are on their way out.
        ready: pods that are ready.
        finished: FINISHED or FAILED once it is over.
        stamp: of the run that started or stopped it last.
    """

    suspended: bool
    active: int = 0
    terminating: int = 0
    ready: int = 0
    finished: WorkloadState | None = None
    stamp: RunStamp | None = None

    @property
    def at_rest(self) -> bool:
        """Holds nothing: its pods are gone and no new ones will come."""
        return (self.suspended or self.finished is not None) and self.active == 0 and self.terminating == 0


class Cluster(Protocol):
    """Where jobs run. Jobs are created suspended, and deleted, by their owners; unknown uids are of jobs that are gone."""

    def start(self, uid: str, stamp: RunStamp, pods: int | None = None) -> bool:
        """Have a job run.

        Args:
            uid: of the job.
            stamp: of the run.
            pods: so many of its pods run at once; None for all of them.

        Returns:
            Whether it runs by this run now, also where it did already. False: it is over or gone, or this run was stopped, or
            another one as late or later has it.
        """

    def stop(self, uid: str, stamp: RunStamp) -> bool:
        """Have no pod of a job run; it may be started by a later run. A stop before the start keeps the start from happening.

        Returns:
            Whether it is stopped by this run now, also where it was already. False: it is over or gone, or another run as late or
            later has it.
        """

    def expire(self, uid: str, stamp: RunStamp) -> bool:
        """End a job that runs for good, as failed: its time is up.

        Returns:
            Whether it runs by this run, and so ends. False: it is over or gone, or does not run by this run.
        """

    def look(self, uid: str) -> Seen | None:
        """A job as it is now, None where there is none."""


class _Job:
    """A job on the simulated cluster.

    Attributes:
        size: pods of the run that it has, or had last.
        left: work that no checkpoint has saved, as of the start of that run, in pods times microseconds.
    """

    __slots__ = ("checkpoint_us", "fails", "finished", "left", "lost_us", "pods", "running", "since_us", "size", "stamp")

    def __init__(self, pods: int, runtime_us: int, checkpoint_us: int | None, fails: bool) -> None:
        self.pods = self.size = pods
        self.left = runtime_us * max(pods, 1)  # one of no pods takes its time all the same
        self.checkpoint_us = checkpoint_us
        self.fails = fails
        self.running = False
        self.finished: WorkloadState | None = None
        self.stamp: RunStamp | None = None
        self.since_us = 0
        self.lost_us = 0

    @property
    def end_us(self) -> int:
        """When it ends by itself if it goes on."""
        return self.since_us - (-self.left // max(self.size, 1))


class SimulatedCluster:
    """A cluster with a clock of its own, in microseconds, that moves when it is told. It never lacks a node."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}
        self._ends: list[tuple[int, int, str]] = []  # when, run, job; of runs stopped meanwhile too
        self._now_us = 0

    def create(self, uid: str, *, pods: int, runtime_us: int, checkpoint_us: int | None = None, fails: bool = False) -> None:
        """Submit a job: it is suspended.

        Args:
            uid: new, never used before.
            pods: all that run at once.
            runtime_us: how long it runs in all, with all its pods, were it never stopped.
            checkpoint_us: how often it saves its work, counted from the start of each run; None for never.
            fails: whether it fails in the end.
        """
        self._jobs[uid] = _Job(pods, runtime_us, checkpoint_us, fails)

    def delete(self, uid: str) -> None:
        """Delete a job, with its pods."""
        self._jobs.pop(uid, None)

    def start(self, uid: str, stamp: RunStamp, pods: int | None = None) -> bool:
        """As `Cluster.start`."""
        job = self._jobs.get(uid)
        if job is None or job.finished is not None:
            return False
        if job.stamp is not None and job.stamp.attempt >= stamp.attempt:
            return job.running and job.stamp == stamp
        if not job.running:
            job.running = True
            job.since_us = self._now_us
            job.size = job.pods if pods is None else pods
        job.stamp = stamp
        heappush(self._ends, (job.end_us, stamp.run_id, uid))
        return True

    def stop(self, uid: str, stamp: RunStamp) -> bool:
        """As `Cluster.stop`."""
        job = self._jobs.get(uid)
        if job is None or job.finished is not None:
            return False
        if job.stamp is not None and job.stamp.attempt >= stamp.attempt and job.stamp != stamp:
            return False
        job.stamp = stamp
        if job.running:
            job.running = False
            done = self._now_us - job.since_us
            job.lost_us = done if job.checkpoint_us is None else done % job.checkpoint_us
            job.left -= (done - job.lost_us) * max(job.size, 1)
        return True

    def expire(self, uid: str, stamp: RunStamp) -> bool:
        """As `Cluster.expire`."""
        job = self._jobs.get(uid)
        if job is None or not job.running or job.stamp != stamp:
            return False
        job.running = False
        job.finished = WorkloadState.FAILED
        return True

    def look(self, uid: str) -> Seen | None:
        """As `Cluster.look`."""
        job = self._jobs.get(uid)
        if job is None:
            return None
        pods = job.size if job.running else 0
        return Seen(not job.running and job.finished is None, pods, 0, pods, job.finished, job.stamp)

    def lost_us(self, uid: str) -> int:
        """Work that the last stop of a job lost, as time."""
        return self._jobs[uid].lost_us

    @property
    def next_end_us(self) -> int | None:
        """When the next job ends by itself, None where none runs."""
        while self._ends:
            end_us, run_id, uid = self._ends[0]
            if self._runs_by(uid, run_id):
                return end_us
            heappop(self._ends)
        return None

    def advance(self, now_us: int) -> list[tuple[str, WorkloadState]]:
        """Move the clock on.

        Returns:
            Jobs that ended, and how, in the order of their ends, at one time in that of their runs.
        """
        self._now_us = now_us
        ended: list[tuple[str, WorkloadState]] = []
        while self._ends and self._ends[0][0] <= now_us:
            _, run_id, uid = heappop(self._ends)
            if self._runs_by(uid, run_id):
                job = self._jobs[uid]
                job.running = False
                job.left = 0
                job.finished = WorkloadState.FAILED if job.fails else WorkloadState.FINISHED
                ended.append((uid, job.finished))
        return ended

    def _runs_by(self, uid: str, run_id: int) -> bool:
        job = self._jobs.get(uid)
        return job is not None and job.running and job.stamp is not None and job.stamp.run_id == run_id
