"""Which clusters the ledger knows, and who the ledger itself is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from aiqueue.queue.errors import RefusedToStart
from aiqueue.queue.words import AuditVerb


@dataclass(frozen=True, slots=True)
class Cluster:
    """A registered cluster. Jobs created before `registered_at` may run without a run of ours."""

    id: int
    name: str
    kube_system_uid: str
    registered_at: datetime


def ledger_uid(connection: Connection) -> str:
    """The ledger's own id, written on every Job it starts."""
    return str(connection.execute(text("SELECT uid FROM ledger WHERE id = 1")).scalar_one())


def find(connection: Connection, name: str) -> Cluster | None:
    """The cluster registered under `name`, if any."""
    row = connection.execute(
        text("SELECT id, name, kube_system_uid, registered_at FROM cluster WHERE name = :name"), {"name": name}
    ).one_or_none()
    return Cluster(*row) if row else None


def identify(connection: Connection, name: str, kube_system_uid: str) -> Cluster | None:
    """The registered cluster, None if neither its name nor its kube-system UID is known.

    Raises:
        RefusedToStart: the name belongs to another cluster, or the cluster is known under another name.
    """
    known = find(connection, name)
    if known is not None:
        if known.kube_system_uid != kube_system_uid:
            raise RefusedToStart(
                f"the ledger knows cluster {name} by kube-system UID {known.kube_system_uid}, this cluster has {kube_system_uid}:"
                " the kubeconfig or AIQUEUE_DATABASE_URL points to the wrong place, or the cluster was rebuilt under its old name;"
                " give a rebuilt cluster a new name with AIQUEUE_CLUSTER_NAME"
            )
        return known
    other = connection.execute(
        text("SELECT name FROM cluster WHERE kube_system_uid = :uid"), {"uid": kube_system_uid}
    ).scalar_one_or_none()
    if other is not None:
        raise RefusedToStart(f"the ledger knows this cluster as {other}, not as {name}: set AIQUEUE_CLUSTER_NAME={other}")
    return None


def register(connection: Connection, name: str, kube_system_uid: str) -> Cluster:
    """Register a cluster, audited. The caller has checked that no running Job there belongs to another ledger."""
    row = connection.execute(
        text(
            "INSERT INTO cluster (name, kube_system_uid) VALUES (:name, :uid) RETURNING id, name, kube_system_uid, registered_at"
        ),
        {"name": name, "uid": kube_system_uid},
    ).one()
    connection.execute(
        text(
            "INSERT INTO audit (verb, kind, name, after) VALUES (:verb, 'Cluster', :name, jsonb_build_object('kubeSystemUid', cast(:uid AS text)))"
        ),
        {"verb": AuditVerb.REGISTERED, "name": name, "uid": kube_system_uid},
    )
    return Cluster(*row)
