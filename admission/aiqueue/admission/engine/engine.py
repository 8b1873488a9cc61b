"""The engine: events in, a Plan out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from aiqueue.admission.engine.backlog import Backlog
from aiqueue.admission.engine.candidates import Candidates
from aiqueue.admission.engine.claims import Claims, hold
from aiqueue.admission.engine.contest import Contest
from aiqueue.admission.engine.draft import Draft
from aiqueue.admission.engine.endings import Endings, drained_by, over_its_time
from aiqueue.admission.engine.events import (
    ClaimHeld,
    ConfigurationChanged,
    Event,
    RunClosed,
    RunOpened,
    RunStanding,
    UsageMoved,
    WorkloadGone,
    WorkloadPending,
)
from aiqueue.admission.engine.exposure import Exposure, exposure_of
from aiqueue.admission.engine.instants import micros, moment
from aiqueue.admission.engine.journal import Journal
from aiqueue.admission.engine.plan import Admission, Plan
from aiqueue.admission.engine.preempting import Preempting, refusal_of
from aiqueue.admission.engine.prospects import Prospects, prospects_of_waiting
from aiqueue.admission.engine.resizing import resize
from aiqueue.admission.engine.runs import OpenRun, Runs
from aiqueue.admission.engine.shares import Scales
from aiqueue.admission.engine.terms import terms_of
from aiqueue.admission.engine.tournament import Tournament
from aiqueue.admission.engine.tree import TenantNode, build_tree, ways_up
from aiqueue.admission.engine.verdicts import Rendered, Verdicts
from aiqueue.queue.errors import AiqueueError, NotFound
from aiqueue.queue.records import Claim, Configuration, Decision, Run, Workload
from aiqueue.queue.words import Reason

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
    draft: Draft


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
        self._claims = Claims(self._runs, self._backlog.wake_all)
        self._endings = Endings()
        self._scales = Scales()
        self._tournament = Tournament()
        self._verdicts = Verdicts(self._backlog, self._claims, self._nodes, tells=tells)
        self._returning: dict[int, Workload] = {}  # wait again, but their run has not given its quota back
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
                    self._put(workload)
            case WorkloadGone(workload_id):
                self._returning.pop(workload_id, None)
                self._lapse(workload_id)
                self._backlog.drop(workload_id)
            case RunOpened(run):
                self._open(run)
            case RunClosed(run_id):
                self._close(run_id)
            case RunStanding():
                self._endings.hear(event, self._runs.open)
            case ConfigurationChanged(configuration):
                self._configure(configuration)
            case ClaimHeld(claim):
                self._hold(claim)
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
        now_us = micros(now)
        draft = Draft(self._runs, now_us)
        for bucket in self._backlog.flipped.values():
            draft.journal.do(self._backlog.open_since, self._backlog.not_open, bucket, now_us)
        cut = self._end(draft)  # 2
        contest = self._contest(draft)
        contest.run()  # 3
        self._verdicts.mark(self._runs.moved)  # 4
        self._runs.moved.clear()
        rendered = self._verdicts.render(self._max_decisions)
        cut = cut or contest.cut or rendered.more or self._unsettled(draft)
        settled = {claim.workload_id for claim in draft.claims} | {each.workload.id for each in draft.admissions}
        plan = Plan(
            now,
            self._configuration.revision,
            tuple(draft.admissions),
            tuple(draft.evictions),
            tuple(draft.claims),
            tuple(sorted({*self._claims.lapsed, *draft.withdrawn} - settled)),
            rendered.decisions,
            rendered.withdrawn_shapes,
            rendered.withdrawn_workloads,
            now if cut else self._wake_at(now, rendered.later, draft.admissions),  # 5
        )
        journal = draft.journal
        if plan.empty or not (draft.decided or self._backlog.flipped):
            # Whoever was parked is parked on facts, and an empty Plan may never be confirmed: keep what was learned.
            journal = Journal()
            self._backlog.flipped.clear()
            self._verdicts.unchanged(rendered)
        self._tentative = _Tentative(plan, journal, rendered, contest, draft)
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
        for admission, run_id, placement in zip(plan.admissions, run_ids, tentative.draft.placements, strict=True):
            workload = admission.workload
            run = OpenRun(run_id, admission, opened_at or plan.now, terms_of(self._configuration, workload))
            self._runs.keep(run, placement.takes)
            self._watch(run)
            self._backlog.admitted(workload.id)
        for eviction in plan.evictions:
            self._endings.forget(eviction.run_id)
        for root in tentative.draft.roots.values():
            self._backlog.stir(root)
        self._claims.lapsed.clear()
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

    def claims(self) -> Mapping[int, Claim]:
        """The claims that stand, as confirmed, by workload."""
        self._set_aside()
        return {workload_id: held.claim for workload_id, held in self._claims.of_workload.items()}

    def exposure(self, workload_id: int) -> Exposure:
        """Who could have a running workload put out, and from when, as of the last decide.

        Raises:
            NotFound: it has no open run, or nothing was decided yet.
        """
        self._set_aside()
        run_id = self._runs.of_workload.get(workload_id)
        if run_id is None or self._now is None:
            raise NotFound(f"workload {workload_id} has no open run, so nobody can have it put out")
        return exposure_of(self._runs.open[run_id], self._nodes, self._now)

    def prospects(self, workload_id: int) -> Prospects | None:
        """What keeps a workload that waits for quota from having others put out, as of the last decide; None for all others."""
        verdict, pending = self.verdict(workload_id), self._backlog.pending.get(workload_id)
        if verdict is None or pending is None or self._now is None:
            return None
        return prospects_of_waiting(pending, verdict, self._runs.open.values(), self._nodes, self._now)

    # Events.

    def _put(self, workload: Workload) -> None:
        """Enter a pending workload. Its claim stands as long as it asks for the same and may be admitted."""
        held = self._claims.of_workload.get(workload.id)
        self._backlog.put(workload)
        if held is None:
            return
        own = self._backlog.pending[workload.id].own
        before = held.workload
        same = (before.queue_name, before.class_name, before.shape) == (
            workload.queue_name,
            workload.class_name,
            workload.shape,
        )
        if not same or own is None or own[0] is not Reason.WAITING_FOR_VICTIMS:
            self._lapse(workload.id)
        held.workload = workload

    def _hold(self, claim: Claim) -> None:
        """Let a claim of the ledger stand, where it means anything."""
        self._lapse(claim.workload_id)
        pending, node = self._backlog.pending.get(claim.workload_id), self._nodes.get(claim.tenant)
        if pending is None or pending.barred(claim.claimed_at) or node is None or pending.bucket.route.node is not node:
            self._claims.lapsed[claim.workload_id] = None
            return
        self._claims.lapsed.pop(claim.workload_id, None)
        held = hold(claim, pending.workload, node)
        self._claims.make(held)
        self._backlog.claims_room(claim.workload_id, refusal_of(held, self._claims))

    def _lapse(self, workload_id: int) -> None:
        """End the claim of a workload, if it has one."""
        held = self._claims.lapse(workload_id)
        if held is not None:
            self._backlog.claims_room(workload_id, None)
            self._backlog.freed(ways_up(cell for cell, _ in held.takes))
            self._backlog.usage_moved(held.node.name)

    def _open(self, run: Run) -> None:
        self._lapse(run.workload.id)
        self._backlog.drop(run.workload.id)
        known = self._runs.open.get(run.id)
        if known is not None and run.closed_at is None and known.tenant == run.tenant:
            if known.allocations != run.allocations:
                resize(known, run.allocations, self._claims, self._backlog)
            known.workload = run.workload  # what its owner says of it is another
            self._runs.tell(known, run.evict_at)
            self._runs.put_under(known, terms_of(self._configuration, run.workload))
            known.stand(run)
            self._watch(known)
            return
        self._close(run.id)
        if run.closed_at is not None:
            return
        entered = OpenRun(run.id, run, run.opened_at, terms_of(self._configuration, run.workload), run.evict_at)
        self._runs.enter(entered, self._nodes)
        self._watch(entered)
        self._backlog.usage_moved(run.tenant)

    def _watch(self, run: OpenRun) -> None:
        now_us = micros(self._now) if self._now is not None else None
        self._endings.watch(run, self._configuration, self._nodes, now_us)

    def _close(self, run_id: int) -> None:
        closed = self._runs.close(run_id)
        if closed is None:
            return
        run, cells = closed
        self._endings.forget(run_id)
        held = self._claims.closed(run)
        if held is not None:
            self._backlog.claims_room(held.workload.id, refusal_of(held, self._claims))
        self._backlog.usage_moved(run.tenant)
        self._backlog.freed(cells)
        workload = self._returning.pop(run.workload.id, None)
        if workload is not None:
            self._put(workload)

    def _configure(self, configuration: Configuration) -> None:
        known, self._configuration = self._configuration, configuration
        if replace(known, revision=configuration.revision) == configuration:
            return
        self._nodes = build_tree(configuration.tenants)
        self._scales = Scales()
        self._tournament.clear()
        self._runs.rebind(self._nodes)
        self._backlog.configure(configuration, self._nodes)
        for workload_id in self._claims.rebind(self._nodes, lambda each: self._backlog.pending[each].bucket.route):
            self._backlog.claims_room(workload_id, None)
        self._verdicts.configure(self._nodes)
        for run in self._runs.open.values():
            self._runs.put_under(run, terms_of(configuration, run.workload))
            self._watch(run)

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
        for root in self._endings.released(micros(now)):
            self._backlog.stir(self._nodes[root])

    def _end(self, draft: Draft) -> bool:
        """Tell those to end who are to end whatever others want; answers whether more are left."""
        for eviction in self._endings.due(draft.now_us, self._runs.open):
            if len(draft.evictions) == self._max_admissions:
                return True
            draft.evict(eviction)
            node = self._nodes.get(self._runs.open[eviction.run_id].tenant)
            if node is not None:  # its room may be claimed now
                draft.roots[node.root.name] = node.root
                self._backlog.stir(node.root)
        return False

    def _unsettled(self, draft: Draft) -> bool:
        """Whether somebody waits who might have put out what is admitted, or told to end, by this Plan, once it is confirmed."""
        return draft.decided and any(map(self._backlog.waits.get, draft.roots))

    def _contest(self, draft: Draft) -> Contest:
        candidates = Candidates(self._runs, self._nodes, draft.now_us)
        preempting = Preempting(self._backlog, self._claims, self._scales, draft, candidates=candidates, returns=self._returns)
        return Contest(
            self._backlog,
            self._tournament,
            preempting,
            draft,
            max_admissions=self._max_admissions,
            max_trials=self._max_trials,
        )

    def _returns(self, run: OpenRun) -> bool:
        """Whether a run that leaves was neither drained nor is over its time."""
        return not over_its_time(run) and drained_by(run, self._configuration, self._nodes.get(run.tenant)) is None

    def _wake_at(self, now: datetime, later: bool, admissions: Sequence[Admission]) -> datetime | None:
        alarm = self._backlog.next_alarm()
        opening = (terms_of(self._configuration, each.workload) for each in admissions)
        wakes = [moment(each) for each in self._endings.alarms(micros(now), self._backlog.waits, opening)]
        if alarm is not None:
            wakes.append(moment(alarm))
        if later:
            wakes.append(now + FIGURES_PAUSE)
        return min(wakes, default=None)
