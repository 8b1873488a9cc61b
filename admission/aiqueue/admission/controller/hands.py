"""Does one action on a Job: unsuspend, suspend, restore.

Each PATCH carries the Job's uid and the resourceVersion that it was decided on. 409 means look again, and an unsuspend goes on
only if the Job still asks for what was decided and the ledger says that the run is still to start under this term. Because a
suspend always changes the Job (it writes the run annotation), an unsuspend that was delayed past it can only conflict.
"""

from __future__ import annotations

from collections.abc import Callable

from aiqueue.admission.controller import faults
from aiqueue.admission.controller.actor import Again, Ended
from aiqueue.admission.controller.facts import Result
from aiqueue.admission.controller.follow import unchanged
from aiqueue.admission.controller.term import Term
from aiqueue.admission.kube import patches
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.errors import Conflict, Gone, Invalid, KubeError, NotFound, TooManyRequests
from aiqueue.admission.kube.jobs import observe
from aiqueue.queue.observations import Observation
from aiqueue.queue.store import actions
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.codec import tolerations_from_json
from aiqueue.queue.words import ActionKind

_LOOKS = 5
POD_SET = "main"  # the one pod set of a Job


class JobHands:
    """Hands for Jobs, in the name of one term. `latest` gives the newest observation at hand, if any."""

    def __init__(self, client: KubeClient, term: Term, cluster: str, latest: Callable[[str], Observation | None]) -> None:
        self._client = client
        self._term = term
        self._cluster = cluster
        self._latest = latest

    def __call__(self, action: Action) -> Ended | Again:
        """Do the action once, looking again at most a few times."""
        do = {
            ActionKind.UNSUSPEND: self._unsuspend,
            ActionKind.SUSPEND: self._suspend,
            ActionKind.RESTORE: self._restore,
        }[action.kind]
        try:
            return do(action)
        except NotFound:
            return Result.MOOT, "the Job is gone"
        except Invalid as error:
            if action.kind is ActionKind.RESTORE:  # the Job controller has yet to clear startTime
                return Again(str(error))
            return Result.REFUSED, str(error)
        except TooManyRequests as error:
            return Again(str(error), error.retry_after_seconds)
        except KubeError as error:
            return Again(str(error))

    def _look(self, action: Action) -> Observation | None:
        """The Job as it is, None if there is none of this uid."""
        job = self._client.get_job(action.namespace, action.name)
        if job is None or job.metadata.uid != action.uid:
            return None
        return observe(job, cluster=self._cluster)

    def _patch(self, action: Action, body: dict[str, object]) -> bool:
        """Send a PATCH while the term is trusted. False on a conflict."""
        faults.reach("act.before-patch")
        if not self._term.trusted():
            raise Gone(status=0, reason="TermOver", message="the term is not trusted any more")
        try:
            self._client.patch_job(action.namespace, action.name, body)
        except Conflict:
            return False
        faults.reach("act.after-patch")
        return True

    def _unsuspend(self, action: Action) -> Ended | Again:
        assert action.stamp is not None  # noqa: S101 -- an unsuspend always has a run
        injected = action.injected.get(POD_SET, {})
        original = action.original.get(POD_SET, {})
        tolerations = [*original.get("tolerations", ())]
        tolerations += [toleration for toleration in injected.get("tolerations", ()) if toleration not in tolerations]
        resource_version = action.resource_version
        for _ in range(_LOOKS):
            if resource_version:
                body = patches.unsuspend(
                    uid=action.uid,
                    resource_version=resource_version,
                    stamp=action.stamp,
                    node_selector=injected.get("nodeSelector", {}),
                    tolerations=tolerations_from_json(tolerations) if injected.get("tolerations") else None,
                )
                if self._patch(action, body):
                    return Result.DONE, ""
            seen = self._look(action)
            if seen is None:
                return Result.MOOT, "the Job is gone"
            if seen.stamp == action.stamp or seen.finished or not seen.suspended:
                return Result.DONE, "the Job was unsuspended already"
            if seen.stamp is None and not unchanged(seen, action.queue_name, action.shape):
                return Result.MOOT, "the Job was changed since it was decided on"
            with self._term.transaction() as connection:
                if not actions.may_still_start(connection, self._term.number, action.id):
                    return Result.MOOT, "the run is to end, or has ended"
            resource_version = seen.resource_version
        return Again(f"the Job changed {_LOOKS} times while it was to be unsuspended")

    def _suspend(self, action: Action) -> Ended | Again:
        seen = self._latest(action.uid)
        for attempt in range(_LOOKS):
            if attempt or seen is None:
                seen = self._look(action)
            if seen is None:
                return Result.MOOT, "the Job is gone"
            if seen.finished:
                return Result.MOOT, "the Job is over"
            if seen.suspended and (action.stamp is None or seen.stamp == action.stamp):
                return Result.DONE, "the Job was suspended already"
            body = patches.suspend(uid=action.uid, resource_version=seen.resource_version, stamp=action.stamp)
            if self._patch(action, body):
                return Result.DONE, ""
        return Again(f"the Job changed {_LOOKS} times while it was to be suspended")

    def _restore(self, action: Action) -> Ended | Again:
        for _ in range(_LOOKS):
            seen = self._look(action)
            if seen is None:
                return Result.MOOT, "the Job is gone"
            if seen.finished or not seen.suspended or seen.stamp != action.stamp:
                return Result.MOOT, "the template is not ours to restore"
            original = action.original.get(POD_SET, {})
            injected = action.injected.get(POD_SET, {})
            body = patches.restore(
                uid=action.uid,
                resource_version=seen.resource_version,
                node_selector=original.get("nodeSelector", {}),
                injected_keys=list(injected.get("nodeSelector", {})),
                tolerations=tolerations_from_json(original.get("tolerations", ())) if injected.get("tolerations") else None,
            )
            if self._patch(action, body):
                return Result.DONE, ""
        return Again(f"the Job changed {_LOOKS} times while its template was to be restored")
