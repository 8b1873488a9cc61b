"""What a user is told of a Job that is allowed: things that are no fault and probably not what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from heapq import nsmallest

from aiqueue.admission.engine import Door
from aiqueue.admission.kube import jobs, names
from aiqueue.admission.kube.templates import clean
from aiqueue.admission.webhook import rules
from aiqueue.admission.webhook.submitted import SubmittedJob
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.units import format_duration

MAX_HINTS = 4  # of labels, and of annotations
MAX_CHOICES = 200  # names that a wrong one is compared with
_MAX_SHOWN = 64  # characters of a key; comparing takes the square of it

_LABELS = (names.QUEUE_LABEL, names.CLASS_LABEL)
_ANNOTATIONS = (
    names.MIN_PARALLELISM_ANNOTATION,
    names.MAX_RUNTIME_ANNOTATION,
    names.ESTIMATED_RUNTIME_ANNOTATION,
    names.CHECKPOINT_ANNOTATION,
    names.HOLD_ANNOTATION,
    names.RUN_ANNOTATION,
    names.EVICT_AT_ANNOTATION,
    names.USER_ANNOTATION,
)


def of_keys(job: SubmittedJob, old: SubmittedJob | None) -> Iterator[str]:
    """Of labels and annotations that begin with aiqueue's prefix and mean nothing; on an update, of those that are new."""
    known = None if rules.enters(job, old) else old
    for field, kinds, others, keys, before in (
        ("labels", _LABELS, _ANNOTATIONS, job.label_keys, known.label_keys if known else frozenset()),
        ("annotations", _ANNOTATIONS, _LABELS, job.annotation_keys, known.annotation_keys if known else frozenset()),
    ):
        for key in nsmallest(MAX_HINTS, keys.difference(kinds, before)):
            place = f"metadata.{field}[{clean(key[:_MAX_SHOWN])}]"
            if key in others:
                yield f"{place} means nothing there: write it under metadata.{'annotations' if field == 'labels' else 'labels'}"
            else:
                yield f"{place} means nothing to aiqueue{_meant(key, (*kinds, *others))}"


def _meant(key: str, choices: tuple[str, ...]) -> str:
    word = key[len(names.PREFIX) : _MAX_SHOWN]
    close = get_close_matches(word, [each[len(names.PREFIX) :] for each in choices], n=1)
    return f": did you mean {names.PREFIX}{close[0]}?" if close else ""


def of_runtime(job: SubmittedJob, old: SubmittedJob | None, namespace: str, door: Door) -> Iterator[str]:
    """Of a max-runtime that the class cuts short; on an update, where it is new."""
    text = job.annotations.max_runtime
    if text is None or (old is not None and not rules.asks_anew(job, old) and text == old.annotations.max_runtime):
        return
    try:
        wanted = jobs.durations(job.job).max_runtime_seconds
    except InvalidInput:
        return  # it was wrong before this update, and is complained of elsewhere
    observation = job.observation
    cls = door.effective_class(namespace, observation.queue_name or "", observation.class_name)
    if cls is not None and wanted is not None and cls.max_runtime_seconds is not None and wanted > cls.max_runtime_seconds:
        limit = format_duration(cls.max_runtime_seconds)
        yield f"{names.MAX_RUNTIME_ANNOTATION} is {format_duration(wanted)}, and class {cls.name} allows {limit}: the lesser counts"


def of_tenant(job: SubmittedJob, namespace: str, door: Door) -> Iterator[str]:
    """Of a tenant that takes no work now."""
    closed = door.closed_tenant(namespace, job.observation.queue_name or "")
    if closed is not None:
        yield f"is stored and waits: {closed}"


def of_names(job: SubmittedJob, namespace: str, door: Door) -> Iterator[str]:
    """Of a queue or class that is called nearly as the one that does not exist; other namespaces' queues are not told."""
    observation = job.observation
    for what, word, choices in (
        ("queue", observation.queue_name, door.queues_of(namespace)),
        ("class", observation.class_name, tuple(door.configuration.classes)),
    ):
        if word and word not in choices:
            close = get_close_matches(word[:_MAX_SHOWN], choices[:MAX_CHOICES], n=1)
            if close:
                yield f"did you mean {what} {close[0]}?"
