"""A ledger's claim to a cluster: a ConfigMap there that names the one ledger whose controllers run the cluster's Jobs.

    nobody's --take--> ours --hand-over by an administrator--> another's

Two ledgers would both start the same pending Jobs, so a cluster has one. The manifests bring the ConfigMap without data, which leaves
what is written in it alone when they are applied again. A controller writes its ledger there where nobody has written, at the resourceVersion
it read, and never over another's. It looks at the start of each term and every so often while it leads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import structlog

from aiqueue.admission.controller.watchdog import Step
from aiqueue.admission.kube import errors, names, objects
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.errors import KubeError
from aiqueue.queue.errors import RefusedToStart

_log = structlog.get_logger()
_PATH = f"/api/v1/namespaces/{names.SYSTEM_NAMESPACE}/configmaps/{names.CLAIM}"
_OBJECT = f"ConfigMap {names.SYSTEM_NAMESPACE}/{names.CLAIM}"
_AGAIN_SECONDS = 5.0


class _Metadata(objects.Object, frozen=True):
    resource_version: str


class _ConfigMap(objects.Object, frozen=True):
    metadata: _Metadata
    data: dict[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Who has a claim to the cluster, "" where nobody has, and the version of the object that says so."""

    ledger: str
    resource_version: str


def read(client: KubeClient) -> Held:
    """Who has a claim to the cluster now.

    Raises:
        KubeError: there is no telling; `NotFound` says what is missing.
    """
    doing = f"get of {_OBJECT}"
    try:
        found = client.read(_PATH, _ConfigMap, doing)
    except errors.NotFound as error:
        raise errors.NotFound(
            "it says which ledger runs the cluster, and no controller leads without it: apply the manifests of this version, which bring it",
            status=error.status,
            reason=error.reason,
            doing=doing,
        ) from error
    return Held((found.data or {}).get(names.CLAIM_LEDGER, ""), found.metadata.resource_version)


def take(client: KubeClient, held: Held, ledger_uid: str, cluster_name: str) -> None:
    """Write a ledger's claim where nobody has one.

    Raises:
        KubeError: it is not known to be written; `Conflict` where another came first.
    """
    body = {
        "metadata": {"resourceVersion": held.resource_version},
        "data": {names.CLAIM_LEDGER: ledger_uid, names.CLAIM_CLUSTER: cluster_name},
    }
    client.patch(_PATH, body, _ConfigMap, f"patch of {_OBJECT}")
    _log.info("cluster claimed", ledger=ledger_uid, cluster=cluster_name)


def refuse_another(held: Held, ledger_uid: str) -> None:
    """Refuse if the cluster is another ledger's.

    Raises:
        RefusedToStart: says who holds it and how it is handed over.
    """
    if held.ledger in ("", ledger_uid):
        return
    raise RefusedToStart(
        f"this cluster is run by ledger {held.ledger}, as its {_OBJECT} says, and AIQUEUE_DATABASE_URL is ledger"
        f" {ledger_uid}: nothing was touched, since two ledgers would start the same Jobs twice. Point AIQUEUE_DATABASE_URL to ledger"
        f" {held.ledger}; or, to hand the cluster over for good, stop that ledger's controllers, let the Jobs end that they started,"
        f" and run: kubectl --namespace={names.SYSTEM_NAMESPACE} patch configmap {names.CLAIM} --type=merge"
        f' --patch=\'{{"data":{{"{names.CLAIM_LEDGER}":"{ledger_uid}"}}}}\''
    )


class Lookout:
    """Looks whether the cluster is still this ledger's while a term lasts."""

    def __init__(self, client: KubeClient, ledger_uid: str, cluster_name: str, lost: threading.Event) -> None:
        """Describe a lookout; nothing is started yet.

        Args:
            client: of the cluster.
            ledger_uid: whose claim it is.
            cluster_name: what that ledger calls the cluster.
            lost: of the term. It ends the lookout, which sets it where the cluster is another's.
        """
        self._client = client
        self._ledger_uid = ledger_uid
        self._cluster_name = cluster_name
        self._lost = lost
        self.refusal: RefusedToStart | None = None
        self._thread = threading.Thread(target=self._look_out, name="claim", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def _look_out(self) -> None:
        while not self._lost.wait(_AGAIN_SECONDS):
            try:
                with Step("looks whose the cluster is"):
                    self._look()
            except KubeError as error:
                _log.warning("whose the cluster is cannot be seen", why=str(error))
            except RefusedToStart as error:
                self.refusal = error
                self._lost.set()

    def _look(self) -> None:
        held = read(self._client)
        refuse_another(held, self._ledger_uid)
        if not held.ledger:  # somebody emptied it under us; to hand a cluster over is to write the other's name
            take(self._client, held, self._ledger_uid, self._cluster_name)
