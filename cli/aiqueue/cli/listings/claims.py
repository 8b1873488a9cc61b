"""Claims as listings."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aiqueue.cli.ages import age
from aiqueue.cli.listings.query import Answer, Query, allocations, amounts, instant, namespaced, until
from aiqueue.cli.printers import Column, Row
from aiqueue.queue.documents import API_VERSION
from aiqueue.queue.store import views
from aiqueue.queue.words import RunOutcome


def claim_document(view: views.ClaimView, now: datetime) -> dict[str, Any]:
    """A claim as a document."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Claim",
        "metadata": {"name": view.name, "namespace": view.namespace},
        "spec": {
            "tenant": view.tenant,
            "counts": dict(view.counts),
            "allocations": allocations(view.allocations),
        },
        "status": {
            "claimedAt": instant(view.claimed_at),
            "until": instant(view.until),
            "victims": [
                {
                    "namespace": run.namespace,
                    "name": run.name,
                    "attempt": run.attempt,
                    "tenant": run.tenant,
                    "state": str(run.leaving(now) or RunOutcome.RUNNING),
                    "outcome": str(run.outcome),
                    "evictOutcome": None if run.evict_outcome is None else str(run.evict_outcome),
                    "rule": None if run.evict_rule is None else str(run.evict_rule),
                    "noticedAt": instant(run.evict_noticed_at),
                    "evictAt": instant(run.evict_at),
                    "stoppedAt": instant(run.stopped_at),
                    "closedAt": instant(run.closed_at),
                    "allocations": allocations(run.allocations),
                }
                for run in view.victims
            ],
        },
    }


def claims(connection: Connection, query: Query, now: datetime) -> Answer:
    """Claims that match, the oldest first."""
    columns = [Column("NAME"), Column("TENANT", long=True), Column("FLAVORS", long=True), Column("CLAIMS", long=True)]
    columns += [Column("LEFT"), Column("ENDS"), Column("AGE"), Column("MAKING-ROOM", wide=True, long=True)]
    found = views.list_claims(
        connection, namespace=query.namespace, name=query.name, tenant=query.tenant, limit=query.limit + 1
    )
    rows = []
    for view in found[: query.limit]:
        held: dict[str, int] = {}
        for each in view.allocations:
            held[each.resource] = held.get(each.resource, 0) + each.amount
        cells = (
            view.name,
            view.tenant,
            ",".join(sorted({each.flavor for each in view.allocations})),
            amounts(held),
            f"{len(view.left)}/{len(view.victims)}",
            until(view.until, now),
            age(view.claimed_at, now),
            ",".join(f"{run.namespace}/{run.name}" for run in view.left),
        )
        rows.append((view.namespace, Row(f"claim/{view.namespace}/{view.name}", cells, claim_document(view, now))))
    return Answer(namespaced(columns, rows, query), len(found) > query.limit)
