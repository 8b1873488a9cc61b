"""Worked examples of who goes first among tenants, and inside one, with figures.

Among tenants (design 5, promise 3): at every tenant the winner of its children is the one that need not borrow what is asked for;
then the one of the lowest share after admission; then by priority; then by age. After each admission all of it is asked again.

    share(n) = max over resources r of  borrowed(n, r) / lendable(n, r) / weight(n)
    borrowed = sum over flavors of max(0, usage - subtree);   lendable = sum over flavors of potential(parent of n)

Inside a tenant: its `order`, of which `usage` is, per queue, the sum over r of weight(r) * usage(r) / (nominal of r in the whole
tree), over the queue's weight. Queues of weight 0 come last.
"""

from fractions import Fraction
from typing import Any

import pytest

from aiqueue.admission.engine import RunOpened, UsageMoved
from aiqueue.queue.records import Class, Flavor, PodSet, Quota, Tenant, Workload
from aiqueue.queue.usage import Usage
from aiqueue.queue.words import OrderKey, Queueing, Reason
from fix_builders import GPU, at, make_configuration, make_queue, make_run, make_tenant, make_workload
from fix_rules import NOW, Stage, leaf, quota, stage

CLASSES = [Class("high", 10), Class("low", -10)]


def jobs(queue: str, first: int, count: int, **changes: Any) -> list[Workload]:
    """Workloads of one GPU each, numbered and so aged from `first` on."""
    return [make_workload(number, queue=queue, **changes) for number in range(first, first + count)]


