"""All pending work, and what becomes of it when something happens: entering, leaving, backing off, rerouting."""

from __future__ import annotations

from collections.abc import Mapping

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.buckets import Bucket, Door, Kept, Line, Pending, Standing
from aiqueue.admission.engine.flavors import needs_of
from aiqueue.admission.engine.instants import SECOND, micros
from aiqueue.admission.engine.ordered import Ordered
from aiqueue.admission.engine.routes import Refusal, Route, route_of
from aiqueue.admission.engine.sizes import Sizes
from aiqueue.admission.engine.standings import Standings
from aiqueue.admission.engine.starvation import Watch
from aiqueue.admission.engine.tree import TenantNode
from aiqueue.queue.records import Configuration, Workload
from aiqueue.queue.usage import Usage
from aiqueue.queue.words import Fungibility, Reason, WorkloadState

REMEMBERED = 64  # routes, and shapes of a line, that nothing pending has and that are remembered all the same


class Backlog(Standings):
    """Pending workloads by id, in buckets, in lines.

    Attributes:
        backoffs: (when a back-off ends, workload).
        claims: why those wait that claim room, by workload.
        flipped: by serial, buckets that the last configuration came to let in, whose `open_since` is still to be set.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backoffs: Ordered[tuple[int, int]] = Ordered()
        self.flipped: dict[int, Bucket] = {}
        self.claims: dict[int, Refusal] = {}
        self._configuration = Configuration(0)
        self._buckets: dict[Door, Bucket] = {}
        self._routes: dict[tuple[str, str, str | None], Route] = {}
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
            elif pending.own[0] is Reason.WAITING_FOR_VICTIMS:
                bucket.line.claimed[workload.id] = pending
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
            if bucket.line.claimed.pop(workload_id, None) is not None:
                self._wake_line(bucket.line)
        self.stale_workloads[workload_id] = None
        self._reheaded(bucket)
        self._forget_if_empty(bucket)

    def admitted(self, workload_id: int) -> None:
        """Forget a workload that was taken by a Plan that is now confirmed."""
        pending = self.pending.pop(workload_id)
        self.claims.pop(workload_id, None)
        self._forget_if_empty(pending.bucket)

    def _own_refusal(self, workload: Workload) -> Refusal | None:
        if workload.held_by_owner or workload.state is WorkloadState.HELD:
            return (Reason.WORKLOAD_HELD, *reasons.held())
        if workload.invalid is not None:
            return (Reason.INVALID_REQUEST, *reasons.invalid(workload.invalid))
        until = workload.not_before
        if until is not None and (self.clock is None or micros(until) > self.clock):
            return (Reason.BACKOFF, *reasons.backoff(until))
        return self.claims.get(workload.id)

    def claims_room(self, workload_id: int, refusal: Refusal | None) -> None:
        """Let a pending workload wait for its claim, for this reason; None where it claims nothing any more."""
        if refusal is None:
            self.claims.pop(workload_id, None)
        else:
            self.claims[workload_id] = refusal
        pending = self.pending.get(workload_id)
        if pending is not None:
            self.put(pending.workload)

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

    def _forget_if_empty(self, bucket: Bucket) -> None:
        if len(bucket) or bucket.serial not in self._by_serial:  # several of one Plan may have been the last of it
            return
        if bucket.standing is not Standing.IDLE:
            self.stand(bucket, Standing.IDLE)
        line = bucket.line
        del self._buckets[bucket.door], self._by_serial[bucket.serial], line.buckets[bucket.serial]
        self.flipped.pop(bucket.serial, None)
        alike = line.shapes[bucket.shape]
        del alike[bucket.serial]
        if not alike:
            del line.shapes[bucket.shape]
            if len(line.needs) > 2 * len(line.shapes) + REMEMBERED:
                line.needs = {shape: line.needs[shape] for shape in line.shapes if shape in line.needs}
                line.sizes = {shape: line.sizes[shape] for shape in line.shapes if shape in line.sizes}
        of_queue = line.queues[bucket.door[:2]]
        del of_queue[bucket.serial]
        if not of_queue:
            del line.queues[bucket.door[:2]]
            line.usage_rank.pop(bucket.door[:2], None)
            line.ranked_at = None  # and the others have theirs among fewer

    def learn(self, usages: Mapping[tuple[str, str, str], Usage]) -> None:
        """Learn what queues used."""
        for name in self.order.learn(usages):
            queue = self._configuration.queues.get(name)
            line = self.lines.get(queue.tenant) if queue is not None else None
            if line is not None and line.by_usage:
                line.ranked_at = None
                self.awake[line.name] = line

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
        self._routes = {}
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
        self.woken, self.moved, self.stirred, self.waits = {}, {}, {}, {}
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
        for workload_id in self.claims:
            if (pending := self.pending.get(workload_id)) is not None and pending.own is self.claims[workload_id]:
                pending.bucket.line.claimed[workload_id] = pending

    def _route(self, bucket: Bucket) -> None:
        """Find the line of a bucket and stand it there."""
        way = bucket.door[:3]
        route = self._routes.get(way)
        if route is None:
            if len(self._routes) > 2 * len(self._buckets) + REMEMBERED:
                self._routes.clear()
            route = self._routes[way] = route_of(self._configuration, self._nodes, bucket.sample)
        bucket.route = route
        line = self.lines.get(route.line)
        if line is None:
            line = self.lines[route.line] = Line(route.line, route.node)
        bucket.line = line
        line.buckets[bucket.serial] = bucket
        line.queues.setdefault(bucket.door[:2], {})[bucket.serial] = bucket
        line.ranked_at = None  # a queue that comes in has its place among the others
        self._place(bucket)
        line.shapes.setdefault(bucket.shape, {})[bucket.serial] = bucket
        bucket.needs, bucket.sizes = None, None
        if route.node is not None:
            needs = line.needs.get(bucket.shape)
            if needs is None:
                asked = (route.node, self._configuration.flavors, bucket.sample.pod_sets, bucket.shape)
                sizes = Sizes.of(*asked)
                needs = needs_of(*asked) if sizes is None else sizes.least
                line.needs[bucket.shape] = needs
                if sizes is not None:
                    line.sizes[bucket.shape] = sizes
            bucket.needs, bucket.sizes = needs, line.sizes.get(bucket.shape)
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
        self._kept_other(line)

    def keep_again(self, line: Line, kept: Kept, _: Kept) -> None:
        """Keep what was kept before."""
        line.keep(kept)
        self._kept_other(line)

    def _kept_other(self, line: Line) -> None:
        self.awake[line.name] = line
        if line.node is not None:
            self.moved[line.node.root.name] = None  # there is less room for the others, or more

    def take(self, bucket: Bucket, pending: Pending) -> None:
        """Admit the head of a Ready bucket, tentatively."""
        bucket.entries.remove(pending.entry)
        pending.taken = True
        self.stand(bucket, Standing.READY)
        if not len(bucket.entries):
            self._mark(bucket)

    def claim(self, pending: Pending, refusal: Refusal) -> None:
        """Let a workload wait for its claim and for nothing else; the inverse is `unclaim`."""
        bucket = pending.bucket
        bucket.entries.remove(pending.entry)
        bucket.aside.add(pending.entry)
        pending.own = self.claims[pending.workload.id] = refusal
        bucket.line.claimed[pending.workload.id] = pending
        self._reclaimed(bucket, pending)

    def unclaim(self, pending: Pending, _: Refusal) -> None:
        """Let it wait again like others."""
        bucket = pending.bucket
        bucket.aside.remove(pending.entry)
        bucket.entries.add(pending.entry)
        pending.own = None
        del self.claims[pending.workload.id]
        del bucket.line.claimed[pending.workload.id]
        self._reclaimed(bucket, pending)

    def _reclaimed(self, bucket: Bucket, pending: Pending) -> None:
        self.stale_workloads[pending.workload.id] = None
        if bucket.standing is Standing.SHUT:
            return
        if bucket.standing in (Standing.WAITING, Standing.BEHIND):
            self.wake(bucket)
        else:
            self.stand(bucket, Standing.READY)
        self._mark(bucket)

    def take_claimed(self, bucket: Bucket, pending: Pending) -> None:
        """Admit a workload that claimed its room, tentatively; the inverse is `untake_claimed`."""
        bucket.aside.remove(pending.entry)
        pending.taken = True
        del bucket.line.claimed[pending.workload.id]
        self._reclaimed(bucket, pending)

    def untake_claimed(self, bucket: Bucket, pending: Pending) -> None:
        """Take the admission back."""
        bucket.aside.add(pending.entry)
        pending.taken = False
        bucket.line.claimed[pending.workload.id] = pending
        self._reclaimed(bucket, pending)

    def untake(self, bucket: Bucket, pending: Pending) -> None:
        """Take the admission back."""
        bucket.entries.add(pending.entry)
        pending.taken = False
        self.stand(bucket, Standing.READY)
