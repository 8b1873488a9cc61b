"""Does one action on a Job: unsuspend, give notice, suspend, expire, restore.

Each PATCH carries the Job's uid and the resourceVersion that it was decided on. 409 means look again, and an unsuspend goes on
only if the Job still asks for what was decided and the ledger says that the run is still to start under this term; where its owner wrote
to the template meanwhile, the ledger keeps with the run what stands there now before it is written to. Because a suspend always changes the Job (it writes the run annotation), an unsuspend that was delayed past it can only conflict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urlencode

import msgspec

from aiqueue.admission.controller import faults, rewriting
from aiqueue.admission.controller.actor import Again, Ended
from aiqueue.admission.controller.facts import Result
from aiqueue.admission.controller.follow import unchanged
from aiqueue.admission.controller.notices import Notices, Tell
from aiqueue.admission.controller.stamps import SUPERSEDED, superseded
from aiqueue.admission.controller.term import Term
from aiqueue.admission.controller.watchdog import beat
from aiqueue.admission.kube import objects, patches
from aiqueue.admission.kube.client import WRITING, KubeClient, job_path
from aiqueue.admission.kube.errors import Conflict, Forbidden, Invalid, KubeError, NotFound, Unavailable
from aiqueue.admission.kube.jobs import template_of
from aiqueue.queue.observations import Observation
from aiqueue.queue.store import actions, written
from aiqueue.queue.store.actions import Action
from aiqueue.queue.words import ActionKind

_LOOKS = 5
_WRITING = urlencode(WRITING)
_STOPS = (ActionKind.SUSPEND, ActionKind.EXPIRE)


@dataclass(frozen=True, slots=True)
class Found:
    """A Job as it is: what is to be known of it, and what stands in its template."""

    seen: Observation
    template: rewriting.Template


class JobHands:
    """Hands for Jobs, in the name of one term.

    `see` tells what is to be known of a Job, `latest` gives the newest one of a uid at hand, if any, and `tell` takes Events.
    """

    def __init__(
        self,
        client: KubeClient,
        term: Term,
        see: Callable[[objects.Job], Observation],
        latest: Callable[[str], objects.Job | None],
        tell: Tell = lambda _event: None,
    ) -> None:
        self._client = client
        self._term = term
        self._see = see
        self._latest = latest
        self._notices = Notices(client, self, term.clock.now, tell)

    def close(self) -> None:
        """Begin no further request on behalf of what was begun."""
        self._notices.close()

    def __call__(self, action: Action) -> Ended | Again:
        """Do the action once, looking again at most a few times."""
        try:
            return self._do(action)
        except NotFound:
            return Result.MOOT, "the Job is gone"
        except KubeError as error:
            return Again(str(error), error.retry_after_seconds or 0.0)

    def _do(self, action: Action) -> Ended | Again:
        do = {
            ActionKind.UNSUSPEND: self._unsuspend,
            ActionKind.ANNOUNCE: self._notices.give,
            ActionKind.SUSPEND: self._suspend,
            ActionKind.EXPIRE: self._expire,
            ActionKind.RESTORE: self._restore,
        }[action.kind]
        try:
            return do(action)
        except Invalid as error:
            seen = self.look(action)
            at_rest = seen is None or (seen.suspended and seen.suspended_seen)
            # A stop is never given up, and a template cannot change before the Job controller has seen that the Job is suspended.
            if action.kind in _STOPS or not at_rest:
                return Again(str(error))
            hindrance = self._forget_start(action, seen) if seen is not None and seen.started else None
            if hindrance is not None:
                return hindrance
        # The Job may have come to rest just after it refused: only what it refuses at rest is refused for good.
        try:
            return do(action)
        except Invalid as error:
            return (Result.REFUSED, str(error)) if action.kind is ActionKind.UNSUSPEND else Again(str(error))

    def look(self, action: Action) -> Observation | None:
        """The Job as it is, None if there is none of this uid."""
        found = self._find(action)
        return found.seen if found is not None else None

    def _find(self, action: Action) -> Found | None:
        beat()  # an action looks and writes several times, each of which may take its time
        faults.reach("act.before-look")
        job = self._client.get_job(action.namespace, action.name)
        faults.reach("act.after-look")
        return self._found(job) if job is not None and job.metadata.uid == action.uid else None

    def _at_hand(self, action: Action) -> Found | None:
        """The Job as the reflector last told, if it did."""
        job = self._latest(action.uid)
        return self._found(job) if job is not None else None

    def _found(self, job: objects.Job) -> Found:
        return Found(self._see(job), template_of(job))

    def _forget_start(self, action: Action, seen: Observation) -> Again | None:
        """Clear the startTime that keeps the template of a suspended Job from changing; None once it is gone."""
        if not self._term.trusted():
            return Again("the term is not trusted any more")
        body = patches.forget_start(action.uid, seen.resource_version)
        try:
            self._client.patch_job_status(action.namespace, action.name, body)
        except Conflict:
            return Again("the Job changed while its startTime was to be cleared")
        except Forbidden as error:
            return Again(
                f"Job {action.namespace}/{action.name} is suspended but keeps its status.startTime, as Jobs do before Kubernetes "
                "1.36, so its template cannot change, and the controller may not clear it: add the component "
                f"manifests/components/before-1.36 to the installation, which lets it ({error})"
            )
        return None

    def patch(self, action: Action, body: dict[str, object]) -> bool:
        """Send a PATCH while the term is trusted. False on a conflict."""
        if not self._term.trusted():
            raise Unavailable("the term is not trusted any more", doing=f"patch of Job {action.namespace}/{action.name}")
        beat()
        faults.reach_patch("before", action.kind)
        try:
            self._client.patch_job(action.namespace, action.name, body)
        except Conflict:
            return False
        faults.reach_patch("after", action.kind)
        return True

    def trusted(self) -> bool:
        """Whether a request may still be sent in the name of the term."""
        return self._term.trusted()

    def opening(self, action: Action) -> tuple[str, bytes]:
        """Path and body of the PATCH that starts the Job as it was decided on."""
        assert action.stamp is not None  # noqa: S101 -- an unsuspend always has a run
        body = rewriting.start(action, action.stamp, action.resource_version)
        return f"{job_path(action.namespace, action.name)}?{_WRITING}", msgspec.json.encode(body)

    def _unsuspend(self, action: Action) -> Ended | Again:
        stamp, resource_version = action.stamp, action.resource_version
        assert stamp is not None  # noqa: S101 -- an unsuspend always has a run
        for _ in range(_LOOKS):
            if resource_version:
                body = rewriting.start(action, stamp, resource_version)
                if self.patch(action, body):
                    return Result.DONE, ""
            found = self._find(action)
            if found is None:
                return Result.MOOT, "the Job is gone"
            still = self._still(action, found)
            if not isinstance(still, Action):
                return still
            action, seen = still, found.seen
            resource_version = seen.resource_version if seen.suspended else ""
            # Without our stamp nobody could tell the next suspension of a running Job from one that is still to be lifted.
            if not seen.suspended and self.patch(action, rewriting.claim(action, stamp, seen.resource_version)):
                return Result.DONE, "somebody else unsuspended the Job"
        return Again(f"the Job changed {_LOOKS} times while it was to be unsuspended")

    def _still(self, action: Action, found: Found) -> Action | Ended:
        """The unsuspend that met a conflict as it is to be tried again, or why it is not."""
        seen = found.seen
        if seen.suspended and seen.stopped == action.stamp:  # a stop writes the stamp too, also where nothing was ever started
            return Result.MOOT, "the run was stopped already"
        if seen.stamp == action.stamp or seen.finished:
            return Result.DONE, "the Job was unsuspended already"
        if seen.suspended and not unchanged(seen, action.queue_name, action.shape):
            return Result.MOOT, "the Job was changed since it was decided on"
        original = rewriting.found(action, found.template, pristine=seen.stamp is None) if seen.suspended else action.original
        with self._term.transaction() as connection:
            if not actions.may_still_start(connection, self._term.number, action.id):
                return Result.MOOT, "the run is to end, or has ended"
            if original != action.original and action.run_id is not None:
                written.correct(connection, action.run_id, original)
        return replace(action, original=original)

    def _suspend(self, action: Action) -> Ended | Again:
        at_hand = self._at_hand(action)
        seen = at_hand.seen if at_hand is not None else None
        for attempt in range(_LOOKS):
            if attempt or seen is None:
                seen = self.look(action)
            if seen is None:
                return Result.MOOT, "the Job is gone"
            if seen.finished:
                return Result.MOOT, "the Job is over"
            if superseded(action.stamp, seen.stamp):
                return Result.MOOT, SUPERSEDED
            if seen.suspended and (action.stamp is None or seen.stamp == action.stamp):
                return Result.DONE, "the Job was suspended already"
            # What is suspended and was never started is ours to close; an adopted run never is to be started.
            by_owner = seen.suspended and action.adopted
            body = patches.suspend(action.uid, seen.resource_version, action.stamp, by_owner=by_owner)
            if self.patch(action, body):
                return Result.DONE, ""
        return Again(f"the Job changed {_LOOKS} times while it was to be suspended")

    def _expire(self, action: Action) -> Ended | Again:
        """Whether the deadline has its effect is for observing to see: who takes it away again is given it anew."""
        assert action.stamp is not None  # noqa: S101 -- what has a limit is a run
        for _ in range(_LOOKS):
            seen = self.look(action)
            if seen is None:
                return Result.MOOT, "the Job is gone"
            if seen.finished or superseded(action.stamp, seen.stamp):
                return Result.MOOT, "the Job is over" if seen.finished else SUPERSEDED
            if seen.suspended:  # its clock stands still, and with a deadline it would end as soon as it was resumed
                never_started = seen.stamp != action.stamp and not action.adopted
                return self._suspend(action) if never_started else (Result.MOOT, "the Job is suspended")
            if seen.stopped == action.stamp and seen.deadline_seconds == patches.EXPIRED_SECONDS:
                return Result.DONE, "the Job was given its deadline already"
            if self.patch(action, patches.expire(action.uid, seen.resource_version, action.stamp)):
                return Result.DONE, ""
        return Again(f"the Job changed {_LOOKS} times while it was to be ended")

    def _restore(self, action: Action) -> Ended | Again:
        found = self._at_hand(action)
        for attempt in range(_LOOKS):
            if attempt or found is None or not is_to_restore(action, found.seen):
                found = self._find(action)
            if found is None:
                return Result.MOOT, "the Job is gone"
            if not is_to_restore(action, found.seen):
                told = self._at_hand(action)
                if told is not None and is_to_restore(action, told.seen):
                    return Again("the watch has yet to tell how the Job is by now")
                return Result.MOOT, "the template is not ours to restore"
            if self.patch(action, rewriting.restoration(action, found.template, found.seen.resource_version)):
                return Result.DONE, ""
        return Again(f"the Job changed {_LOOKS} times while its template was to be restored")


def is_to_restore(action: Action, seen: Observation) -> bool:
    """Whether the Job stands there suspended with what a run of this ledger wrote."""
    ours = seen.stamp is not None and action.stamp is not None and seen.stamp.ledger == action.stamp.ledger
    return ours and seen.suspended and not seen.finished and not superseded(action.stamp, seen.stamp)
