"""What the worlds of all the engine's property tests were like, over the run that this test ends."""

import pytest

from fix_engine_shares import TALLIES


@pytest.mark.parametrize(("what", "least"), [("borrows", 30), ("deep", 10)])
def test_enough_examples_borrow_and_are_deep(what: str, least: int) -> None:
    """`deep` is three levels of tenants or more."""
    tallies = [tally for tally in TALLIES.values() if what in tally.had]
    if not tallies:
        pytest.skip("no test that counts this was run")
    had, examples = sum(tally.had[what] for tally in tallies), sum(tally.examples for tally in tallies)
    assert 100 * had >= least * examples, f"{had} of {examples} examples had {what}"
