"""The marks that say a server was prepared for tests, demos and benchmarks. `guard` asks for them."""

from __future__ import annotations

from typing import Any

NAMESPACE = "kube-system"
CONFIG_MAP = "aiqueue-dev-marker"
CONFIG_MAP_PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{CONFIG_MAP}"

#: The comment on a marked database begins with this.
DATABASE_COMMENT = "aiqueue-dev-marker: tests, demos and benchmarks may change and drop this database"


def config_map() -> dict[str, Any]:
    """The object that marks a cluster."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": NAMESPACE},
        "data": {"meaning": "tests, demos and benchmarks may change and destroy what is in this cluster"},
    }
