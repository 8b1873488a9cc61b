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
        rank: what sorts it among others of its tenant before age.
        priority: that of its class.
        closed_by: the tenant that takes no work, this or one above.
        door: why the queue does not let it in.
        class_refused: why its class is not let in.
    """

    line: str
    node: TenantNode | None
    rank: tuple[int, int]
    priority: int
    closed_by: TenantNode | None = None
    door: Refusal | None = None
    class_refused: Refusal | None = None


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
            name, None, (0, 0), 0, door=(Reason.QUEUE_NOT_FOUND, *reasons.queue_not_found(asking.namespace, asking.queue_name))
        )
    node = nodes.get(queue.tenant)
    if node is None or node.children:
        children = [child.name for child in node.children] if node is not None else []
        nowhere = reasons.queue_leads_nowhere(name, queue.tenant, children)
        return Route(name, None, (0, 0), 0, door=(Reason.QUEUE_NOT_FOUND, *nowhere))
    door: Refusal | None = None
    if queue.state is not ObjectState.ACTIVE:
        door = (Reason.QUEUE_CLOSED, *reasons.queue_closed(name, queue.state))
    cls = class_of(configuration, asking)
    priority = cls.priority if cls is not None else 0
    return Route(
        node.name,
        node,
        _rank(node.record.order, queue, priority),
        priority,
        node.closed_by(),
        door,
        _class_refusal(cls, queue, asking),
    )


def _rank(order: tuple[OrderKey, ...], queue: Queue, priority: int) -> tuple[int, int]:
    """What sorts before age: queues of weight 0 last, then the tenant's order up to `submitted`.

    Decayed usage is not kept yet: all queues are equal in it.
    """
    keys = order[: order.index(OrderKey.SUBMITTED)] if OrderKey.SUBMITTED in order else order
    return (0 if queue.weight > 0 else 1, -priority if OrderKey.PRIORITY in keys else 0)


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
