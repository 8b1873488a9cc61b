"""Events wait in a bounded queue and are sent at a bounded rate, whatever the server does; nobody who tells one ever waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from aiqueue.admission.kube.errors import Forbidden, KubeError, NotFound, TooManyRequests, Unavailable
from aiqueue.admission.kube.events import TRIES, Event, Events
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.words import EventReason

WAIT_SECONDS = 60.0
FAST = 10_000.0


def event(number: int = 0, reason: EventReason = EventReason.ADMITTED) -> Event:
    return Event("team-a", f"job-{number}", f"uid-{number}", reason, f"note {number}")


class Server:
    """Where they are sent: notes what came; `answers` are raised before it takes anything."""

    def __init__(self, **limits: float) -> None:
        self.created: list[tuple[str, str, int]] = []
        self.counted: list[tuple[str, int]] = []
        self.times: list[float] = []
        self.answers: list[KubeError] = []
        self.gate = threading.Event()
        self.gate.set()
        self.asked = 0
        self.events = Events(self._create, self._count, **({"per_second": FAST} | limits))  # type: ignore[arg-type]  # ints are floats

    def _answer(self) -> None:
        self.asked += 1
        self.times.append(time.monotonic())
        assert self.gate.wait(WAIT_SECONDS)
        if self.answers:
            raise self.answers.pop(0)

    def _create(self, told: Event, count: int) -> str:
        self._answer()
        self.created.append((told.name, told.reason, count))
        return f"{told.name}.{len(self.created)}"

    def _count(self, _told: Event, name: str, count: int) -> None:
        self._answer()
        self.counted.append((name, count))

    def until(self, probe: Callable[[], object], what: str) -> None:
        until(probe, seconds=WAIT_SECONDS, what=what, longest_pause_seconds=0.01)

    def until_sent(self, number: int) -> None:
        self.until(lambda: self.events.sent == number, f"{number} to be sent")


@pytest.fixture
def servers() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def make(*, start: bool = True, **limits: float) -> Server:
        made.append(Server(**limits))
        if start:
            made[-1].events.start()
        return made[-1]

    yield make
    for each in made:
        each.gate.set()
        each.events.stop()
        assert not each.events._thread.is_alive()


def test_they_are_sent_in_their_order_and_warnings_first(servers: Callable[..., Server]) -> None:
    server = servers(start=False)
    for number in range(3):
        server.events.tell(event(number))
    server.events.tell(event(9, EventReason.EVICTION_NOTICE))
    server.events.start()
    server.until_sent(4)
    assert [name for name, _, _ in server.created] == ["job-9", "job-0", "job-1", "job-2"]


def test_a_flood_meets_a_server_that_hangs_and_nobody_waits(servers: Callable[..., Server]) -> None:
    server = servers(length=100)
    server.gate.clear()
    server.events.tell(event(1_000_000))
    server.until(lambda: server.asked == 1, "the first to be on its way")
    notice = event(2_000_000, EventReason.EVICTION_NOTICE)
    server.events.tell(notice)
    started = time.monotonic()
    for number in range(20_000):
        server.events.tell(event(number))
    assert time.monotonic() - started < WAIT_SECONDS / 2
    assert server.events.waiting == 100
    assert server.events.dropped == 20_000 - 99
    server.gate.set()
    server.until_sent(101)
    assert [name for name, _, _ in server.created[:3]] == ["job-1000000", "job-2000000", "job-19901"]
    assert server.events.waiting == 0


def test_warnings_alone_fill_it_too_and_the_oldest_goes(servers: Callable[..., Server]) -> None:
    server = servers(start=False, length=2)
    for number in range(3):
        server.events.tell(event(number, EventReason.EXPIRED))
    server.events.tell(event(7))
    assert server.events.dropped == 2
    server.events.start()
    server.until_sent(2)
    assert [name for name, _, _ in server.created] == ["job-1", "job-2"]


def test_no_more_than_so_many_are_sent_in_a_second(servers: Callable[..., Server]) -> None:
    server = servers(per_second=20.0, burst=5)
    for number in range(15):
        server.events.tell(event(number))
    server.until_sent(15)
    assert server.times[-1] - server.times[0] >= 0.4
    assert server.times[4] - server.times[0] < 0.4


def test_what_is_said_again_is_counted_and_not_stored_again(servers: Callable[..., Server]) -> None:
    server = servers()
    server.events.tell(event())
    server.until_sent(1)
    server.gate.clear()
    server.events.tell(event(1))
    server.until(lambda: server.asked == 2, "the second to be on its way")
    for _ in range(5):
        server.events.tell(event())
    server.gate.set()
    server.until_sent(3)
    assert server.created == [("job-0", "Admitted", 1), ("job-1", "Admitted", 1)]
    assert server.counted == [("job-0.1", 6)]


def test_what_was_cleared_away_is_stored_anew(servers: Callable[..., Server]) -> None:
    server = servers()
    server.events.tell(event())
    server.until_sent(1)
    server.answers = [NotFound("gone")]
    server.events.tell(event())
    server.until_sent(2)
    assert server.created == [("job-0", "Admitted", 1), ("job-0", "Admitted", 1)]


@pytest.mark.parametrize("failure", [Unavailable("away"), TooManyRequests("slow down")])
def test_what_fails_is_tried_again_and_first(servers: Callable[..., Server], failure: KubeError) -> None:
    server = servers()
    server.answers = [failure, failure]
    server.events.tell(event(0))
    server.events.tell(event(1))
    server.until_sent(2)
    assert [name for name, _, _ in server.created] == ["job-0", "job-1"]
    assert server.events.failed == 0


def test_a_count_that_fails_is_told_once(servers: Callable[..., Server]) -> None:
    server = servers()
    server.events.tell(event())
    server.until_sent(1)
    server.answers = [Unavailable("away")]
    server.events.tell(event())
    server.until_sent(2)
    assert server.counted == [("job-0.1", 2)]


def test_what_is_refused_or_fails_too_often_is_given_up(servers: Callable[..., Server]) -> None:
    server = servers()
    server.answers = [Forbidden("the namespace is being terminated"), *(Unavailable("away") for _ in range(TRIES))]
    server.events.tell(event(0))
    server.events.tell(event(1))
    server.events.tell(event(2))
    server.until_sent(1)
    assert server.events.failed == 2
    assert [name for name, _, _ in server.created] == ["job-2"]


def test_stopping_sends_what_waits_whatever_the_rate(servers: Callable[..., Server]) -> None:
    server = servers(per_second=1.0, burst=1)
    for number in range(20):
        server.events.tell(event(number))
    server.events.stop()
    assert server.events.sent == 20
    server.events.tell(event(99))
    assert (server.events.waiting, server.events.dropped) == (0, 1)


def test_stopping_waits_for_a_server_that_hangs_no_longer_than_it_may(servers: Callable[..., Server]) -> None:
    server = servers()
    server.gate.clear()
    for number in range(3):
        server.events.tell(event(number))
    server.until(lambda: server.asked == 1, "the first to be on its way")
    started = time.monotonic()
    server.events.stop(0.2)
    assert 0.2 <= time.monotonic() - started < WAIT_SECONDS / 2
    assert (server.events.waiting, server.events.dropped) == (0, 2)


def test_what_never_began_is_stopped_at_once(servers: Callable[..., Server]) -> None:
    server = servers(start=False)
    server.events.tell(event())
    server.events.stop()
    assert server.events.dropped == 1
