"""The fields of Kubernetes objects that only the doctor reads."""

from __future__ import annotations

from aiqueue.admission.kube.objects import ListMetadata, Object, Time


class Metadata(Object, frozen=True):
    """Metadata of any object."""

    name: str
    namespace: str = ""
    labels: dict[str, str] | None = None
    deletion_timestamp: Time | None = None


class Item(Object, frozen=True):
    """Any object, without what it is."""

    metadata: Metadata


class Items(Object, frozen=True):
    """One page of any objects; an empty page may come as null."""

    metadata: ListMetadata
    items: tuple[Item, ...] | None = None


class ConfigMap(Object, frozen=True):
    """A ConfigMap."""

    data: dict[str, str] | None = None


class Subject(Object, frozen=True):
    """Whom a binding gives its role."""

    kind: str
    name: str
    namespace: str = ""


class RoleBinding(Object, frozen=True):
    """A binding of a role."""

    subjects: tuple[Subject, ...] | None = None
