"""Jobs in memory, as the cluster last told, and what changed since the consumer last looked.

One thread writes (the reflector, by `replace` and `apply`), one consumer drains, anybody reads. Changes are coalesced by uid:
however long the consumer is away, it finds each Job once, at its latest, in the order in which they first changed.

Events may come twice, late or in the wrong order, also those of a Job that was deleted or whose name another has taken: what is older than
what is known changes nothing. Versions tell, for they are numbers that grow across all Jobs (promised since Kubernetes 1.35, and so in
practice before); where they are no numbers, events are taken as they come.

Nothing is kept for a consumer that is not there: not before the first `drain` or `reset_drain`, and not beyond
`MAX_ABSENT` Jobs that went (it has gone away then). The next drain yields everything instead, `replaced` set.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Condition

from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.watches import EventType, is_older

MAX_ABSENT = 50_000
MAX_ENDED = 10_000  # Jobs that went lately whose late events are known as such


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since the last drain.

    Attributes:
        upserts: Jobs that are new or different, each at its latest, in the order of first change.
        absent: Jobs, as last known, that the cluster no longer tells of: gone, or without the queue label. A candidate for
            absence only; confirm it with a GET before acting on it.
        replaced: `upserts` is all there is: whatever else the consumer knows of is a candidate for absence too.
    """

    upserts: tuple[Job, ...] = ()
    absent: tuple[Job, ...] = ()
    replaced: bool = False

    def __bool__(self) -> bool:
        return bool(self.upserts or self.absent or self.replaced)


