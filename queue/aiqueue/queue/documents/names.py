"""Names of objects and the rules that names, labels and resources follow in Kubernetes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiqueue.queue.records import Class, Flavor, Queue, Tenant

Record = Flavor | Tenant | Queue | Class

API_VERSION = "aiqueue.dev/v1"
KINDS: dict[str, type[Record]] = {"Flavor": Flavor, "Class": Class, "Tenant": Tenant, "Queue": Queue}

_NAME = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_LABEL_PART = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class ObjectName:
    """What an object is called. `namespace` is empty for all kinds but Queue."""

    kind: str
    name: str
    namespace: str = ""

    @property
    def path(self) -> str:
        """The name with its namespace, if it has one: `team-a/train`."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


def name_of(record: Record) -> ObjectName:
    """What `record` is called."""
    if isinstance(record, Queue):
        return ObjectName("Queue", record.name, record.namespace)
    return ObjectName(type(record).__name__, record.name)


def is_name(text: str) -> bool:
    """Whether it can name an object: a DNS-1123 subdomain that also fits a label's value, since labels of Jobs name it."""
    return len(text) <= 63 and _NAME.fullmatch(text) is not None


def is_label_key(text: str) -> bool:
    """Whether it is a qualified name, as label keys and resources are: `nvidia.com/gpu`, `cpu`."""
    prefix, slash, part = text.rpartition("/")
    if slash and not (len(prefix) <= 253 and _NAME.fullmatch(prefix)):
        return False
    return _LABEL_PART.fullmatch(part) is not None


def is_label_value(text: str) -> bool:
    """Whether it can be the value of a label."""
    return text == "" or _LABEL_PART.fullmatch(text) is not None
