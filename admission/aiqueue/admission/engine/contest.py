"""The contest: admit until nothing that may go fits or can have room made for it, or the Plan is full.

1. Claims whose room is there are honoured (`preempting.py`).
2. Lines that were woken are looked at: the first of their buckets that fits contends, or the first that does not and for which
   others have to make room; those before it are parked.
3. The winner of the tournament gets its quota, or a claim, tentatively.
4. Its line is looked at again, and so are those of its tree that it may have taken room from.
5. When nobody is left, those who wait are asked whether what was claimed lets them hope that room can be made for them. (What was
   admitted does not: it took room that they were offered first, and can be put out itself once it is confirmed.)

All of it is undone where the Plan is not confirmed (`journal.py`).
"""

from __future__ import annotations

from collections.abc import Mapping

from aiqueue.admission.engine.backlog import Backlog
from aiqueue.admission.engine.buckets import Bucket, Contender, Kept, Line, Standing
from aiqueue.admission.engine.draft import Draft
from aiqueue.admission.engine.journal import leave_it
from aiqueue.admission.engine.needs import Needs, Placement
from aiqueue.admission.engine.preempting import Preempting
from aiqueue.admission.engine.search import NOTHING, search
from aiqueue.admission.engine.standings import ANY_MOVE
from aiqueue.admission.engine.tournament import Tournament
from aiqueue.admission.engine.tree import Cell, TenantNode, ways_up
from aiqueue.queue.words import Fungibility


