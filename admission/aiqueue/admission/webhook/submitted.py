"""A Job as an AdmissionReview carries it, read exactly as the controller reads it.

Decoding is `aiqueue.admission.kube.objects`' and reading is `aiqueue.admission.kube.jobs`'; this module only allows for what a
Job that is not stored yet may lack (name, uid, resourceVersion, creationTimestamp), and keeps the keys of its labels and
annotations, which the controller has no use for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from aiqueue.admission.kube import jobs, names, objects
from aiqueue.admission.kube.templates import clean
from aiqueue.queue.errors import AiqueueError, InvalidInput
from aiqueue.queue.observations import Observation

MAX_NAME = 253  # characters of a name shown: as long as one may be
MAX_PARTS = 1000  # what is weighed of a pod takes some 20 microseconds a part, and others wait meanwhile
_NO_CLUSTER = ""  # a review says nothing of the cluster it comes from, and nothing here depends on it


class _Metadata(objects.JobMetadata, frozen=True):
    """Metadata of a Job that may not be stored yet."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generate_name: str = ""


class _Keys(objects.Object, frozen=True):
    """The keys of labels and annotations. Values are left undecoded: there may be 256 KB of them."""

    labels: dict[str, msgspec.Raw] | None = None
    annotations: dict[str, msgspec.Raw] | None = None


class _Job(objects.Object, frozen=True):
    """A Job whose metadata is decoded twice, for two purposes."""

    metadata: msgspec.Raw
    spec: objects.JobSpec
    status: objects.JobStatus = objects.JobStatus()


_JOBS = msgspec.json.Decoder(_Job)
_METADATA = msgspec.json.Decoder(_Metadata)
_KEYS = msgspec.json.Decoder(_Keys)


class TooManyParts(AiqueueError):
    """A pod of so many containers, requests or places to run that weighing it would take too long."""


@dataclass(frozen=True, slots=True)
class SubmittedJob:
    """A Job that somebody submits or changes.

    Attributes:
        job: its fields, as the controller decodes them.
        observation: what they mean. `cluster` is empty, and so is whatever a Job has only once it is stored.
        complaints: what in them cannot be understood.
        name: its name, or `prefix*` where the API server is to make one; clean and bounded.
        label_keys: its labels that begin with `aiqueue.dev/`.
        annotation_keys: its annotations that do.
    """

    job: objects.Job
    observation: Observation
    complaints: tuple[InvalidInput, ...]
    name: str
    label_keys: frozenset[str]
    annotation_keys: frozenset[str]

    @property
    def labels(self) -> objects.JobLabels:
        """The labels that mean something."""
        return self.job.metadata.labels or _NO_LABELS

    @property
    def annotations(self) -> objects.JobAnnotations:
        """The annotations that mean something."""
        return self.job.metadata.annotations or _NO_ANNOTATIONS


_NO_LABELS = objects.JobLabels()
_NO_ANNOTATIONS = objects.JobAnnotations()


def read(content: msgspec.Raw) -> SubmittedJob:
    """Read a Job.

    Raises:
        msgspec.MsgspecError: it is no JSON, or no Job of batch/v1 as this version knows it.
        UnicodeError: a text in it is no text.
        RecursionError: it is nested deeper than any Job.
        TooManyParts: its pod has more than `MAX_PARTS`.
    """
    whole = _JOBS.decode(content)
    parts = _parts(whole.spec.template.spec)
    if parts > MAX_PARTS:
        what = "containers, requests, limits, tolerations, node labels and affinity values"
        raise TooManyParts(f"its pod has {parts} {what} in all, and at most {MAX_PARTS} are looked at")
    metadata, keys = _METADATA.decode(whole.metadata), _KEYS.decode(whole.metadata)
    job = objects.Job(metadata, whole.spec, whole.status)
    examined = jobs.examine(job, cluster=_NO_CLUSTER)
    return SubmittedJob(
        job,
        examined.observation,
        examined.complaints,
        clean(metadata.name or f"{metadata.generate_name}*")[:MAX_NAME],
        _ours(keys.labels),
        _ours(keys.annotations),
    )


def _parts(pod: objects.PodSpec) -> int:
    """How much there is to weigh in a pod."""
    containers = (*(pod.containers or ()), *(pod.init_containers or ()))
    amounts = [each for each in (pod.resources, *(container.resources for container in containers)) if each is not None]
    affinity = pod.affinity and pod.affinity.node_affinity and pod.affinity.node_affinity.required
    terms = (affinity.node_selector_terms or ()) if affinity else ()
    wanted = [each for term in terms for each in (*(term.match_expressions or ()), *(term.match_fields or ()))]
    return (
        len(containers)
        + sum(len(each.requests or ()) + len(each.limits or ()) for each in amounts)
        + len(pod.overhead or ())
        + len(pod.node_selector or ())
        + len(pod.tolerations or ())
        + len(terms)
        + sum(1 + len(each.values or ()) for each in wanted)
    )


def _ours(keys: Mapping[str, msgspec.Raw] | None) -> frozenset[str]:
    return frozenset(key for key in keys or () if key.startswith(names.PREFIX))
