"""The process `aiqueue controller`: reflector, leadership and, while it leads, the three loops.

start -> standby: reflects into memory only, campaigns while the API server can be reached
      -> leader:  registers the cluster, runs the loops of the term
      -> standby again when the term is lost, or was given up since the API server cannot be reached
      -> exit 0 on SIGTERM or SIGINT; with a sentence when it is RefusedToStart; by the watchdog when a thread stands still
"""

from __future__ import annotations

import gc
import os
import random
import secrets
import signal
import socket
import threading
import time

import structlog

from aiqueue.admission import strays
from aiqueue.admission.controller import faults
from aiqueue.admission.controller.claim import Lookout
from aiqueue.admission.controller.health import Health
from aiqueue.admission.controller.leader import Leader
from aiqueue.admission.controller.recollection import Recollection, recollect
from aiqueue.admission.controller.registration import Registration, register
from aiqueue.admission.controller.sight import Sight
from aiqueue.admission.controller.term import Elector, Term
from aiqueue.admission.controller.watchdog import Step, Watchdog, beat
from aiqueue.admission.kube import names
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.errors import KubeError
from aiqueue.admission.kube.reflector import Reflector
from aiqueue.admission.kube.store import JobStore
from aiqueue.admission.notify import Listener
from aiqueue.queue.errors import InvalidInput, LedgerError
from aiqueue.queue.settings import Settings
from aiqueue.queue.store import clusters

_log = structlog.get_logger()
_RETRY_SECONDS = 1.0
_SIGNAL_SECONDS = 0.1
#: A round makes tens of thousands of objects and drops them again, hardly any of which refer to one another in a circle.
_COLLECTIONS = (50_000, 20, 20)


