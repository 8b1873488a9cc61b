"""The webhook at the door: a process that the API server asks about the Jobs of the soak, killed or stopped at random and started again.

Whoever submits a wrong Job is told so at once while it stands, and nobody is held up while it does not. Both are noted here of every answer
that owners get. It stands from some time after it is ready until it, or the ledger that it asks, is broken again.
"""

from __future__ import annotations

import os
import random
import signal
import ssl
import threading
import time
from collections import Counter
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from aiqueue.cli.harness import manifests, ports, product
from aiqueue.cli.harness.api import Answer
from aiqueue.cli.harness.certificates import Authority
from aiqueue.cli.harness.waiting import until
from soak.nurse import Nursery
from soak.world import World

_BETWEEN_SECONDS = (6.0, 20.0)
_AWAY_SECONDS = (0.0, 4.0)
_STOPPED_SECONDS = (0.5, 4.0)
_READY_SECONDS = 60.0
_SETTLED_SECONDS = 1.0
_ASK_AGAIN_SECONDS = 0.2
#: The API server waits for 2 s; one that took nearly that long may have had no answer.
_MOST_SECONDS = 1.5
_HOW = {"kill": 6.0, "stop": 2.0, "terminate": 2.0}
_MOST_COMPLAINTS = 20
_REFUSED_BY_IT = b"jobs.aiqueue.dev"
_HELD_UP = "failed calling webhook"
_UNEXPECTED = ("Traceback", '"exception"')


