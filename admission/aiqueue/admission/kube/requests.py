"""What one pod takes, computed from its template as Kubernetes' scheduler will compute it from the pod.

The rules are those of `k8s.io/component-helpers/resource.PodRequests`, after the defaults the API server gives a pod that
it does not give a template:

1. A container's missing request is its limit.
2. Containers and sidecars (init containers with `restartPolicy: Always`) run together: their requests add up.
3. While an init container runs, the sidecars before it run too: the pod needs the maximum over these moments as well.
4. Pod-level `spec.resources` replaces the sum for cpu, memory and hugepages: its request if it has one; else, where
   containers ask for cpu or memory, their sum; else its limit.
5. `overhead` comes on top.

Each quantity is rounded up to the base unit before it is added. The scheduler adds exactly and rounds up once, so for
fractions of a byte (or of a device) this may be more by less than one base unit a container, and is never less. For cpu the
two agree, since the API server stores cpu in whole millicores.

Not in a template, so not counted: defaults of a LimitRange, the overhead a RuntimeClass adds, devices of a ResourceClaim.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiqueue.admission.kube.objects import Container, PodSpec, Quantity
from aiqueue.queue.units import parse_amount

_OVERCOMMITTED_AT_POD_LEVEL = ("cpu", "memory")
_HUGEPAGES = "hugepages-"


def pod_requests(pod: PodSpec) -> dict[str, int]:
    """Requests of one pod by resource, in base units. Zero requests are kept.

    Raises:
        InvalidQuantity: a request, limit or overhead is no quantity; the error names the field.
    """
    total = _of_containers(pod)
    if pod.resources is not None:
        total |= _of_pod_level(pod, total)
    if pod.overhead:
        _add(total, _amounts(pod.overhead, "overhead"))
    return total


def _of_containers(pod: PodSpec) -> dict[str, int]:
    total: dict[str, int] = {}
    for index, container in enumerate(pod.containers or ()):
        _add(total, _of_container(container, f"containers[{index}]"))
    sidecars: dict[str, int] = {}
    while_starting: dict[str, int] = {}
    for index, container in enumerate(pod.init_containers or ()):
        own = _of_container(container, f"initContainers[{index}]")
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
