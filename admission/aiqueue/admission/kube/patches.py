"""JSON merge patches that start, stop and restore a Job.

Each carries `metadata.uid` and `metadata.resourceVersion`: if the object is another one or has moved on, nothing is written
and the client raises `Conflict`.

`suspend` writes the run annotation as well. So the object changes, and with it its resourceVersion, even where the Job is
suspended already: an unsuspend of the same run that is still on its way can then only meet a 409. It also writes, as `expire`
does, that the run was stopped by us: a suspended Job whose run ends and which does not say so was suspended by its owner.

Kubernetes lets a template change only while the Job is suspended and has no startTime. So a stop is three steps: `suspend`,
wait for the Suspended condition and for the pods to go, then `restore` (or an `unsuspend` right away). Before Kubernetes 1.36
the Job controller leaves startTime where it is, and `forget_start` takes it away first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiqueue.admission.kube import names
from aiqueue.admission.kube.errors import FlavorConflict
from aiqueue.admission.kube.templates import toleration_to_wire
from aiqueue.queue.observations import RunStamp
from aiqueue.queue.records import Flavor, Toleration

Patch = dict[str, Any]
EXPIRED_SECONDS = 1  # an activeDeadlineSeconds that any Job which has run for its time is past
_NO_LONGER = {names.EVICT_AT_ANNOTATION: None, names.STOPPED_ANNOTATION: None}


def node_labels(flavors: Iterable[Flavor]) -> dict[str, str]:
    """The node selector that the flavors of one pod set give it together.

    Raises:
        FlavorConflict: two of them want different values of one label, so no node could carry both.
    """
    result: dict[str, str] = {}
    said_by: dict[str, str] = {}
    for flavor in flavors:
        for key, value in flavor.node_labels.items():
            if result.setdefault(key, value) != value:
                raise FlavorConflict(
                    f"flavor {flavor.name!r} wants the node label {key} to be {value!r} and flavor {said_by[key]!r} wants "
                    f"{result[key]!r}: no node has both, so give one pod set only flavors that agree"
                )
            said_by.setdefault(key, flavor.name)
    return result


def unsuspend(
    uid: str,
    resource_version: str,
    stamp: RunStamp,
    node_selector_to_add: Mapping[str, str | None],
    tolerations_union: Sequence[Toleration] | None,
    *,
    parallelism: int | None = None,
) -> Patch:
    """Start the Job: the template is steered to the flavors' nodes, and the run annotation says who started it.

    A release by the owner (`hold: "false"`) is answered by the start and goes, so that it can be said again after the next hold.

    Args:
        uid: of the Job that was decided on.
        resource_version: at which it was decided on.
        stamp: of the run.
        node_selector_to_add: labels of the flavors, None for keys that are to go; the template's other keys stay.
        tolerations_union: all tolerations that the template shall have, its own among them (`templates.union`); None leaves them.
        parallelism: the admitted size, where it is not the one asked for.
    """
    patch = _patch(uid, resource_version, {names.RUN_ANNOTATION: str(stamp), **_NO_LONGER, names.HOLD_ANNOTATION: None})
    patch["spec"] = {"suspend": False}
    template: Patch = {}
    if node_selector_to_add:
        template["nodeSelector"] = dict(node_selector_to_add)
    if tolerations_union is not None:
        template["tolerations"] = [toleration_to_wire(toleration) for toleration in tolerations_union] or None
    if template:
        patch["spec"]["template"] = {"spec": template}
    if parallelism is not None:
        patch["spec"]["parallelism"] = parallelism
    return patch


def announce(uid: str, resource_version: str, evict_at: datetime) -> Patch:
    """Give notice: the annotation `evict-at` says when the Job will be suspended."""
    return _patch(uid, resource_version, {names.EVICT_AT_ANNOTATION: instant(evict_at)})


def announce_to_pod(uid: str, evict_at: datetime) -> Patch:
    """Give notice to one pod of the Job: a volume of the downward API shows the program when it will be asked to stop.

    It names no resourceVersion: a pod's status moves all the time, and nobody else writes this annotation.
    """
    return {"metadata": {"uid": uid, "annotations": {names.EVICT_AT_ANNOTATION: instant(evict_at)}}}


def instant(time: datetime) -> str:
    """A time as Kubernetes writes those with microseconds."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def suspend(uid: str, resource_version: str, stamp: RunStamp | None, *, by_owner: bool = False) -> Patch:
    """Stop the Job.

    Args:
        uid: of the Job.
        resource_version: that was last seen.
        stamp: of the run that ends; None for a Job that no run of ours started.
        by_owner: it is suspended already, and not by us: only the stamp is written.
    """
    patch = _patch(uid, resource_version, _stopped(stamp, by_owner) if stamp is not None else {})
    patch["spec"] = {"suspend": True}
    return patch