class Door:
    """The webhook of a world, and what it made of those who came.

    Args:
        world: whose API server asks it about its namespaces.
        nursery: which starts it.
        seed: of all choices.

    Attributes:
        tally: how often it was broken, by kind, and what became of wrong Jobs.
        complaints: sentences on wrong Jobs that it let in, on owners that it held up, and on its own ends.
    """

    def __init__(self, world: World, nursery: Nursery, seed: str) -> None:
        self.tally: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._world = world
        self._nursery = nursery
        self._rng = random.Random(f"{seed}/door")
        self._folder = world.folder / "door"
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._port,) = ports.choose(1)
        certificates = self._folder / "certificates"
        Authority.open(certificates).serving("tls")
        self._ca_file = certificates / "ca.crt"
        self._context = ssl.create_default_context(cafile=str(self._ca_file))
        url = product.login(world.installed.owner_url, "webhook")
        self._environment = {
            **product.webhook_environment(url, self._port, certificates),
            "PATH": os.defpath,
            "HOME": str(self._folder),
            "PYTHONWARNINGS": "error",
        }
        self._pid = 0
        self._log = Path()
        self._started = 0
        self._signalled: signal.Signals | None = None
        self._stopped_until: float | None = None
        self._armed = True
        self._next = float("inf")  # when to break it, or to start it where there is none
        self._asked = 0.0
        self._lock = threading.Lock()
        self._stands_from: float | None = None
        self._shaken_until = 0.0

    # what is broken

    @property
    def pid(self) -> int:
        """Of the process; 0 where there is none."""
        return self._pid

    def open(self, **change: Any) -> Door:
        """Start it, and return when the API server asks it. `change`: fields of the webhook that differ from the manifest."""
        self._start()
        until(self._is_ready, seconds=_READY_SECONDS, what="the webhook to be ready")
        for namespace in self._world.namespaces:
            manifests.register_webhook(
                self._world.cluster, self._port, self._ca_file, name=f"soak-{namespace}", namespace=namespace, **change
            )
        self._stand(time.monotonic())
        self._next = time.monotonic() + self._rng.uniform(*_BETWEEN_SECONDS)
        return self

    def unregister(self) -> None:
        """The API server asks nobody."""
        for namespace in self._world.namespaces:
            self._world.cluster.kubectl("delete", "validatingwebhookconfiguration", f"soak-{namespace}", "--ignore-not-found")

    def close(self) -> None:
        """End it, and have the API server ask nobody."""
        self.unregister()
        self.end()

    def end(self) -> None:
        """End it for good, whoever asks it."""
        self._stand(None)
        self._next = float("inf")
        if self._pid:
            self._send(signal.SIGKILL)
            until(lambda: self._pid in self._nursery.ended(), seconds=_READY_SECONDS, what="the end of the webhook")
            self._pid = 0

    def step(self) -> bool:
        """Look once: start it where it has ended, break it where it is due. Nobody's take-over is held up by that."""
        now = time.monotonic()
        code = self._nursery.ended().get(self._pid)
        if self._pid == 0:
            if now >= self._next:
                self._start()
        elif code is not None:
            self._ended(code)
            self._next = now + self._rng.uniform(*_AWAY_SECONDS)
        elif self._stopped_until is not None:
            if now >= self._stopped_until:
                self._go_on()
        elif self._stands_from is None:
            if now >= self._asked + _ASK_AGAIN_SECONDS and self._is_ready():
                self._stand(now + _SETTLED_SECONDS)
                self._next = now + self._rng.uniform(*_BETWEEN_SECONDS)
        elif self._armed and now >= max(self._next, self._stands_from):
            self._break()
        return False

    def calm(self) -> None:
        """Break nothing more; if it is stopped it goes on."""
        self._armed = False
        if self._stopped_until is not None:
            self._go_on()

    def storm(self) -> None:
        """Break again."""
        self._armed = True

    def disturb(self, seconds: float) -> None:
        """For so long it need not answer as it should: what it asks, or who asks it, is away."""
        self._shaken_until = time.monotonic() + seconds
        if self._stands_from is not None:
            self._stand(self._shaken_until)

    def _break(self) -> None:
        (how,) = self._rng.choices(list(_HOW), list(_HOW.values()))
        self.tally[how] += 1
        self._stand(None)
        match how:
            case "kill":
                self._send(signal.SIGKILL)
            case "terminate":
                self._send(signal.SIGTERM)
            case "stop":
                self._send(signal.SIGSTOP)
                self._stopped_until = time.monotonic() + self._rng.uniform(*_STOPPED_SECONDS)

    def _start(self) -> None:
        self._log = self._folder / f"{self._started:05}.log"
        self._started += 1
        self._log.touch()
        self._signalled = None
        self._pid = self._nursery.start(self._environment, self._log, "webhook")

    def _ended(self, code: int) -> None:
        self._stand(None)
        said = self._log.read_text(errors="replace")
        if self._signalled is None or code not in (0, -self._signalled):
            self._complain(f"the webhook {self._log.name} ended by itself with {code}: {said[-600:]}")
        self._complain(*(f"the webhook {self._log.name} said: {line[:1500]}" for line in said.splitlines() if _strange(line)))
        self._pid = 0
        self._stopped_until = None

    def _go_on(self) -> None:
        self._stopped_until = None
        self._send(signal.SIGCONT)

    def _send(self, number: signal.Signals) -> None:
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._signalled = number
        if self._pid:
            with suppress(ProcessLookupError):  # it has ended: the nursery tells of it next
                os.kill(self._pid, number)

    def _is_ready(self) -> bool:
        self._asked = time.monotonic()
        connection = HTTPSConnection(ports.LOOPBACK, self._port, context=self._context, timeout=2.0)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == HTTPStatus.OK
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    # what it makes of those who come

    def judge(self, name: str, began: float, answer: Answer) -> bool:
        """Note what became of a wrong Job that was submitted at a time of `time.monotonic`; answers whether it was let in."""
        took = time.monotonic() - began
        if answer.status == HTTPStatus.CREATED:
            self.tally["wrong, let in"] += 1
            if took < _MOST_SECONDS and self._stood(began):
                self._complain(
                    f"Job {name} is wrong and was let in, though the webhook stood and {took:.2f} s were enough to ask it"
                )
            return True
        if _REFUSED_BY_IT in answer.body:
            self.tally["wrong, turned away"] += 1
        return False

    def hear(self, said: str) -> None:
        """Note it if somebody was held up since the webhook did not answer."""
        if _HELD_UP in said:
            self._complain(f"somebody was held up by the webhook: {said[:600]}")

    def _stand(self, since: float | None) -> None:
        with self._lock:
            self._stands_from = None if since is None else max(since, self._shaken_until)

    def _stood(self, began: float) -> bool:
        """Whether it has stood ever since."""
        with self._lock:
            return self._stands_from is not None and self._stands_from <= began

    def _complain(self, *sentences: str) -> None:
        self.complaints += sentences[: max(0, _MOST_COMPLAINTS - len(self.complaints))]


def _strange(line: str) -> bool:
    return any(sign in line for sign in _UNEXPECTED)
