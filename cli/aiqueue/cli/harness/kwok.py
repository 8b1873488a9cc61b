"""Fake nodes: the kind Stage, the stages that say how nodes and pods live, and Node objects."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from aiqueue.cli import resources
from aiqueue.cli.harness.api import Api
from aiqueue.cli.harness.waiting import until

USER = "aiqueue-dev:kwok"
GPU = "nvidia.com/gpu"
STAGES_PATH = "/apis/kwok.x-k8s.io/v1alpha1/stages"
CRD_PATH = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/stages.kwok.x-k8s.io"
RBAC_PATH = "/apis/rbac.authorization.k8s.io/v1"
CRD_SECONDS = 30.0


def _documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def _folder() -> Path:
    return resources.manifests_path() / "devcluster"


def stages() -> list[dict[str, Any]]:
    """The Stage objects that ship with aiqueue."""
    return [each for path in sorted((_folder() / "stages").glob("*.yaml")) for each in _documents(path)]


def grant(api: Api) -> None:
    """Give kwok's user what it may do."""
    role, binding = _documents(_folder() / "kwok-access.yaml")
    api.apply(f"{RBAC_PATH}/clusterroles/{role['metadata']['name']}", role)
    api.apply(f"{RBAC_PATH}/clusterrolebindings/{binding['metadata']['name']}", binding)


def install_stages(api: Api, crd: Path) -> None:
    """Make the kind Stage known and apply ours.

    Raises:
        HarnessError: the server refused, or did not serve the kind in time.
    """
    (definition,) = _documents(crd)
    api.apply(CRD_PATH, definition)
    until(lambda: api.is_ok(STAGES_PATH), seconds=CRD_SECONDS, what="serving kwok's kind Stage")
    for stage in stages():
        api.apply(f"{STAGES_PATH}/{stage['metadata']['name']}", stage)


def write_stages(path: Path) -> Path:
    """Write our stages as a configuration file for a kwok that has no such kind in the cluster."""
    path.write_text(yaml.safe_dump_all(stages()))
    return path


def node(
    name: str, *, cpu_millicores: int, memory_bytes: int, gpus: int, pods: int, labels: Mapping[str, str]
) -> dict[str, Any]:
    """A Node object that kwok takes for its own.

    Args:
        name: the node; also its label `kubernetes.io/hostname`.
        cpu_millicores: capacity and allocatable alike, as all of these.
        memory_bytes: bytes.
        gpus: whole `nvidia.com/gpu` devices; 0 leaves the resource out.
        pods: how many pods fit.
        labels: further labels.
    """
    capacity = {"cpu": f"{cpu_millicores}m", "memory": str(memory_bytes), "pods": str(pods)}
    if gpus:
        capacity[GPU] = str(gpus)
    own = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**own, **labels}, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "status": {"capacity": capacity, "allocatable": capacity},
    }


def is_ready(content: Mapping[str, Any]) -> bool:
    """Whether a Node object is Ready and may be scheduled on: a new node is tainted for a moment longer."""
    conditions = content.get("status", {}).get("conditions", [])
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not content.get("spec", {}).get("taints")