class JobStore:
    """Jobs by uid and by (namespace, name). Safe for use by many threads; `drain` is for one consumer at a time."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._jobs: dict[str, Job] = {}
        self._by_name: dict[tuple[str, str], str] = {}
        self._dirty: dict[str, None] = {}  # uids to report, in the order of first change
        self._absent: dict[str, Job] = {}
        self._ended: dict[str, str] = {}  # uid -> the version at which it went, since the latest list
        self._replaced = False
        self._attached = False
        self._poked = False
        self._synced = False
        self._listed_at = ""

    # Reading

    @property
    def synced(self) -> bool:
        """Whether a whole list has been taken in."""
        with self._changed:
            return self._synced

    @property
    def listed_at(self) -> str:
        """The resourceVersion of the latest whole list; "" before the first."""
        with self._changed:
            return self._listed_at

    def __len__(self) -> int:
        with self._changed:
            return len(self._jobs)

    def get(self, uid: str) -> Job | None:
        """The Job of this uid as last told, if there is one."""
        with self._changed:
            return self._jobs.get(uid)

    def by_name(self, namespace: str, name: str) -> Job | None:
        """The Job of this name as last told, if there is one."""
        with self._changed:
            uid = self._by_name.get((namespace, name))
            return None if uid is None else self._jobs.get(uid)

    def snapshot(self) -> tuple[Job, ...]:
        """All Jobs at one moment."""
        with self._changed:
            return tuple(self._jobs.values())

    # Consuming

    def drain(self, timeout_seconds: float) -> Changes:
        """Take what changed since the last drain; waits up to `timeout_seconds` for a change or a poke.

        Returns nothing (a false `Changes`) on a poke or when the time is up, and before the first whole list.
        """
        with self._changed:
            self._changed.wait_for(self._anything, timeout_seconds)
            self._poked = False
            if not self._synced:
                return Changes()
            if not self._attached:
                self._attach()
            changes = Changes(
                upserts=tuple(self._jobs[uid] for uid in self._dirty),
                absent=tuple(self._absent.values()),
                replaced=self._replaced,
            )
            self._dirty.clear()
            self._absent.clear()
            self._replaced = False
            return changes

    def reset_drain(self) -> None:
        """Make the next drain yield every Job as an upsert, `replaced` set: for a consumer that begins, or begins again."""
        with self._changed:
            self._attach()
            self._changed.notify_all()

    def poke(self) -> None:
        """Wake the consumer: the drain under way, or else the next one, returns at once."""
        with self._changed:
            self._poked = True
            self._changed.notify_all()

    def _anything(self) -> bool:
        return self._poked or (self._synced and bool(self._dirty or self._absent or self._replaced or not self._attached))

    def _attach(self) -> None:
        self._attached = True
        self._replaced = True
        self._dirty = dict.fromkeys(self._jobs)

    def _went(self, job: Job) -> None:
        if not self._attached:
            return
        self._absent[job.metadata.uid] = job
        if len(self._absent) > MAX_ABSENT:
            self._attached = False
            self._absent.clear()
            self._dirty.clear()

    # Writing

    def replace(self, jobs: Iterable[Job], resource_version: str) -> None:
        """Take in a whole, consistent list. Jobs known and not listed become absent; all listed ones are reported again.

        What the list says is taken even where it is older than what is known: a list is consistent, so that means the
        cluster itself went back in time (its etcd was restored).
        """
        with self._changed:
            listed = {job.metadata.uid: job for job in jobs}
            for uid, job in self._jobs.items():
                if uid not in listed:
                    self._went(job)
            for uid in listed:
                self._absent.pop(uid, None)
            self._jobs = listed
            self._ended.clear()
            self._listed_at = resource_version
            self._by_name = {(job.metadata.namespace, job.metadata.name): uid for uid, job in listed.items()}
            if self._attached:
                self._dirty = {uid: None for uid in self._dirty if uid in listed} | dict.fromkeys(listed)
                self._replaced = True
            self._synced = True
            self._changed.notify_all()

    def apply(self, event_type: EventType, job: Job) -> None:
        """Take in one event. One that tells of what was before what is known already is left aside."""
        uid = job.metadata.uid
        with self._changed:
            if self._knows_better(job):
                return
            if event_type is EventType.DELETED:
                self._end(job)
            else:
                self._put(job)
                self._absent.pop(uid, None)
                if self._attached:
                    self._dirty.setdefault(uid)
            self._changed.notify_all()

    def _knows_better(self, job: Job) -> bool:
        """Whether an event is certainly older than the latest list, than what is known of its Job, or than the Job that has its name."""
        version, uid = job.metadata.resource_version, job.metadata.uid
        known, ended = self._jobs.get(uid), self._ended.get(uid)
        if is_older(version, self._listed_at) or (known is not None and is_older(version, known.metadata.resource_version)):
            return True
        if ended is not None and (version == ended or is_older(version, ended)):
            return True
        holder = self._by_name.get((job.metadata.namespace, job.metadata.name), uid)
        if holder == uid or not is_older(version, (taken := self._jobs[holder].metadata.resource_version)):
            return False
        self._remember_end(uid, taken)
        return True

    def _put(self, job: Job) -> None:
        """Keep a Job at its latest. Whoever had its name before is gone, for there is one Job of a name at a time."""
        uid = job.metadata.uid
        holder = self._jobs.get(self._by_name.get((job.metadata.namespace, job.metadata.name), uid))
        if (
            holder is not None
            and holder.metadata.uid != uid
            and is_older(holder.metadata.resource_version, job.metadata.resource_version)
        ):
            self._end(holder)
            self._remember_end(
                holder.metadata.uid, job.metadata.resource_version
            )  # whatever else is told of it is older than this
        self._jobs[uid] = job
        self._by_name[job.metadata.namespace, job.metadata.name] = uid

    def _end(self, job: Job) -> None:
        uid, key = job.metadata.uid, (job.metadata.namespace, job.metadata.name)
        self._jobs.pop(uid, None)
        if self._by_name.get(key) == uid:
            del self._by_name[key]
        self._dirty.pop(uid, None)
        self._remember_end(uid, job.metadata.resource_version)
        self._went(job)

    def _remember_end(self, uid: str, version: str) -> None:
        self._ended[uid] = version
        if len(self._ended) > MAX_ENDED:
            del self._ended[next(iter(self._ended))]
