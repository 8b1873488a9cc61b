"""Questions are asked until they are answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from aiqueue.admission.controller.confirm import Confirmer, Question
from aiqueue.admission.controller.facts import Fact, Inbox, JobGone
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.errors import LedgerError

WAIT_SECONDS = 60.0


class Asking:
    """A confirmer whose questions note when they are asked."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.confirmer = Confirmer(self.inbox, threads=2)
        self.asked: list[str] = []
        self.heard: list[Fact] = []
        self.gate = threading.Event()
        self.gate.set()

    def question(self, uid: str, *answers: Fact | Exception | None) -> Question:
        left = list(answers)

        def ask() -> Fact | None:
            self.asked.append(uid)
            assert self.gate.wait(WAIT_SECONDS)
            answer = left.pop(0) if left else JobGone(uid)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return Question(("job", uid), ask)

    def until(self, probe: Callable[[], object], what: str) -> None:
        until(probe, seconds=WAIT_SECONDS, what=what, longest_pause_seconds=0.01)

    def until_heard(self, count: int) -> list[Fact]:
        def enough() -> bool:
            self.heard += self.inbox.drain()
            return len(self.heard) >= count

        self.until(enough, f"{count} answers")
        return self.heard


@pytest.fixture
def asking() -> Iterator[Asking]:
    made = Asking()
    made.confirmer.start()
    yield made
    made.gate.set()
    made.confirmer.stop()
    assert not any(thread.is_alive() for thread in made.confirmer._workers._threads)


@pytest.mark.parametrize("not_yet", [None, LedgerError("away"), RuntimeError("a fault of ours")])
def test_a_question_is_asked_until_it_is_answered(asking: Asking, not_yet: Exception | None) -> None:
    asking.confirmer.ask(asking.question("uid-1", not_yet, not_yet))
    assert asking.until_heard(1) == [JobGone("uid-1")]
    assert asking.asked == ["uid-1"] * 3
    assert asking.confirmer._open == set()
    assert asking.confirmer._due == []


def test_the_same_question_is_open_once(asking: Asking) -> None:
    asking.gate.clear()
    asking.confirmer.ask(asking.question("uid-1"))
    asking.until(lambda: asking.asked, "the question to be asked")
    for _ in range(5):
        asking.confirmer.ask(asking.question("uid-1"))
    asking.gate.set()
    asking.until_heard(1)
    asking.confirmer.ask(asking.question("uid-2"))
    assert asking.until_heard(2) == [JobGone("uid-1"), JobGone("uid-2")]
    assert asking.asked == ["uid-1", "uid-2"]


def test_an_answered_question_may_be_asked_again(asking: Asking) -> None:
    asking.confirmer.ask(asking.question("uid-1"))
    asking.until_heard(1)
    asking.confirmer.ask(asking.question("uid-1"))
    asking.until_heard(2)


def test_one_that_is_not_answered_does_not_hold_up_the_others(asking: Asking) -> None:
    asking.confirmer.ask(asking.question("uid-0", *[None] * 1000))
    asking.until(lambda: len(asking.asked) > 2, "the first to be asked a few times")
    for number in range(1, 20):
        asking.confirmer.ask(asking.question(f"uid-{number}"))
    assert len(asking.until_heard(19)) == 19


def test_every_answer_wakes_the_cycle(asking: Asking) -> None:
    woken = threading.Event()
    asking.inbox.wake = woken.set
    asking.confirmer.ask(asking.question("uid-1"))
    assert woken.wait(WAIT_SECONDS)
