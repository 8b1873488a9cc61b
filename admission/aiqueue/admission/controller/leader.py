"""The three loops of one term, in numbered steps.

    0 rebuild    ledger -> mirror, engine, actor            (at the start of a term, and on any doubt)
    1 listen     what the reflector, the workers and the administrator have for us
    2 observe    ledger <- what was seen and reported       (observing)
    3 configure  ledger -> engine, if the revision moved
    4 decide     engine -> Plan -> ledger -> actor          (bounded Plans until nothing is left to decide)
    5 keep house usage check (what is held, and the decayed usage of queues), archive

Only this thread writes to the ledger. Any error that leaves a doubt about what the ledger holds throws the engine away and
rebuilds it; TermLost ends the term.
"""

from __future__ import annotations

import random
import threading
import time
from functools import partial

import structlog

from aiqueue.admission.backoff import Backoff
from aiqueue.admission.controller import commit, faults, news
from aiqueue.admission.controller.actor import Actor
from aiqueue.admission.controller.arrears import Arrears
from aiqueue.admission.controller.confirm import Confirmer
from aiqueue.admission.controller.facts import Fact, Inbox
from aiqueue.admission.controller.follow import Context
from aiqueue.admission.controller.hands import JobHands
from aiqueue.admission.controller.lane import Lane
from aiqueue.admission.controller.observing import Observing, latest
from aiqueue.admission.controller.pace import Pace
from aiqueue.admission.controller.recollection import READ_SECONDS, Recollection, recollect
from aiqueue.admission.controller.registration import Registration
from aiqueue.admission.controller.sight import concerned
from aiqueue.admission.controller.standing import standings
from aiqueue.admission.controller.term import Term
from aiqueue.admission.controller.unknown import UnknownJobs
from aiqueue.admission.controller.watchdog import Step
from aiqueue.admission.engine.adoption import assign_for_adoption
from aiqueue.admission.engine.engine import Engine
from aiqueue.admission.engine.events import ConfigurationChanged
from aiqueue.admission.engine.plan import Plan
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.events import Events
from aiqueue.admission.kube.jobs import observe
from aiqueue.admission.kube.store import JobStore
from aiqueue.admission.kube.surroundings import Surroundings
from aiqueue.queue.database import allow_seconds
from aiqueue.queue.errors import AiqueueError, ConfigurationMoved, LedgerConflict, TermLost
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import Configuration
from aiqueue.queue.settings import Settings
from aiqueue.queue.store import actions, configuration, housekeeping, plans, usage
from aiqueue.queue.store.actions import Action
from aiqueue.queue.words import ActionKind

_log = structlog.get_logger()
_ASK_SECONDS = 1.0  # how often the configuration revision is asked for without a notification
_PLANS_A_ROUND = 20
#: The more a round has to follow, the longer the next one gathers: a transaction costs about as much for fifty Jobs as for one.
_GATHER_SECONDS, _GATHER_MOST_SECONDS = 0.005, 0.1
_REBUILD_MOST_SECONDS = 10.0
_ARCHIVE_MOST_SECONDS = 10.0  # between two looks for what is to be archived


