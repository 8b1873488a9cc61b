"""What the policies must leave alone: other people's Jobs, Kubernetes' own controllers, deletion; and how they fail."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from aiqueue.cli.harness import manifests
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from fix_managed import QUEUE, RUN, USER, WAIT_SECONDS, Actor, job, pods_of, said, team_with

pytestmark = pytest.mark.e2e

UNSUSPEND = {"spec": {"suspend": False}}
CRONJOB_CONTROLLER = "system:serviceaccount:kube-system:cronjob-controller"
CONFIG_MAP = ("configmap", "aiqueue-policy", f"--namespace={manifests.NAMESPACE}")
NO_PARAMETERS = "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"


def condition(content: dict[str, Any], kind: str) -> bool:
    """Whether a condition of the Job is True."""
    conditions = content.get("status", {}).get("conditions", [])
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)


def await_condition(who: Actor, content: dict[str, Any], kind: str) -> None:
    name = content["metadata"]["name"]
    until(lambda: condition(who.get(content), kind), seconds=WAIT_SECONDS, what=f"condition {kind} of Job {name}")


def await_gone(who: Actor, content: dict[str, Any]) -> None:
    name, namespace = content["metadata"]["name"], content["metadata"]["namespace"]
    find = ("get", "job", name, f"--namespace={namespace}", "--ignore-not-found", "--output=name")
    until(lambda: not who.kubectl(*find), seconds=WAIT_SECONDS, what=f"the end of Job {name}")


def running_job(team: str, alice: Actor, controller: Actor, name: str = "train", **spec: Any) -> dict[str, Any]:
    """A labelled Job that was admitted and whose pod runs."""
    stored = alice.create(job(team, name, labels={QUEUE: "gpus"}, **spec))
    controller.patch(stored, {**UNSUSPEND, "metadata": {"annotations": {RUN: "ledger/1/1"}}})
    until(lambda: alice.get(stored)["status"].get("ready") == 1, seconds=WAIT_SECONDS, what=f"the pod of Job {name}")
    return stored


def cron_job(team: str, name: str) -> dict[str, Any]:
    """A CronJob that makes labelled Jobs, at the full hour."""
    template = job(team, name, labels={QUEUE: "gpus"}, annotations={USER: "forged"})
    made = {"metadata": {key: template["metadata"][key] for key in ("labels", "annotations")}, "spec": template["spec"]}
    spec = {"schedule": "0 * * * *", "jobTemplate": made}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name, "namespace": team}, "spec": spec}


class TestUnmanagedJobs:
    def test_stored_exactly_as_without_policies(self, managed_cluster: DevCluster, cluster: DevCluster) -> None:
        """Compared with a server that has no policies, for a Job whose stored form depends on nothing random."""
        asked = job("default", "plain", parallelism=2, manualSelector=True, selector={"matchLabels": {"app": "plain"}})
        asked["spec"]["template"]["metadata"]["labels"] = {"app": "plain"}
        asked["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
        path = "/apis/batch/v1/namespaces/default/jobs?dryRun=All"
        without = cluster.api.call("POST", path, asked)
        stored = managed_cluster.api.call("POST", path, asked)
        assert stored["spec"] == without["spec"]
        for key in ("labels", "annotations", "finalizers"):
            assert stored["metadata"].get(key) == without["metadata"].get(key)

    def test_owner_suspends_and_unsuspends_freely(self, team: str, alice: Actor) -> None:
        stored = alice.create(job(team, "plain"))
        assert stored["spec"]["suspend"] is False
        for value in (True, False, True):
            assert alice.patch(stored, {"spec": {"suspend": value}})["spec"]["suspend"] is value

    def test_every_other_edit_is_free(self, team: str, alice: Actor) -> None:
        stored = alice.create(job(team, "plain", suspend=True, managedBy="example.com/other"))
        change = {"metadata": {"labels": {"a": "b"}, "annotations": {"aiqueue.dev/hold": "true"}}, "spec": {"parallelism": 3}}
        assert alice.patch(stored, change)["metadata"]["annotations"] == {"aiqueue.dev/hold": "true"}


class TestControllersOfKubernetes:
    def test_no_pod_of_a_held_job_appears(self, team: str, managed_cluster: DevCluster, alice: Actor) -> None:
        """An unlabelled Job created later runs to its end, so the Job controller has had its turn with the first."""
        held = alice.create(job(team, "train", labels={QUEUE: "gpus"}, suspend=False))
        await_condition(alice, held, "Suspended")
        plain = alice.create(job(team, "plain", runtime="100ms"))
        await_condition(alice, plain, "Complete")
        assert len(pods_of(managed_cluster, plain)) == 1
        assert pods_of(managed_cluster, held) == []

    def test_admitted_job_runs_to_its_end_and_is_cleared_away(self, team: str, alice: Actor, controller: Actor) -> None:
        """The clean-up of finished Jobs deletes in the foreground: a finalizer comes and goes."""
        stored = alice.create(job(team, "train", labels={QUEUE: "gpus"}, runtime="100ms", ttlSecondsAfterFinished=0))
        controller.patch(stored, UNSUSPEND)
        await_gone(alice, stored)

    def test_suspending_an_admitted_job_takes_its_pods(
        self, team: str, managed_cluster: DevCluster, alice: Actor, controller: Actor
    ) -> None:
        stored = running_job(team, alice, controller)
        controller.patch(stored, {"spec": {"suspend": True}})
        until(lambda: not pods_of(managed_cluster, stored), seconds=WAIT_SECONDS, what="the end of the pods")
        await_condition(alice, stored, "Suspended")

    def test_jobs_of_a_cronjob_are_taken_in(self, team: str, managed_cluster: DevCluster, alice: Actor) -> None:
        alice.create(cron_job(team, "nightly"))
        # A missed hour is made up for at once.
        missed = '{"status": {"lastScheduleTime": "2026-01-01T00:00:00Z"}}'
        where = ("cronjob", "nightly", f"--namespace={team}", "--subresource=status", "--type=merge")
        managed_cluster.kubectl("patch", *where, f"--patch={missed}")

        def jobs() -> list[dict[str, Any]]:
            items = json.loads(alice.kubectl("get", "jobs", f"--namespace={team}", "--output=json"))["items"]
            assert isinstance(items, list)
            return items

        (made,) = until(jobs, seconds=WAIT_SECONDS, what="the Job of the CronJob")
        assert made["metadata"]["ownerReferences"][0]["kind"] == "CronJob"
        assert made["spec"]["suspend"] is True
        assert made["metadata"]["annotations"][USER] == CRONJOB_CONTROLLER
        await_condition(alice, made, "Suspended")
        assert pods_of(managed_cluster, made) == []


class TestDeletion:
    @pytest.mark.parametrize("cascade", ["background", "foreground", "orphan"])
    @pytest.mark.parametrize("admitted", [False, True], ids=["waiting", "running"])
    def test_owner_deletes(self, team: str, alice: Actor, controller: Actor, cascade: str, admitted: bool) -> None:
        waiting = job(team, "train", labels={QUEUE: "gpus"})
        stored = running_job(team, alice, controller) if admitted else alice.create(waiting)
        alice.kubectl("delete", "job", "train", f"--namespace={team}", f"--cascade={cascade}", "--wait=false")
        await_gone(alice, stored)

    def test_finalizer_leaves_a_job_that_is_being_deleted(self, team: str, alice: Actor, controller: Actor) -> None:
        """Nor does being deleted open a way round the rules."""
        stored = running_job(team, alice, controller)
        alice.patch(stored, {"metadata": {"finalizers": ["example.com/wait"]}})
        alice.kubectl("delete", "job", "train", f"--namespace={team}", "--wait=false")
        assert alice.get(stored)["metadata"]["deletionTimestamp"]
        alice.patch(stored, {"spec": {"suspend": True}})
        assert "only aiqueue may set spec.suspend to false" in alice.refused(stored, UNSUSPEND)
        alice.patch(stored, {"metadata": {"finalizers": None}})
        await_gone(alice, stored)

    def test_owner_references_come_and_go(self, team: str, alice: Actor, controller: Actor) -> None:
        """An owner deleted alone has the garbage collector take its reference off the running Job; deleted whole, the Job goes."""
        owners = [alice.create(cron_job(team, name)) for name in ("first", "second")]
        stored = running_job(team, alice, controller)
        references = [
            {"apiVersion": "batch/v1", "kind": "CronJob", "name": each["metadata"]["name"], "uid": each["metadata"]["uid"]}
            for each in owners
        ]
        alice.patch(stored, {"metadata": {"ownerReferences": references}})
        delete = ("delete", "cronjob", f"--namespace={team}", "--timeout=110s")
        alice.kubectl(*delete, "first", "--cascade=orphan")
        left = alice.get(stored)["metadata"]["ownerReferences"]
        assert [each["name"] for each in left] == ["second"]
        alice.kubectl(*delete, "second", "--cascade=foreground")
        await_gone(alice, stored)

    @team_with(managed="required", default_queue="gpus")
    def test_namespace_goes_with_its_jobs(
        self, team: str, managed_cluster: DevCluster, alice: Actor, controller: Actor
    ) -> None:
        running_job(team, alice, controller)
        alice.create(job(team, "waiting", labels={QUEUE: "gpus"}))
        managed_cluster.kubectl("delete", "namespace", team, "--timeout=110s")


def foreign_policy(expression: str, *, reinvocation: str) -> list[dict[str, Any]]:
    """Somebody else's mutating policy for new Jobs with the label `mutate`; the server runs policies in any order."""
    head = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "zz-foreign"}}
    rule = {"apiGroups": ["batch"], "apiVersions": ["v1"], "resources": ["jobs"], "operations": ["CREATE"]}
    spec = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": reinvocation,
        "matchConstraints": {"objectSelector": {"matchLabels": {"mutate": "yes"}}, "resourceRules": [rule]},
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
    }
    return [
        {**head, "kind": "MutatingAdmissionPolicy", "spec": spec},
        {**head, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": "zz-foreign"}},
    ]


@pytest.fixture(scope="class")
def foreign(request: pytest.FixtureRequest, managed_cluster: DevCluster) -> Iterator[None]:
    """Put the policy (expression, reinvocation) in force, and out of force afterwards."""
    expression, reinvocation = request.param
    objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": foreign_policy(expression, reinvocation=reinvocation)})
    asked = job("default", "probe", labels={"mutate": "yes"}, suspend=True)

    def in_force() -> bool:
        answer = managed_cluster.api.ask("POST", "/apis/batch/v1/namespaces/default/jobs?dryRun=All", asked)
        if answer.status != 201:
            return True
        made = answer.json()
        return QUEUE in made["metadata"]["labels"] or not made["spec"]["suspend"]

    managed_cluster.kubectl("apply", "--filename=-", stdin=objects)
    until(in_force, seconds=WAIT_SECONDS, what="the foreign policy")
    yield
    managed_cluster.kubectl("delete", "--filename=-", stdin=objects)
    until(lambda: not in_force(), seconds=WAIT_SECONDS, what="the end of the foreign policy")


class TestForeignMutations:
    """Other people's mutations of a Job do not carry it past ours."""

    ADDS_LABEL = "Object{metadata: Object.metadata{labels: {'aiqueue.dev/queue': 'gpus'}}}"
    UNSUSPENDS = "Object{spec: Object.spec{suspend: false}}"

    @pytest.mark.parametrize("foreign", [(ADDS_LABEL, "Never"), (ADDS_LABEL, "IfNeeded")], indirect=True)
    @pytest.mark.parametrize("suspend", [False, True])
    @pytest.mark.usefixtures("foreign")
    def test_label_added_behind_our_back_is_refused(self, team: str, alice: Actor, suspend: bool) -> None:
        asked = job(team, "train", labels={"mutate": "yes"}, suspend=suspend)
        assert "was not suspended and stamped by aiqueue" in alice.creation_refused(asked)

    @pytest.mark.parametrize("foreign", [(UNSUSPENDS, "Never")], indirect=True)
    @pytest.mark.usefixtures("foreign")
    def test_mutation_undone_is_done_again(self, team: str, alice: Actor) -> None:
        stored = alice.create(job(team, "train", labels={"mutate": "yes", QUEUE: "gpus"}))
        assert stored["spec"]["suspend"] is True

    @pytest.mark.parametrize("foreign", [(UNSUSPENDS, "IfNeeded")], indirect=True)
    @pytest.mark.usefixtures("foreign")
    def test_mutation_undone_to_the_end_is_never_stored(self, team: str, alice: Actor) -> None:
        """Who has the last word is up to the server; where it is the other one, the Job is refused."""
        try:
            stored = alice.create(job(team, "train", labels={"mutate": "yes", QUEUE: "gpus"}))
            outcome = f"stored with suspend {stored['spec']['suspend']}"
        except HarnessError as error:
            outcome = said(error)
        assert outcome == "stored with suspend True" or "was not suspended and stamped by aiqueue" in outcome


class TestParameters:
    @pytest.fixture
    def stored(self, team: str, alice: Actor) -> dict[str, Any]:
        """A labelled Job from before the trouble; another beside it has a finalizer to be taken off."""
        finalized = alice.create(job(team, "finalized", labels={QUEUE: "gpus"}))
        alice.patch(finalized, {"metadata": {"finalizers": ["foregroundDeletion"]}})
        return alice.create(job(team, "train", labels={QUEUE: "gpus"}))

    @pytest.fixture
    def restored(self, managed_cluster: DevCluster) -> Iterator[None]:
        """Whatever the test does to the parameters, the next one finds them in order."""
        yield
        manifests.apply_dev(managed_cluster)

    @staticmethod
    def await_answer(who: Actor, team: str, fragment: str) -> None:
        """Wait until the API server's copy of the parameters is the changed one."""

        def refused() -> bool:
            try:
                who.create(job(team, "probe", labels={QUEUE: "gpus"}), "--dry-run=server")
            except HarnessError as error:
                return fragment in str(error)
            return False

        until(refused, seconds=WAIT_SECONDS, what=f"the refusal {fragment!r}")

    @team_with(managed="required")
    @pytest.mark.usefixtures("restored")
    def test_missing_parameters_stop_only_what_needs_them(
        self, team: str, stored: dict[str, Any], admin: Actor, alice: Actor, controller: Actor
    ) -> None:
        """Labelled Jobs, and pods where a queue is required. All other namespaces, and unlabelled Jobs, go on."""
        admin.kubectl("delete", *CONFIG_MAP)
        self.await_answer(alice, team, NO_PARAMETERS)
        for who in (alice, admin):
            with pytest.raises(HarnessError) as refusal:
                who.create(job(team, "other", labels={QUEUE: "gpus"}))
            assert "ValidatingAdmissionPolicy 'aiqueue-managed-jobs'" in str(refusal.value)
            assert said(refusal.value) == NO_PARAMETERS
        assert controller.refused(stored, UNSUSPEND) == NO_PARAMETERS
        pod = {"containers": [{"name": "main", "image": "registry.example/main:1"}]}
        assert (
            alice.creation_refused(
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "plain", "namespace": team}, "spec": pod}
            )
            == NO_PARAMETERS
        )

        plain = admin.create(job("default", "plain-without-parameters", runtime="100ms"))
        admin.patch(plain, {"spec": {"suspend": True}})
        admin.patch(plain, UNSUSPEND)
        await_condition(admin, plain, "Complete")
        assert "written by aiqueue alone" in admin.refused(plain, {"metadata": {"annotations": {RUN: "forged"}}})

        # A deletion that needs a finalizer taken off waits, and the garbage collector ends it once the parameters are back.
        alice.kubectl("delete", "job", "train", f"--namespace={team}", "--cascade=background", "--wait=false")
        await_gone(alice, stored)
        alice.kubectl("delete", "job", "finalized", f"--namespace={team}", "--cascade=foreground", "--wait=false")
        assert alice.refused(job(team, "finalized"), {"metadata": {"finalizers": None}}) == NO_PARAMETERS
        manifests.apply_dev(admin.cluster)
        await_gone(alice, job(team, "finalized"))

    @pytest.mark.parametrize("data", [{"controllerUser": None}, {"controllerUser": ""}])
    @pytest.mark.usefixtures("restored")
    def test_unnamed_controller_is_nobody(
        self, team: str, stored: dict[str, Any], admin: Actor, controller: Actor, data: dict[str, Any]
    ) -> None:
        admin.kubectl("patch", *CONFIG_MAP, "--type=merge", f"--patch={json.dumps({'data': data})}")
        sentence = (
            "ConfigMap aiqueue-system/aiqueue-policy has no controllerUser: set it to the user name of the aiqueue controller"
        )
        self.await_answer(admin, team, sentence)
        for who in (admin, controller):
            assert who.refused(stored, UNSUSPEND) == sentence
