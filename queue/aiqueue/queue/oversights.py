"""Oversights: what an administrator may write, and hardly means, because it does nothing or undoes something else.

`aiqueue.queue.consistency` refuses what cannot be; this warns of what can. Pure. Nothing is told of an object that was not
written now, so that old ones do not fill the screen.

Told of a tenant: settings of the order or of preemption where it has children, or of sharing where it has no parent; fungibility
without a second flavor, or where nothing may be preempted; usage weights that are 0 throughout, stand without `usage` in the order
or name what the tree has not; a quota of which there is nothing to have, or that no leaf may use; flavors that no pod can have
together; being Active under a tenant that is not. Of a queue: a weight that the order does not look at, and a tenant without
quotas. Of a class: a minimal runtime that protects from nobody. Of flavors: two that are the same nodes and count the same
resource. Not told, since only the cluster knows: labels that no node has, and quotas above what the nodes hold.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field

from aiqueue.queue.consistency import children_of, listed
from aiqueue.queue.documents import ObjectName, to_document
from aiqueue.queue.records import Class, Configuration, Flavor, Queue, Quota, Tenant
from aiqueue.queue.units import format_amount, format_duration
from aiqueue.queue.words import Fungibility, ObjectState, OrderKey, Reclaim, WithinTenant

#: Of a tenant with children these have no effect: only leaves hold work.
_OF_LEAVES = ("queueing", "order", "flavorFungibility", "preemption", "starvationBound", "usageHalfLife", "usageWeights")
Pair = tuple[str, str]  # (flavor, resource)


@dataclass(frozen=True, slots=True)
class Oversight:
    """One thing that has no effect as written.

    Attributes:
        where: the object, or where it was written.
        field: where the value stands, for example `spec.weight`.
        value: the value as people write it.
        why: why it does nothing, and what to do.
    """

    where: str
    field: str
    value: str
    why: str

    def __str__(self) -> str:
        return f"{self.where}: {self.field} is {self.value}: {self.why}"


def oversights(configuration: Configuration, places: Mapping[ObjectName, str]) -> list[Oversight]:
    """What has no effect in the objects that were written now, in the order of kinds and names.

    Args:
        configuration: all objects there are; they must be consistent.
        places: the objects that were written, and where.
    """
    known = _Known(configuration, places)
    found = [each for name in sorted(configuration.flavors) for each in _flavor(known, configuration.flavors[name])]
    found += [each for name in sorted(configuration.tenants) for each in _tenant(known, configuration.tenants[name])]
    found += [each for key in sorted(configuration.queues) for each in _queue(known, configuration.queues[key])]
    found += [each for name in sorted(configuration.classes) for each in _class(known, configuration.classes[name])]
    return found


@dataclass(slots=True)
class _Known:
    """The configuration, and what is asked of it over and over."""

    configuration: Configuration
    places: Mapping[ObjectName, str]
    children: dict[str, list[str]] = field(init=False)
    users: dict[str, dict[Pair, int]] = field(init=False)  # root -> pair -> leaves that list it
    nominal: dict[str, dict[Pair, int]] = field(init=False)  # root -> pair -> what its tree has

    def __post_init__(self) -> None:
        self.children = children_of(self.configuration.tenants)
        self.users, self.nominal = {}, {}
        for tenant in self.configuration.tenants.values():
            root = self.path(tenant)[-1].name
            users, nominal = self.users.setdefault(root, {}), self.nominal.setdefault(root, {})
            for quota in tenant.quotas:
                pair = (quota.flavor, quota.resource)
                nominal[pair] = nominal.get(pair, 0) + quota.nominal
                users[pair] = users.get(pair, 0) + (tenant.name not in self.children)

    def path(self, tenant: Tenant) -> list[Tenant]:
        """The tenant and those above it, up to the root."""
        path = [tenant]
        while path[-1].parent is not None:
            path.append(self.configuration.tenants[path[-1].parent])
        return path

    def where(self, name: ObjectName) -> str | None:
        """Where it was written, None if it was not written now."""
        return self.places.get(name)


def _tenant(known: _Known, tenant: Tenant) -> Iterator[Oversight]:
    where = known.where(ObjectName("Tenant", tenant.name))
    if where is None:
        return
    path = known.path(tenant)
    children = known.children.get(tenant.name, [])
    held = next((each for each in path[1:] if each.state is not ObjectState.ACTIVE), None)
    if held is not None and tenant.state is ObjectState.ACTIVE:
        why = f"nothing is admitted in it while {held.name} above it is in state {held.state}"
        yield Oversight(where, "spec.state", str(tenant.state), why)
    if tenant.parent is None and tenant.weight != 1:
        weight = str(to_document(tenant)["spec"]["weight"])
        yield Oversight(where, "spec.weight", weight, "a root shares with nobody: write weights on the children of one parent")
    if children:
        yield from _inner(where, tenant, children)
    else:
        yield from _preemption(where, tenant)
        yield from _fungibility(where, tenant)
        yield from _usage_weights(where, tenant, {resource for _, resource in known.nominal[path[-1].name]})
        yield from _contradicting(where, tenant, known.configuration.flavors)
    for quota in tenant.quotas:
        yield from _quota(known, where, tenant, quota, path[-1].name)


def _inner(where: str, tenant: Tenant, children: list[str]) -> Iterator[Oversight]:
    written, usual = to_document(tenant)["spec"], to_document(Tenant(tenant.name))["spec"]
    for name in _OF_LEAVES:
        if written[name] != usual[name]:
            why = f"it is for tenants that queues feed: write it on {listed(children)}, or leave it out"
            yield Oversight(where, f"spec.{name}", _plain(written[name]), why)


def _plain(value: object) -> str:
    """A value of a document as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_plain(each)}" for key, each in value.items()) + "}"
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)