class Controller:
    """One controller process. `run` returns when it was asked to stop."""

    def __init__(self, settings: Settings) -> None:
        url = settings.database_url.get_secret_value()
        if not url:
            raise InvalidInput("AIQUEUE_DATABASE_URL", "", "set it to the ledger, postgresql://user@host:port/database")
        faults.arm(settings.faults)
        self._settings = settings
        self.stop = threading.Event()
        self._holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        threads = settings.act_threads
        self._client = (
            KubeClient.from_kubeconfig(settings.kubeconfig, connections=threads + 8)
            if settings.kubeconfig is not None
            else KubeClient.in_cluster(connections=threads + 8)
        )
        self._client.progress = beat  # a step may ask several times: each has its own time
        self._jobs = JobStore()
        self._reflector = Reflector(self._client, names.QUEUE_LABEL, self._jobs, rng=random.Random())
        self._sight = Sight(self._client, self._jobs.poke)
        self._elector = Elector(url, self._holder, settings.lease_seconds)
        self._registration: Registration | None = None
        self._listener = Listener(url, self._configuration_moved, application_name="aiqueue-controller listen")
        self._watchdog = Watchdog(settings.stuck_seconds, self._lacking)
        self._health = (
            Health(settings.health_address, self.problems, self._watchdog.problems) if settings.health_address else None
        )
        self._leader: Leader | None = None
        self._term: Term | None = None
        self._unregistered: str | None = None  # why a term has not begun to lead yet

    def problems(self) -> list[str]:
        """Why this process is not ready, in sentences. A standby is ready when it could take over."""
        found: list[str] = []
        state = self._reflector.state
        if not self._jobs.synced:
            found.append(f"Jobs have not been listed yet: {state.last_error or 'the first list is under way'}")
        found += self._sight.problems()
        away = self._unfit_to_campaign()
        if away is not None:
            found.append(f"{away}. Until that is mended this controller does not try to lead, and gives up a term that it has")
        if self._elector.last_error:
            found.append(self._elector.last_error)
        if self._unregistered:
            found.append(f"the cluster is not led yet: {self._unregistered}")
        term = self._term
        if term is not None and (over := term.problem()) is not None:
            found.append(over)
        leader = self._leader
        return found + (leader.problems() if leader is not None else [])

    def _unfit_to_begin(self) -> str | None:
        # What surrounds Jobs is listed within moments; who may not see it must not keep the term from others even for so long.
        return self._unfit_to_campaign() or (None if self._sight.synced else "what surrounds Jobs has not been seen yet")

    def _unfit_to_campaign(self) -> str | None:
        return self._away(self._settings.unreachable_seconds / 3)

    def _unfit_to_lead(self) -> str | None:
        return self._away(self._settings.unreachable_seconds)

    def _away(self, seconds: float) -> str | None:
        """A sentence where the API server has not been reached, or has not said what it takes to lead, for so long; None where it has."""
        state = self._reflector.state
        if state.failing_since is None or (away := time.monotonic() - state.failing_since) < seconds:
            return self._sight.missing(seconds)
        return f"the API server has not been reached for {away:.0f} s ({state.last_error})"

    def _lacking(self) -> str | None:
        """A sentence where a part without which this process is of no use has ended by itself; None where all are there."""
        state = self._reflector.state
        return None if state.running or self.stop.is_set() else state.last_error or "the reflector has ended"

    def run(self) -> None:
        """Stand by, lead, stand by again, until asked to stop.

        Raises:
            RefusedToStart: leading would endanger running work.
        """
        self._reflector.start()
        self._sight.start()
        self._listener.start()
        self._watchdog.start()
        if self._health is not None:
            self._health.start()
        try:
            while not self.stop.is_set():
                term = self._elector.campaign(self.stop, self._unfit_to_begin)
                if term is None:
                    break
                _log.info("leading", term=term.number, holder=self._holder)
                self._term = term
                term.start_renewing(self._unfit_to_lead)
                try:
                    self._lead(term)
                finally:
                    self._leader = None
                    self._term = None
                    self._unregistered = None
                    term.close()
                    _log.info("leading no more", term=term.number)
        finally:
            self.stop.set()
            if self._health is not None:
                self._health.stop()
            self._listener.stop()
            self._reflector.stop()
            self._sight.stop()
            self._elector.close()
            self._watchdog.stop()

    def _lead(self, term: Term) -> None:
        """Wait for a complete view of the cluster, check that it belongs to this ledger, and run the loops."""
        recollection = self._recollect(term) if not self._jobs.synced else None
        while not (self._jobs.synced and self._sight.synced):
            if self.stop.wait(0.02) or term.lost.is_set():
                return
        registration = self._register(term)
        if registration is None:
            return
        self._registration = registration
        cluster = registration.cluster.name
        lookout = Lookout(self._client, registration.ledger_uid, cluster, term.lost)
        lookout.start()
        self._leader = Leader(
            term,
            self._client,
            self._jobs,
            self._settings,
            registration,
            recollection=recollection,
            surroundings=self._sight.surroundings,
        )
        recollection = None  # the leader lets go of it
        self._leader.run(self.stop)
        if lookout.refusal is not None:
            raise lookout.refusal

    def _register(self, term: Term) -> Registration | None:
        """Register the cluster; None if the term ended before that was done."""
        while not self.stop.is_set() and not term.lost.is_set():
            try:
                with Step("registers the cluster"):
                    faults.reach("lead.before-register")
                    found = register(term, self._client, self._jobs.snapshot(), self._settings.cluster_name)
                    faults.reach("lead.after-register")
            except (KubeError, LedgerError) as error:
                self._unregistered = str(error)
                _log.warning("cluster not registered yet", why=str(error))
                self.stop.wait(_RETRY_SECONDS)
            else:
                self._unregistered = None
                return found
        return None

    def _recollect(self, term: Term) -> Recollection | None:
        """Read the ledger while Jobs are listed; None where that is left to the leader."""
        try:
            with term.transaction() as connection:
                cluster = clusters.find(connection, self._settings.cluster_name)
            if cluster is None:
                return None
            return recollect(term, cluster.id, max_admissions=self._settings.max_admissions_per_plan)
        except LedgerError as error:
            _log.warning("ledger not read yet", why=str(error))
            return None

    def ask_to_stop(self) -> None:
        """Let `run` return soon."""
        self.stop.set()
        self._jobs.poke()

    def _configuration_moved(self) -> None:
        registration = self._registration
        if registration is not None:
            registration.configuration_moved.set()
        self._jobs.poke()


def main(settings: Settings) -> None:
    """Run a controller until SIGTERM or SIGINT.

    Raises:
        AiqueueError: the controller could not start or go on.
    """
    strays.gather()
    gc.set_threshold(*_COLLECTIONS)
    controller = Controller(settings)
    asked: list[int] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            controller.run()
        except BaseException as error:  # noqa: BLE001 -- handed to the main thread
            failures.append(error)

    # A signal handler may not touch a lock that the interrupted thread holds: it only leaves word.
    signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    signal.signal(signal.SIGINT, lambda number, _frame: asked.append(number))
    worker = threading.Thread(target=run, name="controller")
    worker.start()
    while worker.is_alive():
        worker.join(timeout=_SIGNAL_SECONDS)
        if asked and not controller.stop.is_set():
            controller.ask_to_stop()
    if failures:
        raise failures[0]
