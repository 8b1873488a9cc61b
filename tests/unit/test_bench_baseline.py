"""The parts of `make bench-baseline` that only reckon: what comes when, and whether anybody ever had too much."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aiqueue.cli.harness.errors import HarnessError

if TYPE_CHECKING:
    from baseline.ledger import Limits, Span

FOLDER = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture(autouse=True)
def _programs() -> Iterator[None]:
    """That folder is no package: its programs run by themselves."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


def limits() -> "Limits":
    from baseline.ledger import Limits

    return Limits(leaf=30, tree=40, tree_of={"a": "tree", "b": "tree", "c": "other"})


def spans(*each: tuple[float, float, str, int]) -> "list[Span]":
    from baseline.ledger import Span

    return [Span(*one) for one in each]


def test_a_whole_run_is_fifteen_thousand_jobs_that_need_sixty_six_seconds_of_all_there_is() -> None:
    from baseline import figures, world

    due = world.schedule(1.0)
    assert Counter(world.KINDS[each.kind].name for each in due) == {"small": 10_500, "medium": 3_000, "large": 1_500}
    assert world.cpu_seconds(due) / figures.TOTAL_CPU == pytest.approx(66)
    assert [each.seconds for each in due] == sorted(each.seconds for each in due)
    assert due[-1].seconds == pytest.approx(49 * 1.2)
    assert len({(each.place.namespace, each.name) for each in due}) == len(due)


def test_a_small_share_still_has_every_class_in_every_tenant() -> None:
    from baseline import world
    from stand.places import PLACES

    due = world.schedule(0.001)
    assert Counter((each.place, each.kind) for each in due) == {
        (place, kind): 1 for place in PLACES for kind in range(len(world.KINDS))
    }


def test_what_is_held_is_added_up_over_time_and_what_is_given_back_counts_first() -> None:
    from baseline.ledger import sweep

    swept = sweep(spans((0, 2, "a", 30), (2, 5, "b", 30), (0, 2, "b", 10), (0, 1, "c", 5)), limits())
    assert (swept.most_of_leaf, swept.most_of_tree) == (30, 40)
    assert swept.integral == 2 * 30 + 3 * 30 + 2 * 10 + 5


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([(0.0, 2.0, "a", 20), (1.0, 3.0, "a", 11)], "tenant a held 31 millicores of 30"),
        ([(0.0, 2.0, "a", 30), (1.9, 3.0, "b", 11)], "tenant tree held 41 millicores of 40"),
    ],
)
def test_a_moment_in_which_somebody_has_too_much_fails(runs: list[tuple[float, float, str, int]], said: str) -> None:
    from baseline.ledger import sweep

    with pytest.raises(HarnessError, match=said):
        sweep(spans(*runs), limits())
