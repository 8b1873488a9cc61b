"""Servers before Kubernetes 1.36: the component's rules, and a controller that clears what these servers keep.

The real programs are told to be of an older version. They then serve no MutatingAdmissionPolicy, compile CEL as that version
did, and their Job controller leaves the startTime of a suspended Job where it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from aiqueue.admission.controller.actor import Again
from aiqueue.admission.controller.facts import Result
from aiqueue.admission.controller.term import Term
from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.store.actions import Action
from fix_managed import JOBS, QUEUE, RUN, USER, WAIT_SECONDS, Actor, await_right, job, overlay
from fix_terms import Observer
from fix_workbench import Bench, lay_out, result

pytestmark = pytest.mark.e2e

#: The oldest that the programs agree to be.
EMULATED = "1.33"
NAMESPACE, ACCOUNT = "aiqueue-system", "aiqueue-controller"
OWN_SELECTOR = {"kubernetes.io/os": "linux"}
OWN = {"nodeSelector": OWN_SELECTOR, "tolerations": [{"key": "mine", "operator": "Exists"}]}
CONTROLLER = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"


@pytest.fixture(scope="module")
def old_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    """A cluster of an older version with the dev overlay, adapted by the component, and alice who edits everywhere."""
    folder = tmp_path_factory.mktemp("old")
    made = overlay(folder / "overlay", base="dev", components=("before-1.36",))
    with DevCluster.create(folder / "cluster", name="old", emulated=EMULATED) as cluster:
        cluster.kubectl("apply", f"--kustomize={made}")
        cluster.kubectl("create", "clusterrolebinding", "alice", "--clusterrole=edit", "--user=alice")
        await_right(cluster, "alice")
        cluster.add_node(
            "node-1", cpu_millicores=8000, memory_bytes=32 * 2**30, labels={"pool": "h100", "kubernetes.io/os": "linux"}
        )
        probe = job("default", "probe", labels={QUEUE: "probe"})
        until(
            lambda: cluster.api.ask("POST", f"{JOBS.format('default')}?dryRun=All", probe).status != 201,
            seconds=WAIT_SECONDS,
            what="the policies to be in force",
        )
        yield cluster


@pytest.fixture(scope="module")
def old_alice(old_cluster: DevCluster) -> Actor:
    return Actor(old_cluster, old_cluster.user_kubeconfig("alice"), "alice")


@pytest.fixture(scope="module")
def old_admin(old_cluster: DevCluster) -> Actor:
    return Actor(old_cluster, old_cluster.kubeconfig, "aiqueue-dev:admin")


@pytest.fixture(scope="module")
def old_controller(old_cluster: DevCluster) -> Actor:
    return Actor(old_cluster, old_cluster.service_account_kubeconfig(NAMESPACE, ACCOUNT), CONTROLLER)


@pytest.fixture
def somewhere(old_cluster: DevCluster) -> str:
    """A namespace of its own."""
    name = f"old-{secrets.token_hex(4)}"
    old_cluster.kubectl("create", "namespace", name)
    account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
    until(lambda: old_cluster.api.is_ok(account), seconds=WAIT_SECONDS, what=f"the service account of {name}")
    return name


class TestPolicies:
    def test_server_has_no_mutating_policies(self, old_cluster: DevCluster) -> None:
        kinds = [each["kind"] for each in old_cluster.api.call("GET", "/apis/admissionregistration.k8s.io/v1")["resources"]]
        assert "ValidatingAdmissionPolicy" in kinds
        assert "MutatingAdmissionPolicy" not in kinds

    def test_policies_type_check(self, old_cluster: DevCluster) -> None:
        path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"

        def checked() -> list[dict[str, Any]] | None:
            found = [each.get("status", {}).get("typeChecking") for each in old_cluster.api.call("GET", path)["items"]]
            return found if None not in found else None

        results = until(checked, seconds=WAIT_SECONDS, what="the type check of the policies")
        assert results == [{}] * 6

    @pytest.mark.parametrize("suspend", [None, False])
    def test_labelled_job_must_come_suspended(
        self, somewhere: str, old_alice: Actor, old_admin: Actor, suspend: bool | None
    ) -> None:
        asked = job(somewhere, "train", labels={QUEUE: "gpus"})
        if suspend is not None:
            asked["spec"]["suspend"] = suspend
        for who in (old_alice, old_admin):
            assert who.creation_refused(asked) == (
                f"Job {somewhere}/train asks for queue gpus but is not suspended: write `suspend: true` under its spec, and "
                "aiqueue starts it when it is admitted (on this version of Kubernetes nobody else can write it)"
            )

    def test_user_is_left_out_or_true(self, somewhere: str, old_alice: Actor, old_admin: Actor) -> None:
        stored = old_alice.create(job(somewhere, "without", labels={QUEUE: "gpus"}, suspend=True))
        assert USER not in stored["metadata"].get("annotations", {})
        named = job(somewhere, "named", labels={QUEUE: "gpus"}, annotations={USER: "alice"}, suspend=True)
        assert old_admin.creation_refused(named) == (
            f"Job {somewhere}/named has the annotation aiqueue.dev/user 'alice' but comes from '{old_admin.user}': leave the "
            "annotation out"
        )
        stored = old_alice.create(named)
        assert stored["metadata"]["annotations"][USER] == "alice"
        for name in ("without", "named"):
            forged = {"metadata": {"annotations": {USER: "bob"}}}
            for who in (old_alice, old_admin):
                assert "may not be changed or removed" in who.refused(job(somewhere, name), forged)

    def test_the_other_rules_hold(self, somewhere: str, old_alice: Actor, old_admin: Actor, old_controller: Actor) -> None:
        stored = old_alice.create(job(somewhere, "train", labels={QUEUE: "gpus"}, suspend=True))
        for who in (old_alice, old_admin):
            assert "only aiqueue may set spec.suspend to false" in who.refused(stored, {"spec": {"suspend": False}})
            assert "are written by aiqueue alone" in who.refused(stored, {"metadata": {"annotations": {RUN: "x"}}})
        start = {"spec": {"suspend": False}, "metadata": {"annotations": {RUN: "ledger/1/1"}}}
        assert old_controller.patch(stored, start)["spec"]["suspend"] is False
        for who in (old_alice, old_admin):
            assert "may not leave it" in who.refused(stored, {"metadata": {"labels": {QUEUE: None}}})
            assert "spec.parallelism may be raised or lowered" in who.refused(stored, {"spec": {"parallelism": 2}})
        foreign = job(somewhere, "foreign", labels={QUEUE: "gpus"}, suspend=True, managedBy="example.com/other")
        assert "spec.managedBy is 'example.com/other'" in old_admin.creation_refused(foreign)
        forged = job(somewhere, "plain", annotations={RUN: "x"})
        assert "has no label aiqueue.dev/queue" in old_alice.creation_refused(forged)
        assert old_alice.create(job(somewhere, "plain"))["spec"]["suspend"] is False

    def test_taking_in_a_suspended_job(self, somewhere: str, old_alice: Actor) -> None:
        label = {"metadata": {"labels": {QUEUE: "gpus"}}}
        waiting = old_alice.create(job(somewhere, "waiting", suspend=True))
        assert old_alice.patch(waiting, label)["metadata"]["labels"][QUEUE] == "gpus"
        running = old_alice.create(job(somewhere, "running"))
        assert "may not be put into queue gpus" in old_alice.refused(running, label)

    def test_controller_may_patch_the_status_of_jobs_and_no_more_of_it(self, old_cluster: DevCluster) -> None:
        listing = old_cluster.kubectl("auth", "can-i", "--list", f"--as={CONTROLLER}", "--no-headers")
        rows = [line.split() for line in listing.splitlines() if "/status" in line]
        assert rows == [["jobs.batch/status", "[]", "[]", "[patch]"]]


@pytest.fixture
def old_bench(
    old_cluster: DevCluster,
    old_controller: Actor,
    somewhere: str,
    *,
    ledger: Engine,
    term: Term,
    observer: Callable[..., Observer],
) -> Iterator[Bench]:
    """A waiting Job `it` with node selector and tolerations of its own, and hands with the controller's service account."""
    client = KubeClient.from_kubeconfig(old_controller.kubeconfig)
    document = job(somewhere, "it", labels={QUEUE: somewhere}, suspend=True)
    document["spec"]["template"]["spec"] |= OWN
    yield lay_out(old_cluster, client, document, ledger=ledger, term=term, observer=observer)
    client.close()


