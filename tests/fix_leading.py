"""The cycle of a leader without a cluster: Jobs as the test says they are, the real observe step, the real engine, a real ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from aiqueue.admission.controller import commit
from aiqueue.admission.controller.facts import JobGone, PodsGone
from aiqueue.admission.controller.rewriting import Standing
from aiqueue.admission.controller.term import Term
from aiqueue.admission.controller.usages import ToldUsages
from aiqueue.admission.engine.engine import Engine as Deciding
from aiqueue.admission.engine.events import ConfigurationChanged
from aiqueue.admission.engine.plan import Plan
from aiqueue.admission.retelling import Retelling
from aiqueue.queue import documents
from aiqueue.queue.database import transaction
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import Claim, Configuration, Decision, PodSet
from aiqueue.queue.store import configuration, housekeeping, plans, usage, work
from aiqueue.queue.words import WorkloadState
from fix_follow import GPU, make_seen
from fix_terms import Observer

MOST_PLANS = 20


@dataclass
class Leading:
    """See the module. Jobs are named by the test; `jobs` are those that exist, as they stand.

    Attributes:
        ahead: how far the test's time is ahead of the ledger's clock.
    """

    owner: Engine
    term: Term
    observer: Observer
    ahead: timedelta = timedelta()
    jobs: dict[str, Observation] = field(default_factory=dict)
    seq: int = 0
    new_engine: bool = True

    @property
    def engine(self) -> Deciding:
        return self.observer.step.engine

    def configure(self, *texts: str) -> None:
        """Apply documents, and have the engine hear of it."""
        with transaction(self.owner) as connection:
            configuration.apply(
                connection, documents.read_documents("\n---\n".join(texts), "test"), claimed_by="test", allow_drain=True
            )
        with self.term.transaction() as connection:
            administered = configuration.load(connection)
        self.observer.step.context.configuration = administered
        self.engine.observe(ConfigurationChanged(administered))

    @property
    def configuration(self) -> Configuration:
        """As the cycle knows it."""
        return self.observer.step.context.configuration

    # Jobs.

    def submit(self, name: str, queue: str, gpus: int, class_name: str | None = None, **changes: Any) -> None:
        """A new Job of one pod for each GPU, created just now: nobody waits for so long that others have to stand back."""
        pod_sets = (PodSet("main", gpus, {GPU: 1}),)
        created_at = self.term.clock.now().replace(microsecond=0)
        identity = {"uid": f"uid-{name}", "name": name, "created_at": created_at}
        self._look(name, make_seen(pod_sets, queue_name=queue, class_name=class_name, **identity, **changes))

    def change(self, name: str, **changes: Any) -> None:
        """The Job is seen otherwise than before."""
        self._look(name, replace(self.jobs[name], **changes))

    def suspend(self, name: str) -> None:
        """The Job of an evicted run comes to rest; its pods are still there."""
        self.change(name, suspended=True, active=0)

    def vacate(self, name: str) -> None:
        """The pods of a suspended Job are gone, and its template is as it was."""
        run = self.observer.step.mirror.known[f"uid-{name}"].run
        assert run is not None
        self.observer.step.hear([PodsGone(f"uid-{name}", run.id)])
        self.change(name, stamp=None)

    def finish(self, name: str) -> None:
        """The Job completes by itself."""
        gone = self.jobs.pop(name)
        self.observer.step.look([replace(gone, active=0, finished=WorkloadState.FINISHED)])

    def delete(self, name: str) -> None:
        """The Job is deleted, and so are its pods."""
        self.jobs.pop(name)
        run = self.observer.step.mirror.known[f"uid-{name}"].run
        self.observer.step.hear([JobGone(f"uid-{name}")])
        if run is not None:
            self.observer.step.hear([PodsGone(f"uid-{name}", run.id)])

    def _look(self, name: str, seen: Observation) -> None:
        self.jobs[name] = seen
        self.observer.step.look([seen])

    # Plans.

    def plan(self) -> Plan:
        """What is decided now; nothing comes of it."""
        return self.engine.decide(self.term.clock.now() + self.ahead)

    def round(self) -> list[Plan]:
        """Decide and commit until nothing is left to decide; Jobs of the admitted run. Answers the Plans."""
        made: list[Plan] = []
        for _ in range(MOST_PLANS):
            plan = self.plan()
            if plan.empty:
                return made
            made.append(plan)
            self.commit(plan)
        raise AssertionError(f"{MOST_PLANS} Plans and more to come: {made[-1]}")

    def commit(self, plan: Plan) -> None:
        """Commit a Plan as a leader does, and tell whom it tells."""
        self.seq += 1
        mirror = self.observer.step.mirror
        rows = commit.rows_of(plan, self.seq, self.configuration, mirror.resource_version, lambda _: Standing())
        with self.term.transaction() as connection:
            done = plans.commit(connection, self.term.number, 1, rows, replace_decisions=self.new_engine)
        self.new_engine = False
        self.engine.confirm(plan, done.run_ids, done.now)
        self.observer.step.usages.moved(done.usages)
        for admission, run_id in zip(plan.admissions, done.run_ids, strict=True):
            mirror.admitted(admission.workload.uid, run_id, admission.attempt)
        for eviction in plan.evictions:
            mirror.evicting(mirror.uid_of(eviction.workload_id), eviction.outcome, eviction.evict_at, eviction.message)
        ledger = self.observer.step.context.ledger_uid
        for admission, run_id in zip(plan.admissions, done.run_ids, strict=True):
            stamp = RunStamp(ledger, run_id, admission.attempt)
            pods = sum(admission.counts.values())
            self.change(admission.workload.name, stamp=stamp, suspended=False, active=pods, ready=pods)

    def claims(self) -> dict[str, Claim]:
        """Claims in the ledger, by the name of the Job."""
        with self.term.transaction() as connection:
            names = {row.id: row.name for row in self.observer.step.mirror.known.values()}
            return {names[claim.workload_id]: claim for claim in work.load_claims(connection)}

    def id_of(self, name: str) -> int:
        """The workload of a Job."""
        return self.observer.step.mirror.known[f"uid-{name}"].id

    def run_of(self, name: str) -> int:
        """The open run of a Job."""
        run = self.observer.step.mirror.known[f"uid-{name}"].run
        assert run is not None
        return run.id

    def do(self, *statements: str) -> None:
        """Change the ledger behind everybody's back."""
        with transaction(self.owner) as connection:
            for statement in statements:
                connection.execute(text(statement))

    def rows(self, statement: str, **values: Any) -> list[Mapping[str, Any]]:
        """Read the ledger."""
        with transaction(self.owner) as connection:
            return [dict(row) for row in connection.execute(text(statement), values).mappings()]

    # What a successor would make of it.

    def rebuilt(self) -> Deciding:
        """An engine that was told what the ledger holds."""
        with self.term.transaction() as connection:
            held = Retelling.of(connection)
        engine = Deciding()
        for event in held.events():
            engine.observe(event)
        return engine

    def succeed(self) -> None:
        """Throw the engine away and go on with a new one."""
        step = self.observer.step
        step.engine = self.rebuilt()
        with self.term.transaction() as connection:
            step.usages = ToldUsages(step.engine)
            step.usages.known = dict(usage.load(connection))
        self.new_engine = True

    def check_successor(self) -> None:
        """A leader that takes over now knows the same and decides the same, and says the same to whoever waits."""
        successor = self.rebuilt()
        with self.term.transaction() as connection:
            held = {claim.workload_id: claim for claim in work.load_claims(connection)}
            used = housekeeping.usage(connection)
            waiting = [workload.id for workload in work.load_pending(connection)]
        assert self.engine.usage() == successor.usage() == used
        assert dict(self.engine.claims()) == dict(successor.claims()) == held
        now = self.term.clock.now() + self.ahead
        ours, theirs = self.engine.decide(now), successor.decide(now)
        assert _decided(theirs, held) == _decided(ours, held)
        if not ours.admissions and not ours.evictions and not ours.claims:
            assert _verdicts(successor, waiting) == _verdicts(self.engine, waiting)


def _decided(plan: Plan, held: Mapping[int, Claim]) -> Plan:
    """A Plan without what is said of those who wait, all of which a new engine says anew, and without claims that are gone already."""
    withdrawn = tuple(workload_id for workload_id in plan.withdrawn_claims if workload_id in held)
    return replace(plan, withdrawn_claims=withdrawn, decisions=(), withdrawn_shapes=(), withdrawn_workloads=(), wake_at=None)


def _verdicts(engine: Deciding, workload_ids: list[int]) -> dict[int, Decision | None]:
    return {workload_id: engine.verdict(workload_id) for workload_id in workload_ids}


@pytest.fixture
def leading(ledger: Engine, term: Term, observer: Callable[..., Observer]) -> Leading:
    """A leader of a ledger in which nothing was submitted yet."""
    return Leading(ledger, term, observer())
