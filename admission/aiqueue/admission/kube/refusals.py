"""What the API server would refuse in every pod of a Job, by what surrounds it: such a Job would hold quota and never run.

The rules are those of its admission plugins RuntimeClass and LimitRanger. What is said here is certain: where several LimitRanges give
a container different defaults nobody knows which it gets, so what follows from those is left to the API server; and so are the bounds of
a whole pod where it has requests of its own besides its containers'.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from aiqueue.admission.kube import objects
from aiqueue.admission.kube.kinds import LimitRangeItem, RuntimeClass
from aiqueue.admission.kube.requests import peak
from aiqueue.admission.kube.surroundings import Around, Limits, Runtime
from aiqueue.queue.errors import InvalidInput, InvalidQuantity
from aiqueue.queue.units import parse_amount

_SPEC = "spec.template.spec"
_SO = "no pod of this Job could be created"


def refusals(pod: objects.PodSpec, around: Around) -> Iterator[InvalidInput]:
    """Why no pod of this template could be created, each with what to do."""
    if around.runtime is not None:
        yield from _of_runtime(pod, around.runtime)
    if around.limits is not None:
        try:
            yield from list(_of_limits(pod, around.limits))
        except InvalidQuantity:
            return  # its requests are complained of elsewhere; what is no quantity in a LimitRange bounds nothing


def _of_runtime(pod: objects.PodSpec, runtime: Runtime) -> Iterator[InvalidInput]:
    found = runtime.found
    if found is None:
        fix = f"there is no RuntimeClass of that name, so {_SO}: write one of `kubectl get runtimeclasses`, or have it created"
        yield InvalidInput(f"{_SPEC}.runtimeClassName", runtime.name, fix)
        return
    if pod.overhead and not _same(pod.overhead, _overhead(found)):
        fix = f"RuntimeClass {runtime.name} says otherwise, so {_SO}: leave it out, it is filled in"
        yield InvalidInput(f"{_SPEC}.overhead", dict(pod.overhead), fix)
    for key, value in (found.scheduling.node_selector or {} if found.scheduling else {}).items():
        own = (pod.node_selector or {}).get(key, value)
        if own != value:
            fix = f"RuntimeClass {runtime.name} asks for {value!r}, so {_SO}: write the same, or leave it out"
            yield InvalidInput(f"{_SPEC}.nodeSelector[{key}]", own, fix)


def _overhead(found: RuntimeClass) -> Mapping[str, objects.Quantity]:
    return (found.overhead.pod_fixed if found.overhead is not None else None) or {}


def _same(one: Mapping[str, objects.Quantity], other: Mapping[str, objects.Quantity]) -> bool:
    try:
        return _milli(one) == _milli(other)
    except InvalidQuantity:
        return True  # complained of elsewhere


def _milli(quantities: Mapping[str, objects.Quantity] | None) -> dict[str, int]:
    """Thousandths of each, whatever it is an amount of: LimitRanger compares these."""
    return {resource: parse_amount("cpu", quantity) for resource, quantity in (quantities or {}).items()}


@dataclass(slots=True)
class _Defaults:
    """What a container gets that says nothing; `open` are resources of which nobody knows what that is."""

    requests: dict[str, int] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)

    def add(self, item: LimitRangeItem) -> None:
        """Learn what one more LimitRange gives."""
        limits, requests = _milli(item.default), _milli(item.default) | _milli(item.default_request)
        for known, given in ((self.requests, requests), (self.limits, limits)):
            for resource, amount in given.items():
                if known.setdefault(resource, amount) != amount:
                    self.open.add(resource)
        for resource in {*requests, *self.requests}:  # given by one as a limit too, by another as a request alone
            if (resource in limits) != (resource in self.limits):
                self.open.add(resource)


@dataclass(frozen=True, slots=True)
class _Bounded:
    """What a container, or a pod as a whole, asks for and may use, in thousandths, and where that is written."""

    requests: Mapping[str, int]
    limits: Mapping[str, int]
    where: str


def _of_limits(pod: objects.PodSpec, limits: Limits) -> Iterator[InvalidInput]:
    defaults = _Defaults()
    for _, item in limits.items:
        if item.type == "Container":
            defaults.add(item)
    containers = [
        (each, f"{kind}[{index}]")
        for kind, some in (("containers", pod.containers), ("initContainers", pod.init_containers))
        for index, each in enumerate(some or ())
    ]
    asks = {where: _asks(each, where, defaults) for each, where in containers}
    for each in asks.values():
        yield from _exceeds_its_limit(each, defaults)
    whole = _Bounded(
        peak(pod, lambda _, where: asks[where].requests), peak(pod, lambda _, where: asks[where].limits), "of all containers"
    )
    for name, item in limits.items:
        bounded = (
            list(asks.values()) if item.type == "Container" else [whole] if item.type == "Pod" and not pod.resources else []
        )
        for each in bounded:
            yield from _outside(each, item, name, defaults.open)


def _asks(container: objects.Container, where: str, defaults: _Defaults) -> _Bounded:
    resources = container.resources or objects.Resources()
    own_limits = _milli(resources.limits)
    requests = defaults.requests | own_limits | _milli(resources.requests)
    return _Bounded(requests, defaults.limits | own_limits, f"{_SPEC}.{where}.resources")


def _exceeds_its_limit(each: _Bounded, defaults: _Defaults) -> Iterator[InvalidInput]:
    for resource, limit in each.limits.items():
        request = each.requests.get(resource, 0)
        if request > limit and resource in defaults.limits and resource not in defaults.open:
            fix = f"a LimitRange of the namespace gives it the limit {_told(limit)}, so {_SO}: ask for no more, or write a limit of its own"
            yield InvalidInput(f"{each.where}.requests[{resource}]", _told(request), fix)


def _outside(each: _Bounded, item: LimitRangeItem, name: str, unsure: set[str]) -> Iterator[InvalidInput]:
    least, most, ratio = _milli(item.min), _milli(item.max), _milli(item.max_limit_request_ratio)
    of = f"LimitRange {name} of the namespace"
    for resource, bound in least.items():
        request, limit = each.requests.get(resource), each.limits.get(resource)
        if resource not in unsure and (request is None or min(request, request if limit is None else limit) < bound):
            fix = f"{of} wants at least {_told(bound)}, so {_SO}: ask for more, or have the LimitRange changed"
            yield InvalidInput(f"{each.where}.requests[{resource}]", _told(request), fix)
    for resource, bound in most.items():
        limit = each.limits.get(resource)
        if resource not in unsure and (limit is None or max(limit, each.requests.get(resource, 0)) > bound):
            fix = f"{of} allows at most {_told(bound)}, so {_SO}: write a limit of no more, or have the LimitRange changed"
            yield InvalidInput(f"{each.where}.limits[{resource}]", _told(limit), fix)
    for resource, bound in ratio.items():
        request, limit = each.requests.get(resource) or 0, each.limits.get(resource) or 0
        if resource not in unsure and (not request or not limit or 1000 * limit > bound * request):
            fix = f"{of} wants a limit of at most {_told(bound)} times the request, so {_SO}: write them closer together"
            yield InvalidInput(f"{each.where}.limits[{resource}]", _told(limit), fix)


def _told(thousandths: int | None) -> str:
    if thousandths is None:
        return "none"
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"
