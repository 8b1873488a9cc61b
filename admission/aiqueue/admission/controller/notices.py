"""Notice of the end of a run: the annotation `aiqueue.dev/evict-at` on the Job and on each of its pods, and an Event.

Notice is best effort and never holds up the end itself. It is given up where the Job is not the run's any more, where the server
refuses, and at the deadline; until then what failed is tried again. Pods are told a few at a time for a bounded while, and one
that comes into being later, in place of a pod that failed, is not told: a running Job's template cannot change.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from aiqueue.admission.controller import faults
from aiqueue.admission.controller.actor import Again, Ended
from aiqueue.admission.controller.facts import Result
from aiqueue.admission.controller.stamps import SUPERSEDED, superseded
from aiqueue.admission.kube import objects, patches
from aiqueue.admission.kube.client import KubeClient, path_segment
from aiqueue.admission.kube.errors import Conflict, Forbidden, Invalid, KubeError, NotFound
from aiqueue.admission.kube.events import Event
from aiqueue.queue.observations import Observation
from aiqueue.queue.store.actions import Action
from aiqueue.queue.units import format_duration
from aiqueue.queue.words import EventReason, RunOutcome

MOST_PODS = 2000
MOST_SECONDS = 5.0  # that the pods of one Job may take
AT_ONCE = 8  # requests for pods in flight, of all Jobs
_LOOKS = 5
_REQUEST_SECONDS = 2.0
Tell = Callable[[Event], object]


class JobAccess(Protocol):
    """How a Job is looked at and changed in the name of the term."""

    def look(self, action: Action) -> Observation | None:
        """The Job as it is, None if there is none of this uid."""

    def patch(self, action: Action, body: dict[str, object]) -> bool:
        """Send a PATCH while the term is trusted. False on a conflict."""

    def trusted(self) -> bool:
        """Whether a request may still be sent in the name of the term."""


@dataclass(slots=True)
class _Pods:
    """What became of the pods of a Job.

    Attributes:
        told: have the annotation now.
        failed: were not told, `why` says for example why.
        left: were not got round to.
        refused: the server will not have any of them told.
    """

    told: int = 0
    failed: int = 0
    left: int = 0
    why: str = ""
    refused: bool = False

    @property
    def sentence(self) -> str:
        """What is to be said of those that were not told, "" where there are none."""
        words = [f"{self.failed} could not be told ({self.why})"] if self.failed else []
        words += [f"{self.left} were left untold"] if self.left else []
        return f"{self.told} pods were told of the end of their run, {' and '.join(words)}" if words else ""


class Notices:
    """Gives notice, in the name of one term."""

    def __init__(self, client: KubeClient, job: JobAccess, now: Callable[[], datetime], tell: Tell) -> None:
        self._client = client
        self._job = job
        self._now = now
        self._tell = tell
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="notice")  # its threads begin when they are needed
        self._closed = threading.Event()
        self._noted: set[int] = set()  # actions of which an Event told, and which are to be tried again

    def give(self, action: Action) -> Ended | Again:
        """Give notice of the end of the action's run, or say why not (again)."""
        outcome = self._try(action)
        if not isinstance(outcome, Again):
            self._noted.discard(action.id)
        return outcome

    def close(self) -> None:
        """Begin no further request."""
        self._closed.set()
        self._pool.shutdown(wait=False)

    def _try(self, action: Action) -> Ended | Again:
        if action.evict_at is None or self._now() >= action.evict_at:
            return Result.MOOT, "the time of the notice is over"
        try:
            return self._give(action, action.evict_at)
        except NotFound:
            return Result.MOOT, "the Job is gone"
        except (Invalid, Forbidden) as error:
            return Result.MOOT, f"notice could not be given: {error}"
        except KubeError as error:
            return Again(str(error), error.retry_after_seconds or 0.0)

    def _give(self, action: Action, evict_at: datetime) -> Ended | Again:
        for _ in range(_LOOKS):
            seen = self._job.look(action)
            ended = _why_not(action, seen)
            if ended is not None:
                return Result.MOOT, ended
            assert seen is not None  # noqa: S101 -- `_why_not` says so
            if self._job.patch(action, patches.announce(action.uid, seen.resource_version, evict_at)):
                break
        else:
            return Again(f"the Job changed {_LOOKS} times while notice was to be given")
        if action.id not in self._noted:
            self._noted.add(action.id)
            self._tell(_notice(action, evict_at, self._now()))
        faults.reach("act.before-pods")
        pods = self._tell_pods(action, evict_at)
        faults.reach("act.after-pods")
        if pods.sentence and not pods.refused:
            return Again(pods.sentence)
        return (Result.MOOT if pods.sentence else Result.DONE), pods.sentence

    def _tell_pods(self, action: Action, evict_at: datetime) -> _Pods:
        """Twice, since a pod may come while the others are told."""
        so_far = _Pods()
        until = time.monotonic() + min(MOST_SECONDS, (evict_at - self._now()).total_seconds())
        text = patches.instant(evict_at)
        for _ in range(2):
            pods = [pod for pod in self._client.pods_of(action.uid, action.namespace) if _concerned(pod, text)]
            so_far.left = max(0, len(pods) - MOST_PODS)
            for outcome in self._each(pods[:MOST_PODS], evict_at, until):
                if outcome is None:
                    so_far.left += 1
                elif isinstance(outcome, KubeError):
                    so_far.failed += 1
                    so_far.why = str(outcome)
                    so_far.refused = so_far.refused or isinstance(outcome, (Forbidden, Invalid))
                else:
                    so_far.told += 1
            if so_far.sentence or not pods:
                break
        return so_far

    def _each(self, pods: list[objects.Pod], evict_at: datetime, until: float) -> Iterable[KubeError | bool | None]:
        """For each pod that it was told, why not, or None where time was up before or nobody may be told."""
        over = threading.Event()

        def tell(pod: objects.Pod) -> KubeError | bool | None:
            left = until - time.monotonic()
            if left <= 0 or over.is_set() or self._closed.is_set() or not self._job.trusted():
                return None
            where = f"/api/v1/namespaces/{path_segment(pod.metadata.namespace)}/pods/{path_segment(pod.metadata.name)}"
            doing = f"notice to pod {pod.metadata.namespace}/{pod.metadata.name}"
            body = patches.announce_to_pod(pod.metadata.uid, evict_at)
            try:
                self._client.patch(where, body, objects.Object, doing, timeout_seconds=min(_REQUEST_SECONDS, max(left, 0.1)))
            except (NotFound, Conflict):
                return True  # gone meanwhile, or another has its name: nobody is there to be told
            except (Forbidden, Invalid) as error:
                over.set()
                return error
            except KubeError as error:
                return error
            return True

        return () if self._closed.is_set() else self._pool.map(tell, pods)


def _why_not(action: Action, seen: Observation | None) -> str | None:
    """Why there is nothing to give notice of; None where there is."""
    if seen is None:
        return "the Job is gone"
    if seen.finished is not None:
        return "the Job is over"
    if seen.suspended:
        return "the Job is suspended"
    if superseded(action.stamp, seen.stamp):
        return SUPERSEDED
    if seen.stamp != action.stamp and not action.adopted:  # nobody wrote an annotation to a Job that was adopted
        return "the Job is not the run's any more"
    return None


def _concerned(pod: objects.Pod, text: str) -> bool:
    """Whether a pod is to be told, and was not."""
    told = pod.metadata.annotations is not None and pod.metadata.annotations.evict_at == text
    return pod.alive and pod.metadata.deletion_timestamp is None and not told


def _notice(action: Action, evict_at: datetime, now: datetime) -> Event:
    grace = max(0, round((evict_at - now).total_seconds()))
    deadline = evict_at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    end = "it ends for good" if action.evict_outcome is RunOutcome.EXPIRED else "its pods are stopped"
    note = f"{action.evict_message}: {end} at {deadline}, in {format_duration(grace)}"
    return Event(action.namespace, action.name, action.uid, EventReason.EVICTION_NOTICE, note)
