"""The rules of a managed Job, as the API server enforces them on its owner, on administrators and on the controller."""

import json
from typing import Any

import pytest

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from fix_managed import CLASS, EVICT_AT, QUEUE, RUN, USER, WAIT_SECONDS, Actor, job, said

pytestmark = pytest.mark.e2e

SUSPEND = {"spec": {"suspend": True}}
UNSUSPEND = {"spec": {"suspend": False}}
ONLY_WE_UNSUSPEND = (
    "Job {team}/{name} is managed by aiqueue through queue {queue}: only aiqueue may set spec.suspend to false; leave it "
    "suspended and it starts when it is admitted, or first remove the label aiqueue.dev/queue to run it without aiqueue"
)
LABEL_ONLY_SUSPENDED = (
    ": the label aiqueue.dev/queue may be added, changed or removed only while spec.suspend is true; "
    "suspend it first, then change the label in a second request"
)
CLASS_ONLY_SUSPENDED = (
    "Job {team}/train is running in queue gpus and may not change its class: the label aiqueue.dev/class may be added, "
    "changed or removed only while spec.suspend is true; suspend it first, then change the label in a second request"
)
USER_IS_FIXED = (
    "Job {team}/train is managed by aiqueue through queue gpus: its annotation aiqueue.dev/user says who submitted it and "
    "may not be changed or removed; leave it as it is, or send a patch instead of a whole object"
)
OURS_ALONE = (
    "Job {team}/train is managed by aiqueue through queue gpus: its annotations aiqueue.dev/run and aiqueue.dev/evict-at are "
    "written by aiqueue alone; "
)
NOT_OURS_YET = (
    "Job {team}/plain has no label aiqueue.dev/queue: the annotations aiqueue.dev/run, aiqueue.dev/evict-at and "
    "aiqueue.dev/user are written by aiqueue alone, on Jobs that have it; leave them out"
)


def label(value: str | None, key: str = QUEUE) -> dict[str, Any]:
    return {"metadata": {"labels": {key: value}}}


def note(key: str, value: str | None) -> dict[str, Any]:
    return {"metadata": {"annotations": {key: value}}}


def has_ended(content: dict[str, Any]) -> bool:
    return any(each["type"] == "Complete" for each in content["status"].get("conditions", []))


@pytest.fixture(params=["alice", "admin"])
def person(request: pytest.FixtureRequest, alice: Actor, admin: Actor) -> Actor:
    """Neither the owner nor a cluster administrator is above the rules."""
    return {"alice": alice, "admin": admin}[str(request.param)]


@pytest.fixture
def waiting(team: str, alice: Actor) -> dict[str, Any]:
    """A labelled Job of alice that waits."""
    return alice.create(job(team, "train", labels={QUEUE: "gpus"}))


@pytest.fixture
def running(waiting: dict[str, Any], controller: Actor) -> dict[str, Any]:
    """A labelled Job of alice that the controller has admitted."""
    return controller.patch(waiting, UNSUSPEND | note(RUN, "ledger/1/1"))


@pytest.fixture
def plain(team: str, alice: Actor) -> dict[str, Any]:
    """A Job of alice that is none of aiqueue's business, and runs."""
    return alice.create(job(team, "plain"))


