"""Hands at work: one action at a time on a real Job and a real ledger, in the name of a term.

`bench` is a waiting Job on the session's cluster; `lay_out` makes one anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, text

from aiqueue.admission.controller import rewriting
from aiqueue.admission.controller.actor import Again, Ended
from aiqueue.admission.controller.facts import Result
from aiqueue.admission.controller.hands import JobHands
from aiqueue.admission.controller.term import Term
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.jobs import observe, template_of
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from aiqueue.queue import documents
from aiqueue.queue.database import transaction
from aiqueue.queue.observations import Observation
from aiqueue.queue.records import Allocation
from aiqueue.queue.store import actions, configuration, plans
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.plans import AdmissionRow, EvictionRow, PlanRows
from aiqueue.queue.words import ActionKind, RunOutcome
from fix_kube import WAIT_SECONDS, create_jobs, job_document
from fix_terms import Observer


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

    def admit(self, size: int | None = None) -> Action:
        """Commit a Plan that starts the Job on flavor h100, with so many pods or all; returns its unsuspend."""
        seen = self.seen()
        self.observer.step.look([seen])
        row = self.observer.step.mirror.known[seen.uid]
        job = self.client.get_job(self.namespace, "it")
        assert job is not None
        injected = rewriting.injected(["h100"], self.observer.step.context.configuration)
        if size is not None:
            injected["parallelism"] = size
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
                    {"main": injected},
                )
            ]
        )
        return self.action(ActionKind.UNSUSPEND)

    def evict(self, action: Action, outcome: RunOutcome = RunOutcome.DRAINED, *, grace_seconds: float = 0) -> Action:
        """Commit a Plan that ends the run, at once or after notice; returns its suspend, or what expires it."""
        assert action.run_id is not None
        evict_at = datetime.now(UTC) + timedelta(seconds=grace_seconds)
        eviction = EvictionRow(action.run_id, action.workload_id, action.attempt, outcome, "drained", evict_at)
        self._commit(evictions=[eviction])
        return self.action(ActionKind.EXPIRE if outcome is RunOutcome.EXPIRED else ActionKind.SUSPEND)

    def restoration(self, done: Action) -> Action:
        """Have the ledger ask for the template back of which `done` began the run."""
        with self.term.transaction() as connection:
            connection.execute(text("UPDATE action SET kind = 'Restore' WHERE id = :id"), {"id": done.id})
        return self.action(ActionKind.RESTORE)

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


def lay_out(
    cluster: DevCluster,
    client: KubeClient,
    document: dict[str, Any],
    *,
    ledger: Engine,
    term: Term,
    observer: Callable[..., Observer],
) -> Bench:
    """Create this Job, called `it` and labelled with the name of its namespace, and a queue of that name."""
    namespace = document["metadata"]["namespace"]
    queue = f"{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: {namespace}, namespace: {namespace}}}, spec: {{tenant: research}}}}"
    with transaction(ledger) as connection:
        configuration.apply(connection, documents.read_documents(queue, "test"), claimed_by="test")
    create_jobs(cluster, document)
    step = observer()
    step.step.context.cluster = replace(step.step.context.cluster, registered_at=datetime.fromtimestamp(0, UTC))
    return Bench(
        cluster, client, namespace, term, step, JobHands(client, term, partial(observe, cluster="default"), lambda _uid: None)
    )


@pytest.fixture
def bench(
    cluster: DevCluster, kube: KubeClient, kube_namespace: str, *, ledger: Engine, term: Term, observer: Callable[..., Observer]
) -> Bench:
    document = job_document(kube_namespace, "it")
    return lay_out(cluster, kube, document, ledger=ledger, term=term, observer=observer)


def result(outcome: Ended | Again) -> Result:
    assert not isinstance(outcome, Again), outcome
    return outcome[0]
