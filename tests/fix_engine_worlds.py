"""Small worlds for the engine: configurations, workloads and histories that hypothesis draws, and a player of histories.

The player keeps a model of what the ledger would hold, so that tests can build a second engine from the final state.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

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

GPU = "example.com/gpu"
EPOCHS = 50  # workloads are created in this many seconds before the first decide
FLAVORS = {
    "a": Flavor("a", {"kind": "a"}),
    "b": Flavor("b", {"kind": "b"}, (Taint("spot"),)),
}
CLASSES = {"low": Class("low", -1), "high": Class("high", 5)}
STATES = st.sampled_from([ObjectState.ACTIVE] * 8 + [ObjectState.HOLD, ObjectState.DRAIN])
LIMITS = st.one_of(st.none(), st.integers(0, 5))


@st.composite
def quotas(draw: st.DrawFn, flavors: Sequence[str]) -> tuple[Quota, ...]:
    """Up to the given flavors in some order, with GPUs and perhaps cpu and pods."""
    chosen = draw(st.lists(st.sampled_from(list(flavors)), min_size=1, max_size=len(flavors), unique=True))
    found = []
    for flavor in chosen:
        found.append(Quota(flavor, GPU, draw(st.integers(0, 8)), draw(LIMITS), draw(LIMITS)))
        if draw(st.integers(0, 3)) == 0:
            found.append(
                Quota(flavor, draw(st.sampled_from(["cpu", "pods"])), draw(st.integers(0, 8)), draw(LIMITS), draw(LIMITS))
            )
    return tuple(found)


@st.composite
def tenants(draw: st.DrawFn, *, bounds: Sequence[int], trees: bool, flavors: Sequence[str]) -> dict[str, Tenant]:
    """Three leaves t0, t1, t2: alone, or in a tree of up to three levels."""
    parents = dict.fromkeys(("t0", "t1", "t2"))
    found: dict[str, Tenant] = {}
    if trees and draw(st.booleans()):
        parents = {"t0": "lab", "t1": "lab", "t2": draw(st.sampled_from(["lab", "wing"]))}
        found["lab"] = Tenant("lab", quotas=draw(st.one_of(st.just(()), quotas(flavors))), state=draw(STATES))
        found["wing"] = Tenant("wing", "lab", quotas=draw(st.one_of(st.just(()), quotas(flavors))))
    for name, parent in parents.items():
        found[name] = Tenant(
            name,
            parent,
            quotas=draw(quotas(flavors)),
            queueing=draw(st.sampled_from([Queueing.STRICT, Queueing.BEST_EFFORT, Queueing.BEST_EFFORT])),
            order=draw(st.sampled_from([Tenant("x").order, (OrderKey.SUBMITTED,)])),
            state=draw(STATES),
            starvation_bound_seconds=draw(st.sampled_from(list(bounds))),
        )
    return found


@st.composite
def configurations(
    draw: st.DrawFn, *, bounds: Sequence[int] = (0, 40, 10**6), trees: bool = True, flavors: Sequence[str] = ("a", "b")
) -> Configuration:
    """Tenants, and queues q0 to q3 that lead to them."""
    found = {}
    for name, tenant in (("q0", "t0"), ("q1", "t1"), ("q2", "t2"), ("q3", "t0")):
        found["ns", name] = Queue(
            "ns",
            name,
            tenant,
            draw(st.sampled_from([Fraction(1), Fraction(1), Fraction(0)])),
            draw(st.sampled_from([None, None, "low", "high"])),
            draw(st.sampled_from([None, None, None, ("low",)])),
            draw(STATES),
        )
    known = draw(tenants(bounds=bounds, trees=trees, flavors=flavors))
    return Configuration(draw(st.integers(1, 10**6)), FLAVORS, known, found, CLASSES)


@st.composite
def pod_sets(draw: st.DrawFn) -> tuple[PodSet, ...]:
    """One pod set, seldom two."""
    found = []
    for name in ("main", "more")[: draw(st.sampled_from([1, 1, 1, 2]))]:
        requests = {GPU: draw(st.integers(0, 4))}
        if draw(st.integers(0, 3)) == 0:
            requests[draw(st.sampled_from(["cpu", "example.com/other"]))] = draw(st.integers(0, 3))
        selector = draw(st.sampled_from([{}, {}, {"kind": "b"}, {"zone": "z"}]))
        tolerations = draw(st.sampled_from([(), (Toleration("spot", "Exists"),)]))
        found.append(PodSet(name, draw(st.integers(1, 2)), requests, None, selector, tolerations))
    return tuple(found)


@st.composite
def workloads(draw: st.DrawFn, number: int, shapes: Sequence[tuple[PodSet, ...]]) -> Workload:
    """Workload `number` of one of the shapes; mostly nothing keeps it back."""
    sets = draw(st.sampled_from(list(shapes)))
    class_name = draw(st.sampled_from([None, None, "low", "high", "ghost"]))
    created = at(draw(st.integers(0, EPOCHS)))
    return Workload(
        id=number,
        uid=f"uid-{number}",
        namespace="ns",
        name=f"job-{number}",
        queue_name=draw(st.sampled_from(["q0", "q0", "q1", "q2", "q3", "nowhere"])),
        class_name=class_name,
        pod_sets=sets,
        shape=shape_of(sets, class_name),
        created_at=created,
        observed_at=created,
        held_by_owner=draw(st.integers(0, 9)) == 0,
        invalid=draw(st.sampled_from([None] * 9 + ["parallelism is 0: write 1 or more"])),
        not_before=draw(st.sampled_from([None] * 5 + [at(EPOCHS + 5), at(EPOCHS + 30)])),
    )


@dataclass(frozen=True)
class Op:
    """One thing that happens: what, and what it is about."""

    what: str
    about: object = None


@st.composite
def histories(draw: st.DrawFn, *, reconfigure: bool = True, max_size: int = 30) -> tuple[Configuration, list[Op]]:
    """A first configuration and what follows. Where the configuration changes, starvation bounds tell no history."""
    bounds = (0, 10**6) if reconfigure else (0, 40, 10**6)
    first = draw(configurations(bounds=bounds))
    shapes = draw(st.lists(pod_sets(), min_size=1, max_size=4))
    kinds = ["pend"] * 6 + ["gone", "close", "back", "adopt"] + ["decide"] * 4 + ["drop"] * 2 + ["configure"] * reconfigure
    ops = []
    for what in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=max_size)):
        if what == "pend":
            about: object = draw(workloads(draw(st.integers(1, 12)), shapes))
        elif what == "configure":
            about = draw(configurations(bounds=bounds))
        else:
            about = draw(st.integers(0, 20))
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
