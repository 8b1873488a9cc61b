"""Small worlds for the engine: configurations, workloads and histories that hypothesis draws, and a player of histories.

The player keeps a model of what the ledger would hold, so that tests can build a second engine from the final state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TypeVar

from hypothesis import strategies as st

from aiqueue.admission.engine import (
    ConfigurationChanged,
    Engine,
    Plan,
    RunClosed,
    RunOpened,
    WorkloadGone,
    WorkloadPending,
)
from aiqueue.queue.records import (
    Allocation,
    Class,
    Configuration,
    Decision,
    Flavor,
    PodSet,
    Queue,
    Quota,
    Run,
    Taint,
    Tenant,
    Toleration,
    Workload,
    shape_of,
)
from aiqueue.queue.words import ObjectState, OrderKey, Queueing
from fix_builders import at

T = TypeVar("T")
GPU = "example.com/gpu"
EPOCHS = 50  # workloads are created in this many seconds before the first decide
FLAVORS = {
    "a": Flavor("a", {"kind": "a"}),
    "b": Flavor("b", {"kind": "b"}, (Taint("spot"),)),
}
CLASSES = {"low": Class("low", -1), "high": Class("high", 5)}
LIMITS = (None, None, None, 0, 1, 2, 5)
CONFIGURATION_BYTES, WORKLOAD_BYTES, SHAPE_BYTES = 120, 12, 12


class Dice:
    """Choices read from bytes that hypothesis draws at once, which is much faster than to draw each; zeros choose what is usual."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def below(self, bound: int) -> int:
        return next(self._data, 0) % bound

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def mostly(self, usual: T, *others: T, of: int = 20) -> T:
        """The usual value, and each of the others once in `of`."""
        return self.pick([usual] * (of - len(others)) + list(others))

    def state(self) -> ObjectState:
        return self.mostly(ObjectState.ACTIVE, ObjectState.HOLD, ObjectState.DRAIN, of=30)


@dataclass(frozen=True)
class Kind:
    """What configurations to draw: with these starvation bounds and flavors, in trees or not (None: either)."""

    bounds: tuple[int, ...] = (0, 40, 10**6)
    trees: bool | None = None
    flavors: tuple[str, ...] = ("a", "b")


def quotas(dice: Dice, flavors: Sequence[str]) -> tuple[Quota, ...]:
    """Some of the flavors in some order, with GPUs and perhaps cpu or pods."""
    chosen = list(flavors)[dice.below(len(flavors)) :]
    if dice.below(2):
        chosen.reverse()
    found = []
    for flavor in chosen:
        found.append(Quota(flavor, GPU, dice.pick([4, 6, 8, 3, 2, 0]), dice.pick(LIMITS), dice.pick(LIMITS)))
        if dice.mostly(False, True, of=4):
            found.append(Quota(flavor, dice.pick(["cpu", "pods"]), dice.below(9), dice.pick(LIMITS), dice.pick(LIMITS)))
    return tuple(found)


def tenants(dice: Dice, kind: Kind) -> dict[str, Tenant]:
    """Three leaves t0, t1, t2: alone, or in a tree of up to three levels."""
    parents = dict.fromkeys(("t0", "t1", "t2"))
    found: dict[str, Tenant] = {}
    if kind.trees or (kind.trees is None and dice.below(2)):
        parents = {"t0": "lab", "t1": "lab", "t2": dice.pick(["lab", "wing"])}
        found["lab"] = Tenant("lab", quotas=quotas(dice, kind.flavors) if dice.below(2) else (), state=dice.state())
        found["wing"] = Tenant("wing", "lab", quotas=quotas(dice, kind.flavors) if dice.below(2) else ())
    for name, parent in parents.items():
        found[name] = Tenant(
            name,
            parent,
            quotas=quotas(dice, kind.flavors),
            queueing=dice.mostly(Queueing.BEST_EFFORT, Queueing.STRICT, of=3),
            order=dice.pick([Tenant("x").order, (OrderKey.SUBMITTED,)]),
            state=dice.state(),
            starvation_bound_seconds=dice.pick(kind.bounds),
        )
    return found


