"""aiqueue itself on a cluster and a database of the harness, with the rights it has anywhere and no more.

The ledger is migrated by the database's owner; the controller logs in with the role `aiqueue_controller`, the webhook with
`aiqueue_webhook` and the administrator with `aiqueue_admin`. On the cluster the controller is the service account of the
manifests; it runs as a process beside the cluster, so its kubeconfig holds a token or a certificate of that account. The
webhook is nobody there: it is asked and never asks.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import make_url

from aiqueue import migrations
from aiqueue.cli.harness import databases, ports
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.store import clusters

PROGRAM = (sys.executable, "-m", "aiqueue.cli.main")
COMMAND = (*PROGRAM, "controller")
WEBHOOK_COMMAND = (*PROGRAM, "webhook")


@dataclass(frozen=True, slots=True)
class Product:
    """What the parts of aiqueue need to run.

    Attributes:
        owner_url: the ledger, as the owner of its tables.
        admin_url: the ledger, as an administrator of tenants and queues.
        controller_url: the ledger, as the controller.
        controller_kubeconfig: the cluster, as the controller's service account.
    """

    owner_url: str
    admin_url: str
    controller_url: str
    controller_kubeconfig: Path

    def controller_environment(self, **more: str) -> dict[str, str]:
        """Environment variables of `aiqueue controller`, `more` among them (as AIQUEUE_...)."""
        return {
            "AIQUEUE_DATABASE_URL": self.controller_url,
            "AIQUEUE_KUBECONFIG": str(self.controller_kubeconfig),
            **more,
        }


def webhook_environment(url: str, port: int, certificates: Path) -> dict[str, str]:
    """Environment variables of `aiqueue webhook`, which then answers on loopback and ends as soon as it is asked to.

    Args:
        url: the ledger, as the webhook.
        port: of loopback, where it answers.
        certificates: folder with tls.crt and tls.key.
    """
    return {
        "AIQUEUE_DATABASE_URL": url,
        "AIQUEUE_WEBHOOK_ADDRESS": f"{ports.LOOPBACK}:{port}",
        "AIQUEUE_WEBHOOK_CERTIFICATE_FOLDER": str(certificates),
        # No other replica is to be asked first instead, so there is nothing to go on answering for.
        "AIQUEUE_WEBHOOK_DRAIN_SECONDS": "0",
    }


def migrate(owner_url: str) -> None:
    """Bring the ledger to the schema of this program.

    Raises:
        LedgerError: the database cannot be reached.
    """
    database = open_database(owner_url, application_name="aiqueue-migrate", pool_size=1)
    try:
        with transaction(database) as connection:
            migrations.upgrade(connection)
    finally:
        database.dispose()


def ledger_uid(owner_url: str) -> str:
    """The id of a migrated ledger, by which it claims a cluster.

    Raises:
        LedgerError: the database cannot be reached.
    """
    database = open_database(owner_url, application_name="aiqueue-dev", pool_size=1)
    try:
        with transaction(database) as connection:
            return clusters.ledger_uid(connection)
    finally:
        database.dispose()


def login(owner_url: str, role: str) -> str:
    """Make a login of this database in `aiqueue_<role>`, with a fresh password, and return its URL."""
    url = make_url(owner_url)
    # Not the name of the role itself, whatever the database is called.
    name, password = f"{url.database}_{role}_login", secrets.token_urlsafe(24)
    databases.create_login(owner_url, name, password, [f"aiqueue_{role}"])
    return url.set(username=name, password=password).render_as_string(hide_password=False)
