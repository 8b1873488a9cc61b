"""Write what was observed, in one fenced transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping

from aiqueue.queue.errors import LedgerConflict
from aiqueue.queue.observations import Observation
from aiqueue.queue.store import leadership, requeues, resizing, usage
from aiqueue.queue.store.changes import AdoptedRun, Changes, NewAction, NewWorkload, SeenAgain
from aiqueue.queue.store.codec import pod_set_to_json, to_json
from aiqueue.queue.store.statements import text
from aiqueue.queue.store.usage import UsageKey
from aiqueue.queue.usage import Usage
from aiqueue.queue.words import TERMINAL_STATES, AuditVerb, WorkloadState

_OBSERVED = """
    resource_version text, suspended boolean, active integer, terminating integer, ready integer, succeeded integer,
    failed integer, stamp text, queue_name text, class_name text, shape text, invalid text, hold_requested boolean,
    release_requested boolean, checkpoint_seconds bigint, max_runtime_seconds bigint
"""
_POD_SETS = """
INSERT INTO pod_set (workload_id, position, name, count, min_count, requests, node_selector, tolerations, affinity_terms)
SELECT workload_id, position, name, count, min_count, requests, node_selector, tolerations, affinity_terms
  FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(workload_id bigint, position integer, name text, count integer,
       min_count integer, requests jsonb, node_selector jsonb, tolerations jsonb, affinity_terms jsonb)
