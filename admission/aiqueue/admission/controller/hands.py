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
from aiqueue.admission.kube.errors import Conflict, Forbidden, Invalid, KubeError, NotFound, Unavailable
from aiqueue.admission.kube.jobs import observe
from aiqueue.admission.kube.names import POD_SET
from aiqueue.admission.kube.templates import toleration_from_wire, union
from aiqueue.queue.observations import Observation
from aiqueue.queue.store import actions
from aiqueue.queue.store.actions import Action
from aiqueue.queue.words import ActionKind

_LOOKS = 5


class JobHands:
    """Hands for Jobs, in the name of one term. `latest` gives the newest observation at hand, if any."""

    def __init__(self, client: KubeClient, term: Term, cluster: str, latest: Callable[[str], Observation | None]) -> None:
        self._client = client
        self._term = term
        self._cluster = cluster
        self._latest = latest

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
            ActionKind.SUSPEND: self._suspend,
            ActionKind.RESTORE: self._restore,
        }[action.kind]
        try:
            return do(action)
        except Invalid as error:
            seen = self._look(action)
            at_rest = seen is None or (seen.suspended and seen.suspended_seen)
            # A stop is never given up, and a template cannot change before the Job controller has seen that the Job is suspended.
            if action.kind is ActionKind.SUSPEND or not at_rest:
                return Again(str(error))
            hindrance = self._forget_start(action, seen) if seen is not None and seen.started else None
            if hindrance is not None:
                return hindrance
        # The Job may have come to rest just after it refused: only what it refuses at rest is refused for good.
        try:
            return do(action)
        except Invalid as error:
            return (Result.REFUSED, str(error)) if action.kind is ActionKind.UNSUSPEND else Again(str(error))

    def _look(self, action: Action) -> Observation | None:
        """The Job as it is, None if there is none of this uid."""
        job = self._client.get_job(action.namespace, action.name)
        if job is None or job.metadata.uid != action.uid:
            return None
        return observe(job, cluster=self._cluster)

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

    def _patch(self, action: Action, body: dict[str, object]) -> bool:
        """Send a PATCH while the term is trusted. False on a conflict."""
        if not self._term.trusted():
            raise Unavailable("the term is not trusted any more", doing=f"patch of Job {action.namespace}/{action.name}")
        faults.reach("act.before-patch")
        try:
            self._client.patch_job(action.namespace, action.name, body)
        except Conflict:
            return False
        faults.reach("act.after-patch")
        return True

    def _unsuspend(self, action: Action) -> Ended | Again:
        assert action.stamp is not None  # noqa: S101 -- an unsuspend always has a run
        injected = action.injected.get(POD_SET, {})
        added = [toleration_from_wire(wire) for wire in injected.get("tolerations", ())]
        original = [toleration_from_wire(wire) for wire in action.original.get(POD_SET, {}).get("tolerations", ())]
        resource_version = action.resource_version
        for _ in range(_LOOKS):
            if resource_version:
                body = patches.unsuspend(
                    uid=action.uid,
                    resource_version=resource_version,
                    stamp=action.stamp,
                    node_selector_to_add=injected.get("nodeSelector", {}),
                    tolerations_union=union(original, added) if added else (),
                )
                if self._patch(action, body):
                    return Result.DONE, ""
            seen = self._look(action)
            if seen is None:
                return Result.MOOT, "the Job is gone"
            settled = self._settled(action, seen)
            if settled is not None:
                return settled
            resource_version = seen.resource_version if seen.suspended else ""
            # Without our stamp nobody could tell the next suspension of a running Job from one that is still to be lifted.
            if not seen.suspended and self._patch(action, patches.claim(action.uid, seen.resource_version, action.stamp)):
                return Result.DONE, "somebody else unsuspended the Job"
        return Again(f"the Job changed {_LOOKS} times while it was to be unsuspended")

    def _settled(self, action: Action, seen: Observation) -> Ended | None:
        """Why an unsuspend that met a conflict is not tried again; None if it is still to be done."""
        if seen.stamp == action.stamp or seen.finished:
            return Result.DONE, "the Job was unsuspended already"
        if seen.suspended and not unchanged(seen, action.queue_name, action.shape):
            return Result.MOOT, "the Job was changed since it was decided on"
        with self._term.transaction() as connection:
            if not actions.may_still_start(connection, self._term.number, action.id):
                return Result.MOOT, "the run is to end, or has ended"
        return None

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
            ours = seen.stamp is not None and action.stamp is not None and seen.stamp.ledger == action.stamp.ledger
            if seen.finished or not seen.suspended or not ours:
                return Result.MOOT, "the template is not ours to restore"
            if self._patch(action, _restoration(action, seen.resource_version)):
                return Result.DONE, ""
        return Again(f"the Job changed {_LOOKS} times while its template was to be restored")


def _restoration(action: Action, resource_version: str) -> patches.Patch:
    """What gives the template back. An adopted run wrote nothing to it, and nobody kept what it was."""
    original = action.original.get(POD_SET)
    if original is None:
        return patches.let_go(action.uid, resource_version)
    return patches.restore(
        uid=action.uid,
        resource_version=resource_version,
        node_selector=original["nodeSelector"],
        injected_keys=list(action.injected.get(POD_SET, {}).get("nodeSelector", {})),
        tolerations=[toleration_from_wire(wire) for wire in original["tolerations"]],
    )
