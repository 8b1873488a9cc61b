"""Worlds in which gangs become ready, late or never, and cease to be, laid over those of `fix_engine_contracts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from hypothesis import strategies as st

from aiqueue.admission.engine import Plan
from aiqueue.admission.engine.events import RunStanding
from aiqueue.queue.records import Configuration, Run
from aiqueue.queue.words import RunOutcome, WorkloadState
from fix_engine_contracts import NAMES, noise, seeds
from fix_engine_ledger import Ledger
from fix_engine_rights import class_of
from fix_engine_worlds import History

READY = dict(zip(NAMES, (3, 8, 15, 600), strict=True))
RECOVERY = dict(zip(NAMES, (4, 0, 9, 600), strict=True))
PAUSE_SECONDS = 6


def hurried(configuration: Configuration) -> Configuration:
    """The same with timeouts that are over soon."""
    classes = {
        name: replace(
            cls, ready_timeout_seconds=READY[name], recovery_timeout_seconds=RECOVERY[name], requeue_limit=len(name) % 3
        )
        for name, cls in configuration.classes.items()
    }
    return replace(configuration, classes=classes)


@dataclass
class Gangs(Ledger):
    """A ledger that is told, between any two things that happen, how far some gang is."""

    def configure(self, configuration: Configuration) -> None:
        super().configure(hurried(configuration))

    def stand(self, number: int) -> None:
        """Something happens to the gang of some run."""
        found = sorted(self.runs)
        if not found:
            return
        run, now = self.runs[found[number // 8 % len(found)]], self.time
        if run.started_at is None:
            run = replace(run, started_at=now)
        elif run.ready_at is None:
            run = replace(run, ready_at=now if number % 2 else None)
        elif run.unready_since is None or number % 8 == 0:
            run = replace(run, unready_since=now)
        else:
            run = replace(run, unready_since=None)
        self.runs[run.id] = run
        self.engine.observe(RunStanding(run.id, run.started_at, run.ready_at, run.unready_since))

    def close(self, run_id: int, *, back: bool) -> None:
        """Whoever was not ready waits for a while, as if it had come only now, or is held."""
        notice, number = self.notices.get(run_id), self.runs[run_id].workload.id
        super().close(run_id, back=back)
        workload = self.pending.get(number)
        if not back or workload is None or notice is None or notice.outcome is not RunOutcome.NOT_READY:
            return
        requeues = workload.requeues + 1
        held = requeues > class_of(self.configuration, workload).requeue_limit
        self.seen.add("held" if held else "requeues")
        self.pend(
            replace(
                workload,
                requeues=requeues,
                requeued_at=self.time,
                not_before=None if held else self.time + timedelta(seconds=PAUSE_SECONDS),
                state=WorkloadState.HELD if held else WorkloadState.PENDING,
                held_by_owner=held,
            )
        )

    def decide(self) -> Plan:
        plan = super().decide()
        if any(eviction.outcome is RunOutcome.NOT_READY for eviction in plan.evictions):
            self.seen.add("not ready")
            self.seen |= {"again" for each in plan.evictions if "again" in each.message}
        return plan

    def had(self) -> Mapping[str, bool]:
        return {
            **super().had(),
            **{name.replace(" ", "_"): name in self.seen for name in ("not ready", "again", "requeues", "held")},
        }


def due(configuration: Configuration, run: Run) -> datetime | None:
    """When the gang of a run has to be ready, or ready again; None where nobody waits for it."""
    cls = class_of(configuration, run.workload)
    if run.started_at is not None and run.ready_at is None:
        return run.started_at + timedelta(seconds=cls.ready_timeout_seconds)
    if run.started_at is not None and run.unready_since is not None:
        return run.unready_since + timedelta(seconds=cls.recovery_timeout_seconds)
    return None


def played(history: History, gangs: bytes) -> Gangs:
    """What is left of a history in which gangs were as told by these bytes."""
    first, ops = history
    ledger = Gangs(hurried(first))
    data = noise(gangs, 4 * len(ops))
    for index, op in enumerate(ops):
        ledger.play(op)
        for number in data[4 * index : 4 * index + 4]:
            ledger.stand(number)
    return ledger


def gangs() -> st.SearchStrategy[bytes]:
    """What to make gangs of."""
    return seeds()
