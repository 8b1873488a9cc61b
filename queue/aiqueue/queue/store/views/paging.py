"""Pages of long lists, by the key of the last row rather than by offset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from sqlalchemy import RowMapping

Item = TypeVar("Item")

DEFAULT_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: the part of the list (hot tables first, then the archive) and the key of its last row there."""

    part: int
    id: int
    at: datetime | None = None
    state: str = ""


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some rows of a list; `next` asks for those after them and is None where the list ends."""

    items: tuple[Item, ...]
    next: Cursor | None = None


def collect(
    parts: Sequence[Callable[[Cursor | None, int], Sequence[RowMapping]]],
    item_of: Callable[[RowMapping], Item],
    *,
    after: Cursor | None,
    limit: int,
) -> Page[Item]:
    """Fill a page from the parts in turn. Each gives rows after a cursor; `id`, `key_at` and `key_state` are their keys."""
    rows: list[tuple[int, RowMapping]] = []
    for number, part in enumerate(parts):
        if after is not None and number < after.part:
            continue
        wanted = limit + 1 - len(rows)
        if wanted <= 0:
            break
        rows.extend((number, row) for row in part(after if after is not None and after.part == number else None, wanted))
    page = rows[:limit]
    more = len(rows) > limit
    return Page(tuple(item_of(row) for _, row in page), _cursor(page[-1]) if more and page else None)


def _cursor(last: tuple[int, RowMapping]) -> Cursor:
    part, row = last
    return Cursor(part, row["id"], row["key_at"], row["key_state"] or "")
