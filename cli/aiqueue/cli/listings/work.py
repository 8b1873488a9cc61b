"""Workloads and runs as listings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aiqueue.cli.ages import age, human
from aiqueue.cli.listings.query import Answer, Query, allocations, amounts, instant, namespaced, pages, until, word
from aiqueue.cli.printers import Column, Row
from aiqueue.queue.documents import API_VERSION
from aiqueue.queue.store import views
from aiqueue.queue.units import format_amount
from aiqueue.queue.words import RunOutcome, WorkloadState


def workload_document(view: views.WorkloadView, now: datetime) -> dict[str, Any]:
    """A workload as a document."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Workload",
        "metadata": {"name": view.name, "namespace": view.namespace, "uid": view.uid},
        "spec": {
            "cluster": view.cluster,
            "queue": view.queue_name,
            "class": view.class_name,
            "checkpointSeconds": view.checkpoint_seconds,
            "maxRuntimeSeconds": view.max_runtime_seconds,
            "podSets": [
                {
                    "name": pod_set.name,
                    "count": pod_set.count,
                    "minCount": pod_set.min_count,
                    "requests": {name: format_amount(name, amount) for name, amount in sorted(pod_set.requests.items())},
                }
                for pod_set in view.pod_sets
            ],
        },
        "status": {
            "state": str(view.state),
            "since": instant(view.state_since),
            "tenant": view.tenant,
            "reason": None if view.reason is None else str(view.reason),
            "message": view.message,
            "wouldChange": view.would_change,
            "attempt": view.attempt,
            "user": view.user,
            "owner": view.owner,
            "createdAt": instant(view.created_at),
            "firstAdmittedAt": instant(view.first_admitted_at),
            "endedAt": instant(view.ended_at),
            "waitedSeconds": view.waited_seconds(now),
            "evictAt": instant(view.evict_at),
            "evictOutcome": None if view.evict_outcome is None else str(view.evict_outcome),
            "evictRule": None if view.evict_rule is None else str(view.evict_rule),
            "evictMessage": view.evict_message,
            "preemptedBy": view.preempted_by,
            "ranSeconds": view.ran_seconds,
            "readyPods": view.ready,
            "admittedPods": view.admitted_pods,
            "requeues": view.requeues,
            "requeuedAt": instant(view.requeued_at),
            "notBefore": instant(view.not_before),
            "archived": view.archived,
        },
    }


def run_document(view: views.RunView) -> dict[str, Any]:
    """A run as a document."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Run",
        "metadata": {"name": view.name, "namespace": view.namespace},
        "spec": {
            "id": view.id,
            "attempt": view.attempt,
            "tenant": view.tenant,
            "adopted": view.adopted,
            "allocations": allocations(view.allocations),
        },
        "status": {
            "outcome": str(view.outcome),
            "message": view.message,
            "openedAt": instant(view.opened_at),
            "startedAt": instant(view.started_at),
            "readyAt": instant(view.ready_at),
            "unreadySince": instant(view.unready_since),
            "evictAt": instant(view.evict_at),
            "evictOutcome": None if view.evict_outcome is None else str(view.evict_outcome),
            "evictMessage": view.evict_message,
            "evictRule": None if view.evict_rule is None else str(view.evict_rule),
            "noticedAt": instant(view.evict_noticed_at),
            "preemptedBy": view.preempted_by,
            "stoppedAt": instant(view.stopped_at),
            "closedAt": instant(view.closed_at),
            "lostSeconds": view.lost_seconds,
        },
    }


def workloads(connection: Connection, query: Query, now: datetime) -> Answer:
    """Workloads that match."""
    state = word(query.state, WorkloadState)
    wanted = views.WorkloadFilter(
        namespace=query.namespace,
        name=query.name,
        queue=query.queue,
        tenant=query.tenant,
        state=state,
        ended=query.everything or query.name is not None,
    )
    page = pages(lambda after, limit: views.list_workloads(connection, wanted, after=after, limit=limit), query.limit)
    columns = [
        Column("NAME"),
        Column("STATE"),
        Column("QUEUE", long=True),
        Column("TENANT", long=True),
        Column("CLASS", long=True),
    ]
    columns += [Column("PODS"), Column("READY"), Column("REASON"), Column("AGE")]
    columns += [
        Column("WAITED", wide=True),
        Column("ATTEMPT", wide=True),
        Column("REQUESTS", wide=True, long=True),
        Column("USER", wide=True, long=True),
        Column("ENDS", wide=True),
        Column("PREEMPTED-BY", wide=True, long=True),
        Column("RULE", wide=True),
        Column("MESSAGE", wide=True, long=True),
    ]
    return Answer(
        namespaced(
            columns,
            [
                (
                    view.namespace,
                    Row(
                        f"workload/{view.namespace}/{view.name}",
                        (
                            view.name,
                            str(view.state),
                            view.queue_name,
                            view.tenant or "",
                            view.class_name or "",
                            str(view.pods),
                            _ready(view),
                            view.reason or view.evict_outcome or "",
                            age(view.created_at, now),
                            human(view.waited_seconds(now)),
                            str(view.attempt),
                            amounts(view.requests),
                            view.user,
                            until(view.evict_at, now),
                            view.preempted_by or "",
                            view.evict_rule or "",
                            view.message or view.evict_message or "",
                        ),
                        workload_document(view, now),
                    ),
                )
                for view in page.items
            ],
            query,
        ),
        page.next is not None,
    )


def _ready(view: views.WorkloadView) -> str:
    return "" if view.ready is None else f"{view.ready}/{view.admitted_pods or view.pods}"


def runs(connection: Connection, query: Query, now: datetime) -> Answer:
    """Runs that match."""
    wanted = views.RunFilter(
        namespace=query.namespace,
        name=query.name,
        tenant=query.tenant,
        outcome=word(query.state, RunOutcome),
        closed=query.everything or query.name is not None,
    )
    page = pages(lambda after, limit: views.list_runs(connection, wanted, after=after, limit=limit), query.limit)
    columns = [Column("NAME"), Column("ATTEMPT"), Column("OUTCOME"), Column("TENANT", long=True), Column("FLAVORS", long=True)]
    columns += [Column("OPENED"), Column("RAN"), Column("ENDS", wide=True), Column("HOLDS", wide=True, long=True)]
    columns += [
        Column("PREEMPTED-BY", wide=True, long=True),
        Column("RULE", wide=True),
        Column("MESSAGE", wide=True, long=True),
    ]
    rows = []
    for view in page.items:
        flavors = sorted({allocation.flavor for allocation in view.allocations})
        held: dict[str, int] = {}
        for (_, resource), amount in view.held.items():
            held[resource] = held.get(resource, 0) + amount
        cells = (
            view.name,
            str(view.attempt),
            str(view.outcome),
            view.tenant,
            ",".join(flavors),
            age(view.opened_at, now),
            human(((view.closed_at or now) - view.opened_at).total_seconds()),
            until(view.evict_at if view.closed_at is None else None, now),
            amounts(held),
            view.preempted_by or "",
            view.evict_rule or "",
            view.message or view.evict_message or "",
        )
        rows.append((view.namespace, Row(f"run/{view.namespace}/{view.name}/{view.attempt}", cells, run_document(view))))
    return Answer(namespaced(columns, rows, query, single=False), page.next is not None)
