"""The rules of admission, written slowly and plainly, to check the engine against on small cases.

Nothing is remembered and nothing is shared with the engine: every figure is summed up from the runs each time it is asked for,
every workload is looked at on its own, every place is tried.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import product

from aiqueue.queue.records import Allocation, Class, Configuration, Flavor, PodSet, Tenant, Workload
from aiqueue.queue.words import ObjectState, OrderKey, Queueing, Reason, WorkloadState

Pair = tuple[str, str]
Contender = tuple[bool, int, tuple[datetime, datetime, str], Workload]  # borrows, -priority, age
Holding = tuple[str, Sequence[Allocation]]  # tenant, what a run of it holds


Definition = Callable[["Quotas", str, Pair], int]


def once(definition: Definition) -> Definition:
    """Work a figure out once, since nothing changes under it."""

    def known(self: "Quotas", name: str, pair: Pair) -> int:
        key = (definition.__name__, name, pair)
        if key not in self.figures:
            self.figures[key] = definition(self, name, pair)
        return self.figures[key]

    return known


@dataclass
class Quotas:
    """The algebra of the tenant tree, by its definitions."""

    tenants: Mapping[str, Tenant]
    holdings: Sequence[Holding] = ()
    figures: dict[tuple[str, str, Pair], int] = field(default_factory=dict)

    def children(self, name: str) -> list[str]:
        return [each.name for each in self.tenants.values() if each.parent == name]

    def limits(self, name: str, pair: Pair) -> tuple[int, int | None, int | None]:
        for quota in self.tenants[name].quotas:
            if (quota.flavor, quota.resource) == pair:
                return quota.nominal, quota.borrowing_limit, quota.lending_limit
        return 0, None, None

    @once
    def subtree(self, name: str, pair: Pair) -> int:
        below = sum(self.subtree(child, pair) - self.guaranteed(child, pair) for child in self.children(name))
        return self.limits(name, pair)[0] + below

    @once
    def guaranteed(self, name: str, pair: Pair) -> int:
        lending = self.limits(name, pair)[2]
        return 0 if lending is None or self.tenants[name].parent is None else max(0, self.subtree(name, pair) - lending)

    @once
    def usage(self, name: str, pair: Pair) -> int:
        own = sum(
            each.amount
            for tenant, held in self.holdings
            for each in held
            if tenant == name and (each.flavor, each.resource) == pair
        )
        return own + sum(max(0, self.usage(child, pair) - self.guaranteed(child, pair)) for child in self.children(name))

    @once
    def available(self, name: str, pair: Pair) -> int:
        parent = self.tenants[name].parent
        if parent is None:
            return self.subtree(name, pair) - self.usage(name, pair)
        guaranteed, usage = self.guaranteed(name, pair), self.usage(name, pair)
        beyond = self.available(parent, pair)
        borrowing = self.limits(name, pair)[1]
        if borrowing is not None:
            beyond = min(beyond, self.subtree(name, pair) - guaranteed - max(0, usage - guaranteed) + borrowing)
        return max(0, guaranteed - usage) + beyond

    @once
    def potential(self, name: str, pair: Pair) -> int:
        parent = self.tenants[name].parent
        if parent is None:
            return self.subtree(name, pair)
        most = self.guaranteed(name, pair) + self.potential(parent, pair)
        borrowing = self.limits(name, pair)[1]
        return most if borrowing is None else min(most, self.subtree(name, pair) + borrowing)


def matches(flavor: Flavor, pod_set: PodSet) -> bool:
    """For selectors by equality and taints that are tolerated by key."""
    tolerated = {toleration.key for toleration in pod_set.tolerations}
    wanted = {key: value for key, value in pod_set.node_selector.items() if key in flavor.node_labels}
    return all(taint.key in tolerated for taint in flavor.node_taints) and all(
        flavor.node_labels[key] == value for key, value in wanted.items()
    )


@dataclass
class Outcome:
    """Who is admitted, in order, with what; and the reason of everybody else."""

    admitted: list[tuple[int, tuple[Allocation, ...]]] = field(default_factory=list)
    reasons: dict[int, Reason] = field(default_factory=dict)


@dataclass
class Reference:
    """One decide at `now`, not cut short."""

    configuration: Configuration
    pending: Sequence[Workload]
    holdings: list[Holding]
    now: datetime
    standing: dict[int, str] = field(default_factory=dict)
    idle: Quotas = field(init=False)
    full: Quotas = field(init=False)

    def __post_init__(self) -> None:
        self.idle = Quotas(self.configuration.tenants)
        self.full = Quotas(self.configuration.tenants, self.holdings)

    def decide(self) -> Outcome:
        outcome = Outcome()
        refused = {workload.id: self.refusal(workload) for workload in self.pending}
        contest = [workload for workload in self.pending if refused[workload.id] is None]
        contenders = {tenant: self.next_of(tenant, contest) for tenant in self.configuration.tenants}
        while any(contenders.values()):
            borrows, _, _, workload = min((each for each in contenders.values() if each is not None), key=lambda each: each[:3])
            tenant = self.tenant(workload)
            place = self.place(workload, self.reserved(workload, contest))
            if place is None:
                self.mark(workload)
            elif not borrows and self.borrows(workload, place):
                contenders[tenant] = (True, -self.priority(workload), workload.submitted, workload)
                continue
            else:
                self.standing[workload.id] = "admitted"
                self.holdings.append((tenant, place))
                self.full = Quotas(self.configuration.tenants, self.holdings)
                outcome.admitted.append((workload.id, place))
            contenders[tenant] = self.next_of(tenant, contest)
        for workload in self.pending:
            if self.standing.get(workload.id) != "admitted":
                outcome.reasons[workload.id] = refused[workload.id] or self.reason(workload, contest)
        return outcome

    def mark(self, workload: Workload) -> None:
        self.standing[workload.id] = "waiting" if self.place(workload, set()) is None else "behind"

    def next_of(self, tenant: str, contest: Sequence[Workload]) -> Contender | None:
        """The first that was not looked at and fits, unless a Strict head blocks it."""
        of_one = sorted((each for each in contest if self.tenant(each) == tenant), key=self.key)
        for index, workload in enumerate(of_one):
            if workload.id in self.standing:
                continue
            blocked = any(self.standing.get(each.id) == "waiting" for each in of_one[:index])
            if blocked and self.configuration.tenants[tenant].queueing is Queueing.STRICT:
                return None
            place = self.place(workload, self.reserved(workload, contest))
            if place is not None:
                return (self.borrows(workload, place), -self.priority(workload), workload.submitted, workload)
            self.mark(workload)
        return None

    def reason(self, workload: Workload, contest: Sequence[Workload]) -> Reason:
        """Of one that contended: that of the first of its shape in its tenant."""
        tenant = self.tenant(workload)
        of_one = sorted((each for each in contest if self.tenant(each) == tenant), key=self.key)
        waiting = [each for each in of_one if self.standing.get(each.id) == "waiting"]
        left = [each for each in of_one if self.standing.get(each.id) != "admitted" and each.shape == workload.shape]
        first = left[0]
        strict = self.configuration.tenants[tenant].queueing is Queueing.STRICT
        if strict and waiting and self.key(waiting[0]) < self.key(first):
            return Reason.BEHIND_HEAD
        if self.standing[first.id] == "behind" and self.place(first, set()) is not None:
            return Reason.BEHIND_STARVING_GANG
        return Reason.WAITING_FOR_QUOTA

    # What a workload is and may have.

    def tenant(self, workload: Workload) -> str:
        return self.configuration.queues[workload.namespace, workload.queue_name].tenant

    def cls(self, workload: Workload) -> Class | None:
        queue = self.configuration.queues[workload.namespace, workload.queue_name]
        name = workload.class_name or queue.default_class
        return Class("") if name is None else self.configuration.classes.get(name)

    def priority(self, workload: Workload) -> int:
        cls = self.cls(workload)
        return cls.priority if cls is not None else 0

    def key(self, workload: Workload) -> tuple[object, ...]:
        queue = self.configuration.queues[workload.namespace, workload.queue_name]
        by_priority = OrderKey.PRIORITY in self.configuration.tenants[queue.tenant].order
        return (queue.weight == 0, -self.priority(workload) if by_priority else 0, workload.submitted)

    def refusal(self, workload: Workload) -> Reason | None:  # noqa: PLR0911 - the list of rules, one after another
        queue = self.configuration.queues.get((workload.namespace, workload.queue_name))
        if queue is None or queue.tenant not in self.configuration.tenants:
            return Reason.QUEUE_NOT_FOUND
        if self.idle.children(queue.tenant):
            return Reason.QUEUE_NOT_FOUND
        if queue.state is not ObjectState.ACTIVE:
            return Reason.QUEUE_CLOSED
        name: str | None = queue.tenant
        while name is not None:
            if self.configuration.tenants[name].state is not ObjectState.ACTIVE:
                return Reason.TENANT_CLOSED
            name = self.configuration.tenants[name].parent
        if workload.held_by_owner or workload.state is WorkloadState.HELD:
            return Reason.WORKLOAD_HELD
        asked = workload.class_name or queue.default_class
        allowed = queue.allowed_classes is None or asked is None or asked in queue.allowed_classes
        if self.cls(workload) is None or not allowed:
            return Reason.CLASS_NOT_ALLOWED
        if workload.invalid is not None:
            return Reason.INVALID_REQUEST
        if workload.not_before is not None and workload.not_before > self.now:
            return Reason.BACKOFF
        return self.never(workload)

    def groups(self, tenant: str) -> list[tuple[set[str], list[str]]]:
        """(resources, flavors), in order."""
        quotas = self.configuration.tenants[tenant].quotas
        found: list[tuple[set[str], list[str]]] = []
        for flavor in dict.fromkeys(quota.flavor for quota in quotas):
            resources = {quota.resource for quota in quotas if quota.flavor == flavor}
            alike = [flavors for known, flavors in found if known == resources]
            if alike:
                alike[0].append(flavor)
            else:
                found.append((resources, [flavor]))
        return found

    def parts(self, workload: Workload, pod_set: PodSet) -> tuple[list[tuple[list[str], dict[str, int]]], set[str]]:
        """What a pod set needs of each group of flavors, and what no group has."""
        groups = self.groups(self.tenant(workload))
        rest = {name: amount * pod_set.count for name, amount in pod_set.requests.items() if amount * pod_set.count > 0}
        if any("pods" in resources for resources, _ in groups):
            rest["pods"] = pod_set.count
        found = []
        for resources, flavors in groups:
            part = {name: rest.pop(name) for name in sorted(resources) if name in rest}
            if part:
                found.append((flavors, part))
        return found, set(rest)

    def never(self, workload: Workload) -> Reason | None:
        tenant = self.tenant(workload)
        quotas = self.idle
        for pod_set in workload.pod_sets:
            parts, uncovered = self.parts(workload, pod_set)
            if any("/" in name for name in uncovered):
                return Reason.RESOURCE_NOT_COVERED
            for flavors, part in parts:
                matching = [each for each in flavors if matches(self.configuration.flavors[each], pod_set)]
                if not matching:
                    return Reason.NO_MATCHING_FLAVOR
                if not any(all(quotas.potential(tenant, (each, r)) >= n for r, n in part.items()) for each in matching):
                    return Reason.EXCEEDS_CEILING
        whole = [
            place for place in self.places(workload) if all(n <= quotas.potential(tenant, p) for p, n in total(place).items())
        ]
        return None if whole else Reason.EXCEEDS_CEILING

    def places(self, workload: Workload) -> list[tuple[Allocation, ...]]:
        """Every way to choose matching flavors, the most preferred first."""
        steps = []
        for pod_set in workload.pod_sets:
            for flavors, part in self.parts(workload, pod_set)[0]:
                steps.append(
                    [
                        [Allocation(pod_set.name, flavor, name, amount) for name, amount in part.items()]
                        for flavor in flavors
                        if matches(self.configuration.flavors[flavor], pod_set)
                    ]
                )
        return [tuple(each for step in chosen for each in step) for chosen in product(*steps)]

    def place(self, workload: Workload, reserved: set[Pair]) -> tuple[Allocation, ...] | None:
        """The first that fits now and takes nothing that is reserved."""
        quotas, tenant = self.full, self.tenant(workload)
        for place in self.places(workload):
            wanted = total(place)
            if all(amount <= quotas.available(tenant, pair) and pair not in reserved for pair, amount in wanted.items()):
                return place
        return None

    def reserved(self, workload: Workload, contest: Sequence[Workload]) -> set[Pair]:
        """What those before it may need that wait longer than the bound of a BestEffort tenant."""
        tenant = self.configuration.tenants[self.tenant(workload)]
        if tenant.queueing is Queueing.STRICT:
            return set()
        bound = timedelta(seconds=tenant.starvation_bound_seconds)
        quotas = self.idle
        found: set[Pair] = set()
        for each in contest:
            since = max(each.created_at, each.not_before or each.created_at)
            if self.tenant(each) != tenant.name or self.standing.get(each.id) != "waiting" or since + bound > self.now:
                continue
            if self.key(each) < self.key(workload):
                for place in self.places(each):
                    flavors = {(allocation.pod_set, allocation.flavor) for allocation in place}
                    fine = {
                        one
                        for one in flavors
                        if all(
                            a.amount <= quotas.potential(tenant.name, (a.flavor, a.resource))
                            for a in place
                            if (a.pod_set, a.flavor) == one
                        )
                    }
                    found |= {(a.flavor, a.resource) for a in place if (a.pod_set, a.flavor) in fine}
        return found

    def borrows(self, workload: Workload, place: tuple[Allocation, ...]) -> bool:
        tenant = self.tenant(workload)
        if self.configuration.tenants[tenant].parent is None:
            return False
        quotas = self.full
        return any(quotas.usage(tenant, p) + n > quotas.subtree(tenant, p) for p, n in total(place).items())


def total(place: Sequence[Allocation]) -> dict[Pair, int]:
    """Amounts by (flavor, resource)."""
    sums: dict[Pair, int] = {}
    for each in place:
        sums[each.flavor, each.resource] = sums.get((each.flavor, each.resource), 0) + each.amount
    return sums
