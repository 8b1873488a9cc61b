"""When and in which order actions are carried out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from aiqueue.admission.controller.actor import Actor, Again, Ended
from aiqueue.admission.controller.facts import ActionEnded, Inbox, Result
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.errors import LedgerError
from aiqueue.queue.store.actions import Action
from aiqueue.queue.words import ActionKind
from fix_follow import make_action

WAIT_SECONDS = 60.0
DONE: Ended = (Result.DONE, "")


class Stand:
    """Hands that note what they did; `answers` are given before they say done."""

    def __init__(self) -> None:
        self.did: list[int] = []
        self.answers: dict[int, list[Again | Ended | Exception]] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.trusted = True
        self.asked_for_trust = self.asked_for_rest = 0
        self.resting = 0.0
        self.ended: list[tuple[int, Result]] = []
        self.inbox = Inbox()
        self.actor = Actor(
            self, self.inbox, threads=4, trusted=self._trusted, now=lambda: datetime.now(UTC), resting=self._rests
        )

    def _trusted(self) -> bool:
        self.asked_for_trust += 1
        return self.trusted

    def _rests(self) -> float:
        self.asked_for_rest += 1
        return self.resting

    def __call__(self, action: Action) -> Ended | Again:
        with self.lock:
            self.did.append(action.id)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert self.gate.wait(WAIT_SECONDS)
            answer = self.answers.get(action.id, [])
            given = answer.pop(0) if answer else DONE
            if isinstance(given, Exception):
                raise given
            return given
        finally:
            with self.lock:
                self.at_once -= 1

    def until(self, probe: Callable[[], object], what: str) -> None:
        until(probe, seconds=WAIT_SECONDS, what=what, longest_pause_seconds=0.01)

    def until_ended(self, count: int) -> list[tuple[int, Result]]:
        def enough() -> bool:
            self.ended += [(fact.action.id, fact.result) for fact in self.inbox.drain() if isinstance(fact, ActionEnded)]
            return len(self.ended) >= count

        self.until(enough, f"{count} actions to end")
        return self.ended


@pytest.fixture
def stand() -> Iterator[Stand]:
    made = Stand()
    made.actor.start()
    yield made
    made.gate.set()
    made.actor.stop()
    assert not any(thread.is_alive() for thread in made.actor._workers._threads)


def test_actions_of_one_workload_are_done_one_after_the_other_in_their_order(stand: Stand) -> None:
    stand.actor.submit(make_action(number) for number in range(1, 9))
    assert stand.until_ended(8) == [(number, Result.DONE) for number in range(1, 9)]
    assert stand.most_at_once == 1


def test_actions_of_several_workloads_are_done_at_once(stand: Stand) -> None:
    stand.gate.clear()
    stand.actor.submit(make_action(number, workload=number) for number in range(1, 9))
    stand.until(lambda: stand.at_once == 4, "every thread to be at work")
    stand.gate.set()
    stand.until_ended(8)


@pytest.mark.parametrize("failure", [Again("later"), LedgerError("away"), RuntimeError("a fault of ours")])
def test_what_fails_is_tried_again_and_what_is_behind_it_waits(stand: Stand, failure: Again | Exception) -> None:
    stand.answers[1] = [failure, failure]
    stand.actor.submit([make_action(1), make_action(2)])
    stand.until_ended(2)
    assert stand.did == [1, 1, 1, 2]
    assert stand.actor._failures == {}


def test_a_server_that_asks_for_a_pause_gets_it(stand: Stand) -> None:
    stand.answers[1] = [Again("slow down", after_seconds=0.4)]
    started = time.monotonic()
    stand.actor.submit([make_action(1)])
    stand.until_ended(1)
    assert time.monotonic() - started >= 0.4


def test_a_server_that_asks_for_a_day_is_asked_again_in_half_a_minute(stand: Stand) -> None:
    stand.answers[1] = [Again("come back tomorrow", after_seconds=86_400.0)]
    stand.actor.submit([make_action(1)])
    stand.until(lambda: bool(stand.actor._failures), "the failure")
    with stand.actor._condition:
        ((due, _, _),) = stand.actor._due
    assert due - time.monotonic() <= 30.0


def test_nothing_is_begun_while_the_server_is_to_be_left_alone(stand: Stand) -> None:
    stand.resting = 30.0
    stand.actor.open_lane(lambda: None)
    starts = make_action(2, workload=2, resource_version="1")
    stand.actor.submit([make_action(1, kind=ActionKind.SUSPEND), starts])
    asked = stand.asked_for_rest
    stand.until(lambda: stand.asked_for_rest > asked + 4, "it to be asked for how long")
    assert stand.did == []
    assert stand.actor.begin_start() is None
    stand.resting = 0.0
    assert stand.until_ended(1) == [(1, Result.DONE)]
    assert stand.actor.begin_start() == starts


def test_a_start_that_the_lane_leaves_for_later_waits(stand: Stand) -> None:
    stand.actor.open_lane(lambda: None)
    stand.actor.submit([make_action(1, resource_version="1")])
    start = stand.actor.begin_start()
    assert start is not None
    began = time.monotonic()
    stand.actor.left(start, 0.4)
    stand.until_ended(1)
    assert time.monotonic() - began >= 0.4


def test_what_is_withdrawn_leaves_nothing_behind(stand: Stand) -> None:
    stand.answers[1] = [Again("not now", after_seconds=30.0)]
    stand.actor.submit([make_action(1)])
    stand.until(lambda: bool(stand.actor._failures), "the failure")
    stand.actor.withdraw({1: 1})
    assert stand.actor._failures == {}
    assert stand.actor.pending == 0


def test_a_notice_that_fails_keeps_nothing_back_past_its_deadline(stand: Stand) -> None:
    deadline = datetime.now(UTC) + timedelta(seconds=0.6)
    notice = make_action(1, kind=ActionKind.ANNOUNCE, evict_at=deadline)
    stand.answers[1] = [Again("slow down", after_seconds=30.0), (Result.MOOT, "the time of the notice is over")]
    stand.actor.submit([notice, make_action(2, kind=ActionKind.SUSPEND, not_before=deadline)])
    assert stand.until_ended(2) == [(1, Result.MOOT), (2, Result.DONE)]
    assert deadline <= datetime.now(UTC) < deadline + timedelta(seconds=25)


def test_an_action_is_not_begun_before_its_time(stand: Stand) -> None:
    now = datetime.now(UTC)
    stand.actor.submit([make_action(1, not_before=now + timedelta(seconds=1.5)), make_action(2, workload=2)])
    stand.until_ended(2)
    assert stand.did == [2, 1]
    assert datetime.now(UTC) >= now + timedelta(seconds=1.5)


def test_nothing_is_begun_while_paused(stand: Stand) -> None:
    stand.actor.pause(True)
    stand.actor.submit([make_action(1)])
    stand.until(lambda: stand.actor.pending == 1, "the action to be taken on")
    stand.inbox.put(ActionEnded(make_action(99), Result.MOOT))
    assert stand.until_ended(1) == [(99, Result.MOOT)]
    assert stand.did == []
    stand.actor.pause(False)
    assert stand.until_ended(2)[1:] == [(1, Result.DONE)]


def test_a_term_that_is_not_trusted_begins_nothing(stand: Stand) -> None:
    stand.trusted = False
    stand.actor.submit([make_action(1)])
    stand.until(lambda: stand.asked_for_trust >= 2, "trust to be asked for")
    assert stand.did == []
    stand.trusted = True
    stand.until_ended(1)


def test_waiting_for_trust_is_not_done_in_a_tight_loop(stand: Stand) -> None:
    stand.trusted = False
    started = time.monotonic()
    stand.actor.submit([make_action(1)])
    stand.until(lambda: stand.asked_for_trust >= 20, "trust to be asked for many times")
    assert time.monotonic() - started >= 0.3


def test_an_action_is_held_until_it_is_acknowledged(stand: Stand) -> None:
    stand.actor.submit([make_action(1)])
    stand.until_ended(1)
    stand.actor.submit([make_action(1)])
    assert stand.actor.pending == 1
    stand.actor.acknowledged([1])
    assert stand.actor.pending == 0
    assert stand.did == [1]


def test_an_action_taken_on_twice_is_done_once(stand: Stand) -> None:
    stand.gate.clear()
    stand.actor.submit([make_action(1)])
    stand.until(lambda: stand.did, "the action to be begun")
    stand.actor.submit([make_action(1), make_action(2)])
    stand.gate.set()
    assert [number for number, _ in stand.until_ended(2)] == [1, 2]


def test_what_is_withdrawn_is_not_begun_and_a_restoration_is_never_withdrawn(stand: Stand) -> None:
    stand.gate.clear()
    restore = make_action(3, run_id=2, kind=ActionKind.RESTORE)
    stand.actor.submit(
        [make_action(1), make_action(2, run_id=2), restore, make_action(4, run_id=2), make_action(5, workload=2, run_id=4)]
    )
    stand.until(lambda: len(stand.did) == 2, "the first of each to be begun")
    stand.actor.withdraw({1: 2, 2: 4, 3: 9})
    stand.gate.set()
    assert sorted(number for number, _ in stand.until_ended(3)) == [1, 3, 5]
    stand.actor.acknowledged([1, 3, 5])
    assert stand.actor.pending == 0
    assert stand.actor._waiting == {}


def test_what_waited_behind_a_withdrawn_action_need_not_wait_for_its_time(stand: Stand) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    stand.actor.submit(
        [make_action(1, run_id=1, not_before=later), make_action(2, run_id=2), make_action(3, workload=2, not_before=later)]
    )
    stand.actor.withdraw({1: 1, 2: 3})
    assert [number for number, _ in stand.until_ended(1)] == [2]
    stand.actor.acknowledged([2])
    assert stand.actor.pending == 0
    assert stand.actor._waiting == {}


def test_withdrawing_looks_at_the_workloads_concerned_only(stand: Stand) -> None:
    stand.actor.pause(True)
    stand.actor.submit(make_action(number, workload=number) for number in range(1, 6))
    lines = {number: id(line) for number, line in stand.actor._waiting.items()}
    stand.actor.withdraw({})
    stand.actor.withdraw({9: 9})
    assert {number: id(line) for number, line in stand.actor._waiting.items()} == lines


def test_stopping_waits_for_what_is_being_done_and_begins_nothing_new(stand: Stand) -> None:
    stand.gate.clear()
    stand.actor.submit(make_action(number, workload=number) for number in range(1, 9))
    stand.until(lambda: stand.at_once == 4, "every thread to be at work")
    stopping = threading.Thread(target=stand.actor.stop)
    stopping.start()
    stand.until(lambda: stand.actor._workers.stopping, "the stop to be asked for")
    stand.gate.set()
    stopping.join(WAIT_SECONDS)
    assert len(stand.did) == 4


class WithLane:
    """An actor that keeps starts for a lane, and what the lane was told."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.woken = 0
        self.actions: list[Action] = []
        stand.actor.open_lane(self._wake)

    def _wake(self) -> None:
        self.woken += 1

    def begin(self) -> list[int]:
        """Begin all that may be begun."""
        begun = []
        while (action := self.stand.actor.begin_start()) is not None:
            begun.append(action)
        self.actions = begun
        return [action.id for action in begun]


