"""Labels that a Job gets at creation: of its namespace's default queue, and for those that Kueue's labels name."""

from collections.abc import Iterator
from typing import Any

import pytest

from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from fix_managed import CLASS, DEFAULT_QUEUE, JOBS, QUEUE, RUN, USER, WAIT_SECONDS, Actor, job, overlay, pods_of, team_with

pytestmark = pytest.mark.e2e

KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"
KUEUE_CLASS = "kueue.x-k8s.io/priority-class"
UNSUSPEND = {"spec": {"suspend": False}}


@pytest.fixture(params=["alice", "admin"])
def person(request: pytest.FixtureRequest, alice: Actor, admin: Actor) -> Actor:
    return {"alice": alice, "admin": admin}[str(request.param)]


def assert_held(cluster: DevCluster, stored: dict[str, Any], person: Actor, controller: Actor) -> None:
    """It was taken in by the request that created it, and is a managed Job like any other."""
    assert stored["spec"]["suspend"] is True
    assert stored["metadata"]["annotations"][USER] == person.user
    assert "only aiqueue may set spec.suspend to false" in person.refused(stored, UNSUSPEND)
    forged = {"metadata": {"annotations": {RUN: "forged"}}}
    assert "are written by aiqueue alone" in person.refused(stored, forged)
    assert pods_of(cluster, stored) == []
    assert controller.patch(stored, UNSUSPEND)["spec"]["suspend"] is False
    moved = {"metadata": {"labels": {QUEUE: "other"}}}
    assert "is running in queue" in person.refused(stored, moved)


class TestDefaultQueue:
    @team_with(default_queue="gpus")
    def test_job_without_a_queue_gets_it(
        self, team: str, managed_cluster: DevCluster, person: Actor, controller: Actor
    ) -> None:
        stored = person.create(job(team, "train", annotations={USER: "forged"}))
        assert stored["metadata"]["labels"] == {QUEUE: "gpus"}
        assert stored["metadata"]["annotations"] == {USER: person.user}
        assert_held(managed_cluster, stored, person, controller)
        labelled = person.create(job(team, "mine", labels={"other": "kept"}, annotations={"other": "kept"}))
        assert labelled["metadata"]["labels"] == {QUEUE: "gpus", "other": "kept"}
        assert labelled["metadata"]["annotations"] == {USER: person.user, "other": "kept"}

    @team_with(default_queue="gpus", managed="required")
    def test_also_where_a_queue_is_required(
        self, team: str, managed_cluster: DevCluster, person: Actor, controller: Actor
    ) -> None:
        assert_held(managed_cluster, person.create(job(team, "train")), person, controller)

    @team_with(default_queue="gpus")
    def test_what_is_not_for_it_keeps_out(self, team: str, alice: Actor) -> None:
        stored = alice.create(job(team, "chosen", labels={QUEUE: "mine"}))
        assert stored["metadata"]["labels"][QUEUE] == "mine"
        for other in (job(team, "foreign", managedBy="example.com/other"), job(team, "kueue", labels={KUEUE_QUEUE: "a"})):
            stored = alice.create(other)
            assert QUEUE not in stored["metadata"].get("labels", {})
            assert stored["spec"]["suspend"] is False
            assert "annotations" not in stored["metadata"]
        own = alice.create(job(team, "own", managedBy="kubernetes.io/job-controller"))
        assert own["metadata"]["labels"] == {QUEUE: "gpus"}

    @team_with(default_queue="")
    def test_an_empty_one_is_none(self, team: str, alice: Actor) -> None:
        stored = alice.create(job(team, "plain"))
        assert stored["spec"]["suspend"] is False
        assert QUEUE not in stored["metadata"]["labels"]

    def test_off_by_default_and_only_at_creation(self, team: str, managed_cluster: DevCluster, alice: Actor) -> None:
        evaluated = "apiserver_mutating_admission_policy_check_total"
        before = self.counted(managed_cluster, evaluated)
        stored = alice.create(job(team, "plain"))
        assert stored["spec"]["suspend"] is False
        assert QUEUE not in stored["metadata"]["labels"]
        assert self.counted(managed_cluster, evaluated) == before
        managed_cluster.kubectl("label", "namespace", team, f"{DEFAULT_QUEUE}=gpus")
        probe = f"{JOBS.format(team)}?dryRun=All"

        def labelled() -> bool:
            made = managed_cluster.api.call("POST", probe, job(team, "probe"))
            return bool(made["metadata"].get("labels") == {QUEUE: "gpus"})

        until(labelled, seconds=WAIT_SECONDS, what="the namespace's label to count")
        stored = alice.patch(stored, {"metadata": {"annotations": {"edited": "yes"}}})
        assert QUEUE not in stored["metadata"]["labels"]

    @staticmethod
    def counted(cluster: DevCluster, name: str) -> list[str]:
        """Samples of a metric of the API server about the policy."""
        lines = cluster.api.ask("GET", "/metrics").body.decode().splitlines()
        return [line for line in lines if line.startswith(name) and 'policy="aiqueue-default-queue"' in line]


