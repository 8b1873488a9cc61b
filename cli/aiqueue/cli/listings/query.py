"""What is asked of a listing, and what the listings share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

from aiqueue.cli.ages import human
from aiqueue.cli.exits import WrongUsage
from aiqueue.cli.printers import Column, Listing, Row
from aiqueue.queue.documents import Record, to_document
from aiqueue.queue.records import Allocation
from aiqueue.queue.store.views import DEFAULT_LIMIT, Cursor, Page
from aiqueue.queue.units import format_amount, format_duration

Word = TypeVar("Word", bound=StrEnum)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Query:
    """What `get` was asked for. `everything`: also what is over, with the archive."""

    name: str | None = None
    namespace: str | None = None
    queue: str | None = None
    tenant: str | None = None
    state: str | None = None
    everything: bool = False
    limit: int = DEFAULT_LIMIT


@dataclass(frozen=True, slots=True)
class Answer:
    """A listing, and whether the limit cut it."""

    listing: Listing
    cut: bool = False


def amounts(requests: Mapping[str, int]) -> str:
    """Requests as `nvidia.com/gpu=8,cpu=32`."""
    return ",".join(f"{resource}={format_amount(resource, amount)}" for resource, amount in sorted(requests.items()))


def allocations(held: Iterable[Allocation]) -> list[dict[str, str]]:
    """What is held, as JSON values."""
    return [
        {"podSet": a.pod_set, "flavor": a.flavor, "resource": a.resource, "amount": format_amount(a.resource, a.amount)}
        for a in held
    ]


def until(deadline: datetime | None, now: datetime) -> str:
    """How long until a deadline, `0s` where it is past; empty for none."""
    return "" if deadline is None else human((deadline - now).total_seconds())


def instant(at: datetime | None) -> str | None:
    """A time as JSON has it, with microseconds."""
    return None if at is None else at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def word(text: str | None, words: type[Word]) -> Word | None:
    """The word of a closed list that `text` is, in any letter case; None for None.

    Raises:
        WrongUsage: it is none of them.
    """
    if text is None:
        return None
    for each in words:
        if each.lower() == text.lower():
            return each
    raise WrongUsage(f"--state {text} is not known: choose one of {', '.join(words)}")


def pages(fetch: Callable[[Cursor | None, int], Page[Item]], limit: int) -> Page[Item]:
    """Pages of at most `DEFAULT_LIMIT` rows, put together until `limit` rows are there."""
    items: list[Item] = []
    after: Cursor | None = None
    while len(items) < limit:
        page = fetch(after, min(DEFAULT_LIMIT, limit - len(items)))
        items.extend(page.items)
        after = page.next
        if after is None:
            break
    return Page(tuple(items), after)


def namespaced(columns: Sequence[Column], rows: Sequence[tuple[str, Row]], query: Query, *, single: bool = True) -> Listing:
    """A listing whose first column is the namespace, unless one was asked for."""
    one = single and query.name is not None and query.namespace is not None
    if query.namespace is not None:
        return Listing(columns, [row for _, row in rows], single=one)
    within = [Row(row.name, (namespace, *row.cells), row.document) for namespace, row in rows]
    return Listing([Column("NAMESPACE"), *columns], within)


def with_status(record: Record, status: Mapping[str, Any]) -> dict[str, Any]:
    """The document of an object with what the ledger knows of it, which `apply` passes over."""
    return {**to_document(record), "status": dict(status)}


def limit(seconds: int | None) -> str:
    """A limit in seconds; empty for none."""
    return "" if seconds is None else format_duration(seconds)
