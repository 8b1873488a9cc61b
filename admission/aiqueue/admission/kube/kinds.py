"""What is reflected: for each kind of object what it is called, where the API server has it in all namespaces, and how it is read.

Jobs are `objects.Job`. What surrounds them is read here: the objects by which the API server changes a pod as it is created.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from aiqueue.admission.kube import objects


class ObjectMetadata(objects.Object, frozen=True):
    """Metadata of an object that is only read. `namespace` is "" where its kind has none."""

    name: str
    uid: str
    resource_version: str
    namespace: str = ""


class LimitRangeItem(objects.Object, frozen=True):
    """What a LimitRange says of one type, such as Container or Pod. The API server has filled in defaults that follow from others."""

    type: str = ""
    min: dict[str, objects.Quantity] | None = None
    max: dict[str, objects.Quantity] | None = None
    default: dict[str, objects.Quantity] | None = None
    default_request: dict[str, objects.Quantity] | None = None
    max_limit_request_ratio: dict[str, objects.Quantity] | None = None


class LimitRangeSpec(objects.Object, frozen=True):
    """Spec of a LimitRange."""

    limits: tuple[LimitRangeItem, ...] | None = None


class LimitRange(objects.Object, frozen=True):
    """What containers of a namespace ask for that say nothing themselves, and what they may ask for."""

    metadata: ObjectMetadata
    spec: LimitRangeSpec = LimitRangeSpec()


class LimitRangeList(objects.Object, frozen=True):
    """One page of LimitRanges."""

    metadata: objects.ListMetadata
    items: tuple[LimitRange, ...] | None = None


class Overhead(objects.Object, frozen=True):
    """What a pod takes besides its containers."""

    pod_fixed: dict[str, objects.Quantity] | None = None


class Scheduling(objects.Object, frozen=True):
    """Where pods of a RuntimeClass may run."""

    node_selector: dict[str, str] | None = None
    tolerations: tuple[objects.Toleration, ...] | None = None


class RuntimeClass(objects.Object, frozen=True):
    """A way to run containers, and what it adds to pods that name it."""

    metadata: ObjectMetadata
    overhead: Overhead | None = None
    scheduling: Scheduling | None = None


class RuntimeClassList(objects.Object, frozen=True):
    """One page of RuntimeClasses."""

    metadata: objects.ListMetadata
    items: tuple[RuntimeClass, ...] | None = None


class Listed(Protocol):
    """A page of a list."""

    @property
    def metadata(self) -> objects.ListMetadata:
        """How far it goes, and of when it is."""

    @property
    def items(self) -> tuple[Any, ...] | None:
        """The objects; an empty page may come as null."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object: `name` is its plural, as in "watch of Jobs"."""

    name: str
    path: str
    one: msgspec.json.Decoder[Any]
    page: msgspec.json.Decoder[Any]


JOBS = Kind("Jobs", "/apis/batch/v1/jobs", msgspec.json.Decoder(objects.Job), msgspec.json.Decoder(objects.JobList))
LIMIT_RANGES = Kind(
    "LimitRanges",
    "/api/v1/limitranges",
    msgspec.json.Decoder(LimitRange),
    msgspec.json.Decoder(LimitRangeList),
)
RUNTIME_CLASSES = Kind(
    "RuntimeClasses",
    "/apis/node.k8s.io/v1/runtimeclasses",
    msgspec.json.Decoder(RuntimeClass),
    msgspec.json.Decoder(RuntimeClassList),
)
