"""A Kubernetes cluster for the session."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiqueue.cli.harness import guard
from aiqueue.cli.harness.cluster import DevCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """A running cluster: that of the kubeconfig named for tests, else one of our own that ends with the session."""
    given = os.environ.get(guard.KUBECONFIG_VARIABLE)
    if given:
        guard.require_marked_cluster(Path(given))
        yield DevCluster.of_kubeconfig(Path(given))
        return
    with DevCluster.create(tmp_path_factory.mktemp("cluster"), name="tests") as started:
        yield started
