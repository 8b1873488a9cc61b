"""Worked examples of the quota tree: subtree, guaranteed, usage, available and potential, at three levels, with figures.

The rules, for a tenant n and one resource of one flavor (design 5, promise 2; those of Kueue's cohorts):

    subtree(n)    = nominal + sum over children of (subtree - guaranteed)
    guaranteed(n) = max(0, subtree - lending limit), 0 without a limit
    usage(n)      = own + sum over children of max(0, usage - guaranteed)
    available(n)  = max(0, guaranteed - usage) + P, where P = available(parent), and with a borrowing limit at most
                    (subtree - guaranteed) - max(0, usage - guaranteed) + limit;     at the root: subtree - usage
    potential(n)  = guaranteed + potential(parent), with a limit at most subtree + limit;     at the root: subtree
"""

from dataclasses import replace

import pytest

from aiqueue.admission.engine import RunOpened
from aiqueue.queue.records import Quota, Tenant
from aiqueue.queue.words import Reason
from fix_builders import GPU, make_run, make_workload
from fix_rules import Stage, leaf, quota, stage


class TestThreeLevels:
    """org has 10 of its own; lab 4, may borrow 6, lends 5; a 8, lends 3; b 6, may borrow 2; c 12, lends 0; d nothing.

            org 10
           /   |   \\
        lab    c    d          subtree(a) = 8, guaranteed 8 - 3 = 5, puts 3 into lab
       4 b6 l5 12 l0  0         subtree(b) = 6, guaranteed 0, puts 6 into lab
       /  \\                     subtree(lab) = 4 + 3 + 6 = 13, guaranteed 13 - 5 = 8, puts 5 into org
      a    b                    subtree(c) = 12, guaranteed 12 - 0 = 12, puts nothing into org
     8 l3  6 b2                 subtree(org) = 10 + 5 + 0 + 0 = 15
    """

    def built(self) -> Stage:
        return stage(
            Tenant("org", quotas=(quota(10),)),
            leaf("lab", quota(4, 6, 5), parent="org"),
            leaf("a", quota(8, None, 3)),
            leaf("b", quota(6, 2)),
            leaf("c", quota(12, None, 0), parent="org"),
            leaf("d", quota(0), parent="org"),
        )

    def test_the_most_that_each_may_ever_have(self) -> None:
        """potential: org 15; lab min(8 + 15, 13 + 6) = 19; a 5 + 19 = 24; b min(0 + 19, 6 + 2) = 8; c 12 + 15 = 27; d 15."""
        assert self.built().ceilings("a", "b", "c", "d") == (24, 8, 27, 15)

    def test_in_an_idle_tree_all_of_it_is_available(self) -> None:
        assert self.built().room("a", "b", "c", "d") == (24, 8, 27, 15)

    def test_what_one_takes_the_others_miss_only_where_they_would_share_it(self) -> None:
        at = self.built()
        at.run(1, "d", 9)
        # available(org) = 15 - 9 = 6; lab 8 + min(6, 5 - 0 + 6) = 14; a 5 + 14; b min(14, 6 + 2); c 12 + 6; d 6
        assert at.room("a", "b", "c", "d") == (19, 8, 18, 6)
        at.run(2, "a", 7)
        # a's guaranteed 5 are gone, 2 come from lab, whose guaranteed 8 leave 6: org feels nothing
        # lab 6 + min(6, 11) = 12; a 0 + 12; b min(12, 8); c and d as before
        assert at.room("a", "b", "c", "d") == (12, 8, 18, 6)
        at.run(3, "b", 8)
        # usage(lab) = 2 + 8 = 10, of which 2 are beyond its guaranteed 8: usage(org) = 9 + 2 = 11, available 4
        # lab 0 + min(4, 5 - 2 + 6) = 4; a 4; b 6 - 8 + 2 = 0; c 12 + 4; d 4
        assert at.room("a", "b", "c", "d") == (4, 0, 16, 4)
        at.run(4, "c", 16)
        # usage(org) = 11 + (16 - 12) = 15
        assert at.room("a", "b", "c", "d") == (0, 0, 0, 0)

    def test_what_is_given_back_comes_back_where_it_came_from(self) -> None:
        at = self.built()
        for number, (queue, gpus) in enumerate([("d", 9), ("a", 7), ("b", 8), ("c", 16)], 1):
            at.run(number, queue, gpus)
        at.close(2)
        # a: 7 - 5 = 2 of lab's go: usage(lab) = 8, none beyond its guaranteed: usage(org) = 9 + 4 = 13, available 2
        # a 5 + (0 + min(2, 5 - 0 + 6)) = 7; b 6 - 8 + 2 = 0; c 0 + 2; d 2
        assert at.room("a", "b", "c", "d") == (7, 0, 2, 2)
        at.close(1, 3, 4)
        assert at.room("a", "b", "c", "d") == (24, 8, 27, 15)
        assert at.engine.usage() == {}

    def test_one_verdict_names_the_tenant_that_has_to_move(self) -> None:
        at = self.built()
        for number, (queue, gpus) in enumerate([("d", 9), ("a", 7), ("b", 7)], 1):
            at.run(number, queue, gpus)
        at.pend(make_workload(10, gpus=2, queue="b"))
        assert at.admitted() == []
        verdict = at.verdict(10)
        # available(b) = min(.., 6 - 7 + 2) = 1: its own borrowing limit is what stops it
        assert (verdict.shortfalls[0].available, verdict.shortfalls[0].short) == (1, 1)
        assert "freed in b" in verdict.would_change


