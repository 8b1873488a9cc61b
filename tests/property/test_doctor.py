"""Whatever is as it should be is not told, and whatever is damaged is told, and only it."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from fix_doctor import CONSISTENT, DAMAGES, Damage, Piece, found, look_at

CONDITIONS = st.lists(st.sampled_from(CONSISTENT), max_size=12)


def _pieces(conditions: list[Callable[[int], Piece]]) -> list[Piece]:
    return [condition(number) for number, condition in enumerate(conditions, start=100)]


@given(CONDITIONS)
def test_a_consistent_world_has_no_difference(conditions: list[Callable[[int], Piece]]) -> None:
    assert found(look_at(*_pieces(conditions))) == []


@given(CONDITIONS, st.lists(st.sampled_from(DAMAGES), min_size=1, max_size=4))
def test_each_damage_is_named_and_only_it(conditions: list[Callable[[int], Piece]], damages: list[Damage]) -> None:
    damaged = [(number, each, each.change(each.of(number))) for number, each in enumerate(damages, start=200)]
    told = found(look_at(*_pieces(conditions), *(piece for _, _, piece in damaged)))
    # A ledger that is behind is one difference, however many Jobs show it.
    assert {(each.kind, each.safe) for each in told} == {(damage.kind, damage.safe) for _, damage, _ in damaged}
    assert len(told) == len({(damage.kind, "" if damage.kind == "LedgerOlder" else number) for number, damage, _ in damaged})
    assert all(any(str(number) in f"{each.object} {each.what}" for each in told) for number, _, _ in damaged)
    assert all(each.what and each.cause and each.repair for each in told)
