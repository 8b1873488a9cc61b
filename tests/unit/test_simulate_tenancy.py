"""The cluster of a trace, and whose quota its jobs run on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aiqueue.admission.simulate.loop import simulate
from aiqueue.admission.simulate.scenario import Scenario
from aiqueue.admission.simulate.tenancy import Cluster, Tenancy, read_cluster, scenario_of
from aiqueue.admission.simulate.traces import read_trace
from aiqueue.queue.consistency import check, with_objects
from aiqueue.queue.documents import InvalidDocuments
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.records import Configuration, Quota
from aiqueue.queue.words import OrderKey, Queueing
from fix_traces import write_table

GPU = "nvidia.com/gpu"
CLUSTER = Cluster("machine.json", 16, {"speech": 4, "vision": 8, "idle": 4})


def cluster_file(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "machine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def refused(path: Path) -> list[str]:
    with pytest.raises(InvalidInput) as raised:
        read_cluster(path)
    errors = raised.value.errors if isinstance(raised.value, InvalidDocuments) else (raised.value,)
    return [str(each).replace(str(path), "FILE") for each in errors]


def scenario(tmp_path: Path, tenants: Tenancy, queueing: Queueing = Queueing.BEST_EFFORT, of: Cluster = CLUSTER) -> Scenario:
    """Two tenants: a gang that needs 12, and three jobs of 4 that last 100 s."""
    rows = [("gang", "vision", 1, 10, 3, 4), *((f"job-{number}", "speech", 0, 100, 1, 4) for number in range(3))]
    return scenario_of(read_trace(write_table(tmp_path / "t.csv", rows)), of, tenants=tenants, queueing=queueing)


def configuration(scenario: Scenario) -> Configuration:
    (edit,) = scenario.edits
    assert edit.at_us == 0
    return with_objects(Configuration(1), edit.records)


def starts(scenario: Scenario) -> dict[str, int | None]:
    return {each.job.name: each.runs[0].admitted_us // 10**6 if each.runs else None for each in simulate(scenario).jobs}


@pytest.mark.parametrize(
    ("content", "total", "quotas"),
    [
        ({"total_gpus": 16}, 16, {}),
        ({"nodes": 2, "gpus_per_node": 8, "tenant_quota_gpus": None}, 16, {}),
        ({"total_gpus": 16, "nodes": 2, "gpus_per_node": 8, "tenant_quota_gpus": {"a": 0, "b": 9}}, 16, {"a": 0, "b": 9}),
        ({"total_gpus": 16, "nodes": 2, "licence": "none"}, 16, {}),
    ],
)
def test_a_cluster(tmp_path: Path, content: Any, total: int, quotas: dict[str, int]) -> None:
    path = cluster_file(tmp_path, content)
    assert read_cluster(path) == Cluster(str(path), total, quotas)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "FILE: the file is no object: write a JSON object with total_gpus"),
        ("{", "--cluster is 'FILE': it is no JSON ("),
        ("[" * 100_000, "--cluster is 'FILE': it is no JSON ("),
        ({}, "FILE: total_gpus is missing: write how many devices the cluster has"),
        ({"nodes": 4}, "FILE: total_gpus is missing: write how many devices the cluster has"),
        ({"total_gpus": True}, "FILE: total_gpus is True: write a whole number of 1 or more"),
        ({"total_gpus": 2.5}, "FILE: total_gpus is 2.5: write a whole number of 1 or more"),
        ({"total_gpus": 0}, "FILE: total_gpus is 0: write a whole number of 1 or more"),
        (
            {"total_gpus": 15, "nodes": 2, "gpus_per_node": 8},
            "FILE: total_gpus is 15: write nodes times gpus_per_node, 16, or correct those",
        ),
        (
            {"total_gpus": 15, "tenant_quota_gpus": [1]},
            "FILE: tenant_quota_gpus is a list of 1: write an object of devices by tenant",
        ),
        (
            {"total_gpus": 15, "tenant_quota_gpus": {"a": "8"}},
            "FILE: tenant_quota_gpus.a is '8': write a whole number of 0 or more",
        ),
        (
            {"total_gpus": 15, "tenant_quota_gpus": {"a": 8, "b": 8}},
            "FILE: tenant_quota_gpus is too much: together the quotas are 16: lower them to the cluster's 15, or raise total_gpus",
        ),
    ],
)
def test_clusters_that_are_refused(tmp_path: Path, content: Any, said: str) -> None:
    (found,) = refused(cluster_file(tmp_path, content))
    assert found.startswith(said)


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    path = cluster_file(tmp_path, {"total_gpus": "many", "nodes": -1, "tenant_quota_gpus": {"a": -1, "": 1}})
    assert len(refused(path)) == 4


def test_a_cluster_that_is_absent(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.json") == [
        "--cluster is 'FILE': it cannot be read (No such file or directory): name a file"
    ]


def test_single_is_one_tenant_with_everything(tmp_path: Path) -> None:
    made = scenario(tmp_path, Tenancy.SINGLE, Queueing.STRICT)
    objects = configuration(made)
    (tenant,) = objects.tenants.values()
    assert tenant.quotas == (Quota("cluster", GPU, 16),)
    assert (tenant.parent, tenant.queueing, tenant.order) == (None, Queueing.STRICT, (OrderKey.PRIORITY, OrderKey.SUBMITTED))
    assert len(objects.queues) == len(objects.classes) == len(objects.flavors) == 1
    assert made.capacity == {GPU: 16}
    assert check(objects) == []
    assert starts(made) == {"job-0": 0, "job-1": 0, "job-2": 0, "gang": 100}


def test_isolated_tenants_have_their_own_and_no_more(tmp_path: Path) -> None:
    made = scenario(tmp_path, Tenancy.ISOLATED)
    objects = configuration(made)
    assert {name: (each.parent, each.quotas[0].nominal) for name, each in objects.tenants.items()} == {
        "idle": (None, 4),
        "speech": (None, 4),
        "vision": (None, 8),
    }
    assert check(objects) == []
    assert starts(made) == {"job-0": 0, "job-1": 100, "job-2": 200, "gang": None}


def test_a_cohort_lends_what_is_left(tmp_path: Path) -> None:
    made = scenario(tmp_path, Tenancy.COHORT, Queueing.STRICT)
    objects = configuration(made)
    assert {name: each.parent for name, each in objects.tenants.items()} == {
        "cluster": None,
        **dict.fromkeys(("idle", "speech", "vision"), "cluster"),
    }
    assert {each.queueing for each in objects.tenants.values()} == {Queueing.STRICT}
    assert check(objects) == []
    assert starts(made) == {"job-0": 0, "job-1": 0, "job-2": 0, "gang": 100}


def test_the_root_of_a_cohort_has_a_name_of_its_own(tmp_path: Path) -> None:
    made = scenario(tmp_path, Tenancy.COHORT, of=Cluster("m", 24, {"cluster": 8, "speech": 8, "vision": 8}))
    assert set(configuration(made).tenants) == {"cluster", "cluster-root", "speech", "vision"}


@pytest.mark.parametrize("tenants", [Tenancy.ISOLATED, Tenancy.COHORT])
def test_tenants_need_quotas(tmp_path: Path, tenants: Tenancy) -> None:
    with pytest.raises(InvalidInput) as raised:
        scenario(tmp_path, tenants, of=Cluster("m.json", 16, {}))
    assert str(raised.value) == (
        f"m.json: tenant_quota_gpus is missing: write devices by tenant, or replay it with --tenants single: {tenants} needs them"
    )
    with pytest.raises(InvalidInput, match=r"without 1 of the tenants: write a quota for vision, whose jobs are in .*t\.csv"):
        scenario(tmp_path, tenants, of=Cluster("m.json", 16, {"speech": 8}))
