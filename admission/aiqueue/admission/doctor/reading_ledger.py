"""Reads a ledger in one transaction that sees one instant, and builds an engine from it as a controller would."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from aiqueue.admission.doctor.snapshots import ClusterSnapshot, LedgerSnapshot
from aiqueue.admission.engine.engine import Engine
from aiqueue.admission.retelling import Retelling
from aiqueue.queue.database import allow_seconds
from aiqueue.queue.store import clusters, doctor, housekeeping, known, leadership, run_ids, views

READ_SECONDS = 120  # a large ledger is read in one transaction that holds no lock


def read_ledger(
    connection: Connection, cluster_name: str, cluster: ClusterSnapshot | None, step: Callable[[str], None] = lambda _text: None
) -> LedgerSnapshot:
    """What the ledger holds.

    Args:
        connection: in a transaction that sees one instant.
        cluster_name: what the ledger is to know the cluster by.
        cluster: as it was seen before, None to look at the ledger alone.
        step: hears what is being read.
    """
    allow_seconds(connection, READ_SECONDS)
    leader = leadership.current(connection)
    uid = clusters.ledger_uid(connection)
    registered = clusters.find(connection, cluster_name)
    other = None
    if registered is None and cluster is not None:
        others = (view for view in views.list_clusters(connection) if view.kube_system_uid == cluster.kube_system_uid)
        other = next((view.name for view in others), None)
    step("the ledger")
    retelling = Retelling.of(connection)
    stamps = [seen.stamp for seen in cluster.jobs.values() if seen.stamp] if cluster is not None else []
    ours = {stamp.run_id for stamp in stamps if stamp.ledger == uid}
    rows = known.load(connection, registered.id) if registered is not None else {}
    open_ids = {row.run.id for row in rows.values() if row.run is not None}
    step("the engine")
    engine = Engine(max_admissions=1)
    for event in retelling.events():
        engine.observe(event)
    return LedgerSnapshot(
        uid=uid,
        now=leader.now,
        leader=leader,
        configuration=retelling.configuration,
        cluster=registered,
        other_name=other,
        known=rows,
        actions=doctor.open_actions(connection, registered.id) if registered is not None else (),
        claims=doctor.claims(connection),
        rates=doctor.rates(connection),
        past_runs=doctor.past_runs(connection, registered.id, sorted(ours - open_ids)) if registered is not None else {},
        newest_run_id=run_ids.newest(connection, max(ours, default=0)),
        held=housekeeping.usage(connection),
        engine_holds=dict(engine.usage()),
    )
