"""What was seen of one Job on a cluster, in the ledger's words.

An observation carries facts only; what follows from them is decided where it is written to the ledger.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from aiqueue.queue.records import PodSet
from aiqueue.queue.words import WorkloadState

_STAMP = re.compile(r"(?P<ledger>[0-9a-f-]{36})/(?P<run>[0-9]{1,18})/(?P<attempt>[0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class RunStamp:
    """The annotation `aiqueue.dev/run`: which ledger started the Job, by which run, at which attempt of the workload."""

    ledger: str
    run_id: int
    attempt: int

    def __str__(self) -> str:
        return f"{self.ledger}/{self.run_id}/{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> RunStamp | None:
        """Read the annotation; None when it is not one of ours (nobody else may write it, so that is a foreign hand)."""
        match = _STAMP.fullmatch(text)
        return cls(match["ledger"], int(match["run"]), int(match["attempt"])) if match else None


@dataclass(frozen=True, slots=True)
class Observation:
    """A Job as it stood at `resource_version`.

    Attributes:
        queue_name: value of the queue label; None when the Job no longer asks to be managed.
        pod_sets: as the template says now. While `stamp` is set the template may hold what we injected.
        shape: `records.shape_of` of `pod_sets` and `class_name`.
        suspended: `spec.suspend`.
        active, terminating, ready, succeeded, failed: pods, from the Job's status; those that succeeded also where it has yet to count
            them.
        finished: FINISHED, FAILED or EXPIRED once the Job has its Complete or Failed condition, else None.
        finished_at: when that condition was set.
        suspended_seen: the Job controller has set the Suspended condition to True.
        started: `status.startTime` is set. Before Kubernetes 1.36 it stays so while the Job is suspended.
        deleting: has a deletionTimestamp.
        stamp: the run annotation, if there is one; `foreign_stamp` holds an unreadable one.
        invalid: a sentence when our labels or annotations, or its requests, cannot be understood.
        held_by_owner, released_by_owner: annotation `aiqueue.dev/hold` is "true", or is "false".
        checkpoint_seconds, max_runtime_seconds: as the annotations say now; None where they say nothing that can be understood.
        stopped: the run that we ourselves suspended or expired, as our annotation says. Without it a suspension is the owner's.
        deadline_seconds: `spec.activeDeadlineSeconds`.
        parallelism, completions: of the spec.
        failed_indexes: how many indexes of an Indexed Job failed for good, each counted against its own backoffLimit.
        ending: it is decided how the Job ends, and no more pods are made; those that there are may still be going.
        end_reason: reason of the condition that says that the Job is over, such as DeadlineExceeded; "" before, and without one.
        user: who created it, as the policy stamped it. `owner` is `Kind/name` of its controller owner reference, if any.
    """

    cluster: str
    uid: str
    namespace: str
    name: str
    resource_version: str
    queue_name: str | None
    class_name: str | None
    pod_sets: tuple[PodSet, ...]
    shape: str
    created_at: datetime
    suspended: bool
    active: int = 0
    terminating: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    finished: WorkloadState | None = None
    finished_at: datetime | None = None
    suspended_seen: bool = False
    started: bool = False
    deleting: bool = False
    stamp: RunStamp | None = None
    foreign_stamp: str | None = None
    held_by_owner: bool = False
    released_by_owner: bool = False
    invalid: str | None = None
    checkpoint_seconds: int | None = None
    max_runtime_seconds: int | None = None
    stopped: RunStamp | None = None
    deadline_seconds: int | None = None
    parallelism: int | None = None
    completions: int | None = None
    failed_indexes: int = 0
    ending: bool = False
    end_reason: str = ""
    user: str = ""
    owner: str = ""

    @property
    def running(self) -> bool:
        """May have pods now or at any moment: not suspended and not finished."""
        return not self.suspended and self.finished is None

    def forgotten_by(self, ledger_uid: str, newest_run_id: int) -> bool:
        """Whether the Job is not over and carries a run of this ledger that the ledger has not given out yet: it is an older copy of itself.

        Sooner or later it would give the id to another Job, and nobody could tell the two apart. What is over is past mixing up.

        Args:
            ledger_uid: the ledger's own id.
            newest_run_id: that it never gave out a greater one than.
        """
        stamp = self.stamp
        return stamp is not None and stamp.ledger == ledger_uid and stamp.run_id > newest_run_id and self.finished is None
