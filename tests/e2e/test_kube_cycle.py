"""A Job is started, stopped and given its own template back, on a real control plane."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiqueue.admission.kube import errors, jobs, names, patches, templates
from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import Flavor, Toleration
from fix_kube import WAIT_SECONDS, create_jobs, job_document

pytestmark = pytest.mark.e2e

STAMP = RunStamp("0f8fad5b-d9cb-469f-a165-70867728950e", 12, 1)
OWN_TOLERATIONS = [
    {"key": "team", "value": "a", "effect": "NoSchedule"},  # the operator is left out, and must stay so
    {"key": "slow", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30},
]


def template(cluster: DevCluster, namespace: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(cluster.kubectl("get", "job", "a", f"-n={namespace}", "-o=json"))
    content: dict[str, Any] = stored["spec"]["template"]
    return content


def look(kube: KubeClient, namespace: str) -> Observation:
    job = kube.get_job(namespace, "a")
    assert job is not None
    return jobs.observe(job, cluster="default")


def flavor(cluster: DevCluster, namespace: str) -> Flavor:
    """A flavor with a node of its own, tainted."""
    cluster.add_node(f"node-{namespace}", cpu_millicores=4000, memory_bytes=2**30, labels={"example.com/kind": namespace})
    cluster.kubectl("taint", "node", f"node-{namespace}", "example.com/kind=only:NoSchedule")
    return Flavor(
        "only",
        node_labels={"example.com/kind": namespace},
        tolerations=(Toleration("example.com/kind", "Exists", effect="NoSchedule"),),
    )


def unsuspend(observation: Observation, only: Flavor, original: dict[str, Any]) -> patches.Patch:
    own = [templates.toleration_from_wire(each) for each in original["tolerations"]]
    return patches.unsuspend(
        observation.uid,
        observation.resource_version,
        STAMP,
        patches.node_labels((only,)),
        templates.union(own, only.tolerations),
    )


@pytest.mark.parametrize("own", [{}, {"nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": OWN_TOLERATIONS}])
def test_a_job_runs_and_gets_its_template_back(
    cluster: DevCluster, kube: KubeClient, kube_namespace: str, own: dict[str, Any]
) -> None:
    only = flavor(cluster, kube_namespace)
    create_jobs(cluster, job_document(kube_namespace, "a", pod=own, parallelism=2, completions=2))
    before = template(cluster, kube_namespace)
    waiting = kube.get_job(kube_namespace, "a")
    assert waiting is not None
    original = jobs.template_of(waiting)
    assert original == {"nodeSelector": {}, "tolerations": [], "parallelism": 2} | own
    kube.patch_job(kube_namespace, "a", unsuspend(look(kube, kube_namespace), only, original))

    def runs() -> bool:
        now = look(kube, kube_namespace)
        return now.running and now.ready == 2 and now.stamp == STAMP

    until(runs, seconds=WAIT_SECONDS, what="two ready pods")
    running = look(kube, kube_namespace)
    assert [pod.spec.node_name for pod in kube.pods_of(running.uid, kube_namespace)] == [f"node-{kube_namespace}"] * 2
    assert dict(running.pod_sets[0].node_selector) == own.get("nodeSelector", {}) | dict(only.node_labels)

    def suspend() -> bool:
        last = look(kube, kube_namespace)
        try:
            kube.patch_job(kube_namespace, "a", patches.suspend(last.uid, last.resource_version, STAMP))
        except errors.Conflict:
            return False  # its controller wrote the status in between: look again
        return True

    until(suspend, seconds=WAIT_SECONDS, what="the suspend")

    def stopped() -> bool:
        job = kube.get_job(kube_namespace, "a")
        assert job is not None
        now = jobs.observe(job, cluster="default")
        quiet = now.suspended_seen and now.active == 0 and now.terminating == 0 and job.status.start_time is None
        return quiet and not any(pod.alive for pod in kube.pods_of(now.uid, kube_namespace))

    until(stopped, seconds=WAIT_SECONDS, what="the stop")
    last = look(kube, kube_namespace)
    restored = kube.patch_job(
        kube_namespace,
        "a",
        patches.restore(
            last.uid,
            last.resource_version,
            dict.fromkeys(only.node_labels) | original["nodeSelector"],
            [templates.toleration_from_wire(each) for each in original["tolerations"]],
        ),
    )
    assert template(cluster, kube_namespace) == before
    observation = jobs.observe(restored, cluster="default")
    assert (observation.stamp, observation.foreign_stamp, observation.suspended) == (None, None, True)


def test_an_unsuspend_decided_on_an_older_version_is_refused(
    cluster: DevCluster, kube: KubeClient, kube_namespace: str
) -> None:
    create_jobs(cluster, job_document(kube_namespace, "a"))
    until(lambda: look(kube, kube_namespace).suspended_seen, seconds=WAIT_SECONDS, what="the Suspended condition")
    decided = look(kube, kube_namespace)
    late = patches.unsuspend(decided.uid, decided.resource_version, STAMP, {}, None)
    # The Job is suspended already: that the stamp is written is what makes the late unsuspend miss.
    kube.patch_job(kube_namespace, "a", patches.suspend(decided.uid, decided.resource_version, STAMP))
    with pytest.raises(errors.Conflict) as caught:
        kube.patch_job(kube_namespace, "a", late)
    assert caught.value.status == 409
    assert look(kube, kube_namespace).suspended


def test_an_unsuspend_of_another_job_of_the_same_name_is_refused(
    cluster: DevCluster, kube: KubeClient, kube_namespace: str
) -> None:
    create_jobs(cluster, job_document(kube_namespace, "a"))
    decided = look(kube, kube_namespace)
    cluster.kubectl("delete", "job", "a", f"-n={kube_namespace}", "--wait")
    with pytest.raises(errors.NotFound):
        kube.patch_job(kube_namespace, "a", patches.unsuspend(decided.uid, decided.resource_version, STAMP, {}, None))
    create_jobs(cluster, job_document(kube_namespace, "a"))
    with pytest.raises(errors.Conflict) as caught:
        kube.patch_job(kube_namespace, "a", patches.unsuspend(decided.uid, decided.resource_version, STAMP, {}, None))
    assert caught.value.status == 409
    until(lambda: look(kube, kube_namespace).suspended_seen, seconds=WAIT_SECONDS, what="the Suspended condition")
    now = look(kube, kube_namespace)
    # Cannot come about by itself: a version belongs to one object. The API server says "immutable"; it means the same.
    with pytest.raises(errors.Conflict, match=r"metadata\.uid"):
        kube.patch_job(kube_namespace, "a", patches.unsuspend(decided.uid, now.resource_version, STAMP, {}, None))
    assert look(kube, kube_namespace).suspended
    kube.patch_job(kube_namespace, "a", patches.unsuspend(now.uid, now.resource_version, STAMP, {}, None))


def test_notice_is_written_and_taken_off_with_the_run(cluster: DevCluster, kube: KubeClient, kube_namespace: str) -> None:
    create_jobs(cluster, job_document(kube_namespace, "a"))
    until(lambda: look(kube, kube_namespace).suspended_seen, seconds=WAIT_SECONDS, what="the Suspended condition")
    now = look(kube, kube_namespace)
    told = kube.patch_job(kube_namespace, "a", patches.announce(now.uid, now.resource_version, now.created_at))
    assert told.metadata.annotations is not None
    assert told.metadata.annotations.evict_at == now.created_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    version = told.metadata.resource_version
    after = kube.patch_job(kube_namespace, "a", patches.restore(now.uid, version, {}, None))
    assert after.metadata.annotations is None or after.metadata.annotations.evict_at is None
    assert names.EVICT_AT_ANNOTATION not in cluster.kubectl("get", "job", "a", f"-n={kube_namespace}", "-o=yaml")
