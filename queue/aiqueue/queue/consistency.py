"""Whether objects fit together: what no object can tell of itself alone.

Pure: the ledger asks it before it writes, the simulator before it runs. All objects of one apply are judged together, with
those that are stored. Refused are: a reference to what does not exist; parents that go round in a circle, or a tree deeper than
`MAX_DEPTH`; a queue on a tenant with children; lending more than there is; a tree that has more of something than the ledger can
count.

Allowed, since each has a use: a tenant without queues (it lends all it has); a nominal of 0 (to borrow, or to have nothing for a
while); borrowing limits past what there is to borrow; a lending limit of 0; weight 0; a starvation bound of 0; flavors that no
quota names; trees that share a flavor, whose nodes nobody counts here. What has no effect, and so was hardly meant, is told as
a warning: `aiqueue.queue.oversights`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches

from aiqueue.queue.documents import ObjectName, Record
from aiqueue.queue.errors import InvalidDocument, InvalidInput
from aiqueue.queue.records import Configuration, Flavor, Queue, Tenant
from aiqueue.queue.units import MAX_AMOUNT, format_amount
from aiqueue.queue.words import ObjectState

#: Levels of a tree, its root included: what is decided for a leaf is looked up on its way to the root.
MAX_DEPTH = 256
_SHOWN_NAMES = 5


def with_objects(configuration: Configuration, records: Iterable[Record]) -> Configuration:
    """The configuration with `records` in it; one that is known is replaced whole. The revision stays."""
    flavors, tenants = dict(configuration.flavors), dict(configuration.tenants)
    queues, classes = dict(configuration.queues), dict(configuration.classes)
    for record in records:
        if isinstance(record, Flavor):
            flavors[record.name] = record
        elif isinstance(record, Tenant):
            tenants[record.name] = record
        elif isinstance(record, Queue):
            queues[record.namespace, record.name] = record
        else:
            classes[record.name] = record
    return replace(configuration, flavors=flavors, tenants=tenants, queues=queues, classes=classes)


def find(configuration: Configuration, name: ObjectName) -> Record | None:
    """The object of that name, None if there is none."""
    if name.kind == "Queue":
        return configuration.queues.get((name.namespace, name.name))
    if name.kind == "Flavor":
        return configuration.flavors.get(name.name)
    if name.kind == "Tenant":
        return configuration.tenants.get(name.name)
    return configuration.classes.get(name.name)


def check(configuration: Configuration, places: Mapping[ObjectName, str] | None = None) -> list[InvalidInput]:
    """Everything that does not fit together, in the order of kinds and names.

    Args:
        configuration: all objects there will be.
        places: where objects were written, to be named in errors; an object that is not in it is named by kind and name.
    """
    return [*_tenants(configuration, places or {}), *_queues(configuration, places or {})]


def check_change(before: Configuration, after: Configuration, places: Mapping[ObjectName, str]) -> list[InvalidInput]:
    """What a change must be refused for: all that is wrong with the objects it writes, and what it makes wrong with others.

    What was wrong with others before (one was deleted, or a newer program looks closer) is no reason to refuse this change.

    Args:
        before: what is stored.
        after: what will be.
        places: where the objects of the change were written.
    """
    written = set(places.values())
    known = {str(error) for error in check(before, places)}
    return [error for error in check(after, places) if error.where in written or str(error) not in known]


def drained_by_move(before: Configuration, after: Configuration) -> dict[str, str]:
    """Tenants that a new parent puts under one that is being drained, each with that one. There must be no circles."""
    found: dict[str, str] = {}
    for name, tenant in sorted(after.tenants.items()):
        known = before.tenants.get(name)
        moved = known is not None and known.parent != tenant.parent and tenant.state is not ObjectState.DRAIN
        if moved and _drain_above(name, before) is None:
            drained = _drain_above(name, after)
            if drained is not None:
                found[name] = drained
    return found


def _drain_above(name: str, configuration: Configuration) -> str | None:
    """The nearest tenant above one that is in state Drain."""
    tenants = configuration.tenants
    at = tenants[name].parent
    for _ in tenants:  # no way up is longer
        if at is None or at not in tenants:
            return None
        if tenants[at].state is ObjectState.DRAIN:
            return at
        at = tenants[at].parent
    return None


def children_of(tenants: Mapping[str, Tenant]) -> dict[str, list[str]]:
    """Names of the children of each tenant that has some, sorted."""
    children: dict[str, list[str]] = {}
    for tenant in sorted(tenants.values(), key=lambda each: each.name):
        if tenant.parent is not None:
            children.setdefault(tenant.parent, []).append(tenant.name)
    return children


def listed(names: Iterable[str]) -> str:
    """The first few names as a phrase: `a, b and 7 more`."""
    every = list(names)
    head = ", ".join(every[:_SHOWN_NAMES])
    return head if len(every) <= _SHOWN_NAMES else f"{head} and {len(every) - _SHOWN_NAMES} more"


def _missing(name: str, kind: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"there is no such {kind}: " + (f"did you mean {close[0]}?" if close else f"apply a {kind} of that name too")


def _tenants(configuration: Configuration, places: Mapping[ObjectName, str]) -> Iterator[InvalidInput]:
    tenants = configuration.tenants
    cyclic = set[str]()
    for name, tenant in sorted(tenants.items()):
        where = places.get(ObjectName("Tenant", name), f"Tenant {name}")
        if tenant.parent is not None and tenant.parent not in tenants:
            yield InvalidDocument("spec.parent", tenant.parent, _missing(tenant.parent, "Tenant", tenants), where=where)
        for flavor in dict.fromkeys(quota.flavor for quota in tenant.quotas):
            if flavor not in configuration.flavors:
                fix = _missing(flavor, "Flavor", configuration.flavors)
                yield InvalidDocument("spec.quotas[].flavor", flavor, fix, where=where)
        if name not in cyclic and (circle := _circle(name, tenants)):
            cyclic.update(circle)
            path = " -> ".join((*circle, circle[0]))
            yield InvalidDocument("spec.parent", tenant.parent, f"break the circle {path}", where=where)
    if not cyclic:
        yield from _depth(configuration, places)
        yield from _lending(configuration, places)
        yield from _totals(configuration, places)


def _circle(start: str, tenants: Mapping[str, Tenant]) -> tuple[str, ...]:
    """The tenants on the circle of parents that `start` lies on; empty if it lies on none."""
    seen: dict[str, None] = {}
    at: str | None = start
    while at is not None and at in tenants and at not in seen:
        seen[at] = None
        at = tenants[at].parent
    return tuple(seen) if at == start else ()


def _depth(configuration: Configuration, places: Mapping[ObjectName, str]) -> Iterator[InvalidInput]:
    """The first tenants that lie too deep."""
    tenants = configuration.tenants
    depth: dict[str | None, int] = {}
    for name in reversed(_leaves_first(tenants, children_of(tenants))):
        depth[name] = depth.get(tenants[name].parent, 0) + 1
        if depth[name] == MAX_DEPTH + 1:
            fix = f"choose a parent nearer to the root: this would be level {depth[name]}, and a tree has at most {MAX_DEPTH}"
            where = places.get(ObjectName("Tenant", name), f"Tenant {name}")
            yield InvalidDocument("spec.parent", tenants[name].parent, fix, where=where)


def _totals(configuration: Configuration, places: Mapping[ObjectName, str]) -> Iterator[InvalidInput]:
    """What all of a tree has of one resource of one flavor is an amount too, and must be one that the ledger can hold."""
    tenants, root_of = configuration.tenants, dict[str, str]()
    totals: dict[tuple[str, str, str], int] = {}
    greatest: dict[tuple[str, str, str], tuple[bool, int, str]] = {}  # of each total, the tenant that is to blame
    for name in reversed(_leaves_first(tenants, children_of(tenants))):
        root = root_of[name] = root_of.get(tenants[name].parent or "", name)
        for quota in tenants[name].quotas:
            key = (root, quota.flavor, quota.resource)
            totals[key] = totals.get(key, 0) + quota.nominal
            blame = (ObjectName("Tenant", name) in places, quota.nominal, name)
            greatest[key] = max(blame, greatest.get(key, blame))
    for (root, flavor, resource), total in sorted(totals.items()):
        if total > MAX_AMOUNT:
            _, nominal, name = greatest[root, flavor, resource]
            yield InvalidDocument(
                f"nominal of {flavor} {resource}",
                format_amount(resource, nominal),
                f"lower it: all of the tree under {root} would have {total} base units, and at most {MAX_AMOUNT} can be counted",
                where=places.get(ObjectName("Tenant", name), f"Tenant {name}"),
            )


def _lending(configuration: Configuration, places: Mapping[ObjectName, str]) -> Iterator[InvalidInput]:
    """A tenant cannot lend more than it and its subtree have: its nominal and what its children offer."""
    tenants, children = configuration.tenants, children_of(configuration.tenants)
    offered: dict[str, dict[tuple[str, str], int]] = {}
    for name in _leaves_first(tenants, children):
        total: dict[tuple[str, str], int] = {}
        for child in children.get(name, ()):
            for pair, amount in offered[child].items():
                total[pair] = total.get(pair, 0) + amount
        own = {(quota.flavor, quota.resource): quota for quota in tenants[name].quotas}
        for pair, quota in own.items():
            total[pair] = total.get(pair, 0) + quota.nominal
        offered[name] = dict(total)
        for pair, quota in own.items():
            if quota.lending_limit is None:
                continue
            if quota.lending_limit > total[pair]:
                most = format_amount(quota.resource, total[pair])
                what = "what it and its children offer" if name in children else "its nominal"
                yield InvalidDocument(
                    f"lendingLimit of {quota.flavor} {quota.resource}",
                    format_amount(quota.resource, quota.lending_limit),
                    f"write at most {what}, {most}",
                    where=places.get(ObjectName("Tenant", name), f"Tenant {name}"),
                )
            offered[name][pair] = min(total[pair], quota.lending_limit)


def _leaves_first(tenants: Mapping[str, Tenant], children: Mapping[str, list[str]]) -> list[str]:
    """Every tenant after all of its children. Parents that do not exist are left out; there are no circles."""
    order: list[str] = []
    waiting = sorted(name for name, tenant in tenants.items() if tenant.parent not in tenants)
    while waiting:
        name = waiting.pop()
        order.append(name)
        waiting.extend(children.get(name, ()))
    return order[::-1]


def _queues(configuration: Configuration, places: Mapping[ObjectName, str]) -> Iterator[InvalidInput]:
    children = children_of(configuration.tenants)
    for (namespace, name), queue in sorted(configuration.queues.items()):
        object_name = ObjectName("Queue", name, namespace)
        where = places.get(object_name, str(object_name))
        if queue.tenant not in configuration.tenants:
            yield InvalidDocument(
                "spec.tenant", queue.tenant, _missing(queue.tenant, "Tenant", configuration.tenants), where=where
            )
        elif queue.tenant in children:
            # The queue may be the older of the two: then the error belongs to the child that was written now.
            new = next((ObjectName("Tenant", c) for c in children[queue.tenant] if ObjectName("Tenant", c) in places), None)
            if new is not None and object_name not in places:
                fix = f"choose a parent without queues: queue {object_name.path} feeds {queue.tenant}"
                yield InvalidDocument("spec.parent", queue.tenant, fix, where=places[new])
            else:
                fix = f"name a tenant without children: {queue.tenant} has {listed(children[queue.tenant])}"
                yield InvalidDocument("spec.tenant", queue.tenant, fix, where=where)
        for field, classes in (("defaultClass", (queue.default_class,)), ("allowedClasses", queue.allowed_classes or ())):
            for wanted in classes:
                if wanted is not None and wanted not in configuration.classes:
                    fix = _missing(wanted, "Class", configuration.classes)
                    yield InvalidDocument(f"spec.{field}", wanted, fix, where=where)