def expire(uid: str, resource_version: str, stamp: RunStamp) -> Patch:
    """End the Job for good, as if its owner had set a deadline that is past: the Job controller fails it with DeadlineExceeded.

    A shorter deadline of the owner's would have ended the Job before, so nothing of his is lost.
    """
    patch = _patch(uid, resource_version, _stopped(stamp))
    patch["spec"] = {"activeDeadlineSeconds": EXPIRED_SECONDS}
    return patch


def restore(
    uid: str,
    resource_version: str,
    node_selector: Mapping[str, str | None],
    tolerations: Sequence[Toleration] | None,
    *,
    parallelism: int | None = None,
) -> Patch:
    """Give a stopped Job its own template back and take our annotations off it.

    Args:
        uid: of the Job.
        resource_version: that was last seen, suspended and without a startTime.
        node_selector: what is to be otherwise of it, None for keys that are to go.
        tolerations: all that the template shall have; None leaves them.
        parallelism: that it shall have; None leaves it.
    """
    patch = _patch(uid, resource_version, {names.RUN_ANNOTATION: None, **_NO_LONGER})
    template: Patch = {}
    if node_selector:
        template["nodeSelector"] = dict(node_selector)
    if tolerations is not None:
        template["tolerations"] = [toleration_to_wire(toleration) for toleration in tolerations] or None
    spec: Patch = {"template": {"spec": template}} if template else {}
    if parallelism is not None:
        spec["parallelism"] = parallelism
    if spec:
        patch["spec"] = spec
    return patch


def forget_start(uid: str, resource_version: str) -> Patch:
    """Clear the startTime of a suspended Job, so that its template may change. Goes to the subresource `status`.

    Whoever resumes the Job loses nothing by it: the Job controller then sets a new startTime in any case.
    """
    return _patch(uid, resource_version, {}) | {"status": {"startTime": None}}


def claim(uid: str, resource_version: str, stamp: RunStamp, *, parallelism: int | None = None) -> Patch:
    """Say whose run a Job is that somebody else unsuspended; nothing else of it may be written while it runs, but for its size.

    `parallelism` is the admitted size, where it is not the one asked for.
    """
    patch = _patch(uid, resource_version, {names.RUN_ANNOTATION: str(stamp)})
    if parallelism is not None:
        patch["spec"] = {"parallelism": parallelism}
    return patch


def let_go(uid: str, resource_version: str) -> Patch:
    """Take our annotations off a stopped Job whose template we never wrote to, or no longer know as it was."""
    return _patch(uid, resource_version, {names.RUN_ANNOTATION: None, **_NO_LONGER})


def _stopped(stamp: RunStamp, by_owner: bool = False) -> dict[str, str | None]:
    return {names.RUN_ANNOTATION: str(stamp), names.STOPPED_ANNOTATION: None if by_owner else str(stamp)}


def _patch(uid: str, resource_version: str, annotations: Mapping[str, str | None]) -> Patch:
    metadata: Patch = {"uid": uid, "resourceVersion": resource_version}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"metadata": metadata}
