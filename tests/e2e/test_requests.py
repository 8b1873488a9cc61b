"""What a Job is counted as on the real control plane: with what the API server adds to its pods, and as it is edited while it waits."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from aiqueue.admission.kube.objects import PodSpec
from aiqueue.admission.kube.requests import pod_requests
from fix_controller import Stage, job
from fix_tenants import Floor

pytestmark = pytest.mark.e2e

MERGE = "application/merge-patch+json"
NODE = "{apiVersion: aiqueue.dev/v1, kind: Flavor, metadata: {name: anywhere}, spec: {}}"


def tenant(floor: Floor, name: str, cpus: int) -> None:
    """A tenant of so many cpus, and its queue."""
    floor.stage.apply(NODE)
    quotas = f"quotas: [{{flavor: anywhere, resources: [{{name: cpu, nominal: {cpus}}}, {{name: pods, nominal: 100}}]}}]"
    floor.stage.apply(f"{{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {{name: {name}}}, spec: {{{quotas}}}}}")
    floor.queue(name)


def says_nothing(floor: Floor, name: str, queue: str, pods: int = 1, **template: Any) -> dict[str, Any]:
    """A Job whose pods ask for nothing by themselves."""
    document = job(floor.namespace, name, queue=queue, pods=pods, template=template)
    document["spec"]["template"]["spec"]["containers"][0]["resources"] = {}
    return floor.alice.create(document)


class Ranges:
    """The LimitRange of the stage's namespace."""

    def __init__(self, stage: Stage) -> None:
        self._api = stage.cluster.api
        self._path = f"/api/v1/namespaces/{stage.namespace}/limitranges"

    def default(self, cpus: int) -> None:
        """Containers that say nothing get so many cpus."""
        limits = [{"type": "Container", "default": {"cpu": str(cpus)}, "defaultRequest": {"cpu": str(cpus)}}]
        metadata = {"name": "defaults"}
        body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}}
        if self._api.is_ok(f"{self._path}/defaults"):
            self._api.call("PATCH", f"{self._path}/defaults", {"spec": {"limits": limits}}, content_type=MERGE)
        else:
            self._api.call("POST", self._path, body)

    def remove(self) -> None:
        self._api.ask("DELETE", f"{self._path}/defaults")


@pytest.fixture
def ranges(floor: Floor) -> Iterator[Ranges]:
    made = Ranges(floor.stage)
    yield made
    made.remove()


def in_all(stage: Stage, name: str, resource: str = "cpu") -> int:
    """What the pods of a Job ask for in all, as they were created."""
    return sum(pod_requests(_spec(pod)).get(resource, 0) for pod in stage.pods(name))


def _spec(pod: dict[str, Any]) -> PodSpec:

    return msgspec.convert(pod["spec"], PodSpec)


def asked(stage: Stage, name: str, resource: str = "cpu") -> int:
    """What the ledger has a pod of a Job ask for."""
    rows = stage.rows("SELECT requests FROM pod_set WHERE workload_id = :id", id=stage.workload(name)["id"])
    return int(rows[0]["requests"].get(resource, 0))


def held(stage: Stage, name: str, resource: str = "cpu") -> int:
    run = stage.runs(name)[-1]
    found = stage.rows(
        "SELECT amount FROM allocation WHERE run_id = :run AND resource = :resource", run=run["id"], resource=resource
    )
    return sum(row["amount"] for row in found)


def test_defaults_of_a_namespace_count_and_who_waits_is_looked_at_again_when_they_change(floor: Floor, ranges: Ranges) -> None:
    stage = floor.stage
    tenant(floor, "plain", 10)
    ranges.default(2)
    says_nothing(floor, "two-each", "plain", 3)
    floor.until_running("two-each")
    assert held(stage, "two-each") == in_all(stage, "two-each") == 6000
    # Five pods of two cpus each were too many; of one each they are not. What runs keeps what it was admitted with.
    says_nothing(floor, "waits", "plain", 4)
    floor.until_waiting("waits", "WaitingForQuota")
    ranges.default(1)
    floor.until_running("waits")
    assert held(stage, "waits") == in_all(stage, "waits") == 4000
    assert held(stage, "two-each") == 6000
    # Without any, pods ask for nothing.
    says_nothing(floor, "larger", "plain", 11)
    floor.until_waiting("larger", "ExceedsCeiling")
    ranges.remove()
    floor.until_running("larger")
    assert held(stage, "larger") == in_all(stage, "larger") == 0


def test_overhead_counts_and_a_runtime_class_that_is_missing_is_told(floor: Floor) -> None:
    stage = floor.stage
    tenant(floor, "sandbox", 4)
    name = f"gvisor-{secrets.token_hex(4)}"
    says_nothing(floor, "sandboxed", "sandbox", 2, runtimeClassName=name)
    told = floor.until_waiting("sandboxed", "InvalidRequest")
    assert (
        f"spec.template.spec.runtimeClassName is '{name}': there is no RuntimeClass of that name" in told["decision"]["message"]
    )
    body = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": name},
        "handler": "runsc",
        "overhead": {"podFixed": {"cpu": "1500m"}},
    }
    stage.cluster.api.call("POST", "/apis/node.k8s.io/v1/runtimeclasses", body)
    floor.until_running("sandboxed")
    assert held(stage, "sandboxed") == in_all(stage, "sandboxed") == 3000
    stage.cluster.api.call("DELETE", f"/apis/node.k8s.io/v1/runtimeclasses/{name}")


def test_what_a_namespace_would_refuse_is_told_and_holds_no_quota(floor: Floor, ranges: Ranges) -> None:
    tenant(floor, "bounded", 10)
    ranges.default(2)
    floor.alice.create(job(floor.namespace, "more-than-its-limit", queue="bounded", gpus=0, cpu="4"))
    floor.until_running("more-than-its-limit")
    document = job(floor.namespace, "above", queue="bounded", gpus=0)
    document["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "4"}}
    floor.alice.create(document)
    told = floor.until_waiting("above", "InvalidRequest")["decision"]["message"]
    assert "containers[0].resources.requests[cpu] is '4': a LimitRange of the namespace gives it the limit 2" in told
    assert "no pod of this Job could be created" in told


def test_resources_and_size_that_are_edited_while_it_waits_count_from_then_on(floor: Floor) -> None:
    stage = floor.stage
    tenant(floor, "edited", 8)
    stored = floor.alice.create(job(floor.namespace, "too-large", queue="edited", pods=3, gpus=0, cpu="4"))
    floor.until_waiting("too-large", "ExceedsCeiling")
    # Fewer at a time of as many to complete.
    floor.alice.patch(stored, {"spec": {"parallelism": 2}})
    floor.until_running("too-large")
    assert held(stage, "too-large") == in_all(stage, "too-large") == 8000
    # It runs: it grows no more, by its owner or by its administrator.
    told = floor.alice.refused(stored, {"spec": {"parallelism": 3}})
    assert "spec.parallelism may be raised or lowered only" in told
    assert held(stage, "too-large") == 8000
    other = floor.alice.create(job(floor.namespace, "lighter", queue="edited", pods=1, gpus=0, cpu="16"))
    floor.until_waiting("lighter", "ExceedsCeiling")
    container = other["spec"]["template"]["spec"]["containers"][0]
    lighter = {**container, "resources": {"requests": {"cpu": "3"}, "limits": {"cpu": "3"}}}
    floor.alice.patch(other, {"spec": {"template": {"spec": {"containers": [lighter]}}}})
    stage.until(lambda: asked(stage, "lighter") == 3000, "its edited requests to be in the ledger")
    floor.until_waiting("lighter", "WaitingForQuota")
