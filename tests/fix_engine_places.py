"""Where a workload may run: groups of flavors, what matches, what contradicts, and what can never fit."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product

from aiqueue.queue.records import Allocation, Configuration, Flavor, PodSet, Workload
from aiqueue.queue.words import Fungibility, Reason
from fix_engine_quotas import Amounts, Pair, Quotas, total

Place = tuple[Allocation, ...]
Step = list[Place]  # what a pod set may take of one group, the most preferred first


def matches(flavor: Flavor, pod_set: PodSet) -> bool:
    """For selectors by equality and taints that are tolerated by key."""
    tolerated = {toleration.key for toleration in pod_set.tolerations}
    wanted = {key: value for key, value in pod_set.node_selector.items() if key in flavor.node_labels}
    return all(taint.key in tolerated for taint in flavor.node_taints) and all(
        flavor.node_labels[key] == value for key, value in wanted.items()
    )


def contradict(one: Flavor, other: Flavor) -> bool:
    """Whether no node can be of both."""
    return any(other.node_labels.get(key, value) != value for key, value in one.node_labels.items())


@dataclass
class Places:
    """The places of workloads in a tenant, as things are configured."""

    configuration: Configuration
    idle: Quotas

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

    def parts(self, tenant: str, pod_set: PodSet) -> tuple[list[tuple[list[str], dict[str, int]]], set[str]]:
        """What a pod set needs of each group of flavors, and what no group has."""
        groups = self.groups(tenant)
        rest = {name: amount * pod_set.count for name, amount in pod_set.requests.items() if amount * pod_set.count > 0}
        if any("pods" in resources for resources, _ in groups):
            rest["pods"] = pod_set.count
        found = []
        for resources, flavors in groups:
            part = {name: rest.pop(name) for name in sorted(resources) if name in rest}
            if part:
                found.append((flavors, part))
        return found, set(rest)

    def steps(self, tenant: str, workload: Workload) -> list[Step]:
        """For each pod set and group, what flavors that match may give it and could ever give it."""
        steps = []
        for pod_set in workload.pod_sets:
            for flavors, part in self.parts(tenant, pod_set)[0]:
                step = [
                    tuple(Allocation(pod_set.name, flavor, name, amount) for name, amount in part.items())
                    for flavor in flavors
                    if matches(self.configuration.flavors[flavor], pod_set)
                ]
                steps.append([each for each in step if self.possible(tenant, total(each))])
        return steps

    def possible(self, tenant: str, amounts: Amounts) -> bool:
        return all(amount <= self.idle.potential(tenant, pair) for pair, amount in amounts.items())

    def consistent(self, place: Place) -> bool:
        """Whether no pod set gets two flavors that no node has both of."""
        flavors = sorted({(each.pod_set, each.flavor) for each in place})
        return not any(
            one[0] == other[0] and contradict(self.configuration.flavors[one[1]], self.configuration.flavors[other[1]])
            for one, other in combinations(flavors, 2)
        )

    def all(self, tenant: str, workload: Workload) -> list[Place]:
        """Every way to choose one flavor of each group for each pod set, in the administrator's order of preference."""
        chosen = product(*self.steps(tenant, workload))
        places = (tuple(each for step in steps for each in step) for steps in chosen)
        return [place for place in places if self.consistent(place)]

    def preferred(self, tenant: str, workload: Workload, now: Quotas) -> Iterator[Place]:
        """Those that fit now, in the order of preference of the tenant's fungibility.

        With TryNextFlavor of those of a group the flavors come first that are borrowed from least far up, after what was chosen
        for the steps before; a tenant that has no parent does not borrow.
        """
        record = self.configuration.tenants[tenant]
        by_level = record.when_can_borrow is Fungibility.TRY_NEXT_FLAVOR and record.parent is not None
        steps = self.steps(tenant, workload)

        def extend(chosen: Place, at: int) -> Iterator[Place]:
            if at == len(steps):
                if self.consistent(chosen):
                    yield chosen
                return
            options = [chosen + step for step in steps[at]]
            if by_level:
                options.sort(key=lambda option: height(option, at))
            for option in options:
                if now.fits(tenant, total(option)):
                    yield from extend(option, at + 1)

        def height(option: Place, at: int) -> int:
            taken = total(option)
            pairs = {(each.flavor, each.resource) for each in option[-len(steps[at][0]) :]}
            return max(now.level(tenant, pair, taken[pair]) for pair in pairs)

        return extend((), 0)

    def may_need(self, tenant: str, workload: Workload) -> dict[Pair, int]:
        """The most that a place takes of each pair."""
        most: dict[Pair, int] = {}
        for place in self.all(tenant, workload):
            for pair, amount in total(place).items():
                most[pair] = max(amount, most.get(pair, 0))
        return most

    def never(self, tenant: str, workload: Workload) -> Reason | None:
        """Why it can never fit as things are configured.

        Pod set by pod set: what no flavor covers, what no flavor matches, what is more than could ever be had. Then of all
        together: that all that is left contradicts, then that it is too much.
        """
        for pod_set in workload.pod_sets:
            parts, uncovered = self.parts(tenant, pod_set)
            if any("/" in name for name in uncovered):
                return Reason.RESOURCE_NOT_COVERED
            for flavors, part in parts:
                matching = [each for each in flavors if matches(self.configuration.flavors[each], pod_set)]
                if not matching:
                    return Reason.NO_MATCHING_FLAVOR
                if not any(self.possible(tenant, {(each, name): n for name, n in part.items()}) for each in matching):
                    return Reason.EXCEEDS_CEILING
        places = self.all(tenant, workload)
        if not places:
            return Reason.NO_MATCHING_FLAVOR
        return None if any(self.possible(tenant, total(place)) for place in places) else Reason.EXCEEDS_CEILING
