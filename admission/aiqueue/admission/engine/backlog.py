"""All pending work, and what becomes of it when something happens: entering, leaving, parking, waking, rerouting.

Whatever may alter a verdict leaves a mark here (`stale_shapes`, `stale_workloads`), and whatever may make an admission possible
puts the line among those `awake`; so neither has to be looked for. Marks may be too many, never too few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.buckets import Bucket, Door, Line, Pending, Standing, micros
from aiqueue.admission.engine.flavors import needs_of
from aiqueue.admission.engine.ordered import Ordered
from aiqueue.admission.engine.routes import Refusal, route_of
from aiqueue.admission.engine.tree import Cell, TenantNode
from aiqueue.queue.records import Configuration, Workload
from aiqueue.queue.words import Reason, WorkloadState

ANY_MOVE = -(1 << 200)  # a need that is met by any change of a cell


class Backlog:
    """Pending workloads by id, in buckets, in lines.

    Attributes:
        clock: microseconds since 1970 of the last decide; None before the first.
        alarms: (when a waiting bucket starts to starve, bucket).
        backoffs: (when a back-off ends, workload).
        flipped: buckets that the last configuration came to let in, whose `open_since` is still to be set.
    """

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}
        self.lines: dict[str, Line] = {}
        self.awake: dict[str, Line] = {}
        self.clock: int | None = None
        self.alarms: Ordered[tuple[int, int]] = Ordered()
        self.backoffs: Ordered[tuple[int, int]] = Ordered()
        self.flipped: list[Bucket] = []
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
        alike = line.shapes[bucket.shape]
        del alike[bucket.serial]
        if not alike:
            del line.shapes[bucket.shape]
            line.needs.pop(bucket.shape, None)

    # Where a bucket stands.

    def stand(self, bucket: Bucket, standing: Standing) -> None:
        """Move a bucket to where it stands now, by its present head; an empty one stands Idle unless it is Shut."""
        self._leave(bucket)
        if standing is not Standing.SHUT and not len(bucket.entries):
            standing = Standing.IDLE
        bucket.standing = standing
        if standing in (Standing.IDLE, Standing.SHUT):
            return
        line = bucket.line
        bucket.item = bucket.head_item()
        if standing is Standing.READY:
            line.ready.add(bucket.item)
        elif standing is Standing.BEHIND:
            line.behind.add(bucket.item)
        else:
            line.waiting.add(bucket.item)
            if not line.strict:
                self._watch(bucket)

    def _leave(self, bucket: Bucket) -> None:
        line = bucket.line
        line.contender = None
        if bucket.standing is Standing.READY:
            line.ready.remove(bucket.item)
        elif bucket.standing is Standing.BEHIND:
            line.behind.remove(bucket.item)
        elif bucket.standing is Standing.WAITING:
            line.waiting.remove(bucket.item)
            if bucket.starving:
                line.starving.remove(bucket.item)
            elif bucket.deadline is not None:
                self.alarms.remove((bucket.deadline, bucket.serial))
            bucket.starving = False
            bucket.deadline = None

    def _watch(self, bucket: Bucket) -> None:
        """Start the clock of a head that waits in a BestEffort tenant."""
        head = self.pending[bucket.entries.first[3]]
        until = head.workload.not_before
        since = max(head.entry[0], bucket.open_since, micros(until) if until is not None else 0)
        bucket.deadline = since + bucket.line.bound
        if self.clock is not None and bucket.deadline <= self.clock:
            self._starve(bucket)
        else:
            self.alarms.add((bucket.deadline, bucket.serial))

    def _starve(self, bucket: Bucket) -> None:
        bucket.starving = True
        bucket.line.contender = None
        bucket.line.starving.add(bucket.item)
        for item in bucket.line.behind:
            self._mark(bucket.line.buckets[item[-1]])

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
        """Forget where the next of a tenant was found to fit, for runs of it opened or closed."""
        line = self.lines.get(tenant)
        if line is not None:
            line.contender = None

    def figures_moved(self, node: TenantNode) -> None:
        """Mark the verdicts that name figures of this tenant or of one under it."""
        for leaf in node.leaves:
            line = self.lines.get(leaf.name)
            if line is not None:
                for standing in (line.waiting, line.behind):
                    for item in standing:
                        self.stale_shapes[(line.name, line.buckets[item[-1]].shape)] = None

    # What a Plan does; each has its exact inverse.

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
        """Let back-offs end and heads starve whose time has come."""
        self.clock = clock
        while len(self.backoffs) and self.backoffs.first[0] <= clock:
            self.put(self.pending[self.backoffs.first[1]].workload)
        while len(self.alarms) and self.alarms.first[0] <= clock:
            alarm = self.alarms.first
            self.alarms.remove(alarm)
            self._starve(self._by_serial[alarm[1]])

    def next_alarm(self) -> int | None:
        """When `advance` will next change anything, in microseconds since 1970."""
        return min((timers.first[0] for timers in (self.backoffs, self.alarms) if len(timers)), default=None)

    def configure(self, configuration: Configuration, nodes: Mapping[str, TenantNode]) -> None:
        """Route all buckets anew; everything that can be looked at will be."""
        self._configuration, self._nodes = configuration, nodes
        self.lines, self.awake, self.alarms = {}, {}, Ordered()
        for bucket in self._buckets.values():
            refused_each = bucket.route.door or bucket.route.class_refused
            was_shut = bucket.standing is Standing.SHUT
            bucket.standing, bucket.lots, bucket.starving, bucket.deadline = Standing.IDLE, [], False, None
            self._route(bucket)
            if was_shut and bucket.standing is not Standing.SHUT:
                self.flipped.append(bucket)
            if refused_each or bucket.route.door or bucket.route.class_refused:
                self.stale_workloads.update((entry[3], None) for entry in bucket.entries)
            self.stale_workloads.update((entry[3], None) for entry in bucket.aside)

    def _route(self, bucket: Bucket) -> None:
        """Find the line of a bucket and stand it there."""
        route = bucket.route = route_of(self._configuration, self._nodes, bucket.sample)
        line = self.lines.get(route.line)
        if line is None:
            line = self.lines[route.line] = Line(route.line, route)
        bucket.line = line
        line.buckets[bucket.serial] = bucket
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
        ahead, whole, rank = 0, 0, pending.bucket.route.rank
        for bucket in pending.bucket.line.buckets.values():
            whole += len(bucket)
            if bucket.route.rank < rank:
                ahead += len(bucket)
            elif bucket.route.rank == rank:
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