class TestCreate:
    @pytest.mark.parametrize("suspend", [None, False, True])
    def test_labelled_job_is_stored_suspended_and_stamped(self, team: str, person: Actor, suspend: bool | None) -> None:
        asked = job(team, "train", labels={QUEUE: "gpus"})
        if suspend is not None:
            asked["spec"]["suspend"] = suspend
        stored = person.create(asked)
        assert stored["spec"]["suspend"] is True
        assert stored["metadata"]["annotations"] == {USER: person.user}

    def test_forged_user_is_overwritten_and_the_rest_kept(self, team: str, alice: Actor) -> None:
        notes = {USER: "system:admin", "example.com/a_b": "kept", "aiqueue.dev/min-parallelism": "1"}
        stored = alice.create(job(team, "train", labels={QUEUE: "gpus", "other": "kept"}, annotations=notes))
        assert stored["metadata"]["annotations"] == {**notes, USER: "alice"}
        assert stored["metadata"]["labels"].items() >= {QUEUE: "gpus", "other": "kept"}.items()

    def test_nothing_else_of_the_job_is_changed(self, team: str, alice: Actor) -> None:
        """Duplicate list keys are legal in a Job, and lost by anything that merges lists by key."""
        asked = job(team, "train", labels={QUEUE: "gpus"}, parallelism=2, completions=2, completionMode="Indexed")
        container = asked["spec"]["template"]["spec"]["containers"][0]
        container["env"] = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
        container["ports"] = [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "protocol": "TCP"}]
        stored = alice.create(asked)["spec"]["template"]["spec"]["containers"][0]
        assert {key: stored[key] for key in container} == container

    def test_job_near_the_size_limit_is_within_the_cost_limit(self, team: str, alice: Actor, controller: Actor) -> None:
        notes = {"example.com/big": "x" * 200_000}
        labels = {QUEUE: "gpus", **{f"example.com/label-{n}": "v" for n in range(1000)}}
        stored = alice.create(job(team, "train", labels=labels, annotations=notes))
        assert stored["spec"]["suspend"] is True
        controller.patch(stored, UNSUSPEND | note(RUN, "ledger/1/1"))

    @pytest.mark.parametrize("key", [RUN, EVICT_AT])
    def test_our_annotations_are_refused(self, team: str, person: Actor, key: str) -> None:
        asked = job(team, "train", labels={QUEUE: "gpus"}, annotations={key: ""})
        assert person.creation_refused(asked) == OURS_ALONE.format(team=team) + "leave them out"

    def test_foreign_managed_by_is_refused(self, team: str, person: Actor) -> None:
        asked = job(team, "train", labels={QUEUE: "gpus"}, managedBy="example.com/other")
        assert person.creation_refused(asked) == (
            f"Job {team}/train asks for queue gpus but spec.managedBy is 'example.com/other': leave spec.managedBy out, or "
            "set it to kubernetes.io/job-controller"
        )

    def test_manual_selector_is_refused(self, team: str, person: Actor) -> None:
        """Its pods would not carry the label by which they are looked for before their quota is given back."""
        chosen: dict[str, Any] = {"manualSelector": True, "selector": {"matchLabels": {"app": "own"}}}
        asked = job(team, "train", labels={QUEUE: "gpus"}, **chosen)
        asked["spec"]["template"]["metadata"]["labels"] = {"app": "own"}
        sentence = (
            f"Job {team}/train asks for queue gpus but spec.manualSelector is true: leave spec.manualSelector and spec.selector "
            "out, so that its pods can be told from others"
        )
        assert person.creation_refused(asked) == sentence
        stored = person.create(
            asked | {"metadata": {"name": "train", "namespace": team}, "spec": asked["spec"] | {"suspend": True}}
        )
        assert person.refused(stored, label("gpus")) == sentence

    def test_managed_by_of_a_stored_job_is_nobodys_to_write(
        self, person: Actor, controller: Actor, waiting: dict[str, Any]
    ) -> None:
        for who in (person, controller):
            with pytest.raises(HarnessError, match=r"spec\.managedBy: .*field is immutable"):
                who.patch(waiting, {"spec": {"managedBy": "example.com/other"}})

    def test_own_managed_by_is_accepted(self, team: str, alice: Actor) -> None:
        stored = alice.create(job(team, "train", labels={QUEUE: "gpus"}, managedBy="kubernetes.io/job-controller"))
        assert stored["spec"]["suspend"] is True

    @pytest.mark.parametrize("how", [(), ("--server-side",)])
    def test_applying_a_manifest_again_is_no_change(self, team: str, alice: Actor, how: tuple[str, ...]) -> None:
        manifest = json.dumps(job(team, "train", labels={QUEUE: "gpus"}))
        alice.kubectl("apply", "--filename=-", *how, stdin=manifest)
        alice.kubectl("apply", "--filename=-", *how, stdin=manifest)
        stored = alice.get(job(team, "train"))
        assert stored["spec"]["suspend"] is True
        assert stored["metadata"]["annotations"][USER] == "alice"


