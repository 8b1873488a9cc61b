"""One action at a time on a real Job and a real ledger: what is sent, and what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from aiqueue.admission.controller import questions
from aiqueue.admission.controller.actor import Again
from aiqueue.admission.controller.facts import JobFound, JobGone, Result
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.errors import TermLost
from aiqueue.queue.words import ActionKind
from fix_kube import WAIT_SECONDS, create_jobs, job_document
from fix_terms import expire, take_over
from fix_workbench import Bench, result

pytestmark = pytest.mark.e2e


def test_a_decided_run_is_started_where_it_was_decided_to_be(bench: Bench) -> None:
    action = bench.admit()
    assert result(bench.hands(action)) is Result.DONE
    seen = bench.seen()
    assert not seen.suspended
    assert seen.stamp == action.stamp
    assert seen.pod_sets[0].node_selector == {"pool": "h100"}


def test_starting_it_twice_changes_nothing_the_second_time(bench: Bench) -> None:
    action = bench.admit()
    bench.hands(action)
    bench.kubectl("patch", "--type=merge", '-p={"spec":{"suspend":true}}')
    assert result(bench.hands(action)) is Result.DONE
    assert bench.seen().suspended


def test_a_job_that_somebody_else_unsuspended_is_stamped(bench: Bench) -> None:
    action = bench.admit()
    bench.kubectl("patch", "--type=merge", '-p={"spec":{"suspend":false}}')
    assert result(bench.hands(action)) is Result.DONE
    seen = bench.seen()
    assert (seen.suspended, seen.stamp) == (False, action.stamp)


def test_a_job_that_moved_on_but_asks_for_the_same_is_started(bench: Bench) -> None:
    action = bench.admit()
    bench.touch()
    assert result(bench.hands(action)) is Result.DONE
    assert bench.seen().stamp == action.stamp


@pytest.mark.parametrize(
    "change",
    [
        ("annotate", "aiqueue.dev/hold=true"),
        ("label", "aiqueue.dev/queue=other", "--overwrite"),
        ("label", "aiqueue.dev/class=other"),
        ("patch", "--type=merge", '-p={"spec":{"parallelism":3,"completions":3}}'),
    ],
    ids=["held", "other queue", "other class", "other size"],
)
def test_a_job_that_asks_for_something_else_is_not_started(bench: Bench, change: tuple[str, ...]) -> None:
    if change[0] == "patch":
        bench.kubectl("delete")
        create_jobs(bench.cluster, job_document(bench.namespace, "it", parallelism=2))
        change = ("patch", "--type=merge", '-p={"spec":{"parallelism":3}}')
    action = bench.admit()
    bench.kubectl(*change)
    assert result(bench.hands(action)) is Result.MOOT
    assert bench.seen().suspended


def test_a_run_that_is_to_end_is_not_started_any_more(bench: Bench) -> None:
    action = bench.admit()
    bench.evict(action)
    bench.touch()
    assert result(bench.hands(action)) is Result.MOOT
    assert bench.seen().suspended


def test_a_term_that_was_overtaken_starts_nothing_that_it_has_to_look_at_again(
    bench: Bench, ledger: Engine, controller_ledger: Engine
) -> None:
    action = bench.admit()
    bench.touch()
    bench.term._database.dispose()
    expire(ledger)
    take_over(controller_ledger, "two")
    with pytest.raises(TermLost):
        bench.hands(action)
    assert bench.seen().suspended
    assert bench.term.lost.is_set()


@pytest.mark.parametrize("kind", [ActionKind.UNSUSPEND, ActionKind.SUSPEND])
def test_a_term_that_is_not_trusted_sends_nothing(bench: Bench, kind: ActionKind) -> None:
    action = bench.admit()
    if kind is ActionKind.SUSPEND:
        action = bench.evict(action)
    until(lambda: bench.seen().suspended_seen, seconds=WAIT_SECONDS, what="the Job controller to have said what it has to say")
    before = bench.seen().resource_version
    bench.term._trusted_until = 0.0
    assert isinstance(bench.hands(action), Again)
    assert bench.seen().resource_version == before


def test_another_job_of_the_name_is_not_started(bench: Bench) -> None:
    action = bench.admit()
    bench.kubectl("delete")
    create_jobs(bench.cluster, job_document(bench.namespace, "it"))
    assert result(bench.hands(action)) is Result.MOOT
    assert bench.seen().suspended


def test_an_unsuspend_on_its_way_is_overtaken_by_the_suspend_of_its_run(bench: Bench) -> None:
    """The stop writes the stamp of the run, which is not to be taken for a start that there never was."""
    unsuspend = bench.admit()
    suspend = bench.evict(unsuspend)
    assert result(bench.hands(suspend)) is Result.DONE
    assert bench.seen().stamp == unsuspend.stamp
    assert result(bench.hands(unsuspend)) is Result.MOOT
    assert bench.seen().suspended


def test_the_template_comes_back_when_the_job_controller_allows_it(bench: Bench) -> None:
    before = bench.seen()
    action = bench.admit()
    bench.hands(action)
    until(lambda: bench.seen().active > 0, seconds=WAIT_SECONDS, what="the Job to run")
    bench.hands(bench.evict(action))
    assert result(bench.until_done(bench.restoration(action))[-1]) is Result.DONE
    after = bench.seen()
    assert (after.stamp, after.pod_sets, after.shape) == (None, before.pod_sets, before.shape)


def test_a_job_that_is_still_being_stopped_is_waited_for_not_given_up(bench: Bench) -> None:
    """It slipped by, is stopped and admitted at once: its template cannot change before the Job controller has seen the stop."""
    bench.kubectl("patch", "--type=merge", '-p={"spec":{"suspend":false}}')
    until(lambda: bench.seen().active > 0, seconds=WAIT_SECONDS, what="the Job to run")
    unsuspend = bench.admit()
    assert result(bench.hands(bench.action(ActionKind.SUSPEND))) is Result.DONE
    assert result(bench.until_done(unsuspend)[-1]) is Result.DONE
    assert not bench.seen().suspended


@pytest.fixture
def refusing(bench: Bench) -> Iterator[None]:
    """A policy of somebody else that refuses every change of our Job as invalid."""
    name = f"refuses-{bench.namespace}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bench.namespace}},
                "resourceRules": [
                    {"apiGroups": ["batch"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["jobs"]}
                ],
            },
            "validations": [{"expression": "false", "message": "no change today"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    bench.cluster.kubectl("create", "-f-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy, binding]}))

    def refused() -> bool:
        try:
            bench.kubectl("annotate", "tried=yes", "--dry-run=server", "--overwrite")
        except HarnessError as error:
            return "no change today" in str(error)
        return False

    until(refused, seconds=WAIT_SECONDS, what="the policy to be in force")
    yield
    bench.cluster.kubectl("delete", f"validatingadmissionpolicybinding/{name}", f"validatingadmissionpolicy/{name}")


@pytest.mark.usefixtures("refusing")
def test_a_start_that_is_refused_is_given_up_and_a_stop_never_is(bench: Bench) -> None:
    until(lambda: bench.seen().suspended_seen, seconds=WAIT_SECONDS, what="the Job controller to see the Job suspended")
    unsuspend = bench.admit()
    outcome = bench.hands(unsuspend)
    assert result(outcome) is Result.REFUSED
    assert not isinstance(outcome, Again)
    assert "no change today" in outcome[1]
    assert isinstance(bench.hands(bench.evict(unsuspend)), Again)


def test_a_job_is_believed_gone_only_when_the_cluster_says_so(bench: Bench) -> None:
    step = bench.observer.step
    seen = bench.seen()
    step.look([seen])
    row = step.mirror.known[seen.uid]
    question = questions.of_absent(bench.client, step.context, row)
    found = question.ask()
    assert isinstance(found, JobFound)
    assert found.observation.uid == seen.uid
    bench.kubectl("delete")
    assert question.ask() == JobGone(seen.uid)
    create_jobs(bench.cluster, job_document(bench.namespace, "it"))
    assert question.ask() == JobGone(seen.uid)