def _preemption(where: str, tenant: Tenant) -> Iterator[Oversight]:
    if tenant.parent is None and tenant.reclaim is not Reclaim.ANY:
        why = "nobody borrows from a tenant without a parent: leave it out, or write spec.parent"
        yield Oversight(where, "spec.preemption.reclaim", str(tenant.reclaim), why)
    nobody = tenant.within_tenant is WithinTenant.NEVER and (tenant.reclaim is Reclaim.NEVER or tenant.parent is None)
    if nobody and tenant.when_can_preempt is Fungibility.MAY_STOP_SEARCH:
        why = "its preemption never takes from anybody, so the search goes on anyway: leave it out"
        yield Oversight(where, "spec.flavorFungibility.whenCanPreempt", str(tenant.when_can_preempt), why)


def _fungibility(where: str, tenant: Tenant) -> Iterator[Oversight]:
    groups = _groups(tenant)
    if all(len(flavors) < 2 for flavors in groups.values()):
        usual = Tenant(tenant.name)
        for name, word, default in (
            ("whenCanBorrow", tenant.when_can_borrow, usual.when_can_borrow),
            ("whenCanPreempt", tenant.when_can_preempt, usual.when_can_preempt),
        ):
            if word is not default:
                why = "no two of its flavors list the same resources, so there is no next one: leave it out, or list another"
                yield Oversight(where, f"spec.flavorFungibility.{name}", str(word), why)
    elif tenant.parent is None and tenant.when_can_borrow is Fungibility.TRY_NEXT_FLAVOR:
        why = "a tenant without a parent never borrows: leave it out, or write spec.parent"
        yield Oversight(where, "spec.flavorFungibility.whenCanBorrow", str(tenant.when_can_borrow), why)


def _groups(tenant: Tenant) -> dict[frozenset[str], list[str]]:
    """Flavors by the resources they list, in order."""
    resources: dict[str, set[str]] = {}
    for quota in tenant.quotas:
        resources.setdefault(quota.flavor, set()).add(quota.resource)
    groups: dict[frozenset[str], list[str]] = {}
    for flavor, names in resources.items():
        groups.setdefault(frozenset(names), []).append(flavor)
    return groups


def _usage_weights(where: str, tenant: Tenant, in_tree: Container[str]) -> Iterator[Oversight]:
    if not tenant.usage_weights:
        return
    written = _plain(to_document(tenant)["spec"]["usageWeights"])
    if OrderKey.USAGE not in tenant.order:
        yield Oversight(where, "spec.usageWeights", written, "usage is not in spec.order: add it, or leave the weights out")
        return
    for resource in sorted(tenant.usage_weights):
        if resource not in in_tree:
            why = "no quota of its tree lists that resource, so no use of it is counted: is it spelled as in the quotas?"
            yield Oversight(where, f"spec.usageWeights.{resource}", _plain(float(tenant.usage_weights[resource])), why)
    own = {quota.resource for quota in tenant.quotas}
    if own and all(tenant.usage_weights.get(resource, 1) == 0 for resource in own):
        why = "all its resources count for nothing, so all queues are equal: take usage out of spec.order, or weigh one"
        yield Oversight(where, "spec.usageWeights", written, why)