class TestSuspend:
    @pytest.mark.parametrize("value", [False, None])
    def test_only_the_controller_unsuspends(
        self, team: str, person: Actor, waiting: dict[str, Any], value: bool | None
    ) -> None:
        """None removes the field, and its default is false."""
        sentence = person.refused(waiting, {"spec": {"suspend": value}})
        assert sentence == ONLY_WE_UNSUSPEND.format(team=team, name="train", queue="gpus")

    def test_whole_object_does_not_unsuspend_either(self, team: str, alice: Actor, waiting: dict[str, Any]) -> None:
        del waiting["spec"]["suspend"], waiting["metadata"]["resourceVersion"]
        with pytest.raises(HarnessError) as refusal:
            alice.kubectl("replace", "--filename=-", stdin=json.dumps(waiting))
        assert said(refusal.value) == ONLY_WE_UNSUSPEND.format(team=team, name="train", queue="gpus")

    def test_server_side_apply_does_not_unsuspend_either(self, team: str, admin: Actor, waiting: dict[str, Any]) -> None:
        change = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "train", "namespace": team}, **UNSUSPEND}
        options = ("--server-side", "--force-conflicts", "--field-manager=other")
        with pytest.raises(HarnessError) as refusal:
            admin.kubectl("apply", "--filename=-", *options, stdin=json.dumps(change))
        assert said(refusal.value) == ONLY_WE_UNSUSPEND.format(team=team, name="train", queue="gpus")
        assert admin.get(waiting)["spec"]["suspend"] is True

    def test_controller_unsuspends_with_everything_in_one_patch(self, controller: Actor, waiting: dict[str, Any]) -> None:
        template = {"spec": {"nodeSelector": {"kubernetes.io/os": "linux"}, "tolerations": [{"operator": "Exists"}]}}
        change = {**note(RUN, "ledger/1/1"), "spec": {"suspend": False, "template": template}}
        stored = controller.patch(waiting, change)
        assert stored["spec"]["suspend"] is False
        assert stored["spec"]["template"]["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}

    def test_owner_suspends_and_cannot_take_it_back(self, team: str, alice: Actor, running: dict[str, Any]) -> None:
        assert alice.patch(running, SUSPEND)["spec"]["suspend"] is True
        assert alice.refused(running, UNSUSPEND) == ONLY_WE_UNSUSPEND.format(team=team, name="train", queue="gpus")

    def test_controller_suspends_and_stamps(self, controller: Actor, running: dict[str, Any]) -> None:
        stored = controller.patch(running, SUSPEND | note(EVICT_AT, "2026-01-01T00:00:00Z"))
        assert stored["spec"]["suspend"] is True

    def test_other_edits_are_free_while_it_runs(self, alice: Actor, running: dict[str, Any]) -> None:
        change = {"metadata": {"labels": {"other": "x"}, "annotations": {"other": "y"}}, "spec": {"backoffLimit": 2}}
        assert alice.patch(running, change)["spec"]["backoffLimit"] == 2


class TestQueueLabel:
    @pytest.mark.parametrize("value", ["other", None, ""])
    @pytest.mark.parametrize("change", [{}, SUSPEND], ids=["alone", "and-suspend"])
    def test_running_job_keeps_its_queue(
        self, team: str, person: Actor, running: dict[str, Any], value: str | None, change: dict[str, Any]
    ) -> None:
        sentence = person.refused(running, label(value) | change)
        assert sentence == f"Job {team}/train is running in queue gpus and may not leave it{LABEL_ONLY_SUSPENDED}"

    def test_nor_does_the_controller_move_it(self, team: str, controller: Actor, running: dict[str, Any]) -> None:
        sentence = controller.refused(running, label("other"))
        assert sentence == f"Job {team}/train is running in queue gpus and may not leave it{LABEL_ONLY_SUSPENDED}"

    @pytest.mark.parametrize("value", ["other", None])
    def test_not_even_while_it_is_unsuspended_by_the_controller(
        self, team: str, controller: Actor, waiting: dict[str, Any], value: str | None
    ) -> None:
        sentence = controller.refused(waiting, label(value) | UNSUSPEND)
        assert sentence == f"Job {team}/train is running in queue gpus and may not leave it{LABEL_ONLY_SUSPENDED}"

    def test_suspended_job_changes_and_leaves_its_queue(self, alice: Actor, waiting: dict[str, Any]) -> None:
        assert alice.patch(waiting, label("other"))["metadata"]["labels"][QUEUE] == "other"
        assert QUEUE not in alice.patch(waiting, label(None))["metadata"].get("labels", {})
        assert alice.patch(waiting, UNSUSPEND)["spec"]["suspend"] is False

    @pytest.mark.parametrize("value", ["other", None])
    def test_leaving_and_unsuspending_in_one_request_is_refused(
        self, team: str, person: Actor, waiting: dict[str, Any], value: str | None
    ) -> None:
        sentence = person.refused(waiting, label(value) | UNSUSPEND)
        assert sentence == ONLY_WE_UNSUSPEND.format(team=team, name="train", queue="gpus")

    @pytest.mark.parametrize("change", [{}, SUSPEND], ids=["alone", "and-suspend"])
    def test_running_job_is_not_put_into_a_queue(
        self, team: str, person: Actor, plain: dict[str, Any], change: dict[str, Any]
    ) -> None:
        sentence = person.refused(plain, label("gpus") | change)
        assert sentence == f"Job {team}/plain is running and may not be put into queue gpus{LABEL_ONLY_SUSPENDED}"

    def test_suspended_job_is_taken_in_and_stamped_with_who_did_it(self, team: str, alice: Actor, bob: Actor) -> None:
        stored = alice.create(job(team, "plain", suspend=True))
        taken = bob.patch(stored, {"metadata": {"labels": {QUEUE: "gpus"}, "annotations": {USER: "alice"}}})
        assert taken["spec"]["suspend"] is True
        assert taken["metadata"]["annotations"] == {USER: "bob"}
        assert alice.refused(taken, UNSUSPEND) == ONLY_WE_UNSUSPEND.format(team=team, name="plain", queue="gpus")

    def test_taking_in_and_unsuspending_in_one_request_is_refused(self, team: str, person: Actor, alice: Actor) -> None:
        stored = alice.create(job(team, "plain", suspend=True))
        sentence = person.refused(stored, label("gpus") | UNSUSPEND)
        assert sentence == ONLY_WE_UNSUSPEND.format(team=team, name="plain", queue="gpus")

    def test_job_of_another_controller_is_not_taken_in(self, team: str, alice: Actor) -> None:
        stored = alice.create(job(team, "plain", suspend=True, managedBy="example.com/other"))
        assert "spec.managedBy is 'example.com/other'" in alice.refused(stored, label("gpus"))

    def test_out_unsuspended_and_in_again_is_refused(self, team: str, alice: Actor, waiting: dict[str, Any]) -> None:
        alice.patch(waiting, label(None))
        alice.patch(waiting, UNSUSPEND)
        sentence = alice.refused(waiting, label("gpus"))
        assert sentence == f"Job {team}/train is running and may not be put into queue gpus{LABEL_ONLY_SUSPENDED}"

    def test_job_that_is_over_may_change_and_leave_its_queue(self, team: str, alice: Actor, controller: Actor) -> None:
        over = alice.create(job(team, "over", labels={QUEUE: "gpus"}, runtime="0s"))
        controller.patch(over, UNSUSPEND | note(RUN, "ledger/1/1"))
        until(lambda: has_ended(alice.get(over)) or None, seconds=WAIT_SECONDS, what="the end of the Job")
        assert alice.patch(over, label("other"))["metadata"]["labels"][QUEUE] == "other"
        assert QUEUE not in alice.patch(over, label(None))["metadata"]["labels"]


class TestClassLabel:
    @pytest.mark.parametrize("change", [{}, SUSPEND], ids=["alone", "and-suspend"])
    def test_running_job_keeps_its_class(
        self, team: str, person: Actor, controller: Actor, *, running: dict[str, Any], change: dict[str, Any]
    ) -> None:
        for who in (person, controller):
            assert who.refused(running, label("urgent", CLASS) | change) == CLASS_ONLY_SUSPENDED.format(team=team)

    @pytest.mark.parametrize("value", ["urgent", None])
    def test_nor_is_a_class_changed_or_removed(self, team: str, alice: Actor, controller: Actor, value: str | None) -> None:
        stored = alice.create(job(team, "train", labels={QUEUE: "gpus", CLASS: "normal"}))
        controller.patch(stored, UNSUSPEND)
        assert alice.refused(stored, label(value, CLASS)) == CLASS_ONLY_SUSPENDED.format(team=team)

    def test_suspended_job_changes_its_class(self, alice: Actor, waiting: dict[str, Any]) -> None:
        for value in ("normal", "urgent", None):
            assert alice.patch(waiting, label(value, CLASS))["metadata"]["labels"].get(CLASS) == value

    def test_unmanaged_job_is_free_to(self, alice: Actor, plain: dict[str, Any]) -> None:
        assert alice.patch(plain, label("x", CLASS))["metadata"]["labels"][CLASS] == "x"


class TestParallelism:
    @pytest.mark.parametrize("change", [{}, SUSPEND["spec"]], ids=["alone", "and-suspend"])
    def test_running_job_keeps_the_size_it_was_admitted_with(
        self, team: str, person: Actor, running: dict[str, Any], change: dict[str, Any]
    ) -> None:
        for size in (2, 0):
            assert person.refused(running, {"spec": {"parallelism": size, **change}}) == (
                f"Job {team}/train is running in queue gpus with quota for 1 pods at a time: spec.parallelism may be raised or "
                "lowered only while spec.suspend is true; suspend it first, then change it in a second request"
            )

    def test_only_the_controller_changes_it_and_while_suspended_everybody(
        self, alice: Actor, controller: Actor, running: dict[str, Any]
    ) -> None:
        for size in (3, 1):
            assert controller.patch(running, {"spec": {"parallelism": size}})["spec"]["parallelism"] == size
        alice.patch(running, SUSPEND)
        for size in (3, 0):
            assert alice.patch(running, {"spec": {"parallelism": size}})["spec"]["parallelism"] == size

    @pytest.mark.parametrize("change", [{}, SUSPEND["spec"]], ids=["alone", "and-suspend"])
    def test_nor_does_it_grow_by_its_completions(
        self, team: str, person: Actor, controller: Actor, *, change: dict[str, Any]
    ) -> None:
        """It runs 2 of 4 pods at a time, and Kubernetes would let completions rise to parallelism."""
        asked = job(team, "train", labels={QUEUE: "gpus"}, parallelism=4, completions=2, completionMode="Indexed")
        stored = controller.patch(person.create(asked), UNSUSPEND)
        for who in (person, controller):
            assert who.refused(stored, {"spec": {"completions": 4, **change}}) == (
                f"Job {team}/train is running in queue gpus with quota for what it asked for: spec.completions may be raised or "
                "lowered only while spec.suspend is true; suspend it first, then change it in a second request"
            )
        person.patch(stored, SUSPEND)
        assert person.patch(stored, {"spec": {"completions": 4}})["spec"]["completions"] == 4

    def test_unmanaged_job_is_free_to(self, alice: Actor, plain: dict[str, Any]) -> None:
        for size in (2, 0):
            assert alice.patch(plain, {"spec": {"parallelism": size}})["spec"]["parallelism"] == size


class TestAnnotations:
    @pytest.mark.parametrize("change", [note(RUN, "x"), note(RUN, None), note(EVICT_AT, "x"), note(EVICT_AT, "")])
    def test_ours_are_ours_alone(self, team: str, person: Actor, running: dict[str, Any], change: dict[str, Any]) -> None:
        sentence = person.refused(running, change)
        ending = "leave them as they are, or send a patch instead of a whole object"
        assert sentence == OURS_ALONE.format(team=team) + ending

    def test_not_on_a_waiting_job_nor_on_the_way_out(self, team: str, person: Actor, waiting: dict[str, Any]) -> None:
        ours = OURS_ALONE.format(team=team)
        assert person.refused(waiting, note(RUN, "x")).startswith(ours)
        assert person.refused(waiting, {"metadata": {"labels": {QUEUE: None}, "annotations": {RUN: "x"}}}).startswith(ours)

    @pytest.mark.parametrize("value", ["bob", None, ""])
    def test_nobody_changes_the_user(
        self, team: str, person: Actor, controller: Actor, waiting: dict[str, Any], value: str | None
    ) -> None:
        for who in (person, controller):
            assert who.refused(waiting, note(USER, value)) == USER_IS_FIXED.format(team=team)
            leaving = {"metadata": {"labels": {QUEUE: None}, "annotations": {USER: value}}}
            assert who.refused(waiting, leaving) == USER_IS_FIXED.format(team=team)

    def test_controller_writes_and_removes_its_own(self, controller: Actor, running: dict[str, Any]) -> None:
        stored = controller.patch(running, note(EVICT_AT, "2026-01-01T00:00:00Z"))
        assert stored["metadata"]["annotations"][EVICT_AT] == "2026-01-01T00:00:00Z"
        stored = controller.patch(running, {"metadata": {"annotations": {EVICT_AT: None, RUN: None}}})
        assert stored["metadata"]["annotations"] == {USER: "alice"}

    @pytest.mark.parametrize("key", [RUN, EVICT_AT, USER])
    def test_nothing_is_forged_on_an_unmanaged_job(
        self, team: str, person: Actor, controller: Actor, plain: dict[str, Any], key: str
    ) -> None:
        for who in (person, controller):
            assert who.refused(plain, note(key, "x")) == NOT_OURS_YET.format(team=team)

    @pytest.mark.parametrize("key", [RUN, EVICT_AT, USER])
    def test_nothing_is_forged_at_creation(self, team: str, person: Actor, key: str) -> None:
        asked = job(team, "plain", annotations={key: "x"})
        assert person.creation_refused(asked) == NOT_OURS_YET.format(team=team)

    def test_forging_while_it_is_labelled_is_refused(self, team: str, alice: Actor) -> None:
        stored = alice.create(job(team, "train", suspend=True))
        sentence = alice.refused(stored, {"metadata": {"labels": {QUEUE: "gpus"}, "annotations": {RUN: "x"}}})
        assert sentence.startswith(OURS_ALONE.format(team=team))

    @pytest.mark.parametrize("key", [RUN, EVICT_AT])
    def test_nothing_is_carried_back_into_a_queue(
        self, team: str, person: Actor, controller: Actor, running: dict[str, Any], key: str
    ) -> None:
        """A Job that left with the annotation could change its size outside and come back as one that was started."""
        controller.patch(running, {"metadata": {"annotations": {RUN: None}}})
        controller.patch(running, note(key, "ledger/1/1"))
        person.patch(running, SUSPEND)
        person.patch(running, label(None))
        ending = "remove what is left of an earlier run, or wait until aiqueue has"
        assert person.refused(running, label("gpus")) == OURS_ALONE.format(team=team) + ending
        back = person.patch(running, {"metadata": {"labels": {QUEUE: "gpus"}, "annotations": {key: None}}})
        assert back["metadata"]["annotations"] == {USER: person.user}

    def test_job_that_left_may_be_cleaned_up(self, alice: Actor, running: dict[str, Any]) -> None:
        """What it carries from its managed life may go, but not change."""
        alice.patch(running, SUSPEND)
        alice.patch(running, label(None))
        assert "has no label aiqueue.dev/queue" in alice.refused(running, note(RUN, "forged"))
        stored = alice.patch(running, {"metadata": {"annotations": {RUN: None, USER: None, "other": "free"}}})
        assert stored["metadata"]["annotations"] == {"other": "free"}
