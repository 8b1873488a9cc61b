"""Commit a Plan: quota is taken here and nowhere else (but for adopted runs, see `observing`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aiqueue.queue.errors import ConfigurationMoved, LedgerConflict
from aiqueue.queue.records import Allocation, Claim, Decision
from aiqueue.queue.store import leadership, usage
from aiqueue.queue.store.codec import evidence_to_json, to_json
from aiqueue.queue.store.statements import text
from aiqueue.queue.store.usage import UsageKey
from aiqueue.queue.usage import Usage
from aiqueue.queue.words import ActionKind, PreemptionRule, RunOutcome, WorkloadState, quoted


@dataclass(frozen=True, slots=True)
class AdmissionRow:
    """One admission as rows: `original` and `injected` are what the template held and what is written into it, by pod set."""

    workload_id: int
    attempt: int
    tenant: str
    namespace: str
    queue_name: str
    resource_version: str
    allocations: tuple[Allocation, ...]
    original: Mapping[str, Any]
    injected: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EvictionRow:
    """One eviction as rows: carried out at `evict_at`, announced before where that lies ahead.

    An `outcome` of EXPIRED ends the Job for good, any other suspends it.
    """

    run_id: int
    workload_id: int
    attempt: int
    outcome: RunOutcome
    message: str
    evict_at: datetime
    preempted_by: int | None = None
    rule: PreemptionRule | None = None


@dataclass(frozen=True, slots=True)
class PlanRows:
    """A Plan as rows. `seq` counts the Plans of a term; (term, seq) tells after a lost connection whether it was committed."""

    seq: int
    config_revision: int
    decided_at: datetime
    admissions: Sequence[AdmissionRow] = ()
    evictions: Sequence[EvictionRow] = ()
    claims: Sequence[Claim] = ()
    withdrawn_claims: Sequence[int] = ()
    decisions: Sequence[Decision] = ()
    withdrawn_shapes: Sequence[tuple[str, str]] = ()
    withdrawn_workloads: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Committed:
    """Run and action ids, parallel to the admissions; ids of all actions of the evictions, rising; and the database's clock.

    `usages` are what it made of the usage of the queues that were admitted from: folded at `now`, when the runs were opened.
    """

    now: datetime
    run_ids: tuple[int, ...]
    unsuspend_ids: tuple[int, ...]
    eviction_action_ids: tuple[int, ...]
    usages: Mapping[UsageKey, Usage]


# One statement, so that the rows, which hold whole templates, are sent and read once.
_ADMIT = text(
    f"""
WITH v AS MATERIALIZED (
  SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(workload_id bigint, attempt integer, tenant text, namespace text,
         queue_name text, resource_version text, original jsonb, injected jsonb, allocations jsonb)),
admitted AS (
  UPDATE workload w SET state = '{WorkloadState.ADMITTED}', state_since = :now, attempt = v.attempt, not_before = NULL
    FROM v WHERE w.id = v.workload_id AND w.state = '{WorkloadState.PENDING}' AND w.attempt = v.attempt - 1
     AND NOT w.owner_suspended AND NOT w.hold_requested
  RETURNING w.id, w.succeeded),
opened AS (
  INSERT INTO run (workload_id, attempt, cluster_id, tenant_id, queue_id, term, opened_at, original, injected, succeeded_before)
  SELECT v.workload_id, v.attempt, :cluster, t.id, q.id, :term, :now, v.original, v.injected, admitted.succeeded
    FROM v JOIN admitted ON admitted.id = v.workload_id JOIN tenant t ON t.name = v.tenant
    JOIN queue q ON q.namespace = v.namespace AND q.name = v.queue_name
  RETURNING workload_id, id, attempt),
taken AS (
  INSERT INTO allocation (run_id, pod_set, flavor_id, resource, amount)
  SELECT opened.id, x.pod_set, f.id, x.resource, x.amount
    FROM opened JOIN v ON v.workload_id = opened.workload_id
   CROSS JOIN LATERAL jsonb_to_recordset(v.allocations) AS x(pod_set text, flavor text, resource text, amount bigint)
    JOIN flavor f ON f.name = x.flavor
  RETURNING run_id),