class Leader:
    """What a controller does while it holds a term."""

    def __init__(
        self,
        term: Term,
        client: KubeClient,
        jobs: JobStore,
        settings: Settings,
        registration: Registration,
        *,
        recollection: Recollection | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Prepare to lead; nothing is begun.

        Args:
            term: to lead in.
            client: of the cluster.
            jobs: all there are, kept up by a reflector.
            settings: of the process.
            registration: of the cluster.
            recollection: what this term has read of the ledger already; read anew if it is not given, or not to be relied on.
            surroundings: what is added to pods there; without them a Job counts as its template says.
        """
        self.term = term
        self.client = client
        self.jobs = jobs
        self.settings = settings
        self.registration = registration
        self.problem: str | None = "the engine is being built"
        self.rebuilds = 0
        self.usage_differences = 0
        self.usage_repairs = 0
        self._seq = 0
        self._inbox = Inbox()
        self._inbox.wake = jobs.poke
        self._unwritten: list[Fact] = []
        self._recollection = recollection
        self._arrears = Arrears(jobs)
        self._unknown = UnknownJobs(settings.unknown_jobs_per_minute)
        self._foreign: dict[str, str] = {}
        self._events = Events.of(client)
        self._surroundings = surroundings
        self._see = partial(observe, cluster=registration.cluster.name, surroundings=surroundings)
        self._hands = JobHands(client, term, self._see, jobs.get, self._events.tell)
        self._actor = Actor(
            self._hands,
            self._inbox,
            threads=settings.act_threads,
            trusted=term.trusted,
            now=term.clock.now,
            resting=client.resting,
        )
        self._lane = Lane(self._actor, client, self._hands.opening, settings.start_connections)
        self._events.busy = lambda: self._actor.starts > settings.start_connections
        self._confirmer = Confirmer(self._inbox, resting=client.reading.seconds)
        self._configuration = Configuration(revision=-1)
        self._engine = Engine(max_admissions=settings.max_admissions_per_plan)
        self._replace_decisions = True
        self._wake_in = self._round_at = 0.0
        self._asked_at = self._usage_at = time.monotonic()
        self._archiving = Pace(pause_seconds=min(_ARCHIVE_MOST_SECONDS, max(1.0, settings.archive_after_seconds)))

    def run(self, stop: threading.Event) -> None:
        """Lead until the term is lost or `stop` is set.

        Raises:
            AiqueueError: of a kind that rebuilding cannot mend.
        """
        self._actor.start()
        self._lane.start()
        self._confirmer.start()
        self._events.start()
        backoff = Backoff(random.Random(), longest_seconds=_REBUILD_MOST_SECONDS)
        try:
            while not stop.is_set() and not self.term.lost.is_set():
                try:
                    with Step("rebuilds the engine"):
                        observing = self._rebuild(again=backoff.failures > 0)
                    while not stop.is_set() and not self.term.lost.is_set():
                        with Step("goes round the loops"):
                            self._round(observing)
                        backoff.reset()
                except TermLost as error:
                    _log.warning("term lost", term=self.term.number, why=str(error))
                    return
                except AiqueueError as error:
                    self.problem = f"the engine is rebuilt: {error}"
                    pause = backoff.failed()
                    _log.warning("engine thrown away", why=str(error), failures=backoff.failures)
                    stop.wait(pause)
        finally:
            self._lane.stop()
            self._actor.stop()
            self._hands.close()
            self._confirmer.stop()
            self._events.stop()

    def problems(self) -> list[str]:
        """Why this leader is not ready, in sentences."""
        found = [*([self.problem] if self.problem else []), *self.client.problems()]
        if self._unknown.too_many:
            found.append(self._unknown.sentence())
        if self._foreign:
            some = ", ".join(sorted(self._foreign.values())[:5])
            found.append(f"{len(self._foreign)} running Jobs carry another ledger's run annotation and are left alone: {some}")
        return found

    def _latest(self, uid: str) -> Observation | None:
        return latest(self.jobs, uid, self._see)

    # 0

    def _rebuild(self, *, again: bool) -> Observing:
        faults.reach("rebuild.before")
        if again:
            # Whatever an old session may still be committing is ended first; then the ledger's word is final.
            self.term.forget_sessions()
            self.rebuilds += 1
            if self._seq:
                with self.term.transaction() as connection:
                    found = plans.was_committed(connection, self.term.number, self._seq)
                _log.info("last Plan after a doubt", seq=self._seq, committed=found)
        cluster = self.registration.cluster
        held, self._recollection = self._recollection, None
        if self._repair_usage() or held is None or held.cluster_id != cluster.id:
            held = recollect(self.term, cluster.id, max_admissions=self.settings.max_admissions_per_plan)
        faults.reach("rebuild.after")
        self._configuration = held.configuration
        self._engine = held.engine
        self._replace_decisions = True
        context = Context(
            self.registration.ledger_uid,
            cluster,
            self._configuration,
            self._unknown,
            assign_for_adoption,
            self.term.clock.now(),
            surroundings=self._surroundings,
        )
        observing = Observing(
            self.term,
            self.client,
            self.jobs,
            held.mirror,
            self._engine,
            self._actor,
            self._confirmer,
            context,
            self._foreign,
            self._events.tell,
        )
        observing.usages.known = dict(held.usages)
        self._actor.submit(held.undone)
        self.jobs.reset_drain()
        took = {"read_seconds": round(held.read_seconds, 3), "build_seconds": round(held.build_seconds, 3)}
        _log.info("engine built", term=self.term.number, **held.counts, **took)
        return observing

    def _repair_usage(self) -> int:
        """A controller of an older version, or a person with SQL, moves runs without counting what their queues use."""
        with Step("counts usage again", READ_SECONDS), self.term.transaction() as connection:
            allow_seconds(connection, READ_SECONDS)
            repaired = usage.repair(connection, self.term.number) if usage.differing(connection) else 0
        if repaired:
            self.usage_repairs += repaired
            _log.warning("decayed usage was not what runs tell: counted again", queues_and_resources=repaired)
        return repaired

    def _round(self, observing: Observing) -> None:
        # 1
        self.term.lost.wait(min(self._wake_in, max(0.0, self._round_at - time.monotonic())))
        changes = self.jobs.drain(self._wake_in)
        self._round_at = time.monotonic()
        self._unwritten += self._inbox.drain()
        faults.reach("observe.drained")
        self._round_at += min(_GATHER_MOST_SECONDS, _GATHER_SECONDS * (len(changes.upserts) + len(self._unwritten)))
        # 2
        observing.hear(self._unwritten)
        observing.ended(changes.absent)
        told = self._arrears.urgent(changes.upserts, observing.mirror.known) if changes.replaced else changes.upserts
        observing.look(map(self._see, told))
        if self._surroundings is not None:
            observing.look(map(self._see, concerned(self._surroundings, self.jobs, observing.mirror.known)))
        observing.absent([job.metadata.uid for job in changes.absent])
        if changes.replaced:  # all there is was told: whatever else is needed may be gone
            observing.miss(row for row in observing.mirror.needed() if self.jobs.get(row.uid) is None)
        observing.flush()
        self._unwritten = []
        self._actor.pause(self._unknown.too_many)
        # 3
        self._configure(observing)
        # 4
        plan = self._decide(observing)
        # 5
        self._keep_house(observing)
        self.problem = None
        observing.look(map(self._see, self._arrears.some()))
        now = self.term.clock.now()
        wake = (plan.wake_at - now).total_seconds() if plan.wake_at is not None else _ASK_SECONDS
        self._wake_in = min(max(wake, 0.0), _ASK_SECONDS) if not self._arrears else 0.0

    # 3

    def _configure(self, observing: Observing) -> None:
        if time.monotonic() - self._asked_at < _ASK_SECONDS and not self.registration.configuration_moved.is_set():
            return
        self.registration.configuration_moved.clear()
        self._asked_at = time.monotonic()
        with self.term.transaction() as connection:
            if configuration.revision(connection) == self._configuration.revision:
                return
        self._reload(observing)

    def _reload(self, observing: Observing) -> None:
        faults.reach("configure.before")
        with self.term.transaction() as connection:
            self._configuration = configuration.load(connection)
            usages = usage.load(connection)
        observing.context.configuration = self._configuration
        self._engine.observe(ConfigurationChanged(self._configuration))
        observing.usages.whole(usages)
        # Jobs that run without a run may have got a queue, and with it a tenant to be adopted by.
        running = [row.uid for row in observing.mirror.needed() if row.run is None and not row.status[0]]
        observing.look(seen for seen in map(self._latest, running) if seen is not None)
        faults.reach("configure.after")
        _log.info("configuration", revision=self._configuration.revision)

    # 4

    def _decide(self, observing: Observing) -> Plan:
        for _ in range(_PLANS_A_ROUND):
            plan = self._engine.decide(self.term.clock.now())
            if plan.empty and not self._replace_decisions:
                break
            self._seq += 1
            standing = standings(plan, self.jobs, self.term, self.registration.cluster.id)
            rows = commit.rows_of(
                plan, self._seq, self._configuration, observing.mirror.resource_version, standing, why=observing.why
            )
            if not plan.empty:
                faults.reach("commit.before")
            try:
                with self.term.transaction() as connection:
                    committed = plans.commit(
                        connection,
                        self.term.number,
                        self.registration.cluster.id,
                        rows,
                        replace_decisions=self._replace_decisions,
                    )
                    if not plan.empty:
                        faults.reach("commit.in")
            except ConfigurationMoved:
                self._reload(observing)
                continue
            if not plan.empty:
                faults.reach("commit.after")
            self._replace_decisions = False
            self._engine.confirm(plan, committed.run_ids, committed.now)
            observing.usages.moved(committed.usages)
            if not plan.empty:
                faults.reach("commit.confirmed")
            self._tell(observing, plan, rows, committed)
        return plan

    def _tell(self, observing: Observing, plan: Plan, rows: plans.PlanRows, committed: plans.Committed) -> None:
        """Mirror and actor learn what was committed."""
        todo: list[Action] = []
        ledger = self.registration.ledger_uid
        for admission, row, run_id, action_id in zip(
            plan.admissions, rows.admissions, committed.run_ids, committed.unsuspend_ids, strict=True
        ):
            workload = admission.workload
            observing.mirror.admitted(workload.uid, run_id, admission.attempt)
            self._events.tell(news.of_admission(admission))
            todo.append(
                Action(
                    id=action_id,
                    workload_id=workload.id,
                    uid=workload.uid,
                    namespace=workload.namespace,
                    name=workload.name,
                    queue_name=workload.queue_name,
                    run_id=run_id,
                    attempt=admission.attempt,
                    kind=ActionKind.UNSUSPEND,
                    resource_version=row.resource_version,
                    shape=workload.shape,
                    stamp=RunStamp(ledger, run_id, admission.attempt),
                    original=dict(row.original),
                    injected=dict(row.injected),
                )
            )
        if plan.evictions:
            mirror = observing.mirror
            for eviction in rows.evictions:
                uid = mirror.uid_of(eviction.workload_id)
                mirror.evicting(uid, eviction.outcome, eviction.evict_at, eviction.message)
            with self.term.transaction() as connection:
                todo += actions.load_open(connection, self.registration.cluster.id, list(committed.eviction_action_ids))
        self._actor.submit(todo)

    # 5

    def _keep_house(self, observing: Observing) -> None:
        now = time.monotonic()
        if now - self._usage_at >= self.settings.usage_check_seconds:
            self._usage_at = now
            with self.term.transaction() as connection:
                truth = housekeeping.usage(connection)
                usages = usage.load(connection)
                differing = usage.differing(connection)
            if truth != dict(self._engine.usage()) or differing or not observing.usages.agrees(usages):
                self.usage_differences += 1
                raise LedgerConflict("the engine's usage differs from the ledger's")
        if self._archiving.due(now):
            began, most = time.monotonic(), self._archiving.amount
            faults.reach("archive.before")
            with self.term.transaction() as connection:
                moved = housekeeping.archive(connection, self.term.number, self.settings.archive_after_seconds, most)
                told = housekeeping.tell_tenants(connection, self.term.number, most - len(moved)) if len(moved) < most else 0
                housekeeping.forget_plans(connection, self.term.number)
                faults.reach("archive.in")
            faults.reach("archive.after")
            self._archiving.done(began, time.monotonic(), len(moved) + told)
            observing.mirror.forget(moved)
