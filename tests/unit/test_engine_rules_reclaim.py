"""Worked examples of who has to make room for workloads of other tenants, by which right, with figures.

From other tenants of its tree a workload takes only what they borrow: back to its own nominal from anybody, beyond that by shares,
compared between the two sides below the lowest tenant above both. P is the side of who preempts, with what it asks for; T the
other, before and after the run is gone:

    FinalShare      newP <= newT and newP < oldT
    InitialShare    newP < oldT, for those whom that refused, one of each tenant
"""

from fractions import Fraction
from typing import Any

import pytest

from aiqueue.queue.records import Tenant
from aiqueue.queue.words import PreemptionRule, Reclaim, WithinTenant
from fix_builders import make_workload
from fix_preempting import ASKS, CLASSES, FINAL, INITIAL, NOMINAL, asks, lab
from fix_rules import NOW, Stage, contested, leaf, put_out, quota


class TestReclaim:
    """a and b have 4 each; b runs 6 or 8, and so borrows."""

    @pytest.mark.parametrize(
        ("reclaim", "class_name", "put_out"),
        [
            (Reclaim.ANY, None, {1: NOMINAL}),
            (Reclaim.ANY, "low", {1: NOMINAL}),  # of a lower priority than run 1
            (Reclaim.LOWER_PRIORITY, "high", {1: NOMINAL}),
            (Reclaim.LOWER_PRIORITY, None, {}),
            (Reclaim.NEVER, "high", {}),
        ],
    )
    def test_the_policy_of_who_takes_back(
        self, reclaim: Reclaim, class_name: str | None, put_out: dict[int, PreemptionRule]
    ) -> None:
        on = lab(
            leaf("a", quota(4), reclaim=reclaim), leaf("b", quota(4), reclaim=Reclaim.NEVER, within_tenant=WithinTenant.NEVER)
        )
        on.run(1, "b", 8)
        assert asks(on, "a", 4, class_name=class_name) == put_out

    def test_only_what_is_borrowed(self) -> None:
        """b runs 2, 2 and 2 of its 4: it borrows 2. a asks for its 4, and 2 are free: one of b's has to go."""
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)))
        for number in (1, 2, 3):
            on.run(number, "b", 2)
        assert asks(on, "a", 4) == {1: NOMINAL}

    def test_who_borrows_nothing_is_safe(self) -> None:
        """c runs its own 4, b 4 of its own and 4 of a's. a asks for 4: c's runs lose less, and stay."""
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)), leaf("c", quota(4)))
        on.run(1, "b", 8)
        on.run(2, "c", 4, class_name="low")
        assert asks(on, "a", 4, class_name="urgent") == {1: NOMINAL}

    def test_even_where_nobody_else_could_be_put_out(self) -> None:
        """b has all that it borrows under a class that is not preemptible; c runs its own."""
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)), leaf("c", quota(4)))
        on.run(1, "b", 8, class_name="solid")
        on.run(2, "c", 4, class_name="low")
        assert asks(on, "a", 4, class_name="urgent") == {}

    def test_once_it_borrows_nothing_more_the_rest_is_safe(self) -> None:
        """b runs 2, 2, 2 and 2. a asks for 5 of its 4 and one of c's: two of b's leave 4, the fifth would be b's own."""
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)), leaf("c", quota(1)))
        on.run(9, "c", 1)
        for number in (1, 2, 3, 4):
            on.run(number, "b", 2)
        assert asks(on, "a", 5) == {}

    def test_also_where_others_keep_what_they_borrow(self) -> None:
        """b borrows 2 of a's 4 and c 2, which c has under a class that is not preemptible: of b's 2, 2 and 2 only one could go."""
        on = lab(leaf("a", quota(4)), leaf("b", quota(4)), leaf("c", quota(0)))
        on.run(9, "c", 2, class_name="solid")
        for number in (1, 2, 3):
            on.run(number, "b", 2)
        assert asks(on, "a", 4) == {}
        on.gone(ASKS)
        on.pend(make_workload(51, gpus=2, queue="a"))
        assert put_out(on.plan()) == {1: NOMINAL}

    def test_whoever_has_the_larger_share_is_first(self) -> None:
        """a 6; b borrows 4, c borrows 2. a asks for 2: b's share is the larger, though c's run is of lower priority."""
        on = lab(leaf("a", quota(6)), leaf("b", quota(1)), leaf("c", quota(1)))
        on.run(1, "b", 5)
        on.run(2, "c", 3, class_name="low")
        assert asks(on, "a", 2) == {1: NOMINAL}

    def test_and_then_it_is_looked_at_anew(self) -> None:
        """a 6; b borrows 3 of it by runs of 2 and 2, c borrows 2 by 3. After one of b's, b borrows 1 and c 2: then c's goes."""
        on = lab(leaf("a", quota(6)), leaf("b", quota(1)), leaf("c", quota(1)))
        on.run(1, "b", 2)
        on.run(2, "b", 2)
        on.run(3, "c", 3)
        assert asks(on, "a", 5) == {1: NOMINAL, 3: NOMINAL}

    def test_a_weight_counts(self) -> None:
        """b borrows 4 with weight 4, c borrows 2 with weight 1: 1 against 2."""
        on = lab(leaf("a", quota(6)), leaf("b", quota(1), weight=Fraction(4)), leaf("c", quota(1)))
        on.run(1, "b", 5)
        on.run(2, "c", 3)
        assert asks(on, "a", 2) == {2: NOMINAL}

    def test_weight_0_is_first_and_keeps_what_is_its_own(self) -> None:
        """b, of weight 0, borrows 1 of a's 6 and runs 2 of its own besides; c borrows 5. a asks for 1, then for 1 more."""
        on = lab(leaf("a", quota(6)), leaf("b", quota(2), weight=Fraction(0)), leaf("c", quota(1)))
        for number in (1, 2, 3):
            on.run(number, "b", 1)
        on.run(4, "c", 6)
        assert asks(on, "a", 1) == {1: NOMINAL}
        on.close(1)
        assert on.admitted() == [ASKS]
        on.pend(make_workload(51, queue="a"))
        assert put_out(on.plan()) == {4: NOMINAL}

    def test_what_is_not_lent_is_not_reclaimed(self) -> None:
        """b keeps its 4, runs them and 2 of lab's 4, of which a borrows 2: a's 2 more would have to be b's by shares, and are not
        a's own: its share 4/4 is larger than b's 2/4.
        """
        on = lab(leaf("a", quota(0)), leaf("b", quota(4, None, 0)), common=4)
        on.run(1, "b", 6)
        on.run(2, "a", 2)
        assert asks(on, "a", 2) == {}

    def test_trees_do_not_take_from_each_other(self) -> None:
        on = contested(Tenant("lab"), leaf("a", quota(4)), Tenant("org", quotas=(quota(8),)), leaf("b", quota(0), parent="org"))
        on.run(1, "b", 8)
        on.run(2, "a", 4)
        assert asks(on, "a", 4) == {}


