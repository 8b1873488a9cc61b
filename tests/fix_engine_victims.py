"""Who has to make room for whom, once more and the slow way: everything is summed up anew for each question that is asked.

A `Scene` is what a search for victims is about. `search` is the engine's answer, `Naive` one that is worked out from the rules
with plain dictionaries and the algebra by its definitions (`fix_engine_quotas`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations
from typing import Any, NoReturn

from aiqueue.admission.engine.candidates import SHARE_RUNS, Candidates
from aiqueue.admission.engine.claims import Claims, HeldClaim
from aiqueue.admission.engine.instants import age_of, micros
from aiqueue.admission.engine.preemption import Asking, find, hopeful
from aiqueue.admission.engine.runs import OpenRun, Runs
from aiqueue.admission.engine.shares import Scales
from aiqueue.admission.engine.terms import Terms
from aiqueue.admission.engine.tree import TenantNode, build_tree
from aiqueue.queue.records import Allocation, Claim, Quota, Run, Tenant
from aiqueue.queue.words import PreemptionRule, Reclaim, WithinTenant
from fix_builders import at, make_workload
from fix_engine_quotas import Amounts, Holding, Pair, Quotas, Tree

WITHIN, NOMINAL, FINAL, INITIAL = PreemptionRule
Taken = tuple[int, PreemptionRule | None]
MICROSECOND = 0.000001


@dataclass(frozen=True)
class Holder:
    """A run, or a claim that stands: `claims` tells which runs it waits for. Times in seconds after `START`."""

    number: int
    tenant: str
    amounts: Amounts
    priority: int = 0
    since: float = 0
    created: float = 0
    preemptible: bool = True
    min_runtime: int = 0
    grace: int = 0
    checkpoint: int | None = None
    evict_at: float | None = None
    attempt: int = 1
    claims: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Asker:
    """Who asks for room."""

    tenant: str
    amounts: Amounts
    priority: int = 0
    created: float = 0
    number: int = 999


@dataclass(frozen=True)
class Scene:
    """What a search is about."""

    tenants: Mapping[str, Tenant]
    holders: tuple[Holder, ...]
    asker: Asker
    now: float = 1000

    def holder(self, number: int) -> Holder:
        """The run or claim of a number."""
        return next(each for each in self.holders if each.number == number)


def scene(tenants: Iterable[Tenant], holders: Iterable[Holder], asker: Asker, now: float = 1000) -> Scene:
    """A scene of these."""
    return Scene({each.name: each for each in tenants}, tuple(holders), asker, now)


def tenant(name: str, parent: str | None = None, *quotas: Quota | int, **changes: Any) -> Tenant:
    """A tenant with quotas; a number is so many of GPUs."""
    return Tenant(name, parent, quotas=tuple(gpus(each) if isinstance(each, int) else each for each in quotas), **changes)


def gpus(nominal: int, borrowing: int | None = None, lending: int | None = None, flavor: str = "a") -> Quota:
    """A quota of GPUs."""
    return Quota(flavor, "gpu", nominal, borrowing, lending)


A: Pair = ("a", "gpu")


# The engine's answer.


class Stage:
    """The engine's own pieces, set up for a scene."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.nodes = build_tree(scene.tenants)
        self.runs = Runs()
        self.claims = Claims(self.runs, lambda _: None)
        self.claims.rebind(self.nodes, _nobody)
        for each in scene.holders:
            if each.claims is None:
                self.runs.enter(_run(each), self.nodes)
        for each in scene.holders:
            if each.claims is not None:
                self.claims.make(_claim(each, self.nodes[each.tenant]))
        asker = scene.asker
        node = self.nodes[asker.tenant]
        takes = tuple((node.cell(pair), amount) for pair, amount in asker.amounts.items())
        age = age_of(make_workload(asker.number, created=asker.created))
        self.asking = Asking(node, takes, asker.priority, age)
        self.scales = Scales()
        self.candidates = self.anew()

    def anew(self) -> Candidates:
        """Candidates of another contest."""
        return Candidates(self.runs, self.nodes, micros(at(self.scene.now)))

    def find(self) -> list[Taken] | None:
        """Who has to make room, by number."""
        found = find(self.asking, self.candidates, self.scales)
        return None if found is None else [(each.of.workload.id, rule) for each, rule in found.victims]

    def hopeful(self) -> bool:
        """Whether there is hope."""
        return hopeful(self.asking, self.candidates, self.scales)

    def usage(self) -> dict[tuple[str, Pair], tuple[int, int | None]]:
        """What is used, agreed and actual, of every cell."""
        return {
            (node.name, pair): (cell.usage, cell.actual.usage if cell.actual is not None else None)
            for node in self.nodes.values()
            for pair, cell in node.cells.items()
        }


