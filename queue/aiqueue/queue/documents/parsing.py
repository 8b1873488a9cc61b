"""The four kinds: fields of a document to records, with the defaults and the rules that concern one object alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiqueue.queue.documents.fields import MAX_INT32, Fields
from aiqueue.queue.documents.names import Record
from aiqueue.queue.documents.problems import MISSING, Phrase, Problems
from aiqueue.queue.records import Class, Flavor, Queue, Quota, Taint, Tenant, Toleration
from aiqueue.queue.units import format_duration
from aiqueue.queue.words import Fungibility, ObjectState, OrderKey, Queueing, Reclaim, WithinTenant

MAX_QUOTAS = 1000
MAX_TOPOLOGY_LEVELS = 16
_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_HOSTNAME = "kubernetes.io/hostname"


def parse(kind: str, name: str, namespace: str, spec: object, problems: Problems) -> Record:
    """The record that `spec` describes; only of use if nothing was added to `problems`."""
    fields = Fields(problems, "spec", spec)
    record: Record
    if kind == "Flavor":
        record = _flavor(name, fields)
    elif kind == "Tenant":
        record = _tenant(name, fields)
    elif kind == "Queue":
        record = _queue(namespace, name, fields)
    else:
        record = _class(name, fields)
    fields.finish()
    return record


def _flavor(name: str, spec: Fields) -> Flavor:
    levels = spec.label_keys("topologyLevels")
    if len(levels) > MAX_TOPOLOGY_LEVELS:
        spec.add("topologyLevels", Phrase(f"{len(levels)} levels"), f"list at most {MAX_TOPOLOGY_LEVELS}")
    elif _HOSTNAME in levels[:-1]:
        spec.add("topologyLevels", Phrase(f"[{', '.join(levels)}]"), f"put {_HOSTNAME} last: nothing is smaller than a node")
    return Flavor(
        name=name,
        node_labels=spec.labels("nodeLabels"),
        node_taints=_taints(spec),
        tolerations=tuple(_toleration(path, item, spec.problems) for path, item in spec.items("tolerations")),
        topology_levels=levels,
    )


def _taints(spec: Fields) -> tuple[Taint, ...]:
    taints: list[Taint] = []
    for path, item in spec.items("nodeTaints"):
        taint = _taint(path, item, spec.problems)
        if taint.key and any((taint.key, taint.effect) == (other.key, other.effect) for other in taints):
            what = Phrase(f"a second {taint.key}:{taint.effect}")
            spec.problems.add(path, what, "keep one: a node has one taint of a key and an effect")
        taints.append(taint)
    return tuple(taints)


def _effect(fields: Fields, default: str, *, may_be_empty: bool) -> str:
    rule = f"write one of {', '.join(_EFFECTS)}"
    return fields.text("effect", lambda text: text in _EFFECTS or (may_be_empty and not text), rule, default)


def _taint(path: str, item: object, problems: Problems) -> Taint:
    fields = Fields(problems, path, item)
    taint = Taint(fields.label_key("key"), fields.label_value("value"), _effect(fields, "NoSchedule", may_be_empty=False))
    fields.finish()
    return taint


def _toleration(path: str, item: object, problems: Problems) -> Toleration:
    fields = Fields(problems, path, item)
    key = fields.label_key("key", required=False)
    operator = fields.text("operator", lambda text: text in ("Equal", "Exists"), "write Equal or Exists", "Equal")
    value = fields.label_value("value")
    effect = _effect(fields, "", may_be_empty=True)
    seconds = fields.integer("tolerationSeconds", -1, least=0)
    if operator == "Exists" and value:
        fields.add("value", value, "remove it: Exists takes no value")
    if operator == "Equal" and not key:
        fields.add("key", MISSING, "write the key, or operator: Exists to tolerate everything")
    if seconds >= 0 and effect != "NoExecute":
        fields.add("tolerationSeconds", seconds, "remove it, or write effect: NoExecute")
    fields.finish()
    return Toleration(key, operator, value, effect, None if seconds < 0 else seconds)


def _tenant(name: str, spec: Fields) -> Tenant:
    parent = spec.optional_name("parent")
    if parent and parent == name:
        spec.add("parent", parent, "name another tenant, or leave it out for a root")
    defaults = Tenant(name)
    fungibility = spec.sub("flavorFungibility")
    preemption = spec.sub("preemption")
    order = _order(spec, defaults.order)
    tenant = Tenant(
        name=name,
        parent=parent,
        weight=spec.weight("weight"),
        quotas=_quotas(spec, is_root=parent is None),
        queueing=spec.word("queueing", Queueing, defaults.queueing),
        order=order,
        when_can_borrow=fungibility.word("whenCanBorrow", Fungibility, defaults.when_can_borrow),
        when_can_preempt=fungibility.word("whenCanPreempt", Fungibility, defaults.when_can_preempt),
        within_tenant=preemption.word("withinTenant", WithinTenant, defaults.within_tenant),
        reclaim=preemption.word("reclaim", Reclaim, defaults.reclaim),
        state=spec.word("state", ObjectState, defaults.state),
        starvation_bound_seconds=spec.duration("starvationBound", defaults.starvation_bound_seconds),
        usage_half_life_seconds=spec.duration("usageHalfLife", defaults.usage_half_life_seconds),
        usage_weights=spec.weights("usageWeights"),
    )
    if tenant.usage_half_life_seconds == 0 and OrderKey.USAGE in order:
        spec.add("usageHalfLife", "0s", "write a longer one, or take usage out of spec.order")
    fungibility.finish()
    preemption.finish()
    return tenant


def _order(spec: Fields, default: tuple[OrderKey, ...]) -> tuple[OrderKey, ...]:
    order = spec.words("order", OrderKey, default)
    if not order or order[-1] is not OrderKey.SUBMITTED:
        written = Phrase(f"[{', '.join(order)}]")
        spec.add("order", written, "end it with submitted, so that no two workloads are equal")
    return order


def _quotas(spec: Fields, *, is_root: bool) -> tuple[Quota, ...]:
    quotas: list[Quota] = []
    group_of: dict[str, tuple[str, frozenset[str]]] = {}  # resource -> (the flavor that listed it first, its resources)
    flavors: set[str] = set()
    for path, item in spec.items("quotas"):
        fields = Fields(spec.problems, path, item)
        flavor = fields.name("flavor", "the name of a Flavor")
        if flavor and flavor in flavors:
            fields.add("flavor", flavor, "list each flavor once")
        flavors.add(flavor)
        of_flavor = [_quota(flavor, at, entry, spec.problems, is_root=is_root) for at, entry in fields.items("resources")]
        if not of_flavor:
            fields.add("resources", Phrase("empty"), "list at least one resource")
        fields.finish()
        for resource, count in Counter(quota.resource for quota in of_flavor).items():
            if resource and count > 1:
                fields.add("resources", resource, "list each resource of a flavor once")
        resources = frozenset(quota.resource for quota in of_flavor)
        for other, group in sorted({group_of[resource] for resource in resources if resource in group_of}, key=lambda g: g[0]):
            if group != resources:
                what = Phrase(_listed(resources))
                fields.add(
                    "resources", what, f"list what flavor {other} lists ({_listed(group)}), or nothing of it: they share some"
                )
        for resource in resources:
            group_of.setdefault(resource, (flavor, resources))
        quotas.extend(of_flavor)
    if len(quotas) > MAX_QUOTAS:
        spec.add("quotas", Phrase(f"{len(quotas)} quotas"), f"write at most {MAX_QUOTAS}")
    return tuple(quotas)


def _listed(resources: frozenset[str]) -> str:
    return ", ".join(sorted(resources))


def _quota(flavor: str, path: str, item: Any, problems: Problems, *, is_root: bool) -> Quota:
    fields = Fields(problems, path, item)
    resource = fields.label_key("name")
    nominal = fields.capacity("nominal", resource)
    if nominal is None and isinstance(item, dict) and item.get("nominal") is None:
        fields.add("nominal", MISSING, "write how much the tenant owns; 0 to have only what it borrows")
    borrowing_limit = fields.capacity("borrowingLimit", resource)
    lending_limit = fields.capacity("lendingLimit", resource)
    if is_root:
        for name, limit in (("borrowingLimit", borrowing_limit), ("lendingLimit", lending_limit)):
            if limit is not None:
                fields.add(name, item[name], "remove it, or write spec.parent: a root has nobody to share with")
    fields.finish()
    return Quota(flavor, resource, nominal or 0, borrowing_limit, lending_limit)


def _queue(namespace: str, name: str, spec: Fields) -> Queue:
    queue = Queue(
        namespace=namespace,
        name=name,
        tenant=spec.name("tenant", "the name of the tenant that the queue feeds"),
        weight=spec.weight("weight"),
        default_class=spec.optional_name("defaultClass"),
        allowed_classes=spec.names("allowedClasses"),
        state=spec.word("state", ObjectState, ObjectState.ACTIVE),
    )
    if queue.allowed_classes == ():
        spec.add("allowedClasses", Phrase("empty"), "list at least one class, or leave the field out to allow all")
    elif queue.default_class and queue.allowed_classes and queue.default_class not in queue.allowed_classes:
        spec.add("defaultClass", queue.default_class, "add it to spec.allowedClasses, or choose one of those")
    return queue


def _class(name: str, spec: Fields) -> Class:
    defaults = Class(name)
    parsed = Class(
        name=name,
        priority=spec.integer("priority", defaults.priority, least=-MAX_INT32 - 1),
        preemptible=spec.flag("preemptible", defaults.preemptible),
        min_runtime_seconds=spec.duration("minRuntime", defaults.min_runtime_seconds),
        grace_period_seconds=spec.duration("gracePeriod", defaults.grace_period_seconds),
        max_runtime_seconds=spec.optional_duration("maxRuntime", least=1),
        max_total_runtime_seconds=spec.optional_duration("maxTotalRuntime", least=1),
        ready_timeout_seconds=spec.duration("readyTimeout", defaults.ready_timeout_seconds, least=1),
        recovery_timeout_seconds=spec.duration("recoveryTimeout", defaults.recovery_timeout_seconds),
        requeue_limit=spec.integer("requeueLimit", defaults.requeue_limit, least=0),
    )
    most, total = parsed.max_runtime_seconds, parsed.max_total_runtime_seconds
    if most is not None and total is not None and total < most:
        written = format_duration(total)
        spec.add("maxTotalRuntime", written, f"write at least maxRuntime, {format_duration(most)}, or lower that")
    for bound, name_of_bound in ((most, "maxRuntime"), (total, "maxTotalRuntime")):
        if bound is not None and parsed.min_runtime_seconds > bound:
            written = format_duration(parsed.min_runtime_seconds)
            spec.add("minRuntime", written, f"write at most {name_of_bound}, {format_duration(bound)}, or raise that")
            break
    return parsed
