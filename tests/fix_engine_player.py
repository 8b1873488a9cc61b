"""Plays histories on an engine, and keeps what the ledger would hold, so that tests can build a second engine from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from aiqueue.admission.engine import (
    ConfigurationChanged,
    Engine,
    Plan,
    RunClosed,
    RunOpened,
    UsageMoved,
    WorkloadGone,
    WorkloadPending,
)
from aiqueue.queue.records import Allocation, Configuration, Decision, Run, Tenant, Workload
from aiqueue.queue.usage import Usage, first_use, folded
from fix_builders import at
from fix_engine_lasting import lasting, undrained
from fix_engine_quotas import Holding, Quotas, total
from fix_engine_reference import Outcome, Reference
from fix_engine_worlds import EPOCHS, GPU, Op, depth, edited


@dataclass
class Player:
    """Plays a history on an engine and keeps what the ledger would hold.

    Attributes:
        drops: whether Plans that are to be dropped are asked for at all.
        preempts: whether anybody may have to make room; else the engine is told of classes and states under which nobody has to.
        plans: those confirmed.
        seen: what happened, for counting.
        let_in: whether an edit let in work that was shut out: from when that starves, only its own engine knows.
    """

    configuration: Configuration
    engine: Engine = field(default_factory=Engine)
    drops: bool = True
    preempts: bool = False
    now: int = EPOCHS
    next_run: int = 100
    pending: dict[int, Workload] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    usages: dict[tuple[str, str, str], Usage] = field(default_factory=dict)
    shapes: dict[tuple[str | None, str | None], Decision] = field(default_factory=dict)
    overrides: dict[int, Decision] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    let_in: bool = False

    def __post_init__(self) -> None:
        self.tell(self.configuration)

    @property
    def time(self) -> datetime:
        """Now, as the engine is told."""
        return at(self.now)

    def play(self, op: Op) -> None:
        """Let one thing happen. What is about a run or a workload that is not there does nothing."""
        match op.what, op.about:
            case "decide", int(number):
                self.now += number
                self.decide()
            case "drop", int(number):
                self.now += number
                if self.drops:
                    self.engine.decide(self.time)
            case "configure", Configuration() as configuration:
                self.configure(configuration)
            case "edit", bytes(data):
                self.configure(edited(self.configuration, data))
            case "used", (str(queue), int(value)):
                self.used(queue, value)
            case _:
                self.move(op)

    def move(self, op: Op) -> None:
        """Let something happen to a workload or a run."""
        match op.what, op.about:
            case "pend", Workload() as workload:
                if workload.id not in {run.workload.id for run in self.runs.values()}:
                    self.pend(workload)
            case "gone", int(number):
                self.pending.pop(number, None)
                self.engine.observe(WorkloadGone(number))
            case "hold", int(number) if self.pending:
                workload = self.pending[sorted(self.pending)[number % len(self.pending)]]
                self.pend(replace(workload, held_by_owner=not workload.held_by_owner))
            case "close" | "back", int(number) if self.runs:
                self.close(sorted(self.runs)[number % len(self.runs)], back=op.what == "back")
            case "end", int(run_id):
                self.close(run_id, back=False)
            case "adopt", int(number) if self.pending:
                self.adopt(number)

    def pend(self, workload: Workload) -> None:
        """Let a workload wait, or replace one."""
        self.pending[workload.id] = workload
        self.engine.observe(WorkloadPending(workload))

    def configure(self, configuration: Configuration) -> None:
        """Replace the configuration."""
        before, after = (Reference(each, [], [], at(self.now)) for each in (self.configuration, configuration))
        shut = [each for each in self.pending.values() if before.closed(each) is not None]
        self.let_in = self.let_in or any(after.closed(each) is None for each in shut)
        self.configuration = configuration
        self.tell(configuration)

    def tell(self, configuration: Configuration) -> None:
        """Tell the engine of a configuration."""
        told = configuration if self.preempts else undrained(lasting(configuration))
        self.engine.observe(ConfigurationChanged(told))
        self.seen.add(f"depth {depth(configuration)}")

    def close(self, run_id: int, *, back: bool) -> None:
        """Close an open run; its workload may wait again."""
        run = self.runs.pop(run_id)
        self.engine.observe(RunClosed(run.id))
        if back:
            self.pend(replace(run.workload, attempt=run.attempt))
        self.fold([(run, -1)])

    def adopt(self, number: int) -> None:
        """Open a run for some pending workload, whether or not there is room, of a tenant that need not be configured."""
        found = [each for each in sorted(self.pending) if self.preempts or self.lasts(self.pending[each])]
        if not found:
            return
        workload = self.pending.pop(found[number % len(found)])
        tenant = ("t0", "t1", "t2", "left")[number % 4]
        held = (Allocation("main", "ab"[number % 2], GPU, number),) if number else ()
        run = Run(self.next_run, workload, workload.attempt + 1, tenant, at(self.now), held, adopted=True)
        self.next_run += 1
        self.runs[run.id] = run
        self.engine.observe(RunOpened(run))
        self.fold([(run, 1)])

    def lasts(self, workload: Workload) -> bool:
        """Whether its run would be under a class that `lasting` knows."""
        queue = self.configuration.queues.get((workload.namespace, workload.queue_name))
        return queue is not None and (workload.class_name is None or workload.class_name in self.configuration.classes)

    def decide(self) -> Plan:
        """Decide and confirm."""
        now = at(self.now)
        plan = self.engine.decide(now)
        run_ids = range(self.next_run, self.next_run + len(plan.admissions))
        self.next_run += len(plan.admissions)
        self.engine.confirm(plan, run_ids)
        self.plans.append(plan)
        opened = []
        for run_id, admission in zip(run_ids, plan.admissions, strict=True):
            del self.pending[admission.workload.id]
            run = Run(run_id, admission.workload, admission.attempt, admission.tenant, now, admission.allocations)
            self.runs[run_id] = run
            opened.append((run, 1))
        for eviction in plan.evictions:
            self.runs[eviction.run_id] = replace(self.runs[eviction.run_id], evict_at=eviction.evict_at)
        self.fold(opened)
        self.keep(plan)
        if opened:
            self.seen.add("admits")
            if self.borrowing():
                self.seen.add("borrows")
        return plan

    def keep(self, plan: Plan) -> None:
        """Write the verdicts of a Plan."""
        for shape in plan.withdrawn_shapes:
            del self.shapes[shape]
        for number in plan.withdrawn_workloads:
            del self.overrides[number]
        for decision in plan.decisions:
            if decision.workload_id is None:
                self.shapes[decision.tenant, decision.shape] = decision
            else:
                self.overrides[decision.workload_id] = decision

    # Decayed usage, folded as the ledger would.

    def half_life(self, queue: str) -> int:
        known = self.configuration.queues.get(("ns", queue))
        tenant = self.configuration.tenants.get(known.tenant) if known is not None else None
        return (tenant or Tenant("")).usage_half_life_seconds

    def fold(self, moved: list[tuple[Run, int]]) -> None:
        """Runs opened (1) or closed (-1) now."""
        now, told = at(self.now), dict[tuple[str, str, str], Usage]()
        for run, sign in moved:
            for (_, resource), amount in total(run.allocations).items():
                key = ("ns", run.workload.queue_name, resource)
                half_life = self.half_life(run.workload.queue_name)
                told[key] = self.usages[key] = folded(self.usages.get(key), now, sign * amount, half_life)
        if told:
            self.engine.observe(UsageMoved(told))

    def used(self, queue: str, value: int) -> None:
        """A queue turns out to have used this much more."""
        key = ("ns", queue, GPU)
        known = self.usages.get(key) or first_use(at(self.now), 0, self.half_life(queue))
        self.usages[key] = replace(known.moved(at(self.now), 0, self.half_life(queue)), value=known.at(at(self.now)) + value)
        self.engine.observe(UsageMoved({key: self.usages[key]}))

    # What came of it.

    def reference(self) -> Reference:
        """What decides the same slowly."""
        holdings: list[Holding] = [(run.tenant, run.allocations) for _, run in sorted(self.runs.items())]
        return Reference(self.configuration, list(self.pending.values()), holdings, at(self.now), dict(self.usages))

    def expected(self) -> Outcome:
        """What the reference makes of it now."""
        outcome = self.reference().decide()
        self.seen |= outcome.noted
        return outcome

    def quotas(self) -> Quotas:
        """The tree as it is used now."""
        return Quotas(self.configuration.tenants, [(run.tenant, run.allocations) for run in self.runs.values()])

    def borrowing(self) -> bool:
        """Whether some leaf tenant uses more than it puts in."""
        quotas = self.quotas()
        return any(quotas.borrows(name, pair, 0) for name, pair in quotas.held)

    def rebuilt(self) -> Self:
        """A player whose engine was told only how things stand, the newest first."""
        other = type(self)(self.configuration, preempts=self.preempts, now=self.now, next_run=self.next_run)
        for run_id in sorted(self.runs, reverse=True):
            other.runs[run_id] = self.runs[run_id]
            other.engine.observe(RunOpened(self.runs[run_id]))
        other.usages = dict(self.usages)
        other.engine.observe(UsageMoved(dict(reversed(self.usages.items()))))
        for number in sorted(self.pending, reverse=True):
            other.pend(self.pending[number])
        return other

    def verdicts(self) -> dict[int, Decision | None]:
        """What the engine says of each pending workload."""
        return {number: self.engine.verdict(number) for number in sorted(self.pending)}

    def told(self, number: int) -> Decision | None:
        """What the ledger says of a pending workload: its own verdict, else its shape's in its tenant."""
        workload = self.pending[number]
        queue = self.configuration.queues.get(("ns", workload.queue_name))
        return self.overrides.get(number) or (self.shapes.get((queue.tenant, workload.shape)) if queue else None)

    def had(self) -> Mapping[str, bool]:
        """For `fix_engine_shares.count`."""
        depths = [int(each.split()[1]) for each in self.seen if each.startswith("depth")]
        return {
            "admits": "admits" in self.seen,
            "borrows": "borrows" in self.seen,
            "deep": max(depths) >= 3,
        }

    def had_all(self) -> Mapping[str, bool]:
        """The same and what only the reference tells."""
        names = ("starving", "kept back", "strict head", "reserved", "usage")
        return {**self.had(), **{name.replace(" ", "_"): name in self.seen for name in names}}