def _contradicting(where: str, tenant: Tenant, flavors: Mapping[str, Flavor]) -> Iterator[Oversight]:
    """Two groups of which no two flavors can be the same node: a pod that asks for something of both finds none."""
    groups = list(_groups(tenant).items())
    for index, (resources, names) in enumerate(groups):
        for others, more in groups[index + 1 :]:
            labels = [_contradiction(flavors[one], flavors[other]) for one in names for other in more]
            first = labels[0]
            if first is not None and None not in labels:
                asks = f"{min(resources)} and {min(others)}"
                why = (
                    f"no node is both ({first}): a pod that asks for {asks} never runs here;"
                    " list what pods ask for together on one flavor"
                )
                yield Oversight(where, "spec.quotas", f"{listed(names)} beside {listed(more)}", why)


def _contradiction(one: Flavor, other: Flavor) -> str | None:
    """The label that nodes of both would have to have with two values, as text."""
    for key, value in sorted(one.node_labels.items()):
        if other.node_labels.get(key, value) != value:
            return f"{key} is {value} and {other.node_labels[key]}"
    return None


def _quota(known: _Known, where: str, tenant: Tenant, quota: Quota, root: str) -> Iterator[Oversight]:
    pair = (quota.flavor, quota.resource)
    what = f"nominal of {quota.flavor} {quota.resource}"
    amount = format_amount(quota.resource, quota.nominal)
    is_leaf = tenant.name not in known.children
    if is_leaf and known.nominal[root][pair] == 0:
        there = "nobody in its tree has any to lend" if tenant.parent is not None else "it has no parent to borrow from"
        yield Oversight(where, what, amount, f"{there}: nothing that asks for it is ever admitted on this flavor")
    elif is_leaf and quota.nominal == 0 and quota.borrowing_limit == 0:
        yield Oversight(where, what, amount, "its borrowingLimit is 0 too: nothing that asks for it is admitted on this flavor")
    elif not is_leaf and quota.nominal > 0 and known.users[root][pair] == 0:
        why = f"no leaf of the tree under {root} lists it, so nobody may use it: list it there, with nominal 0 to only borrow"
        yield Oversight(where, what, amount, why)


def _queue(known: _Known, queue: Queue) -> Iterator[Oversight]:
    where = known.where(ObjectName("Queue", queue.name, queue.namespace))
    if where is None:
        return
    tenant = known.configuration.tenants[queue.tenant]
    if queue.weight not in (0, 1) and OrderKey.USAGE not in tenant.order:
        weight = str(to_document(queue)["spec"]["weight"])
        why = f"the order of tenant {tenant.name} does not look at usage: add usage there, or leave it out"
        yield Oversight(where, "spec.weight", weight, why)
    if not tenant.quotas:
        why = "that tenant has no quotas: Jobs that ask for extended resources are never admitted, all others without limit"
        yield Oversight(where, "spec.tenant", queue.tenant, why)


def _class(known: _Known, each: Class) -> Iterator[Oversight]:
    where = known.where(ObjectName("Class", each.name))
    if where is not None and each.min_runtime_seconds and not each.preemptible:
        why = "it protects from other workloads, and a class that is not preemptible has nothing to fear of them: leave it out"
        yield Oversight(where, "spec.minRuntime", format_duration(each.min_runtime_seconds), why)


def _flavor(known: _Known, flavor: Flavor) -> Iterator[Oversight]:
    """A flavor that is the same nodes as another, where both have quota of one resource: nodes would be counted twice."""
    where = known.where(ObjectName("Flavor", flavor.name))
    if where is None:
        return
    counted = known.configuration.tenants.values()
    own = {quota.resource for tenant in counted for quota in tenant.quotas if quota.flavor == flavor.name}
    for name, other in sorted(known.configuration.flavors.items()):
        alike = other.node_labels == flavor.node_labels and set(other.node_taints) == set(flavor.node_taints)
        if name == flavor.name or not alike:
            continue
        both = own.intersection(quota.resource for tenant in counted for quota in tenant.quotas if quota.flavor == name)
        if both:
            why = (
                f"flavor {name} has the same labels and taints, and both have quota of {listed(sorted(both))}:"
                " the same nodes may be counted twice"
            )
            labels = _plain(dict(flavor.node_labels))
            yield Oversight(where, "spec.nodeLabels", labels, why)
            return
