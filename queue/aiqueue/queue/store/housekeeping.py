"""What keeps the hot tables small and the engine honest."""

from __future__ import annotations

from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from aiqueue.queue.store import leadership
from aiqueue.queue.words import LIVE_STATES, ActionKind

BATCH = 500
_KEEP_PLANS = 1000
_LOCKED = "55P03"


def archive(connection: Connection, term: int, after_seconds: float, most: int = BATCH) -> list[str]:
    """Move terminal workloads that ended `after_seconds` ago, with their runs, out of the hot tables, at most so many.

    Workloads whose Job is gone but whose run is still open stay, and those whose Job is yet to get its template back.
    Returns the uids that moved.

    Raises:
        TermLost: another controller leads.
    """
    now = leadership.fence(connection, term)
    live = ", ".join(f"'{state}'" for state in LIVE_STATES)
    ids = list(
        connection.execute(
            text(
                f"SELECT w.id FROM workload w WHERE NOT (w.state IN ({live}))"
                " AND w.ended_at < :now - make_interval(secs => :after)"
                " AND NOT EXISTS (SELECT 1 FROM run r WHERE r.workload_id = w.id AND r.closed_at IS NULL)"
                f" AND NOT EXISTS (SELECT 1 FROM action a WHERE a.workload_id = w.id AND a.kind = '{ActionKind.RESTORE}')"
                " ORDER BY w.ended_at LIMIT :batch"
            ),
            {"now": now, "after": after_seconds, "batch": most},
        ).scalars()
    )
    if not ids or not _archive_is_free(connection):
        return []
    connection.execute(
        text(
            "INSERT INTO archived_workload (id, cluster_id, uid, namespace, name, queue_name, class_name, shape, user_name, owner,"
            "  created_at, observed_at, ended_at, state, attempt, tenant, pod_sets)"
            " SELECT w.id, w.cluster_id, w.uid, w.namespace, w.name, w.queue_name, w.class_name, w.shape, w.user_name, w.owner,"
            "  w.created_at, w.observed_at, w.ended_at, w.state, w.attempt,"
            "  coalesce((SELECT t.name FROM run r JOIN tenant t ON t.id = r.tenant_id"
            "             WHERE r.workload_id = w.id ORDER BY r.attempt DESC LIMIT 1), ''),"
            "  coalesce((SELECT jsonb_agg(to_jsonb(p) - 'workload_id' ORDER BY p.position, p.name)"
            "              FROM pod_set p WHERE p.workload_id = w.id), '[]')"
            " FROM workload w WHERE w.id = ANY(:ids)"
        ),
        {"ids": ids},
    )
    connection.execute(
        text(
            "INSERT INTO archived_run (id, workload_id, attempt, tenant, adopted, opened_at, started_at, ready_at, closed_at,"
            "  outcome, message, preempted_by, evict_rule, allocations)"
            " SELECT r.id, r.workload_id, r.attempt, t.name, r.adopted, r.opened_at, r.started_at, r.ready_at, r.closed_at, r.outcome,"
            "  r.message, r.preempted_by, r.evict_rule,"
            "  coalesce((SELECT jsonb_agg(jsonb_build_array(a.pod_set, f.name, a.resource, coalesce(a.opened_amount, a.amount))"
            "                             ORDER BY a.pod_set, f.name, a.resource)"
            "              FROM allocation a JOIN flavor f ON f.id = a.flavor_id WHERE a.run_id = r.id), '[]')"
            " FROM run r JOIN tenant t ON t.id = r.tenant_id WHERE r.workload_id = ANY(:ids)"
        ),
        {"ids": ids},
    )
    connection.execute(text("DELETE FROM action WHERE workload_id = ANY(:ids)"), {"ids": ids})
    connection.execute(text("DELETE FROM run WHERE workload_id = ANY(:ids)"), {"ids": ids})
    moved = connection.execute(text("DELETE FROM workload WHERE id = ANY(:ids) RETURNING uid"), {"ids": ids})
    return list(moved.scalars())


def _archive_is_free(connection: Connection) -> bool:
    """Whether nobody keeps the archive locked, to vacuum it or to build an index: this can wait, and who leads has other things to do."""
    try:
        with connection.begin_nested():
            connection.execute(text("LOCK TABLE archived_workload, archived_run IN ROW EXCLUSIVE MODE NOWAIT"))
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != _LOCKED:
            raise
        return False
    return True


def tell_tenants(connection: Connection, term: int, most: int = BATCH) -> int:
    """Fill in, in some of the archived workloads that an older version archived, whose they were. Returns how many those are.

    Raises:
        TermLost: another controller leads.
    """
    leadership.fence(connection, term)
    if not _archive_is_free(connection):
        return 0
    told = connection.execute(
        text(
            "UPDATE archived_workload w SET tenant = coalesce((SELECT r.tenant FROM archived_run r WHERE r.workload_id = w.id"
            " ORDER BY r.attempt DESC LIMIT 1), '') WHERE w.id = ANY (ARRAY("
            "SELECT id FROM archived_workload WHERE tenant IS NULL ORDER BY ended_at DESC, id DESC LIMIT :most))"
        ),
        {"most": most},
    )
    return told.rowcount


def forget_plans(connection: Connection, term: int) -> int:
    """Delete plan rows that no lost connection can ask for any more. Returns how many."""
    leadership.fence(connection, term)
    deleted = connection.execute(
        text("DELETE FROM plan WHERE term < :term OR seq < (SELECT max(seq) FROM plan WHERE term = :term) - :keep"),
        {"term": term, "keep": _KEEP_PLANS},
    )
    return deleted.rowcount


def usage(connection: Connection) -> dict[tuple[str, str, str], int]:
    """What open runs hold, as (tenant, flavor, resource) -> amount: the truth that the engine's usage is compared with."""
    rows = connection.execute(
        text(
            "SELECT t.name, f.name, a.resource, sum(a.amount) FROM run r JOIN tenant t ON t.id = r.tenant_id"
            " JOIN allocation a ON a.run_id = r.id JOIN flavor f ON f.id = a.flavor_id"
            " WHERE r.closed_at IS NULL GROUP BY 1, 2, 3 HAVING sum(a.amount) <> 0"
        )
    )
    return {(tenant, flavor, resource): int(amount) for tenant, flavor, resource, amount in rows}
