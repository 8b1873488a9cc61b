"""The examples agree with each other: every name they use is one they define, and the shares are those of the nodes."""

from collections import Counter
from typing import Any

import yaml

from aiqueue.cli import resources

OURS = "aiqueue.dev/v1"


def documents() -> list[dict[str, Any]]:
    paths = sorted(resources.examples_path().glob("*.yaml"))
    return [each for path in paths for each in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str, version: str = OURS) -> list[dict[str, Any]]:
    return [each for each in documents() if each["kind"] == kind and each["apiVersion"] == version]


def test_kinds() -> None:
    kinds = Counter(each["kind"] for each in documents())
    assert kinds == {"Flavor": 2, "Class": 2, "Tenant": 2, "Queue": 2, "Job": 2, "Node": 4}


def test_every_name_used_is_defined() -> None:
    flavors = {each["metadata"]["name"] for each in of_kind("Flavor")}
    classes = {each["metadata"]["name"] for each in of_kind("Class")}
    tenants = {each["metadata"]["name"] for each in of_kind("Tenant")}
    queues = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in of_kind("Queue")}
    for tenant in of_kind("Tenant"):
        assert {quota["flavor"] for quota in tenant["spec"]["quotas"]} <= flavors
    for queue in of_kind("Queue"):
        assert queue["spec"]["tenant"] in tenants
        assert queue["spec"]["defaultClass"] in classes
    for job in of_kind("Job", "batch/v1"):
        labels = job["metadata"]["labels"]
        assert (job["metadata"]["namespace"], labels["aiqueue.dev/queue"]) in queues
        assert labels.get("aiqueue.dev/class", "normal") in classes


def test_shares_are_those_of_the_nodes() -> None:
    nodes = of_kind("Node", "v1")
    for tenant in of_kind("Tenant"):
        for quota in tenant["spec"]["quotas"]:
            (flavor,) = (each for each in of_kind("Flavor") if each["metadata"]["name"] == quota["flavor"])
            fitting = [each for each in nodes if flavor["spec"]["nodeLabels"].items() <= each["metadata"]["labels"].items()]
            assert len(fitting) == 4
            for resource in quota["resources"]:
                there = sum(int(each["status"]["allocatable"][resource["name"]]) for each in fitting)
                assert resource["nominal"] <= there
                assert resource["nominal"] == there or resource["name"] == "cpu"