class Contest:
    """One contest.

    Attributes:
        cut: whether a bound ended it.
    """

    def __init__(
        self,
        backlog: Backlog,
        tournament: Tournament,
        preempting: Preempting,
        draft: Draft,
        *,
        max_admissions: int,
        max_trials: int,
    ) -> None:
        self._backlog = backlog
        self._tournament = tournament
        self._preempting = preempting
        self._draft = draft
        self._journal = draft.journal
        self._max_admissions = max_admissions
        self._max_trials = max_trials
        self._parked = 0
        self.cut = False
        self._gathered: set[str] = set()  # roots whose reservations were looked at together since the last admission there

    @property
    def _trials(self) -> int:
        """Buckets admitted from, parked, or looked for victims for."""
        return len(self._draft.admissions) + self._parked + self._preempting.searches

    @property
    def _full(self) -> bool:
        draft = self._draft
        return max(len(draft.admissions), len(draft.evictions)) >= self._max_admissions or self._trials >= self._max_trials

    def run(self) -> None:
        """Hold it."""
        self._preempting.honour()
        self._backlog.wake_hopeful(self._preempting.hopes)
        while True:
            self._look()
            contender = self._tournament.best()
            if self.cut:
                return
            if contender is None:
                if not self._backlog.wake_hopeful(self._preempting.hopes):
                    return
            elif self._full:
                self.cut = True
                return
            else:
                self._win(contender)

    def undone(self) -> None:
        """Its journal was gone through, one way or the other: what contended did so on other figures."""
        for root in self._draft.roots.values():
            self._backlog.retry(root)
            self._backlog.stir(root)

    # Looking.

    def _look(self) -> None:
        backlog = self._backlog
        while True:
            if backlog.loosened:
                backlog.loosen()
            if not backlog.awake:
                backlog.awake.clear()  # else every later look would step over what was taken out
                return
            if self._trials >= self._max_trials:
                self.cut = True
                return
            line = next(iter(backlog.awake.values()))
            if line.reserves and line.node is not None and line.node.root.name not in self._gathered:
                self._gather(line.node.root)
            self._enter(line)

    def _enter(self, line: Line) -> None:
        """Find who contends for a line; those before it that do not fit are parked."""
        if line.node is None:
            del self._backlog.awake[line.name]
            return
        self._backlog.rank(line)
        if line.reserves:
            self._let_go(line, line.node.root)
        kept = line.reserved
        line.keep(())
        contender: Contender | None = None
        while (bucket := line.candidate()) is not None:
            if self._trials >= self._max_trials:
                break
            contender = self._fitting(line, bucket)
            if contender is not None:
                break
        keeps = _to_keep(line) if line.reserves else ()
        line.keep(kept)
        if keeps != kept:
            self._keep(line, line.node.root, keeps)
        line.contender = contender
        if contender is not None and contender.victims is None:
            _expect(contender)
        self._tournament.play(line.node, contender)
        self._backlog.hold_vigil(line)
        self._backlog.await_turn(line)
        if line.contender is not contender:
            return  # it has to be looked at once more: another champion of the tree may keep it back
        if contender is not None or line.candidate() is None:  # else a bound ended it, and it goes on from here
            self._backlog.awake.pop(line.name, None)

    def _gather(self, root: TenantNode) -> None:
        """Look at all of a tree who keep something together: what one keeps may be why another does."""
        self._gathered.add(root.name)
        for leaf in root.leaves:
            line = self._backlog.lines.get(leaf.name)
            head = line.head() if line is not None and line.reserved else None
            if head is not None:
                self._backlog.unpark(head)

    def _let_go(self, line: Line, root: TenantNode) -> None:
        """Have those of a tree who are still to be looked at keep nothing, else two might each be blocked by what the other keeps."""
        for leaf in root.leaves:
            other = self._backlog.awake.get(leaf.name)
            if other is not None and other is not line and other.reserved:
                self._keep(other, root, ())

    def _keep(self, line: Line, root: TenantNode, keeps: Kept) -> None:
        """Have a line keep something else for its blocked head."""
        kept = line.reserved
        self._journal.do(self._backlog.keep, self._backlog.keep_again, line, kept, keeps)
        if kept:  # there may be room now, or room for what they like better
            self._journal.do(self._backlog.freed, leave_it, ways_up(cell for cell, _ in kept))
            self._backlog.retry(root)
        self._preempting.moved(decided=False)
        self._backlog.stir(root)  # and at once: it matters to who wins next
        self._backlog.wake_hopeful(self._preempting.hopes)
        self._look_round(root, keeps)

    def _fitting(self, line: Line, bucket: Bucket) -> Contender | None:
        """Where the head of a bucket fits now, or who has to make room for it; where it does not, the bucket is parked."""
        needs = bucket.needs
        if not isinstance(needs, Needs) or line.node is None:
            raise TypeError(f"bucket {bucket.door} contends though it can never fit")
        backlog = self._backlog
        reserved = line.reserved_from(bucket, needs) if len(line.starving) else NOTHING
        stakes = backlog.watch.stakes_against(bucket, needs) if backlog.watch.watches(line.node.root) else NOTHING
        short: dict[Cell, int] = {}
        placement = _place(bucket, needs, reserved=reserved, stakes=stakes, short=short)
        if placement is not None:
            rather: Contender | None = None
            if line.node.record.when_can_preempt is Fungibility.MAY_STOP_SEARCH:
                rather = self._preempting.offer(line, bucket, reserved=reserved, stakes=stakes, before=placement)
            return rather or Contender(line, bucket, placement, stakes)
        standing = Standing.WAITING
        if reserved or stakes:
            whole: dict[Cell, int] = {}
            if search(needs, short=whole) is None:
                short = whole
            else:
                standing = Standing.BEHIND
        if standing is Standing.WAITING:
            preemptor = self._preempting.offer(line, bucket, reserved=reserved, stakes=stakes)
            if preemptor is not None:
                return preemptor
        self._park(line, bucket, needs, standing, short=short, stakes=stakes)
        return None

    def _park(
        self,
        line: Line,
        bucket: Bucket,
        needs: Needs,
        standing: Standing,
        *,
        short: Mapping[Cell, int],
        stakes: frozenset[Cell],
    ) -> None:
        """Let a bucket wait for the cells that refused it."""
        backlog = self._backlog
        if line.reserves:  # what it keeps itself is no room to others, and room to it
            ways = ways_up(needs.cells)
            lots = [(cell, ANY_MOVE) for cell in (*ways, *(each.actual for each in ways if each.actual is not None))]
        else:
            lots = backlog.lots_for(short)
            if stakes and standing is Standing.BEHIND:  # it may come to borrow no longer, or from others
                way = (cell for cell in ways_up(needs.cells) if cell.parent is not None)
                near = (cell for cell in way if cell in needs.cells or cell.guaranteed)
                lots = list((dict(lots) | dict.fromkeys(near, ANY_MOVE)).items())
        self._parked += 1
        self._journal.do(backlog.park, backlog.unpark, bucket, standing, lots, stakes)

    # Winning.

    def _win(self, contender: Contender) -> None:
        """Let the winner have what it contends for. Who needs victims is looked at again: others may have won since."""
        line = contender.line
        if contender.victims is not None:
            again = self._fitting(line, contender.bucket)
            if again is None:
                return  # it was parked, which has its line looked at again
            contender = again
        root = line.node.root if line.node is not None else None
        if root is None or line.node is None:
            raise TypeError(f"line {line.name} contends though it leads to no tenant")
        self._gathered.discard(root.name)
        if contender.victims is not None:
            self._preempting.claim(contender)
            self._backlog.look_again(line)
        else:
            pending = self._backlog.pending[contender.age[3]]
            self._journal.do(self._backlog.take, self._backlog.untake, contender.bucket, pending)
            self._draft.admit(pending.workload, line.node, contender.placement)
            self._preempting.moved()
        if root.children:
            self._look_round(root, contender.placement.takes)
        elif len(line.behind):
            self._journal.do(self._look_behind, leave_it, root)

    def _look_behind(self, root: TenantNode) -> None:
        """Have those of a tree looked at again who stand behind somebody overdue and do not fit any more: they wait now."""
        for leaf in root.leaves:
            line = self._backlog.lines.get(leaf.name)
            for bucket in line.those_behind() if line is not None else ():
                if isinstance(bucket.needs, Needs) and search(bucket.needs) is None:
                    self._backlog.wake(bucket)

    def _look_round(self, root: TenantNode, takes: Kept) -> None:
        """Have those of a tree looked at again whose place may be another now that this was taken."""
        if self._backlog.watch.watches(root):
            self._journal.do(self._look_behind, leave_it, root)
        picky = root.name in self._backlog.picky or (root.name in self._backlog.lending and self._backlog.watch.watches(root))
        if not picky and _roomy(takes):
            return
        lines = [self._backlog.lines[leaf.name] for leaf in root.leaves if leaf.name in self._backlog.lines]
        contenders = [line.contender for line in lines if line.contender is not None]
        for contender in contenders:
            for cell, _ in contender.placement.takes:
                for above in cell.above():
                    above.watch = 0
        for contender in contenders:
            if contender.victims is not None:
                continue  # it is looked at again if it wins
            fits = all(cell.available() >= amount for cell, amount in contender.placement.takes)
            if picky or contender.line.reserved or not fits:
                self._backlog.look_again(contender.line)
            else:
                _expect(contender)