class TestLimits:
    def test_lending_nothing_keeps_all_of_it(self) -> None:
        """a has 8 and lends 0: guaranteed 8, so b sees b's own 8 only, however idle a is; a may take 8 + 8."""
        at = stage(Tenant("lab"), leaf("a", quota(8, None, 0)), leaf("b", quota(8)))
        assert at.ceilings("a", "b") == (16, 8)
        at.run(1, "b", 8)
        assert at.room("a", "b") == (8, 0)

    def test_borrowing_nothing_has_only_its_own(self) -> None:
        """P = stored 8 - used + 0: all of its own 8 went into lab, and that is all it gets back."""
        at = stage(Tenant("lab"), leaf("a", quota(8, 0)), leaf("b", quota(8)))
        assert at.ceilings("a", "b") == (8, 16)
        at.run(1, "a", 5)
        assert at.room("a", "b") == (3, 11)

    def test_lending_and_borrowing_nothing_is_to_be_alone(self) -> None:
        at = stage(Tenant("lab", quotas=(quota(4),)), leaf("a", quota(8, 0, 0)), leaf("b", quota(8)))
        assert at.ceilings("a", "b") == (8, 12)
        at.run(1, "b", 12)
        assert at.room("a", "b") == (8, 0)

    def test_a_borrowing_limit_of_an_inner_tenant_bounds_all_under_it_together(self) -> None:
        """lab has 4 + 4 = 8 and may borrow 3 of org's 10: 11 in all, whoever of the two has it."""
        at = stage(
            Tenant("org", quotas=(quota(10),)),
            leaf("lab", quota(0, 3), parent="org"),
            leaf("a", quota(4)),
            leaf("b", quota(4)),
        )
        assert at.ceilings("a", "b") == (11, 11)
        at.run(1, "a", 6)
        assert at.room("a", "b") == (5, 5)
        at.run(2, "b", 5)
        assert at.room("a", "b") == (0, 0)

    def test_a_lending_limit_of_an_inner_tenant_is_compared_with_its_subtree(self) -> None:
        """lab: 2 + 6 + 6 = 14 and lends 4, so 10 are guaranteed to those under it: c gets 4 of them, with its own 1."""
        at = stage(
            Tenant("org"),
            leaf("lab", quota(2, None, 4), parent="org"),
            leaf("a", quota(6)),
            leaf("b", quota(6)),
            leaf("c", quota(1), parent="org"),
        )
        assert at.ceilings("a", "b", "c") == (15, 15, 5)
        at.run(1, "c", 5)
        assert at.room("a", "b", "c") == (10, 10, 0)

    def test_what_an_inner_tenant_owns_is_for_whoever_comes_under_it(self) -> None:
        at = stage(Tenant("lab", quotas=(quota(5),)), leaf("a", quota(1)), leaf("b", quota(0)))
        assert at.room("a", "b") == (6, 6)
        at.run(1, "b", 4)
        assert at.room("a", "b") == (2, 2)

    def test_a_limit_counts_from_what_is_used_and_not_from_what_was_asked_first(self) -> None:
        """a: 4, may borrow 2. 3 + 3 fit one after the other, a seventh does not, and 6 at once do."""
        tenants = (Tenant("lab", quotas=(quota(9),)), leaf("a", quota(4, 2)))
        at = stage(*tenants)
        at.run(1, "a", 3)
        at.run(2, "a", 3)
        assert at.room("a") == (0,)
        assert stage(*tenants).room("a") == (6,)


