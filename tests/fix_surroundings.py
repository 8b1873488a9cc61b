"""LimitRanges and RuntimeClasses on a real API server, and what is reflected of them."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.kinds import LIMIT_RANGES, RUNTIME_CLASSES
from aiqueue.admission.kube.reflector import Reflector
from aiqueue.admission.kube.surroundings import Surroundings
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from fix_kube import WAIT_SECONDS, create_namespace

TOGETHER = 12


@dataclass
class Around:
    """A cluster, and what is reflected of LimitRanges and RuntimeClasses there."""

    cluster: DevCluster
    surroundings: Surroundings
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _namespaces: list[str] = field(default_factory=list)

    def limited(self, *ranges: Sequence[Mapping[str, Any]]) -> str:
        """A new namespace with a LimitRange for each of these lists of items: `range-0` and so on.

        Of a namespace in which it knows of no LimitRange the API server asks at its first pod, so what is stored by then is in force.
        """
        name = self._namespace()
        for number, items in enumerate(ranges):
            body = {
                "apiVersion": "v1",
                "kind": "LimitRange",
                "metadata": {"name": f"range-{number}"},
                "spec": {"limits": list(items)},
            }
            self.cluster.api.call("POST", f"/api/v1/namespaces/{name}/limitranges", body)
        wanted = {f"range-{number}" for number, items in enumerate(ranges) if items}
        until(lambda: self._known(name) == wanted, seconds=WAIT_SECONDS, what="LimitRanges to be reflected")
        return name

    def _namespace(self) -> str:
        if not self._namespaces:
            self._namespaces = made = [create_namespace(self.cluster) for _ in range(TOGETHER)]

            def ready() -> bool:
                found = self.cluster.api.call("GET", "/api/v1/serviceaccounts?fieldSelector=metadata.name%3Ddefault")["items"]
                return {each["metadata"]["namespace"] for each in found}.issuperset(made)

            until(ready, seconds=WAIT_SECONDS, what="service accounts")
        return self._namespaces.pop()

    def _known(self, namespace: str) -> set[str]:
        around = self.surroundings.around(namespace, None)
        return {name for name, _ in around.limits.items} if around is not None and around.limits is not None else set()

    def runtime(self, overhead: Mapping[str, str] | None, scheduling: Mapping[str, Any] | None) -> str:
        """A new RuntimeClass; answers its name."""
        name = f"runtime-{secrets.token_hex(4)}"
        body: dict[str, Any] = {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": name},
            "handler": "h",
        }
        if overhead is not None:
            body["overhead"] = {"podFixed": dict(overhead)}
        if scheduling is not None:
            body["scheduling"] = dict(scheduling)
        self.cluster.api.call("POST", "/apis/node.k8s.io/v1/runtimeclasses", body)

        def known() -> bool:
            around = self.surroundings.around("", name)
            return around is not None and around.runtime is not None and around.runtime.found is not None

        until(known, seconds=WAIT_SECONDS, what=f"RuntimeClass {name} to be reflected")
        return name


@pytest.fixture(scope="module")
def around(cluster: DevCluster) -> Iterator[Around]:
    """A cluster whose LimitRanges and RuntimeClasses are reflected."""
    client = KubeClient.from_kubeconfig(cluster.kubeconfig)
    surroundings = Surroundings()
    sinks = ((LIMIT_RANGES, surroundings.limit_ranges), (RUNTIME_CLASSES, surroundings.runtime_classes))
    reflectors = tuple(Reflector(client, "", sink, rng=Random(1), kind=kind) for kind, sink in sinks)
    for each in reflectors:
        each.start()
    until(lambda: surroundings.synced, seconds=WAIT_SECONDS, what="surroundings")
    yield Around(cluster, surroundings)
    for each in reflectors:
        each.stop()
    client.close()
