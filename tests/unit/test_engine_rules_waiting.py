"""Worked examples of what those who wait keep from others, and when they are looked at again, with figures.

Strict: the first that does not fit blocks its tenant, and where it cannot always take back what others borrow (`reclaim` is not
Any) it reserves, of each flavor and resource of the place it would prefer, min(amount, nominal - use): that counts as used for
everybody but its own tenant. BestEffort: others pass; `test_engine_rules_starvation.py` says for how long.
"""

from typing import Any

import pytest

from aiqueue.queue.records import Class, Flavor, PodSet, Tenant
from aiqueue.queue.words import Queueing, Reason, Reclaim
from fix_builders import GPU, at, make_quotas, make_tenant, make_workload
from fix_rules import NOW, Stage, leaf, quota, stage

HEAD = 10
CLASSES = [Class("high", 10)]
FLAVORS = [Flavor("h100", {"gpu": "h100"}), Flavor("a100", {"gpu": "a100"})]


class TestStrict:
    def alone(self, **changes: Any) -> Stage:
        record = make_tenant("s", {"h100": {GPU: 8}}, queueing=Queueing.STRICT, **changes)
        return stage(record, classes=CLASSES)

    def test_the_first_that_does_not_fit_ends_it(self) -> None:
        """6 of 8, then 4 > 2, so the 1 behind it waits though it would fit."""
        on = self.alone()
        on.pend(*(make_workload(number, gpus=gpus, queue="s") for number, gpus in ((1, 6), (2, 4), (3, 1))))
        assert on.admitted() == [1]
        assert on.reasons(2, 3) == [Reason.WAITING_FOR_QUOTA, Reason.BEHIND_HEAD]

    def test_who_comes_before_the_head_passes_it(self) -> None:
        on = self.alone()
        on.run(1, "s", 6)
        on.pend(make_workload(HEAD, gpus=4, queue="s"), make_workload(12, gpus=2, queue="s", class_name="high"))
        assert on.admitted() == [12]

    def test_who_can_never_fit_or_may_not_go_blocks_nobody(self) -> None:
        on = self.alone()
        on.pend(
            make_workload(1, gpus=9, queue="s"),
            make_workload(2, queue="s", held_by_owner=True),
            make_workload(3, queue="s", invalid="no"),
            make_workload(4, queue="s", not_before=at(NOW + 1)),
            make_workload(5, queue="s", class_name="unknown"),
            make_workload(6, gpus=8, queue="s"),
        )
        assert on.admitted() == [6]
        assert on.reasons(1, 2, 3, 4, 5) == [
            Reason.EXCEEDS_CEILING,
            Reason.WORKLOAD_HELD,
            Reason.INVALID_REQUEST,
            Reason.BACKOFF,
            Reason.CLASS_NOT_ALLOWED,
        ]

    def test_a_head_blocks_other_queues_of_its_tenant_and_no_other_tenant(self) -> None:
        on = stage(
            Tenant("lab", quotas=(quota(2),)),
            leaf("s", quota(4), queueing=Queueing.STRICT, reclaim=Reclaim.ANY),
            leaf("o", quota(0)),
        )
        on.run(1, "s", 2)
        on.pend(make_workload(HEAD, gpus=5, queue="s"), make_workload(11, queue="s"), make_workload(12, queue="o"))
        assert on.admitted() == [12]
        assert on.reasons(11) == [Reason.BEHIND_HEAD]