"""


@dataclass(frozen=True, slots=True)
class Written:
    """What the ledger made of a batch: ids of new workloads by uid, of adopted runs (id, attempt) by uid, of actions; and usage.

    `usages` are of the queues whose runs were closed, adopted or shrunk, folded at `now`; `resized` are the runs that hold less.
    """

    now: datetime
    workload_ids: Mapping[str, int]
    observed_at: Mapping[str, datetime]
    adopted: Mapping[str, tuple[int, int]]
    action_ids: Mapping[tuple[str, int, str], int]
    usages: Mapping[UsageKey, Usage]
    resized: frozenset[int]


def write(connection: Connection, term: int, cluster_id: int, changes: Changes) -> Written:
    """Write a batch of changes as one transaction of `term`.

    Raises:
        TermLost: another controller leads.
        LedgerConflict: a row is not as the caller believes; nothing of the batch may be kept.
    """
    now = leadership.fence(connection, term)
    _vanish(connection, changes, now)
    _insert_new(connection, cluster_id, changes.new, now)
    _see_again(connection, changes.seen, now)
    _follow_runs(connection, changes, now)
    _close(connection, changes, now)
    requeues.write(connection, changes, now)
    uids = [*(w.observation.uid for w in changes.new), *(a.uid for a in changes.adopted), *(a.uid for a in changes.actions)]
    found = _find(connection, cluster_id, uids)
    ids = {uid: row["id"] for uid, row in found.items()}
    adopted = _adopt(connection, cluster_id, term, changes.adopted, ids=ids, now=now)
    _end_claims_and_actions(connection, changes, ids)  # before new ones are added: what was done may have to be done again
    actions = _add_actions(connection, cluster_id, term, changes.actions, ids)
    moved = [*(closed.run_id for closed in changes.closed), *(run_id for run_id, _ in adopted.values())]
    usages = usage.fold(connection, moved, now)
    resized, given_back = resizing.shrink(connection, changes.resized, now)
    observed_at = {uid: row["observed_at"] for uid, row in found.items()}
    return Written(now, ids, observed_at, adopted, actions, {**usages, **given_back}, resized)


def _rows(connection: Connection, statement: str, rows: Iterable[Mapping[str, Any]], **values: Any) -> list[RowMapping]:
    """Run a statement over `rows` as a JSON recordset; an empty set runs nothing."""
    listed = list(rows)
    if not listed:
        return []
    result = connection.execute(text(statement), {"rows": to_json(listed), **values})
    return list(result.mappings()) if result.returns_rows else []


def _observed(observation: Observation) -> dict[str, Any]:
    return {
        "resource_version": observation.resource_version,
        "suspended": observation.suspended,
        "active": observation.active,
        "terminating": observation.terminating,
        "ready": observation.ready,
        "succeeded": observation.succeeded,
        "failed": observation.failed,
        "stamp": str(observation.stamp) if observation.stamp else observation.foreign_stamp,
        "queue_name": observation.queue_name,
        "class_name": observation.class_name,
        "shape": observation.shape,
        "invalid": observation.invalid,
        "hold_requested": observation.held_by_owner,
        "release_requested": observation.released_by_owner,
        "checkpoint_seconds": observation.checkpoint_seconds,
        "max_runtime_seconds": observation.max_runtime_seconds,
    }


def _pod_set_rows(workload_id: int, observation: Observation) -> list[dict[str, Any]]:
    return [
        {"workload_id": workload_id, "position": position, **pod_set_to_json(pod_set)}
        for position, pod_set in enumerate(observation.pod_sets)
    ]


def _vanish(connection: Connection, changes: Changes, now: datetime) -> None:
    _rows(
        connection,
        "UPDATE workload w SET state = v.state, state_since = :now, ended_at = :now"
        " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(id bigint, state text) WHERE w.id = v.id",
        ({"id": gone.workload_id, "state": gone.state} for gone in changes.vanished),
        now=now,
    )


def _insert_new(connection: Connection, cluster_id: int, new: list[NewWorkload], now: datetime) -> None:
    inserted = _rows(
        connection,
        "INSERT INTO workload (cluster_id, uid, namespace, name, created_at, observed_at, state, state_since, user_name, owner,"
        "  resource_version, suspended, active, terminating, ready, succeeded, failed, stamp, queue_name, class_name, shape,"
        "  invalid, hold_requested, release_requested, checkpoint_seconds, max_runtime_seconds)"
        " SELECT :cluster, uid, namespace, name, created_at, :now, state, :now, user_name, owner,"
        "  resource_version, suspended, active, terminating, ready, succeeded, failed, stamp, queue_name, class_name, shape,"
        "  invalid, hold_requested, release_requested, checkpoint_seconds, max_runtime_seconds"
        " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(uid text, namespace text, name text, created_at timestamptz,"
        f"  state text, user_name text, owner text, {_OBSERVED}) RETURNING id, uid",
        (
            {
                "uid": item.observation.uid,
                "namespace": item.observation.namespace,
                "name": item.observation.name,
                "created_at": item.observation.created_at.isoformat(),
                "state": item.state,
                "user_name": item.observation.user,
                "owner": item.observation.owner,
                **_observed(item.observation),
            }
            for item in new
        ),
        cluster=cluster_id,
        now=now,
    )
    ids = {row["uid"]: row["id"] for row in inserted}
    _rows(connection, _POD_SETS, (row for item in new for row in _pod_set_rows(ids[item.observation.uid], item.observation)))


def _see_again(connection: Connection, seen: list[SeenAgain], now: datetime) -> None:
    terminal = [str(state) for state in TERMINAL_STATES]
    # Template and class are the owner's wish: they are left alone while the template may hold what we injected.
    _rows(
        connection,
        "UPDATE workload w SET resource_version = v.resource_version, suspended = v.suspended, active = v.active,"
        "  terminating = v.terminating, ready = v.ready, succeeded = v.succeeded, failed = v.failed, stamp = v.stamp,"
        "  queue_name = CASE WHEN v.pod_sets OR v.suspended THEN coalesce(v.queue_name, w.queue_name) ELSE w.queue_name END,"
        "  class_name = CASE WHEN v.pod_sets THEN v.class_name ELSE w.class_name END,"
        "  shape = CASE WHEN v.pod_sets THEN v.shape ELSE w.shape END,"
        "  invalid = CASE WHEN v.pod_sets THEN v.invalid ELSE w.invalid END,"
        "  hold_requested = v.hold_requested, release_requested = v.release_requested, owner_suspended = v.owner_suspended,"
        "  checkpoint_seconds = v.checkpoint_seconds, max_runtime_seconds = v.max_runtime_seconds,"
        "  state_since = CASE WHEN w.state = v.state THEN w.state_since ELSE :now END,"
        "  ended_at = CASE WHEN v.state = ANY(:terminal) THEN coalesce(w.ended_at, :now) END,"
        "  state = v.state"
        " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(id bigint, state text, owner_suspended boolean, pod_sets boolean,"
        f" {_OBSERVED}) WHERE w.id = v.id",
        (
            {
                "id": item.workload_id,
                "state": item.state,
                "owner_suspended": item.owner_suspended,
                "pod_sets": item.pod_sets,
                **_observed(item.observation),
            }
            for item in seen
        ),
        now=now,
        terminal=terminal,
    )
    replaced = [item for item in seen if item.pod_sets]
    if replaced:
        connection.execute(
            text("DELETE FROM pod_set WHERE workload_id = ANY(:ids)"), {"ids": [item.workload_id for item in replaced]}
        )
        _rows(connection, _POD_SETS, (row for item in replaced for row in _pod_set_rows(item.workload_id, item.observation)))


def _follow_runs(connection: Connection, changes: Changes, now: datetime) -> None:
    if changes.started:
        connection.execute(
            text("UPDATE run SET started_at = :now WHERE id = ANY(:ids) AND started_at IS NULL"),
            {"now": now, "ids": [started.run_id for started in changes.started]},
        )
    stopped = [
        {
            "run_id": item.run_id,
            "workload_id": item.workload_id,
            "outcome": item.outcome,
            "message": item.message,
            "owner_suspended": item.owner_suspended,
        }
        for item in changes.stopped
    ]
    record = "jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(run_id bigint, workload_id bigint, outcome text, message text, owner_suspended boolean)"
    _rows(
        connection,
        "UPDATE run r SET stopped_at = coalesce(r.stopped_at, :now), evict_outcome = coalesce(r.evict_outcome, v.outcome),"
        f" evict_message = coalesce(r.evict_message, v.message) FROM {record} WHERE r.id = v.run_id AND r.closed_at IS NULL",
        stopped,
        now=now,
    )
    _rows(
        connection,
        f"UPDATE workload w SET state = '{WorkloadState.RELEASING}', owner_suspended = w.owner_suspended OR v.owner_suspended,"
        f" state_since = CASE WHEN w.state = '{WorkloadState.RELEASING}' THEN w.state_since ELSE :now END"
        f" FROM {record} WHERE w.id = v.workload_id AND w.state IN ('{WorkloadState.ADMITTED}', '{WorkloadState.EVICTING}',"
        f" '{WorkloadState.RELEASING}')",
        stopped,
        now=now,
    )


def _close(connection: Connection, changes: Changes, now: datetime) -> None:
    """Quota is given back here and nowhere else; the workload remembers how long it ran."""
    rows = [
        {
            "run_id": item.run_id,
            "workload_id": item.workload_id,
            "outcome": item.outcome,
            "message": item.message,
            "state": item.state,
        }
        for item in changes.closed
    ]
    if not rows:
        return
    record = "jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(run_id bigint, workload_id bigint, outcome text, message text, state text)"
    closed = _rows(
        connection,
        f"UPDATE run r SET closed_at = :now, outcome = v.outcome, message = v.message FROM {record}"
        " WHERE r.id = v.run_id AND r.workload_id = v.workload_id AND r.closed_at IS NULL RETURNING r.id",
        rows,
        now=now,
    )
    if len(closed) != len(rows):
        raise LedgerConflict(f"{len(rows)} runs were to be closed, {len(closed)} of them are open")
    connection.execute(text("DELETE FROM action WHERE run_id = ANY(:ids)"), {"ids": [row["run_id"] for row in rows]})
    _rows(
        connection,
        "UPDATE workload w SET ran_seconds = w.ran_seconds + greatest(0, ceil(extract(epoch FROM r.closed_at - r.opened_at)))::bigint,"
        "  state = CASE WHEN w.state = ANY(:terminal) THEN w.state ELSE v.state END,"
        "  state_since = CASE WHEN w.state = ANY(:terminal) THEN w.state_since ELSE :now END,"
        "  ended_at = CASE WHEN w.state = ANY(:terminal) THEN w.ended_at WHEN v.state = ANY(:terminal) THEN :now END"
        f" FROM {record} JOIN run r ON r.id = v.run_id WHERE w.id = v.workload_id",
        rows,
        now=now,
        terminal=[str(state) for state in TERMINAL_STATES],
    )


# One statement, since each that a round takes costs both ends about as much as the rows of ten Jobs.
_END = """
WITH ended AS (DELETE FROM claim WHERE workload_id = ANY(CAST(:workloads AS bigint[])))
DELETE FROM action WHERE id = ANY(CAST(:actions AS bigint[]))
"""


def _end_claims_and_actions(connection: Connection, changes: Changes, ids_of: Mapping[str, int]) -> None:
    """Only who is Pending has a claim, whatever the engine says of it next; actions that were done are forgotten."""
    ids = [gone.workload_id for gone in changes.vanished]
    ids += [ids_of[adopted.uid] for adopted in changes.adopted]
    ids += [seen.workload_id for seen in changes.seen if seen.state is not WorkloadState.PENDING]
    if ids or changes.done_actions:
        connection.execute(text(_END), {"workloads": ids, "actions": changes.done_actions})


def _find(connection: Connection, cluster_id: int, uids: list[str]) -> dict[str, RowMapping]:
    if not uids:
        return {}
    found = connection.execute(
        text("SELECT uid, id, attempt, observed_at FROM workload WHERE cluster_id = :cluster AND uid = ANY(:uids)"),
        {"cluster": cluster_id, "uids": uids},
    )
    return {row["uid"]: row for row in found.mappings()}


def _adopt(
    connection: Connection,
    cluster_id: int,
    term: int,
    adopted: list[AdoptedRun],
    *,
    ids: Mapping[str, int],
    now: datetime,
) -> dict[str, tuple[int, int]]:
    """Open a run for each Job that runs without one, over quota if need be."""
    runs = _rows(
        connection,
        "WITH v AS (SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb))"
        "   AS r(workload_id bigint, tenant text, namespace text, queue_name text, stamped_by bigint, ready boolean)),"
        f" w AS (UPDATE workload SET state = '{WorkloadState.ADMITTED}', state_since = :now, attempt = attempt + 1"
        "   FROM v WHERE id = v.workload_id RETURNING id, uid, attempt)"
        " INSERT INTO run (workload_id, attempt, cluster_id, tenant_id, queue_id, term, adopted, opened_at, started_at, original, injected, ready_at)"
        " SELECT w.id, w.attempt, :cluster, t.id, q.id, :term, true, :now, :now, coalesce(b.original, '{}'), coalesce(b.injected, '{}'),"
        "  CASE WHEN v.ready THEN CAST(:now AS timestamptz) END"
        " FROM w JOIN v ON v.workload_id = w.id JOIN tenant t ON t.name = v.tenant"
        " LEFT JOIN queue q ON q.namespace = v.namespace AND q.name = v.queue_name"
        " LEFT JOIN run b ON b.id = v.stamped_by AND b.workload_id = w.id"
        " RETURNING id, workload_id, attempt",
        (
            {
                "workload_id": ids[a.uid],
                "tenant": a.tenant,
                "namespace": a.namespace,
                "queue_name": a.queue_name,
                "stamped_by": a.stamped_by,
                "ready": a.ready,
            }
            for a in adopted
        ),
        cluster=cluster_id,
        term=term,
        now=now,
    )
    if len(runs) != len(adopted):
        raise LedgerConflict(f"{len(adopted)} running Jobs were to be adopted, {len(runs)} could be")
    run_of = {row["workload_id"]: (int(row["id"]), int(row["attempt"])) for row in runs}
    taken = [x for a in adopted for x in a.allocations]
    written = _rows(
        connection,
        f"{_INSERT_ALLOCATIONS} RETURNING run_id",
        (
            {
                "run_id": run_of[ids[a.uid]][0],
                "pod_set": x.pod_set,
                "flavor": x.flavor,
                "resource": x.resource,
                "amount": x.amount,
            }
            for a in adopted
            for x in a.allocations
        ),
    )
    if len(written) != len(taken):
        raise LedgerConflict(f"{len(taken)} allocations were to be adopted, {len(written)} have their flavor")
    _rows(
        connection,
        "INSERT INTO audit (verb, kind, name, after)"
        f" SELECT '{AuditVerb.ADOPTED}', 'Workload', w.namespace || '/' || w.name, jsonb_build_object('run', v.run_id, 'why', v.why)"
        " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(workload_id bigint, run_id bigint, why text)"
        " JOIN workload w ON w.id = v.workload_id",
        ({"workload_id": ids[a.uid], "run_id": run_of[ids[a.uid]][0], "why": a.why} for a in adopted),
    )
    return {a.uid: run_of[ids[a.uid]] for a in adopted}


_INSERT_ALLOCATIONS = """
INSERT INTO allocation (run_id, pod_set, flavor_id, resource, amount)
SELECT v.run_id, v.pod_set, f.id, v.resource, v.amount
  FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(run_id bigint, pod_set text, flavor text, resource text, amount bigint)
  JOIN flavor f ON f.name = v.flavor