class TestShares:
    """lab has 8 for a and b, which have nothing of their own."""

    def both(self, *sizes: int, **changes: Any) -> Stage:
        """b runs these."""
        on = lab(leaf("a", quota(0), **changes), leaf("b", quota(0)), common=8)
        for number, gpus in enumerate(sizes, 1):
            on.run(number, "b", gpus)
        return on

    def test_until_both_have_the_same(self) -> None:
        """a comes to 2/8 of b's 6/8, then to 4/8 of 4/8; with 6/8 it would have more than b has."""
        on = self.both(2, 2, 2, 2)
        assert asks(on, "a", 2) == {1: FINAL}
        on.close(1)
        assert on.admitted() == [ASKS]
        on.pend(make_workload(51, gpus=2, queue="a"))
        assert put_out(on.plan()) == {2: FINAL}
        on.close(2)
        assert on.admitted() == [51]
        on.pend(make_workload(52, gpus=2, queue="a"))
        assert put_out(on.plan()) == {}

    def test_a_run_larger_than_that_by_the_share_before_it_goes(self) -> None:
        """2/8 is more than the 0 that b would be left with, and less than the 8/8 that it has."""
        assert asks(self.both(8), "a", 2) == {1: INITIAL}

    def test_and_it_does_not_come_back_the_same_way(self) -> None:
        on = self.both(8)
        assert asks(on, "a", 2) == {1: INITIAL}
        on.close(1)
        on.pend(make_workload(1, gpus=8, queue="b", attempt=1))
        assert on.admitted() == [ASKS]
        assert put_out(on.plan(NOW + 1000)) == {}

    def test_equal_shares_are_not_traded(self) -> None:
        """4/8 would leave b with 4/8 - but b has 4/8: who is there stays."""
        on = lab(leaf("a", quota(0)), leaf("b", quota(0)), leaf("c", quota(0)), common=8)
        on.run(1, "b", 4)
        on.run(2, "c", 4)
        assert asks(on, "a", 4) == {}

    def test_who_would_have_less_even_then_goes_first(self) -> None:
        """Of b's 6 and 2: asked for 4, newP 4/8. Without run 2, b has 6/8: final. Then 6/8 without run 1 is 0: 4/8 < 6/8, initial.
        Run 1 alone is room enough, so run 2 stays.
        """
        on = lab(leaf("a", quota(0)), leaf("b", quota(0)), common=8)
        on.run(1, "b", 6)
        on.run(2, "b", 2)
        assert asks(on, "a", 4) == {1: INITIAL}

    def test_priority_does_not_matter_to_any(self) -> None:
        on = lab(leaf("a", quota(0)), leaf("b", quota(0)), common=8)
        on.run(1, "b", 4, class_name="urgent")
        on.run(2, "b", 4, class_name="urgent")
        assert asks(on, "a", 4, class_name="low") == {1: FINAL}

    def test_twice_the_weight_takes_twice_as_much(self) -> None:
        """a has weight 2: with 4, 2/8; with 6, 3/8 - and b would have 2/8 left, but has 4/8."""
        on = self.both(2, 2, 2, 2, weight=Fraction(2))
        for number in (50, 51):
            on.pend(make_workload(number, gpus=2, queue="a"))
            [victim] = put_out(on.plan())
            on.close(victim)
            assert on.admitted() == [number]
        on.pend(make_workload(52, gpus=2, queue="a"))
        assert list(put_out(on.plan()).values()) == [INITIAL]

    def test_shares_are_compared_where_the_two_ways_part(self) -> None:
        """org 8; wing with a and c, and b. c runs 4, b 4. a asks for 2: wing would have 6/8, b has 4/8. Of c, its sibling, it may
        take: 2/8 against the 4/8 that c has, and 0 without it.
        """
        on = contested(
            Tenant("org", quotas=(quota(8),)),
            Tenant("wing", "org"),
            leaf("a", quota(0), parent="wing"),
            leaf("c", quota(0), parent="wing"),
            leaf("b", quota(0), parent="org"),
        )
        on.run(1, "c", 4)
        on.run(2, "b", 4)
        assert asks(on, "a", 2) == {1: INITIAL}

    def test_a_wing_is_safe_as_long_as_it_borrows_nothing(self) -> None:
        """wing has 4, its c runs them and nothing beyond. b 4 of org's 4. a, beside wing, has nothing: b's is what it may take."""
        on = contested(
            Tenant("org", quotas=(quota(4),)),
            Tenant("wing", "org", quotas=(quota(4),)),
            leaf("c", quota(0), parent="wing"),
            leaf("b", quota(0), parent="org"),
            leaf("a", quota(0), parent="org"),
            classes=CLASSES,
        )
        on.run(1, "c", 4, class_name="low")
        on.run(2, "b", 2)
        on.run(3, "b", 2)
        assert asks(on, "a", 2, class_name="high") == {2: FINAL}
