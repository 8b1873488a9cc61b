"""Pending work by shape: a bucket holds all workloads that differ only in their age, a line all buckets of one tenant.

Only the oldest of a bucket is ever looked at, since what it cannot have none of the others can. A bucket stands in one place of
its line, sorted by its head, the next to be admitted of it:

    Idle     nothing in it may be admitted: it is empty, or all of it is held or backs off
    Shut     its queue, tenant or class lets nothing in, or it can never fit what the tenant may have
    Ready    to be looked at
    Waiting  does not fit: parked until something it waits for moves
    Behind   fits, and would delay a workload before it that starves: parked until that is gone
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from aiqueue.admission.engine.candidates import Candidate
from aiqueue.admission.engine.instants import Age, age_of
from aiqueue.admission.engine.needs import Needs, Placement
from aiqueue.admission.engine.ordered import Ordered
from aiqueue.admission.engine.routes import Refusal, Route
from aiqueue.admission.engine.search import NOTHING
from aiqueue.admission.engine.sizes import Sizes
from aiqueue.admission.engine.tree import Cell, TenantNode
from aiqueue.queue.records import Decision, Workload
from aiqueue.queue.words import OrderKey, PreemptionRule, Queueing, Reason, Reclaim

Rank = tuple[int, int, int]  # queue of weight 0, then what the tenant's order says before age
Item = tuple[int, int, int, int, int, str, int, int]  # rank, age, bucket: the place of a bucket in its line
Kept = tuple[tuple[Cell, int], ...]
Door = tuple[str, str, str | None, str]  # namespace, queue, class, shape


class Standing(Enum):
    """Where a bucket stands in its line."""

    IDLE = "Idle"
    SHUT = "Shut"
    READY = "Ready"
    WAITING = "Waiting"
    BEHIND = "Behind"


class Pending:
    """A workload that waits. `own` is why it alone may not be admitted, `taken` whether an open Plan admits it."""

    __slots__ = ("bucket", "entry", "own", "taken", "workload")

    def __init__(self, workload: Workload, bucket: Bucket, own: Refusal | None) -> None:
        self.workload = workload
        self.bucket = bucket
        self.own = own
        self.entry = age_of(workload)
        self.taken = False

    def barred(self, claimed_at: datetime) -> bool:
        """Whether it may not claim anything. What it waited out before it claimed does not bar it, before the clock is known either."""
        until = self.workload.not_before
        over = until is not None and until <= claimed_at
        return self.own is not None and not (over and self.own[0] is Reason.BACKOFF)


class Bucket:
    """Workloads of one queue, class and shape.

    Attributes:
        sample: any workload of it.
        entries: those that may be admitted, by age.
        aside: those that may not for reasons of their own.
        item: its place in the line, while it stands in one.
        lots: the cells it is parked on, with what it needs there.
        rank: what sorts it before age.
        stakes: the cells that it might not borrow from when it was parked.
        stood: where it was parked before it was made Ready.
        starving: it waits, and has waited longer than its tenant's bound.
        deadline: when its head starts to starve.
        alarmed: whether an alarm is set for that.
        overdue: its place among those of its line that are past their deadline, in a tree with others.
        open_since: when the configuration came to let it in, where it did not at first.
        needs: what it asks for; elastic work, at its minimum.
        sizes: what it asks for at each size, where it is elastic.
    """

    __slots__ = (
        "alarmed",
        "aside",
        "deadline",
        "door",
        "entries",
        "item",
        "line",
        "lots",
        "needs",
        "open_since",
        "overdue",
        "rank",
        "route",
        "sample",
        "serial",
        "sizes",
        "stakes",
        "standing",
        "starving",
        "stood",
    )

    def __init__(self, serial: int, door: Door, sample: Workload) -> None:
        self.serial = serial
        self.door = door
        self.sample = sample
        self.entries: Ordered[Age] = Ordered()
        self.aside: Ordered[Age] = Ordered()
        self.standing = Standing.IDLE
        self.stood: Standing | None = None
        self.stakes = NOTHING
        self.rank: Rank = (0, 0, 0)
        self.item: Item = (0, 0, 0, 0, 0, "", 0, serial)
        self.lots: list[tuple[Cell, int]] = []
        self.starving = False
        self.deadline = 0
        self.alarmed = False
        self.overdue: Item | None = None
        self.open_since = 0
        self.line: Line
        self.route: Route
        self.needs: Needs | Decision | None = None  # None where its queue leads to no tenant
        self.sizes: Sizes | None = None

    @property
    def shape(self) -> str:
        """The shape of all of it."""
        return self.door[3]

    @property
    def shut(self) -> bool:
        """Whether nothing of it can be admitted as things are configured."""
        route = self.route
        refused = route.door or route.closed_by or route.class_refused
        return bool(refused) or not isinstance(self.needs, Needs)

    def __len__(self) -> int:
        return len(self.entries) + len(self.aside)

    def head_item(self) -> Item:
        """The place that its oldest workload has in the line. There must be one."""
        return (*self.rank, *self.entries.first, self.serial)


#: (a run that makes room; the rule by which)
Victims = tuple[tuple[Candidate, PreemptionRule | None], ...]


class Contender:
    """The next of a tenant that may go, and where.

    Attributes:
        stakes: the cells that it may not borrow from.
        victims: who would make room for it; None where it fits.
    """

    __slots__ = ("age", "bucket", "depth", "line", "placement", "priority", "stakes", "victims")

    def __init__(
        self,
        line: Line,
        bucket: Bucket,
        placement: Placement,
        stakes: frozenset[Cell] = NOTHING,
        victims: Victims | None = None,
    ) -> None:
        self.stakes = stakes
        self.victims = victims
        self.line = line
        self.bucket = bucket
        self.placement = placement
        self.priority = bucket.route.priority
        self.age = bucket.entries.first
        self.depth = line.node.depth if line.node is not None else 0


class Line:
    """The order of one tenant: its buckets by where they stand, each sorted by rank and age.

    Attributes:
        node: its tenant; None where the queue leads to none.
        strict: whether the first that waits blocks all behind it.
        reserves: whether a blocked head keeps what is left of the tenant's nominal, since it could not always take it back.
        by_usage: whether the order goes by what queues used.
        bound: microseconds after which waiting work starves.
        queues: its buckets by queue.
        claimed: those of it that claim room, by workload.
        usage_rank: where a queue stands among those of the line by what it used; see `backlog`.
        ranked_at: when those were worked out, in microseconds since 1970.
        rerank_at: when they will have changed, where somebody waits for that.
        led_by: of a Strict line, the serial of the bucket before all others.
        contender: its next that fits, as the tournament has it.
        overdue: the buckets whose head is past its deadline, in a tree with others.
        vigil: its first overdue head, as the tournament among these has it.
        reserved: what its blocked head keeps, as (cell, amount).
        told_head: the id of the Strict head that the verdicts of the others name.
    """

    __slots__ = (
        "behind",
        "bound",
        "buckets",
        "by_usage",
        "claimed",
        "contender",
        "led_by",
        "name",
        "needs",
        "node",
        "overdue",
        "queues",
        "ranked_at",
        "ready",
        "rerank_at",
        "reserved",
        "reserves",
        "shapes",
        "sizes",
        "starving",
        "strict",
        "told_head",
        "usage_rank",
        "vigil",
        "waiting",
    )

    def __init__(self, name: str, node: TenantNode | None) -> None:
        self.name = name
        self.node = node
        record = node.record if node is not None else None
        self.strict = record is not None and record.queueing is Queueing.STRICT
        self.reserves = self.strict and record is not None and record.parent is not None and record.reclaim is not Reclaim.ANY
        self.by_usage = record is not None and OrderKey.USAGE in record.order
        self.bound = record.starvation_bound_seconds * 1_000_000 if record is not None else 0
        self.buckets: dict[int, Bucket] = {}
        self.queues: dict[tuple[str, str], dict[int, Bucket]] = {}
        self.usage_rank: dict[tuple[str, str], int] = {}
        self.ranked_at: int | None = None
        self.rerank_at: int | None = None
        self.shapes: dict[str, dict[int, Bucket]] = {}
        self.needs: dict[str, Needs | Decision] = {}
        self.sizes: dict[str, Sizes] = {}
        self.claimed: dict[int, Pending] = {}
        self.ready: Ordered[Item] = Ordered()
        self.waiting: Ordered[Item] = Ordered()
        self.behind: Ordered[Item] = Ordered()
        self.starving: Ordered[Item] = Ordered()
        self.led_by: int | None = None
        self.contender: Contender | None = None
        self.overdue: Ordered[Item] = Ordered()
        self.vigil: Contender | None = None
        self.reserved: Kept = ()
        self.told_head: int | None = None

    def at(self, standing: Standing) -> Ordered[Item]:
        """The buckets that are Ready, Waiting or Behind."""
        if standing is Standing.READY:
            return self.ready
        return self.waiting if standing is Standing.WAITING else self.behind

    def keep(self, keeps: Kept) -> None:
        """Keep this for the blocked head, and nothing of what was kept before."""
        for cell, amount in reversed(self.reserved):
            cell.remove(amount)
            if cell.actual is not None:
                cell.actual.remove(amount)
        for cell, amount in keeps:
            cell.add(amount)
            if cell.actual is not None:
                cell.actual.add(amount)
        self.reserved = keeps

    def candidate(self) -> Bucket | None:
        """The next to look at, None where there is none or a Strict head blocks it."""
        item = self.ready.peek()
        if item is None:
            return None
        if self.strict and self.kept_before(item) is not None:
            return None
        return self.buckets[item[-1]]

    def head(self) -> Bucket | None:
        """The first that is kept waiting."""
        items = [first for first in (self.waiting.peek(), self.behind.peek()) if first is not None]
        return self.buckets[min(items)[-1]] if items else None

    def kept_before(self, item: Item | None = None) -> Age | None:
        """The age of the first that is kept waiting, or claims room and has not got it; None where none comes before `item`."""
        head = self.head()
        firsts = [(head.item, head.entries.first)] if head is not None else []
        firsts += [((*each.bucket.rank, *each.entry, each.bucket.serial), each.entry) for each in self.claimed.values()]
        first = min(firsts, default=None)
        return first[1] if first is not None and (item is None or first[0] < item) else None

    def those_behind(self) -> list[Bucket]:
        """The buckets that are Behind, in order; they may be moved while these are gone through."""
        return [self.buckets[item[-1]] for item in self.behind]

    def leader(self) -> int | None:
        """The serial of the bucket before all others of a Strict line, which alone can be next; None of others."""
        if not self.strict:
            return None
        items = [first for first in (self.ready.peek(), self.waiting.peek(), self.behind.peek()) if first is not None]
        first = min(items, default=None)
        return first[-1] if first is not None and not (self.claimed and self.kept_before(first) is not None) else None

    def reserved_from(self, bucket: Bucket, needs: Needs) -> frozenset[Cell]:
        """The cells that a bucket may not take from, because one before it that starves may need them."""
        reserved: frozenset[Cell] = frozenset()
        for each in self.starving:
            if each >= bucket.item or needs.cells <= reserved:
                break
            guard = self.buckets[each[-1]].needs
            if isinstance(guard, Needs):
                reserved |= guard.cells
        return reserved

    def gang_before(self, bucket: Bucket, needs: Needs) -> Bucket | None:
        """The first that starves, comes before `bucket` and may need what `bucket` would take."""
        for each in self.starving:
            if each >= bucket.item:
                return None
            guard = self.buckets[each[-1]]
            if isinstance(guard.needs, Needs) and not guard.needs.cells.isdisjoint(needs.cells):
                return guard
        return None
