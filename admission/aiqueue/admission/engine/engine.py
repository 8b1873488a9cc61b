"""The engine: events in, a Plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from heapq import nsmallest

from aiqueue.admission.engine.backlog import Backlog
from aiqueue.admission.engine.buckets import Standing
from aiqueue.admission.engine.contest import Contest
from aiqueue.admission.engine.events import (
    ConfigurationChanged,
    Event,
    RunClosed,
    RunOpened,
    UsageMoved,
    WorkloadGone,
    WorkloadPending,
)
from aiqueue.admission.engine.instants import micros, moment
from aiqueue.admission.engine.journal import Journal
from aiqueue.admission.engine.plan import Eviction, Plan
from aiqueue.admission.engine.runs import OpenRun, Runs
from aiqueue.admission.engine.terms import terms_of
from aiqueue.admission.engine.tournament import Tournament
from aiqueue.admission.engine.tree import TenantNode, build_tree
from aiqueue.admission.engine.verdicts import Rendered, Verdicts
from aiqueue.queue.errors import AiqueueError, NotFound
from aiqueue.queue.records import Configuration, Decision, Run, Workload
from aiqueue.queue.words import ObjectState, RunOutcome

FIGURES_PAUSE = timedelta(milliseconds=200)  # between Plans that only bring figures up to date


class PlanNotCurrent(AiqueueError):
    """The Plan to confirm is not the last one decided, or something happened since: decide again."""


@dataclass(slots=True)
class _Tentative:
    """The last Plan, and what confirming it does."""

    plan: Plan
    journal: Journal
    rendered: Rendered
    contest: Contest


class Engine:
    """Decides who is admitted. See the package for how; not safe for several threads.

    Args:
        max_admissions: the most admissions, and the most evictions, of one Plan.
        max_decisions: the most verdicts worked out for one Plan.
        max_trials: the most shapes tried for one Plan.
        tells: whether Plans say why others wait; without, only `verdict` does, and nothing is remembered to be told.
    """

    def __init__(
        self, *, max_admissions: int = 500, max_decisions: int = 2_000, max_trials: int = 10_000, tells: bool = True
    ) -> None:
        if min(max_admissions, max_decisions, max_trials) < 1:
            raise ValueError("the bounds of a Plan are at least 1 each")
        self._max_admissions = max_admissions
        self._max_decisions = max_decisions
        self._max_trials = max_trials
        self._configuration = Configuration(0)
        self._nodes: dict[str, TenantNode] = {}
        self._backlog = Backlog()
        self._runs = Runs()
        self._tournament = Tournament()
        self._verdicts = Verdicts(self._backlog, self._nodes, tells=tells)
        self._returning: dict[int, Workload] = {}  # wait again, but their run has not given its quota back
        self._to_evict: dict[int, str] = {}  # run -> why it is to be told
        self._now: datetime | None = None
        self._tentative: _Tentative | None = None

    def observe(self, event: Event) -> None:
        """Learn a fact. A Plan that was not confirmed is dropped first and leaves no trace."""
        self._drop()
        match event:
            case WorkloadPending(workload):
                if workload.id in self._runs.of_workload:
                    self._returning[workload.id] = workload
                else:
                    self._backlog.put(workload)
            case WorkloadGone(workload_id):
                self._returning.pop(workload_id, None)
                self._backlog.drop(workload_id)
            case RunOpened(run):
                self._open(run)
            case RunClosed(run_id):
                self._close(run_id)
            case ConfigurationChanged(configuration):
                self._configure(configuration)
            case UsageMoved(usages):
                self._backlog.learn(usages)

    def decide(self, now: datetime) -> Plan:
        """Say what should be done now. Asked twice it answers the same; nothing is done until `confirm`.

        Args:
            now: an aware datetime.

        Raises:
            ValueError: `now` lies before that of an earlier call, or is naive.
        """
        self._drop()
        self._advance(now)  # 1
        contest = Contest(
            self._backlog, self._runs, self._tournament, max_admissions=self._max_admissions, max_trials=self._max_trials
        )
        for bucket in self._backlog.flipped.values():
            contest.journal.do(self._backlog.open_since, self._backlog.not_open, bucket, micros(now))
        evictions = self._evictions(now)  # 2
        contest.run()  # 3
        self._mark_verdicts()  # 4
        rendered = self._verdicts.render(self._max_decisions)
        cut = contest.cut or rendered.more or len(evictions) < len(self._to_evict)
        plan = Plan(
            now,
            self._configuration.revision,
            tuple(contest.admissions),
            tuple(evictions),
            decisions=rendered.decisions,
            withdrawn_shapes=rendered.withdrawn_shapes,
            withdrawn_workloads=rendered.withdrawn_workloads,
            wake_at=now if cut else self._wake_at(now, rendered.later),  # 5
        )
        journal = contest.journal
        if plan.empty or not (contest.admissions or self._backlog.flipped):
            # Whoever was parked is parked on facts, and an empty Plan may never be confirmed: keep what was learned.
            journal = Journal()
            self._backlog.flipped.clear()
            self._verdicts.unchanged(rendered)
        self._tentative = _Tentative(plan, journal, rendered, contest)
        return plan

    def confirm(self, plan: Plan, run_ids: Sequence[int], opened_at: datetime | None = None) -> None:
        """The ledger has the Plan: its admissions are runs now, `run_ids[i]` that of `plan.admissions[i]`.

        Args:
            plan: the last one decided.
            run_ids: new ones, as many as it has admissions.
            opened_at: when the ledger opened those runs, where that is not `plan.now`.

        Raises:
            PlanNotCurrent: it is not the last Plan decided, or an event came since; nothing is changed.
            ValueError: `run_ids` are not as many, are not distinct, or one of them is open already; nothing is changed.
        """
        tentative = self._tentative
        if tentative is None or plan is not tentative.plan:
            raise PlanNotCurrent("this Plan is not the last one decided, or something happened since: decide again")
        if len(run_ids) != len(plan.admissions) or len(set(run_ids)) != len(run_ids):
            raise ValueError(f"{len(run_ids)} run ids for {len(plan.admissions)} admissions: give each its own")
        for run_id in run_ids:
            if run_id in self._runs.open:
                raise ValueError(f"run {run_id} is open already")
        self._tentative = None
        if tentative.journal.redo():
            tentative.contest.undone()
        for admission, run_id, placement in zip(plan.admissions, run_ids, tentative.contest.placements, strict=True):
            workload = admission.workload
            run = OpenRun(run_id, admission, opened_at or plan.now, terms_of(self._configuration, workload))
            self._runs.keep(run, placement.takes)
            self._backlog.admitted(workload.id)
        for eviction in plan.evictions:
            self._runs.open[eviction.run_id].evict_at = eviction.evict_at
            del self._to_evict[eviction.run_id]
        self._verdicts.confirm(tentative.rendered)
        self._backlog.flipped.clear()

    def verdict(self, workload_id: int) -> Decision | None:
        """Why a workload waits, as of what is confirmed; None where it does not wait."""
        self._set_aside()
        return self._verdicts.of(workload_id)

    def position(self, workload_id: int) -> tuple[int, int]:
        """The place, from 1, of a workload among all that wait in its tenant in order, and how many those are.

        Raises:
            NotFound: it does not wait.
        """
        self._set_aside()
        pending = self._backlog.pending.get(workload_id)
        if pending is None:
            raise NotFound(f"workload {workload_id} is not pending, so it has no position")
        return self._backlog.position(pending)

    def usage(self) -> Mapping[tuple[str, str, str], int]:
        """What open runs hold, by (tenant, flavor, resource); zero amounts are left out."""
        return dict(self._runs.held)

    # Events.

    def _open(self, run: Run) -> None:
        self._backlog.drop(run.workload.id)
        self._close(run.id)
        if run.closed_at is not None:
            return
        entered = OpenRun(run.id, run, run.opened_at, terms_of(self._configuration, run.workload), run.evict_at)
        self._runs.enter(entered, self._nodes)
        self._backlog.usage_moved(run.tenant)
        self._consider_draining(entered)

    def _close(self, run_id: int) -> None:
        closed = self._runs.close(run_id)
        if closed is None:
            return
        run, cells = closed
        self._to_evict.pop(run_id, None)
        self._backlog.usage_moved(run.tenant)
        self._backlog.freed(cells)
        workload = self._returning.pop(run.workload.id, None)
        if workload is not None:
            self._backlog.put(workload)

    def _configure(self, configuration: Configuration) -> None:
        known, self._configuration = self._configuration, configuration
        if replace(known, revision=configuration.revision) == configuration:
            return
        self._nodes = build_tree(configuration.tenants)
        self._tournament.clear()
        self._runs.rebind(self._nodes)
        self._backlog.configure(configuration, self._nodes)
        self._verdicts.configure(self._nodes)
        self._to_evict.clear()
        for run in self._runs.open.values():
            run.terms = terms_of(configuration, run.workload)
            self._consider_draining(run)

    def _consider_draining(self, run: OpenRun) -> None:
        """Note a run of a tenant or queue that is being drained, unless it was told already."""
        if run.evict_at is not None:
            return
        queue = self._configuration.queues.get((run.workload.namespace, run.workload.queue_name))
        node = self._nodes.get(run.tenant)
        drained = node.draining() if node is not None else None
        if drained is not None:
            self._to_evict[run.run_id] = f"tenant {drained.name} is being drained"
        elif queue is not None and queue.state is ObjectState.DRAIN:
            self._to_evict[run.run_id] = f"queue {queue.namespace}/{queue.name} is being drained"

    # The steps of decide.

    def _drop(self) -> None:
        self._set_aside()
        self._tentative = None

    def _set_aside(self) -> None:
        """Put the state back to what is confirmed; the Plan may still be."""
        if self._tentative is not None and self._tentative.journal.undo():
            self._tentative.contest.undone()

    def _advance(self, now: datetime) -> None:
        if now.tzinfo is None:
            raise ValueError(f"now is {now.isoformat()}: give an aware datetime")
        if self._now is not None and now < self._now:
            raise ValueError(f"now is {now.isoformat()}, before {self._now.isoformat()}: time never goes backward")
        self._now = now
        self._backlog.advance(micros(now))

    def _evictions(self, now: datetime) -> list[Eviction]:
        found: list[Eviction] = []
        for run_id in nsmallest(self._max_admissions, self._to_evict):
            run = self._runs.open[run_id]
            deadline = moment(micros(now) + run.terms.grace_us)
            why = self._to_evict[run_id]
            found.append(Eviction(run_id, run.workload.id, run.attempt, RunOutcome.DRAINED, deadline, why))
        return found

    def _mark_verdicts(self) -> None:
        """Mark those whose figures moved, and those who name the head of a Strict tenant that is no longer it."""
        for name in (*self._runs.moved, *self._backlog.moved):
            if name in self._nodes:
                self._verdicts.figures_moved(name)
        self._runs.moved.clear()
        self._backlog.moved.clear()
        for bucket in self._backlog.woken.values():
            if bucket.standing not in (Standing.WAITING, Standing.BEHIND):
                self._backlog.stale_shapes[(bucket.line.name, bucket.shape)] = None
        self._backlog.woken.clear()
        for line in self._backlog.touched.values():
            head = line.head()
            head_id = head.entries.first[3] if head is not None else None
            if head_id != line.told_head:
                line.told_head = head_id
                self._backlog.stale_shapes.update(((line.name, shape), None) for shape in line.shapes)
        self._backlog.touched.clear()

    def _wake_at(self, now: datetime, later: bool) -> datetime | None:
        alarm = self._backlog.next_alarm()
        wakes = [moment(alarm)] if alarm is not None else []
        if later:
            wakes.append(now + FIGURES_PAUSE)
        return min(wakes, default=None)
