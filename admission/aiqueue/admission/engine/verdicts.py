"""The verdict on everything that waits, worked out from the state alone, and which of them the ledger has.

A verdict is never stored on a bucket: it is what the present state says, so it cannot fall behind. What is stored are the last
confirmed ones, to write only what changed.

What a verdict says depends on what happened to its own shape, and its figures on what the whole tree uses. The former is brought up
to date at once. Figures move with every run that opens or closes, so they are gone through tree by tree, `FIGURES` at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.backlog import Backlog
from aiqueue.admission.engine.buckets import Bucket, Line, Pending, Standing
from aiqueue.admission.engine.claims import Claims, HeldClaim
from aiqueue.admission.engine.needs import Needs
from aiqueue.admission.engine.search import Bound, search, shortage
from aiqueue.admission.engine.tree import TenantNode, ways_up
from aiqueue.queue.records import Decision, Holder
from aiqueue.queue.words import Reason

K = TypeVar("K")
ShapeKey = tuple[str, str]  # line, shape
FIGURES = 64  # verdicts looked at for one Plan only because figures moved


@dataclass(frozen=True, slots=True)
class Rendered:
    """Verdicts that differ from the confirmed ones, and what was looked at to find them.

    Attributes:
        figures: those left to look at only because figures moved, in reverse.
        begun: roots of the trees they are of, where they were begun now.
        more: whether more is left to look at now.
        later: whether more figures are left to bring up to date.
    """

    decisions: tuple[Decision, ...]
    withdrawn_shapes: tuple[ShapeKey, ...]
    withdrawn_workloads: tuple[int, ...]
    seen_shapes: tuple[ShapeKey, ...]
    seen_workloads: tuple[int, ...]
    figures: list[ShapeKey]
    begun: tuple[str, ...]
    more: bool
    later: bool


class Verdicts:
    """Works out verdicts and remembers the confirmed ones."""

    def __init__(self, backlog: Backlog, claims: Claims, nodes: Mapping[str, TenantNode], *, tells: bool) -> None:
        self._backlog = backlog
        self._claims = claims
        self._nodes = nodes
        self._tells = tells
        self._shapes: dict[ShapeKey, Decision] = {}
        self._workloads: dict[int, Decision] = {}
        self._moved: dict[str, None] = {}  # roots whose figures moved since they were last gone through
        self._round: list[ShapeKey] = []  # of one tree, still to be looked at, the next last

    def of(self, workload_id: int) -> Decision | None:
        """The verdict on a pending workload, None where it is not pending."""
        pending = self._backlog.pending.get(workload_id)
        if pending is None:
            return None
        line = pending.bucket.line
        return _own(pending) or self._of_shape(line, pending.bucket.shape)

    def configure(self, nodes: Mapping[str, TenantNode]) -> None:
        """Have every confirmed verdict on a shape looked at again, over other trees."""
        self._nodes = nodes
        self._moved.clear()
        self._round.clear()
        self._backlog.stale_shapes.update((key, None) for key in self._shapes)

    def mark(self, moved: Iterable[str]) -> None:
        """Mark those whose figures moved, and those who name the head of a Strict tenant that is no longer it.

        Args:
            moved: roots of trees in which what is used, or who holds it, is another.
        """
        backlog = self._backlog
        self._moved.update((name, None) for name in (*moved, *backlog.moved) if name in self._nodes)
        backlog.moved.clear()
        for bucket in backlog.woken.values():
            if bucket.standing not in (Standing.WAITING, Standing.BEHIND):
                backlog.stale_shapes[(bucket.line.name, bucket.shape)] = None
                bucket.stood = bucket.standing  # another verdict may be told of it before it is parked where it was
        backlog.woken.clear()
        for line in backlog.touched.values():
            head = line.kept_before()
            head_id = head[3] if head is not None else None
            if head_id != line.told_head:
                line.told_head = head_id
                backlog.stale_shapes.update(((line.name, shape), None) for shape in line.shapes)
        backlog.touched.clear()

    def _go_round(self) -> tuple[list[ShapeKey], tuple[str, ...]]:
        """What is to be looked at only for its figures, in reverse; also the trees that are begun for that."""
        if self._round:
            return self._round, ()
        found: list[ShapeKey] = []
        begun: list[str] = []
        for root in self._moved:
            begun.append(root)
            for leaf in self._nodes[root].leaves if root in self._nodes else ():
                line = self._backlog.lines.get(leaf.name)
                if line is not None:
                    items = (item for standing in (line.waiting, line.behind) for item in standing)
                    found.extend({(line.name, line.buckets[item[-1]].shape): None for item in items})
            if len(found) >= FIGURES:
                break
        return found[::-1], tuple(begun)

    def render(self, limit: int) -> Rendered:
        """Work out at most `limit` of the verdicts that are marked stale, oldest marks first."""
        backlog = self._backlog
        if not self._tells:
            backlog.stale_workloads.clear()
            backlog.stale_shapes.clear()
            self._moved.clear()
            return Rendered((), (), (), (), (), [], (), more=False, later=False)
        workloads = tuple(islice(backlog.stale_workloads, limit))
        stale = tuple(islice(backlog.stale_shapes, limit - len(workloads)))
        left, begun = self._go_round()
        looked = min(FIGURES, limit - len(workloads) - len(stale), len(left))
        figures = left[len(left) - looked :][::-1]
        shapes = (*stale, *(key for key in figures if key not in backlog.stale_shapes))
        decisions: list[Decision] = []
        withdrawn_workloads: list[int] = []
        withdrawn_shapes: list[ShapeKey] = []
        for workload_id in workloads:
            pending = backlog.pending.get(workload_id)
            verdict = _own(pending) if pending is not None and not pending.taken else None
            known = self._workloads.get(workload_id)
            if verdict is None:
                if known is not None:
                    withdrawn_workloads.append(workload_id)
            elif verdict != known:
                decisions.append(verdict)
        for key in shapes:
            line = backlog.lines.get(key[0])
            verdict = self._of_shape(line, key[1]) if line is not None else None
            known = self._shapes.get(key)
            if verdict is None:
                if known is not None:
                    withdrawn_shapes.append(key)
            elif verdict != known:
                decisions.append(verdict)
        decisions.sort(key=lambda each: (each.workload_id or 0, each.tenant or "", each.shape or ""))
        return Rendered(
            tuple(decisions),
            tuple(sorted(withdrawn_shapes)),
            tuple(sorted(withdrawn_workloads)),
            shapes,
            workloads,
            left[: len(left) - looked],
            begun,
            more=len(workloads) < len(backlog.stale_workloads)
            or len(stale) < len(backlog.stale_shapes)
            or looked < min(FIGURES, len(left)),
            later=looked < len(left) or len(begun) < len(self._moved),
        )

    def confirm(self, rendered: Rendered) -> None:
        """The ledger has these."""
        for verdict in rendered.decisions:
            if verdict.workload_id is not None:
                self._workloads[verdict.workload_id] = verdict
            elif verdict.tenant is not None and verdict.shape is not None:
                self._shapes[(verdict.tenant, verdict.shape)] = verdict
        for key in rendered.withdrawn_shapes:
            del self._shapes[key]
        for workload_id in rendered.withdrawn_workloads:
            del self._workloads[workload_id]
        self._seen(rendered.seen_shapes, rendered.seen_workloads)
        self._go_on(rendered)

    def _go_on(self, rendered: Rendered) -> None:
        self._round = rendered.figures
        for root in rendered.begun:
            self._moved.pop(root, None)

    def unchanged(self, rendered: Rendered) -> None:
        """Nothing was admitted, so what was looked at and is as confirmed need not be looked at again."""
        shapes = {(each.tenant, each.shape) for each in rendered.decisions}.union(rendered.withdrawn_shapes)
        workloads = {each.workload_id for each in rendered.decisions}.union(rendered.withdrawn_workloads)
        self._seen(
            (key for key in rendered.seen_shapes if key not in shapes),
            (each for each in rendered.seen_workloads if each not in workloads),
        )
        if not shapes:
            self._go_on(rendered)

    def _seen(self, shapes: Iterable[ShapeKey], workloads: Iterable[int]) -> None:
        _unmark(self._backlog.stale_shapes, shapes)
        _unmark(self._backlog.stale_workloads, workloads)

    def _of_shape(self, line: Line, shape: str) -> Decision | None:
        """The verdict on a shape in a tenant: that of its bucket which comes first, None where none shares it."""
        first: Bucket | None = None
        for bucket in line.shapes.get(shape, {}).values():
            route = bucket.route
            if route.door is not None:
                continue
            if route.closed_by is not None and len(bucket):
                closer = route.closed_by
                return reasons.tenant_closed(line.name, shape, closer.name, closer.record.state, closer.fault)
            if route.class_refused is not None or not len(bucket.entries):
                continue
            if first is None or bucket.head_item() < first.head_item():
                first = bucket
        if first is None:
            return None
        if not isinstance(first.needs, Needs):
            return first.needs
        return self._of_bucket(line, first, first.needs)

    def _of_bucket(self, line: Line, bucket: Bucket, needs: Needs) -> Decision:
        head = line.kept_before(bucket.item) if line.strict else None
        if head is not None:
            return reasons.behind_head(line.name, bucket.shape, self._backlog.pending[head[3]].workload)
        kept = line.reserved
        line.keep(())  # what its own tenant keeps for it is not missing
        decision = self._of_head(line, bucket, needs)
        line.keep(kept)
        return decision

    def _of_head(self, line: Line, bucket: Bucket, needs: Needs) -> Decision:
        if bucket.standing is Standing.BEHIND and search(needs) is not None:
            gang = line.gang_before(bucket, needs) or self._backlog.watch.keeper_of(bucket, needs)
            if gang is not None:
                workload = self._backlog.pending[gang.entries.first[3]].workload
                bound_seconds = gang.line.bound // 1_000_000
                return reasons.behind_starving_gang(line.name, bucket.shape, workload, gang.line.name, bound_seconds)
        elif bucket.standing in (Standing.WAITING, Standing.BEHIND):
            claim = self._claim_before(line, needs)
            if claim is not None:
                return reasons.behind_claim(line.name, bucket.shape, claim.workload, claim.node.name)
            return _waiting(line, bucket, needs)
        return reasons.pending_evaluation(line.name, bucket.shape)

    def _claim_before(self, line: Line, needs: Needs) -> HeldClaim | None:
        """The oldest claim on what would be room for it, were nothing claimed."""
        place = search(needs, Bound.ACTUAL) if line.node is not None and self._claims.of_workload else None
        if place is None or line.node is None or search(needs) is not None:
            return None
        wanted = set(ways_up(cell for cell, _ in place.takes))
        held = self._claims.in_tree(line.node.root)
        return next((each for each in held if not wanted.isdisjoint(ways_up(cell for cell, _ in each.takes))), None)


def _unmark(marks: dict[K, None], seen: Iterable[K]) -> None:
    for each in seen:
        marks.pop(each, None)
    if not marks:
        marks.clear()  # else every later look would step over what was taken out


def _own(pending: Pending) -> Decision | None:
    """The verdict that is this workload's alone, None where it shares its shape's."""
    route, own, until = pending.bucket.route, pending.own, pending.workload.not_before
    if route.door is not None:
        refusal = route.door
    elif route.closed_by is not None:
        return None
    elif own is not None and own[0] is Reason.WORKLOAD_HELD:
        refusal = (own[0], *reasons.held(pending.workload.requeues, route.requeue_limit))
    elif route.class_refused is not None:
        refusal = route.class_refused
    elif own is not None and own[0] is Reason.BACKOFF and until is not None:
        refusal = (own[0], *reasons.backoff(until, pending.workload.requeues, route.requeue_limit))
    elif own is not None:
        refusal = own
    else:
        return None
    tenant = route.node.name if route.node is not None else None
    return Decision(*refusal, tenant=tenant, workload_id=pending.workload.id)


def _waiting(line: Line, bucket: Bucket, needs: Needs) -> Decision:
    shortfalls = shortage(needs)
    node = line.node
    if not shortfalls or node is None:
        return reasons.pending_evaluation(line.name, bucket.shape)
    least = reasons.least_short(shortfalls)
    cell = node.cell((least.flavor, least.resource))
    blocking = cell.refusing(least.requested).blocks(least.requested)[-1][0]
    holders = next(each for each in (cell, *cell.above()) if each.tenant == blocking.tenant).holders
    return reasons.waiting(
        line.name,
        bucket.shape,
        shortfalls,
        nominal=cell.nominal,
        ceiling=cell.potential,
        freed_in=blocking.tenant,
        holders=[
            Holder(namespace, name, cell.flavor, cell.resource, -amount)
            for amount, namespace, name, _ in islice(holders, reasons.MAX_HOLDERS)
        ],
    )
