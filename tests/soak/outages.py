"""Servers that are away as a whole for some seconds: Postgres crashes or is restarted, the API server is restarted or stands still.

They are slow to break and to recover from, so each kind has its turn before any has a second one, with a pause of most of a minute between
two. Nobody edits the configuration meanwhile: whether an edit was committed would be unknown, and so what the quotas were.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiqueue.cli.harness import build, folders, postgres, processes
from aiqueue.cli.harness.processes import Supervisor
from aiqueue.cli.harness.state import Record
from aiqueue.cli.harness.waiting import until
from soak.world import World

_BETWEEN_SECONDS = (35.0, 65.0)
_AWAY_SECONDS = (0.3, 4.0)
#: Less than a watchdog's patience, so that it is not always that which ends the controllers.
_STILL_SECONDS = (1.2, 4.0)
#: Within this an API server that was told to end has carried out what it was asked; it would wait longer for watches.
_DRAIN_SECONDS = 1.5
_BACK_SECONDS = 60.0
#: The webhook tells a server that is back from one that is away a moment later, as does the API server of the webhook.
_DOOR_SECONDS = 8.0


class Outages:
    """The outages of a world, in an order of the seed's choosing.

    Args:
        world: only servers that are its own are ended and started again.
        seed: of all choices.
        disturb: called with how many seconds after now all that stands between owners and the ledger may still be shaken.
        due: whether they come of themselves; otherwise only by `strike`.

    Attributes:
        tally: how often each kind was.
    """

    def __init__(self, world: World, seed: str, disturb: Callable[[float], None], *, due: bool = True) -> None:
        self.tally: Counter[str] = Counter()
        self._world = world
        self._rng = random.Random(f"{seed}/outages")
        self._disturb = disturb
        self._armed = due
        self._due = due
        self._next = time.monotonic() + self._rng.uniform(*_BETWEEN_SECONDS)
        self._bag: list[str] = []
        self._pause = threading.Event()
        self._log = world.folder / "breaks.log"

    @property
    def kinds(self) -> tuple[str, ...]:
        """Those that this world can have."""
        return tuple(self._ways())

    def step(self) -> bool:
        """Let one happen if it is due, and return when the server is back; answers whether it was."""
        if not self._armed or time.monotonic() < self._next:
            return False
        if not self._bag:
            self._bag = self._rng.sample(self.kinds, len(self.kinds))
        self.strike(self._bag.pop())
        self._next = time.monotonic() + self._rng.uniform(*_BETWEEN_SECONDS)
        return True

    def calm(self) -> None:
        """Break nothing more."""
        self._armed = False

    def storm(self) -> None:
        """Break again."""
        self._armed = self._due

    def strike(self, kind: str) -> None:
        """Let one happen now, and return when the server is back."""
        with self._log.open("a") as log:
            log.write(f"{time.strftime('%FT%TZ', time.gmtime())} {kind}\n")
        self._disturb(_BACK_SECONDS)
        with self._world.undisturbed:
            self._ways()[kind]()
        self._disturb(_DOOR_SECONDS)
        self.tally[kind] += 1

    def _ways(self) -> dict[str, Callable[[], None]]:
        ways = {"api server stands still": self._stop_api_server}
        if self._world.owns_cluster:
            ways["api server restart"] = self._restart_api_server
        if self._world.postgres is not None:
            ways |= {"ledger crash": self._crash_ledger, "ledger restart": self._restart_ledger}
        return ways

    def _wait(self, seconds: tuple[float, float]) -> None:
        self._pause.wait(self._rng.uniform(*seconds))

    # Postgres

    def _crash_ledger(self) -> None:
        with self._without_ledger(signal.SIGQUIT):  # no session may end its transaction, nothing is written out
            self._wait(_AWAY_SECONDS)

    def _restart_ledger(self) -> None:
        with self._without_ledger(signal.SIGINT):
            pass

    @contextmanager
    def _without_ledger(self, number: signal.Signals) -> Iterator[None]:
        server = self._world.postgres
        assert server is not None
        os.kill(_record(server.running(), postgres.PROGRAM).identity.pid, number)
        until(lambda: not server.running(), seconds=_BACK_SECONDS, what="the end of Postgres")
        yield
        server.start()
        self._world.ledger.dispose()

    # the API server

    def _stop_api_server(self) -> None:
        pid = _record(self._world.cluster.running(), build.APISERVER).identity.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            self._wait(_STILL_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)

    def _restart_api_server(self) -> None:
        """It ends in order: one that is killed keeps some of what it did out of its audit log, by which it is judged who was started.

        Starting it takes some seconds.
        """
        cluster = self._world.cluster
        supervisor = Supervisor(cluster.folder, owned=True)
        record = _record(cluster.running(), build.APISERVER)
        environment = {"PATH": os.defpath, "HOME": str(cluster.folder), "LC_ALL": "C", "TZ": "UTC"}
        with folders.locked(cluster.folder / folders.LOCK):
            processes.end(record, term_seconds=_DRAIN_SECONDS)
            supervisor.start(record.name, record.argv, environment=environment)
        until(lambda: self._world.api.is_ok("/readyz"), seconds=_BACK_SECONDS, what="the API server to be back")


def _record(running: list[Record], program: str) -> Record:
    return next(each for each in running if each.name == Path(program).name)