"""


def _add_actions(
    connection: Connection, cluster_id: int, term: int, actions: list[NewAction], ids: Mapping[str, int]
) -> dict[tuple[str, int, str], int]:
    """One open action of a kind for one attempt: asking again for what is yet to be done finds the same row."""
    uid_of = {ids[action.uid]: action.uid for action in actions}
    added = _rows(
        connection,
        "INSERT INTO action (cluster_id, workload_id, run_id, attempt, kind, term, resource_version)"
        " SELECT :cluster, v.workload_id, r.id, v.attempt, v.kind, :term, v.resource_version"
        " FROM jsonb_to_recordset(CAST(:rows AS jsonb))"
        "  AS v(workload_id bigint, run_id bigint, attempt integer, kind text, resource_version text)"
        " LEFT JOIN run r ON r.id = v.run_id AND r.workload_id = v.workload_id"
        " ON CONFLICT (workload_id, attempt, kind) DO UPDATE SET resource_version = excluded.resource_version"
        " RETURNING id, workload_id, attempt, kind",
        (
            {
                "workload_id": ids[action.uid],
                "run_id": action.run_id,
                "attempt": action.attempt,
                "kind": action.kind,
                "resource_version": action.resource_version,
            }
            for action in actions
        ),
        cluster=cluster_id,
        term=term,
    )
    return {(uid_of[row["workload_id"]], row["attempt"], row["kind"]): row["id"] for row in added}
