"""What a run that exists without us holds."""

from __future__ import annotations

from collections.abc import Sequence

from aiqueue.admission.engine.groups import groups_of, split, totals_of
from aiqueue.admission.engine.matching import mismatch
from aiqueue.queue.records import Allocation, Configuration, PodSet


def assign_for_adoption(configuration: Configuration, tenant_name: str, pod_sets: Sequence[PodSet]) -> tuple[Allocation, ...]:
    """What a run that already exists holds: of each group the first flavor that matches, whether or not there is room.

    Where no flavor of a group matches, the first is taken all the same, so that what runs is counted somewhere. Resources that
    the tenant does not list, and everything where there is no such tenant, are counted nowhere.
    """
    tenant = configuration.tenants.get(tenant_name)
    if tenant is None:
        return ()
    groups = groups_of(tenant.quotas)
    allocations: list[Allocation] = []
    for pod_set in pod_sets:
        parts, _ = split(totals_of(pod_set, groups), groups)
        for (names, _), amounts in parts:
            known = [configuration.flavors[name] for name in names if name in configuration.flavors]
            name = next((flavor.name for flavor in known if mismatch(flavor, pod_set) is None), names[0])
            allocations.extend(Allocation(pod_set.name, name, resource, amount) for resource, amount in amounts.items())
    return tuple(allocations)
