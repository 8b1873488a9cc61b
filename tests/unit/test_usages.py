"""What the controller tells the engine of decayed usage."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aiqueue.admission.controller.usages import ToldUsages
from aiqueue.admission.engine.engine import Engine
from aiqueue.admission.engine.events import Event, UsageMoved
from aiqueue.queue.usage import Usage
from fix_builders import START, at

A, B = ("team-a", "train", "gpu"), ("team-b", "serve", "gpu")


class Listening(Engine):
    """The engine, with a note of what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Event] = []

    def observe(self, event: Event) -> None:
        """Learn a fact."""
        self.heard.append(event)
        super().observe(event)


@pytest.fixture
def engine() -> Listening:
    return Listening()


def kept(value: float = 1.0, rate: int = 0) -> Usage:
    return Usage(value, rate, 3600, START)


def test_what_moved_is_told_and_nothing_is_told_of_nothing(engine: Listening) -> None:
    told = ToldUsages(engine)
    told.moved({})
    assert engine.heard == []
    told.moved({A: kept()})
    told.moved({B: kept(2.0)})
    told.moved({A: kept(3.0)})
    assert engine.heard == [UsageMoved({A: kept()}), UsageMoved({B: kept(2.0)}), UsageMoved({A: kept(3.0)})]
    assert told.agrees({A: kept(3.0), B: kept(2.0)})
    assert not told.agrees({A: kept(), B: kept(2.0)})
    assert not told.agrees({A: kept(3.0), B: kept(2.0), ("team-c", "new", "gpu"): kept()})


def test_the_whole_is_told_once(engine: Listening) -> None:
    told = ToldUsages(engine)
    told.whole({})
    assert engine.heard == []
    told.whole({A: kept(), B: kept(2.0)})
    told.whole({A: kept(), B: kept(2.0)})
    assert engine.heard == [UsageMoved({A: kept(), B: kept(2.0)})]


def test_what_went_with_its_queue_is_told_as_nothing(engine: Listening) -> None:
    """A queue that is made anew by the name begins with nothing."""
    told = ToldUsages(engine)
    told.moved({A: kept(5.0, rate=3), B: kept()})
    engine.heard.clear()
    assert told.agrees({B: kept()})  # it is heard of with the configuration
    told.whole({B: kept()})
    (event,) = engine.heard
    assert isinstance(event, UsageMoved)
    assert set(event.usages) == {A}
    assert event.usages[A].at(at(0) + timedelta(days=9)) == 0.0
    told.whole({B: kept()})
    assert engine.heard == [event]
