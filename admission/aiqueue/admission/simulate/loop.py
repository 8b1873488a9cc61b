"""The three loops on a virtual clock: what happened is told to the engine, and what it decides is done, at once.

Time jumps from one instant at which something happens to the next. At one instant, in this order:

1. jobs whose runtime is over end, and those whose eviction is due are stopped;
2. edits of the configuration apply, all together;
3. jobs arrive, in the order of the input;
4. the engine decides, and its Plans are confirmed, until it has nothing more to say for now.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from heapq import heappop, heappush

from aiqueue.admission.engine import (
    Admission,
    ConfigurationChanged,
    Engine,
    Eviction,
    Plan,
    RunClosed,
    UsageMoved,
    WorkloadPending,
)
from aiqueue.admission.simulate.cluster import SimulatedCluster
from aiqueue.admission.simulate.outcome import JobOutcome, Outcome, SimulatedRun
from aiqueue.admission.simulate.scenario import START, Edit, Scenario, SimulatedJob, moment
from aiqueue.admission.simulate.usages import Usages
from aiqueue.queue.consistency import with_objects
from aiqueue.queue.errors import AiqueueError
from aiqueue.queue.observations import RunStamp
from aiqueue.queue.records import Configuration, Workload
from aiqueue.queue.units import format_duration
from aiqueue.queue.words import Reason, RunOutcome, WorkloadState

Progress = Callable[[int, int], object]

LEDGER = "00000000-0000-0000-0000-000000000000"  # whose runs these are
NEVER = 1 << 62
#: Times end with the year 9999, and the engine looks ahead.
MOST_US = 5_000 * 365 * 86_400 * 1_000_000
_REPORT_EVERY = 1_000
_SECOND = 1_000_000
_MICROSECOND = timedelta(microseconds=1)
#: What becomes of a job whose run was ended by us; where nothing is said it waits again.
_AFTER = {
    RunOutcome.FINISHED: WorkloadState.FINISHED,
    RunOutcome.FAILED: WorkloadState.FAILED,
    RunOutcome.EXPIRED: WorkloadState.EXPIRED,
    RunOutcome.CANCELLED: WorkloadState.HELD,
}
_ENDED_AS = {WorkloadState.FINISHED: RunOutcome.FINISHED, WorkloadState.FAILED: RunOutcome.FAILED}


class SimulationStalled(AiqueueError):
    """The engine asks to be asked again and again at one instant, and nothing comes of it."""


class SimulationTooLong(AiqueueError):
    """It goes on for thousands of years."""


def simulate(
    scenario: Scenario, *, until_us: int | None = None, progress: Progress | None = None, engine: Engine | None = None
) -> Outcome:
    """Play a scenario to its end: until nothing more will happen, or `until_us`, which still happens.

    Args:
        scenario: what happens from outside.
        until_us: in microseconds since the start.
        progress: told (jobs that ended, all jobs) now and then, and at the end.
        engine: a new one of the caller's making; by default one that says only in the end why jobs wait.

    Raises:
        SimulationStalled: the engine does not come to an end.
        SimulationTooLong: the scenario does not, for 5,000 years.
    """
    with _uncollected():
        return _Simulation(scenario, engine or Engine(tells=False), progress).run(until_us)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no cycles meanwhile: there are none, and to look over all jobs and runs takes a tenth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Open:
    """An open run. `outcome` is how it will end by the notice that it was given."""

    __slots__ = ("attempt", "number", "outcome", "run", "tenant", "uid")

    def __init__(self, number: int, admission: Admission, run: SimulatedRun) -> None:
        self.number = number
        self.uid = admission.workload.uid
        self.attempt = admission.attempt
        self.tenant = admission.tenant
        self.run = run
        self.outcome = RunOutcome.RUNNING


class _Simulation:
    """One scenario at one time. A job's number is its place in the scenario; its workload's id is one more."""

    def __init__(self, scenario: Scenario, engine: Engine, progress: Progress | None) -> None:
        self._scenario = scenario
        self._engine = engine
        self._progress = progress
        self._cluster = SimulatedCluster()
        self._jobs = [JobOutcome(job) for job in scenario.jobs]
        self._workloads: dict[int, Workload] = {}  # those that wait or run, as they were last submitted
        self._open: dict[int, _Open] = {}
        self._run_of: dict[str, int] = {}  # uid -> open run
        self._evictions: list[tuple[int, int]] = []  # when it is due, run
        self._configuration = Configuration(0)
        self._configurations: list[tuple[int, Configuration]] = []
        self._usages = Usages(scenario)
        self._edits = 0  # so many have applied
        self._arrived = 0
        self._waiting = 0
        self._ended = 0
        self._last_run = 0
        self._wake_us = NEVER
        self._fruitless = 0
        self._now_us = -1
        self._evicted_now = 0  # how many runs were stopped at this instant

    def run(self, until_us: int | None) -> Outcome:
        """Play it."""
        last = NEVER - 1 if until_us is None else until_us
        while (now_us := self._next()) <= last:
            if now_us > MOST_US:
                raise SimulationTooLong("after 5000 years it is not over: shorten the runtimes, or cut it off with --until")
            self._step(now_us)
        if self._progress is not None:
            self._progress(self._ended, len(self._jobs))
        self._say_why_they_wait(last)
        if not self._configurations or self._configurations[0][0] > 0:
            self._configurations.insert(0, (0, Configuration(0)))
        return Outcome(self._scenario, self._jobs, self._configurations, until_us)

    # Time.

    def _next(self) -> int:
        """The next instant at which anything happens; NEVER where nothing will."""
        scenario = self._scenario
        while self._evictions and self._evictions[0][1] not in self._open:
            heappop(self._evictions)  # it ended before its time was up
        end_us = self._cluster.next_end_us
        happens = min(
            NEVER if end_us is None else end_us,
            self._evictions[0][0] if self._evictions else NEVER,
            scenario.edits[self._edits].at_us if self._edits < len(scenario.edits) else NEVER,
            scenario.jobs[self._arrived].arrival_us if self._arrived < len(scenario.jobs) else NEVER,
        )
        if happens <= self._wake_us:
            self._fruitless = 0
            return happens
        # Only the engine wants to be asked. What waits may have its back-off end and may begin to starve; what runs may come to
        # have run for as long as it is left alone, and be told that its time ends. That must be all.
        self._fruitless += 1
        return happens if self._fruitless > 2 * (self._waiting + len(self._open)) + 1 else self._wake_us

    def _step(self, now_us: int) -> None:
        """Everything that happens at one instant."""
        scenario, asked = self._scenario, self._wake_us <= now_us
        if now_us != self._now_us:
            self._now_us, self._evicted_now = now_us, 0
        for uid, state in self._cluster.advance(now_us):
            self._end(self._run_of[uid], now_us, state)
        while self._evictions and self._evictions[0][0] <= now_us:
            _, run_id = heappop(self._evictions)
            if run_id in self._open:
                self._evict(run_id, now_us)
        self._tell_usage()
        while self._edits < len(scenario.edits) and scenario.edits[self._edits].at_us <= now_us:
            self._edit(scenario.edits[self._edits], now_us)
            asked = True
        while self._arrived < len(scenario.jobs) and scenario.jobs[self._arrived].arrival_us <= now_us:
            self._arrive(self._arrived)
        if self._waiting or asked:  # else there is nothing to decide
            self._decide(now_us)

    # What happens.

    def _edit(self, edit: Edit, now_us: int) -> None:
        self._edits += 1
        changed = with_objects(self._configuration, edit.records)
        self._configuration = Configuration(self._edits, changed.flavors, changed.tenants, changed.queues, changed.classes)
        self._configurations.append((now_us, self._configuration))
        self._engine.observe(ConfigurationChanged(self._configuration))

    def _arrive(self, number: int) -> None:
        self._arrived += 1
        job = self._scenario.jobs[number]
        workload = _workload(number, job)
        pods = sum(each.count for each in job.pod_sets)
        self._cluster.create(
            workload.uid, pods=pods, runtime_us=job.runtime_us, checkpoint_us=job.checkpoint_us, fails=job.fails
        )
        self._jobs[number].state = workload.state
        self._wait(number, workload)

    def _wait(self, number: int, workload: Workload) -> None:
        self._waiting += 1
        self._workloads[number] = workload
        self._engine.observe(WorkloadPending(workload))

    def _end(self, run_id: int, now_us: int, state: WorkloadState) -> None:
        """A run came to its end by itself, told to or not."""
        run = self._open[run_id].run
        run.reason, run.preempted_by, run.rule = "", "", None
        self._over(self._close(run_id, now_us, _ENDED_AS[state]), state)

    def _evict(self, run_id: int, now_us: int) -> None:
        """The time is up that a run was given."""
        self._evicted_now += 1
        if self._evicted_now > self._most_at_once():
            raise SimulationStalled(_no_end(now_us, "runs are evicted and admitted again and again"))
        opened = self._open[run_id]
        run, stamp = opened.run, RunStamp(LEDGER, run_id, opened.attempt)
        after = _AFTER.get(opened.outcome, WorkloadState.PENDING)
        waits = after in (WorkloadState.PENDING, WorkloadState.HELD)
        if not (self._cluster.stop(opened.uid, stamp) if waits else self._cluster.expire(opened.uid, stamp)):
            raise SimulationStalled(f"run {run_id} was to be evicted and does not run: this is a fault of the simulator")
        number = self._close(run_id, now_us, opened.outcome)
        if not waits:
            self._over(number, after)
            return
        if after is WorkloadState.PENDING:
            run.lost_us = self._cluster.lost_us(opened.uid)
        self._jobs[number].state = after
        before = self._workloads[number]
        ran = before.ran_seconds - (run.admitted_us - now_us) // _SECOND
        held = after is WorkloadState.HELD
        self._wait(number, replace(before, state=after, attempt=opened.attempt, held_by_owner=held, ran_seconds=ran))

    def _close(self, run_id: int, now_us: int, outcome: RunOutcome) -> int:
        """A run gives its quota back; answers whose it was."""
        opened = self._open.pop(run_id)
        del self._run_of[opened.uid]
        opened.run.ended_us = now_us
        opened.run.outcome = outcome
        self._engine.observe(RunClosed(run_id))
        self._fold(opened, now_us, -1)
        return opened.number

    def _over(self, number: int, state: WorkloadState) -> None:
        self._jobs[number].state = state
        del self._workloads[number]
        self._ended += 1
        if self._progress is not None and self._ended % _REPORT_EVERY == 0:
            self._progress(self._ended, len(self._jobs))

    # What is decided.

    def _decide(self, now_us: int) -> None:
        now = moment(now_us)
        # Each Plan admits, evicts or says something, and of each job it can do so only so often.
        for _ in range(self._most_at_once()):
            plan = self._engine.decide(now)
            if not plan.empty:
                self._commit(plan, now_us)
            if plan.wake_at is None or plan.wake_at > now:
                self._wake_us = NEVER if plan.wake_at is None else _microseconds(plan.wake_at)
                return
        raise SimulationStalled(_no_end(now_us, "it asks to be asked again"))

    def _most_at_once(self) -> int:
        return 64 + 8 * len(self._jobs)

    def _commit(self, plan: Plan, now_us: int) -> None:
        """Let a Plan be so."""
        run_ids = range(self._last_run + 1, self._last_run + 1 + len(plan.admissions))
        self._engine.confirm(plan, run_ids)
        if plan.admissions or plan.evictions:
            self._fruitless = 0
        for run_id, admission in zip(run_ids, plan.admissions, strict=True):
            self._admit(run_id, admission, now_us)
        for eviction in plan.evictions:
            self._notice(eviction, now_us)
        self._tell_usage()

    def _notice(self, eviction: Eviction, now_us: int) -> None:
        """A run is told to end."""
        opened = self._open[eviction.run_id]
        opened.outcome = eviction.outcome
        run = opened.run
        run.noticed_us, run.evict_at_us = now_us, _microseconds(eviction.evict_at)
        run.reason, run.rule = eviction.message, eviction.rule
        if eviction.preempted_by is not None:
            claimant = self._jobs[eviction.preempted_by - 1].job
            run.preempted_by = f"{claimant.namespace}/{claimant.name}"
        self._jobs[opened.number].state = WorkloadState.EVICTING
        heappush(self._evictions, (run.evict_at_us, eviction.run_id))

    def _admit(self, run_id: int, admission: Admission, now_us: int) -> None:
        number = admission.workload.id - 1
        job, uid = self._jobs[number], admission.workload.uid
        amounts: dict[str, int] = {}
        for each in admission.allocations:
            amounts[each.resource] = amounts.get(each.resource, 0) + each.amount
        pods = sum(admission.counts.values())
        run = SimulatedRun(now_us, pods, admission.flavors, amounts)
        job.tenant = admission.tenant
        job.state = WorkloadState.ADMITTED
        job.runs.append(run)
        opened = self._open[run_id] = _Open(number, admission, run)
        self._run_of[uid] = self._last_run = run_id
        self._waiting -= 1
        if not self._cluster.start(uid, RunStamp(LEDGER, run_id, admission.attempt), pods):
            raise SimulationStalled(f"run {run_id} was admitted and cannot start: this is a fault of the simulator")
        self._fold(opened, now_us, 1)

    def _fold(self, opened: _Open, now_us: int, sign: int) -> None:
        """Fold what the queue of a run used, now that it holds more or less."""
        if self._usages.decide:
            job = self._scenario.jobs[opened.number]
            amounts = {resource: sign * amount for resource, amount in opened.run.amounts.items()}
            tenant = self._configuration.tenants[opened.tenant]
            self._usages.fold((job.namespace, job.queue_name), amounts, now_us, tenant)

    def _tell_usage(self) -> None:
        moved = self._usages.moved() if self._usages.decide else {}
        if moved:
            self._engine.observe(UsageMoved(moved))

    # The end.

    def _say_why_they_wait(self, last: int) -> None:
        """Give each job that waits, or never came, its reason; and those that never ran their tenant."""
        for number, job in enumerate(self._jobs):
            if not job.tenant:
                queue = self._configuration.queues.get((job.job.namespace, job.job.queue_name))
                job.tenant = queue.tenant if queue is not None else ""
            if number >= self._arrived:
                came, end = (format_duration(us // 1_000_000) for us in (job.job.arrival_us, last))
                job.reason = Reason.PENDING_EVALUATION
                job.message = f"it arrives at {came}, and the simulation ends at {end}"
            elif job.state in (WorkloadState.PENDING, WorkloadState.HELD):
                verdict = self._engine.verdict(number + 1)
                if verdict is not None:
                    job.reason, job.message = verdict.reason, verdict.message


def _uid(number: int) -> str:
    return f"{number:09}"  # sorts as the numbers do, so that of one arrival the order is that of the input


def _workload(number: int, job: SimulatedJob) -> Workload:
    """A job as it is submitted."""
    arrived = moment(job.arrival_us)
    return Workload(
        number + 1,
        _uid(number),
        job.namespace,
        job.name,
        job.queue_name,
        job.class_name,
        job.pod_sets,
        job.shape,
        arrived,
        arrived,
        WorkloadState.HELD if job.held else WorkloadState.PENDING,
        held_by_owner=job.held,
        invalid=job.invalid,
        checkpoint_seconds=job.told_checkpoint_seconds,
        max_runtime_seconds=job.max_runtime_seconds,
    )


def _no_end(now_us: int, why: str) -> str:
    return f"the engine finds no end at {format_duration(now_us // _SECOND)}: {why}, and this is a fault of it"


def _microseconds(time: datetime) -> int:
    return (time - START) // _MICROSECOND
