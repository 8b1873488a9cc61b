"""Fault points: what can be armed, when it fires, and that nothing fires that is not armed."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aiqueue.admission.controller import faults
from aiqueue.queue.errors import InvalidInput, LedgerError
from aiqueue.queue.words import ActionKind

CONTROLLER = Path(faults.__file__).parent


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    faults.arm("")


def test_a_point_fires_once_at_the_time_that_was_said() -> None:
    faults.arm("commit.before=raise#3,commit.after=raise")
    faults.reach("commit.before")
    faults.reach("commit.before")
    with pytest.raises(LedgerError, match=re.escape("commit.before")):
        faults.reach("commit.before")
    faults.reach("commit.before")
    with pytest.raises(LedgerError, match=re.escape("commit.after")):
        faults.reach("commit.after")
    faults.reach("commit.after")


def test_a_delay_waits_as_long_as_it_says() -> None:
    faults.arm("observe.drained=delay:0.05")
    began = time.monotonic()
    faults.reach("observe.drained")
    assert time.monotonic() - began >= 0.05


def test_a_patch_reaches_the_point_of_any_and_that_of_its_kind() -> None:
    for kind in ActionKind:
        for point in ("act.before-patch", f"act.before-{kind.lower()}"):
            faults.arm(f"{point}=raise")
            with pytest.raises(LedgerError, match=re.escape(point)):
                faults.reach_patch("before", kind)


@pytest.mark.parametrize("text", ["commit.never=kill", "commit.before", "commit.before=burn", "commit.before=raise#0", "=kill"])
def test_what_is_not_known_is_a_sentence(text: str) -> None:
    with pytest.raises(InvalidInput, match="write point=fault"):
        faults.arm(text)


def test_every_point_is_reached_by_some_code_and_every_code_reaches_a_point() -> None:
    """Those of actions are put together from their kinds."""
    source = "\n".join(each.read_text() for each in CONTROLLER.glob("*.py") if each.name != "faults.py")
    reached = set(re.findall(r'faults\.reach\("([a-z.-]+)"\)', source))
    for group, tail in re.findall(r'faults\.reach\(f"([a-z]+)\.\{when\}(-[a-z]+)?"\)', source):
        reached |= {f"{group}.{when}{tail}" for when in ("before", "in", "after")}
    of_patches = {
        each
        for each in faults.POINTS
        if re.fullmatch(r"act\.(before|after)-(patch|unsuspend|announce|suspend|expire|restore)", each)
    }
    assert reached | of_patches == set(faults.POINTS)
    assert source.count("faults.reach_patch(") == 4