class TestReservation:
    def blocked(self, reclaim: Reclaim, *, gpus: int = 6, queueing: Queueing = Queueing.STRICT) -> Stage:
        """s has 8 and runs 4, o has 4 and runs 4: 4 of 12 are left, and the head of s wants more."""
        on = stage(Tenant("lab"), leaf("s", quota(8), queueing=queueing, reclaim=reclaim), leaf("o", quota(4)), classes=CLASSES)
        for number, queue in ((1, "s"), (2, "s"), (3, "o")):
            on.run(number, queue, 2 if queue == "s" else 4)
        on.pend(make_workload(HEAD, gpus=gpus, queue="s"))
        assert on.admitted() == []
        return on

    @pytest.mark.parametrize(
        ("reclaim", "room"),
        [
            (Reclaim.ANY, 4),  # it can take back what o borrows, so it keeps nothing from o
            (Reclaim.LOWER_PRIORITY, 0),  # min(6, 8 - 4) = 4 reserved of the 4 that are left
            (Reclaim.NEVER, 0),
        ],
    )
    def test_what_is_left_of_its_nominal_is_kept_for_the_head(self, reclaim: Reclaim, room: int) -> None:
        assert self.blocked(reclaim).room("o") == (room,)

    def test_no_more_than_the_head_asks_for(self) -> None:
        """lab has 3 more: 7 are left. A head of 8 finds 7, reserves min(8, 8 - 4) = 4, so o has 3."""
        on = self.blocked(Reclaim.NEVER, gpus=8)
        on.configure(Tenant("lab", quotas=(quota(3),)))
        assert on.room("o") == (3,)
        # Of 8, with 7 used by s, a head of 5 may only have min(5, 8 - 7) = 1: 4 are left of 15, o has 3.
        on.gone(HEAD)
        on.run(4, "s", 3)
        on.pend(make_workload(HEAD, gpus=5, queue="s"))
        assert on.admitted() == []
        assert on.room("o") == (3,)

    def test_who_is_at_its_nominal_reserves_nothing(self) -> None:
        """lab has 3: s uses 8 of 8, a head of 4 would borrow; o may have all that is left."""
        on = stage(
            Tenant("lab", quotas=(quota(3),)),
            leaf("s", quota(8), queueing=Queueing.STRICT, reclaim=Reclaim.NEVER),
            leaf("o", quota(0)),
        )
        on.run(1, "s", 8)
        on.pend(make_workload(HEAD, gpus=4, queue="s"))
        assert on.admitted() == []
        assert on.room("o") == (3,)

    def test_best_effort_reserves_nothing(self) -> None:
        assert self.blocked(Reclaim.NEVER, queueing=Queueing.BEST_EFFORT).room("o") == (4,)

    def test_it_grows_as_more_of_its_nominal_comes_free(self) -> None:
        """A run of 2 ends: s uses 2 of 8, and of the 6 that are left a head of 8 reserves min(8, 8 - 2) = 6."""
        on = self.blocked(Reclaim.NEVER, gpus=8)
        on.close(1)
        assert on.admitted() == []
        assert on.room("o") == (0,)

    def test_it_ends_with_the_head(self) -> None:
        on = self.blocked(Reclaim.NEVER)
        on.gone(HEAD)
        assert on.room("o") == (4,)

    def test_it_ends_as_soon_as_the_head_is_admitted(self) -> None:
        """o's run ends: 8 are left, the head has 6 of them, and o 2."""
        on = self.blocked(Reclaim.NEVER)
        on.close(3)
        assert on.admitted() == [HEAD]
        assert on.room("o") == (2,)

    def test_those_who_wait_for_it_are_told_and_go_when_it_ends(self) -> None:
        on = self.blocked(Reclaim.NEVER)
        on.pend(make_workload(20, gpus=3, queue="o"))
        assert on.admitted() == []
        assert on.reasons(20) == [Reason.WAITING_FOR_QUOTA]
        assert on.verdict(20).shortfalls[0].available == 0
        on.gone(HEAD)
        assert on.admitted() == [20]

    def test_its_own_tenant_may_use_what_is_reserved(self) -> None:
        """A higher priority comes before the head, and takes of what the head has reserved: 4 of 4."""
        on = self.blocked(Reclaim.NEVER)
        on.pend(make_workload(11, gpus=4, queue="s", class_name="high"))
        assert on.admitted() == [11]

    def test_it_is_no_usage(self) -> None:
        on = self.blocked(Reclaim.NEVER)
        assert on.engine.usage() == {("s", "h100", GPU): 4, ("o", "h100", GPU): 4}

    def test_what_is_guaranteed_is_reserved_without_anybody_noticing(self) -> None:
        """s lends 4 of 8 and runs 2, the head wants 11: of min(11, 8 - 2) = 6 reserved, 2 are of its own guaranteed 4, so lab
        feels 4. lab has 4 + 4 = 8, o runs 1: 7 less 4 are 3.
        """
        on = stage(
            Tenant("lab", quotas=(quota(4),)),
            leaf("s", quota(8, None, 4), queueing=Queueing.STRICT, reclaim=Reclaim.NEVER),
            leaf("o", quota(0)),
        )
        on.run(1, "s", 2)
        on.run(2, "o", 1)
        assert on.room("o") == (7,)
        on.pend(make_workload(HEAD, gpus=11, queue="s"))
        assert on.admitted() == []
        assert on.room("o") == (3,)

    @pytest.mark.parametrize(
        ("own", "rooms"),
        [
            ((2, 8), (2, 0)),  # h100 is preferred, and 6 are not within its 2: of a100 min(6, 8) are reserved
            ((7, 8), (0, 5)),  # 6 are within its 7 of h100
            ((2, 2), (0, 5)),  # nor within any: of the first, h100, min(6, 2)
        ],
    )
    def test_the_place_is_the_first_that_is_all_within_its_nominal(self, own: tuple[int, int], rooms: tuple[int, int]) -> None:
        """Whatever s has of the two, they have 8 of each in all, and o runs so much that 2 h100 and 5 a100 are left."""
        rest = (8 - own[0], 8 - own[1])
        on = stage(
            Tenant("lab", quotas=make_quotas({"h100": {GPU: rest[0]}, "a100": {GPU: rest[1]}})),
            leaf("s", quota(own[0]), quota(own[1], flavor="a100"), queueing=Queueing.STRICT, reclaim=Reclaim.NEVER),
            leaf("o", quota(0), quota(0, flavor="a100")),
            flavors=FLAVORS,
        )
        for number, flavor, gpus in ((1, "h100", 6), (2, "a100", 3)):
            on.run(number, "o", gpus, pod_sets=self.on(flavor, gpus))
        on.pend(make_workload(HEAD, gpus=6, queue="s"))
        assert on.admitted() == []
        assert tuple(self.room(on, flavor) for flavor in ("h100", "a100")) == rooms

    def on(self, flavor: str, gpus: int) -> tuple[PodSet, ...]:
        return (PodSet("main", 1, {GPU: gpus}, node_selector={"gpu": flavor}),)

    def room(self, on: Stage, flavor: str) -> int:
        return max((n for n in range(1, 9) if on.fits("o", n, pod_sets=self.on(flavor, n))), default=0)

    def test_pod_sets_reserve_where_each_would_go_and_together_where_they_would_share(self) -> None:
        """s has 4 h100 and 2 a100 and wants 2 and 3 h100 and 1 a100. 2 + 3 > 4 h100, and of a100 3 > 2, so no place is all
        within its nominal: the first is reserved, min(2 + 3, 4) h100 and min(1, 2) a100. o runs 4 of 6 a100 and 1 of 5 h100.
        """
        on = stage(
            Tenant("lab", quotas=make_quotas({"h100": {GPU: 1}, "a100": {GPU: 4}})),
            leaf("s", quota(4), quota(2, flavor="a100"), queueing=Queueing.STRICT, reclaim=Reclaim.NEVER),
            leaf("o", quota(0), quota(0, flavor="a100")),
            flavors=FLAVORS,
        )
        on.run(1, "o", 1, pod_sets=self.on("h100", 1))
        on.run(2, "o", 4, pod_sets=self.on("a100", 4))
        sets = (PodSet("two", 1, {GPU: 2}), PodSet("three", 1, {GPU: 3}), *self.on("a100", 1))
        on.pend(make_workload(HEAD, queue="s", pod_sets=sets))
        assert on.admitted() == []
        assert (self.room(on, "h100"), self.room(on, "a100")) == (0, 1)

    def test_it_counts_in_shares(self) -> None:
        """org 4, under it wing, x and y; wing has s (4, Strict) and o. y runs 1, so 7 of 8 are left, and s's head wants 8: it
        reserves 4. With o's 1, wing uses 5 of its 4: 1/8, as x with its 1. x is older. Without the reservation wing would not
        borrow at all.
        """
        on = stage(
            Tenant("org", quotas=(quota(4),)),
            Tenant("wing", "org"),
            leaf("s", quota(4), parent="wing", queueing=Queueing.STRICT, reclaim=Reclaim.NEVER),
            leaf("o", quota(0), parent="wing"),
            leaf("x", quota(0), parent="org"),
            leaf("y", quota(0), parent="org"),
        )
        on.run(1, "y", 1)
        on.pend(make_workload(HEAD, gpus=8, queue="s"))
        assert on.admitted() == []
        on.pend(make_workload(20, queue="x"), make_workload(21, queue="o"))
        assert on.admitted() == [20, 21]
        on.gone(HEAD)
        on.close(20, 21)
        on.pend(make_workload(22, queue="x"), make_workload(23, queue="o"))
        assert on.admitted() == [23, 22]


