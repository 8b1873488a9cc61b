"""The way of a workload through the configuration: its queue, its tenant, its class, its place in the tenant's order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.tree import TenantNode
from aiqueue.queue.records import Class, Configuration, Queue, Workload
from aiqueue.queue.words import ObjectState, OrderKey, Reason

BUILT_IN_CLASS = Class("")  # of work that names no class, through a queue that has no default
Refusal = tuple[Reason, str, str]  # reason, message, what would change it


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


def class_of(configuration: Configuration, workload: Workload) -> Class | None:
    """The class in effect: the workload's own, else its queue's default, else the built-in one; None where it does not exist."""
    queue = configuration.queues.get((workload.namespace, workload.queue_name))
    name = workload.class_name or (queue.default_class if queue is not None else None)
    return BUILT_IN_CLASS if name is None else configuration.classes.get(name)


def route_of(configuration: Configuration, nodes: Mapping[str, TenantNode], workload: Workload) -> Route:
    """Find the way of a workload; every workload of the same queue and class has the same."""
    queue = configuration.queues.get((workload.namespace, workload.queue_name))
    name = f"{workload.namespace}/{workload.queue_name}"
    if queue is None:
        return Route(name, None, (0, 0), 0, door=(Reason.QUEUE_NOT_FOUND, *reasons.queue_not_found(workload)))
    node = nodes.get(queue.tenant)
    if node is None or node.children:
        children = [child.name for child in node.children] if node is not None else []
        nowhere = reasons.queue_leads_nowhere(name, queue.tenant, children)
        return Route(name, None, (0, 0), 0, door=(Reason.QUEUE_NOT_FOUND, *nowhere))
    door: Refusal | None = None
    if queue.state is not ObjectState.ACTIVE:
        door = (Reason.QUEUE_CLOSED, *reasons.queue_closed(name, queue.state))
    cls = class_of(configuration, workload)
    priority = cls.priority if cls is not None else 0
    return Route(
        node.name,
        node,
        _rank(node.record.order, queue, priority),
        priority,
        node.closed_by(),
        door,
        _class_refusal(cls, queue, workload),
    )


def _rank(order: tuple[OrderKey, ...], queue: Queue, priority: int) -> tuple[int, int]:
    """What sorts before age: queues of weight 0 last, then the tenant's order up to `submitted`.

    Decayed usage is not kept yet: all queues are equal in it.
    """
    keys = order[: order.index(OrderKey.SUBMITTED)] if OrderKey.SUBMITTED in order else order
    return (0 if queue.weight > 0 else 1, -priority if OrderKey.PRIORITY in keys else 0)


def _class_refusal(cls: Class | None, queue: Queue, workload: Workload) -> Refusal | None:
    asked = workload.class_name or queue.default_class
    name = f"{queue.namespace}/{queue.name}"
    if asked is None:
        return None
    if cls is None:
        return (Reason.CLASS_NOT_ALLOWED, *reasons.class_unknown(asked, name))
    if queue.allowed_classes is not None and asked not in queue.allowed_classes:
        return (Reason.CLASS_NOT_ALLOWED, *reasons.class_not_allowed(asked, name, queue.allowed_classes))
    return None
