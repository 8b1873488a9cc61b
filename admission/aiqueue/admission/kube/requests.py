"""What one pod takes, computed from its template as Kubernetes' scheduler will compute it from the pod.

The rules are those of `k8s.io/component-helpers/resource.PodRequests`, after the defaults the API server gives a pod that
it does not give a template:

1. A container's missing request is its limit; where it has neither, what the LimitRanges of its namespace give it. Where these differ
   it is not said which counts, so the largest is taken: never less than the pod will ask for.
2. Containers and sidecars (init containers with `restartPolicy: Always`) run together: their requests add up.
3. While an init container runs, the sidecars before it run too: the pod needs the maximum over these moments as well.
4. Pod-level `spec.resources` replaces the sum for cpu, memory and hugepages: its request if it has one; else, where
   containers ask for cpu or memory by themselves, their sum; else its limit.
5. `overhead` comes on top: that of the RuntimeClass it names, where that has any.

Each quantity is rounded up to the base unit before it is added. The scheduler adds exactly and rounds up once, so for
fractions of a byte (or of a device) this may be more by less than one base unit a container, and is never less. For cpu the
two agree, since the API server stores cpu in whole millicores.

What surrounds a Job is told as `surroundings.Around`; without it, as in the webhook, the template alone counts. Not counted: devices of
a ResourceClaim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiqueue.admission.kube.objects import Container, PodSpec, Quantity
from aiqueue.admission.kube.surroundings import Around, Limits
from aiqueue.queue.units import parse_amount

_OVERCOMMITTED_AT_POD_LEVEL = ("cpu", "memory")
_HUGEPAGES = "hugepages-"


def pod_requests(pod: PodSpec, around: Around | None = None) -> dict[str, int]:
    """Requests of one pod by resource, in base units. Zero requests are kept.

    Args:
        pod: spec of the template.
        around: what surrounds the Job, None where nothing does or it is not known.

    Raises:
        InvalidQuantity: a request, limit or overhead is no quantity; the error names the field.
    """
    defaults = default_requests(around.limits) if around is not None and around.limits is not None else {}
    total = peak(pod, lambda container, field: defaults | _of_container(container, field))
    if pod.resources is not None:
        # The API server works these out before it looks at LimitRanges.
        total |= _of_pod_level(pod, peak(pod, _of_container) if defaults else total)
    runtime = around.runtime.found if around is not None and around.runtime is not None else None
    overhead = runtime.overhead.pod_fixed if runtime is not None and runtime.overhead is not None else pod.overhead
    if overhead:
        _add(total, _amounts(overhead, "overhead"))
    return total


def default_requests(limits: Limits) -> dict[str, int]:
    """What a container asks for that says nothing, by resource, in base units.

    Raises:
        InvalidQuantity: a LimitRange says what is no quantity.
    """
    found: dict[str, int] = {}
    for name, item in limits.items:
        if item.type == "Container":
            for resource, quantity in ((item.default or {}) | (item.default_request or {})).items():
                amount = parse_amount(resource, quantity, field=f"LimitRange {name}: spec.limits[].defaultRequest[{resource}]")
                found[resource] = max(amount, found.get(resource, 0))
    return found


def peak(pod: PodSpec, of_container: Callable[[Container, str], Mapping[str, int]]) -> dict[str, int]:
    """The most that containers of a pod have at one moment of its life, by resource, where each has what `of_container` says of it.

    `of_container` is given a container and where it stands in the pod's spec.
    """
    total: dict[str, int] = {}
    for index, container in enumerate(pod.containers or ()):
        _add(total, of_container(container, f"containers[{index}]"))
    sidecars: dict[str, int] = {}
    while_starting: dict[str, int] = {}
    for index, container in enumerate(pod.init_containers or ()):
        own = of_container(container, f"initContainers[{index}]")
        # Only what this one asks for can be more than at the moments before, since sidecars only add up.
        _raise_to(while_starting, {resource: sidecars.get(resource, 0) + amount for resource, amount in own.items()})
        if container.restart_policy == "Always":
            _add(total, own)
            _add(sidecars, own)
    _raise_to(total, while_starting)
    return total


def _of_container(container: Container, field: str) -> dict[str, int]:
    resources = container.resources
    if resources is None:
        return {}
    requests = _amounts(resources.requests or {}, f"{field}.resources.requests")
    if not resources.limits:
        return requests
    return _amounts(resources.limits, f"{field}.resources.limits") | requests


def _of_pod_level(pod: PodSpec, of_containers: Mapping[str, int]) -> dict[str, int]:
    if pod.resources is None:
        return {}
    requests = _supported(_amounts(pod.resources.requests or {}, "resources.requests"))
    limits = _supported(_amounts(pod.resources.limits or {}, "resources.limits"))
    kept = {
        resource: of_containers[resource]
        for resource in limits
        if resource in _OVERCOMMITTED_AT_POD_LEVEL and resource in of_containers
    }
    return limits | kept | requests


def _supported(amounts: Mapping[str, int]) -> dict[str, int]:
    return {
        resource: amount
        for resource, amount in amounts.items()
        if resource in _OVERCOMMITTED_AT_POD_LEVEL or resource.startswith(_HUGEPAGES)
    }


def _amounts(quantities: Mapping[str, Quantity], field: str) -> dict[str, int]:
    return {
        resource: parse_amount(resource, quantity, field=f"spec.template.spec.{field}[{resource}]")
        for resource, quantity in quantities.items()
    }


def _add(total: dict[str, int], amounts: Mapping[str, int]) -> None:
    for resource, amount in amounts.items():
        total[resource] = total.get(resource, 0) + amount


def _raise_to(total: dict[str, int], amounts: Mapping[str, int]) -> None:
    for resource, amount in amounts.items():
        total[resource] = max(total.get(resource, 0), amount)
