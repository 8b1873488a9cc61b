"""Kubernetes, through the parts that the controller uses, does for a run what the simulated cluster does."""

from __future__ import annotations

import pytest

from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness.cluster import DevCluster
from fix_conformance import ClusterConformance, KubernetesWorld

pytestmark = pytest.mark.e2e


class TestKubernetes(ClusterConformance):
    @pytest.fixture
    def world(self, cluster: DevCluster, kube: KubeClient, kube_namespace: str) -> KubernetesWorld:
        nodes = cluster.api.call("GET", "/api/v1/nodes")["items"]
        if "conformance" not in {node["metadata"]["name"] for node in nodes}:
            cluster.add_node("conformance", cpu_millicores=64_000, memory_bytes=2**38)
        return KubernetesWorld(cluster, kube, kube_namespace)
