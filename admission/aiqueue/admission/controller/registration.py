"""Whether this ledger and this cluster belong together: asked at the start of every term, before anything is touched."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Connection

from aiqueue.admission.controller import claim
from aiqueue.admission.controller.term import Term
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.jobs import observe
from aiqueue.admission.kube.objects import Job
from aiqueue.queue.errors import RefusedToStart, TermLost
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.store import clusters, leadership, run_ids
from aiqueue.queue.store.clusters import Cluster

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Registration:
    """The cluster as the ledger knows it, and the ledger's own id, which it writes on what it starts."""

    cluster: Cluster
    ledger_uid: str
    configuration_moved: threading.Event = field(default_factory=threading.Event)


def register(term: Term, client: KubeClient, jobs: Sequence[Job], cluster_name: str) -> Registration:
    """Find the cluster in the ledger, or register it if nothing there speaks against it.

    Args:
        term: the term of the caller.
        client: for the UID of the kube-system namespace, which is the cluster's identity, and for the ledger's claim to it.
        jobs: all labelled Jobs there are.
        cluster_name: what the cluster is to be called.

    Raises:
        RefusedToStart: the cluster is not the one registered or is another ledger's, running Jobs belong to another ledger, or
            Jobs carry later runs than this ledger knows of. Nothing was touched.
        KubeError: the cluster cannot be asked.
        LedgerError: the ledger cannot be asked, or the term is over.
    """
    kube_system_uid = client.namespace_uid("kube-system")
    held = claim.read(client)
    running = [observe(job, cluster=cluster_name) for job in jobs if not job.spec.suspend]
    with term.transaction() as connection:
        leadership.fence(connection, term.number)
        ledger_uid = clusters.ledger_uid(connection)
        cluster = clusters.identify(connection, cluster_name, kube_system_uid)
        refuse_foreign([seen for seen in running if seen.running], ledger_uid)
        claim.refuse_another(held, ledger_uid)
        refuse_later(connection, jobs, ledger_uid)
        if cluster is None:
            cluster = clusters.register(connection, cluster_name, kube_system_uid)
            _log.info("cluster registered", cluster=cluster_name, kube_system_uid=kube_system_uid)
    if not held.ledger:
        if not term.trusted():
            raise TermLost(f"term {term.number} is not trusted any more: the cluster is not claimed in its name")
        claim.take(client, held, ledger_uid, cluster_name)
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


def refuse_later(connection: Connection, jobs: Iterable[Job], ledger_uid: str) -> None:
    """Refuse if any Job that is not over carries a run of this ledger that the ledger has not given out yet.

    It would be given to another Job sooner or later, and nobody could tell the two apart.

    Raises:
        RefusedToStart: counts the Jobs, names some, and says what to do.
    """
    stamps = ((job, _stamp_of(job)) for job in jobs)
    ours = [(job, stamp.run_id) for job, stamp in stamps if stamp is not None and stamp.ledger == ledger_uid]
    newest = max((run_id for _, run_id in ours), default=0)
    if not newest:
        return
    given_out = run_ids.newest(connection, beyond=newest)
    # There is hardly ever any, and to observe all Jobs takes a while.
    ahead = [(job, run_id) for job, run_id in ours if run_id > given_out]
    later = {
        f"{job.metadata.namespace}/{job.metadata.name}": run_id
        for job, run_id in ahead
        if observe(job, cluster="").forgotten_by(ledger_uid, given_out)
    }
    if not later:
        return
    some = ", ".join(sorted(later)[:5])
    raise RefusedToStart(
        f"{len(later)} Jobs (for example {some}) carry runs of this ledger up to {max(later.values())}, and it has given out none after"
        f" {given_out}: it was restored from a backup that is older than they are. Nothing was touched. `aiqueue doctor` tells what"
        " differs; `aiqueue doctor --repair` has the ledger pass over the runs it forgot, after which the controller starts and"
        " takes those Jobs back as they run"
    )


def _stamp_of(job: Job) -> RunStamp | None:
    annotations = job.metadata.annotations
    return RunStamp.parse(annotations.run) if annotations is not None and annotations.run is not None else None