class TestWakeUps:
    """A workload that waits is looked at when there is just enough room where it waits, and admitted."""

    def test_where_part_of_it_is_guaranteed(self) -> None:
        """a keeps 3 to itself and asks for 5, so it needs 2 of lab's 4. b runs 1, 1 and 1: with one of them gone there are 2."""
        on = stage(Tenant("lab", quotas=(quota(4),)), leaf("a", quota(3, None, 0)), leaf("b", quota(0)))
        for number in (1, 2, 3):
            on.run(number, "b", 1)
        on.pend(make_workload(10, gpus=5, queue="a"))
        assert on.admitted() == []
        on.close(2)
        assert on.admitted() == [10]

    def test_where_its_own_borrowing_limit_is_in_the_way(self) -> None:
        """a has 4 and may borrow 1; it runs 2 and 2, and asks for 2: there is 1, and 3 when a run has ended."""
        on = stage(Tenant("lab", quotas=(quota(9),)), leaf("a", quota(4, 1)), leaf("b", quota(0)))
        on.run(1, "a", 2)
        on.run(2, "a", 2)
        on.run(3, "b", 5)
        on.pend(make_workload(10, gpus=2, queue="a"))
        assert on.admitted() == []
        on.close(3)  # room, and not where it waits
        assert on.admitted() == []
        on.close(1)
        assert on.admitted() == [10]

    def test_where_a_limit_above_it_is_in_the_way(self) -> None:
        """lab has nothing and may borrow 4: b runs 3 of them, so a's 2 wait for b and for nothing in org."""
        on = stage(
            Tenant("org", quotas=(quota(20),)),
            leaf("lab", quota(0, 4), parent="org"),
            leaf("a", quota(0)),
            leaf("b", quota(0)),
            leaf("c", quota(0), parent="org"),
        )
        on.run(1, "b", 2)
        on.run(2, "b", 1)
        on.run(3, "c", 9)
        on.pend(make_workload(10, gpus=2, queue="a"))
        assert on.admitted() == []
        on.close(3)
        assert on.admitted() == []
        on.close(2)
        assert on.admitted() == [10]

    def test_where_its_pod_sets_may_change_places(self) -> None:
        """1 is left of each flavor, for 1 and 2 pods: 3 more are needed on either with both there, 2 with one elsewhere."""
        on = stage(make_tenant("b", {"h100": {GPU: 8}, "a100": {GPU: 8}}), flavors=FLAVORS)
        for number, flavor, gpus in ((1, "h100", 6), (2, "h100", 1), (3, "a100", 7)):
            on.run(number, "b", gpus, pod_sets=(PodSet("main", 1, {GPU: gpus}, node_selector={"gpu": flavor}),))
        on.pend(make_workload(10, queue="b", pod_sets=(PodSet("one", 1, {GPU: 1}), PodSet("two", 1, {GPU: 2}))))
        assert on.admitted() == []
        on.close(2)
        [admission] = on.plan().admissions
        assert {name: of_one[GPU] for name, of_one in admission.flavors.items()} == {"one": "a100", "two": "h100"}

    def test_where_either_of_two_flavors_will_do(self) -> None:
        on = stage(make_tenant("b", {"h100": {GPU: 4}, "a100": {GPU: 4}}), flavors=FLAVORS)
        for number, flavor in ((1, "h100"), (2, "a100")):
            on.run(number, "b", 4, pod_sets=(PodSet("main", 1, {GPU: 4}, node_selector={"gpu": flavor}),))
        on.pend(make_workload(10, gpus=4, queue="b"))
        assert on.admitted() == []
        on.close(2)
        assert on.admitted() == [10]

    def test_a_plan_that_is_dropped_wakes_nobody_and_forgets_nobody(self) -> None:
        """Three Plans that nobody confirms, then the one that counts, are what it alone would have been."""
        on = stage(Tenant("lab", quotas=(quota(4),)), leaf("a", quota(1, None, 0)), leaf("b", quota(1)))
        on.pend(*(make_workload(number, gpus=1 + number % 2, queue="ab"[number % 2]) for number in range(1, 9)))
        plans = [on.engine.decide(at(NOW)) for _ in range(3)]
        assert plans[0] == plans[1] == plans[2]
        assert on.engine.usage() == {}
        admitted = on.admitted()
        assert admitted == [admission.workload.id for admission in plans[0].admissions]
        on.close(*admitted)
        assert on.admitted() == [3, 5]  # of 3, 5 and 7, which ask for 2 each of the 5 that b may have
