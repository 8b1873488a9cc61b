"""The rules that need no data: what stands in a Job, and what may not change while it runs.

Form, on create and update (`broken_form`):

* the queue label and the class label are names that a queue and a class can have;
* `min-parallelism` is a whole number above zero and less than the pods that run at once, min(parallelism, completions);
* `max-runtime`, `estimated-runtime` and `checkpoint` are durations above zero; `hold` is "true" or "false";
* the Job asks for at least one pod at a time (`completions: 0` is work of no pods, and fine); every request, limit and overhead
  is a quantity, and all pods together ask for no more than an amount can hold.

Running, on update (`broken_while_running`): unless the Job is suspended before and after, its queue, class, size
(`spec.parallelism`, `spec.completions`), `max-runtime` and `min-parallelism` stay as they are. That is what a run was admitted with and what holds
its quota. The policies say the first three too, and are asked before any webhook. Completions count because no more pods run than
are to complete, and Kubernetes lets those of an Indexed Job rise to its parallelism.

An update answers for what it changes and nothing else: what was wrong before, in the same words, is no reason to refuse it. So
nothing that is stored ever becomes impossible to change. An update that puts a Job into a queue is a create for these rules.

Rules that queueing systems have for Jobs and that are not here, and why:

* Prebuilt workloads, admission gates, elastic Jobs, synchronized completions, topology requests: no label or annotation of
  aiqueue's speaks of them. A gang is what runs at once.
* A Job is put into a default queue, suspended and stamped; our own annotations, `managedBy` and unsuspending are guarded; the
  queue label stays where a namespace requires it: policies do that inside the API server, and hold while no webhook runs.
* Deletes are never refused, and nobody asks about them.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiqueue.admission.kube import jobs, names
from aiqueue.admission.webhook.submitted import SubmittedJob
from aiqueue.queue.documents.names import is_name
from aiqueue.queue.documents.problems import MISSING
from aiqueue.queue.errors import InvalidInput

_NAME = "at most 63 lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
_WHEN = "only while spec.suspend is true; suspend it first, then change it in a second request"
_MAX_SHOWN = 64  # characters of a value


def enters(job: SubmittedJob, old: SubmittedJob | None) -> bool:
    """Whether the request puts the Job into a queue: it is new, or had no queue label."""
    return job.labels.queue is not None and (old is None or old.labels.queue is None)


def asks_anew(job: SubmittedJob, old: SubmittedJob | None) -> bool:
    """Whether the request asks for something that the data decide: a queue, a class, or pods, other than before."""
    if old is None or job.labels.queue is None or enters(job, old):
        return job.labels.queue is not None
    new, known = job.observation, old.observation
    return (new.queue_name, new.class_name, new.pod_sets) != (known.queue_name, known.class_name, known.pod_sets)


def broken_form(job: SubmittedJob, old: SubmittedJob | None) -> tuple[str, ...]:
    """What is wrong with a Job by itself, as sentences; on an update only what was not wrong in the same words before."""
    if job.labels.queue is None:
        return ()
    found = tuple(_complaints(job))
    if not found or old is None or enters(job, old):
        return found
    before = set(_complaints(old))
    return tuple(each for each in found if each not in before)


def _complaints(job: SubmittedJob) -> Iterator[str]:
    queue_name, class_name = job.labels.queue, job.labels.class_name
    if queue_name and not is_name(queue_name):
        fix = f"write the name of a queue of this namespace: {_NAME}"
        yield jobs.told(InvalidInput(_label(names.QUEUE_LABEL), _shown(queue_name), fix))
    if class_name and not is_name(class_name):
        fix = f"write the name of a class, {_NAME}, or remove the label"
        yield jobs.told(InvalidInput(_label(names.CLASS_LABEL), _shown(class_name), fix))
    yield from map(jobs.told, job.complaints)


def broken_while_running(job: SubmittedJob, old: SubmittedJob | None) -> tuple[str, ...]:
    """What an update changes that may change only while the Job is suspended before and after, as sentences."""
    if old is None or (job.observation.suspended and old.observation.suspended) or old.observation.finished is not None:
        return ()
    return tuple(map(jobs.told, _changes(job, old)))


def _changes(job: SubmittedJob, old: SubmittedJob) -> Iterator[InvalidInput]:
    if job.labels.queue != old.labels.queue:
        where = f"in queue {_shown(old.labels.queue)}" if old.labels.queue else "in no queue"
        fix = f"the Job runs {where}, and the label may be added, changed or removed {_WHEN}"
        yield InvalidInput(_label(names.QUEUE_LABEL), _shown(job.labels.queue), fix)
    if old.labels.queue is None:
        return
    if job.labels.class_name != old.labels.class_name:
        fix = f"the Job runs with {_said(old.labels.class_name)}, and the label may be added, changed or removed {_WHEN}"
        yield InvalidInput(_label(names.CLASS_LABEL), _shown(job.labels.class_name), fix)
    size, admitted = _parallelism(job), _parallelism(old)
    if size != admitted:
        yield InvalidInput("spec.parallelism", size, f"the Job runs with quota for {admitted}, and its size may change {_WHEN}")
    if job.job.spec.completions != old.job.spec.completions:
        fix = f"the Job runs with {old.job.spec.completions}, and no more pods run than are to complete: it may change {_WHEN}"
        yield InvalidInput("spec.completions", job.job.spec.completions, fix)
    for name, text, known in (
        (names.MAX_RUNTIME_ANNOTATION, job.annotations.max_runtime, old.annotations.max_runtime),
        (names.MIN_PARALLELISM_ANNOTATION, job.annotations.min_parallelism, old.annotations.min_parallelism),
    ):
        if text != known:
            fix = f"the Job runs with {_said(known)}, and the annotation may be added, changed or removed {_WHEN}"
            yield InvalidInput(f"metadata.annotations[{name}]", _shown(text), fix)


def _parallelism(job: SubmittedJob) -> int:
    given = job.job.spec.parallelism
    return 1 if given is None else given


def _shown(text: str | None) -> str:
    if text is None:
        return MISSING
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


def _said(text: str | None) -> str:
    return "none" if text is None else repr(_shown(text))


def _label(name: str) -> str:
    return f"metadata.labels[{name}]"
