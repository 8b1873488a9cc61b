"""The example Jobs on the example nodes, released as the controller would release them."""

import json
from typing import Any

import pytest

from aiqueue.cli import resources
from aiqueue.cli.harness import kwok
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from fix_managed import RUN, WAIT_SECONDS, Actor, pods_of

pytestmark = pytest.mark.e2e

EXAMPLES = resources.examples_path()
NODES = ("gpu-1", "gpu-2", "gpu-3", "gpu-4")


@pytest.fixture(scope="module")
def example_nodes(gpu_cluster: DevCluster) -> None:
    """The nodes of all tests have the names of the examples', so they become these, and stay."""
    gpu_cluster.kubectl("apply", f"--filename={EXAMPLES / 'nodes.yaml'}")
    api = gpu_cluster.api

    def ready() -> bool:
        return all(kwok.is_ready(api.call("GET", f"/api/v1/nodes/{name}")) for name in NODES)

    until(ready, seconds=WAIT_SECONDS, what="readiness of the example nodes")


@pytest.mark.usefixtures("example_nodes")
@pytest.mark.parametrize(("example", "selector", "count"), [("gang-job", {"aiqueue.dev/pool": "h100"}, 2), ("ops-job", {}, 4)])
def test_example_waits_and_runs(
    managed_cluster: DevCluster, controller: Actor, example: str, selector: dict[str, str], count: int
) -> None:
    filename = f"--filename={EXAMPLES / f'{example}.yaml'}"
    stored: dict[str, Any] = json.loads(managed_cluster.kubectl("apply", filename, "--output=json"))
    try:
        assert stored["spec"]["suspend"] is True
        template = {"spec": {"nodeSelector": selector}}
        change = {"metadata": {"annotations": {RUN: "ledger/1/1"}}, "spec": {"suspend": False, "template": template}}
        controller.patch(stored, change)

        def under_way() -> bool:
            status = controller.get(stored)["status"]
            return bool(status.get("ready", 0) + status.get("succeeded", 0) == count)

        until(under_way, seconds=WAIT_SECONDS, what=f"all of {example}")
        pods = pods_of(managed_cluster, stored)
        assert len(pods) == count
        if selector:
            assert {pod["spec"]["nodeName"] for pod in pods} < set(NODES)
    finally:
        managed_cluster.kubectl("delete", filename)