@pytest.fixture
def lane(stand: Stand) -> WithLane:
    return WithLane(stand)


def test_untried_starts_are_kept_for_the_lane_in_their_order(stand: Stand, lane: WithLane) -> None:
    stand.actor.submit(make_action(number, workload=number) for number in (3, 1, 2))
    assert (lane.woken, stand.actor.starts) == (1, 3)
    assert lane.begin() == [3, 1, 2]
    for action in lane.actions:
        stand.actor.started(action)
    assert stand.until_ended(3) == [(number, Result.DONE) for number in (3, 1, 2)]
    assert stand.did == []
    assert stand.actor._waiting == {}


def test_the_lane_gets_nothing_but_starts_that_were_decided_on_a_version(stand: Stand, lane: WithLane) -> None:
    stand.actor.submit([make_action(1, resource_version=""), make_action(2, workload=2, kind=ActionKind.SUSPEND)])
    assert lane.begin() == []
    assert sorted(number for number, _ in stand.until_ended(2)) == [1, 2]
    assert sorted(stand.did) == [1, 2]


def test_what_the_lane_leaves_is_done_by_the_hands_before_what_is_behind_it(stand: Stand, lane: WithLane) -> None:
    stand.actor.submit([make_action(1), make_action(2, kind=ActionKind.SUSPEND)])
    assert lane.begin() == [1]
    (first,) = lane.actions
    assert lane.begin() == []
    stand.actor.left(first)
    assert stand.until_ended(2) == [(1, Result.DONE), (2, Result.DONE)]
    assert stand.did == [1, 2]


