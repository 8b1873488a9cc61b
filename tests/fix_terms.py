"""Terms and their writes on a real ledger, by a login that has the controller's role and no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from kubernetes import client as official
from sqlalchemy import Engine, text

from aiqueue.admission.controller.actor import Actor
from aiqueue.admission.controller.clock import LedgerClock
from aiqueue.admission.controller.confirm import Confirmer
from aiqueue.admission.controller.facts import Inbox, Result
from aiqueue.admission.controller.follow import Context
from aiqueue.admission.controller.mirror import Mirror
from aiqueue.admission.controller.observing import Observing
from aiqueue.admission.controller.term import Term
from aiqueue.admission.controller.unknown import UnknownJobs
from aiqueue.admission.engine.engine import Engine as Deciding
from aiqueue.admission.engine.events import ConfigurationChanged
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.store import JobStore
from aiqueue.cli.harness import product
from aiqueue.queue import documents
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.store import actions, clusters, configuration, known, leadership
from aiqueue.queue.store.clusters import Cluster
from fix_follow import assign

LEASE_SECONDS = 60.0
TENANTS = """
apiVersion: aiqueue.dev/v1
kind: Flavor
metadata: {name: h100}
spec: {nodeLabels: {pool: h100}}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {name: research}
spec:
  quotas:
  - flavor: h100
    resources: [{name: nvidia.com/gpu, nominal: 64}]
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {name: train, namespace: team-a}
spec: {tenant: research}
"""


@pytest.fixture
def controller_url(ledger: Engine, ledger_url: str) -> str:
    """A login in role aiqueue_controller; the ledger has tenant research behind queue team-a/train, and cluster 1 `default`."""
    with transaction(ledger) as connection:
        configuration.apply(connection, documents.read_documents(TENANTS, "test"), claimed_by="test")
        clusters.register(connection, "default", "kube-system-uid")
    return product.login(ledger_url, "controller")


@pytest.fixture
def controller_ledger(controller_url: str) -> Iterator[Engine]:
    """The ledger as that login."""
    database = open_database(controller_url, application_name="aiqueue-test-controller", pool_size=6)
    yield database
    database.dispose()


def take_over(database: Engine, holder: str = "one", lease_seconds: float = LEASE_SECONDS) -> int | None:
    """Try to become leader, in a transaction of its own."""
    with transaction(database) as connection:
        return leadership.take_over(connection, holder, lease_seconds)


def expire(owner: Engine) -> None:
    """Let the lease run out at once."""
    with transaction(owner) as connection:
        connection.execute(text("UPDATE leader_lease SET expires_at = clock_timestamp()"))


@pytest.fixture
def term(controller_ledger: Engine, controller_url: str) -> Iterator[Term]:
    """A term with its sessions."""
    number = take_over(controller_ledger)
    assert number is not None
    with transaction(controller_ledger) as connection:
        now = leadership.current(connection).now
    held = Term(
        number,
        controller_url,
        holder="one",
        lease_seconds=LEASE_SECONDS,
        clock=LedgerClock(now),
        attempt_started=time.monotonic() + 3600,  # nobody renews it, and a test on a slow machine takes its time
    )
    yield held
    held.close()


@dataclass(slots=True)
class Observer:
    """The observe step of a term over a Job store that the test fills. Its workers are not started: nothing is sent anywhere."""

    step: Observing
    inbox: Inbox
    jobs: JobStore
    asked: list[tuple[str, ...]] = field(default_factory=list)


@pytest.fixture
def observer(term: Term) -> Callable[..., Observer]:
    """Builds an `Observer` from what the ledger holds now."""

    def build(**context: Any) -> Observer:
        with term.transaction() as connection:
            administered = configuration.load(connection)
            uid = clusters.ledger_uid(connection)
            cluster = clusters.find(connection, "default")
            assert cluster is not None
            undone = actions.load_open(connection, cluster.id)
            mirror = Mirror(known.load(connection, cluster.id), undone)
        inbox, jobs, engine = Inbox(), JobStore(), Deciding()
        engine.observe(ConfigurationChanged(administered))
        nowhere = official.Configuration()
        nowhere.host = "http://127.0.0.1:9"  # the discard port: a test that gets there fails
        actor = Actor(lambda _: (Result.DONE, ""), inbox, threads=0, trusted=lambda: True, now=term.clock.now)
        actor.submit(undone)
        surroundings = Context(uid, cluster, administered, UnknownJobs(10), assign, term.clock.now())
        for name, value in context.items():
            setattr(surroundings, name, value)
        confirmer = Confirmer(inbox, threads=0)
        step = Observing(term, KubeClient(nowhere), jobs, mirror, engine, actor, confirmer, surroundings, {})
        return Observer(step, inbox, jobs)

    return build


def the_cluster(owner: Engine) -> Cluster:
    """Cluster `default`."""
    with transaction(owner) as connection:
        found = clusters.find(connection, "default")
    assert found is not None
    return found