def search(scene: Scene) -> list[Taken] | None:
    """The engine's answer."""
    return Stage(scene).find()


def _run(holder: Holder) -> OpenRun:
    workload = make_workload(holder.number, created=holder.created, checkpoint_seconds=holder.checkpoint)
    terms = Terms(holder.priority, holder.preemptible, holder.min_runtime * 1_000_000, holder.grace * 1_000_000)
    run = Run(holder.number, workload, holder.attempt, holder.tenant, at(holder.since), allocations(holder.amounts))
    return OpenRun(holder.number, run, run.opened_at, terms, at(holder.evict_at) if holder.evict_at is not None else None)


def _claim(holder: Holder, node: TenantNode) -> HeldClaim:
    workload = make_workload(holder.number, created=holder.created)
    claim = Claim(holder.number, holder.tenant, allocations(holder.amounts), {}, holder.claims or (), at(holder.since))
    takes = tuple((node.cell(pair), amount) for pair, amount in holder.amounts.items())
    return HeldClaim(claim, workload, node, takes)


def allocations(amounts: Amounts) -> tuple[Allocation, ...]:
    """Amounts as a run holds them."""
    return tuple(Allocation("main", *pair, amount) for pair, amount in amounts.items())


def _nobody(_: int) -> NoReturn:
    raise AssertionError("no claim stood before the first configuration")


# The slow answer.


