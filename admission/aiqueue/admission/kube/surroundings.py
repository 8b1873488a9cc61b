"""What the API server adds to a pod as it is created, by what it has of LimitRanges and RuntimeClasses now.

    LimitRange     of a namespace: requests and limits of containers that say nothing themselves; bounds that a pod has to keep
    RuntimeClass   of the cluster: overhead, node selector and tolerations of pods that name it

A Job's template has none of that, and its pods take it all the same. Reflectors fill `limit_ranges` and `runtime_classes` from threads
of their own; anybody reads `around`, which costs a look into a dictionary or two and answers None where nothing is added.
What moved is kept until somebody asks with `moved`. Losing sight of it is not fatal: what was told last stands.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import msgspec

from aiqueue.admission.kube import objects
from aiqueue.admission.kube.kinds import LimitRange, LimitRangeItem, RuntimeClass
from aiqueue.admission.kube.watches import EventType, is_older


@dataclass(frozen=True, slots=True)
class Limits:
    """What the LimitRanges of a namespace say, the items of each with its name, in the order of names. `key` tells two apart."""

    items: tuple[tuple[str, LimitRangeItem], ...]
    key: bytes


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the RuntimeClass that a pod names says; `found` is None where there is none of that name. `key` tells two apart."""

    name: str
    found: RuntimeClass | None
    key: bytes


@dataclass(frozen=True, slots=True)
class Around:
    """What surrounds a Job: equal `key`s add the same to the same template."""

    limits: Limits | None = None
    runtime: Runtime | None = None

    @property
    def key(self) -> tuple[bytes, bytes]:
        """For remembering what was worked out."""
        return (self.limits.key if self.limits else b"", self.runtime.key if self.runtime else b"")


@dataclass(slots=True)
class Moved:
    """Namespaces whose LimitRanges changed, and RuntimeClasses that did, since somebody asked last."""

    namespaces: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.namespaces or self.classes)

    def concerns(self, job: objects.Job) -> bool:
        """Whether pods of this Job may be other than before."""
        return job.metadata.namespace in self.namespaces or job.spec.template.spec.runtime_class_name in self.classes


class Shelf:
    """Objects of one kind by uid, as last told. One thread writes; `changed` hears the names of what did, after the fact.

    An event that is older than what is known of the same uid changes nothing, and neither does one that tells what is known.
    """

    def __init__(self, changed: Callable[[set[tuple[str, str]], Iterable[Any]], None]) -> None:
        self._changed = changed
        self._objects: dict[str, Any] = {}
        self.synced = False

    def replace(self, listed: list[Any], _resource_version: str, /) -> None:
        """Take in all objects there are."""
        before, self._objects = self._objects, {each.metadata.uid: each for each in listed}
        changed = {_name(each) for uid, each in before.items() if not _alike(each, self._objects.get(uid))}
        changed |= {_name(each) for uid, each in self._objects.items() if not _alike(each, before.get(uid))}
        self._tell(changed)
        self.synced = True

    def apply(self, event_type: EventType, told: Any, /) -> None:
        """Take in one event."""
        uid = told.metadata.uid
        known = self._objects.get(uid)
        if known is not None and is_older(told.metadata.resource_version, known.metadata.resource_version):
            return
        if event_type is EventType.DELETED:
            self._objects.pop(uid, None)
            self._tell({_name(told)} if known is not None else set())
        else:
            self._objects[uid] = told
            self._tell(set() if _alike(told, known) else {_name(told)})

    def _tell(self, changed: set[tuple[str, str]]) -> None:
        if changed:
            self._changed(changed, self._objects.values())


def _name(each: Any) -> tuple[str, str]:
    return each.metadata.namespace, each.metadata.name


def _alike(one: Any, other: Any) -> bool:
    """Whether two objects say the same, whatever their versions."""
    return other is not None and _name(one) == _name(other) and _content(one) == _content(other)


def _content(each: Any) -> tuple[Any, ...]:
    return (each.spec,) if isinstance(each, LimitRange) else (each.overhead, each.scheduling)


class Surroundings:
    """See the module. Safe for use by many threads."""

    def __init__(self, wake: Callable[[], object] = lambda: None) -> None:
        """Nothing is known yet; `wake` is called after something moved."""
        self.limit_ranges = Shelf(self._limits_changed)
        self.runtime_classes = Shelf(self._classes_changed)
        self._wake = wake
        self._lock = threading.Lock()
        self._limits: Mapping[str, Around] = {}  # by namespace; replaced whole
        self._classes: Mapping[str, Runtime] = {}
        self._moved = Moved()

    @property
    def synced(self) -> bool:
        """Whether both kinds were listed: before that `around` says nothing that is to be relied on."""
        return self.limit_ranges.synced and self.runtime_classes.synced

    def around(self, namespace: str, runtime_class: str | None) -> Around | None:
        """What surrounds a Job of a namespace whose pods name this RuntimeClass, or none; None where nothing does."""
        limits = self._limits.get(namespace)
        if runtime_class is None:
            return limits
        runtime = self._classes.get(runtime_class) or Runtime(
            runtime_class, None, b"\0" + runtime_class.encode("utf-8", "replace")
        )
        return Around(limits.limits if limits is not None else None, runtime)

    def moved(self) -> Moved:
        """What changed since this was asked last."""
        if not self._moved:
            return self._moved
        with self._lock:
            moved, self._moved = self._moved, Moved()
        return moved

    def _limits_changed(self, changed: set[tuple[str, str]], known: Iterable[LimitRange]) -> None:
        namespaces = {namespace for namespace, _ in changed}
        found: dict[str, list[tuple[str, LimitRangeItem]]] = {}
        for each in sorted(known, key=_name):
            if each.metadata.namespace in namespaces:
                items = ((each.metadata.name, item) for item in each.spec.limits or ())
                found.setdefault(each.metadata.namespace, []).extend(items)
        kept = {namespace: around for namespace, around in self._limits.items() if namespace not in namespaces}
        new = {namespace: Around(Limits(tuple(items), _digest(items))) for namespace, items in found.items() if items}
        with self._lock:
            self._limits = kept | new
            self._moved.namespaces |= namespaces
        self._wake()

    def _classes_changed(self, changed: set[tuple[str, str]], known: Iterable[RuntimeClass]) -> None:
        found = {each.metadata.name: each for each in known}
        with self._lock:
            self._classes = {
                name: Runtime(name, each, _digest([name, each.overhead, each.scheduling])) for name, each in found.items()
            }
            self._moved.classes |= {name for _, name in changed}
        self._wake()


def _digest(content: Any) -> bytes:
    return blake2b(msgspec.msgpack.encode(content), digest_size=16).digest()
