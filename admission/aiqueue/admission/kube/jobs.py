"""A Job as the ledger sees it.

The one pod set of a Job is `main`; its gang is min(parallelism, completions), that is parallelism where completions is not
set. Two corners:

* `completions: 0` is valid work of no pods: admitted at once, it completes at once, as it would without a queue.
* `parallelism: 0` with completions to do is invalid. Without a queue it means "paused"; admitted at size nought it could
  be raised later past any quota. So it waits, with a sentence that says so, until parallelism is at least 1.

What cannot be understood is complained of, and the observation is made all the same: `examine` gives the complaints one by one,
`Observation.invalid` holds them as one sentence.

What a Job asks for takes long to work out, most Jobs of a cluster ask for one of few things, and each Job is observed whenever it
changes: what was worked out without a complaint is remembered by what it was worked out from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any, ParamSpec, TypeVar

import msgspec

from aiqueue.admission.kube import names, objects, templates
from aiqueue.admission.kube.refusals import refusals
from aiqueue.admission.kube.requests import pod_requests
from aiqueue.admission.kube.surroundings import Around, Surroundings
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import PodSet, shape_of
from aiqueue.queue.units import MAX_AMOUNT, parse_duration
from aiqueue.queue.words import WorkloadState

P = ParamSpec("P")
T = TypeVar("T")
_EPOCH = datetime.fromtimestamp(0, UTC)
_WHOLE = re.compile(r"[0-9]{1,9}", re.ASCII)
_INTERVAL = re.compile(r"(?<![^,])([0-9]{1,9})(?:-([0-9]{1,9}))?(?![^,])", re.ASCII)
_ENDING = ("SuccessCriteriaMet", "FailureTarget", "Complete", "Failed")
_MAX_PODS = 2**31 - 1  # int32 on the wire
_MAX_SHOWN = 64
_REFUSALS = 3  # of the API server's, that are told at once
_REMEMBERED = 4096  # asks, each at most so long as encoded
_LONGEST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Durations:
    """What the annotations of a Job say about time; None where they say nothing."""

    max_runtime_seconds: int | None = None
    estimated_runtime_seconds: int | None = None
    checkpoint_seconds: int | None = None


def durations(job: objects.Job) -> Durations:
    """Read max-runtime, estimated-runtime and checkpoint.

    Raises:
        InvalidInput: one of them is no duration above zero.
    """
    annotations = job.metadata.annotations
    if annotations is None:
        return Durations()
    return Durations(*(_duration(name, text) for name, text in _timed(annotations)))


_NO_LABELS = objects.JobLabels()
_NO_ANNOTATIONS = objects.JobAnnotations()
_SAYS_NOTHING = Durations()
_ALL_COUNTED = objects.UncountedPods()


def template_of(job: objects.Job) -> dict[str, Any]:
    """`nodeSelector` and `tolerations` of the template, and `parallelism`, exactly as they stand: what `restore` puts back."""
    spec = job.spec.template.spec
    return {
        "nodeSelector": dict(spec.node_selector or {}),
        "tolerations": [msgspec.to_builtins(toleration) for toleration in spec.tolerations or ()],
        "parallelism": job.spec.parallelism,
    }


@dataclass(frozen=True, slots=True)
class Examined:
    """What a Job says, and what in it cannot be understood.

    Attributes:
        complaints: at most one for each thing that is read; their texts, `told`, are clean and bounded.
    """

    observation: Observation
    complaints: tuple[InvalidInput, ...]


def told(complaint: InvalidInput) -> str:
    """A complaint as text that any store takes."""
    return templates.clean(str(complaint))


def observe(job: objects.Job, *, cluster: str, surroundings: Surroundings | None = None) -> Observation:
    """What is to be known of a Job at its resourceVersion. Never raises: see `Observation.invalid`.

    Args:
        job: as decoded from the API server.
        cluster: the ledger's name for the cluster.
        surroundings: what the API server adds to pods there; None counts nothing but the template.
    """
    return examine(job, cluster=cluster, surroundings=surroundings).observation


def examine(job: objects.Job, *, cluster: str, surroundings: Surroundings | None = None) -> Examined:
    """As `observe`, with each complaint by itself. Never raises."""
    complaints: list[InvalidInput] = []
    metadata, status = job.metadata, job.status
    queue_name, class_name = _door(metadata.labels or _NO_LABELS, complaints)
    annotations = metadata.annotations or _NO_ANNOTATIONS
    stamp = RunStamp.parse(annotations.run) if annotations.run is not None else None
    around = None
    if surroundings is not None:
        around = surroundings.around(metadata.namespace, job.spec.template.spec.runtime_class_name)
    pod_set, shape = _asked(job, class_name, around, started=stamp is not None, complaints=complaints)
    times, hold = _SAYS_NOTHING, None
    if annotations != _NO_ANNOTATIONS:
        timed = _timed(annotations)
        if any(text is not None for _, text in timed):
            times = Durations(*(_read(_duration, complaints, name, text) for name, text in timed))
        hold = _read(_hold, complaints, annotations.hold)
    finished, finished_at, end_reason = _end(status)
    uncounted = status.uncounted_terminated_pods or _ALL_COUNTED
    observation = Observation(
        cluster=cluster,
        uid=metadata.uid,
        namespace=metadata.namespace,
        name=metadata.name,
        resource_version=metadata.resource_version,
        queue_name=queue_name,
        class_name=class_name,
        pod_sets=(pod_set,),
        shape=shape,
        created_at=metadata.creation_timestamp or _EPOCH,
        suspended=bool(job.spec.suspend),
        active=max(status.active or 0, 0),
        terminating=max(status.terminating or 0, 0),
        ready=max(status.ready or 0, 0),
        succeeded=max(status.succeeded or 0, 0) + len(uncounted.succeeded or ()),
        failed=max(status.failed or 0, 0),
        finished=finished,
        finished_at=finished_at,
        suspended_seen=_has(status, "Suspended") is not None,
        started=status.start_time is not None,
        deleting=metadata.deletion_timestamp is not None,
        stamp=stamp,
        foreign_stamp=templates.clean(annotations.run) if annotations.run is not None and stamp is None else None,
        held_by_owner=hold is True,
        released_by_owner=hold is False,
        invalid="; ".join(map(told, complaints)) or None,
        checkpoint_seconds=times.checkpoint_seconds,
        max_runtime_seconds=times.max_runtime_seconds,
        stopped=RunStamp.parse(annotations.stopped) if annotations.stopped else None,
        deadline_seconds=job.spec.active_deadline_seconds,
        parallelism=job.spec.parallelism,
        completions=job.spec.completions,
        failed_indexes=_indexes(status.failed_indexes) if status.failed_indexes else 0,
        ending=status.conditions is not None and any(_has(status, kind) is not None for kind in _ENDING),
        end_reason=end_reason,
        user=templates.clean(annotations.user) if annotations.user else "",
        owner=_owner(metadata),
    )
    return Examined(observation, tuple(complaints))


def _read(reader: Callable[P, T], complaints: list[InvalidInput], *arguments: P.args, **keywords: P.kwargs) -> T | None:
    try:
        return reader(*arguments, **keywords)
    except InvalidInput as error:
        complaints.append(error)
        return None


def _timed(annotations: objects.JobAnnotations) -> tuple[tuple[str, str | None], ...]:
    return (
        (names.MAX_RUNTIME_ANNOTATION, annotations.max_runtime),
        (names.ESTIMATED_RUNTIME_ANNOTATION, annotations.estimated_runtime),
        (names.CHECKPOINT_ANNOTATION, annotations.checkpoint),
    )


def _door(labels: objects.JobLabels, complaints: list[InvalidInput]) -> tuple[str | None, str | None]:
    queue_name, class_name = labels.queue, labels.class_name
    if queue_name == "":
        complaints.append(InvalidInput(_label(names.QUEUE_LABEL), "", "write the name of a queue of this namespace"))
    if class_name == "":
        complaints.append(InvalidInput(_label(names.CLASS_LABEL), "", "write the name of a class or remove the label"))
    return (None if queue_name is None else templates.clean(queue_name)), (templates.clean(class_name) if class_name else None)


#: All that `_pod_set` and `shape_of` read: the template, parallelism, completions, min-parallelism, whether it was started, its class, and
#: what surrounds it.
_Ask = tuple[bytes, int | None, int | None, str | None, bool, str | None, tuple[bytes, bytes] | None]
_asks: dict[_Ask, tuple[PodSet, str]] = {}


def _asked(
    job: objects.Job, class_name: str | None, around: Around | None, *, started: bool, complaints: list[InvalidInput]
) -> tuple[PodSet, str]:
    """What a Job asks for, and the shape of that."""
    spec, annotations = job.spec, job.metadata.annotations
    try:
        encoded = msgspec.msgpack.encode(spec.template.spec)
    except (
        OverflowError
    ):  # a quantity may be any JSON number: one beyond 64 bits is complained of below, and nothing is remembered
        encoded = bytes(_LONGEST_REMEMBERED + 1)
    text = annotations.min_parallelism if annotations is not None else None
    ask = (encoded, spec.parallelism, spec.completions, text, started, class_name, around.key if around is not None else None)
    known = _asks.get(ask)
    if known is not None:
        return known
    before = len(complaints)
    pod_set = _pod_set(job, around, started=started, complaints=complaints)
    found = pod_set, shape_of((pod_set,), class_name)
    if len(complaints) == before and len(encoded) + len(text or "") <= _LONGEST_REMEMBERED:
        if len(_asks) >= _REMEMBERED:
            _asks.clear()  # all of it, since any thread may be here too
        _asks[ask] = found
    return found


def _pod_set(job: objects.Job, around: Around | None, *, started: bool, complaints: list[InvalidInput]) -> PodSet:
    spec = job.spec.template.spec
    count = _read(_count, complaints, job.spec) or 0
    requests = _read(_requests, complaints, spec, count, around)
    if around is not None and not started:  # what runs has pods; and what a run writes into the template is not its owner's
        complaints += islice(refusals(spec, around), _REFUSALS)
    runtime = around.runtime.found if around is not None and around.runtime is not None else None
    selector, tolerations = templates.scheduling_of(spec, runtime.scheduling if runtime is not None else None)
    annotations = job.metadata.annotations
    text = annotations.min_parallelism if annotations is not None else None
    return PodSet(
        name=names.POD_SET,
        count=count,
        requests=requests or {},
        min_count=_read(_min_count, complaints, text, None if started else count),
        node_selector=selector,
        tolerations=tolerations,
        affinity_terms=templates.affinity_terms_of(spec),
    )


def _count(spec: objects.JobSpec) -> int:
    parallelism = 1 if spec.parallelism is None else spec.parallelism
    completions = parallelism if spec.completions is None else spec.completions
    if not 0 <= completions <= _MAX_PODS:
        raise InvalidInput("spec.completions", completions, f"write a whole number from 0 to {_MAX_PODS}")
    if completions == 0 and spec.completions is not None:
        return 0
    if not 1 <= parallelism <= _MAX_PODS:
        raise InvalidInput(
            "spec.parallelism", parallelism, "write 1 or more: the Job waits until then, since it asks for no pods"
        )
    return min(parallelism, completions)


def _requests(spec: objects.PodSpec, count: int, around: Around | None) -> dict[str, int]:
    # A pod is a resource too, for tenants whose quota lists `pods`. A request of nothing asks for nothing.
    requests = {templates.clean(name): amount for name, amount in pod_requests(spec, around).items() if amount} | {"pods": 1}
    for resource, amount in requests.items():
        if amount * count > MAX_AMOUNT:
            where = f"spec.template.spec: {resource} of {count} pods"
            raise InvalidInput(where, amount * count, f"ask for at most {MAX_AMOUNT} base units in all")
    return requests


def _min_count(text: str | None, count: int | None) -> int | None:
    """`count` of None skips the comparison: while a run has the Job, parallelism may be the size that was admitted."""
    if text is None:
        return None
    field = _annotation(names.MIN_PARALLELISM_ANNOTATION)
    if not _WHOLE.fullmatch(text) or int(text) == 0:
        raise InvalidInput(field, _shown(text), "write a whole number above zero")
    if count is not None and int(text) >= count:
        fix = f"write less than {count}, the pods that run at once, or remove the annotation"
        if count <= 1:
            fix = "remove the annotation: no more than one pod runs at once"
        raise InvalidInput(field, _shown(text), fix)
    return int(text)


def _duration(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    seconds = parse_duration(text if len(text) <= _MAX_SHOWN else _shown(text), field=_annotation(name))
    if seconds == 0:
        raise InvalidInput(_annotation(name), text, 'write a duration above zero such as "90s", "10m" or "1h30m"')
    return seconds


def _hold(text: str | None) -> bool | None:
    if text is None:
        return None
    if text not in ("true", "false"):
        raise InvalidInput(
            _annotation(names.HOLD_ANNOTATION), _shown(text), 'write "true" to hold the Job or "false" to release it'
        )
    return text == "true"


def _end(status: objects.JobStatus) -> tuple[WorkloadState | None, datetime | None, str]:
    # A Job that reached maxRuntime ends Failed like any other; telling it apart takes the ledger, which set the deadline.
    for kind, state in (("Complete", WorkloadState.FINISHED), ("Failed", WorkloadState.FAILED)):
        condition = _has(status, kind)
        if condition is not None:
            return state, condition.last_transition_time, templates.clean(condition.reason)
    return None, None, ""


def _has(status: objects.JobStatus, kind: str) -> objects.Condition | None:
    for condition in status.conditions or ():
        if condition.type == kind and condition.status == "True":
            return condition
    return None


def _indexes(text: str) -> int:
    """How many indexes `1,3-5` names. What is not written so is not counted: fewer than there are is safe."""
    return sum(int(found[2] or found[1]) - int(found[1]) + 1 for found in _INTERVAL.finditer(text))


def _owner(metadata: objects.JobMetadata) -> str:
    for owner in metadata.owner_references or ():
        if owner.controller:
            return templates.clean(f"{owner.kind}/{owner.name}")
    return ""


def _shown(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _label(name: str) -> str:
    return f"metadata.labels[{name}]"


def _annotation(name: str) -> str:
    return f"metadata.annotations[{name}]"