def _expect(contender: Contender) -> None:
    """Note on the way up how much room there has to be for a contender still to fit."""
    for cell, amount in contender.placement.takes:
        for above in cell.above():
            above.watch = max(above.watch, amount)


def _roomy(takes: Kept) -> bool:
    """Whether there is room for whoever contends in each tenant above these cells."""
    for cell, _ in takes:
        above = cell.parent
        # Not `above()`: this is asked once for each admission, and a generator costs as much as the question.
        while above is not None:
            if above.watch and above.available() < above.watch:
                return False
            above = above.parent
    return True


def _place(
    bucket: Bucket, needs: Needs, *, reserved: frozenset[Cell], stakes: frozenset[Cell], short: dict[Cell, int]
) -> Placement | None:
    """Where the head of a bucket fits; elastic work at the largest size that does."""
    if bucket.sizes is None:
        return search(needs, reserved=reserved, stakes=stakes, short=short)
    placement = bucket.sizes.largest(lambda sized: search(sized, reserved=reserved, stakes=stakes))
    if placement is None:
        search(needs, reserved=reserved, stakes=stakes, short=short)
    return placement


def _to_keep(line: Line) -> Kept:
    """What the blocked head of a Strict line keeps of its tenant's nominal; nothing is kept when it is asked.

    One that fits and is only kept back by somebody overdue keeps nothing: else each of the two might keep the other waiting.
    """
    head = line.head()
    if head is None or head.standing is not Standing.WAITING or not isinstance(head.needs, Needs):
        return ()
    if line.kept_before(head.item) is not None:  # one before it has a claim, which keeps what it needs
        return ()
    place = head.needs.preferred
    if place is None:
        return ()
    parts = ((cell, min(amount, cell.nominal - cell.usage)) for cell, amount in place.takes)
    return tuple((cell, amount) for cell, amount in parts if amount > 0)