def test_a_start_that_the_hands_have_to_try_again_does_not_come_back_to_the_lane(stand: Stand, lane: WithLane) -> None:
    stand.answers[1] = [Again("later"), Again("later")]
    stand.actor.submit([make_action(1)])
    lane.begin()
    stand.actor.left(lane.actions[0])
    stand.until_ended(1)
    assert stand.did == [1, 1, 1]
    assert lane.begin() == []


def test_behind_what_the_hands_do_a_start_waits_and_then_is_the_lanes(stand: Stand, lane: WithLane) -> None:
    stand.gate.clear()
    stand.actor.submit([make_action(1, kind=ActionKind.SUSPEND), make_action(2)])
    stand.until(lambda: stand.did, "the first to be begun")
    assert lane.begin() == []
    stand.gate.set()
    stand.until_ended(1)
    stand.until(lambda: lane.begin() == [2], "the start to be the lane's")


def test_the_lane_begins_nothing_while_paused_or_untrusted(stand: Stand, lane: WithLane) -> None:
    stand.actor.submit([make_action(1)])
    stand.actor.pause(True)
    assert lane.begin() == []
    stand.actor.pause(False)
    stand.trusted = False
    assert lane.begin() == []
    stand.trusted = True
    assert lane.begin() == [1]


def test_a_start_that_was_withdrawn_is_not_the_lanes_any_more(stand: Stand, lane: WithLane) -> None:
    stand.actor.submit([make_action(1), make_action(2, workload=2)])
    stand.actor.withdraw({1: 1})
    assert lane.begin() == [2]
    assert stand.actor.pending == 1


def test_a_start_is_taken_back_unless_it_is_being_done_or_done(stand: Stand) -> None:
    """What stands behind it is done all the same."""
    stand.actor.pause(True)
    stand.actor.submit([make_action(1), make_action(2, kind=ActionKind.RESTORE), make_action(3, workload=2)])
    assert stand.actor.take_back(1, run_id=1)
    assert not stand.actor.take_back(1, run_id=1)
    assert not stand.actor.take_back(3, run_id=3)
    stand.gate.clear()
    stand.actor.pause(False)
    stand.until(lambda: sorted(stand.did) == [2, 3], "what is left to be at work on")
    assert stand.actor.is_at(2)
    assert not stand.actor.take_back(2, run_id=3)
    stand.gate.set()
    stand.until_ended(2)
    assert not stand.actor.take_back(2, run_id=3)
    assert not stand.actor.is_at(2)
    assert stand.actor.pending == 2
