"""Records to documents in canonical form: every field that has a value, in the order people write them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from aiqueue.queue.documents.names import API_VERSION, Record
from aiqueue.queue.records import Class, Flavor, Queue, Tenant, Toleration
from aiqueue.queue.units import format_amount, format_duration


def to_document(record: Record) -> dict[str, Any]:
    """The document that parses to `record`; JSON values only."""
    metadata = {"name": record.name}
    if isinstance(record, Queue):
        metadata["namespace"] = record.namespace
        spec = _queue(record)
    elif isinstance(record, Tenant):
        spec = _tenant(record)
    elif isinstance(record, Flavor):
        spec = _flavor(record)
    else:
        spec = _class(record)
    return {
        "apiVersion": API_VERSION,
        "kind": type(record).__name__,
        "metadata": metadata,
        "spec": {name: value for name, value in spec.items() if value is not None},
    }


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)


def _amount(resource: str, amount: int | None) -> int | str | None:
    if amount is None:
        return None
    text = format_amount(resource, amount)
    return int(text) if text.isdigit() else text


def _duration(seconds: int | None) -> str | None:
    return None if seconds is None else format_duration(seconds)


def _flavor(flavor: Flavor) -> dict[str, Any]:
    return {
        "nodeLabels": dict(flavor.node_labels),
        "nodeTaints": [{"key": t.key, "value": t.value, "effect": t.effect} for t in flavor.node_taints],
        "tolerations": [_toleration(toleration) for toleration in flavor.tolerations],
        "topologyLevels": list(flavor.topology_levels),
    }


def _toleration(toleration: Toleration) -> dict[str, Any]:
    fields = {
        "key": toleration.key or None,
        "operator": toleration.operator,
        "value": toleration.value or None,
        "effect": toleration.effect or None,
        "tolerationSeconds": toleration.toleration_seconds,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _tenant(tenant: Tenant) -> dict[str, Any]:
    by_flavor: dict[str, list[dict[str, Any]]] = {}
    for quota in tenant.quotas:
        fields = {
            "name": quota.resource,
            "nominal": _amount(quota.resource, quota.nominal),
            "borrowingLimit": _amount(quota.resource, quota.borrowing_limit),
            "lendingLimit": _amount(quota.resource, quota.lending_limit),
        }
        by_flavor.setdefault(quota.flavor, []).append({name: value for name, value in fields.items() if value is not None})
    return {
        "parent": tenant.parent,
        "weight": _number(tenant.weight),
        "quotas": [{"flavor": flavor, "resources": resources} for flavor, resources in by_flavor.items()],
        "queueing": str(tenant.queueing),
        "order": [str(key) for key in tenant.order],
        "flavorFungibility": {"whenCanBorrow": str(tenant.when_can_borrow), "whenCanPreempt": str(tenant.when_can_preempt)},
        "preemption": {"withinTenant": str(tenant.within_tenant), "reclaim": str(tenant.reclaim)},
        "state": str(tenant.state),
        "starvationBound": format_duration(tenant.starvation_bound_seconds),
        "usageHalfLife": format_duration(tenant.usage_half_life_seconds),
        "usageWeights": {resource: _number(weight) for resource, weight in tenant.usage_weights.items()},
    }


def _queue(queue: Queue) -> dict[str, Any]:
    return {
        "tenant": queue.tenant,
        "weight": _number(queue.weight),
        "defaultClass": queue.default_class,
        "allowedClasses": None if queue.allowed_classes is None else list(queue.allowed_classes),
        "state": str(queue.state),
    }


def _class(klass: Class) -> dict[str, Any]:
    return {
        "priority": klass.priority,
        "preemptible": klass.preemptible,
        "minRuntime": format_duration(klass.min_runtime_seconds),
        "gracePeriod": format_duration(klass.grace_period_seconds),
        "maxRuntime": _duration(klass.max_runtime_seconds),
        "maxTotalRuntime": _duration(klass.max_total_runtime_seconds),
        "readyTimeout": format_duration(klass.ready_timeout_seconds),
        "recoveryTimeout": format_duration(klass.recovery_timeout_seconds),
        "requeueLimit": klass.requeue_limit,
    }
