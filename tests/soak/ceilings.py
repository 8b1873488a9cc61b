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
from soak.evidence import Run
from soak.tenants import Edit

Pair = tuple[str, str]
_CLOSE, _EDIT, _OPEN = range(3)


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


def passed(runs: Sequence[Run], edits: Sequence[Edit]) -> Iterator[str]:
    """A sentence for every tenant that admissions raised above its ceiling."""
    history: list[tuple[datetime, int, Run | Edit]] = [(edit.at, _EDIT, edit) for edit in edits]
    for run in runs:
        history.append((run.opened_at, _OPEN, run))
        if run.closed_at is not None:
            history.append((run.closed_at, _CLOSE, run))
    history.sort(key=lambda each: each[:2])
    own: dict[tuple[str, Pair], int] = defaultdict(int)
    tree = _Tree({})
    for (at, what), some in groupby(history, key=lambda each: each[:2]):
        together = [each for _, _, each in some]
        if what == _EDIT:
            for each in together:
                if isinstance(each, Edit):
                    tree = _Tree(each.tenants)
            continue
        moved = [each for each in together if isinstance(each, Run)]
        if what == _CLOSE:
            _add(own, moved, -1)
            continue
        _add(own, [run for run in moved if run.adopted], 1)
        yield from _open(tree, own, [run for run in moved if not run.adopted], at)


def _add(own: dict[tuple[str, Pair], int], runs: Sequence[Run], sign: int) -> None:
    for run in runs:
        for pair, amount in run.held.items():
            own[run.tenant, pair] += sign * amount


def _open(tree: _Tree, own: dict[tuple[str, Pair], int], runs: Sequence[Run], at: datetime) -> Iterator[str]:
    concerned = {(name, pair) for run in runs for pair in run.held for name in tree.above(run.tenant)}
    before = {(name, pair): tree.usage(name, pair, own) for name, pair in concerned}
    _add(own, runs, 1)
    for name, pair in sorted(concerned):
        ceiling, now = tree.ceiling(name, pair), tree.usage(name, pair, own)
        if ceiling is not None and now > ceiling and now > before[name, pair]:
            named = ", ".join(run.name for run in runs)
            yield f"tenant {name} was raised to {now} of {pair[0]} {pair[1]} at {at}, above its ceiling of {ceiling}, by {named}"
