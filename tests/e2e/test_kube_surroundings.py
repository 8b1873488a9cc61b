"""What a pod will ask for, by our account of its Job, against what the API server makes of that pod."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from aiqueue.admission.kube import jobs, objects
from aiqueue.admission.kube.requests import pod_requests
from aiqueue.queue.observations import Observation
from fix_kube import job_document
from fix_surroundings import Around

pytestmark = pytest.mark.e2e

DEVICE = "example.com/gpu"
CPU, MEMORY = ("250m", "500m", "1", "2", "1500m"), ("64Mi", "128Mi", "1Gi", "200M")
OF: dict[str, tuple[str, ...]] = {"cpu": CPU, "memory": MEMORY, DEVICE: ("1", "2", "4")}
PODS = 14


def milli(quantity: str) -> float:
    return float(pod_requests(objects.PodSpec(overhead={"cpu": quantity}))["cpu"])


def ordered(draw: st.DrawFn, resource: str, names: tuple[str, ...]) -> dict[str, str]:
    """A value for some of these names, none less than those before it."""
    said = [name for name in names if draw(st.booleans())]
    values = sorted((draw(st.sampled_from(OF[resource])) for _ in said), key=milli)
    if resource == DEVICE:
        values = [values[0]] * len(values) if values else []
    return dict(zip(said, values, strict=True))


@st.composite
def container(draw: st.DrawFn) -> dict[str, Any]:
    said: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for resource in OF:
        values = ordered(draw, resource, ("requests", "limits"))
        if resource == DEVICE and values:  # a device is asked for by its limit
            values = {"limits": values.get("limits", values.get("requests", "1"))}
        for kind, value in values.items():
            said[kind][resource] = value
    return {"image": "registry.example/main:1", "resources": {kind: of for kind, of in said.items() if of}}


@st.composite
def ranges(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The items of a LimitRange that the API server takes: min <= defaultRequest <= default <= max."""
    of_container: dict[str, Any] = {"type": "Container"}
    of_pod: dict[str, Any] = {"type": "Pod"}
    for resource in draw(st.sets(st.sampled_from(list(OF)), max_size=3)):
        names: tuple[str, ...] = ("defaultRequest", "default")
        if resource == DEVICE:
            names = ("default",)
        elif draw(st.integers(0, 3)) == 0:
            names = ("min", "defaultRequest", "default", "max")
        for kind, value in ordered(draw, resource, names).items():
            of_container.setdefault(kind, {})[resource] = value
    if draw(st.integers(0, 5)) == 0:
        kind = draw(st.sampled_from(("min", "max", "maxLimitRequestRatio")))
        of_pod[kind] = {"cpu": draw(st.sampled_from(CPU)) if kind != "maxLimitRequestRatio" else "2"}
    if draw(st.integers(0, 8)) == 0:
        of_container["maxLimitRequestRatio"] = {"memory": draw(st.sampled_from(("1", "1500m", "2")))}
    return [of_container, *([of_pod] if len(of_pod) > 1 else [])]


@st.composite
def templates(draw: st.DrawFn) -> dict[str, Any]:
    """A pod's spec; `runtime` says by number which RuntimeClass it names."""
    spec: dict[str, Any] = {"restartPolicy": "Never", "containers": draw(st.lists(container(), min_size=1, max_size=3))}
    spec["initContainers"] = draw(st.lists(container(), max_size=3))
    for index, each in enumerate(spec["containers"]):
        each["name"] = f"c{index}"
    for index, each in enumerate(spec["initContainers"]):
        each["name"] = f"i{index}"
        if draw(st.booleans()):
            each["restartPolicy"] = "Always"
    if draw(st.booleans()):
        spec["runtime"] = draw(st.integers(0, 3))
    if draw(st.integers(0, 3)) == 0:
        spec["nodeSelector"] = {"zone": draw(st.sampled_from("ab"))}
    if draw(st.integers(0, 4)) == 0:
        level = ordered(draw, "cpu", ("requests", "limits"))
        spec["resources"] = {kind: {"cpu": f"{8 + number}"} for number, kind in enumerate(level)}
    return spec


