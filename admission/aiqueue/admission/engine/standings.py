"""Where buckets stand in their lines, and what moves them: time, room, order, and those who waited too long.

Whatever may alter a verdict leaves a mark here (`stale_shapes`, `stale_workloads`), and whatever may make an admission possible
or better puts the line among those `awake`; so neither has to be looked for. Marks may be too many, never too few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

from aiqueue.admission.engine.buckets import Bucket, Line, Pending, Standing
from aiqueue.admission.engine.instants import micros
from aiqueue.admission.engine.needs import Needs
from aiqueue.admission.engine.ordered import Ordered
from aiqueue.admission.engine.ordering import QueueOrder
from aiqueue.admission.engine.search import NOTHING
from aiqueue.admission.engine.starvation import Concern, Watch
from aiqueue.admission.engine.tree import Cell, TenantNode

ANY_MOVE = -(1 << 200)  # a need that is met by any change of a cell
_ACTIVE = (Standing.READY, Standing.WAITING, Standing.BEHIND)


class Standings:
    """The lines, and the buckets in them.

    Attributes:
        clock: microseconds since 1970 of the last decide; None before the first.
        awake: lines to be looked at.
        touched: Strict lines whose head may be another.
        alarms: (when a waiting head is past its deadline, bucket).
        turns: (when the queues of a line will stand otherwise, line), where somebody waits for it.
        watch: the overdue heads of each tree.
        loosened: by root, who may borrow what he might not before, or the other way round.
        lending: names of the roots of trees where an inner tenant keeps some quota for those under it.
        picky: names of the roots of trees where what others borrow may change which flavor a tenant prefers.
        order: what queues used.
        woken: by serial, buckets that were made Ready since somebody cleared it.
        moved: names of the roots of trees where figures that verdicts name moved.
        stirred: roots of trees in which somebody may have room made that could not before, by name.
        waits: how many buckets are Waiting in the tree of a root, by name.
    """

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}
        self.lines: dict[str, Line] = {}
        self.awake: dict[str, Line] = {}
        self.touched: dict[str, Line] = {}
        self.clock: int | None = None
        self.alarms: Ordered[tuple[int, int]] = Ordered()
        self.turns: Ordered[tuple[int, str]] = Ordered()
        self.watch = Watch()
        self.loosened: dict[str, Concern] = {}
        self.lending: set[str] = set()
        self.picky: set[str] = set()
        self.order = QueueOrder()
        self.woken: dict[int, Bucket] = {}
        self.moved: dict[str, None] = {}
        self.stirred: dict[str, TenantNode] = {}
        self.waits: dict[str, int] = {}
        self.stale_shapes: dict[tuple[str, str], None] = {}
        self.stale_workloads: dict[int, None] = {}
        self._nodes: Mapping[str, TenantNode] = {}
        self._by_serial: dict[int, Bucket] = {}

    def _mark(self, bucket: Bucket) -> None:
        self.stale_shapes[(bucket.line.name, bucket.shape)] = None
        self.awake[bucket.line.name] = bucket.line

    def stand(self, bucket: Bucket, standing: Standing) -> None:
        """Move a bucket to where it stands now, by its present head; an empty one stands Idle unless it is Shut."""
        overdue = bucket.overdue is not None
        line = bucket.line
        if bucket.standing in _ACTIVE:
            self._leave(bucket)
        if standing is not Standing.SHUT and not len(bucket.entries):
            standing = Standing.IDLE
        bucket.standing = standing
        if standing in _ACTIVE:
            self._wake_line(line)
            bucket.item = bucket.head_item()
            line.at(standing).add(bucket.item)
            if standing is Standing.WAITING and line.node is not None:
                name = line.node.root.name
                self.waits[name] = self.waits.get(name, 0) + 1
            self._time(bucket, overdue)
        if line.node is not None and line.node.parent is not None:
            root, leads = line.node.root, line.leader()
            if (overdue and bucket.overdue is None) or (leads != line.led_by and self.watch.watches(root)):
                self.concern(Concern(root, fresh=True))
            line.led_by = leads

    def _leave(self, bucket: Bucket) -> None:
        line = bucket.line
        self._wake_line(line)
        line.at(bucket.standing).remove(bucket.item)
        if bucket.standing is Standing.WAITING and line.node is not None:
            self.waits[line.node.root.name] -= 1
        if bucket.starving:
            line.starving.remove(bucket.item)
        elif bucket.alarmed:
            self.alarms.remove((bucket.deadline, bucket.serial))
        bucket.starving = bucket.alarmed = False
        if bucket.overdue is not None and line.node is not None:
            self.watch.remove(bucket, line.node.root)

    def _wake_line(self, line: Line) -> None:
        self.look_again(line)
        if line.strict:
            self.touched[line.name] = line

    def look_again(self, line: Line) -> None:
        """Have a line looked at again."""
        line.contender = None
        self.awake[line.name] = line

    def _time(self, bucket: Bucket, known: bool) -> None:
        """Start the clock of a head that may starve: that waits in a BestEffort tenant, or stands in a tree with others."""
        line = bucket.line
        waits = bucket.standing is Standing.WAITING
        in_tree = line.node is not None and line.node.parent is not None
        if not in_tree and (line.strict or not waits):
            return
        head = self.pending[bucket.entries.first[3]]
        until = head.workload.not_before
        since = max(head.entry[0], bucket.open_since, micros(until) if until is not None else 0)
        bucket.deadline = since + line.bound
        if self.clock is not None and bucket.deadline <= self.clock:
            self._past(bucket, known)
        else:
            bucket.alarmed = True
            self.alarms.add((bucket.deadline, bucket.serial))

    def _past(self, bucket: Bucket, known: bool = False) -> None:
        """The deadline of a bucket's head is over; `known`: so was that of the head before it."""
        line = bucket.line
        self.look_again(line)
        if bucket.standing is Standing.WAITING and not line.strict:
            bucket.starving = True
            line.starving.add(bucket.item)
            for behind in line.those_behind() if not known else ():
                self._mark(behind)
        if line.node is not None and line.node.parent is not None:
            self.watch.add(bucket, line.node.root)
            if not known:
                # All others go by it now, and it goes by the champion alone.
                self.concern(Concern(line.node.root, fresh=True, lines=frozenset((line.name,))))

    def retry(self, root: TenantNode) -> None:
        """Have those of a tree looked at again that fit: they may fit better now, or no longer."""
        for leaf in root.leaves:
            line = self.lines.get(leaf.name)
            if line is not None and line.contender is not None:
                self.look_again(line)

    def loosen(self) -> None:
        """Have those looked at again whom others keep from borrowing now and did not before, or the other way round."""
        loosened, self.loosened = self.loosened, {}
        for concern in loosened.values():
            self.moved[concern.root.name] = None
            self.stir(concern.root)
            for leaf in concern.root.leaves:
                line = self.lines.get(leaf.name)
                if line is None:
                    continue
                contender = line.contender
                if (
                    contender is not None
                    and concern.concerns(contender.bucket)
                    and self._kept_from(contender.bucket) != contender.stakes
                ):
                    self.look_again(line)
                for bucket in line.those_behind():
                    if concern.concerns(bucket) and (not bucket.stakes or self._kept_from(bucket) != bucket.stakes):
                        self.unpark(bucket)

    def concern(self, concern: Concern) -> None:
        """Note whom to look at again."""
        known = self.loosened.get(concern.root.name)
        self.loosened[concern.root.name] = concern if known is None else known.and_also(concern)

    def _kept_from(self, bucket: Bucket) -> frozenset[Cell]:
        return self.watch.stakes_against(bucket, bucket.needs) if isinstance(bucket.needs, Needs) else NOTHING

    def park(self, bucket: Bucket, standing: Standing, lots: list[tuple[Cell, int]], stakes: frozenset[Cell]) -> None:
        """Let a Ready bucket wait until a cell has the room it needs there; the inverse is `unpark`."""
        for cell, need in lots:
            cell.lot.add((need, bucket.serial))
        bucket.lots, bucket.stakes = lots, stakes
        self.stand(bucket, standing)
        if bucket.stood is standing and bucket.line.node is not None:
            self.moved[bucket.line.node.root.name] = None  # only figures can be others
        else:
            self._mark(bucket)

    def unpark(self, bucket: Bucket, *_: object) -> None:
        """Make a parked bucket Ready."""
        for cell, need in bucket.lots:
            cell.lot.remove((need, bucket.serial))
        bucket.lots = []
        bucket.stood = bucket.standing
        self.woken[bucket.serial] = bucket
        self.stand(bucket, Standing.READY)

    def wake(self, bucket: Bucket) -> None:
        """Have a bucket looked at again, and with it those that stood behind it if it starved."""
        if bucket.starving:
            self._release(bucket.line)
        self.unpark(bucket)

    def _release(self, line: Line) -> None:
        for bucket in line.those_behind():
            self.unpark(bucket)

    def freed(self, cells: Sequence[Cell]) -> None:
        """Wake what was parked on cells until there was as much room as there is now."""
        for cell in cells:
            lot = cell.lot
            if len(lot):
                room = cell.room()
                while len(lot) and lot.first[0] <= room:
                    self.wake(self._by_serial[lot.first[1]])

    def wake_all(self, cells: Iterable[Cell]) -> None:
        """Wake everything that is parked on these cells."""
        for cell in cells:
            while len(cell.lot):
                self.wake(self._by_serial[cell.lot.first[1]])

    def stir(self, root: TenantNode) -> None:
        """Have it seen whether anybody of a tree can have room made now."""
        self.stirred[root.name] = root

    def wake_hopeful(self, hopes: Callable[[Bucket], bool]) -> bool:
        """Wake those of the trees that were stirred who wait and have hope of room being made; answers whether there are any."""
        stirred, self.stirred = self.stirred, {}
        found: list[Bucket] = []
        for root in stirred.values():
            if not self.waits.get(root.name):
                continue
            for leaf in root.leaves:
                line = self.lines.get(leaf.name)
                if line is None:
                    continue
                kept = line.reserved
                line.keep(())  # what its own tenant keeps for it is room to it
                waiting = [line.buckets[item[-1]] for item in islice(line.waiting, 1 if line.strict else None)]
                waiting.sort(key=_size)  # where the least has no hope, hardly anybody has to be asked
                found.extend(filter(hopes, waiting))
                line.keep(kept)
        for bucket in found:
            if bucket.standing is Standing.WAITING:
                self.wake(bucket)
        return bool(found)

    def usage_moved(self, tenant: str) -> None:
        """Have a tenant and those who share with it looked at again, for runs of it opened or closed."""
        node = self._nodes.get(tenant)
        if node is not None:
            self.retry(node.root)
            self.stir(node.root)
        line = self.lines.get(tenant)
        if line is not None:
            self.look_again(line)

    def rank(self, line: Line) -> None:
        """Bring the buckets of a line in order by what their queues used, as of now."""
        if not line.by_usage or self.clock is None or line.ranked_at == self.clock:
            return
        line.ranked_at = self.clock
        if len(line.queues) == 1 and not line.usage_rank:
            return
        numbers = self.order.numbers(line.name, line.queues, self.clock)
        moved = [name for name, number in numbers.items() if line.usage_rank.get(name, 0) != number]
        line.usage_rank = numbers
        for name in moved:
            for bucket in line.queues[name].values():
                self._place(bucket)
                self.stand(bucket, bucket.standing)
                self._mark(bucket)
        if moved:
            self._release(line)
        self._forget_turn(line)

    def _place(self, bucket: Bucket) -> None:
        """Give a bucket its rank in its line."""
        rank, slot = bucket.route.rank, bucket.route.usage_slot
        if slot is not None:
            number = bucket.line.usage_rank.get(bucket.door[:2], 0)
            rank = (rank[0], number, rank[2]) if slot == 1 else (rank[0], rank[1], number)
        bucket.rank = rank

    def await_turn(self, line: Line) -> None:
        """Have an alarm set for when the order of a line changes by itself, if that may let somebody in, and none if not."""
        blocks = line.strict or len(line.starving)
        if not line.by_usage or not blocks or len(line.queues) < 2:
            self._forget_turn(line)  # others blocked, or were there, when it was set
            return
        if line.rerank_at is not None or self.clock is None:
            return
        at = self.order.turns_over_at(line, self.clock)
        if at is not None:
            line.rerank_at = at
            self.turns.add((at, line.name))

    def _forget_turn(self, line: Line) -> None:
        if line.rerank_at is not None:
            self.turns.remove((line.rerank_at, line.name))
            line.rerank_at = None

    def hold_vigil(self, line: Line) -> None:
        """See who of a tree is the champion now that a line was looked at."""
        node = line.node
        concern = self.watch.play(line, node) if node is not None and node.parent is not None else None
        if concern is not None:
            self.concern(concern)

    def lots_for(self, short: Mapping[Cell, int]) -> list[tuple[Cell, int]]:
        """Where to park what was refused these amounts, and until which room."""
        needs: dict[Cell, int] = {}
        for refused, amount in short.items():
            for cell, need in refused.refusing(amount).blocks(amount):
                wanted = ANY_MOVE if need is None else need
                needs[cell] = min(wanted, needs.get(cell, wanted))
        return list(needs.items())


def _size(bucket: Bucket) -> tuple[int, ...]:
    return bucket.needs.size if isinstance(bucket.needs, Needs) else ()
