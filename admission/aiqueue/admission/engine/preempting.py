"""Preempting: having room made for who waits, and giving it to him when it is there.

1. `honour`: claims whose room is there are admitted, those that mean nothing any more are withdrawn.
2. `offer`, where the next of a tenant does not fit: whose runs would make room for it (`preemption.py`), and in which flavors.
3. `claim`, when it has won the tournament: those runs are told to end, and what they leave belongs to it.

Elastic work claims room for its minimum, and takes what there is then of its tenant's own: else it would have others put out, in the
end, for more than it has a right to, and two such would put each other out for ever. Who has to wait for nobody but runs that leave
anyway, and may come back, claims nothing: their room is for whoever comes first by then, and that may be one of those who left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.backlog import Backlog
from aiqueue.admission.engine.buckets import Bucket, Contender, Line, Pending
from aiqueue.admission.engine.candidates import Candidates
from aiqueue.admission.engine.claims import Claims, HeldClaim, hold
from aiqueue.admission.engine.draft import Draft
from aiqueue.admission.engine.instants import moment
from aiqueue.admission.engine.journal import leave_it
from aiqueue.admission.engine.needs import Needs, Placement
from aiqueue.admission.engine.plan import Eviction
from aiqueue.admission.engine.preemption import Asking, Found, find, hopeful
from aiqueue.admission.engine.runs import OpenRun
from aiqueue.admission.engine.search import NOTHING, places, search
from aiqueue.admission.engine.shares import Scales
from aiqueue.admission.engine.tree import Cell, TenantNode, ways_up
from aiqueue.queue.records import Claim
from aiqueue.queue.words import Fungibility, PreemptionRule, Reason, Reclaim, RunOutcome, WithinTenant

_InVain = tuple[Asking, frozenset[Cell]]  # and of what there was too little


class Preempting:
    """Preempting, for one contest.

    Args:
        backlog, claims, scales: what is known.
        draft: what is decided.
        candidates: who may have to make room.
        returns: whether the workload of a run that leaves anyway may be admitted again when it has left.

    Attributes:
        searches: searches for victims.
    """

    def __init__(
        self,
        backlog: Backlog,
        claims: Claims,
        scales: Scales,
        draft: Draft,
        *,
        candidates: Candidates,
        returns: Callable[[OpenRun], bool],
    ) -> None:
        self._backlog = backlog
        self._returns = returns
        self._claims = claims
        self._scales = scales
        self._draft = draft
        self._candidates = candidates
        self._hopeless: dict[str, list[_InVain]] = {}  # by line, what was asked in vain since something was decided
        self._asked: set[int] = set()  # buckets that had hope since something was decided: they are not asked again before
        self.searches = 0

    def moved(self, *, decided: bool = True) -> None:
        """What is agreed is another: something was decided, or only what a Strict head keeps for itself changed."""
        self._candidates.moved()
        self._hopeless.clear()
        if decided:
            self._asked.clear()

    # 1

    def honour(self) -> None:
        """Admit those whose room is there, and withdraw claims that mean nothing any more."""
        if not self._claims.of_workload:
            return
        kept = [(line, line.reserved) for line in self._backlog.lines.values() if line.reserved]
        for line, _ in kept:  # what was kept for others since is none of it
            line.keep(())
        for held in sorted(self._claims.of_workload.values(), key=lambda each: (each.claimed_us, each.workload.id)):
            self._honour(held)
        for line, keeps in kept:
            line.keep(keeps)

    def _honour(self, held: HeldClaim) -> None:
        pending = self._backlog.pending[held.workload.id]
        if pending.bucket.shut or any(cell.left() < 0 for cell, _ in held.takes):
            self.withdraw(held)
            return
        if any(cell.actual is not None and cell.actual.left() < amount for cell, amount in held.takes):
            return
        placement = self._room_of(held, pending.bucket)
        if placement is not None:
            journal = self._draft.journal
            journal.do(self._claims.end, self._claims.make, held)
            journal.do(self._backlog.take_claimed, self._backlog.untake_claimed, pending.bucket, pending)
            self._draft.admit(pending.workload, held.node, placement)
            self._look_again(held.node.root, held.takes)

    def _room_of(self, held: HeldClaim, bucket: Bucket) -> Placement | None:
        """Where a claimant fits by now, as if it claimed nothing; no smaller than it claimed."""
        self._claims.end(held)
        try:
            if bucket.sizes is not None:
                return bucket.sizes.largest(partial(_grown, counts=held.claim.counts), at_least=held.claim.counts)
            if any(cell.available() < amount for cell, amount in held.takes):
                return None
            return _placement(held)
        finally:
            self._claims.make(held)

    def withdraw(self, held: HeldClaim) -> None:
        """End a claim without admitting anybody."""
        pending = self._backlog.pending[held.workload.id]
        journal = self._draft.journal
        journal.do(self._claims.end, self._claims.make, held)
        if pending.own is not None and pending.own[0] is Reason.WAITING_FOR_VICTIMS:
            journal.do(self._backlog.unclaim, self._backlog.claim, pending, pending.own)
        self._draft.withdrawn.append(held.workload.id)
        self._draft.roots[held.node.root.name] = held.node.root
        self._look_again(held.node.root, held.takes)

    def _look_again(self, root: TenantNode, takes: Iterable[tuple[Cell, int]]) -> None:
        self._draft.journal.do(self._backlog.freed, leave_it, ways_up(cell for cell, _ in takes))
        self._backlog.retry(root)
        self._backlog.stir(root)
        self.moved()

    # 2

    def hopes(self, bucket: Bucket) -> bool:
        """Whether it may be worth looking for somebody to make room for a bucket that waits."""
        if not isinstance(bucket.needs, Needs) or bucket.serial in self._asked:
            return False
        hopes = any(map(self._hopeful, self._askings(bucket.line, bucket, places(bucket.needs))))
        if hopes:
            self._asked.add(bucket.serial)
        return hopes

    def _hopeful(self, asking: Asking) -> bool:
        """Whether a search is worth while: not where somebody asked in vain for no more with no less right."""
        needed = _needed(asking)
        if any(needed == of_other and _no_easier(asking, than) for than, of_other in self._hopeless.get(asking.leaf.name, ())):
            return False
        if hopeful(asking, self._candidates, self._scales):
            return True
        self._in_vain(asking, needed)
        return False

    def _in_vain(self, asking: Asking, needed: frozenset[Cell]) -> None:
        self._hopeless.setdefault(asking.leaf.name, []).append((asking, needed))

    def offer(
        self,
        line: Line,
        bucket: Bucket,
        *,
        reserved: frozenset[Cell] = NOTHING,
        stakes: frozenset[Cell] = NOTHING,
        before: Placement | None = None,
    ) -> Contender | None:
        """Who would make room for the head of a bucket, and where; None where nobody has to.

        Args:
            line: its line.
            bucket: what does not fit.
            reserved: cells that must not be taken from.
            stakes: cells of other tenants that must not be borrowed from.
            before: only in places that are preferred to this one, which fits.
        """
        if line.node is None or not isinstance(bucket.needs, Needs):
            return None
        first = line.node.record.when_can_preempt is Fungibility.MAY_STOP_SEARCH
        best: tuple[tuple[bool, int], Placement, Found] | None = None
        for place in places(bucket.needs, reserved=reserved):
            if before is not None and place.takes == before.takes:
                break
            for asking in self._askings(line, bucket, (place,)):
                found = self._find(asking)
                key = self._preference(asking, found, stakes) if found is not None else None
                if found is not None and key is not None and (best is None or key < best[0]):
                    best = (key, place, found)
            if best is not None and first:
                break
        return Contender(line, bucket, best[1], stakes, best[2].victims) if best is not None else None

    def _askings(self, line: Line, bucket: Bucket, some: Iterable[Placement]) -> Iterable[Asking]:
        """What to ask for: nothing where the tenant takes from nobody, or there is, or will be, room in a place already."""
        node = line.node
        if node is None:
            return
        record = node.record
        alone = node.parent is None or record.reclaim is Reclaim.NEVER
        if alone and record.within_tenant is WithinTenant.NEVER:
            return
        for place in some:
            if any(cell.left() < amount for cell, amount in place.takes):
                yield Asking(node, place.takes, bucket.route.priority, bucket.entries.first)

    def _find(self, asking: Asking) -> Found | None:
        if not self._hopeful(asking):
            return None
        self.searches += 1
        found = find(asking, self._candidates, self._scales)
        leaving = found is not None and all(rule is None for _, rule in found.victims)
        if found is None or (leaving and any(self._returns(each.of) for each, _ in found.victims)):
            self._in_vain(asking, _needed(asking))
            return None
        return found

    def _preference(self, asking: Asking, found: Found, stakes: frozenset[Cell]) -> tuple[bool, int] | None:
        """Rather from other tenants than from its own; then, borrowed from as near as may be.

        None where it would borrow, with the victims gone, from a cell that it may not borrow from.
        """
        takes = [take for each, _ in found.victims for take in each.takes]
        for cell, amount in takes:
            cell.remove(amount)
        level = max(cell.borrow_level(amount) for cell, amount in asking.takes)
        kept = any(cell.borrows(amount) and cell.reaches(amount, stakes) for cell, amount in asking.takes)
        for cell, amount in reversed(takes):
            cell.add(amount)
        return None if kept else (any(each.leaf is asking.leaf for each, _ in found.victims), level)

    # 3

    def claim(self, contender: Contender) -> None:
        """Have room made for a contender: it claims what those who make it leave."""
        line, node = contender.line, contender.line.node
        if contender.victims is None or node is None:
            raise ValueError("only who has victims claims their room")
        draft, journal = self._draft, self._draft.journal
        pending = self._backlog.pending[contender.age[3]]
        placement = contender.placement
        run_ids: list[int] = []
        for candidate, rule in contender.victims:
            run = candidate.of
            run_ids.append(run.run_id)
            if run.evict_at is None and rule is not None:
                draft.evict(self._eviction(run, pending, line, rule))
        claim = Claim(
            pending.workload.id, line.name, placement.allocations, placement.counts, tuple(run_ids), moment(draft.now_us)
        )
        held = hold(claim, pending.workload, node)
        journal.do(self._claims.make, self._claims.end, held)
        journal.do(self._backlog.claim, self._backlog.unclaim, pending, refusal_of(held, self._claims))
        draft.claim(claim, node.root)
        self._look_again(node.root, (take for each, _ in contender.victims for take in each.takes))

    def _eviction(self, run: OpenRun, pending: Pending, line: Line, rule: PreemptionRule) -> Eviction:
        workload = pending.workload
        equal = rule is PreemptionRule.WITHIN_TENANT and run.terms.priority == pending.bucket.route.priority
        return Eviction(
            run.run_id,
            run.workload.id,
            run.attempt,
            RunOutcome.PREEMPTED,
            moment(run.deadline_us(self._draft.now_us)),
            reasons.makes_room(workload, line.name, rule, run.tenant, equal_priority=equal),
            workload.id,
            rule,
        )


def _grown(sized: Needs, *, counts: Mapping[str, int]) -> Placement | None:
    """Where elastic work fits that claimed room for these pods; larger, only without borrowing."""
    placement = search(sized)
    if placement is None or placement.counts == counts:
        return placement
    return None if any(cell.borrows(amount) for cell, amount in placement.takes) else placement


def _needed(asking: Asking) -> frozenset[Cell]:
    """Of what there is too little."""
    return frozenset(cell for cell, amount in asking.takes if amount > cell.left())


def _no_easier(asking: Asking, than: Asking) -> bool:
    """Whether one asks for no less than another, in the same place and with no better right."""
    by_age = asking.leaf.record.within_tenant is WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY
    return (
        asking.priority <= than.priority
        and (not by_age or asking.age >= than.age)
        and len(asking.takes) == len(than.takes)
        and all(
            cell is other and amount >= least for (cell, amount), (other, least) in zip(asking.takes, than.takes, strict=True)
        )
    )


def refusal_of(held: HeldClaim, claims: Claims) -> tuple[Reason, str, str]:
    """Why a claimant waits: for whom, until when."""
    victims = [
        (f"{run.workload.namespace}/{run.workload.name}", run.evict_at)
        for run in claims.awaited(held)
        if run.evict_at is not None
    ]
    return (Reason.WAITING_FOR_VICTIMS, *reasons.waiting_for_victims(held.claim, victims))


def _placement(held: HeldClaim) -> Placement:
    """The place that was claimed."""
    flavors: dict[str, dict[str, str]] = {name: {} for name in held.claim.counts}
    for each in held.claim.allocations:
        flavors[each.pod_set][each.resource] = each.flavor
    return Placement(held.takes, held.claim.allocations, flavors, dict(held.claim.counts))
