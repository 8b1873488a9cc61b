"""Views of the ledger as listings: which columns each kind has, and its document.

Purpose: `answer` is what `aiqueue get` prints. One function a kind reads the views and gives rows of text and documents of
JSON values; printers know the formats, these know the kinds.

Invariants: documents of what an administrator wrote go back through `apply` unchanged; cells are plain text without
colour; a limit that cuts a list is said (`Answer.cut`), never silent.
"""

from __future__ import annotations

from datetime import datetime
from importlib import import_module

from sqlalchemy import Connection

from aiqueue.cli.listings.query import Answer, Query

#: In which module the listing of a kind is, under its name; only that one is imported, since some need the engine.
_MODULES = {
    "workloads": "work",
    "runs": "work",
    "claims": "claims",
    "tenants": "objects",
    "queues": "objects",
    "classes": "objects",
    "flavors": "objects",
    "clusters": "control",
    "decisions": "control",
    "audit": "control",
}


def answer(connection: Connection, plural: str, query: Query, now: datetime) -> Answer:
    """What the ledger holds of a kind.

    Raises:
        WrongUsage: the state that was asked for is none of that kind.
    """
    listing = getattr(import_module(f"{__name__}.{_MODULES[plural]}"), plural)
    answered: Answer = listing(connection, query, now)
    return answered


__all__ = ["Answer", "Query", "answer"]
