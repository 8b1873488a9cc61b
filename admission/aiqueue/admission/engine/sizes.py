"""At which sizes elastic work may be admitted: what it asks for at each, and the largest that fits.

A pod set may say that it makes do with fewer pods. All of a workload shrink together, from its full size at step 0 to the minimum of
each at the last:

    last    = sum of delta, where delta = count - min_count
    count_s = count - floor(delta * s / last)

What fits at one size fits at every smaller one, in the same place: each pod set asks no more of each cell, of no more cells, and
may take every flavor that it might take before. So the largest size that fits is found by halving. A search that gives up
(`needs.SEARCH_STEPS`) may have it miss a size, never take one that does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from aiqueue.admission.engine.flavors import needs_of
from aiqueue.admission.engine.matching import mismatch
from aiqueue.admission.engine.needs import Needs, Placement
from aiqueue.admission.engine.tree import TenantNode
from aiqueue.queue.records import Decision, Flavor, PodSet

REMEMBERED = 32  # sizes whose needs are kept: halving asks for the same few over and over


class Sizes:
    """What one elastic shape asks of one tenant, by size. Made by `of`.

    Attributes:
        last: the step of the minimum; that of the full size is 0.
        top: the step of the largest size that could ever fit; `last` where none could.
        most: what is asked for at `top`; where no size could ever fit, why the minimum could not.
        least: what is asked for at the minimum, or why it could never fit.
    """

    __slots__ = ("_deltas", "_flavors", "_known", "_mismatches", "_node", "_pod_sets", "_shape", "last", "least", "most", "top")

    def __init__(self, node: TenantNode, flavors: Mapping[str, Flavor], pod_sets: Sequence[PodSet], shape: str) -> None:
        self._node = node
        self._flavors = flavors
        self._pod_sets = tuple(pod_sets)
        self._shape = shape
        self._deltas = [each.count - least if (least := _least(each)) is not None else 0 for each in pod_sets]
        self._mismatches: dict[tuple[str, str], str | None] = {}
        self._known: dict[int, Needs | Decision] = {}
        self.last = sum(self._deltas)
        self.top = 0
        self.most = self._needs(0)
        self.least = self._needs(self.last)
        if not isinstance(self.most, Needs):
            top = _first(lambda step: isinstance(self.at(step), Needs), 1, self.last)
            self.most, self.top = self.at(top), top

    @classmethod
    def of(cls, node: TenantNode, flavors: Mapping[str, Flavor], pod_sets: Sequence[PodSet], shape: str) -> Sizes | None:
        """The sizes of a shape, None where it has but one."""
        if all(_least(each) is None for each in pod_sets):
            return None
        return cls(node, flavors, pod_sets, shape)

    def at(self, step: int) -> Needs | Decision:
        """What is asked for at one size, or why it could never fit."""
        if step == self.top:
            return self.most
        if step == self.last:
            return self.least
        known = self._known.pop(step, None)
        if known is None:
            known = self._needs(step)
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
        self._known[step] = known  # the last used is the last to be forgotten
        return known

    def counts(self, step: int) -> dict[str, int]:
        """Pods by pod set at one size."""
        return {each.name: count for each, count in zip(self._pod_sets, self._counts(step), strict=True)}

    def step_of(self, counts: Mapping[str, int]) -> int | None:
        """The step of the smallest size that has at least so many pods of each pod set; None where not even the full size has."""

        def enough(step: int) -> bool:
            return all(
                count >= counts.get(each.name, 0) for each, count in zip(self._pod_sets, self._counts(step), strict=True)
            )

        if not enough(0):
            return None
        return _first(lambda step: not enough(step), 1, self.last + 1) - 1

    def largest(
        self, fits: Callable[[Needs], Placement | None], *, at_least: Mapping[str, int] | None = None
    ) -> Placement | None:
        """The place that `fits` gives the largest size that it has one for.

        Args:
            fits: finds a place for what is asked for, None where there is none. It must hold to that what fits at a size fits at
                every smaller one.
            at_least: pods by pod set that are the least to be looked for, in place of the minimum.
        """
        found: dict[int, Placement] = {}

        def fitting(step: int) -> bool:
            needs = self.at(step)
            placement = fits(needs) if isinstance(needs, Needs) else None
            if placement is not None:
                found[step] = placement
            return placement is not None

        last = self.last if at_least is None else self.step_of(at_least)
        if last is None or last < self.top:
            return None
        if fitting(self.top):
            return found[self.top]
        if last == self.top or not fitting(last):  # asked second, since mostly nothing fits
            return None
        return found[_first(fitting, self.top + 1, last)]

    def _needs(self, step: int) -> Needs | Decision:
        pod_sets = [replace(each, count=count) for each, count in zip(self._pod_sets, self._counts(step), strict=True)]
        return needs_of(self._node, self._flavors, pod_sets, self._shape, matching=self._matching)

    def _matching(self, flavor: Flavor, pod_set: PodSet) -> str | None:
        """As `mismatch`, asked once for all sizes."""
        key = (flavor.name, pod_set.name)
        if key not in self._mismatches:
            self._mismatches[key] = mismatch(flavor, pod_set)
        return self._mismatches[key]

    def _counts(self, step: int) -> list[int]:
        steps = self.last or 1
        return [each.count - delta * step // steps for each, delta in zip(self._pod_sets, self._deltas, strict=True)]


def smallest(pod_sets: Sequence[PodSet]) -> list[PodSet]:
    """The pod sets at the least size that they make do with."""
    return [replace(each, count=least) if (least := _least(each)) is not None else each for each in pod_sets]


def _first(good: Callable[[int], bool], low: int, high: int) -> int:
    """The first step from `low` on that is good, where all after it are; `high` where none before it is."""
    while low < high:
        middle = (low + high) // 2
        if good(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _least(pod_set: PodSet) -> int | None:
    """The least pods that a pod set makes do with, None where that is all of them."""
    least = pod_set.min_count
    return least if least is not None and least < pod_set.count else None
