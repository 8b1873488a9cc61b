"""Whether this ledger and this cluster belong together: asked at the start of every term, before anything is touched."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

import structlog

from aiqueue.admission.controller.term import Term
from aiqueue.admission.kube.client import KubeClient
from aiqueue.queue.errors import RefusedToStart
from aiqueue.queue.observations import Observation
from aiqueue.queue.store import clusters, leadership
from aiqueue.queue.store.clusters import Cluster

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Registration:
    """The cluster as the ledger knows it, and the ledger's own id, which it writes on what it starts."""

    cluster: Cluster
    ledger_uid: str
    configuration_moved: threading.Event = field(default_factory=threading.Event)


def register(term: Term, client: KubeClient, running: Iterable[Observation], cluster_name: str) -> Registration:
    """Find the cluster in the ledger, or register it if nothing there speaks against it.

    Args:
        term: the term of the caller.
        client: for the UID of the kube-system namespace, which is the cluster's identity.
        running: labelled Jobs that run now.
        cluster_name: what the cluster is to be called.

    Raises:
        RefusedToStart: the cluster is not the one registered, or running Jobs belong to another ledger.
    """
    kube_system_uid = client.namespace_uid("kube-system")
    with term.transaction() as connection:
        leadership.fence(connection, term.number)
        ledger_uid = clusters.ledger_uid(connection)
        cluster = clusters.identify(connection, cluster_name, kube_system_uid)
        refuse_foreign(running, ledger_uid)
        if cluster is None:
            cluster = clusters.register(connection, cluster_name, kube_system_uid)
            _log.info("cluster registered", cluster=cluster_name, kube_system_uid=kube_system_uid)
    return Registration(cluster, ledger_uid)


def refuse_foreign(running: Iterable[Observation], ledger_uid: str) -> None:
    """Refuse if any running Job was started by another ledger.

    Raises:
        RefusedToStart: names some of the Jobs, the ledgers and what to do.
    """
    foreign = [seen for seen in running if seen.stamp is not None and seen.stamp.ledger != ledger_uid]
    if not foreign:
        return
    ledgers = ", ".join(sorted({seen.stamp.ledger for seen in foreign if seen.stamp is not None})[:3])
    some = ", ".join(sorted(f"{seen.namespace}/{seen.name}" for seen in foreign)[:5])
    raise RefusedToStart(
        f"{len(foreign)} running Jobs (for example {some}) were started by ledger {ledgers}, this one is {ledger_uid}:"
        " nothing was touched. Point AIQUEUE_DATABASE_URL to the ledger that started them or restore it from its backup;"
        " if it is lost for good, let these Jobs end first"
    )
