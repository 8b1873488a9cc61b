"""Runs that are to end whatever others want: drained, over their time or not ready; and those still left alone by all.

A class promises a run `minRuntime`: until its grace would end no sooner than that, nobody may have it put out. When that is over
somebody may, without anything else having happened, so it has to be an alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.events import RunStanding
from aiqueue.admission.engine.instants import SECOND, micros, moment
from aiqueue.admission.engine.ordered import Ordered
from aiqueue.admission.engine.plan import Eviction
from aiqueue.admission.engine.runs import OpenRun
from aiqueue.admission.engine.terms import Terms
from aiqueue.admission.engine.tree import TenantNode
from aiqueue.queue.records import Configuration
from aiqueue.queue.words import ObjectState, RunOutcome

Alarm = tuple[int, int]  # microseconds since 1970, run


class Endings:
    """What is known of the ends of open runs that were not told yet."""

    def __init__(self) -> None:
        self._drained: dict[int, str] = {}  # run -> why it is to be told
        self._limits: Ordered[Alarm] = Ordered()  # when it is to be told that its time is up
        self._limit_of: dict[int, Alarm] = {}
        self._unready: Ordered[Alarm] = Ordered()  # when it has to be ready
        self._unready_of: dict[int, Alarm] = {}
        self._protected: dict[str, Ordered[Alarm]] = {}  # by root: until when others leave it alone
        self._protected_in: dict[int, tuple[str, Alarm]] = {}

    def watch(self, run: OpenRun, configuration: Configuration, nodes: Mapping[str, TenantNode], now_us: int | None) -> None:
        """See to the end of a run, unless it was told already; anew where it is known."""
        self.forget(run.run_id)
        if run.evict_at is not None:
            return
        node = nodes.get(run.tenant)
        drained = drained_by(run, configuration, node)
        if drained is not None:
            self._drained[run.run_id] = drained
        terms = run.terms
        if terms.limit_us is not None:
            told_us = run.opened_us + max(0, terms.limit_us - terms.grace_us)
            alarm = self._limit_of[run.run_id] = (told_us, run.run_id)
            self._limits.add(alarm)
        from_us = run.candidate_from_us()
        if terms.preemptible and node is not None and from_us > (run.opened_us if now_us is None else now_us):
            alarm = (from_us, run.run_id)
            self._protected_in[run.run_id] = (node.root.name, alarm)
            self._protected.setdefault(node.root.name, Ordered()).add(alarm)
        self._stands(run)

    def hear(self, told: RunStanding, runs: Mapping[int, OpenRun]) -> None:
        """Learn how far the gang of a run is."""
        run = runs.get(told.run_id)
        if run is not None:
            run.stand(told)
            self._stands(run)

    def _stands(self, run: OpenRun) -> None:
        """See to it that a run ends whose gang is not ready in time, unless it was told already; anew where it is known."""
        self._stands_no_more(run.run_id)
        ready_by_us = run.ready_by_us() if run.evict_at is None else None
        if ready_by_us is not None:
            alarm = self._unready_of[run.run_id] = (ready_by_us, run.run_id)
            self._unready.add(alarm)

    def _stands_no_more(self, run_id: int) -> None:
        alarm = self._unready_of.pop(run_id, None)
        if alarm is not None:
            self._unready.remove(alarm)

    def forget(self, run_id: int) -> None:
        """It ended, or was told to."""
        self._drained.pop(run_id, None)
        self._stands_no_more(run_id)
        limit = self._limit_of.pop(run_id, None)
        if limit is not None:
            self._limits.remove(limit)
        protected = self._protected_in.pop(run_id, None)
        if protected is not None:
            self._unprotect(*protected)

    def _unprotect(self, root: str, alarm: Alarm) -> None:
        of_root = self._protected[root]
        of_root.remove(alarm)
        if not len(of_root):
            del self._protected[root]

    def due(self, now_us: int, runs: Mapping[int, OpenRun]) -> Iterator[Eviction]:
        """Those to be told now."""
        now = moment(now_us)
        for run_id in sorted(self._drained):
            run = runs[run_id]
            deadline = moment(now_us + run.terms.grace_us)
            yield _eviction(run, RunOutcome.DRAINED, deadline, self._drained[run_id])
        for told_us, run_id in self._limits:
            if told_us > now_us:
                break
            run = runs[run_id]
            if run_id not in self._drained and run.terms.limit_us is not None:
                ends = max(now, moment(run.opened_us + run.terms.limit_us))
                yield _eviction(run, RunOutcome.EXPIRED, ends, reasons.time_is_up(run.terms.limit_us // SECOND))
        for ready_by_us, run_id in self._unready:
            if ready_by_us > now_us:
                break
            if run_id not in self._drained and not self._is_up(run_id, now_us):
                yield _eviction(runs[run_id], RunOutcome.NOT_READY, now, _not_ready(runs[run_id]))

    def _is_up(self, run_id: int, now_us: int) -> bool:
        limit = self._limit_of.get(run_id)
        return limit is not None and limit[0] <= now_us

    def released(self, now_us: int) -> Iterator[str]:
        """Roots of trees with runs that nobody had to leave alone for longer; each once."""
        for root in list(self._protected):
            of_root = self._protected[root]
            if of_root.first[0] <= now_us:
                yield root
            while len(of_root) and of_root.first[0] <= now_us:
                alarm = of_root.first
                del self._protected_in[alarm[1]]
                of_root.remove(alarm)
            if not len(of_root):
                del self._protected[root]

    def alarms(self, now_us: int, waits: Mapping[str, int], opening: Iterable[Terms]) -> Iterable[int]:
        """When something of this will be next: a time is up, or a run is left alone no longer where somebody waits.

        A gang's time to be ready begins when it is told to have started, so those that are to open now have none yet.

        `opening` are the terms of runs that are to open now.
        """
        for terms in opening:
            if terms.limit_us is not None:
                yield now_us + max(0, terms.limit_us - terms.grace_us)
            if terms.min_runtime_us > terms.grace_us and any(waits.values()):
                yield now_us + terms.min_runtime_us - terms.grace_us
        for told_us, _ in self._limits:
            if told_us > now_us:
                yield told_us
                break
        for ready_by_us, _ in self._unready:
            if ready_by_us > now_us:
                yield ready_by_us
                break
        for root, of_root in self._protected.items():
            if waits.get(root):
                yield of_root.first[0]


def _eviction(run: OpenRun, outcome: RunOutcome, evict_at: datetime, message: str) -> Eviction:
    return Eviction(run.run_id, run.workload.id, run.attempt, outcome, evict_at, message)


def _not_ready(run: OpenRun) -> str:
    timeout_us = run.terms.ready_us if run.ready_us is None else run.terms.recovery_us
    return reasons.not_ready(timeout_us // SECOND, again=run.ready_us is not None)


def over_its_time(run: OpenRun) -> bool:
    """Whether a run ends no sooner than its limit lets it."""
    limit_us = run.terms.limit_us
    return limit_us is not None and run.evict_at is not None and micros(run.evict_at) >= run.opened_us + limit_us


def drained_by(run: OpenRun, configuration: Configuration, node: TenantNode | None) -> str | None:
    """Why a run is to end: its tenant, one above, or its queue is being drained."""
    drained = node.draining() if node is not None else None
    if drained is not None:
        return f"tenant {drained.name} is being drained"
    queue = configuration.queues.get((run.workload.namespace, run.workload.queue_name))
    if queue is not None and queue.state is ObjectState.DRAIN:
        return f"queue {queue.namespace}/{queue.name} is being drained"
    return None
