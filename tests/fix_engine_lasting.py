"""Worlds in which nobody has to make room for anybody: for tests of what is decided without preemption."""

from dataclasses import replace

from aiqueue.queue.records import Class, Configuration
from aiqueue.queue.words import ObjectState

LASTING = "lasting"


def lasting(configuration: Configuration) -> Configuration:
    """The same, but for that what runs is not put out for others: no class is preemptible, and work that names none has one too.

    A run whose queue or class does not exist is under the built-in class all the same.
    """
    classes = {name: replace(each, preemptible=False) for name, each in configuration.classes.items()}
    queues = {
        key: queue
        if queue.default_class is not None
        else replace(
            queue,
            default_class=LASTING,
            allowed_classes=None if queue.allowed_classes is None else (*queue.allowed_classes, LASTING),
        )
        for key, queue in configuration.queues.items()
    }
    return replace(configuration, queues=queues, classes={**classes, LASTING: Class(LASTING, preemptible=False)})


def undrained(configuration: Configuration) -> Configuration:
    """The same, but for that nothing is told to end, so that nobody counts on its room: what would be drained is only held."""
    tenants, queues = dict(configuration.tenants), dict(configuration.queues)
    for name, tenant in tenants.items():
        if tenant.state is ObjectState.DRAIN:
            tenants[name] = replace(tenant, state=ObjectState.HOLD)
    for key, queue in queues.items():
        if queue.state is ObjectState.DRAIN:
            queues[key] = replace(queue, state=ObjectState.HOLD)
    return replace(configuration, tenants=tenants, queues=queues)