class TestController:
    @staticmethod
    def template(bench: Bench) -> dict[str, Any]:
        path = f"{JOBS.format(bench.namespace)}/it"
        return dict(bench.cluster.api.call("GET", path)["spec"]["template"])

    @staticmethod
    def stop(bench: Bench, unsuspend: Action) -> None:
        """Start the Job, let it run, and suspend it; its startTime stays."""
        assert result(bench.hands(unsuspend)) is Result.DONE
        until(lambda: bench.seen().active > 0, seconds=WAIT_SECONDS, what="the Job to run")
        assert result(bench.hands(bench.evict(unsuspend))) is Result.DONE
        until(lambda: bench.seen().suspended_seen, seconds=WAIT_SECONDS, what="the Suspended condition")
        assert bench.seen().started

    def test_template_comes_back_exactly(self, old_bench: Bench) -> None:
        before = self.template(old_bench)
        unsuspend = old_bench.admit()
        self.stop(old_bench, unsuspend)
        assert self.template(old_bench)["spec"]["nodeSelector"] == {**OWN_SELECTOR, "pool": "h100"}
        answers = old_bench.until_done(old_bench.restoration(unsuspend))
        assert result(answers[-1]) is Result.DONE
        assert self.template(old_bench) == before
        after = old_bench.seen()
        assert (after.started, after.stamp, after.suspended) == (False, None, True)

    def test_job_that_slipped_by_is_started_where_it_was_decided_to_be(self, old_bench: Bench, old_cluster: DevCluster) -> None:
        """It ran before, so that its startTime stands in the way of the node selector."""
        path = f"{JOBS.format(old_bench.namespace)}/it/status"
        status = {"status": {"startTime": "2026-01-01T00:00:00Z"}}
        until(lambda: old_bench.seen().suspended_seen, seconds=WAIT_SECONDS, what="the Suspended condition")
        old_cluster.api.call("PATCH", path, status, content_type="application/merge-patch+json")
        assert result(old_bench.until_done(old_bench.admit())[-1]) is Result.DONE
        assert not old_bench.seen().suspended
        assert self.template(old_bench)["spec"]["nodeSelector"] == {**OWN_SELECTOR, "pool": "h100"}

    def test_without_the_right_it_says_which_component_is_missing(self, old_bench: Bench, old_cluster: DevCluster) -> None:
        unsuspend = old_bench.admit()
        self.stop(old_bench, unsuspend)
        role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/aiqueue-controller"
        with_it = old_cluster.api.call("GET", role)["rules"]
        without = [each for each in with_it if each["resources"] != ["jobs/status"]]
        assert without != with_it
        restoration = old_bench.restoration(unsuspend)
        before = self.template(old_bench)

        def set_rules(rules: list[dict[str, Any]]) -> None:
            old_cluster.api.call("PATCH", role, {"rules": rules}, content_type="application/merge-patch+json")

        def told() -> str | None:
            answer = old_bench.hands(restoration)
            return answer.why if isinstance(answer, Again) and "before-1.36" in answer.why else None

        set_rules(without)
        try:
            sentence = until(told, seconds=WAIT_SECONDS, what="the refusal")
        finally:
            set_rules(with_it)
        assert sentence.startswith(
            f"Job {old_bench.namespace}/it is suspended but keeps its status.startTime, as Jobs do before Kubernetes 1.36, so its "
            "template cannot change, and the controller may not clear it: add the component manifests/components/before-1.36 "
            "to the installation"
        )
        assert self.template(old_bench) == before
        assert result(old_bench.until_done(restoration)[-1]) is Result.DONE
