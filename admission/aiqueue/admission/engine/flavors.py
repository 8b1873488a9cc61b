"""Which flavors a shape may take in a tenant, worked out once: those that match it and are large enough for it.

Flavors that list the same resources form a group (`groups.py`). A pod set takes all the resources of a group from one flavor of it,
and may take different groups from different flavors. What does not depend on usage is in `needs.py`; `search.py` finds a place for
it in what is available now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.groups import groups_of, split, totals_of
from aiqueue.admission.engine.matching import mismatch
from aiqueue.admission.engine.needs import Needs, Option, Step
from aiqueue.admission.engine.search import Bound, search, shortage, shortfall
from aiqueue.admission.engine.tree import TenantNode
from aiqueue.queue.records import Allocation, Decision, Flavor, PodSet, Shortfall
from aiqueue.queue.words import Fungibility

Matching = Callable[[Flavor, PodSet], str | None]


def needs_of(
    node: TenantNode, flavors: Mapping[str, Flavor], pod_sets: Sequence[PodSet], shape: str, *, matching: Matching = mismatch
) -> Needs | Decision:
    """What a shape asks of a tenant, or the reason why it can never have it as things are configured.

    Args:
        node: the tenant.
        flavors: all there are, by name.
        pod_sets: at their `count`, whatever their `min_count`.
        shape: named in the reason.
        matching: says as `mismatch` does why a flavor does not match a pod set.
    """
    groups = groups_of(node.record.quotas)
    steps: list[Step] = []
    for pod_set in pod_sets:
        parts, uncovered = split(totals_of(pod_set, groups), groups)
        for resource in uncovered:
            if "/" in resource:
                return reasons.not_covered(node.name, shape, pod_set.name, resource, sorted({r for g in groups for r in g[1]}))
        for (names, _), amounts in parts:
            choice = [(name, flavors.get(name)) for name in names]
            step = _step_of(node, choice, pod_set, amounts, shape=shape, matching=matching)
            if isinstance(step, Decision):
                return step
            steps.append(step)
    by_level = node.record.when_can_borrow is Fungibility.TRY_NEXT_FLAVOR and node.parent is not None
    needs = Needs(tuple(steps), {pod_set.name: pod_set.count for pod_set in pod_sets}, by_level)
    if needs.clashes and search(needs, Bound.NONE) is None:
        return reasons.no_matching_flavors_together(node.name, shape, _clashing(needs))
    if len(steps) > 1 and search(needs, Bound.POTENTIAL) is None:
        return reasons.exceeds_ceiling(node.name, shape, shortage(needs, Bound.POTENTIAL), together=True)
    if node.parent is not None:
        needs.preferred = search(needs, Bound.NOMINAL) or search(needs, Bound.NONE)
    return needs


def _clashing(needs: Needs) -> list[tuple[str, str, str]]:
    """(pod set, flavor, flavor) that contradict each other, in order."""
    found = {
        (needs.steps[later].pod_set, needs.steps[earlier].options[other].flavor, needs.steps[later].options[one].flavor): None
        for later, one, earlier, other in sorted(needs.clashes, key=lambda each: (each[2], each[3], each[0], each[1]))
    }
    return list(found)


def _step_of(
    node: TenantNode,
    choice: Sequence[tuple[str, Flavor | None]],
    pod_set: PodSet,
    amounts: Mapping[str, int],
    *,
    shape: str,
    matching: Matching,
) -> Step | Decision:
    """The flavors of a group that match a pod set and are large enough for it, or why there are none."""
    refused: list[tuple[str, str]] = []
    exceeded: list[Shortfall] = []
    options: list[Option] = []
    for name, flavor in choice:
        why = matching(flavor, pod_set) if flavor is not None else "there is no such flavor"
        if why is not None:
            refused.append((name, why))
            continue
        takes = tuple((node.cell((name, resource)), amount) for resource, amount in amounts.items())
        over = [shortfall(cell, amount, cell.potential) for cell, amount in takes if amount > cell.potential]
        if over:
            exceeded.extend(over)
        elif flavor is not None:
            options.append(Option(name, flavor.node_labels, takes, _allocations(pod_set.name, name, tuple(amounts.items()))))
    if options:
        return Step(pod_set.name, tuple(options))
    if exceeded:
        return reasons.exceeds_ceiling(node.name, shape, exceeded, together=False)
    return reasons.no_matching_flavor(node.name, shape, pod_set.name, refused)


@lru_cache(maxsize=4096)
def _allocations(pod_set: str, flavor: str, amounts: tuple[tuple[str, int], ...]) -> tuple[Allocation, ...]:
    """The same for every tenant, so they share it."""
    return tuple(Allocation(pod_set, flavor, resource, amount) for resource, amount in amounts)