def letters(admitted: list[int]) -> str:
    """Of workloads numbered from 100 on for a, 200 for b and so on: whose each is."""
    return "".join("?abcdefg"[number // 100] for number in admitted)


class TestWeights:
    def test_weights_one_two_and_three(self) -> None:
        """12 GPUs to borrow, all lendable: share after admission is (n + 1) / 12 / weight; in 72nds 6, 3 and 2 for each more.

        a b c: 6 3 2 -> c, 6 3 4 -> b, 6 6 4 -> c, 6 6 6 -> a (oldest), 12 6 6 -> b, 12 9 6 -> c, 12 9 8 -> c, 12 9 10 -> b,
        12 12 10 -> c, 12 12 12 -> a, 18 12 12 -> b, 18 15 12 -> c. In all 2, 4 and 6.
        """
        at = stage(
            Tenant("lab", quotas=(quota(12),)),
            *(leaf(name, quota(0), weight=Fraction(weight)) for name, weight in (("a", 1), ("b", 2), ("c", 3))),
        )
        at.pend(*jobs("a", 100, 12), *jobs("b", 200, 12), *jobs("c", 300, 12))
        assert letters(at.admitted()) == "cbcabccbcabc"

    def test_equal_weights_take_turns(self) -> None:
        at = stage(Tenant("lab", quotas=(quota(5),)), leaf("a", quota(0)), leaf("b", quota(0)))
        at.pend(*jobs("a", 100, 9), *jobs("b", 200, 9))
        assert letters(at.admitted()) == "ababa"

    def test_a_share_is_counted_from_what_is_borrowed_already(self) -> None:
        """a has borrowed 3: 4/8 against b's 1/8, 2/8, 3/8; at 4/8 each a is older."""
        at = stage(Tenant("lab", quotas=(quota(8),)), leaf("a", quota(0)), leaf("b", quota(0)))
        at.run(1, "a", 3)
        at.pend(*jobs("a", 100, 9), *jobs("b", 200, 9))
        assert letters(at.admitted()) == "bbbab"

    def test_a_large_request_counts_as_what_it_leads_to(self) -> None:
        """Shares are compared after admission: b's 4 at once would be 4/8, so a's ones go first up to 4/8; a is older there."""
        at = stage(Tenant("lab", quotas=(quota(8),)), leaf("a", quota(0)), leaf("b", quota(0)))
        at.pend(*jobs("a", 100, 9), make_workload(200, gpus=4, queue="b"))
        assert letters(at.admitted()) == "aaaab"

    def test_weight_0_comes_after_everybody_while_it_borrows(self) -> None:
        """Older, and of higher priority: its share is infinite all the same."""
        lab = Tenant("lab", quotas=(quota(4),))
        at = stage(lab, leaf("a", quota(0), weight=Fraction(0)), leaf("b", quota(0)), classes=CLASSES)
        at.pend(*jobs("a", 100, 9, class_name="high"), *jobs("b", 200, 3))
        assert letters(at.admitted()) == "bbba"

    def test_what_weight_0_owns_is_its_own(self) -> None:
        at = stage(Tenant("lab", quotas=(quota(4),)), leaf("a", quota(2), weight=Fraction(0)), leaf("b", quota(0)))
        at.pend(*jobs("b", 200, 9), *jobs("a", 300, 3))  # numbered as c, but of queue a
        assert letters(at.admitted()) == "ccbbbb"

    def test_two_of_weight_0_are_compared_by_what_they_borrow(self) -> None:
        lab = Tenant("lab", quotas=(quota(4),))
        at = stage(lab, *(leaf(name, quota(0), weight=Fraction(0)) for name in "ab"))
        at.run(1, "a", 1)
        at.pend(*jobs("a", 100, 9), *jobs("b", 200, 9))
        assert letters(at.admitted()) == "bab"  # 2/4 against 1/4; then 2/4 each, and a is older; then 3/4 against 2/4

    def test_who_borrows_nothing_has_share_0_whatever_its_weight(self) -> None:
        """Neither need borrow GPUs. b has borrowed cpu, so its share is 1/10; a's is 0 though its weight is."""
        cpu = Quota("h100", "cpu", 0)
        at = stage(
            Tenant("lab", quotas=(Quota("h100", "cpu", 10_000),)),
            leaf("a", quota(1), cpu, weight=Fraction(0)),
            leaf("b", quota(1), cpu),
        )
        at.run(1, "b", 0, requests={"cpu": 1000})
        at.pend(*jobs("b", 200, 1), *jobs("a", 300, 1))
        assert letters(at.admitted()) == "cb"


class TestLevels:
    def test_shares_at_two_levels(self) -> None:
        """org has 18; lab (weight 1) has a and b (1 each), wing (weight 2) has c (1) and d (2). All of it is lendable: 18.

        org: lab (n + 1)/18 against wing (n + 1)/36. wing 1; 2 against 2, a is oldest: lab; 4 against 2: wing; 4, 3: wing;
        4, 4: lab; 6, 4: wing. In wing: d 1 against c's 2; then 2, 2: c is older; then d, d. In all 3, 3, 4 and 8.
        """
        at = stage(
            Tenant("org", quotas=(quota(18),)),
            Tenant("lab", "org"),
            Tenant("wing", "org", weight=Fraction(2)),
            leaf("a", quota(0)),
            leaf("b", quota(0)),
            leaf("c", quota(0), parent="wing"),
            leaf("d", quota(0), parent="wing", weight=Fraction(2)),
        )
        for letter, first in (("a", 100), ("b", 200), ("c", 300), ("d", 400)):
            at.pend(*jobs(letter, first, 18))
        order = letters(at.admitted())
        assert order[:6] == "dacdbd"
        assert {letter: order.count(letter) for letter in "abcd"} == {"a": 3, "b": 3, "c": 4, "d": 8}

    def test_who_need_not_borrow_goes_before_older_work_of_higher_priority(self) -> None:
        at = stage(Tenant("lab"), leaf("a", quota(2)), leaf("b", quota(3)), classes=CLASSES)
        at.run(1, "a", 2)
        at.pend(*jobs("a", 100, 9, class_name="high"), *jobs("b", 200, 2, class_name="low"))
        assert letters(at.admitted()) == "bba"

    def test_a_subtree_that_has_it_need_not_borrow_though_the_leaf_must(self) -> None:
        """lab has 4 of its own: what a borrows of them is no more than lab's subtree. c borrows from org, and is older."""
        at = stage(
            Tenant("org", quotas=(quota(2),)),
            Tenant("lab", "org", quotas=(quota(4),)),
            leaf("a", quota(0)),
            leaf("c", quota(0), parent="org"),
            classes=CLASSES,
        )
        at.pend(*jobs("c", 300, 9, class_name="high"), *jobs("a", 400, 4))  # numbered as d, but of queue a
        assert letters(at.admitted()) == "ddddcc"

    def test_only_the_resources_that_are_asked_for_make_it_borrow(self) -> None:
        """a has borrowed cpu and owns GPUs; it asks for a GPU, and goes before b, which owns none."""
        lab = Tenant("lab", quotas=(quota(1), Quota("h100", "cpu", 4000)))
        at = stage(lab, leaf("a", quota(1), Quota("h100", "cpu", 0)), leaf("b", quota(0)))
        at.run(1, "a", 0, requests={"cpu": 4000})
        at.pend(*jobs("b", 200, 1), *jobs("a", 300, 1))
        assert letters(at.admitted()) == "cb"

    def test_what_a_subtree_keeps_to_itself_is_no_borrowing_above(self) -> None:
        """lab lends 1 of 4, so org has 5 + 1 = 6, which is what may be lent. lab uses 4 of 4: borrows nothing, though 1 of it is
        used in org. b has borrowed 1. Four are left: lab 1/6 against 2/6; 2/6 each, b is older; 2/6 against 3/6; 3/6 each.
        """
        at = stage(
            Tenant("org", quotas=(quota(5),)),
            Tenant("lab", "org", quotas=(quota(4, None, 1),)),
            leaf("a", quota(0)),
            leaf("b", quota(0), parent="org"),
        )
        at.run(1, "a", 4)
        at.run(2, "b", 1)
        at.pend(*jobs("b", 200, 9), *jobs("a", 300, 9))
        assert letters(at.admitted()) == "cbcb"


class TestDominantResource:
    def test_the_share_is_that_of_the_resource_borrowed_most(self) -> None:
        """10 GPUs, 100 cpu. a: 1 GPU and 1 cpu, share n/10. b: 1 GPU and 30 cpu, share 3n/10. At 3/10 and 6/10 b is older."""
        lab = Tenant("lab", quotas=(quota(10), Quota("h100", "cpu", 100_000)))
        at = stage(lab, *(leaf(name, quota(0), Quota("h100", "cpu", 0)) for name in "ab"))
        at.pend(*jobs("b", 200, 9, requests={GPU: 1, "cpu": 30_000}), *jobs("a", 300, 9, requests={GPU: 1, "cpu": 1000}))
        assert letters(at.admitted()) == "ccbcccbccc"

    def test_flavors_of_one_resource_add_up(self) -> None:
        """a has borrowed 1 of 6 h100: with an a100 it has 2 of 12. b has 1 of 12 with its first. Flavor by flavor they are even."""
        flavors = [Flavor("h100", {"gpu": "h100"}), Flavor("a100", {"gpu": "a100"})]
        lab = Tenant("lab", quotas=(quota(6), quota(6, flavor="a100")))
        at = stage(lab, *(leaf(name, quota(0), quota(0, flavor="a100")) for name in "ab"), flavors=flavors)
        at.run(1, "a", 1)
        a100 = (PodSet("main", 1, {GPU: 1}, node_selector={"gpu": "a100"}),)
        at.pend(make_workload(100, queue="a", pod_sets=a100), make_workload(200, queue="b", pod_sets=a100))
        assert letters(at.admitted()) == "ba"

    def test_what_can_be_lent_is_what_the_parent_could_ever_use(self) -> None:
        """c keeps its 8 GPUs to itself: lendable are 4, not 12. a's 2 of 4 GPUs are 1/2, b's 4 of 10 cpu 2/5: b first, though
        2/12 would have been less than 2/5.
        """
        cpu = Quota("h100", "cpu", 0)
        at = stage(
            Tenant("lab", quotas=(quota(4), Quota("h100", "cpu", 10_000))),
            leaf("a", quota(0), cpu),
            leaf("b", quota(0), cpu),
            leaf("c", quota(8, None, 0), cpu),
        )
        at.pend(make_workload(100, gpus=2, queue="a"), make_workload(200, requests={"cpu": 4000}, queue="b"))
        assert letters(at.admitted()) == "ba"


class TestTies:
    def test_priority_then_age(self) -> None:
        at = stage(Tenant("lab", quotas=(quota(4),)), leaf("a", quota(0)), leaf("b", quota(0)), classes=CLASSES)
        at.pend(*jobs("a", 100, 2), *jobs("b", 200, 2, class_name="high"))
        assert letters(at.admitted()) == "baba"
        at = stage(Tenant("lab", quotas=(quota(4),)), leaf("a", quota(0)), leaf("b", quota(0)), classes=CLASSES)
        at.pend(*jobs("a", 200, 2), *jobs("b", 100, 2))
        assert letters(at.admitted()) == "abab"

    def test_priority_counts_among_tenants_though_an_order_leaves_it_out(self) -> None:
        lab = Tenant("lab", quotas=(quota(2),))
        at = stage(lab, *(leaf(name, quota(0), order=(OrderKey.SUBMITTED,)) for name in "ab"), classes=CLASSES)
        at.pend(*jobs("a", 100, 1), *jobs("b", 200, 1, class_name="high"))
        assert letters(at.admitted()) == "ba"

    def test_trees_do_not_compete_and_are_told_by_priority_and_age(self) -> None:
        at = stage(*(leaf(name, quota(2), parent=None) for name in "abc"), classes=CLASSES)
        at.pend(*jobs("b", 200, 1), *jobs("a", 101, 1), *jobs("c", 300, 2, class_name="high"))
        assert at.admitted() == [300, 301, 101, 200]


class TestManyAtOnce:
    def test_one_plan_holds_all_that_fits(self) -> None:
        at = stage(Tenant("lab", quotas=(quota(40),)), leaf("a", quota(0)), leaf("b", quota(0)))
        at.pend(*jobs("a", 100, 30), *jobs("b", 200, 30))
        order = letters([admission.workload.id for admission in at.plan().admissions])
        assert order == "ab" * 20

    def test_a_flavor_that_filled_up_changes_the_place_of_the_next(self) -> None:
        """Both prefer h100, of which there is one. b is older and can have nothing else; a is placed again, on a100."""
        flavors = [Flavor("h100", {"gpu": "h100"}), Flavor("a100", {"gpu": "a100"})]
        lab = Tenant("lab", quotas=(quota(1), quota(1, flavor="a100")))
        at = stage(lab, *(leaf(name, quota(0), quota(0, flavor="a100")) for name in "ab"), flavors=flavors)
        picky = (PodSet("main", 1, {GPU: 1}, node_selector={"gpu": "h100"}),)
        at.pend(make_workload(150, queue="b", pod_sets=picky), make_workload(200, queue="a"))
        admissions = at.plan().admissions
        assert [(each.workload.id, each.flavors["main"][GPU]) for each in admissions] == [(150, "h100"), (200, "a100")]

    def test_one_that_no_longer_fits_makes_room_for_the_next_of_its_tenant(self) -> None:
        """a's 3 would go after b's 2 (2/4 against 3/4), no longer fit then, and a's 1 and 1 do, in turn with nobody."""
        at = stage(Tenant("lab", quotas=(quota(4),)), leaf("a", quota(0)), leaf("b", quota(0)))
        at.pend(make_workload(100, gpus=3, queue="a"), *jobs("a", 101, 2), make_workload(200, gpus=2, queue="b"))
        assert at.admitted() == [200, 101, 102]

    def test_the_strict_one_that_no_longer_fits_ends_its_tenants_turn(self) -> None:
        at = stage(Tenant("lab", quotas=(quota(4),)), leaf("a", quota(0), queueing=Queueing.STRICT), leaf("b", quota(0)))
        at.pend(make_workload(100, gpus=3, queue="a"), *jobs("a", 101, 2), make_workload(200, gpus=2, queue="b"))
        assert at.admitted() == [200]


class TestUsage:
    """Tenant research behind queues x and y, with 32 GPUs of which one is left, so that one of two goes."""

    def shared(self, *, x: Fraction = Fraction(1), tree: tuple[Tenant, ...] = (), **tenant: Any) -> Stage:
        record = make_tenant(**tenant)
        queues = [make_queue("x", weight=x), make_queue("y")]
        return Stage(make_configuration([record, *tree], queues, classes=CLASSES))

    def used(self, on: Stage, **values: Usage | float) -> None:
        """What x and y used of GPUs: a value as of `NOW`, or a whole record."""
        known = {
            ("team-a", queue, GPU): used if isinstance(used, Usage) else Usage(used, 0, 100, at(NOW))
            for queue, used in values.items()
        }
        on.engine.observe(UsageMoved(known))

    def first(self, on: Stage, seconds: float = NOW) -> str:
        """Whose work is first in the order: x's is younger."""
        on.pend(make_workload(1, gpus=32, queue="y"), make_workload(2, gpus=32, queue="x"))
        on.engine.decide(at(seconds))
        places = {on.engine.position(2): "x", on.engine.position(1): "y"}
        return places[1, 2] + places[2, 2]

    def test_who_used_less_goes_first(self) -> None:
        stage = self.shared()
        self.used(stage, x=3199.0, y=3200.0)
        assert self.first(stage) == "xy"
        self.used(stage, x=3201.0)
        assert self.first(stage) == "yx"

    def test_a_queue_that_used_nothing_goes_before_one_that_did(self) -> None:
        stage = self.shared()
        self.used(stage, y=0.5)
        assert self.first(stage) == "xy"

    def test_use_is_halved_every_half_life(self) -> None:
        """x: 6400 GPU-seconds as of 900, with a half-life of 100 s, are 3200 at 1000; y has 3300 at 1000. At 950 x's are
        6400 / 2^0.5 = 4525.5.
        """
        stage = self.shared()
        self.used(stage, x=Usage(6400.0, 0, 100, at(900)), y=Usage(3300.0, 0, 10**9, at(900)))
        assert self.first(stage, 950) == "yx"
        assert self.first(stage, 1000) == "xy"

    def test_what_is_held_goes_on_being_used(self) -> None:
        """x holds 32 GPUs since 900: 32 * 100 / ln 2 * (1 - 1/2) = 2308.3 GPU-seconds at 1000."""
        stage = self.shared()
        self.used(stage, x=Usage(0.0, 32, 100, at(900)), y=2308.0)
        assert self.first(stage) == "yx"
        self.used(stage, y=2309.0)
        assert self.first(stage) == "xy"

    def test_the_order_turns_over_with_nothing_happening(self) -> None:
        """x: 100 GPU-seconds decaying by half each 100 s from 1000; y: 60 that hardly decay. 100 * 2^(-t/100) = 60 at
        t = 100 * log2(100/60) = 73.7 s.
        """
        stage = self.shared()
        self.used(stage, x=Usage(100.0, 0, 100, at(1000)), y=Usage(60.0, 0, 10**9, at(1000)))
        assert self.first(stage, 1073) == "yx"
        assert self.first(stage, 1074) == "xy"

    def test_the_engine_asks_to_be_woken_then_where_somebody_is_blocked_and_only_while_there_are_two(self) -> None:
        """As before: x comes to the front between 1073 and 1074 s. When its work is gone there is nothing to wait for."""
        stage = self.shared(queueing=Queueing.STRICT)
        stage.engine.observe(RunOpened(make_run(7, make_workload(7), gpus=32)))
        self.used(stage, x=Usage(100.0, 0, 100, at(1000)), y=Usage(60.0, 0, 10**9, at(1000)))
        stage.pend(make_workload(1, queue="y"), make_workload(2, gpus=2, queue="x"))
        assert stage.plan(1000).wake_at == at(1074)
        assert stage.reasons(1, 2) == [Reason.WAITING_FOR_QUOTA, Reason.BEHIND_HEAD]
        stage.gone(2)
        assert stage.plan(1001).wake_at is None

    def test_a_queue_of_twice_the_weight_may_use_twice_as_much(self) -> None:
        stage = self.shared(x=Fraction(2))
        self.used(stage, x=4199.0, y=2100.0)
        assert self.first(stage) == "xy"
        self.used(stage, x=4201.0)
        assert self.first(stage) == "yx"

    def test_resources_are_measured_by_what_the_tree_has(self) -> None:
        """x used 320 GPU-seconds of 32 GPUs: 10 s. y used 600,000 millicore-seconds of 100,000: 6 s."""
        stage = self.shared(quotas={"h100": {GPU: 32, "cpu": 100_000}})
        self.used(stage, x=320.0)
        stage.engine.observe(UsageMoved({("team-a", "y", "cpu"): Usage(600_000.0, 0, 100, at(NOW))}))
        assert self.first(stage) == "yx"
        stage.engine.observe(UsageMoved({("team-a", "y", "cpu"): Usage(1_100_000.0, 0, 100, at(NOW))}))
        assert self.first(stage) == "xy"  # 11 s

    def test_all_of_the_tree_is_counted_and_all_flavors(self) -> None:
        """y's 600,000 are 12 s of research's own 50,000 millicores. Its root's and its sibling's make that 150,000: 4 s."""
        own = {"h100": {GPU: 32, "cpu": 50_000}}
        alone = self.shared(quotas=own)
        tree = (
            Tenant("lab", quotas=(Quota("h100", "cpu", 50_000),)),
            leaf("other", Quota("a100", "cpu", 50_000), Quota("a100", GPU, 0)),
        )
        together = self.shared(quotas=own, parent="lab", tree=tree)
        for each, order in ((alone, "xy"), (together, "yx")):
            self.used(each, x=320.0)
            each.engine.observe(UsageMoved({("team-a", "y", "cpu"): Usage(600_000.0, 0, 100, at(NOW))}))
            assert self.first(each) == order

    def test_a_resource_may_count_more_or_not_at_all(self) -> None:
        """x: 320 / 32 * 1 = 10 s. y: 600,000 / 100,000 = 6 s of cpu, times 2 = 12 s, or times 0."""
        for weight, order in ((Fraction(2), "xy"), (Fraction(0), "yx"), (Fraction(5, 3), "yx"), (Fraction(17, 10), "xy")):
            stage = self.shared(quotas={"h100": {GPU: 32, "cpu": 100_000}}, usage_weights={"cpu": weight})
            self.used(stage, x=320.0)
            stage.engine.observe(UsageMoved({("team-a", "y", "cpu"): Usage(600_000.0, 0, 100, at(NOW))}))
            # 5/3 of 6 s are 10 s: even, and y is older
            assert self.first(stage) == order

    def test_what_the_tree_has_nothing_of_does_not_count(self) -> None:
        stage = self.shared()
        stage.engine.observe(UsageMoved({("team-a", "y", "example.com/gone"): Usage(1e12, 0, 100, at(NOW))}))
        assert self.first(stage) == "yx"

    def test_less_than_a_millionth_of_a_second_apart_is_even(self) -> None:
        stage = self.shared()
        self.used(stage, x=3200.0, y=3200.00001)  # 100 s and 100.0000003 s
        assert self.first(stage) == "yx"
        self.used(stage, y=3200.0001)  # 100.000003 s
        assert self.first(stage) == "xy"

    def test_the_order_of_a_plan_is_that_of_its_moment(self) -> None:
        """What a Plan admits counts when the ledger folded it: x, which used less, has all of this Plan, and then it is y's turn."""
        stage = self.shared(quotas={"h100": {GPU: 3}})
        self.used(stage, x=1.0, y=2.0)
        stage.pend(*jobs("y", 1, 3), *jobs("x", 11, 3))
        assert stage.admitted() == [11, 12, 13]
        stage.close(11, 12, 13)
        self.used(stage, x=3.0)
        stage.pend(*jobs("x", 14, 3))
        assert stage.admitted() == [1, 2, 3]


class TestOrders:
    def first_of(self, *order: OrderKey, x: Fraction = Fraction(1)) -> str:
        """Whose goes first: x's (older, low, used 1 s' worth) or y's (younger, high, used 2) or z's (youngest, high, used 0)."""
        tenant = make_tenant(order=order, quotas={"h100": {GPU: 1}})
        queues = [make_queue("x", weight=x), make_queue("y"), make_queue("z")]
        stage = Stage(make_configuration([tenant], queues, classes=CLASSES))
        stage.engine.observe(
            UsageMoved({("team-a", name, GPU): Usage(used, 0, 100, at(NOW)) for name, used in (("x", 1.0), ("y", 2.0))})
        )
        stage.pend(
            make_workload(1, queue="x", class_name="low"),
            make_workload(2, queue="y", class_name="high"),
            make_workload(3, queue="z", class_name="high"),
        )
        stage.engine.decide(at(NOW))
        places = {stage.engine.position(number)[0]: name for number, name in ((1, "x"), (2, "y"), (3, "z"))}
        return "".join(places[place] for place in (1, 2, 3))

    @pytest.mark.parametrize(
        ("order", "expected"),
        [
            ((OrderKey.PRIORITY, OrderKey.USAGE, OrderKey.SUBMITTED), "zyx"),
            ((OrderKey.USAGE, OrderKey.PRIORITY, OrderKey.SUBMITTED), "zxy"),
            ((OrderKey.PRIORITY, OrderKey.SUBMITTED), "yzx"),
            ((OrderKey.USAGE, OrderKey.SUBMITTED), "zxy"),
            ((OrderKey.SUBMITTED,), "xyz"),
        ],
    )
    def test_keys_count_in_the_order_they_are_written(self, order: tuple[OrderKey, ...], expected: str) -> None:
        assert self.first_of(*order) == expected

    @pytest.mark.parametrize("order", [(OrderKey.SUBMITTED,), (OrderKey.USAGE, OrderKey.SUBMITTED)])
    def test_a_queue_of_weight_0_comes_last_in_any_order(self, order: tuple[OrderKey, ...]) -> None:
        assert self.first_of(*order, x=Fraction(0))[-1] == "x"

    def test_queues_of_weight_0_are_ordered_among_themselves(self) -> None:
        tenant = make_tenant(order=(OrderKey.USAGE, OrderKey.SUBMITTED), quotas={"h100": {GPU: 1}})
        queues = [make_queue(name, weight=Fraction(0)) for name in ("x", "y")]
        stage = Stage(make_configuration([tenant], queues))
        stage.engine.observe(UsageMoved({("team-a", "x", GPU): Usage(5.0, 0, 100, at(NOW))}))
        stage.pend(make_workload(1, queue="x"), make_workload(2, queue="y"))
        assert stage.admitted() == [2]

    def test_of_one_age_the_one_observed_first_then_the_lesser_uid(self) -> None:
        stage = Stage(make_configuration([make_tenant(quotas={"h100": {GPU: 1}})]))
        stage.pend(make_workload(3, created=5), make_workload(2, created=5), make_workload(9, created=4))
        assert [stage.engine.position(number)[0] for number in (9, 2, 3)] == [1, 2, 3]