def configuration(data: bytes, kind: Kind) -> Configuration:
    """Tenants, and queues q0 to q3 that lead to them."""
    dice = Dice(data)
    revision = 1 + dice.below(200)
    known = tenants(dice, kind)
    found = {}
    for name, tenant in (("q0", "t0"), ("q1", "t1"), ("q2", "t2"), ("q3", "t0")):
        found["ns", name] = Queue(
            "ns",
            name,
            tenant,
            dice.mostly(Fraction(1), Fraction(0), of=4),
            dice.mostly(None, "low", "high", of=6),
            dice.mostly(None, ("low",)),
            dice.state(),
        )
    return Configuration(revision, FLAVORS, known, found, CLASSES)


def pod_sets(data: bytes) -> tuple[PodSet, ...]:
    """One pod set, seldom two."""
    dice = Dice(data)
    found = []
    for name in ("main", "more")[: dice.mostly(1, 2, of=4)]:
        requests = {GPU: dice.pick([2, 1, 3, 4, 0])}
        if dice.mostly(False, True, of=4):
            requests[dice.mostly("cpu", "example.com/other", of=4)] = dice.below(4)
        selector: dict[str, str] = dice.mostly({}, {"kind": "b"}, {"zone": "z"}, of=8)
        tolerations = dice.mostly((Toleration("spot", "Exists"),), (), of=3)
        found.append(PodSet(name, 1 + dice.below(2), requests, None, selector, tolerations))
    return tuple(found)


def workload(number: int, data: bytes, shapes: Sequence[tuple[PodSet, ...]]) -> Workload:
    """Workload `number` of one of the shapes; mostly nothing keeps it back."""
    dice = Dice(data)
    sets = dice.pick(shapes)
    class_name = dice.mostly(None, "low", "high", "high", "ghost", of=15)
    created = at(dice.below(EPOCHS + 1))
    return Workload(
        id=number,
        uid=f"uid-{number}",
        namespace="ns",
        name=f"job-{number}",
        queue_name=dice.mostly("q0", "q1", "q1", "q2", "q2", "q3", "q3", "nowhere", of=16),
        class_name=class_name,
        pod_sets=sets,
        shape=shape_of(sets, class_name),
        created_at=created,
        observed_at=created,
        held_by_owner=dice.mostly(False, True),
        invalid=dice.mostly(None, "parallelism is 0: write 1 or more", of=30),
        not_before=dice.mostly(None, at(EPOCHS + 5), at(EPOCHS + 30)),
    )


def configurations(kind: Kind) -> st.SearchStrategy[Configuration]:
    """One configuration."""
    return st.binary(min_size=CONFIGURATION_BYTES, max_size=CONFIGURATION_BYTES).map(lambda data: configuration(data, kind))


@st.composite
def backlogs(draw: st.DrawFn) -> list[Workload]:
    """Workloads of a few shapes."""
    shapes = [pod_sets(draw(st.binary(min_size=SHAPE_BYTES, max_size=SHAPE_BYTES))) for _ in range(3)]
    drawn = draw(st.lists(st.binary(min_size=WORKLOAD_BYTES, max_size=WORKLOAD_BYTES), min_size=4, max_size=12))
    return [workload(number, data, shapes) for number, data in enumerate(drawn, 1)]


@dataclass(frozen=True)
class Op:
    """One thing that happens: what, and what it is about."""

    what: str
    about: object = None


@st.composite
def histories(draw: st.DrawFn, *, reconfigure: bool = True, trees: bool | None = None) -> tuple[Configuration, list[Op]]:
    """A first configuration and what follows. Where the configuration changes, starvation bounds tell no history."""
    kind = Kind((0, 10**6) if reconfigure else (0, 40, 10**6), trees)
    first = draw(configurations(kind))
    shapes = [pod_sets(draw(st.binary(min_size=SHAPE_BYTES, max_size=SHAPE_BYTES))) for _ in range(3)]
    kinds = (
        ["pend"] * 6 + ["gone", "close", "close", "back", "adopt"] + ["decide"] * 4 + ["drop"] * 2 + ["configure"] * reconfigure
    )
    size = 2 + WORKLOAD_BYTES
    ops = []
    for index, data in enumerate(draw(st.lists(st.binary(min_size=size, max_size=size), min_size=8, max_size=30))):
        what = "pend" if index < 5 else kinds[data[0] % len(kinds)]
        if what == "pend":
            about: object = workload(1 + data[1] % 15, data[2:], shapes)
        elif what == "configure":
            about = draw(configurations(kind))
        else:
            about = data[1] % 21
        ops.append(Op(what, about))
    return first, ops


