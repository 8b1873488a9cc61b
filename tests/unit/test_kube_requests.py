"""What a pod takes: worked examples."""

from __future__ import annotations

from time import process_time
from typing import Any

import msgspec
import pytest

from aiqueue.admission.kube.objects import PodSpec
from aiqueue.admission.kube.requests import pod_requests
from aiqueue.queue.errors import InvalidQuantity

MI = 2**20
GI = 2**30


def requests(**spec: Any) -> dict[str, int]:
    return pod_requests(msgspec.convert(spec, PodSpec))


def container(restart_policy: str | None = None, limits: dict[str, str] | None = None, **asked: str) -> dict[str, Any]:
    resources: dict[str, Any] = {"requests": asked}
    if limits is not None:
        resources["limits"] = limits
    written: dict[str, Any] = {"name": "c", "resources": resources}
    if restart_policy is not None:
        written["restartPolicy"] = restart_policy
    return written


def test_containers_add_up() -> None:
    pod = requests(containers=[container(cpu="250m", memory="64Mi"), container(cpu="250m", memory="64Mi")])
    assert pod == {"cpu": 500, "memory": 128 * MI}


def test_the_greatest_init_container_counts_where_it_exceeds_the_sum() -> None:
    pod = requests(
        containers=[container(cpu="1", memory="1Gi"), container(cpu="1", memory="1Gi")],
        initContainers=[container(cpu="3", memory="1Gi"), container(cpu="2", memory="512Mi")],
    )
    assert pod == {"cpu": 3000, "memory": 2 * GI}


def test_sidecars_run_with_the_containers() -> None:
    pod = requests(containers=[container(cpu="2")], initContainers=[container("Always", cpu="1")])
    assert pod == {"cpu": 3000}


def test_an_init_container_runs_beside_the_sidecars_before_it_only() -> None:
    sidecar, init = container("Always", cpu="2"), container(cpu="5")
    assert requests(containers=[container(cpu="1")], initContainers=[sidecar, init]) == {"cpu": 7000}
    assert requests(containers=[container(cpu="1")], initContainers=[init, sidecar]) == {"cpu": 5000}


def test_the_example_of_the_sidecar_enhancement() -> None:
    """Several sidecars between init containers: max(sum of all that stays, each init container with the sidecars before)."""
    pod = requests(
        containers=[container(cpu="1"), container(cpu="1")],
        initContainers=[
            container(cpu="5"),
            container("Always", cpu="1"),
            container(cpu="6"),
            container("Always", cpu="2"),
            container(cpu="3"),
        ],
    )
    # At work: 1+1+1+2 = 5. While starting: 5, 1, 1+6, 1+2, 1+2+3.
    assert pod == {"cpu": 7000}


def test_other_restart_policies_make_no_sidecar() -> None:
    pod = requests(containers=[container(cpu="2")], initContainers=[container("Never", cpu="1")])
    assert pod == {"cpu": 2000}


def test_a_limit_stands_in_for_a_missing_request() -> None:
    pod = requests(containers=[container(limits={"nvidia.com/gpu": "8", "cpu": "4"}, cpu="2")])
    assert pod == {"nvidia.com/gpu": 8, "cpu": 2000}


def test_overhead_comes_on_top() -> None:
    pod = requests(containers=[container(cpu="1")], overhead={"cpu": "250m", "memory": "120Mi"})
    assert pod == {"cpu": 1250, "memory": 120 * MI}


def test_pod_level_requests_replace_the_sum() -> None:
    pod = requests(
        containers=[container(cpu="1", memory="1Gi"), container(cpu="1")],
        resources={"requests": {"cpu": "5", "hugepages-2Mi": "4Mi"}},
        overhead={"cpu": "1"},
    )
    assert pod == {"cpu": 6000, "memory": GI, "hugepages-2Mi": 4 * MI}


def test_pod_level_limits_stand_in_where_no_container_asks() -> None:
    pod = requests(containers=[container(cpu="1")], resources={"limits": {"cpu": "8", "memory": "2Gi"}})
    assert pod == {"cpu": 1000, "memory": 2 * GI}


def test_pod_level_hugepages_limits_replace_what_containers_ask() -> None:
    pod = requests(
        containers=[container(limits={"hugepages-2Mi": "2Mi"}, cpu="1")], resources={"limits": {"hugepages-2Mi": "6Mi"}}
    )
    assert pod == {"cpu": 1000, "hugepages-2Mi": 6 * MI}


def test_pod_level_resources_know_no_devices() -> None:
    pod = requests(containers=[container(limits={"nvidia.com/gpu": "2"})], resources={"requests": {"nvidia.com/gpu": "1"}})
    assert pod == {"nvidia.com/gpu": 2}


def test_fractions_round_up() -> None:
    assert requests(containers=[container(cpu="1n", memory="100m")]) == {"cpu": 1, "memory": 1}


def test_a_pod_that_asks_for_nothing() -> None:
    assert requests(containers=[{"name": "c"}]) == {}
    assert requests() == {}


def test_the_error_names_the_field() -> None:
    with pytest.raises(InvalidQuantity) as caught:
        requests(containers=[container(cpu="1"), container(memory="much")])
    assert caught.value.field == "spec.template.spec.containers[1].resources.requests[memory]"
    assert "'much'" in str(caught.value)


def test_thousands_of_containers_take_no_more_than_their_number() -> None:
    """Whoever may create a Job may write as many as fit into its size; looking at each against all others took a minute."""
    sidecars = [container("Always", None, **{f"example.com/a{number}": "1"}) for number in range(5000)]
    began = process_time()
    pod = requests(initContainers=[*sidecars, *[container(cpu="1")] * 5000])
    assert process_time() - began < 5
    assert pod["cpu"] == 1000
    assert len(pod) == 5001
