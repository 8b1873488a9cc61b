"""Breaks controllers one after the other: by a fault that they were started with, or from outside at any moment.

A leader is left alone until its fault fires or its time is up; then it is killed, stopped, asked to end, or cut off from Postgres. There
are always standbys, each with a fault of its own, so the next break can follow as soon as one of them has taken over.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from aiqueue.admission.controller.faults import POINTS
from soak.fleet import LEASE_SECONDS, STUCK_SECONDS, Arm, Controller, Fleet, Lead

_TICK_SECONDS = 0.03
_LED_SECONDS = (0.2, 2.5)
_ARCHIVE_SECONDS = 5.0
_STOPPED_SECONDS = (1.2, 4.0)
_HANG_SECONDS = STUCK_SECONDS + 12.0
_MOST = 8
_FAULTS = {"kill": 80.0, "raise": 7.0, "delay": 6.0, "stop": 5.0, "hang": 2.0}
_FROM_OUTSIDE = {"kill": 82.0, "stop": 6.0, "terminate": 4.0, "sever": 8.0}
_RESIGN = "lead.before-resign"


@dataclass(slots=True)
class Tally:
    """What was broken.

    Attributes:
        kills: by point, or `at any moment`; those of leaders and of standbys alike.
        kinds: all breaks, by kind.
        fired: points whose fault was seen to fire.
        takeovers: seconds from the end of a leader to the next term, where a standby was there and was left alone.
        hindered: the same where none was, or was broken too.
        built: of those left alone, seconds until the next had built its engine.
    """

    kills: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    fired: Counter[str] = field(default_factory=Counter)
    takeovers: list[float] = field(default_factory=list)
    hindered: list[float] = field(default_factory=list)
    built: list[float] = field(default_factory=list)
    of_leaders: int = 0

    @property
    def killed(self) -> int:
        return self.kills.total()

    @property
    def breaks(self) -> int:
        """Of any kind."""
        return self.kinds.total()


class Hazard(Protocol):
    """What else is broken meanwhile."""

    def step(self) -> bool:
        """Look once; answers whether nobody could have taken over for a while."""

    def calm(self) -> None:
        """Break nothing more."""

    def storm(self) -> None:
        """Break again."""


class Breaker:
    """Breaks the controllers of a fleet.

    Args:
        fleet: to keep up and to break.
        seed: of all choices.
        standbys: kept ready.
        hurry: kill one at every point there is first, and let nobody wait for the lease of who was killed, as if he had resigned.
            No take-over time is measured then.
        provoke: called with the name of a point that a leader waits for.

    Attributes:
        hazards: other things that are broken meanwhile, each by its own rules.
    """

    def __init__(
        self,
        fleet: Fleet,
        seed: str,
        *,
        standbys: int = 3,
        hurry: bool = False,
        provoke: Callable[[str], None] = lambda _point: None,
    ) -> None:
        self.fleet = fleet
        self.tally = Tally()
        self.armed = True
        self.hazards: list[Hazard] = []
        self._rng = random.Random(f"{seed}/breaking")
        self._standbys = standbys
        self._hurry = hurry
        self._provoke = provoke
        self._term = 0
        self._due = 0.0
        self._next_provocation = 0.0
        self._ended_at: datetime | None = None
        self._taken = True  # whether somebody has led since
        self._alone = False  # whether a standby could take over, and nobody was broken since
        self._log = fleet.world.folder / "breaks.log"
        self._built_of: Controller | None = None
        self._pause = threading.Event()

    def run(self, done: Callable[[], bool]) -> None:
        """Break until `done`."""
        while not done():
            self.step()
            self._pause.wait(_TICK_SECONDS)

    @property
    def left(self) -> int:
        """How many points there are at which none was killed yet."""
        return len(set(POINTS) - set(self.tally.kills))

    def step(self) -> None:
        """Look once, and break what is due."""
        for hazard in self.hazards:
            if hazard.step():
                self._alone = False
        for each in self.fleet.reap():
            self._count(each)
        self._wake_stopped()
        self._replenish()
        lead = self.fleet.lead()
        leader = self.fleet.of_pid(lead.pid)
        if lead.term != self._term and leader is not None:
            self._new_term(lead, leader)
        self._look_at_built()
        if leader is None or lead.term != self._term:
            return
        if self.armed:
            self._press(leader)
            if time.monotonic() >= self._due:
                self._break(leader)

    def calm(self) -> None:
        """Break nothing more; whoever is stopped goes on."""
        self.armed = False
        for hazard in self.hazards:
            hazard.calm()
        for each in self.fleet.controllers:
            if each.stopped_until is not None or each.is_stopped():
                each.send(signal.SIGCONT)
                each.stopped_until = None

    def storm(self) -> None:
        """Break again."""
        self.armed = True
        for hazard in self.hazards:
            hazard.storm()

    # what is armed

    def _replenish(self) -> None:
        awake = [each for each in self.fleet.controllers if each.stopped_until is None]
        while len(awake) < 1 + self._standbys and len(self.fleet.controllers) < _MOST:
            awake.append(self.fleet.start(self._arm() if self.armed else None))

    def _arm(self) -> Arm | None:
        if not self._hurry or not self.left:
            return self._random_arm()
        carried = {each.arm.point for each in self.fleet.controllers if each.arm is not None}
        missing = [point for point in POINTS if not self.tally.kills[point] and point not in carried]
        return Arm(self._rng.choice(missing), "kill") if missing else None

    def _random_arm(self) -> Arm:
        candidates = self._rng.sample(POINTS, 3)
        point = min(candidates, key=lambda each: self.tally.fired[each])
        (fault,) = self._rng.choices(list(_FAULTS), list(_FAULTS.values()))
        return Arm(point, fault, self._rng.uniform(0.1, 1.6 * LEASE_SECONDS), self._rng.choice([1, 1, 1, 2, 3, 5, 9]))

    # what is seen

    def _new_term(self, lead: Lead, leader: Controller) -> None:
        self._term = lead.term
        leader.led.append(lead.term)
        self._built_of = leader
        took = max(0.0, (lead.elected_at - self._ended_at).total_seconds()) if self._ended_at is not None else None
        first, self._taken = not self._taken, True
        if took is not None and first and not self._hurry:
            (self.tally.takeovers if self._alone else self.tally.hindered).append(took)
        self._note(f"term {lead.term} of {leader.log.stem}, armed with {leader.arm}, after {took} s")
        self._due = time.monotonic() + self._rng.uniform(*_LED_SECONDS)
        arm = leader.arm
        if arm is not None and arm.fault == "hang":
            self._due = time.monotonic() + _HANG_SECONDS
        elif arm is not None and arm.point.startswith("archive"):
            self._due = time.monotonic() + _ARCHIVE_SECONDS
        if self._wanted(leader):
            self._due = time.monotonic() + 60.0
        self._next_provocation = time.monotonic() + 0.5

    def _wanted(self, leader: Controller) -> bool:
        """Whether it is to be killed at its point and nowhere else, since none was yet."""
        arm = leader.arm
        return self._hurry and arm is not None and arm.fault == "kill" and not self.tally.kills[arm.point]

    def _look_at_built(self) -> None:
        if self._built_of is None or "engine built" not in self._built_of.said():
            return
        if self._ended_at is not None and self._alone and not self._hurry:
            self.tally.built.append((datetime.now(UTC) - self._ended_at).total_seconds())
        self._built_of = self._ended_at = None

    def _press(self, leader: Controller) -> None:
        """What a leader waits for is made to happen."""
        if leader.arm is None or time.monotonic() < self._next_provocation:
            return
        self._next_provocation = time.monotonic() + 0.7
        if leader.arm.point == _RESIGN and leader.signalled is None and "engine built" in leader.said():
            leader.send(signal.SIGTERM)
        elif self._wanted(leader):
            self._provoke(leader.arm.point)

    def _count(self, ended: Controller) -> None:
        led = self._term in ended.led
        arm = ended.arm
        code = ended.code
        self._alone = led and any(each.is_warm() for each in self.fleet.controllers)
        if led:
            self._ended_at, self._taken = datetime.now(UTC), False
        self._note(f"{ended.log.stem} ended with {code}{' while it led' if led else ''}, armed with {arm}")
        if code == -signal.SIGKILL and ended.signalled is not signal.SIGKILL and arm is not None and arm.fault == "kill":
            self.tally.kills[arm.point] += 1
            self.tally.kinds["kill at a point"] += 1
            self.tally.fired[arm.point] += 1
            self.tally.of_leaders += led
        elif code == -signal.SIGKILL and ended.signalled is signal.SIGKILL:
            self.tally.kills["at any moment"] += 1
            self.tally.kinds["kill"] += 1
            self.tally.of_leaders += led
        elif ended.signalled is signal.SIGTERM:
            self.tally.kinds["terminate"] += 1
        elif ended.ended_itself():
            self.tally.kinds["ended by its watchdog"] += 1
        if arm is not None and arm.fault == "raise" and f"fault injected at {arm.point}" in ended.said():
            self.tally.kinds["raise"] += 1
            self.tally.fired[arm.point] += 1
        elif arm is not None and arm.fault in ("hang", "delay") and ended.led:
            self.tally.kinds[arm.fault] += 1
        if self._hurry and led:
            self.fleet.world.do("UPDATE leader_lease SET expires_at = clock_timestamp() WHERE term = :term", term=self._term)

    def _note(self, words: str) -> None:
        with self._log.open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat()} {words}\n")

    def _wake_stopped(self) -> None:
        now = time.monotonic()
        for each in self.fleet.controllers:
            if each.stopped_until is None and each.alive() and each.is_stopped():
                each.stopped_until = now + self._rng.uniform(*_STOPPED_SECONDS)
                self._alone = False
                if each.arm is not None and each.arm.fault == "stop":
                    self.tally.fired[each.arm.point] += 1
                    self.tally.kinds["stop at a point"] += 1
            elif each.stopped_until is not None and now >= each.stopped_until:
                each.send(signal.SIGCONT)
                each.stopped_until = None

    # from outside

    def _break(self, leader: Controller) -> None:
        if leader.stopped_until is not None or leader.signalled is not None:
            if leader.signalled is signal.SIGTERM and time.monotonic() > self._due + 5:
                leader.send(signal.SIGKILL)  # it does not end by itself
            return
        (how,) = self._rng.choices(list(_FROM_OUTSIDE), list(_FROM_OUTSIDE.values()))
        self._note(f"{how} {leader.log.stem}")
        match how:
            case "kill":
                leader.send(signal.SIGKILL)
                if self._rng.random() < 0.08:
                    self._rng.choice(self.fleet.controllers).send(signal.SIGKILL)
            case "stop":
                self.tally.kinds["stop"] += 1
                leader.send(signal.SIGSTOP)
                leader.stopped_until = time.monotonic() + self._rng.uniform(*_STOPPED_SECONDS)
            case "terminate":
                leader.send(signal.SIGTERM)
            case "sever":
                self.tally.kinds["sever"] += 1
                self._sever()
                self._due = time.monotonic() + self._rng.uniform(*_LED_SECONDS)

    def _sever(self) -> None:
        """End some or all sessions of controllers."""
        share = self._rng.choice([0.2, 0.5, 1.0])
        self.fleet.world.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'aiqueue-controller%' AND random() <= :share",
            share=share,
        )
