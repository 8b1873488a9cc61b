"""All pending work, and what becomes of it when something happens: entering, leaving, parking, waking, rerouting.

Whatever may alter a verdict leaves a mark here (`stale_shapes`, `stale_workloads`), and whatever may make an admission possible
or better puts the line among those `awake`; so neither has to be looked for. Marks may be too many, never too few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.buckets import Bucket, Door, Kept, Line, Pending, Standing, micros
from aiqueue.admission.engine.flavors import needs_of
from aiqueue.admission.engine.ordered import Ordered
from aiqueue.admission.engine.ordering import SECOND, QueueOrder
from aiqueue.admission.engine.routes import Refusal, route_of
from aiqueue.admission.engine.starvation import Watch
from aiqueue.admission.engine.tree import Cell, TenantNode
from aiqueue.queue.records import Configuration, Workload
from aiqueue.queue.usage import Usage
from aiqueue.queue.words import Fungibility, Reason, WorkloadState

ANY_MOVE = -(1 << 200)  # a need that is met by any change of a cell


class Backlog:
    """Pending workloads by id, in buckets, in lines.

    Attributes:
        clock: microseconds since 1970 of the last decide; None before the first.
        awake: lines to be looked at.
        touched: Strict lines whose head may be another.
        alarms: (when a waiting head is past its deadline, bucket).
        backoffs: (when a back-off ends, workload).
        turns: (when the queues of a line will stand otherwise, line), where somebody waits for it.
        watch: the overdue heads of each tree.
        loosened: roots of trees in which somebody overdue may be gone.
        lending: names of the roots of trees where an inner tenant keeps some quota for those under it.
        picky: names of the roots of trees where what others borrow may change which flavor a tenant prefers.
        flipped: by serial, buckets that the last configuration came to let in, whose `open_since` is still to be set.
    """

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}
        self.lines: dict[str, Line] = {}
        self.awake: dict[str, Line] = {}
        self.touched: dict[str, Line] = {}
        self.clock: int | None = None
        self.alarms: Ordered[tuple[int, int]] = Ordered()
        self.backoffs: Ordered[tuple[int, int]] = Ordered()
        self.turns: Ordered[tuple[int, str]] = Ordered()
        self.watch = Watch()
        self.loosened: dict[str, TenantNode] = {}
        self.lending: set[str] = set()
        self.picky: set[str] = set()
        self.order = QueueOrder()
        self.flipped: dict[int, Bucket] = {}
        self.stale_shapes: dict[tuple[str, str], None] = {}
        self.stale_workloads: dict[int, None] = {}
        self._configuration = Configuration(0)
        self._nodes: Mapping[str, TenantNode] = {}
        self._buckets: dict[Door, Bucket] = {}
        self._by_serial: dict[int, Bucket] = {}
        self._serial = 0

    # What happens to one workload.

    def put(self, workload: Workload) -> None:
        """Enter a workload, or replace what is known of it."""
        self.drop(workload.id)
        door = (workload.namespace, workload.queue_name, workload.class_name, workload.shape)
        bucket = self._buckets.get(door)
        if bucket is None:
            self._serial += 1
            bucket = self._buckets[door] = self._by_serial[self._serial] = Bucket(self._serial, door, workload)
            self._route(bucket)
        pending = self.pending[workload.id] = Pending(workload, bucket, self._own_refusal(workload))
        if pending.own is None:
            bucket.entries.add(pending.entry)
        else:
            bucket.aside.add(pending.entry)
            if pending.own[0] is Reason.BACKOFF and workload.not_before is not None:
                self.backoffs.add((micros(workload.not_before), workload.id))
        self.stale_workloads[workload.id] = None
        self._reheaded(bucket)

    def drop(self, workload_id: int) -> None:
        """Let a workload leave; unknown ids are ignored."""
        pending = self.pending.pop(workload_id, None)
        if pending is None:
            return
        bucket = pending.bucket
        if pending.own is None:
            bucket.entries.remove(pending.entry)
        else:
            bucket.aside.remove(pending.entry)
            if pending.own[0] is Reason.BACKOFF and pending.workload.not_before is not None:
                self.backoffs.remove((micros(pending.workload.not_before), workload_id))
        self.stale_workloads[workload_id] = None
        self._reheaded(bucket)
        self._forget_if_empty(bucket)

    def _own_refusal(self, workload: Workload) -> Refusal | None:
        if workload.held_by_owner or workload.state is WorkloadState.HELD:
            return (Reason.WORKLOAD_HELD, *reasons.held())
        if workload.invalid is not None:
            return (Reason.INVALID_REQUEST, *reasons.invalid(workload.invalid))
        until = workload.not_before
        if until is not None and (self.clock is None or micros(until) > self.clock):
            return (Reason.BACKOFF, *reasons.backoff(until))
        return None

    def _reheaded(self, bucket: Bucket) -> None:
        """Bring a bucket to its place after its entries changed."""
        self._mark(bucket)
        if bucket.standing is Standing.SHUT:
            return
        if len(bucket.entries) and bucket.standing is not Standing.IDLE and bucket.head_item() == bucket.item:
            return
        if bucket.standing is Standing.WAITING and len(bucket.entries):
            if bucket.starving:
                self._release(bucket.line)
            self.stand(bucket, Standing.WAITING)
        else:
            self.wake(bucket)

    def _mark(self, bucket: Bucket) -> None:
        self.stale_shapes[(bucket.line.name, bucket.shape)] = None
        self.awake[bucket.line.name] = bucket.line

    def _forget_if_empty(self, bucket: Bucket) -> None:
        if len(bucket) or bucket.serial not in self._by_serial:  # several of one Plan may have been the last of it
            return
        self.stand(bucket, Standing.IDLE)
        line = bucket.line
        del self._buckets[bucket.door], self._by_serial[bucket.serial], line.buckets[bucket.serial]
        self.flipped.pop(bucket.serial, None)
        alike = line.shapes[bucket.shape]
        del alike[bucket.serial]
        if not alike:
            del line.shapes[bucket.shape]
            line.needs.pop(bucket.shape, None)
        of_queue = line.queues[bucket.door[:2]]
        del of_queue[bucket.serial]
        if not of_queue:
            del line.queues[bucket.door[:2]]
            line.usage_rank.pop(bucket.door[:2], None)

    # Where a bucket stands.

    def stand(self, bucket: Bucket, standing: Standing) -> None:
        """Move a bucket to where it stands now, by its present head; an empty one stands Idle unless it is Shut."""
        overdue = bucket.overdue
        self._leave(bucket)
        if standing is not Standing.SHUT and not len(bucket.entries):
            standing = Standing.IDLE
        bucket.standing = standing
        line = bucket.line
        if standing not in (Standing.IDLE, Standing.SHUT):
            bucket.item = bucket.head_item()
            line.at(standing).add(bucket.item)
            self._time(bucket)
        if line.node is not None and line.node.parent is not None:
            leads = line.leader()
            if (overdue is not None and bucket.overdue != overdue) or leads != line.led_by:
                line.led_by = leads
                if overdue is not None or self.watch.watches(line.node.root):
                    self.loosened[line.node.root.name] = line.node.root

    def _leave(self, bucket: Bucket) -> None:
        line = bucket.line
        line.contender = None
        self.awake[line.name] = line
        if line.strict:
            self.touched[line.name] = line
        if bucket.standing not in (Standing.IDLE, Standing.SHUT):
            line.at(bucket.standing).remove(bucket.item)
        if bucket.starving:
            line.starving.remove(bucket.item)
        elif bucket.alarmed:
            self.alarms.remove((bucket.deadline, bucket.serial))
        bucket.starving = bucket.alarmed = False
        if bucket.overdue is not None and line.node is not None:
            self.watch.remove(bucket, line.node.root)

    def _time(self, bucket: Bucket) -> None:
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
            self._past(bucket)
        elif waits:
            bucket.alarmed = True
            self.alarms.add((bucket.deadline, bucket.serial))

    def _past(self, bucket: Bucket) -> None:
        """The deadline of a bucket's head is over."""
        line = bucket.line
        line.contender = None
        self.awake[line.name] = line
        if bucket.standing is Standing.WAITING and not line.strict:
            bucket.starving = True
            line.starving.add(bucket.item)
            for item in line.behind:
                self._mark(line.buckets[item[-1]])
        if line.node is not None and line.node.parent is not None:
            self.watch.add(bucket, line.node.root)
            self.retry(line.node.root)

    def retry(self, root: TenantNode) -> None:
        """Have those of a tree looked at again that fit: they may fit better now, or no longer be let in."""
        for leaf in root.leaves:
            line = self.lines.get(leaf.name)
            if line is not None and line.contender is not None:
                line.contender = None
                self.awake[line.name] = line

    def loosen(self) -> None:
        """Have those looked at again that stood behind somebody overdue who may be gone."""
        loosened, self.loosened = self.loosened, {}
        for root in loosened.values():
            self.retry(root)
            for leaf in root.leaves:
                line = self.lines.get(leaf.name)
                if line is not None and len(line.behind):
                    self._release(line)

    def park(self, bucket: Bucket, standing: Standing, lots: list[tuple[Cell, int]]) -> None:
        """Let a Ready bucket wait until a cell has the room it needs there; the inverse is `unpark`."""
        for cell, need in lots:
            cell.lot.add((need, bucket.serial))
        bucket.lots = lots
        self.stand(bucket, standing)
        self._mark(bucket)

    def unpark(self, bucket: Bucket, *_: object) -> None:
        """Make a parked bucket Ready."""
        for cell, need in bucket.lots:
            cell.lot.remove((need, bucket.serial))
        bucket.lots = []
        self.stand(bucket, Standing.READY)

    def wake(self, bucket: Bucket) -> None:
        """Have a bucket looked at again, and with it those that stood behind it if it starved."""
        if bucket.starving:
            self._release(bucket.line)
        self.unpark(bucket)
        self._mark(bucket)

    def _release(self, line: Line) -> None:
        for bucket in [line.buckets[item[-1]] for item in line.behind]:
            self.unpark(bucket)
            self._mark(bucket)

    def freed(self, cells: Sequence[Cell]) -> None:
        """Wake what was parked on cells until there was as much room as there is now."""
        for cell in cells:
            lot = cell.lot
            if len(lot):
                room = cell.room()
                while len(lot) and lot.first[0] <= room:
                    self.wake(self._by_serial[lot.first[1]])

    def usage_moved(self, tenant: str) -> None:
        """Have a tenant and those who share with it looked at again, for runs of it opened or closed."""
        node = self._nodes.get(tenant)
        if node is not None:
            self.retry(node.root)
        line = self.lines.get(tenant)
        if line is not None:
            line.contender = None
            self.awake[tenant] = line

    def learn(self, usages: Mapping[tuple[str, str, str], Usage]) -> None:
        """Learn what queues used."""
        for name in self.order.learn(usages):
            queue = self._configuration.queues.get(name)
            line = self.lines.get(queue.tenant) if queue is not None else None
            if line is not None and line.by_usage:
                line.ranked_at = None
                self.awake[line.name] = line

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
        if line.rerank_at is not None:
            self.turns.remove((line.rerank_at, line.name))
            line.rerank_at = None

    def _place(self, bucket: Bucket) -> None:
        """Give a bucket its rank in its line."""
        rank, slot = bucket.route.rank, bucket.route.usage_slot
        if slot is not None:
            number = bucket.line.usage_rank.get(bucket.door[:2], 0)
            rank = (rank[0], number, rank[2]) if slot == 1 else (rank[0], rank[1], number)
        bucket.rank = rank

    def await_turn(self, line: Line) -> None:
        """Set an alarm for when the order of a line changes by itself, if that may let somebody in."""
        blocks = line.strict or len(line.starving)
        if not line.by_usage or not blocks or len(line.queues) < 2 or line.rerank_at is not None or self.clock is None:
            return
        at = self.order.turns_over_at(line, self.clock)
        if at is not None:
            line.rerank_at = at
            self.turns.add((at, line.name))

    # What a Plan does; each has its exact inverse.

    def open_since(self, bucket: Bucket, clock: int) -> None:
        """Count the waiting of a bucket from when the configuration came to let it in; the inverse is `not_open`."""
        bucket.open_since = clock
        self.stand(bucket, bucket.standing)

    def not_open(self, bucket: Bucket, _: int) -> None:
        """Take that back."""
        bucket.open_since = 0
        self.stand(bucket, bucket.standing)

    def keep(self, line: Line, _: Kept, keeps: Kept) -> None:
        """Keep something else for the blocked head of a line; the inverse is `keep_again`."""
        line.keep(keeps)
        self.awake[line.name] = line

    def keep_again(self, line: Line, kept: Kept, _: Kept) -> None:
        """Keep what was kept before."""
        line.keep(kept)
        self.awake[line.name] = line

    def take(self, bucket: Bucket, pending: Pending) -> None:
        """Admit the head of a Ready bucket, tentatively."""
        bucket.entries.remove(pending.entry)
        pending.taken = True
        self.stand(bucket, Standing.READY)
        if not len(bucket.entries):
            self._mark(bucket)

    def untake(self, bucket: Bucket, pending: Pending) -> None:
        """Take the admission back."""
        bucket.entries.add(pending.entry)
        pending.taken = False
        self.stand(bucket, Standing.READY)

    def admitted(self, workload_id: int) -> None:
        """Forget a workload that was taken by a Plan that is now confirmed."""
        pending = self.pending.pop(workload_id)
        self._forget_if_empty(pending.bucket)

    # Time and configuration.

    def advance(self, clock: int) -> None:
        """Let back-offs end, heads starve and queues change places whose time has come."""
        first, self.clock = self.clock is None, clock
        if first:
            for bucket in self._buckets.values():
                if bucket.standing is Standing.READY:
                    self.stand(bucket, Standing.READY)
        while len(self.backoffs) and self.backoffs.first[0] <= clock:
            self.put(self.pending[self.backoffs.first[1]].workload)
        while len(self.alarms) and self.alarms.first[0] <= clock:
            alarm = self.alarms.first
            bucket = self._by_serial[alarm[1]]
            self.alarms.remove(alarm)
            bucket.alarmed = False
            self._past(bucket)
        while len(self.turns) and self.turns.first[0] <= clock + SECOND:
            line = self.lines[self.turns.first[1]]
            self.turns.remove(self.turns.first)
            line.rerank_at = None
            self.awake[line.name] = line

    def next_alarm(self) -> int | None:
        """When `advance` will next change anything, in microseconds since 1970."""
        return min((timers.first[0] for timers in (self.backoffs, self.alarms, self.turns) if len(timers)), default=None)

    def configure(self, configuration: Configuration, nodes: Mapping[str, TenantNode]) -> None:
        """Route all buckets anew; everything that can be looked at will be."""
        self._configuration, self._nodes = configuration, nodes
        self.order.configure(configuration)
        self.lending = {
            node.root.name for node in nodes.values() if node.children and any(cell.guaranteed for cell in node.cells.values())
        }
        self.picky = {
            node.root.name
            for node in nodes.values()
            if node.parent is not None and node.record.when_can_borrow is Fungibility.TRY_NEXT_FLAVOR
        }
        self.lines, self.awake, self.touched, self.loosened = {}, {}, {}, {}
        self.alarms, self.turns, self.watch = Ordered(), Ordered(), Watch()
        for bucket in self._buckets.values():
            refused_each = bucket.route.door or bucket.route.class_refused
            was_shut = bucket.standing is Standing.SHUT
            bucket.standing, bucket.lots, bucket.starving = Standing.IDLE, [], False
            bucket.alarmed, bucket.overdue = False, None
            self._route(bucket)
            if was_shut and bucket.standing is not Standing.SHUT:
                self.flipped[bucket.serial] = bucket
            if refused_each or bucket.route.door or bucket.route.class_refused:
                self.stale_workloads.update((entry[3], None) for entry in bucket.entries)
            self.stale_workloads.update((entry[3], None) for entry in bucket.aside)

    def _route(self, bucket: Bucket) -> None:
        """Find the line of a bucket and stand it there."""
        route = bucket.route = route_of(self._configuration, self._nodes, bucket.sample)
        line = self.lines.get(route.line)
        if line is None:
            line = self.lines[route.line] = Line(route.line, route.node)
        bucket.line = line
        line.buckets[bucket.serial] = bucket
        line.queues.setdefault(bucket.door[:2], {})[bucket.serial] = bucket
        line.ranked_at = None  # a queue that comes in has its place among the others
        self._place(bucket)
        line.shapes.setdefault(bucket.shape, {})[bucket.serial] = bucket
        bucket.needs = None
        if route.node is not None:
            needs = line.needs.get(bucket.shape)
            if needs is None:
                needs = needs_of(route.node, self._configuration.flavors, bucket.sample.pod_sets, bucket.shape)
                line.needs[bucket.shape] = needs
            bucket.needs = needs
        self.stand(bucket, Standing.SHUT if bucket.shut else Standing.READY)
        self._mark(bucket)

    def position(self, pending: Pending) -> tuple[int, int]:
        """The place, from 1, of a workload among all that wait in its tenant, and how many those are."""
        self.rank(pending.bucket.line)
        ahead, whole, rank = 0, 0, pending.bucket.rank
        for bucket in pending.bucket.line.buckets.values():
            whole += len(bucket)
            if bucket.rank < rank:
                ahead += len(bucket)
            elif bucket.rank == rank:
                ahead += bucket.entries.rank(pending.entry) + bucket.aside.rank(pending.entry)
        return ahead + 1, whole

    def lots_for(self, short: Mapping[Cell, int]) -> list[tuple[Cell, int]]:
        """Where to park what was refused these amounts, and until which room."""
        needs: dict[Cell, int] = {}
        for refused, amount in short.items():
            for cell, need in refused.blocks(amount):
                wanted = ANY_MOVE if need is None else need
                needs[cell] = min(wanted, needs.get(cell, wanted))
        return list(needs.items())