told AS (
  INSERT INTO action (cluster_id, workload_id, run_id, attempt, kind, term, resource_version)
  SELECT :cluster, opened.workload_id, opened.id, opened.attempt, '{ActionKind.UNSUSPEND}', :term, v.resource_version
    FROM opened JOIN v ON v.workload_id = opened.workload_id
  RETURNING workload_id, id)
SELECT (SELECT count(*) FROM admitted), (SELECT count(*) FROM opened), (SELECT count(*) FROM taken),
       (SELECT jsonb_object_agg(workload_id, id) FROM opened), (SELECT jsonb_object_agg(workload_id, id) FROM told)
"""
)


def commit(connection: Connection, term: int, cluster_id: int, plan: PlanRows, *, replace_decisions: bool = False) -> Committed:
    """Write a Plan whole, in the caller's transaction.

    `replace_decisions` is for the first Plan of a new engine, which holds every decision there is: all others are removed.

    Raises:
        TermLost: another controller leads.
        ConfigurationMoved: an administrator changed something since; decide again.
        LedgerConflict: a workload or run is not as the Plan believes; rebuild the engine.
    """
    now = leadership.fence(connection, term)
    revision = connection.execute(text("SELECT revision FROM config_revision WHERE id = 1 FOR SHARE")).scalar_one()
    if revision != plan.config_revision:
        raise ConfigurationMoved(f"the configuration is at revision {revision}, the Plan was decided on {plan.config_revision}")
    connection.execute(
        text(
            "INSERT INTO plan (term, seq, config_revision, admissions, evictions, decided_at)"
            " VALUES (:term, :seq, :revision, :admissions, :evictions, :decided_at)"
        ),
        {
            "term": term,
            "seq": plan.seq,
            "revision": revision,
            "admissions": len(plan.admissions),
            "evictions": len(plan.evictions),
            "decided_at": plan.decided_at,
        },
    )
    run_ids, unsuspend_ids = _admit(connection, term, cluster_id, plan.admissions, now) if plan.admissions else ((), ())
    eviction_action_ids = _evict(connection, term, cluster_id, plan.evictions, now) if plan.evictions else ()
    _claim(connection, term, plan)
    if replace_decisions:
        connection.execute(text("DELETE FROM shape_decision"))
        connection.execute(text("DELETE FROM workload_decision"))
    _decide(connection, plan, now)
    return Committed(now, run_ids, unsuspend_ids, eviction_action_ids, usage.fold(connection, run_ids, now))


def was_committed(connection: Connection, term: int, seq: int) -> bool:
    """Whether a Plan whose commit got no answer is in the ledger."""
    found = connection.execute(text("SELECT 1 FROM plan WHERE term = :term AND seq = :seq"), {"term": term, "seq": seq})
    return found.one_or_none() is not None


def _admit(
    connection: Connection, term: int, cluster_id: int, admissions: Sequence[AdmissionRow], now: datetime
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rows = [
        {
            "workload_id": admission.workload_id,
            "attempt": admission.attempt,
            "tenant": admission.tenant,
            "namespace": admission.namespace,
            "queue_name": admission.queue_name,
            "resource_version": admission.resource_version,
            "original": admission.original,
            "injected": admission.injected,
            "allocations": [
                {"pod_set": x.pod_set, "flavor": x.flavor, "resource": x.resource, "amount": x.amount}
                for x in admission.allocations
            ],
        }
        for admission in admissions
    ]
    values = {"rows": to_json(rows), "now": now, "cluster": cluster_id, "term": term}
    admitted, opened, taken, run_of, action_of = connection.execute(_ADMIT, values).one()
    if admitted != len(rows):
        raise LedgerConflict(f"{len(rows)} workloads were to be admitted, {admitted} of them are pending")
    if opened != len(rows):
        raise LedgerConflict(f"{len(rows)} runs were to be opened, {opened} have their tenant and queue")
    allocations = sum(len(admission.allocations) for admission in admissions)
    if taken != allocations:
        raise LedgerConflict(f"{allocations} allocations were to be taken, {taken} have their flavor")
    ids = [str(admission.workload_id) for admission in admissions]
    connection.execute(text("DELETE FROM claim WHERE workload_id = ANY(:ids)"), {"ids": [row["workload_id"] for row in rows]})
    return tuple(run_of[each] for each in ids), tuple(action_of[each] for each in ids)


def _evict(
    connection: Connection, term: int, cluster_id: int, evictions: Sequence[EvictionRow], now: datetime
) -> tuple[int, ...]:
    """Notices and ends. A run that was told already ends at the earlier of the two times, as was said then; notice is given once."""
    ids = [eviction.run_id for eviction in evictions]
    found = connection.execute(text("SELECT id, evict_at FROM run WHERE id = ANY(:ids) AND closed_at IS NULL"), {"ids": ids})
    told: dict[int, datetime | None] = {run_id: evict_at for run_id, evict_at in found}  # noqa: C416 -- typed rows
    if len(told) != len(evictions):
        raise LedgerConflict(f"{len(evictions)} runs were to be evicted, {len(told)} of them are open")
    rows = [_eviction(e) for e in evictions if (known := told[e.run_id]) is None or e.evict_at < known]
    notices = [
        {**_eviction(e), "kind": ActionKind.ANNOUNCE, "evict_at": None}
        for e in evictions
        if told[e.run_id] is None and e.evict_at > now
    ]
    record = (
        "jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(run_id bigint, workload_id bigint, attempt integer, outcome text,"
        " message text, evict_at timestamptz, preempted_by bigint, rule text, kind text)"
    )
    connection.execute(
        text(
            "UPDATE run r SET evict_at = v.evict_at, evict_outcome = v.outcome, evict_message = v.message,"
            " preempted_by = v.preempted_by, evict_rule = v.rule, evict_noticed_at = coalesce(r.evict_noticed_at, :now)"
            f" FROM {record} WHERE r.id = v.run_id"
        ),
        {"rows": to_json(rows), "now": now},
    )
    connection.execute(
        text(
            f"UPDATE workload w SET state = '{WorkloadState.EVICTING}', state_since = :now"
            f" FROM {record} WHERE w.id = v.workload_id AND w.state = '{WorkloadState.ADMITTED}'"
        ),
        {"rows": to_json(rows), "now": now},
    )
    connection.execute(
        text(
            f"DELETE FROM action a USING {record} WHERE a.run_id = v.run_id AND a.kind <> v.kind"
            f" AND a.kind IN ('{ActionKind.SUSPEND}', '{ActionKind.EXPIRE}')"
        ),
        {"rows": to_json(rows)},
    )
    for some in (notices, rows):  # the notice comes first, since actions of a workload are carried out in order of id
        connection.execute(
            text(
                "INSERT INTO action (cluster_id, workload_id, run_id, attempt, kind, term, not_before)"
                f" SELECT :cluster, v.workload_id, v.run_id, v.attempt, v.kind, :term, v.evict_at FROM {record}"
                " ON CONFLICT (workload_id, attempt, kind) DO UPDATE SET not_before = least(action.not_before, excluded.not_before)"
            ),
            {"rows": to_json(some), "cluster": cluster_id, "term": term},
        )
    return _open_actions(connection, ids)


def _eviction(eviction: EvictionRow) -> dict[str, Any]:
    return {
        "run_id": eviction.run_id,
        "workload_id": eviction.workload_id,
        "attempt": eviction.attempt,
        "outcome": eviction.outcome,
        "message": eviction.message,
        "evict_at": eviction.evict_at.isoformat(),
        "preempted_by": eviction.preempted_by,
        "rule": eviction.rule,
        "kind": ActionKind.EXPIRE if eviction.outcome is RunOutcome.EXPIRED else ActionKind.SUSPEND,
    }


def _open_actions(connection: Connection, run_ids: list[int]) -> tuple[int, ...]:
    """What is yet to be done to announce and to carry out the end of these runs."""
    kinds = quoted((ActionKind.ANNOUNCE, ActionKind.SUSPEND, ActionKind.EXPIRE))
    found = connection.execute(
        text(f"SELECT id FROM action WHERE run_id = ANY(:ids) AND kind IN ({kinds}) ORDER BY id"), {"ids": run_ids}
    )
    return tuple(found.scalars())


def _claim(connection: Connection, term: int, plan: PlanRows) -> None:
    """Claims end and begin. Those of admitted workloads have ended already."""
    if plan.withdrawn_claims:
        connection.execute(text("DELETE FROM claim WHERE workload_id = ANY(:ids)"), {"ids": list(plan.withdrawn_claims)})
    if not plan.claims:
        return
    rows = [
        {
            "workload_id": claim.workload_id,
            "tenant": claim.tenant,
            "counts": dict(claim.counts),
            "allocations": [[x.pod_set, x.flavor, x.resource, x.amount] for x in claim.allocations],
            "run_ids": list(claim.run_ids),
            "claimed_at": claim.claimed_at.isoformat(),
        }
        for claim in plan.claims
    ]
    written = connection.execute(
        text(
            "INSERT INTO claim (workload_id, tenant_id, counts, allocations, run_ids, claimed_at, term)"
            " SELECT w.id, t.id, v.counts, v.allocations, v.run_ids, v.claimed_at, :term"
            " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(workload_id bigint, tenant text, counts jsonb, allocations jsonb,"
            "  run_ids bigint[], claimed_at timestamptz)"
            f" JOIN tenant t ON t.name = v.tenant JOIN workload w ON w.id = v.workload_id AND w.state = '{WorkloadState.PENDING}'"
            " ON CONFLICT (workload_id) DO UPDATE SET tenant_id = excluded.tenant_id, counts = excluded.counts,"
            "  allocations = excluded.allocations, run_ids = excluded.run_ids, claimed_at = excluded.claimed_at, term = excluded.term"
        ),
        {"rows": to_json(rows), "term": term},
    )
    if written.rowcount != len(rows):
        raise LedgerConflict(
            f"{len(rows)} workloads were to get a claim, {written.rowcount} of them are pending in their tenant"
        )


def _decide(connection: Connection, plan: PlanRows, now: datetime) -> None:
    """Decisions are replaced where they changed and removed where nothing waits any more."""
    if plan.withdrawn_shapes:
        connection.execute(
            text(
                "DELETE FROM shape_decision d USING tenant t,"
                " jsonb_to_recordset(CAST(:rows AS jsonb)) AS v(tenant text, shape text)"
                " WHERE t.name = v.tenant AND d.tenant_id = t.id AND d.shape = v.shape"
            ),
            {"rows": to_json([{"tenant": tenant, "shape": shape} for tenant, shape in plan.withdrawn_shapes])},
        )
    if plan.withdrawn_workloads:
        connection.execute(
            text("DELETE FROM workload_decision WHERE workload_id = ANY(:ids)"), {"ids": list(plan.withdrawn_workloads)}
        )
    columns = "reason, message, would_change, evidence, decided_at"
    update = ", ".join(f"{column} = excluded.{column}" for column in columns.split(", "))
    values = "v.reason, v.message, v.would_change, v.evidence, :now"
    for table, key, source in (
        (
            "shape_decision",
            "tenant_id, shape",
            (
                f"SELECT t.id, v.shape, {values} FROM jsonb_to_recordset(CAST(:rows AS jsonb))"
                " AS v(tenant text, shape text, reason text, message text, would_change text, evidence jsonb)"
                " JOIN tenant t ON t.name = v.tenant"
            ),
        ),
        (
            "workload_decision",
            "workload_id",
            (
                f"SELECT v.workload_id, {values} FROM jsonb_to_recordset(CAST(:rows AS jsonb))"
                " AS v(workload_id bigint, reason text, message text, would_change text, evidence jsonb)"
                " JOIN workload w ON w.id = v.workload_id"
            ),
        ),
    ):
        rows = [_decision(d) for d in plan.decisions if (d.workload_id is None) == (table == "shape_decision")]
        if rows:
            connection.execute(
                text(f"INSERT INTO {table} ({key}, {columns}) {source} ON CONFLICT ({key}) DO UPDATE SET {update}"),
                {"rows": to_json(rows), "now": now},
            )


def _decision(decision: Decision) -> dict[str, Any]:
    return {
        "tenant": decision.tenant,
        "shape": decision.shape,
        "workload_id": decision.workload_id,
        "reason": decision.reason,
        "message": decision.message,
        "would_change": decision.would_change,
        "evidence": evidence_to_json(decision),
    }
