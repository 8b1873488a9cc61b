"""Admissions replayed against the quotas of their time, by an algebra of its own.

Of each tenant and each (flavor, resource): `subtree` is its nominal and what every child puts in, which is the child's subtree less what the
child keeps for itself (`guaranteed`, its subtree beyond its lending limit). It uses what its own runs hold, and what every child uses beyond
what that child keeps. It may use its subtree, and its borrowing limit more; a root its subtree; a child without a limit whatever its
parents let it. An admission may raise no tenant above that. What lowered a quota, or was adopted, may leave it above.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby

from aiqueue.queue.records import Tenant
from soak.evidence import Resize, Run
from soak.tenants import Edit

Pair = tuple[str, str]
_CLOSE, _RESIZE, _EDIT, _OPEN = range(4)


class _Tree:
    """The tenants from one edit to the next."""

    def __init__(self, tenants: Mapping[str, Tenant]) -> None:
        self._tenants = tenants
        self._children: dict[str | None, list[str]] = defaultdict(list)
        for name, tenant in tenants.items():
            self._children[tenant.parent].append(name)

    def _quota(self, name: str, pair: Pair) -> tuple[int, int | None, int | None]:
        for quota in self._tenants[name].quotas:
            if (quota.flavor, quota.resource) == pair:
                return quota.nominal, quota.borrowing_limit, quota.lending_limit
        return 0, None, None

    def _subtree(self, name: str, pair: Pair) -> int:
        put_in = (self._subtree(child, pair) - self._kept(child, pair) for child in self._children[name])
        return self._quota(name, pair)[0] + sum(put_in)

    def _kept(self, name: str, pair: Pair) -> int:
        lent = self._quota(name, pair)[2]
        return 0 if lent is None else max(0, self._subtree(name, pair) - lent)

    def ceiling(self, name: str, pair: Pair) -> int | None:
        """The most that a tenant and those under it may use; None where only those above it say."""
        borrowed = self._quota(name, pair)[1]
        if self._tenants[name].parent is None:
            return self._subtree(name, pair)
        return None if borrowed is None else self._subtree(name, pair) + borrowed

    def usage(self, name: str, pair: Pair, own: Mapping[tuple[str, Pair], int]) -> int:
        """What a tenant uses: what its own runs hold, and what its children use beyond what they keep."""
        beyond = (max(0, self.usage(child, pair, own) - self._kept(child, pair)) for child in self._children[name])
        return own.get((name, pair), 0) + sum(beyond)

    def above(self, name: str) -> Iterator[str]:
        """A tenant and those above it."""
        at: str | None = name
        while at is not None:
            yield at
            at = self._tenants[at].parent


def passed(runs: Sequence[Run], edits: Sequence[Edit], resizes: Sequence[Resize] = ()) -> Iterator[str]:
    """A sentence for every tenant that admissions raised above its ceiling."""
    history: list[tuple[datetime, int, Run | Edit | Resize]] = [(edit.at, _EDIT, edit) for edit in edits]
    history += [(resize.at, _RESIZE, resize) for resize in resizes]
    for run in runs:
        history.append((run.opened_at, _OPEN, run))
        if run.closed_at is not None:
            history.append((run.closed_at, _CLOSE, run))
    history.sort(key=lambda each: each[:2])
    books = _Books()
    tree = _Tree({})
    for (at, what), some in groupby(history, key=lambda each: each[:2]):
        together = [each for _, _, each in some]
        moved = [each for each in together if isinstance(each, Run)]
        for each in together:
            if isinstance(each, Edit):
                tree = _Tree(each.tenants)
            elif isinstance(each, Resize):
                books.resize(each)
        if what == _CLOSE:
            books.close(moved)
        elif what == _OPEN:
            books.open([run for run in moved if run.adopted])
            yield from _open(tree, books, [run for run in moved if not run.adopted], at)


class _Books:
    """What open runs hold.

    Attributes:
        own: by tenant.
    """

    def __init__(self) -> None:
        self.own: dict[tuple[str, Pair], int] = defaultdict(int)
        self._held: dict[int, tuple[str, dict[Pair, int]]] = {}

    def open(self, runs: Sequence[Run]) -> None:
        for run in runs:
            self._held[run.id] = (run.tenant, dict(run.opened))
            for pair, amount in run.opened.items():
                self.own[run.tenant, pair] += amount

    def resize(self, resize: Resize) -> None:
        tenant, held = self._held.get(resize.run_id, ("", {}))
        pair = (resize.flavor, resize.resource)
        if pair in held:
            self.own[tenant, pair] += resize.amount - held[pair]
            held[pair] = resize.amount

    def close(self, runs: Sequence[Run]) -> None:
        for run in runs:
            tenant, held = self._held.pop(run.id, ("", {}))
            for pair, amount in held.items():
                self.own[tenant, pair] -= amount


def _open(tree: _Tree, books: _Books, runs: Sequence[Run], at: datetime) -> Iterator[str]:
    concerned = {(name, pair) for run in runs for pair in run.opened for name in tree.above(run.tenant)}
    before = {(name, pair): tree.usage(name, pair, books.own) for name, pair in concerned}
    books.open(runs)
    for name, pair in sorted(concerned):
        ceiling, now = tree.ceiling(name, pair), tree.usage(name, pair, books.own)
        if ceiling is not None and now > ceiling and now > before[name, pair]:
            named = ", ".join(run.name for run in runs)
            yield f"tenant {name} was raised to {now} of {pair[0]} {pair[1]} at {at}, above its ceiling of {ceiling}, by {named}"