@dataclass
class Player:
    """Plays a history on an engine and keeps what the ledger would hold.

    Attributes:
        drops: whether Plans that are to be dropped are asked for at all.
        plans: those confirmed.
    """

    configuration: Configuration
    engine: Engine = field(default_factory=Engine)
    drops: bool = True
    now: int = EPOCHS
    next_run: int = 100
    pending: dict[int, Workload] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    shapes: dict[tuple[str | None, str | None], Decision] = field(default_factory=dict)
    overrides: dict[int, Decision] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine.observe(ConfigurationChanged(self.configuration))

    def play(self, op: Op) -> None:
        """Let one thing happen. What is about a run or a workload that is not there does nothing."""
        match op.what, op.about:
            case "pend", Workload() as workload:
                if workload.id not in {run.workload.id for run in self.runs.values()}:
                    self.pending[workload.id] = workload
                    self.engine.observe(WorkloadPending(workload))
            case "gone", int(number):
                self.pending.pop(number, None)
                self.engine.observe(WorkloadGone(number))
            case "close" | "back", int(number):
                self.close(number, back=op.what == "back")
            case "adopt", int(number):
                self.adopt(number)
            case "configure", Configuration() as configuration:
                self.configuration = configuration
                self.engine.observe(ConfigurationChanged(configuration))
            case "decide", int(number):
                self.now += number
                self.decide()
            case "drop", int(number):
                self.now += number
                if self.drops:
                    self.engine.decide(at(self.now))

    def close(self, number: int, *, back: bool) -> None:
        """Close some open run; its workload may wait again."""
        if not self.runs:
            return
        run = self.runs.pop(sorted(self.runs)[number % len(self.runs)])
        self.engine.observe(RunClosed(run.id))
        if back:
            workload = replace(run.workload, attempt=run.attempt)
            self.pending[workload.id] = workload
            self.engine.observe(WorkloadPending(workload))

    def adopt(self, number: int) -> None:
        """Open a run for some pending workload, whether or not there is room, of a tenant that need not be configured."""
        if not self.pending:
            return
        workload = self.pending.pop(sorted(self.pending)[number % len(self.pending)])
        tenant = ("t0", "t1", "t2", "left")[number % 4]
        held = (Allocation("main", "ab"[number % 2], GPU, number),) if number else ()
        run = Run(self.next_run, workload, workload.attempt + 1, tenant, at(self.now), held, adopted=True)
        self.next_run += 1
        self.runs[run.id] = run
        self.engine.observe(RunOpened(run))

    def decide(self) -> Plan:
        """Decide and confirm."""
        now = at(self.now)
        plan = self.engine.decide(now)
        run_ids = range(self.next_run, self.next_run + len(plan.admissions))
        self.next_run += len(plan.admissions)
        self.engine.confirm(plan, run_ids)
        self.plans.append(plan)
        for run_id, admission in zip(run_ids, plan.admissions, strict=True):
            del self.pending[admission.workload.id]
            self.runs[run_id] = Run(run_id, admission.workload, admission.attempt, admission.tenant, now, admission.allocations)
        for eviction in plan.evictions:
            self.runs[eviction.run_id] = replace(self.runs[eviction.run_id], evict_at=eviction.evict_at)
        for shape in plan.withdrawn_shapes:
            del self.shapes[shape]
        for number in plan.withdrawn_workloads:
            del self.overrides[number]
        for decision in plan.decisions:
            if decision.workload_id is None:
                self.shapes[decision.tenant, decision.shape] = decision
            else:
                self.overrides[decision.workload_id] = decision
        return plan

    def rebuilt(self) -> "Player":
        """A player whose engine was told only how things stand, the newest first."""
        other = Player(self.configuration, now=self.now, next_run=self.next_run)
        for run_id in sorted(self.runs, reverse=True):
            other.runs[run_id] = self.runs[run_id]
            other.engine.observe(RunOpened(self.runs[run_id]))
        for number in sorted(self.pending, reverse=True):
            other.pending[number] = self.pending[number]
            other.engine.observe(WorkloadPending(self.pending[number]))
        return other

    def verdicts(self) -> dict[int, Decision | None]:
        """What the engine says of each pending workload."""
        return {number: self.engine.verdict(number) for number in sorted(self.pending)}

    def told(self, number: int) -> Decision | None:
        """What the ledger says of a pending workload: its own verdict, else its shape's in its tenant."""
        workload = self.pending[number]
        queue = self.configuration.queues.get(("ns", workload.queue_name))
        return self.overrides.get(number) or (self.shapes.get((queue.tenant, workload.shape)) if queue else None)