@dataclass
class Naive:
    """The rules, word by word."""

    scene: Scene
    tree: Tree = field(init=False)
    needed: list[Pair] = field(init=False)

    def __post_init__(self) -> None:
        self.tree = Tree(self.scene.tenants)
        idle = self.quotas((), asked=False)
        asker = self.scene.asker
        self.needed = [pair for pair, amount in asker.amounts.items() if amount > idle.available(asker.tenant, pair)]

    # Figures.

    def claimed(self, holder: Holder) -> bool:
        """Whether a claim waits for a run."""
        return any(holder.number in (each.claims or ()) for each in self.scene.holders)

    def quotas(self, gone: Sequence[int], *, asked: bool = True) -> Quotas:
        """What is agreed with these gone: all claims, and the runs that none waits for."""
        holders = [each for each in self.scene.holders if each.number not in gone and not self.claimed(each)]
        holdings: list[Holding] = [(each.tenant, allocations(each.amounts)) for each in holders]
        if asked:
            holdings.append((self.scene.asker.tenant, allocations(self.scene.asker.amounts)))
        return Quotas(self.tree, holdings)

    def fits(self, gone: Sequence[int]) -> bool:
        """Whether there is room with these gone."""
        now, asker = self.quotas(gone), self.scene.asker
        return all(now.available(asker.tenant, pair) >= 0 for pair in asker.amounts)

    # Who may be asked at all.

    def leaves_anyway(self, holder: Holder) -> bool:
        """Whether a run was told to end and nobody claims its room."""
        return holder.claims is None and holder.evict_at is not None and not self.claimed(holder)

    def may_ask(self, holder: Holder) -> bool:
        """Whether contract and policy let a run that stays be asked; a claim never is."""
        asker = self.scene.asker
        if holder.claims is not None or self.claimed(holder) or holder.evict_at is not None:
            return False
        protected = holder.since + max(0, holder.min_runtime - holder.grace)
        if not holder.preemptible or self.scene.now < protected or not self.relevant(holder):
            return False
        record = self.scene.tenants[asker.tenant]
        if holder.tenant == asker.tenant:
            equal = record.within_tenant is WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY and holder.priority == asker.priority
            younger = (holder.created, holder.number) > (asker.created, asker.number)
            return record.within_tenant is not WithinTenant.NEVER and (holder.priority < asker.priority or (equal and younger))
        lower = record.reclaim is Reclaim.LOWER_PRIORITY and holder.priority < asker.priority
        return record.reclaim is Reclaim.ANY or lower

    def relevant(self, holder: Holder) -> bool:
        """Whether it is in the tree and holds something that is needed."""
        same = holder.tenant in self.scene.tenants and self.tree.root(holder.tenant) == self.tree.root(self.scene.asker.tenant)
        return same and any(holder.amounts.get(pair, 0) > 0 for pair in self.needed)

    # Order.

    def scarcest(self) -> str:
        """The resource of which the largest part is asked for."""
        root, idle = self.tree.root(self.scene.asker.tenant), self.quotas(())

        def part(resource: str) -> tuple[bool, Fraction]:
            asked = sum(amount for pair, amount in self.scene.asker.amounts.items() if pair[1] == resource)
            known = {pair for name, pair in self.tree.listed if self.tree.root(name) == root and pair[1] == resource}
            total = sum(idle.subtree(root, pair) for pair in known)
            return (total == 0, Fraction(asked, total or 1))

        names = sorted({pair[1] for pair in self.scene.asker.amounts})
        most = max(part(name) for name in names)
        return next(name for name in names if part(name) == most)

    def rank(self, holder: Holder) -> tuple[float, ...]:
        """Where it stands in its leaf."""
        lost = max(0, self.scene.now - holder.since)
        lost = lost % holder.checkpoint if holder.checkpoint else lost
        lost *= sum(amount for pair, amount in holder.amounts.items() if pair[1] == self.scarcest())
        return (holder.priority, lost, -holder.since, holder.number)

    def place(self, holder: Holder) -> tuple[bool, tuple[float, ...]]:
        """Where it stands among those of tenants of equal shares: after them if it is of the asker's own."""
        return (holder.tenant == self.scene.asker.tenant, self.rank(holder))

    # Rules.

    def ways(self, holder: Holder) -> tuple[list[str], list[str]]:
        """The tenants below where the asker and another meet, from the leaf up: on the asker's side, and on the other."""
        asker = self.scene.asker.tenant
        meeting = self.tree.meeting(asker, holder.tenant)
        above = self.tree.up(meeting) if meeting is not None else []
        return (
            [name for name in self.tree.up(asker) if name not in above],
            [name for name in self.tree.up(holder.tenant) if name not in above],
        )

    def borrowing(self, name: str, gone: Sequence[int]) -> bool:
        """Whether a tenant uses more than its own of anything needed."""
        now = self.quotas(gone)
        return any(now.usage(name, pair) > now.subtree(name, pair) for pair in self.needed)

    def within_nominal(self, gone: Sequence[int]) -> bool:
        """Whether the asker uses no more than its own of all that is needed."""
        now, tenant = self.quotas(gone), self.scene.asker.tenant
        return all(now.usage(tenant, pair) <= now.subtree(tenant, pair) for pair in self.needed)

    def holds(self, rule: PreemptionRule | None, holder: Holder, gone: Sequence[int]) -> bool:
        """Whether a rule lets one be taken after these; of contract and policy it is not asked."""
        if rule is None:
            return self.leaves_anyway(holder)
        if rule is WITHIN or holder.tenant == self.scene.asker.tenant:
            return rule is WITHIN and holder.tenant == self.scene.asker.tenant
        mine, theirs = self.ways(holder)
        if not all(self.borrowing(name, gone) for name in theirs):
            return False
        if rule is NOMINAL:
            return self.within_nominal(gone)
        return self.by_share(rule, mine[-1], theirs[-1], holder, gone)

    def by_share(self, rule: PreemptionRule, mine: str, theirs: str, holder: Holder, gone: Sequence[int]) -> bool:
        """Whether the shares of the two sides let one be taken after these."""
        now, without = self.quotas(gone), self.quotas([*gone, holder.number])
        if holder.attempt > SHARE_RUNS or not now.share(mine) < now.share(theirs):
            return False
        return rule is INITIAL or now.share(mine) <= without.share(theirs)

    def legal(self, taken: Sequence[Taken]) -> bool:
        """Whether each may be taken when its turn comes."""
        gone: list[int] = []
        for number, rule in taken:
            holder = self.scene.holder(number)
            allowed = rule is None or self.may_ask(holder)
            if not allowed or not self.holds(rule, holder, gone):
                return False
            gone.append(number)
        return True

    # The search.

    def search(self) -> list[Taken] | None:
        """The answer: select, then put back."""
        if not self.needed:
            return None
        taken = self.select()
        return None if taken is None else self.put_back(taken)

    def select(self) -> list[Taken] | None:
        """Take victims in turn until there is room."""
        taken: list[Taken] = []
        leaving = [each for each in self.scene.holders if self.leaves_anyway(each) and self.relevant(each)]
        for each in sorted(leaving, key=lambda each: (each.evict_at, each.priority, -each.since, each.number)):
            taken.append((each.number, None))
            if self.fits(_numbers(taken)):
                return taken
        left = {
            name: sorted((each for each in self.scene.holders if each.tenant == name and self.may_ask(each)), key=self.rank)
            for name in self.tree.tenants
            if not self.tree.children[name]
        }
        refused: dict[str, list[Holder]] = {}
        while (name := self.next(left, _numbers(taken))) is not None:
            holder = left[name].pop(0)
            rule = next((each for each in (WITHIN, NOMINAL, FINAL) if self.holds(each, holder, _numbers(taken))), None)
            if rule is None:
                refused.setdefault(name, []).extend([holder] if holder.attempt <= SHARE_RUNS else [])
                continue
            taken.append((holder.number, rule))
            if self.fits(_numbers(taken)):
                return taken
        while (name := self.next(refused, _numbers(taken))) is not None:
            holder = refused.pop(name)[0]
            if self.holds(INITIAL, holder, _numbers(taken)):
                taken.append((holder.number, INITIAL))
                if self.fits(_numbers(taken)):
                    return taken
        return None

    def next(self, left: Mapping[str, list[Holder]], gone: Sequence[int]) -> str | None:
        """The leaf to be asked next."""
        name = self.tree.root(self.scene.asker.tenant)
        if self.pruned(name, left, gone):
            return None
        now = self.quotas(gone)
        while self.tree.children[name]:
            open_ = [each for each in self.tree.children[name] if not self.pruned(each, left, gone)]
            most = max((now.share(each), bool(self.tree.children[each])) for each in open_)
            equal = [each for each in open_ if (now.share(each), bool(self.tree.children[each])) == most]
            name = min(equal, key=lambda each: min(map(self.place, self.firsts(each, left, gone))))
        return name

    def firsts(self, name: str, left: Mapping[str, list[Holder]], gone: Sequence[int]) -> list[Holder]:
        """The first of each leaf under a tenant that is not pruned."""
        if self.pruned(name, left, gone):
            return []
        if not self.tree.children[name]:
            return left[name][:1]
        return [first for child in self.tree.children[name] for first in self.firsts(child, left, gone)]

    def pruned(self, name: str, left: Mapping[str, list[Holder]], gone: Sequence[int]) -> bool:
        """Whether nobody under a tenant is to be asked."""
        if name not in self.tree.up(self.scene.asker.tenant) and not self.borrowing(name, gone):
            return True
        if self.tree.children[name]:
            return all(self.pruned(child, left, gone) for child in self.tree.children[name])
        return not left.get(name)

    def put_back(self, taken: list[Taken]) -> list[Taken]:
        """Put back whom it takes no longer, from the last but one to the first, until nobody can be."""
        again = True
        while again:
            again = False
            for turn in list(reversed(taken))[1:]:
                rest = [each for each in taken if each != turn]
                if turn in taken and self.fits(_numbers(rest)) and self.legal(rest):
                    taken, again = rest, True
        return taken

    def lesser(self, taken: Sequence[Taken]) -> list[list[Taken]]:
        """All proper parts of what was taken that are legal and make room."""
        parts = [list(part) for size in range(len(taken)) for part in combinations(taken, size)]
        return [part for part in parts if self.legal(part) and self.fits(_numbers(part))]


def _numbers(taken: Iterable[Taken]) -> list[int]:
    return [number for number, _ in taken]
