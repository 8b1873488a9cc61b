"""Rows of work in a ledger, written as the controller writes them, for tests of what reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert, text

from aiqueue.queue.records import PodSet, shape_of
from aiqueue.queue.store.codec import pod_set_to_json
from aiqueue.queue.tables import Base
from aiqueue.queue.words import Reason, RunOutcome, WorkloadState

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@dataclass
class Rows:
    """Writes rows; each call is a transaction of its own. Times are seconds after `START`."""

    database: Engine
    uids: list[str] = field(default_factory=list)

    def insert(self, table: str, **values: Any) -> Any:
        """One row; returns its first column."""
        with self.database.begin() as connection:
            return self._insert(connection, table, values)

    def cluster(self, name: str = "default") -> int:
        """The id of a cluster, registered if it is new."""
        with self.database.begin() as connection:
            found = connection.execute(text("SELECT id FROM cluster WHERE name = :name"), {"name": name}).scalar_one_or_none()
            return int(found or self._insert(connection, "cluster", {"name": name, "kube_system_uid": f"uid-{name}"}))

    def workload(
        self,
        name: str,
        *,
        namespace: str = "team-a",
        queue: str = "train",
        state: WorkloadState = WorkloadState.PENDING,
        requests: Mapping[str, int] | None = None,
        pods: int = 1,
        class_name: str | None = None,
        created: float = 0,
        ended: float | None = None,
        attempt: int = 0,
        cluster: str = "default",
        **others: Any,
    ) -> int:
        """A workload of one pod set `main`; returns its id."""
        pod_set = PodSet("main", pods, requests or {"nvidia.com/gpu": 1})
        uid = f"uid-{len(self.uids)}"
        self.uids.append(uid)
        cluster_id = self.cluster(cluster)
        with self.database.begin() as connection:
            created_id = self._insert(
                connection,
                "workload",
                {
                    "cluster_id": cluster_id,
                    "uid": uid,
                    "namespace": namespace,
                    "name": name,
                    "queue_name": queue,
                    "class_name": class_name,
                    "shape": shape_of([pod_set], class_name),
                    "created_at": at(created),
                    "observed_at": at(created),
                    "state": str(state),
                    "state_since": at(created),
                    "attempt": attempt,
                    "resource_version": "1",
                    "suspended": True,
                    "ended_at": None if ended is None else at(ended),
                    **others,
                },
            )
            columns = {**pod_set_to_json(pod_set), "workload_id": created_id, "position": 0}
            self._insert(connection, "pod_set", columns)
            return int(created_id)

    def run(
        self,
        workload_id: int,
        *,
        tenant: str,
        allocations: Sequence[tuple[str, str, int]] = (),
        attempt: int = 1,
        opened: float = 0,
        closed: float | None = None,
        outcome: RunOutcome = RunOutcome.RUNNING,
        **others: Any,
    ) -> int:
        """A run that holds (flavor, resource, amount) for pod set `main`; returns its id."""
        with self.database.begin() as connection:
            find = text(
                "SELECT w.cluster_id, (SELECT id FROM tenant WHERE name = :tenant), q.id FROM workload w"
                " LEFT JOIN queue q ON q.namespace = w.namespace AND q.name = w.queue_name WHERE w.id = :id"
            )
            cluster_id, tenant_id, queue_id = connection.execute(find, {"id": workload_id, "tenant": tenant}).one()
            run_id = self._insert(
                connection,
                "run",
                {
                    "workload_id": workload_id,
                    "attempt": attempt,
                    "cluster_id": cluster_id,
                    "tenant_id": tenant_id,
                    "queue_id": queue_id,
                    "term": 1,
                    "opened_at": at(opened),
                    "closed_at": None if closed is None else at(closed),
                    "outcome": str(outcome),
                    "original": {},
                    "injected": {},
                    **others,
                },
            )
            for flavor, resource, amount in allocations:
                flavor_id = connection.execute(text("SELECT id FROM flavor WHERE name = :name"), {"name": flavor}).scalar_one()
                values = {"run_id": run_id, "pod_set": "main", "flavor_id": flavor_id, "resource": resource, "amount": amount}
                self._insert(connection, "allocation", values)
            return int(run_id)

    def claim(
        self,
        workload_id: int,
        *,
        tenant: str,
        allocations: Sequence[tuple[str, str, int]] = (),
        run_ids: Sequence[int] = (),
        claimed: float = 0,
    ) -> None:
        """A claim on (flavor, resource, amount) for pod set `main`, which those runs make room for."""
        with self.database.begin() as connection:
            tenant_id = connection.execute(text("SELECT id FROM tenant WHERE name = :name"), {"name": tenant}).scalar_one()
            values = {
                "workload_id": workload_id,
                "tenant_id": tenant_id,
                "counts": {"main": 1},
                "allocations": [["main", *each] for each in allocations],
                "run_ids": list(run_ids),
                "claimed_at": at(claimed),
                "term": 1,
            }
            self._insert(connection, "claim", values)

    def decision(
        self, reason: Reason, *, tenant: str = "", shape: str = "", workload_id: int | None = None, **others: Any
    ) -> None:
        """A verdict on a shape in a tenant, or on one workload."""
        values = {
            "reason": str(reason),
            "message": f"because of {reason}",
            "would_change": "more of it",
            "evidence": {"shortfalls": [], "holders": [], "details": {}},
            "decided_at": at(0),
            **others,
        }
        with self.database.begin() as connection:
            if workload_id is not None:
                self._insert(connection, "workload_decision", {"workload_id": workload_id, **values})
                return
            tenant_id = connection.execute(text("SELECT id FROM tenant WHERE name = :name"), {"name": tenant}).scalar_one()
            self._insert(connection, "shape_decision", {"tenant_id": tenant_id, "shape": shape, **values})

    @staticmethod
    def _insert(connection: Connection, table: str, values: Mapping[str, Any]) -> Any:
        into = Base.metadata.tables[table]
        return connection.execute(insert(into).values(**values).returning(*into.columns)).one()[0]


def at(seconds: float) -> datetime:
    """`START` plus `seconds`."""
    return START + timedelta(seconds=seconds)


@pytest.fixture
def rows(ledger: Engine) -> Rows:
    """Writes rows of work into the test's ledger."""
    return Rows(ledger)
