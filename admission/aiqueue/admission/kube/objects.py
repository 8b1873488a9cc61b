"""The fields of Kubernetes objects that aiqueue reads, as frozen structs; every other field is dropped while decoding.

A struct is therefore never sent back: writes are merge patches (`aiqueue.admission.kube.patches`). Labels and annotations of
a Job are structs too, so that a 250 KB `last-applied-configuration` does not live in memory for each Job.

Times are aware datetimes in UTC. The structs take no part in garbage collection (`gc=False`): they cannot form cycles.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from aiqueue.admission.kube import names

Time = Annotated[datetime, msgspec.Meta(tz=True)]
Quantity = str | int | float


class Object(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """Base of all: immutable, camelCase on the wire, unknown fields ignored."""


class JobLabels(Object, frozen=True):
    """The labels of a Job that mean something to aiqueue."""

    queue: str | None = msgspec.field(default=None, name=names.QUEUE_LABEL)
    class_name: str | None = msgspec.field(default=None, name=names.CLASS_LABEL)


class JobAnnotations(Object, frozen=True):
    """The annotations of a Job that mean something to aiqueue."""

    run: str | None = msgspec.field(default=None, name=names.RUN_ANNOTATION)
    evict_at: str | None = msgspec.field(default=None, name=names.EVICT_AT_ANNOTATION)
    user: str | None = msgspec.field(default=None, name=names.USER_ANNOTATION)
    stopped: str | None = msgspec.field(default=None, name=names.STOPPED_ANNOTATION)
    hold: str | None = msgspec.field(default=None, name=names.HOLD_ANNOTATION)
    min_parallelism: str | None = msgspec.field(default=None, name=names.MIN_PARALLELISM_ANNOTATION)
    max_runtime: str | None = msgspec.field(default=None, name=names.MAX_RUNTIME_ANNOTATION)
    estimated_runtime: str | None = msgspec.field(default=None, name=names.ESTIMATED_RUNTIME_ANNOTATION)
    checkpoint: str | None = msgspec.field(default=None, name=names.CHECKPOINT_ANNOTATION)


class OwnerReference(Object, frozen=True):
    """Who owns the object."""

    kind: str
    name: str
    uid: str
    controller: bool | None = None


class JobMetadata(Object, frozen=True):
    """Metadata of a Job."""

    name: str
    namespace: str
    uid: str
    resource_version: str
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    labels: JobLabels | None = None
    annotations: JobAnnotations | None = None
    owner_references: tuple[OwnerReference, ...] | None = None


class Resources(Object, frozen=True):
    """Requests and limits of a container or, at the pod's level, of all its containers together."""

    requests: dict[str, Quantity] | None = None
    limits: dict[str, Quantity] | None = None


class Container(Object, frozen=True):
    """A container, an init container, or (restartPolicy Always among the init containers) a sidecar."""

    name: str = ""
    resources: Resources | None = None
    restart_policy: str | None = None


class Toleration(Object, frozen=True, omit_defaults=True):
    """A toleration as written: an operator left out stays "", and is left out again when it goes back."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class NodeSelectorRequirement(Object, frozen=True):
    """One `matchExpressions` or `matchFields` entry."""

    key: str
    operator: str
    values: tuple[str, ...] | None = None


class NodeSelectorTerm(Object, frozen=True):
    """A conjunction. An empty term matches no node."""

    match_expressions: tuple[NodeSelectorRequirement, ...] | None = None
    match_fields: tuple[NodeSelectorRequirement, ...] | None = None


class NodeSelector(Object, frozen=True):
    """A disjunction of terms."""

    node_selector_terms: tuple[NodeSelectorTerm, ...] | None = None


class NodeAffinity(Object, frozen=True):
    """Node affinity: only what is required."""

    required: NodeSelector | None = msgspec.field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")


class Affinity(Object, frozen=True):
    """Affinity: only that to nodes."""

    node_affinity: NodeAffinity | None = None


class PodSpec(Object, frozen=True):
    """What of a pod's spec decides what it takes and where it may run."""

    containers: tuple[Container, ...] | None = None
    init_containers: tuple[Container, ...] | None = None
    overhead: dict[str, Quantity] | None = None
    resources: Resources | None = None
    runtime_class_name: str | None = None
    node_selector: dict[str, str] | None = None
    tolerations: tuple[Toleration, ...] | None = None
    affinity: Affinity | None = None


