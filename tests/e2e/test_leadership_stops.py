"""A leader that is stopped between any two steps until its term is another's, and then goes on, does nothing more in its old term's name.

Two of three controllers stop at their points as they get there; the third stands in while both are stopped, and is stopped
itself from outside to let them lead again. So each leads, is overtaken, stands by and leads again, many times.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from aiqueue.admission.controller import faults
from fix_controller import Stage
from fix_reign import Contender, Court

pytestmark = pytest.mark.e2e

QUICK = {"lease_seconds": "1", "archive_after_seconds": "1"}
#: Those behind which a step follows that must not be done, or be done again, by who was overtaken.
ESSENTIAL = (
    "lead.after-take-over",
    "lead.after-register",
    "lead.after-renew",
    "rebuild.after",
    "observe.before-write",
    "observe.in-write",
    "commit.before",
    "commit.in",
    "commit.after",
    "act.before-patch",
    "act.after-patch",
    "acknowledge.before",
    "close.in",
    "confirm.after-answer",
)
#: What a leader does not pass, or only as it ends, or when it puts a run out.
ELSEWHERE = ("lead.before-take-over", "lead.before-resign")
EVERY = os.environ.get("AIQUEUE_EVERY_POINT") == "1"
POINTS = tuple(point for point in faults.POINTS if point not in ELSEWHERE) if EVERY else ESSENTIAL
PATIENCE_SECONDS = 5.0  # for a point to be reached, before another gets a turn


class Play:
    """Moves the contenders on."""

    def __init__(self, court: Court, stopping: list[Contender], standing_in: Contender) -> None:
        self.court = court
        self.stopping = stopping
        self.standing_in = standing_in
        self.seen_term = 0
        self.since = time.monotonic()

    def over(self) -> bool:
        return not any(each.left or each.stopped for each in self.stopping)

    def move(self) -> bool:
        """Do what the present state asks for; whether the play is over."""
        leader = self.court.leader()
        if leader is None:
            return False
        if self.court.reigns[-1].term != self.seen_term:
            self.seen_term, self.since = self.court.reigns[-1].term, time.monotonic()
            self.act()
        if leader is self.standing_in and not leader.stopped:
            return self.give_way()
        if self.standing_in.stopped and all(each.stopped or not each.left for each in self.stopping):
            for each in self.stopping:
                each.stop()
            self.standing_in.go_on()
        elif not leader.stopped and time.monotonic() - self.since > PATIENCE_SECONDS:
            if leader.left:
                self.since = time.monotonic()
                self.act()
            else:
                leader.stop()
        return False

    def give_way(self) -> bool:
        """Once the one that stands in has done all there is, let the others go on, and lead; whether the play is over."""
        if not self.court.settled():
            return False
        for each in self.stopping:
            if each.stopped:
                each.go_on()
        if self.over():
            return True
        self.standing_in.stop()
        return False

    def act(self) -> None:
        """Give the leader something to do."""
        self.court.create_job()
        if len(self.court.jobs) > 2:
            self.court.delete_job()
        if EVERY:
            self.court.put_out()


def test_a_stopped_leader_is_overtaken_and_then_does_nothing_in_its_old_terms_name(stage: Stage) -> None:
    stage.tenants(gpus=32)
    court = Court(stage)
    standing_in = court.join(**QUICK)
    stage.until(lambda: "engine built" in standing_in.process.said(), "the first to lead")
    stopping = [court.join(*POINTS[::2], **QUICK), court.join(*POINTS[1::2], **QUICK)]
    for each in stopping:
        stage.until(lambda each=each: "Jobs listed" in each.process.said() or None, "the others to stand by")  # type: ignore[misc]
    play = Play(court, stopping, standing_in)
    stage.until(play.move, f"each of {len(POINTS)} points to be reached", seconds=len(POINTS) * 20.0)

    assert sorted(point for each in stopping for point in each.fired()) == sorted(POINTS)
    stage.until(court.settled, "what is left to be done to be done")
    for name in court.jobs:
        stage.until_running(name)
    court.leader()
    terms = [reign.term for reign in court.reigns]
    assert terms == list(range(1, len(terms) + 1))
    for each in court.contenders:
        assert sum(reign.contender is each for reign in court.reigns) > 1  # it led, was overtaken, and led again
        assert not each.process.ended()
    for name in court.jobs:
        stage.until(lambda name=name: court.started(name), f"the audit log to have the start of {name}")  # type: ignore[misc]
    sent = court.sent()
    assert len(sent) >= len(court.jobs)
    assert [entry for entry, sender, leader in sent if sender is not leader] == []
    # The run of a Job that was just deleted is open until its pods are gone.
    stage.until(lambda: EVERY or stage.used() == len(court.jobs), "only what runs to be counted")
    for name in court.jobs:
        assert [run["outcome"] for run in stage.runs(name)] == ["Running"]
        assert court.started(name) == 1


def test_one_stopped_as_it_gives_its_term_up_ends_when_it_goes_on(stage: Stage) -> None:
    stage.tenants()
    court = Court(stage)
    leaving = court.join("lead.before-resign", lease_seconds="3")  # if it lost its term there would be nothing to give up
    stage.until(lambda: "engine built" in leaving.process.said(), "the first to lead")
    leaving.process.signal(signal.SIGTERM)
    stage.until(lambda: leaving.stopped or None, "it to stop")
    other = court.join(**QUICK)
    stage.until(lambda: court.leader() is other, "the other to lead")
    leaving.go_on()
    stage.until(leaving.process.ended, "the first to end")
    assert leaving.process.process.returncode == 0
    name = court.create_job()
    stage.until_running(name)
    assert court.leader() is other
    # Its lease was the other's and nobody ended it: one that is renewed late on a slow machine is taken again by the same.
    turns = [reign.contender for reign in court.reigns]
    assert turns[0] is leaving
    assert turns == sorted(turns, key=[leaving, other].index)
