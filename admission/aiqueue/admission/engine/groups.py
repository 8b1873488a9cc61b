"""Groups of flavors, and which of them a pod set needs how much of.

Flavors that list the same resources form a group, in the order of the administrator's quotas. A resource that stands in two groups
belongs to the first of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aiqueue.queue.records import PodSet, Quota

Group = tuple[tuple[str, ...], tuple[str, ...]]  # (flavors in order, resources sorted)


def groups_of(quotas: Iterable[Quota]) -> tuple[Group, ...]:
    """The groups of a tenant's flavors, in the administrator's order."""
    listed: dict[str, list[str]] = {}
    for quota in quotas:
        listed.setdefault(quota.flavor, []).append(quota.resource)
    groups: dict[tuple[str, ...], list[str]] = {}
    for flavor, resources in listed.items():
        groups.setdefault(tuple(sorted(resources)), []).append(flavor)
    return tuple((tuple(flavors), resources) for resources, flavors in groups.items())


def totals_of(pod_set: PodSet, groups: Sequence[Group]) -> dict[str, int]:
    """What a pod set needs in all, by resource, zero amounts left out; its pods themselves where `pods` is listed."""
    totals = {name: pod_set.requests[name] * pod_set.count for name in sorted(pod_set.requests)}
    if any("pods" in resources for _, resources in groups):
        totals["pods"] = pod_set.count
    return {name: amount for name, amount in totals.items() if amount > 0}


def split(totals: Mapping[str, int], groups: Sequence[Group]) -> tuple[list[tuple[Group, dict[str, int]]], list[str]]:
    """Share out the resources among the groups that cover them first; answers also the resources that no group covers."""
    parts: list[tuple[Group, dict[str, int]]] = []
    rest = dict(totals)
    for group in groups:
        covered = {name: rest.pop(name) for name in group[1] if name in rest}
        if covered:
            parts.append((group, covered))
    return parts, list(rest)