class PodTemplate(Object, frozen=True):
    """The template of a Job's pods."""

    spec: PodSpec


class JobSpec(Object, frozen=True):
    """Spec of a Job."""

    template: PodTemplate
    parallelism: int | None = None
    completions: int | None = None
    suspend: bool | None = None
    active_deadline_seconds: int | None = None


class Condition(Object, frozen=True):
    """A condition of a Job's status. `status` is True, False or Unknown."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: Time | None = None


class UncountedPods(Object, frozen=True):
    """UIDs of pods that succeeded and will be counted in a later version of the status."""

    succeeded: tuple[str, ...] | None = None


class JobStatus(Object, frozen=True):
    """Status of a Job."""

    active: int | None = None
    terminating: int | None = None
    ready: int | None = None
    succeeded: int | None = None
    failed: int | None = None
    failed_indexes: str | None = None
    start_time: Time | None = None
    completion_time: Time | None = None
    conditions: tuple[Condition, ...] | None = None
    uncounted_terminated_pods: UncountedPods | None = None


class Job(Object, frozen=True):
    """A batch/v1 Job."""

    metadata: JobMetadata
    spec: JobSpec
    status: JobStatus = JobStatus()


class ListMetadata(Object, frozen=True):
    """Metadata of a list. `continue_` is "" on the last page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class JobList(Object, frozen=True):
    """One page of Jobs. Read `jobs`: an empty page may come as null."""

    kind: Literal["JobList"]
    metadata: ListMetadata
    items: tuple[Job, ...] | None = None

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The Jobs of the page."""
        return self.items or ()


class PodAnnotations(Object, frozen=True):
    """The annotation of a pod that is ours."""

    evict_at: str | None = msgspec.field(default=None, name=names.EVICT_AT_ANNOTATION)


class PodMetadata(Object, frozen=True):
    """Metadata of a pod."""

    name: str
    namespace: str
    uid: str
    labels: dict[str, str] | None = None
    annotations: PodAnnotations | None = None
    deletion_timestamp: Time | None = None
    owner_references: tuple[OwnerReference, ...] | None = None


class PodPlacement(Object, frozen=True):
    """Spec of a pod that exists: only where it is."""

    node_name: str = ""


class PodStatus(Object, frozen=True):
    """Status of a pod. `phase` is Pending, Running, Succeeded, Failed or Unknown."""

    phase: str = ""


class Pod(Object, frozen=True):
    """A pod that exists."""

    metadata: PodMetadata
    spec: PodPlacement = PodPlacement()
    status: PodStatus = PodStatus()

    @property
    def alive(self) -> bool:
        """May still hold its node's resources: its phase is not final."""
        return self.status.phase not in ("Succeeded", "Failed")


class PodList(Object, frozen=True):
    """One page of pods. Read `pods`."""

    kind: Literal["PodList"]
    metadata: ListMetadata
    items: tuple[Pod, ...] | None = None

    @property
    def pods(self) -> tuple[Pod, ...]:
        """The pods of the page."""
        return self.items or ()


class StatusCause(Object, frozen=True):
    """One thing that is wrong with a request: `field` says where."""

    field: str = ""


class StatusDetails(Object, frozen=True):
    """Details of a Status. `name` is that of the object it is about, if it is about one."""

    name: str = ""
    retry_after_seconds: int | None = None
    causes: tuple[StatusCause, ...] | None = None


class Status(Object, frozen=True):
    """What the API server answers instead of an object, and what an ERROR event of a watch carries. `kind` is always "Status"."""

    kind: str = ""
    code: int = 0
    reason: str = ""
    message: str = ""
    details: StatusDetails | None = None


class NamespaceMetadata(Object, frozen=True):
    """Metadata of a namespace."""

    name: str
    uid: str


class Namespace(Object, frozen=True):
    """A namespace."""

    metadata: NamespaceMetadata


class Bookmark(Object, frozen=True):
    """The object of a BOOKMARK event: nothing but how far the watch has come."""

    metadata: ListMetadata


class Envelope(Object, frozen=True):
    """A watch event whose object is decoded once its type is known."""

    type: str
    object: msgspec.Raw


class ServerVersion(Object, frozen=True):
    """Answer of `/version`."""

    major: str = ""
    minor: str = ""
    git_version: str = ""
