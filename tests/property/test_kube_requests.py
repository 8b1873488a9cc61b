"""What a pod takes, against a slow account of the pod's life."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from aiqueue.admission.kube.objects import PodSpec
from aiqueue.admission.kube.requests import pod_requests
from aiqueue.queue.units import parse_amount

RESOURCES = ("cpu", "memory", "hugepages-2Mi", "nvidia.com/gpu")
quantities = st.sampled_from(("0", "1", "2", "3", "500m", "1500m", "1Ki", "7n", "4e2"))
amounts = st.dictionaries(st.sampled_from(RESOURCES), quantities)


def containers(policies: st.SearchStrategy[str | None]) -> st.SearchStrategy[list[dict[str, Any]]]:
    one = st.fixed_dictionaries(
        {
            "name": st.just("c"),
            "restartPolicy": policies,
            "resources": st.fixed_dictionaries({"requests": amounts, "limits": amounts}),
        }
    )
    return st.lists(one, max_size=4)


def ask(container: dict[str, Any], resource: str) -> int | None:
    """What one container asks of one resource; None where it says nothing."""
    for kind in ("requests", "limits"):
        if resource in container["resources"][kind]:
            return parse_amount(resource, container["resources"][kind][resource])
    return None


def peak(running: list[dict[str, Any]], starting: list[dict[str, Any]], resource: str) -> int | None:
    """Play the pod's life moment by moment, and keep the most that ran at once; None where nobody ever said anything."""
    moments: list[list[dict[str, Any]]] = []
    stay: list[dict[str, Any]] = []
    for container in starting:
        moments.append([*stay, container])
        if container["restartPolicy"] == "Always":
            stay.append(container)
    moments.append([*stay, *running])
    asks = [[ask(container, resource) for container in moment] for moment in moments]
    if all(amount is None for moment in asks for amount in moment):
        return None
    return max(sum(amount or 0 for amount in moment) for moment in asks)


def expected(pod: dict[str, Any]) -> dict[str, int]:
    result: dict[str, int] = {}
    for resource in RESOURCES:
        amount = peak(pod["containers"], pod["initContainers"], resource)
        level = pod["resources"]
        if resource != "nvidia.com/gpu":
            if resource in level["requests"]:
                amount = parse_amount(resource, level["requests"][resource])
            elif resource in level["limits"] and (amount is None or resource.startswith("hugepages-")):
                amount = parse_amount(resource, level["limits"][resource])
        if resource in pod["overhead"]:
            amount = (amount or 0) + parse_amount(resource, pod["overhead"][resource])
        if amount is not None:
            result[resource] = amount
    return result


@given(
    st.fixed_dictionaries(
        {
            "containers": containers(st.none()),
            "initContainers": containers(st.sampled_from(("Always", None, "Never"))),
            "overhead": amounts,
            "resources": st.fixed_dictionaries({"requests": amounts, "limits": amounts}),
        }
    )
)
def test_requests_are_the_peak_of_the_pods_life(pod: dict[str, Any]) -> None:
    assert pod_requests(msgspec.convert(pod, PodSpec)) == expected(pod)
