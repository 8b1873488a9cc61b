"""Measuring one mode once: a closed loop, an open loop, and what the programs used meanwhile, with proof of what was in force."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus

from aiqueue.cli.harness.errors import HarnessError
from stand import meters
from stand.meters import Machine, Usage
from webhook import counts, load, world
from webhook.counts import Counts
from webhook.load import Order, Outcome
from webhook.scene import Mode, Scene, Webhook

TAKE_IN = "aiqueue-take-in"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is sent.

    Attributes:
        rates: requests a second, an open loop for each.
        seconds: of an open loop.
        closed_seconds: of a closed loop.
        connections: of the client, in both.
        refused_rate: of creates that are to be refused, in an open loop.
    """

    rates: Sequence[float]
    seconds: float
    closed_seconds: float
    connections: int
    refused_rate: float


@dataclass(frozen=True, slots=True)
class Measured:
    """An outcome and what it cost."""

    outcome: Outcome
    #: CPU seconds of each program.
    cpu: Mapping[str, float]
    #: Most resident bytes of each program; of Postgres at the end.
    resident: Mapping[str, int]
    counts: Counts
    #: CPU seconds of everybody else, and those the host took, over so many seconds.
    others: float
    stolen: float
    wall: float


@dataclass(frozen=True, slots=True)
class Block:
    """What was measured of one mode in one round."""

    mode: Mode
    closed: Measured
    #: For each rate.
    opened: Mapping[float, Measured]


def measure(scene: Scene, webhook: Webhook, order: Order) -> Measured:
    """Carry out an order, watching every program."""
    pids = scene.pids(webhook)
    counted = counts.counts(scene.api)
    for name, pid in pids.items():
        if name != "postgres":
            meters.forget_peak(pid)
    machine, began = Machine.now(), time.monotonic()
    before = {name: meters.usage(pid) for name, pid in pids.items()}
    outcome = load.run(order)
    after: dict[str, Usage] = {name: meters.usage(pid) for name, pid in pids.items()}
    machine_after, wall = Machine.now(), time.monotonic() - began
    cpu = {name: after[name].cpu_seconds - before[name].cpu_seconds for name in pids}
    resident = {
        name: after[name].resident_bytes if name == "postgres" else meters.peak_bytes(pid) for name, pid in pids.items()
    }
    return Measured(
        outcome,
        cpu,
        resident,
        counts.counts(scene.api).since(counted),
        max(0.0, machine_after.used - machine.used - sum(cpu.values()) - outcome.cpu_seconds),
        machine_after.stolen - machine.stolen,
        wall,
    )


class Rounds:
    """Measures one block after another; every request of a run has a number of its own."""

    def __init__(self, scene: Scene, webhook: Webhook, plan: Plan) -> None:
        self._scene = scene
        self._webhook = webhook
        self._plan = plan
        self._next = 1
        self._namespaces = world.namespaces(webhook.queues)

    def block(self, mode: Mode) -> Block:
        """Measure one mode, and leave no Job behind.

        Raises:
            HarnessError: a create failed, or something other than the doors of this mode was in force.
        """
        self._scene.switch(mode, self._webhook)
        creates = self._order(
            world.creates(self._webhook.queues),
            HTTPStatus.CREATED,
            world.NOT_SUSPENDED if mode is Mode.NOTHING else world.SUSPENDED,
        )
        # The closed loop first: it also warms connections and caches, alike in every mode.
        closed = _require_in_force(mode, self._measure(self._closed(creates)))
        opened = {rate: _require_in_force(mode, self._measure(self._open(creates, rate))) for rate in self._plan.rates}
        self._scene.require(mode)
        self._scene.delete_jobs(self._namespaces)
        return Block(mode, closed, opened)

    def refusals(self) -> tuple[Measured, Measured]:
        """Measure creates that name a queue that is not there, with both doors in force: a closed and an open loop.

        Raises:
            HarnessError: one was not refused by the webhook.
        """
        self._scene.switch(Mode.BOTH, self._webhook)
        refused = self._order(world.refused_creates(self._webhook.queues), HTTPStatus.FORBIDDEN, world.NO_SUCH_QUEUE)
        orders = (self._closed(refused), self._open(refused, self._plan.refused_rate))
        closed, opened = (_require_in_force(Mode.BOTH, self._measure(order), refused=True) for order in orders)
        return closed, opened

    def reviews(self, webhook: Webhook) -> Measured:
        """Ask a webhook itself, without the API server, at the first rate.

        Raises:
            HarnessError: it did not allow one.
        """
        order = Order(
            port=webhook.port,
            ca_file=str(webhook.ca_file),
            token="",
            requests=world.reviews(webhook.queues),
            first_number=self._next,
            connections=self._plan.connections,
            status=HTTPStatus.OK,
            text=world.ALLOWED,
        )
        return self._measure(self._open(order, self._plan.rates[0]), webhook)

    def _order(self, requests: Sequence[tuple[str, str]], status: HTTPStatus, text: str) -> Order:
        return Order(
            port=self._scene.server_port,
            ca_file=str(self._scene.cluster.ca_file),
            token=self._scene.token,
            requests=requests,
            first_number=0,
            connections=self._plan.connections,
            status=status,
            text=text,
        )

    def _open(self, order: Order, rate: float) -> Order:
        return replace(order, rate=rate, count=max(1, round(rate * self._plan.seconds)))

    def _closed(self, order: Order) -> Order:
        return replace(order, seconds=self._plan.closed_seconds)

    def _measure(self, order: Order, webhook: Webhook | None = None) -> Measured:
        measured = measure(self._scene, webhook or self._webhook, replace(order, first_number=self._next))
        self._next += measured.outcome.count
        return measured


def _require_in_force(mode: Mode, measured: Measured, *, refused: bool = False) -> Measured:
    """Return what was measured if exactly the doors of the mode were asked about every request.

    Raises:
        HarnessError: they were not, so the figures would be about something else.
    """
    counts, sent = measured.counts, measured.outcome.count
    asked = sent if mode is Mode.BOTH else 0
    if counts.asked != asked or counts.failed_open or counts.refused != (sent if refused else 0):
        raise HarnessError(
            f"of {sent} creates with {mode} in force the webhook answered {counts.asked} (expected {asked}) and refused "
            f"{counts.refused}; {counts.failed_open} passed because it did not answer"
        )
    # Validating policies are counted only where they refuse, so `Scene.require` tries those.
    if counts.policies.get(TAKE_IN, 0) < (0 if mode is Mode.NOTHING else sent) or (mode is Mode.NOTHING and counts.policies):
        raise HarnessError(f"of {sent} creates with {mode} in force the policies checked {dict(counts.policies)}")
    return measured
