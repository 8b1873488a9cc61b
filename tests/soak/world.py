"""The real parts that a soak breaks: a cluster with its control plane and fake nodes, a ledger, and a place for evidence."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness import manifests, product
from aiqueue.cli.harness.api import Api
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.postgres import DevPostgres
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.database import open_database, transaction
from soak.tenants import TOTAL_GPUS

_READY_SECONDS = 60.0
_GPUS_OF_A_NODE = 8
#: What the ledger does not keep is noted by the database itself: what a run held when, since it may come to hold less while it is open, and
#: until when a workload that was put back was to wait, since that is struck out when it is admitted.
_INSTRUMENTS = (
    "CREATE SCHEMA soak",
    "CREATE TABLE soak.held (at timestamptz, run_id bigint, flavor_id bigint, resource text, amount bigint, opened boolean)",
    """CREATE FUNCTION soak.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
         INSERT INTO soak.held VALUES (clock_timestamp(), NEW.run_id, NEW.flavor_id, NEW.resource, NEW.amount, TG_OP = 'INSERT');
         RETURN NULL; END $$""",
    "CREATE TRIGGER note AFTER INSERT OR UPDATE ON allocation FOR EACH ROW EXECUTE FUNCTION soak.note()",
    "CREATE TABLE soak.put_back (workload_id bigint, requeues bigint, held boolean)",
    "CREATE TABLE soak.admitted (workload_id bigint, attempt bigint, not_before timestamptz)",
    """CREATE FUNCTION soak.note_back() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
         IF NEW.requeues > OLD.requeues THEN
           INSERT INTO soak.put_back VALUES (NEW.id, NEW.requeues, NEW.not_before IS NULL);
         ELSIF NEW.attempt > OLD.attempt AND OLD.not_before IS NOT NULL THEN
           INSERT INTO soak.admitted VALUES (NEW.id, NEW.attempt, OLD.not_before);
         END IF;
         RETURN NULL; END $$""",
    "CREATE TRIGGER note_back AFTER UPDATE ON workload FOR EACH ROW EXECUTE FUNCTION soak.note_back()",
)


@dataclass(slots=True)
class World:
    """A cluster with aiqueue's policies, an empty ledger and namespaces to submit to.

    Attributes:
        ledger: as the owner of its tables.
        api: as the cluster's administrator.
        controller: as the controller's service account, the only one that may start a managed Job behind the ledger's back.
        folder: for logs and evidence.
        postgres: the server of the ledger, where it is ours to stop.
        owns_cluster: whether the servers of the cluster are ours to end and start again.
        undisturbed: held by whoever must not find a server gone, and by who stops one.
    """

    cluster: DevCluster
    installed: product.Product
    ledger: Engine
    namespaces: tuple[str, ...]
    folder: Path
    api: Api
    controller: KubeClient
    ledger_uid: str
    postgres: DevPostgres | None = None
    owns_cluster: bool = False
    undisturbed: threading.Lock = field(default_factory=threading.Lock)

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Read the ledger."""
        with transaction(self.ledger) as connection:
            return [dict(row) for row in connection.execute(text(statement), values).mappings()]

    def do(self, statement: str, **values: Any) -> None:
        """Write to the ledger as its owner."""
        with transaction(self.ledger) as connection:
            connection.execute(text(statement), values)


@contextmanager
def of_parts(
    cluster: DevCluster,
    namespaces: tuple[str, ...],
    owner_url: str,
    folder: Path,
    *,
    postgres: DevPostgres | None = None,
    owns_cluster: bool = False,
) -> Iterator[World]:
    """A world of a cluster with policies and GPU nodes, of namespaces that are ready and of a migrated ledger.

    With the server of the ledger, and where the cluster is ours, these may be stopped and started again.
    """
    installed = product.Product(
        owner_url,
        product.login(owner_url, "admin"),
        product.login(owner_url, "controller"),
        cluster.service_account_kubeconfig(manifests.NAMESPACE, manifests.SERVICE_ACCOUNT),
    )
    ledger = open_database(owner_url, application_name="aiqueue-soak", pool_size=6)
    controller = KubeClient.from_kubeconfig(installed.controller_kubeconfig, component="soak")
    try:
        with transaction(ledger) as connection:  # ledgers copied from one template would take one another for themselves
            uid = connection.execute(text("UPDATE ledger SET uid = gen_random_uuid() RETURNING uid")).scalar_one()
            for statement in _INSTRUMENTS:
                connection.execute(text(statement))
            # A throwaway server forgets in a crash what was committed last; what is committed here is written out at once.
            connection.execute(text(f'ALTER DATABASE "{ledger.url.database}" SET synchronous_commit = on'))
        ledger.dispose()
        manifests.hand_over(cluster.api, str(uid))  # from whoever used the cluster before
        yield World(
            cluster,
            installed,
            ledger,
            namespaces,
            folder,
            cluster.api,
            controller,
            str(uid),
            postgres=postgres,
            owns_cluster=owns_cluster,
        )
    finally:
        controller.close()
        ledger.dispose()


@contextmanager
def of_its_own(folder: Path) -> Iterator[World]:
    """A world of parts that are started for it and end with it; what they wrote to the folder stays."""
    with ExitStack() as stack:
        cluster = stack.enter_context(DevCluster.create(folder / "cluster", name="soak"))
        postgres = stack.enter_context(DevPostgres.create(folder / "postgres", durable=False))
        manifests.apply_dev(cluster)
        for number in range(2 * TOTAL_GPUS // _GPUS_OF_A_NODE):
            cluster.add_node(
                f"gpu-{number}",
                cpu_millicores=64_000,
                memory_bytes=512 * 2**30,
                gpus=_GPUS_OF_A_NODE,
                labels={"aiqueue.dev/pool": "h100"},
            )
        namespaces = ("soak-a", "soak-b")
        for name in namespaces:
            cluster.api.call(
                "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            )
        for name in namespaces:
            account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
            until(lambda path=account: cluster.api.is_ok(path), seconds=_READY_SECONDS, what=f"the service account of {name}")  # type: ignore[misc]
        owner = postgres.create_database("aiqueue")
        product.migrate(owner)
        yield stack.enter_context(of_parts(cluster, namespaces, owner, folder, postgres=postgres, owns_cluster=True))
