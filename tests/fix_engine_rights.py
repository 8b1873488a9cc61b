"""Who may put out whom, by the rules alone: policies, contracts and shares, worked out from what is held (`fix_engine_quotas`)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aiqueue.queue.records import Allocation, Claim, Class, Configuration, Run, Workload
from aiqueue.queue.words import PreemptionRule, Reclaim, WithinTenant
from fix_engine_quotas import Holding, Pair, Quotas, Tree, total

WITHIN, NOMINAL, FINAL, INITIAL = PreemptionRule
Turn = tuple[Run, PreemptionRule | None]  # None for one that leaves anyhow


def class_of(configuration: Configuration, workload: Workload) -> Class:
    """The class that a run is under."""
    queue = configuration.queues.get((workload.namespace, workload.queue_name))
    name = workload.class_name or (queue.default_class if queue is not None else None)
    built_in = Class("")
    return built_in if name is None else configuration.classes.get(name, built_in)


def candidate_from(cls: Class, run: Run) -> datetime:
    """From when on others may put it out."""
    return run.opened_at + timedelta(seconds=max(0, cls.min_runtime_seconds - cls.grace_period_seconds))


def deadline(cls: Class, run: Run, now: datetime) -> datetime:
    """When it ends if it is told now."""
    grace = now + timedelta(seconds=cls.grace_period_seconds)
    return max(grace, run.opened_at + timedelta(seconds=cls.min_runtime_seconds))


@dataclass
class Rights:
    """What one workload may do in a tenant."""

    configuration: Configuration
    tenant: str
    workload: Workload
    tree: Tree = field(init=False)

    def __post_init__(self) -> None:
        self.tree = Tree(self.configuration.tenants)

    def allowed(self, run: Run) -> bool:
        """Whether the policies let it put out a run, whatever is used."""
        own = self.configuration.tenants[self.tenant]
        mine = class_of(self.configuration, self.workload).priority
        theirs = class_of(self.configuration, run.workload).priority
        if run.tenant == self.tenant:
            if own.within_tenant is WithinTenant.NEVER:
                return False
            younger = run.workload.submitted > self.workload.submitted
            may_equal = own.within_tenant is WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY
            return theirs < mine or (may_equal and theirs == mine and younger)
        if run.tenant not in self.tree.tenants or self.tree.root(run.tenant) != self.tree.root(self.tenant):
            return False
        return own.reclaim is Reclaim.ANY or (own.reclaim is Reclaim.LOWER_PRIORITY and theirs < mine)

    def ready(self, run: Run, now: datetime) -> bool:
        """Whether the contract of its class lets a run be put out now."""
        cls = class_of(self.configuration, run.workload)
        return cls.preemptible and now >= candidate_from(cls, run)


@dataclass
class Replay:
    """One preemption, turn by turn.

    Attributes:
        rights: of who preempts.
        place: what it takes.
        others: what is agreed without it, and without the runs that it may put out.
        runs: those, which are agreed to be there as long as they are not put out.
    """

    rights: Rights
    place: Sequence[Allocation]
    others: Sequence[Holding]
    runs: Mapping[int, Run]
    needed: set[Pair] = field(init=False)

    def __post_init__(self) -> None:
        before = Quotas(self.rights.tree, [*self.others, *self._held(())])
        takes = total(self.place)
        self.needed = {pair for pair, amount in takes.items() if amount > before.available(self.rights.tenant, pair)}

    def _held(self, out: Collection[int]) -> list[Holding]:
        return [(run.tenant, run.allocations) for run in self.runs.values() if run.id not in out]

    def quotas(self, out: Collection[int]) -> Quotas:
        """With its takes charged and these put out."""
        return Quotas(self.rights.tree, [*self.others, (self.rights.tenant, self.place), *self._held(out)])

    def fits(self, out: Collection[int]) -> bool:
        """Whether there is room for it with these put out."""
        now = self.quotas(out)
        return all(now.available(self.rights.tenant, pair) >= 0 for pair in total(self.place))

    def holds(self, turn: Turn, out: Collection[int]) -> bool:
        """Whether a rule lets it put out a run after these."""
        run, rule = turn
        if not self.needed & {pair for pair, amount in total(run.allocations).items() if amount}:
            return False
        if rule is None:
            return True
        if rule is WITHIN or run.tenant == self.rights.tenant:
            return rule is WITHIN and run.tenant == self.rights.tenant
        return self.foreign(run, rule, out)

    def foreign(self, run: Run, rule: PreemptionRule, out: Collection[int]) -> bool:
        """Whether one of another tenant may be put out."""
        tree, now = self.rights.tree, self.quotas(out)
        meeting = tree.meeting(self.rights.tenant, run.tenant)
        if meeting is None:
            return False
        below = set(tree.up(meeting))
        borrowers = [name for name in tree.up(run.tenant) if name not in below]
        if not all(any(now.usage(name, pair) > now.subtree(name, pair) for pair in self.needed) for name in borrowers):
            return False
        mine = self.rights.tenant
        nominal = all(now.usage(mine, pair) <= now.subtree(mine, pair) for pair in self.needed)
        if rule is NOMINAL or nominal:
            return rule is NOMINAL and nominal
        near = [name for name in tree.up(mine) if name not in below]
        preemptor, before = now.share(near[-1]), now.share(borrowers[-1])
        after = self.quotas([*out, run.id]).share(borrowers[-1])
        return preemptor < before and (rule is INITIAL or preemptor <= after)

    def legal(self, turns: Sequence[Turn]) -> bool:
        """Whether each may be put out when its turn comes."""
        out: list[int] = []
        for run, rule in turns:
            if not self.holds((run, rule), out):
                return False
            out.append(run.id)
        return True


def replay_of(
    configuration: Configuration, claim: Claim, workload: Workload, runs: Mapping[int, Run], held: Sequence[Claim]
) -> Replay:
    """The preemption of a claim: `runs` are those that nobody else's claim waits for, `held` the claims of others."""
    others: list[Holding] = [(each.tenant, each.allocations) for each in held]
    return Replay(Rights(configuration, claim.tenant, workload), claim.allocations, others, runs)