RUNTIMES: tuple[tuple[dict[str, str] | None, dict[str, Any] | None], ...] = (
    ({"cpu": "250m", "memory": "120Mi"}, None),
    (None, {"nodeSelector": {"zone": "a", "sandbox": "yes"}, "tolerations": [{"key": "sandbox", "operator": "Exists"}]}),
    ({"memory": "1Mi"}, {"nodeSelector": {"zone": "b"}}),
)


@dataclass
class Tried:
    """What the API server makes of a pod of a template, without creating it: the pod, or what it says against it."""

    pod: dict[str, Any] | None
    said: str


def tried(around: Around, namespace: str, spec: dict[str, Any]) -> Tried:
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}
    answer = around.cluster.api.ask("POST", f"/api/v1/namespaces/{namespace}/pods?dryRun=All", body)
    found = answer.json()
    return Tried(found, "") if answer.status < 300 else Tried(None, found["message"])


def observed(around: Around, namespace: str, spec: dict[str, Any]) -> Observation:
    document = job_document(namespace, "it", pod=spec)
    document["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    job = msgspec.json.decode(json.dumps(document), type=objects.Job)
    return jobs.observe(job, cluster="c", surroundings=around.surroundings)


def check(around: Around, namespace: str, spec: dict[str, Any], *, several: bool) -> None:
    """Our account and the server's are one."""
    seen, found = observed(around, namespace, spec), tried(around, namespace, spec)
    (pod_set,) = seen.pod_sets
    if found.pod is None:
        event("refused")
        # Where several LimitRanges differ, or the pod has requests of its own, more may be refused than can be known before.
        assert seen.invalid or several or "resources" in spec, found.said
        return
    event("taken")
    assert seen.invalid is None, found.pod["spec"]
    of_server = msgspec.convert(found.pod["spec"], objects.PodSpec)
    truth = {name: amount for name, amount in pod_requests(of_server).items() if amount} | {"pods": 1}
    if several:
        assert pod_set.requests.keys() == truth.keys()
        assert all(pod_set.requests[name] >= amount for name, amount in truth.items())
    else:
        assert dict(pod_set.requests) == truth
    assert dict(pod_set.node_selector) == (of_server.node_selector or {})
    keys = {each.key for each in of_server.tolerations or ()} - {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    }
    assert {each.key for each in pod_set.tolerations} == keys


@settings(
    max_examples=10,
    phases=(Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(some=st.lists(ranges(), max_size=2), pods=st.lists(templates(), min_size=PODS, max_size=PODS))
def test_a_job_is_counted_as_its_pods_will_be(
    around: Around, some: list[list[dict[str, Any]]], pods: list[dict[str, Any]]
) -> None:
    namespace = around.limited(*some)
    names = [*(around.runtime(overhead, scheduling) for overhead, scheduling in RUNTIMES), "missing"]
    for spec in pods:
        runtime = spec.pop("runtime", None)
        if runtime is not None:
            spec["runtimeClassName"] = names[runtime]
        check(around, namespace, spec, several=len(some) > 1)
    event(f"LimitRanges {len(some)}")


def test_what_would_be_refused_is_told_with_what_to_do(around: Around) -> None:
    namespace = around.limited([{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "64Mi"}}])
    asks = {"requests": {"cpu": "3", "memory": "1Gi"}, "limits": {"cpu": "3"}}
    too_much = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i", "resources": asks}]}
    assert observed(around, namespace, too_much).invalid == (
        "spec.template.spec.containers[0].resources.limits[cpu] is '3': LimitRange range-0 of the namespace allows at most 2, so no"
        " pod of this Job could be created: write a limit of no more, or have the LimitRange changed"
    )
    assert "maximum cpu usage per Container is 2, but limit is 3" in tried(around, namespace, too_much).said
    missing = {**too_much, "containers": [{"name": "c", "image": "i"}], "runtimeClassName": "gone"}
    assert observed(around, namespace, missing).invalid == (
        "spec.template.spec.runtimeClassName is 'gone': there is no RuntimeClass of that name, so no pod of this Job could be"
        " created: write one of `kubectl get runtimeclasses`, or have it created"
    )
    assert 'RuntimeClass "gone" not found' in tried(around, namespace, missing).said
