"""The way of a workload through the configuration: its queue, its tenant, its class, its place in the tenant's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.tree import TenantNode
from aiqueue.queue.records import Class, Configuration, Queue
from aiqueue.queue.words import ObjectState, OrderKey, Reason

BUILT_IN_CLASS = Class("")  # of work that names no class, through a queue that has no default
Refusal = tuple[Reason, str, str]  # reason, message, what would change it


class Asking(Protocol):
    """What decides the way: a Workload, or something that may become one."""

    @property
    def namespace(self) -> str:
        """Where it is submitted."""

    @property
    def queue_name(self) -> str:
        """The queue it names."""

    @property
    def class_name(self) -> str | None:
        """The class it names, if it does."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where work of one queue and class goes.

    Attributes:
        line: names the order it stands in: its tenant's, or its queue's own where that leads to no tenant.
        node: the leaf tenant, None where the queue leads to none.
        rank: what sorts it among others of its tenant before age; 0 where `usage_slot` says that usage goes.
        usage_slot: which of `rank` is the usage of its queue; None where the order does not go by it.
        priority: that of its class.
        requeue_limit: how often its class has it put back because its gang was not ready, before it is held.
        closed_by: the tenant that takes no work, this or one above.
        door: why the queue does not let it in.
        class_refused: why its class is not let in.
    """

    line: str
    node: TenantNode | None
    rank: tuple[int, int, int]
    priority: int
    closed_by: TenantNode | None = None
    door: Refusal | None = None
    class_refused: Refusal | None = None
    usage_slot: int | None = None
    requeue_limit: int = BUILT_IN_CLASS.requeue_limit


def class_of(configuration: Configuration, asking: Asking) -> Class | None:
    """The class in effect: its own, else its queue's default, else the built-in one; None where it does not exist."""
    queue = configuration.queues.get((asking.namespace, asking.queue_name))
    name = asking.class_name or (queue.default_class if queue is not None else None)
    return BUILT_IN_CLASS if name is None else configuration.classes.get(name)


def route_of(configuration: Configuration, nodes: Mapping[str, TenantNode], asking: Asking) -> Route:
    """Find the way of a workload; every workload of the same queue and class has the same."""
    queue = configuration.queues.get((asking.namespace, asking.queue_name))
    name = f"{asking.namespace}/{asking.queue_name}"
    if queue is None:
        return Route(
            name,
            None,
            (0, 0, 0),
            0,
            door=(Reason.QUEUE_NOT_FOUND, *reasons.queue_not_found(asking.namespace, asking.queue_name)),
        )
    node = nodes.get(queue.tenant)
    if node is None or node.children:
        children = [child.name for child in node.children] if node is not None else []
        nowhere = reasons.queue_leads_nowhere(name, queue.tenant, children)
        return Route(name, None, (0, 0, 0), 0, door=(Reason.QUEUE_NOT_FOUND, *nowhere))
    door: Refusal | None = None
    if queue.state is not ObjectState.ACTIVE:
        door = (Reason.QUEUE_CLOSED, *reasons.queue_closed(name, queue.state))
    cls = class_of(configuration, asking)
    priority = cls.priority if cls is not None else 0
    keys = [key for key in node.record.order if key is not OrderKey.SUBMITTED]
    first, second = (-priority if key is OrderKey.PRIORITY else 0 for key in (*keys, None, None)[:2])
    return Route(
        node.name,
        node,
        (0 if queue.weight > 0 else 1, first, second),
        priority,
        node.closed_by(),
        door,
        _class_refusal(cls, queue, asking),
        keys.index(OrderKey.USAGE) + 1 if OrderKey.USAGE in keys else None,
        (cls or BUILT_IN_CLASS).requeue_limit,
    )


def _class_refusal(cls: Class | None, queue: Queue, asking: Asking) -> Refusal | None:
    asked = asking.class_name or queue.default_class
    name = f"{queue.namespace}/{queue.name}"
    if asked is None:
        return None
    if cls is None:
        return (Reason.CLASS_NOT_ALLOWED, *reasons.class_unknown(asked, name))
    if queue.allowed_classes is not None and asked not in queue.allowed_classes:
        return (Reason.CLASS_NOT_ALLOWED, *reasons.class_not_allowed(asked, name, queue.allowed_classes))
    return None
