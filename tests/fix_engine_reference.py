"""The rules of admission, written slowly and plainly, to check the engine against on small cases.

Nothing is remembered and nothing is shared with the engine: before every admission all is worked out anew from the runs there are
(`fix_engine_quotas`, `fix_engine_places`), every workload is looked at, every place is tried.

Where the rules leave a choice, this is what is read here:

- A head is the first of one queue, class and shape that is let in and waits; only heads are looked at.
- A Strict tenant's head is the first of all of it. It is blocked, and so reserves, where it does not fit, the reservations of
  others counted; not where only somebody who starves keeps it back. Reservations are the least set that bears itself out: nobody
  reserves only because somebody else does who would not without.
- The place that a blocked head would prefer is looked for in the administrator's order of flavors, whatever is borrowed.
- Who is overdue in the tree is past its deadline and waits, whether it was looked at yet or not, and whether it fits or not.
- The champion of the overdue is that of the tenant with the lowest share as it is, whatever it asks for.
- Within a BestEffort tenant only those of them that do not fit keep others back.
- What somebody overdue takes of a pair is the most that any of its places takes of it.
- Usage of a flavor that a tenant does not list (adopted work) counts as borrowed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

from aiqueue.queue.records import Allocation, Class, Configuration, Queue, Workload
from aiqueue.queue.usage import Usage
from aiqueue.queue.words import ObjectState, OrderKey, Queueing, Reason, Reclaim, WorkloadState
from fix_engine_places import Place, Places
from fix_engine_quotas import Holding, Pair, Quotas, Share, Tree, total

Used = Mapping[tuple[str, str, str], Usage]  # namespace, queue, resource
Claim = Callable[[str, "Contender"], tuple[Any, ...]]
Door = tuple[str, str, str | None, str]  # namespace, queue, class, shape


class Contender(NamedTuple):
    """Who would be next of a tenant, or of a tree, and where."""

    workload: Workload
    place: Place


class Overdue(NamedTuple):
    """A head that is past its deadline, where it would prefer to go, and the most it may take of each pair."""

    preferred: Contender
    needs: Mapping[Pair, int]


@dataclass
class Outcome:
    """Who is admitted, in order, with what; the reason of everybody else; and what mattered.

    Attributes:
        end: how things stand when nobody else may go.
    """

    end: "Moment"
    admitted: list[tuple[int, Place]] = field(default_factory=list)
    reasons: dict[int, Reason] = field(default_factory=dict)
    noted: set[str] = field(default_factory=set)

    def available(self, tenant: str, pair: Pair) -> int:
        """What a tenant may take at the end, the reservations of others counted."""
        return self.end.as_seen(tenant).available(tenant, pair)

    def ceiling(self, tenant: str, pair: Pair) -> int:
        return self.end.plain.potential(tenant, pair)


@dataclass
class Reference:
    """One decide at `now`, not cut short. `usages` is what queues used; what is not known is 0."""

    configuration: Configuration
    pending: Sequence[Workload]
    holdings: list[Holding]
    now: datetime
    usages: Used = field(default_factory=dict)
    tree: Tree = field(init=False)
    places: Places = field(init=False)

    def __post_init__(self) -> None:
        self.tree = Tree(self.configuration.tenants)
        self.places = Places(self.configuration, Quotas(self.tree))
        self.keys = {each.id: self.key(each) for each in self.pending if self.leads_somewhere(each)}

    def decide(self) -> Outcome:
        refused = {workload.id: self.refusal(workload) for workload in self.pending}
        contest = [workload for workload in self.pending if refused[workload.id] is None]
        outcome = Outcome(Moment(self, contest, self.holdings))
        while (winner := outcome.end.winner()) is not None:
            outcome.noted |= outcome.end.noted()
            outcome.admitted.append((winner.workload.id, winner.place))
            self.holdings.append((self.tenant(winner.workload), winner.place))
            contest = [each for each in contest if each is not winner.workload]
            outcome.end = Moment(self, contest, self.holdings)
        outcome.noted |= outcome.end.noted()
        for workload in self.pending:
            if workload in contest:
                outcome.reasons[workload.id] = outcome.end.reason(workload)
            elif (refusal := refused[workload.id]) is not None:
                outcome.reasons[workload.id] = refusal
        return outcome

    # What a workload is, and its place in the order.

    def leads_somewhere(self, workload: Workload) -> bool:
        queue = self.configuration.queues.get((workload.namespace, workload.queue_name))
        return queue is not None and queue.tenant in self.configuration.tenants and not self.tree.children[queue.tenant]

    def queue(self, workload: Workload) -> Queue:
        return self.configuration.queues[workload.namespace, workload.queue_name]

    def tenant(self, workload: Workload) -> str:
        return self.queue(workload).tenant

    def cls(self, workload: Workload) -> Class | None:
        name = workload.class_name or self.queue(workload).default_class
        return Class("") if name is None else self.configuration.classes.get(name)

    def priority(self, workload: Workload) -> int:
        cls = self.cls(workload)
        return cls.priority if cls is not None else 0

    def used(self, queue: Queue) -> int:
        """What a queue used, in millionths of a second of all that its tree has, over its weight."""
        tenant = self.configuration.tenants[queue.tenant]
        root = self.tree.root(queue.tenant)
        of_tree = [each for name, each in self.configuration.tenants.items() if self.tree.root(name) == root]
        used = 0.0
        for resource in sorted(name for namespace, of, name in self.usages if (namespace, of) == (queue.namespace, queue.name)):
            whole = sum(quota.nominal for each in of_tree for quota in each.quotas if quota.resource == resource)
            if whole > 0:
                value = self.usages[queue.namespace, queue.name, resource].at(self.now)
                used += float(tenant.usage_weights.get(resource, Fraction(1))) * value / whole
        return round(10**6 * used / float(queue.weight or 1))

    def key(self, workload: Workload) -> tuple[object, ...]:
        queue = self.queue(workload)
        order = self.configuration.tenants[queue.tenant].order
        return (queue.weight == 0, *(self.by(each, workload) for each in order))

    def by(self, key: OrderKey, workload: Workload) -> object:
        if key is OrderKey.USAGE:
            return self.used(self.queue(workload))
        return -self.priority(workload) if key is OrderKey.PRIORITY else workload.submitted

    def deadline(self, workload: Workload) -> datetime:
        """When it starts to starve, unless the configuration came to let it in only later."""
        bound = self.configuration.tenants[self.tenant(workload)].starvation_bound_seconds
        return max(workload.created_at, workload.not_before or workload.created_at) + timedelta(seconds=bound)

    # Whether it is let in.

    def refusal(self, workload: Workload) -> Reason | None:
        """Why it does not contend."""
        closed = self.closed(workload)
        if closed in (Reason.QUEUE_NOT_FOUND, Reason.QUEUE_CLOSED, Reason.TENANT_CLOSED):
            return closed
        if workload.held_by_owner or workload.state is WorkloadState.HELD:
            return Reason.WORKLOAD_HELD
        if closed is Reason.CLASS_NOT_ALLOWED:
            return closed
        if workload.invalid is not None:
            return Reason.INVALID_REQUEST
        if workload.not_before is not None and workload.not_before > self.now:
            return Reason.BACKOFF
        return closed

    def closed(self, workload: Workload) -> Reason | None:
        """Why as things are configured nothing of its kind is let in."""
        if not self.leads_somewhere(workload):
            return Reason.QUEUE_NOT_FOUND
        queue = self.queue(workload)
        if queue.state is not ObjectState.ACTIVE:
            return Reason.QUEUE_CLOSED
        if any(self.configuration.tenants[name].state is not ObjectState.ACTIVE for name in self.tree.up(queue.tenant)):
            return Reason.TENANT_CLOSED
        asked = workload.class_name or queue.default_class
        allowed = queue.allowed_classes is None or asked is None or asked in queue.allowed_classes
        if self.cls(workload) is None or not allowed:
            return Reason.CLASS_NOT_ALLOWED
        return self.places.never(queue.tenant, workload)


class Moment:
    """How things stand between two admissions: who waits, what is used and reserved, who starves, who is next."""

    def __init__(self, reference: Reference, contest: Sequence[Workload], holdings: Sequence[Holding]) -> None:
        self.reference = reference
        self.tenants = reference.configuration.tenants
        self.places = reference.places
        self.holdings = list(holdings)
        self.lines: dict[str, list[Workload]] = {}
        heads: dict[Door, Workload] = {}
        for workload in sorted(contest, key=lambda each: each.submitted):
            heads.setdefault((workload.namespace, workload.queue_name, workload.class_name, workload.shape), workload)
        for workload in heads.values():
            self.lines.setdefault(reference.tenant(workload), []).append(workload)
        for line in self.lines.values():
            line.sort(key=lambda each: reference.keys[each.id])
        self.plain = Quotas(reference.tree, self.holdings)
        self.reservations = self.settled()
        self.seen: dict[str, Quotas] = {}
        self.where = {each.id: self.fitting(each) for line in self.lines.values() for each in line}
        self.overdue = {name: self.overdue_of(name) for name in self.lines}
        firsts = {name: found[0].preferred for name, found in self.overdue.items() if found}
        self.longest = {
            name: self.champion(name, firsts, self.want) for name, tenant in self.tenants.items() if tenant.parent is None
        }

    # Reservations.

    def settled(self) -> dict[str, Place]:
        """What heads of Strict tenants that do not fit keep of their own quota: more and more, until nobody else is shut out."""
        reserved: dict[str, Place] = {}
        while True:
            self.reservations = reserved
            again = {name: self.reservation(line[0]) for name, line in self.lines.items() if self.reserves(name, line[0])}
            if again == reserved:
                return reserved
            reserved = again

    def reserves(self, tenant: str, head: Workload) -> bool:
        record = self.tenants[tenant]
        if record.queueing is not Queueing.STRICT or record.parent is None or record.reclaim is Reclaim.ANY:
            return False
        now = Quotas(self.reference.tree, self.as_seen_by(tenant))
        return next(iter(self.places.preferred(tenant, head, now)), None) is None

    def reservation(self, head: Workload) -> Place:
        tenant = self.reference.tenant(head)
        kept = []
        for (flavor, resource), amount in total(self.preferred(head)).items():
            free = self.plain.limits(tenant, (flavor, resource))[0] - self.plain.usage(tenant, (flavor, resource))
            kept.append(Allocation("reserved", flavor, resource, min(amount, max(0, free))))
        return tuple(kept)

    def preferred(self, head: Workload) -> Place:
        """Its first place all of which is within its tenant's nominal, else the first."""
        tenant = self.reference.tenant(head)
        places = self.places.all(tenant, head)
        within = [each for each in places if all(n <= self.plain.limits(tenant, p)[0] for p, n in total(each).items())]
        return [*within, *places][0]

    def as_seen_by(self, tenant: str) -> list[Holding]:
        """What is used, and what others reserve."""
        return self.holdings + [(name, place) for name, place in self.reservations.items() if name != tenant]

    def as_seen(self, tenant: str) -> Quotas:
        """The tree as it is for a tenant."""
        if tenant not in self.seen:
            self.seen[tenant] = Quotas(self.reference.tree, self.as_seen_by(tenant))
        return self.seen[tenant]

    # Starvation.

    def strict(self, tenant: str) -> bool:
        return self.tenants[tenant].queueing is Queueing.STRICT

    def late(self, workload: Workload) -> bool:
        return self.reference.deadline(workload) <= self.reference.now

    def fitting(self, workload: Workload) -> list[Place]:
        """All its places that fit, the preferred first."""
        tenant = self.reference.tenant(workload)
        return list(self.places.preferred(tenant, workload, self.as_seen(tenant)))

    def left_by_own(self, workload: Workload) -> list[Place]:
        """Those that take nothing which one of its own tenant may need that starves and comes before it."""
        tenant = self.reference.tenant(workload)
        line = self.lines[tenant]
        kept: set[Pair] = set()
        if not self.strict(tenant):
            for each in line[: line.index(workload)]:
                if self.late(each) and not self.where[each.id]:
                    kept |= set(self.places.may_need(tenant, each))
        return [place for place in self.where[workload.id] if not kept.intersection(total(place))]

    def overdue_of(self, tenant: str) -> list[Overdue]:
        """Those whom other tenants may not delay by borrowing, in the order of their tenant; of a Strict one none but its head."""
        line = self.lines[tenant]
        late = [each for each in (line[:1] if self.strict(tenant) else line) if self.late(each)]
        return [Overdue(Contender(each, self.preferred(each)), self.places.may_need(tenant, each)) for each in late]

    def keepers(self, workload: Workload) -> list[Overdue]:
        """Those of other tenants whom it may not delay: who is overdue itself may not delay the champion of the overdue."""
        mine = self.reference.tenant(workload)
        others = [each for name, found in self.overdue.items() if name != mine for each in found]
        if not self.late(workload):
            return others
        champion = self.longest[self.reference.tree.root(mine)]
        return [each for each in others if each.preferred == champion]

    def delays(self, workload: Workload, place: Place, overdue: Overdue) -> bool:
        """Whether it would borrow what somebody overdue has a stake in."""
        mine, theirs = self.reference.tenant(workload), self.reference.tenant(overdue.preferred.workload)
        meeting = self.reference.tree.meeting(mine, theirs)
        if meeting is None:
            return False
        now, up = self.as_seen(mine), self.reference.tree.up
        for pair, amount in total(place).items():
            if pair not in overdue.needs or not now.borrows(mine, pair, amount):
                continue
            below = up(meeting)
            reaches = overdue.needs[pair] - sum(now.guaranteed(name, pair) for name in up(theirs) if name not in below)
            takes = amount - sum(now.left(name, pair) for name in up(mine) if name not in below)
            if reaches > 0 and takes > 0:
                return True
        return False

    def allowed(self, workload: Workload) -> Place | None:
        """The first place that fits and delays nobody who may not be delayed."""
        for place in self.left_by_own(workload):
            if not any(self.delays(workload, place, each) for each in self.keepers(workload)):
                return place
        return None

    # The tournament.

    def next_of(self, tenant: str) -> Contender | None:
        """The first of a tenant that may go; of a Strict one none but its head."""
        line = self.lines[tenant]
        for workload in line[:1] if self.strict(tenant) else line:
            place = self.allowed(workload)
            if place is not None:
                return Contender(workload, place)
        return None

    def champion(self, tenant: str, contenders: Mapping[str, Contender], claim: Claim) -> Contender | None:
        """Who is next of a tenant and those under it, of these that the leaves send."""
        children = self.reference.tree.children[tenant]
        if not children:
            return contenders.get(tenant)
        found = [(child, champion) for child in children if (champion := self.champion(child, contenders, claim)) is not None]
        return min(found, key=lambda each: claim(*each))[1] if found else None

    def claim(self, child: str, champion: Contender) -> tuple[bool, Share, int, tuple[datetime, datetime, str]]:
        """The less, the sooner: not borrowing what it takes, share after it, priority, age."""
        tenant = self.reference.tenant(champion.workload)
        after = Quotas(self.reference.tree, [*self.as_seen_by(tenant), (tenant, champion.place)])
        above = after.above(child, total(champion.place))
        return above, after.share(child), -self.reference.priority(champion.workload), champion.workload.submitted

    def want(self, child: str, champion: Contender) -> tuple[Any, ...]:
        """The less, the sooner, among the overdue: weight 0, share as it is, priority, who asks for more, age."""
        tenant = self.reference.tenant(champion.workload)
        seen = self.as_seen_by(tenant)
        now, after = Quotas(self.reference.tree, seen), Quotas(self.reference.tree, [*seen, (tenant, champion.place)])
        priority = self.reference.priority(champion.workload)
        return (
            self.tenants[child].weight == 0,
            now.share(child),
            -priority,
            -after.share(child)[1],
            champion.workload.submitted,
        )

    def winner(self) -> Contender | None:
        """Who is next of all; trees do not compete but by priority and age."""
        contenders = {name: contender for name in self.lines if (contender := self.next_of(name)) is not None}
        champions = [
            self.champion(name, contenders, self.claim) for name, tenant in self.tenants.items() if tenant.parent is None
        ]
        return min(
            (each for each in champions if each is not None),
            key=lambda each: (-self.reference.priority(each.workload), each.workload.submitted),
            default=None,
        )

    # What is said of those who wait.

    def reason(self, workload: Workload) -> Reason:
        """That of the first of its shape in its tenant."""
        line = self.lines[self.reference.tenant(workload)]
        first = next(each for each in line if each.shape == workload.shape)
        if self.strict(self.reference.tenant(workload)) and first is not line[0]:
            return Reason.BEHIND_HEAD
        return Reason.BEHIND_STARVING_GANG if self.where[first.id] else Reason.WAITING_FOR_QUOTA

    def noted(self) -> set[str]:
        """What is worth counting."""
        noted = set()
        if any(self.overdue.values()):
            noted.add("starving")
        if any(self.where[each.id] and self.allowed(each) is None for line in self.lines.values() for each in line):
            noted.add("kept back")
        if any(self.strict(name) and self.allowed(line[0]) is None for name, line in self.lines.items()):
            noted.add("strict head")
        if any(each.amount for place in self.reservations.values() for each in place):
            noted.add("reserved")
        if any(self.by_usage(line) for line in self.lines.values()):
            noted.add("usage")
        return noted

    def by_usage(self, line: Sequence[Workload]) -> bool:
        """Whether the order of a line would be another if nothing had been used."""
        fresh = Reference(self.reference.configuration, line, [], self.reference.now)
        return sorted(line, key=fresh.key) != line
