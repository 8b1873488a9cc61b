"""Views of the ledger as listings: which columns each kind has, and its document.

Purpose: `answer` is what `aiqueue get` prints. One function a kind reads the views and gives rows of text and documents of
JSON values; printers know the formats, these know the kinds.

Invariants: documents of what an administrator wrote go back through `apply` unchanged; cells are plain text without
colour; a limit that cuts a list is said (`Answer.cut`), never silent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from sqlalchemy import Connection

from aiqueue.cli.listings import claims, control, objects, work
from aiqueue.cli.listings.query import Answer, Query

_ANSWERS: Mapping[str, Callable[[Connection, Query, datetime], Answer]] = {
    "workloads": work.workloads,
    "runs": work.runs,
    "claims": claims.claims,
    "tenants": objects.tenants,
    "queues": objects.queues,
    "classes": objects.classes,
    "flavors": objects.flavors,
    "clusters": control.clusters,
    "decisions": control.decisions,
    "audit": control.audit,
}


def answer(connection: Connection, plural: str, query: Query, now: datetime) -> Answer:
    """What the ledger holds of a kind.

    Raises:
        WrongUsage: the state that was asked for is none of that kind.
    """
    return _ANSWERS[plural](connection, query, now)


__all__ = ["Answer", "Query", "answer"]