class TestKueueLabels:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def component(cls, managed_cluster: DevCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """The component in force, and out of force afterwards."""
        made = overlay(tmp_path_factory.mktemp("kueue") / "overlay", components=("kueue-labels",))
        probe = job("default", "probe", labels={KUEUE_QUEUE: "gpus"})

        def in_force() -> bool:
            made = managed_cluster.api.call("POST", f"{JOBS.format('default')}?dryRun=All", probe)
            return QUEUE in made["metadata"]["labels"]

        assert not in_force()
        managed_cluster.kubectl("apply", f"--kustomize={made}")
        until(in_force, seconds=WAIT_SECONDS, what="the component to be in force")
        yield
        managed_cluster.kubectl("delete", f"--kustomize={made}")
        until(lambda: not in_force(), seconds=WAIT_SECONDS, what="the end of the component")

    def test_job_of_kueue_is_taken_in(self, team: str, managed_cluster: DevCluster, person: Actor, controller: Actor) -> None:
        theirs = {KUEUE_QUEUE: "gpus", KUEUE_CLASS: "urgent"}
        stored = person.create(job(team, "train", labels=theirs, annotations={USER: "forged"}))
        assert stored["metadata"]["labels"] == {**theirs, QUEUE: "gpus", CLASS: "urgent"}
        assert_held(managed_cluster, stored, person, controller)
        plain = person.create(job(team, "suspended", labels={KUEUE_QUEUE: "gpus"}, suspend=True))
        assert plain["metadata"]["labels"] == {KUEUE_QUEUE: "gpus", QUEUE: "gpus"}

    def test_our_own_labels_win(self, team: str, alice: Actor) -> None:
        theirs = {KUEUE_QUEUE: "theirs", KUEUE_CLASS: "urgent"}
        stored = alice.create(job(team, "both", labels={**theirs, QUEUE: "ours"}))
        assert stored["metadata"]["labels"] == {**theirs, QUEUE: "ours"}
        stored = alice.create(job(team, "class", labels={**theirs, CLASS: "normal"}))
        assert stored["metadata"]["labels"] == {**theirs, QUEUE: "theirs", CLASS: "normal"}

    def test_foreign_managed_by_is_refused(self, team: str, alice: Actor) -> None:
        asked = job(team, "train", labels={KUEUE_QUEUE: "gpus"}, managedBy="example.com/other")
        assert "spec.managedBy is 'example.com/other'" in alice.creation_refused(asked)

    @team_with(default_queue="cpus", managed="required")
    def test_it_goes_before_the_default_queue(self, team: str, alice: Actor) -> None:
        assert alice.create(job(team, "train", labels={KUEUE_QUEUE: "gpus"}))["metadata"]["labels"][QUEUE] == "gpus"

    def test_other_jobs_are_left_alone(self, team: str, alice: Actor) -> None:
        for labels in ({KUEUE_CLASS: "urgent"}, {KUEUE_QUEUE: ""}):
            stored = alice.create(job(team, f"plain-{len(labels[next(iter(labels))])}", labels=labels))
            assert (stored["spec"]["suspend"], stored["metadata"]["labels"]) == (False, labels)
