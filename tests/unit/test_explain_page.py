"""docs/explain.md quotes what `explain` says: each sentence there is one that is said, and no word of a closed list is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.prospects import Prospects
from aiqueue.cli.making_room_text import why_nobody
from aiqueue.queue.store.views import Leaving
from aiqueue.queue.words import PreemptionRule, Reason, Reclaim, WithinTenant
from fix_builders import make_workload
from fix_rows import at

PAGE = (Path(__file__).parents[2] / "docs" / "explain.md").read_text()
CLAIMANT = make_workload(1, name="gang")
NEVER, LOWER, NEWER = WithinTenant.NEVER, WithinTenant.LOWER_PRIORITY, WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY


@pytest.mark.parametrize("word", [*Reason, *PreemptionRule, *Leaving], ids=str)
def test_every_word_is_explained(word: str) -> None:
    assert word in PAGE


@pytest.mark.parametrize("rule", PreemptionRule, ids=str)
def test_rights_are_quoted_as_they_are_said(rule: PreemptionRule) -> None:
    assert f"| {rule} | `{reasons.makes_room(CLAIMANT, 'research', rule, 'product')}`" in PAGE


def test_the_right_of_the_older_is_quoted_as_it_is_said() -> None:
    said = reasons.makes_room(CLAIMANT, "research", PreemptionRule.WITHIN_TENANT, "research", equal_priority=True)
    assert f"`{said.removeprefix('makes room for team-a/gang of tenant research')}`" in PAGE


@pytest.mark.parametrize(
    ("prospects", "quoted"),
    [
        (Prospects("research", NEVER, Reclaim.NEVER), True),
        (Prospects("research", LOWER, Reclaim.ANY, eligible=2, protected=1), True),
        (Prospects("research", LOWER, Reclaim.ANY, protected=2, protected_until=at(600)), True),
        (Prospects("research", LOWER, Reclaim.ANY, protected=1, protected_until=at(600)), False),
    ],
)
def test_what_keeps_from_preempting_is_quoted_as_it_is_said(prospects: Prospects, *, quoted: bool) -> None:
    assert (f"`{why_nobody(prospects)}`" in PAGE) is quoted


@pytest.mark.parametrize(
    ("prospects", "said"),
    [
        (
            Prospects("research", LOWER, Reclaim.ANY, not_preemptible=1),
            [
                "1 run that might be asked may not be preempted, by class",
                "nobody of tenant research who could be asked has less priority",
                "no other tenant borrows it",
            ],
        ),
        (
            Prospects("research", NEVER, Reclaim.ANY, leaving=1),
            ["1 run that holds it must end already", "withinTenant of tenant research is Never", "no other tenant borrows it"],
        ),
        (
            Prospects("research", NEWER, Reclaim.NEVER, leaving=2),
            [
                "2 runs that hold it must end already",
                "nobody of tenant research who could be asked has less priority or is newer",
                "reclaim of tenant research is Never",
            ],
        ),
        (
            Prospects("research", LOWER, Reclaim.LOWER_PRIORITY),
            [
                "nobody of tenant research who could be asked has less priority",
                "no other tenant borrows it for work of less priority",
            ],
        ),
    ],
)
def test_all_that_keeps_it_is_said_together(prospects: Prospects, said: list[str]) -> None:
    assert why_nobody(prospects).split("; ") == said
