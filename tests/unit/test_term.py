"""How long a term is trusted, and how one waits for it, without a ledger."""

from __future__ import annotations

import threading
import time

import pytest

from aiqueue.admission.controller.clock import LedgerClock
from aiqueue.admission.controller.term import Elector, Term
from fix_follow import AFTER

NOWHERE = "postgresql://nobody@127.0.0.1:9/nothing"  # the discard port


def held(started: float, lease_seconds: float = 8.0) -> Term:
    return Term(1, NOWHERE, holder="one", lease_seconds=lease_seconds, clock=LedgerClock(AFTER), attempt_started=started)


def test_trust_is_counted_from_the_start_of_the_attempt_and_ends_before_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    term = held(started=now)
    assert term.trusted()
    now = 1005.9
    assert term.trusted()
    now = 1006.0
    assert not term.trusted()


def test_an_answer_that_came_late_gives_no_trust() -> None:
    assert not held(started=time.monotonic() - 6.0).trusted()
    assert held(started=time.monotonic() - 5.0).trusted()


def test_a_lost_term_is_not_trusted() -> None:
    term = held(started=time.monotonic())
    term.lost.set()
    assert not term.trusted()


def test_a_term_that_cannot_be_renewed_is_lost_when_its_trust_ends() -> None:
    term = held(started=time.monotonic(), lease_seconds=1.0)
    term.start_renewing()
    assert term.lost.wait(10)
    assert time.monotonic() >= term._trusted_until
    term.close()


class Impatient(threading.Event):
    """Does not wait, notes how long it was to, and is set after so many times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.left = times
        self.longest = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.longest = max(self.longest, timeout)
        self.left -= 1
        if not self.left:
            self.set()
        return self.is_set()


def test_waiting_for_a_ledger_that_is_away_never_ends_in_an_error_nor_in_long_pauses() -> None:
    elector = Elector(NOWHERE, "one", lease_seconds=4.0)
    stop = Impatient(times=1100)
    assert elector.campaign(stop) is None
    assert 5 <= stop.longest <= 10
    assert elector.last_error is not None
    assert "cannot be reached" in elector.last_error
    elector.close()