class TestMoreUsedThanThereIs:
    def test_lowering_a_quota_below_its_use_evicts_nobody_and_lets_nobody_in(self) -> None:
        """Alone: 8 used of 8, then of 5: available -3. Four have to go before one fits."""
        at = stage(leaf("a", quota(8), parent=None))
        for number in range(1, 9):
            at.run(number, "a", 1)
        at.configure(leaf("a", quota(5), parent=None))
        plan = at.plan()
        assert (plan.admissions, plan.evictions) == ((), ())
        at.close(1, 2, 3)
        assert at.room("a") == (0,)
        at.close(4)
        assert at.room("a") == (1,)

    def test_an_overdrawn_root_is_felt_by_all_but_not_below_what_they_still_have(self) -> None:
        """a 8 and b 8, which lends 2, so guarantees itself 6; a runs 10, 2 of them borrowed. a is then lowered to 3:
        subtree(lab) = 3 + 2 = 5, usage(lab) = 10, available -5; b: 6 + (-5) = 1; a: 0 + (-5), so nothing.
        """
        at = stage(Tenant("lab"), leaf("a", quota(8)), leaf("b", quota(8, None, 2)))
        at.run(1, "a", 10)
        assert at.room("a", "b") == (0, 6)
        at.configure(leaf("a", quota(3)))
        assert at.room("a", "b") == (0, 1)

    def test_more_used_under_a_lending_limit_than_it_guarantees_is_not_lent_twice(self) -> None:
        """b guarantees itself 4 of 8 and runs 8; lowered to 6 (still lending 4: guaranteed 2), 6 of its runs are of lab's
        subtree 4 + 4 = 8: available(lab) = 8 - 6 = 2, for a and for b alike.
        """
        at = stage(Tenant("lab"), leaf("a", quota(4)), leaf("b", quota(8, None, 4)))
        at.run(1, "b", 8)
        assert at.room("a", "b") == (4, 4)
        at.configure(leaf("b", quota(6, None, 4)))
        assert at.room("a", "b") == (2, 2)

    def test_a_run_that_was_adopted_counts_though_there_was_no_room(self) -> None:
        at = stage(Tenant("lab"), leaf("a", quota(4)), leaf("b", quota(4, None, 0)))
        at.engine.observe(RunOpened(make_run(1, make_workload(1, queue="a"), gpus=6, tenant="a", adopted=True)))
        assert at.room("a", "b") == (0, 2)  # lab -2: a nothing, b 4 - 2


class TestWhatIsListed:
    def test_nobody_borrows_what_it_does_not_list(self) -> None:
        at = stage(Tenant("lab", quotas=(quota(8),)), leaf("a", Quota("h100", "cpu", 1000)), leaf("b", quota(0)))
        assert at.room("b") == (8,)
        at.pend(make_workload(1, queue="a"))
        assert at.admitted() == []
        assert at.reasons(1) == [Reason.RESOURCE_NOT_COVERED]

    def test_a_tenant_between_that_lists_nothing_lets_everything_through(self) -> None:
        at = stage(
            Tenant("org", quotas=(quota(8),)), Tenant("lab", "org"), Tenant("wing", "lab"), leaf("a", quota(2), parent="wing")
        )
        assert at.room("a") == (10,)

    def test_each_resource_and_each_flavor_has_an_algebra_of_its_own(self) -> None:
        """GPUs of h100 may be borrowed, its cpu not; a100 is another matter."""
        lab = Tenant("lab", quotas=(quota(8), Quota("h100", "cpu", 8000), quota(3, flavor="a100")))
        a = leaf("a", quota(1), Quota("h100", "cpu", 2000, 0))
        at = stage(lab, a, leaf("b", quota(0, flavor="a100")))
        assert at.room("a", "b") == (9, 3)
        assert at.fits("a", 4, requests={GPU: 4, "cpu": 2000})
        assert not at.fits("a", 4, requests={GPU: 4, "cpu": 2001})

    @pytest.mark.parametrize("depth", [2, 30, 200])
    def test_a_leaf_far_below_reaches_what_the_root_has(self, depth: int) -> None:
        chain = [Tenant("t0", quotas=(quota(7),))]
        chain += [Tenant(f"t{level}", f"t{level - 1}") for level in range(1, depth)]
        bottom = replace(chain[-1], quotas=(quota(1),))
        at = stage(*chain[:-1], bottom)
        assert at.room(bottom.name) == (8,)
        at.run(1, bottom.name, 5)
        assert at.room(bottom.name) == (3,)
        at.close(1)
        assert at.room(bottom.name) == (8,)
