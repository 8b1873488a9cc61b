"""One action at a time on a real Job and a real ledger: what is sent, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, text

from aiqueue.admission.controller import commit
from aiqueue.admission.controller.actor import Again, Ended
from aiqueue.admission.controller.facts import JobFound, JobGone, Result
from aiqueue.admission.controller.hands import JobHands
from aiqueue.admission.controller.term import Term
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.jobs import observe, template_of
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.waiting import until
from aiqueue.queue import documents
from aiqueue.queue.database import transaction
from aiqueue.queue.errors import TermLost
from aiqueue.queue.observations import Observation
from aiqueue.queue.records import Allocation
from aiqueue.queue.store import actions, configuration, plans
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.plans import AdmissionRow, EvictionRow, PlanRows
from aiqueue.queue.words import ActionKind, RunOutcome
from fix_kube import WAIT_SECONDS, create_jobs, job_document
from fix_terms import Observer, expire, take_over

pytestmark = pytest.mark.e2e


@dataclass(slots=True)
class Bench:
    """A suspended Job `it` of queue `train`, known to the ledger, and the hands of a term."""

    cluster: DevCluster
    client: KubeClient
    namespace: str
    term: Term
    observer: Observer
    hands: JobHands
    seq: int = 0

    def seen(self) -> Observation:
        job = self.client.get_job(self.namespace, "it")
        assert job is not None
        return observe(job, cluster="default")

    def kubectl(self, verb: str, *arguments: str) -> None:
        self.cluster.kubectl(verb, "job", "it", f"-n={self.namespace}", *arguments)

    def touch(self) -> None:
        """Change something that no decision was made on."""
        self.kubectl("annotate", "touched=yes")

    def admit(self) -> Action:
        """Commit a Plan that starts the Job on flavor h100; returns its unsuspend."""
        seen = self.seen()
        self.observer.step.look([seen])
        row = self.observer.step.mirror.known[seen.uid]
        job = self.client.get_job(self.namespace, "it")
        assert job is not None
        self._commit(
            admissions=[
                AdmissionRow(
                    row.id,
                    row.attempt + 1,
                    "research",
                    row.namespace,
                    row.queue_name,
                    seen.resource_version,
                    (Allocation("main", "h100", "cpu", 10),),
                    {"main": template_of(job)},
                    {"main": commit.injected(["h100"], self.observer.step.context.configuration)},
                )
            ]
        )
        return self.action(ActionKind.UNSUSPEND)

    def evict(self, action: Action) -> Action:
        """Commit a Plan that ends the run at once; returns its suspend."""
        assert action.run_id is not None
        eviction = EvictionRow(
            action.run_id, action.workload_id, action.attempt, RunOutcome.DRAINED, "drained", datetime.now(UTC)
        )
        self._commit(evictions=[eviction])
        return self.action(ActionKind.SUSPEND)

    def _commit(self, **rows: Any) -> None:
        self.seq += 1
        revision = self.observer.step.context.configuration.revision
        with self.term.transaction() as connection:
            plans.commit(connection, self.term.number, 1, PlanRows(self.seq, revision, datetime.now(UTC), **rows))

    def action(self, kind: ActionKind) -> Action:
        with self.term.transaction() as connection:
            (found,) = [each for each in actions.load_open(connection, 1) if each.kind is kind]
        return found

    def until_done(self, action: Action) -> list[Ended | Again]:
        """Do it again and again until it is done; returns all that was answered."""
        answers: list[Ended | Again] = []

        def done() -> bool:
            answers.append(self.hands(action))
            return not isinstance(answers[-1], Again)

        until(done, seconds=WAIT_SECONDS, what=f"{action.kind} to be done", longest_pause_seconds=0.05)
        return answers


@pytest.fixture
def bench(
    cluster: DevCluster, kube: KubeClient, kube_namespace: str, *, ledger: Engine, term: Term, observer: Callable[..., Observer]
) -> Bench:
    queue = f"{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: {kube_namespace}, namespace: {kube_namespace}}}, spec: {{tenant: research}}}}"
    with transaction(ledger) as connection:
        configuration.apply(connection, documents.read_documents(queue, "test"), claimed_by="test")
    create_jobs(cluster, job_document(kube_namespace, "it"))
    step = observer()
    step.step.context.cluster = replace(step.step.context.cluster, registered_at=datetime.fromtimestamp(0, UTC))
    return Bench(cluster, kube, kube_namespace, term, step, JobHands(kube, term, "default", lambda _uid: None))


def result(outcome: Ended | Again) -> Result:
    assert not isinstance(outcome, Again), outcome
    return outcome[0]


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
    unsuspend = bench.admit()
    suspend = bench.evict(unsuspend)
    assert result(bench.hands(suspend)) is Result.DONE
    assert bench.seen().stamp == unsuspend.stamp
    assert result(bench.hands(unsuspend)) is Result.DONE
    assert bench.seen().suspended


def test_the_template_comes_back_when_the_job_controller_allows_it(bench: Bench) -> None:
    before = bench.seen()
    action = bench.admit()
    bench.hands(action)
    until(lambda: bench.seen().active, seconds=WAIT_SECONDS, what="the Job to run")
    bench.hands(bench.evict(action))
    with bench.term.transaction() as connection:
        connection.execute(text("UPDATE action SET kind = 'Restore' WHERE id = :id"), {"id": action.id})
    assert result(bench.until_done(bench.action(ActionKind.RESTORE))[-1]) is Result.DONE
    after = bench.seen()
    assert (after.stamp, after.pod_sets, after.shape) == (None, before.pod_sets, before.shape)


def test_a_job_that_is_still_being_stopped_is_waited_for_not_given_up(bench: Bench) -> None:
    """It slipped by, is stopped and admitted at once: its template cannot change before the Job controller has seen the stop."""
    bench.kubectl("patch", "--type=merge", '-p={"spec":{"suspend":false}}')
    until(lambda: bench.seen().active, seconds=WAIT_SECONDS, what="the Job to run")
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
    step.client = bench.client
    seen = bench.seen()
    step.look([seen])
    row = step.mirror.known[seen.uid]
    found = step._is_gone(row)
    assert isinstance(found, JobFound)
    assert found.observation.uid == seen.uid
    bench.kubectl("delete")
    assert step._is_gone(row) == JobGone(seen.uid)
    create_jobs(bench.cluster, job_document(bench.namespace, "it"))
    assert step._is_gone(row) == JobGone(seen.uid)
