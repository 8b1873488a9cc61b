"""Worked examples of the search for victims itself, with figures. GPUs of one flavor unless it is said otherwise."""

from dataclasses import replace
from fractions import Fraction

import pytest

from aiqueue.admission.engine.candidates import SHARE_RUNS
from aiqueue.admission.engine.instants import micros, moment
from aiqueue.queue.records import Quota
from aiqueue.queue.words import Reclaim, WithinTenant
from fix_builders import at
from fix_engine_victims import (
    FINAL,
    INITIAL,
    MICROSECOND,
    NOMINAL,
    WITHIN,
    A,
    Asker,
    Holder,
    Naive,
    Scene,
    Stage,
    Taken,
    gpus,
    scene,
    search,
    tenant,
)

B, CPU = ("b", "gpu"), ("a", "cpu")
NEWER = WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY


def found(given: Scene) -> list[Taken] | None:
    """What the search answers; and what the rules say, the slow way, is the same."""
    answer = search(given)
    assert answer == Naive(given).search()
    return answer


def alone(*holders: Holder, asks: Asker, total: int = 8, within: WithinTenant = NEWER) -> Scene:
    """Tenant t, alone."""
    return scene([tenant("t", None, total, within_tenant=within)], holders, asks)


def pool(*holders: Holder, asks: Asker, total: int = 8, **weights: Fraction) -> Scene:
    """x, y and z have nothing of their own of what lab has."""
    leaves = [tenant(name, "lab", 0, weight=weights.get(name, Fraction(1))) for name in ("x", "y", "z")]
    return scene([tenant("lab", None, total), *leaves], holders, asks)


class TestNobody:
    def test_who_fits_asks_nobody(self) -> None:
        given = alone(Holder(1, "t", {A: 4}), asks=Asker("t", {A: 4}, 1))
        assert found(given) is None
        assert not Stage(given).hopeful()

    def test_who_never_fits_asks_nobody(self) -> None:
        assert found(alone(Holder(1, "t", {A: 4}), asks=Asker("t", {A: 9}, 1))) is None

    def test_who_is_not_room_enough_stays(self) -> None:
        held = [Holder(1, "t", {A: 4}), Holder(2, "t", {A: 4}, priority=1)]
        assert found(alone(*held, asks=Asker("t", {A: 5}, 1))) is None

    def test_a_run_of_a_tenant_that_is_gone(self) -> None:
        given = alone(Holder(1, "gone", {A: 4}), Holder(2, "t", {A: 8}), asks=Asker("t", {A: 4}, 1))
        assert found(given) == [(2, WITHIN)]


class TestWithinTheTenant:
    @pytest.mark.parametrize(
        ("within", "priority", "created", "victims"),
        [
            (WithinTenant.LOWER_PRIORITY, 6, 999, [(1, WITHIN)]),
            (WithinTenant.LOWER_PRIORITY, 5, 0, None),
            (WithinTenant.NEVER, 6, 0, None),
            (NEWER, 6, 999, [(1, WITHIN)]),
            (NEWER, 5, 500 - MICROSECOND, [(1, WITHIN)]),
            (NEWER, 5, 500, None),  # as old: its number is the greater one
            (NEWER, 5, 500 + MICROSECOND, None),
            (NEWER, 4, 0, None),
        ],
    )
    def test_the_policy_at_its_bounds(
        self, within: WithinTenant, priority: int, created: float, victims: list[Taken] | None
    ) -> None:
        """Run 1 has priority 5 and was created at 500."""
        held = Holder(1, "t", {A: 8}, priority=5, created=500)
        given = alone(held, asks=Asker("t", {A: 4}, priority, created), within=within)
        assert found(given) == victims
        assert Stage(given).hopeful() is (victims is not None)

    @pytest.mark.parametrize(
        ("second", "victim"),
        [
            (Holder(2, "t", {A: 4}, priority=-1, since=0), 2),  # lower, whatever it loses
            (Holder(2, "t", {A: 4}, since=899), 1),  # loses 101 s of 4, against 100 s of 4
            (Holder(2, "t", {A: 4}, since=0, checkpoint=999), 2),  # saved at 999: 1 s
            (Holder(2, "t", {A: 4}, since=0, checkpoint=500), 2),  # saved just now: 0 s
            (Holder(2, "t", {A: 2}, since=801), 2),  # 199 s of 2, against 100 s of 4
            (Holder(2, "t", {A: 2}, since=800), 1),  # 400 as well: the later opened
            (Holder(2, "t", {A: 4}, since=900), 1),  # equal in all: the lesser number
        ],
    )
    def test_who_is_first(self, second: Holder, victim: int) -> None:
        given = alone(Holder(1, "t", {A: 4}, since=900), second, asks=Asker("t", {A: 2}, 1), total=4 + second.amounts[A])
        assert found(given) == [(victim, WITHIN)]

    @pytest.mark.parametrize(("cpu", "victim"), [(12, 1), (13, 2)])
    def test_work_lost_counts_the_resource_that_is_scarcest_to_the_asker(self, cpu: int, victim: int) -> None:
        """Of 8 GPUs it asks for 1, an eighth; of 100 cpu for 12 or for 13. Run 1 holds fewer GPUs, run 2 less cpu."""
        quotas = (gpus(8), Quota("a", "cpu", 100))
        held = [Holder(1, "t", {A: 3, CPU: 60}), Holder(2, "t", {A: 5, CPU: 40})]
        assert found(scene([tenant("t", None, *quotas)], held, Asker("t", {A: 1, CPU: cpu}, 1))) == [(victim, WITHIN)]

    def test_of_equally_scarce_ones_the_first_by_name(self) -> None:
        quotas = (gpus(8), Quota("a", "cpu", 80))
        held = [Holder(1, "t", {A: 3, CPU: 50}), Holder(2, "t", {A: 5, CPU: 30})]
        assert found(scene([tenant("t", None, *quotas)], held, Asker("t", {A: 1, CPU: 10}, 1))) == [(2, WITHIN)]

    def test_only_who_holds_what_is_needed(self) -> None:
        quotas = (gpus(8), gpus(8, flavor="b"))
        held = [Holder(1, "t", {B: 4}), Holder(2, "t", {A: 8}, since=500)]
        assert found(scene([tenant("t", None, *quotas)], held, Asker("t", {A: 2, B: 4}, 1))) == [(2, WITHIN)]

    def test_the_smallest_set_of_its_order(self) -> None:
        """1, 1 and 6 are taken for 6; then both small ones are put back."""
        held = [Holder(1, "t", {A: 1}, since=999), Holder(2, "t", {A: 1}, since=999), Holder(3, "t", {A: 6})]
        assert found(alone(*held, asks=Asker("t", {A: 6}, 1))) == [(3, WITHIN)]


class TestTheContract:
    @pytest.mark.parametrize(
        ("since", "taken"), [(460, True), (460 + MICROSECOND, False), (460 - MICROSECOND, True), (1000, False)]
    )
    def test_minimal_runtime_to_the_microsecond(self, since: float, taken: bool) -> None:
        """600 s, of which a grace of 60 s may be the last: from 540 s on."""
        held = Holder(1, "t", {A: 8}, since=since, min_runtime=600, grace=60)
        assert (found(alone(held, asks=Asker("t", {A: 4}, 1))) is not None) is taken

    @pytest.mark.parametrize(("grace", "taken"), [(600, True), (599, False)])
    def test_a_grace_as_long_as_the_minimal_runtime_protects_nobody(self, grace: int, taken: bool) -> None:
        held = Holder(1, "t", {A: 8}, since=1000, min_runtime=600, grace=grace)
        assert (found(alone(held, asks=Asker("t", {A: 4}, 1))) is not None) is taken

    def test_its_deadline(self) -> None:
        """Told at 1000: who began at 500 has 600 s, until 1100; who began at 100 has had them, and 60 s of grace."""
        held = [Holder(number, "t", {A: 4}, since=since, min_runtime=600, grace=60) for number, since in ((1, 500), (2, 100))]
        runs = Stage(alone(*held, asks=Asker("t", {A: 4}, 1))).runs.open
        ends = {number: moment(run.deadline_us(micros(at(1000)))) for number, run in runs.items()}
        assert ends == {1: at(1100), 2: at(1060)}

    def test_who_is_not_preemptible_stays(self) -> None:
        held = [Holder(1, "t", {A: 4}, preemptible=False), Holder(2, "t", {A: 4}, since=5)]
        assert found(alone(*held, asks=Asker("t", {A: 4}, 1))) == [(2, WITHIN)]
        assert found(alone(*held, asks=Asker("t", {A: 5}, 1))) is None


class TestThoseWhoLeaveAnyway:
    def test_they_are_first_whatever_the_policies_and_the_contract_say(self) -> None:
        """Run 1 is drained: of higher priority, not preemptible, protected."""
        leaving = Holder(1, "t", {A: 4}, 9, since=999, preemptible=False, min_runtime=10**6, evict_at=1060)
        given = alone(leaving, Holder(2, "t", {A: 4}), asks=Asker("t", {A: 4}, 1), within=WithinTenant.NEVER)
        assert found(given) == [(1, None)]
        assert Stage(given).hopeful()

    def test_the_first_to_end_is_first(self) -> None:
        held = [Holder(1, "t", {A: 4}, evict_at=1060), Holder(2, "t", {A: 4}, 9, evict_at=1059)]
        assert found(alone(*held, asks=Asker("t", {A: 4}))) == [(2, None)]

    def test_together_with_others(self) -> None:
        held = [Holder(1, "t", {A: 4}), Holder(2, "t", {A: 4}, evict_at=1060)]
        assert found(alone(*held, asks=Asker("t", {A: 8}, 1))) == [(2, None), (1, WITHIN)]

    def test_of_another_tenant_that_borrows_nothing(self) -> None:
        """x leaves 4 of its own: whoever may borrow may count on them."""
        tenants = [tenant("lab"), tenant("x", "lab", 8), tenant("y", "lab", 0, reclaim=Reclaim.NEVER)]
        assert found(scene(tenants, [Holder(1, "x", {A: 8}, evict_at=1060)], Asker("y", {A: 4}))) == [(1, None)]

    def test_those_that_somebody_claims_are_his(self) -> None:
        held = [Holder(1, "t", {A: 8}, evict_at=1060), Holder(5, "t", {A: 8}, 9, claims=(1,))]
        assert found(alone(*held, asks=Asker("t", {A: 4}, 1))) is None


class TestClaims:
    """A claim is nobody's candidate, nor is a run that one waits for."""

    def test_not_of_its_own_tenant_whatever_the_priorities(self) -> None:
        held = [Holder(1, "t", {A: 8}, evict_at=1060), Holder(5, "t", {A: 8}, 1, claims=(1,))]
        given = alone(*held, asks=Asker("t", {A: 4}, 9))
        assert found(given) is None
        assert not Stage(given).hopeful()

    def test_a_run_is_taken_rather_though_it_has_the_higher_priority(self) -> None:
        held = [Holder(1, "t", {A: 4}, evict_at=1060), Holder(2, "t", {A: 4}, 3), Holder(5, "t", {A: 4}, 1, claims=(1,))]
        assert found(alone(*held, asks=Asker("t", {A: 4}, 9))) == [(2, WITHIN)]
        assert found(alone(*held, asks=Asker("t", {A: 5}, 9))) is None

    def test_not_of_a_tenant_that_borrows_what_is_ones_own(self) -> None:
        tenants = [tenant("lab"), tenant("x", "lab", 4), tenant("y", "lab", 4)]
        held = [Holder(1, "x", {A: 4}, evict_at=1060), Holder(5, "x", {A: 8}, claims=(1,))]
        given = scene(tenants, held, Asker("y", {A: 4}, 9))
        assert found(given) is None
        assert not Stage(given).hopeful()

    def test_not_by_shares(self) -> None:
        """x claims 4 and 4 of lab's 8: were they runs, one would go for y."""
        claims = [Holder(5, "x", {A: 4}, claims=()), Holder(6, "x", {A: 4}, claims=())]
        assert found(pool(*claims, asks=Asker("y", {A: 4}))) is None
        assert found(pool(Holder(5, "x", {A: 4}), claims[1], asks=Asker("y", {A: 4}))) == [(5, FINAL)]


class TestNominal:
    def test_it_takes_back_its_own_whatever_the_shares(self) -> None:
        tenants = [tenant("lab"), tenant("x", "lab", 4), tenant("y", "lab", 4)]
        assert found(scene(tenants, [Holder(1, "x", {A: 8}, priority=9)], Asker("y", {A: 4}))) == [(1, NOMINAL)]

    def test_one_more_than_its_own_goes_by_shares(self) -> None:
        """y with 5 of its 4: 1/8. x has 4/8, and without run 1 less than that 0."""
        tenants = [tenant("lab"), tenant("x", "lab", 4), tenant("y", "lab", 4)]
        held = [Holder(1, "x", {A: 7}), Holder(2, "x", {A: 1})]
        assert found(scene(tenants, held, Asker("y", {A: 5}))) == [(1, INITIAL)]

    def test_only_what_is_needed_has_to_be_its_own(self) -> None:
        """Of flavor b there is enough, so that it borrows 2 of it does not matter."""
        none = gpus(0, flavor="b")
        tenants = [tenant("lab", None, gpus(4, flavor="b")), tenant("x", "lab", 4, none), tenant("y", "lab", 4, none)]
        assert found(scene(tenants, [Holder(1, "x", {A: 8})], Asker("y", {A: 4, B: 2}))) == [(1, NOMINAL)]

    def test_who_borrows_nothing_is_safe_to_the_last_unit(self) -> None:
        tenants = [tenant("lab", None, 1), tenant("x", "lab", 4), tenant("y", "lab", 4), tenant("z", "lab")]
        held = [
            Holder(1, "x", {A: 2}),
            Holder(2, "x", {A: 2}),
            Holder(3, "y", {A: 1}, preemptible=False),
            Holder(4, "z", {A: 1}),
        ]
        assert found(scene(tenants, held, Asker("y", {A: 4}))) is None
        held[0] = Holder(1, "x", {A: 3})
        assert found(scene(tenants, held, Asker("y", {A: 3}))) == [(4, NOMINAL)]

    def test_what_is_kept_is_not_taken(self) -> None:
        """x lends nothing of its 4, uses them and 3 of lab's; y has 4. 3 are what y can have of x, and no more of it then."""
        tenants = [tenant("lab", None, 3), tenant("x", "lab", gpus(4, None, 0)), tenant("y", "lab", 4)]
        held = [Holder(1, "x", {A: 4}), Holder(2, "x", {A: 3}), Holder(3, "y", {A: 3})]
        assert found(scene(tenants, held, Asker("y", {A: 1}))) is None  # room: 4 of y's own
        held[2] = Holder(3, "y", {A: 4})
        assert found(scene(tenants, held, Asker("y", {A: 1}))) == [(2, INITIAL)]
        assert found(scene(tenants, held, Asker("y", {A: 4}))) is None

    def test_a_borrowing_limit_holds_whoever_goes(self) -> None:
        tenants = [tenant("lab", None, 8), tenant("x", "lab", 0), tenant("y", "lab", gpus(0, 2))]
        held = [Holder(1, "x", {A: 4}), Holder(2, "x", {A: 4})]
        assert found(scene(tenants, held, Asker("y", {A: 2}))) == [(1, FINAL)]
        assert found(scene(tenants, held, Asker("y", {A: 3}))) is None


class TestShares:
    @pytest.mark.parametrize(
        ("sizes", "asks", "victims"),
        [
            ((4, 4), 4, [(1, FINAL)]),  # 4 against 8, and 4 without it
            ((4, 4), 3, [(1, FINAL)]),
            ((5, 3), 4, [(2, FINAL), (1, INITIAL)]),  # 4 against 3 without run 1; without run 2, 5
            ((6, 2), 6, None),  # run 2: 6 against 8, and 6 without it. Run 1: 6 against 6
            ((8,), 7, [(1, INITIAL)]),
            ((8,), 8, None),  # equal shares are not traded
        ],
    )
    def test_at_their_bounds(self, sizes: tuple[int, ...], asks: int, victims: list[Taken] | None) -> None:
        """Of lab's 8, x runs these."""
        held = [Holder(number, "x", {A: size}) for number, size in enumerate(sizes, 1)]
        if victims == [(2, FINAL), (1, INITIAL)]:
            victims = [(1, INITIAL)]  # which is room enough for both
        assert found(pool(*held, asks=Asker("y", {A: asks}))) == victims

    @pytest.mark.parametrize(("attempt", "taken"), [(1, True), (SHARE_RUNS, True), (SHARE_RUNS + 1, False)])
    def test_a_workload_is_put_out_by_shares_in_its_first_runs_only(self, attempt: int, taken: bool) -> None:
        whole = pool(Holder(1, "x", {A: 8}, attempt=attempt), asks=Asker("y", {A: 4}))
        assert found(whole) == ([(1, INITIAL)] if taken else None)
        halves = pool(*(Holder(number, "x", {A: 4}, attempt=attempt) for number in (1, 2)), asks=Asker("y", {A: 4}))
        assert found(halves) == ([(1, FINAL)] if taken else None)

    def test_who_was_put_out_often_is_stepped_over(self) -> None:
        often = Holder(1, "x", {A: 4}, attempt=SHARE_RUNS + 1)
        assert found(pool(often, Holder(2, "x", {A: 4}, 9), asks=Asker("y", {A: 4}))) == [(2, FINAL)]
        assert found(pool(often, Holder(2, "x", {A: 4}, 9), asks=Asker("y", {A: 5}))) is None
        often = Holder(1, "x", {A: 1}, attempt=SHARE_RUNS + 1)
        assert found(pool(often, Holder(2, "x", {A: 7}, 9), asks=Asker("y", {A: 4}))) == [(2, INITIAL)]

    def test_whose_own_it_is_may_take_it_however_often_that_was(self) -> None:
        often = Holder(1, "x", {A: 8}, attempt=100)
        tenants = [tenant("lab"), tenant("x", "lab", 4), tenant("y", "lab", 4)]
        assert found(scene(tenants, [often], Asker("y", {A: 4}))) == [(1, NOMINAL)]
        assert found(alone(replace(often, tenant="t"), asks=Asker("t", {A: 4}, 1))) == [(1, WITHIN)]

    def test_of_each_tenant_one_by_the_share_before(self) -> None:
        """y asks for 3 of 8; x runs 4, z runs 4: one of each is tried, and the first is enough."""
        held = [Holder(1, "x", {A: 4}), Holder(2, "z", {A: 4}, since=5)]
        assert found(pool(*held, asks=Asker("y", {A: 3}))) == [(2, INITIAL)]

    def test_the_larger_share_is_asked_first_and_then_it_is_looked_at_anew(self) -> None:
        """x 5 by 2, 2, 1 and z 3 by 2, 1: one of x's, then of equals who would be first."""
        held = [
            Holder(1, "x", {A: 2}, since=100),
            Holder(2, "x", {A: 2}, since=200),
            Holder(3, "x", {A: 1}, preemptible=False),
            Holder(4, "z", {A: 2}, since=300),
            Holder(5, "z", {A: 1}, preemptible=False),
        ]
        tenants = [tenant("lab", None, 0), tenant("x", "lab"), tenant("z", "lab"), tenant("y", "lab", 8)]
        assert found(scene(tenants, held, Asker("y", {A: 4}))) == [(2, NOMINAL), (4, NOMINAL)]

    def test_of_equal_shares_other_tenants_come_before_its_own(self) -> None:
        """x borrows 4 of 12 GPUs, y 12 of 36 cpu. y asks for 2 GPUs, and its own run is the first by every other measure."""
        quotas = (gpus(4), Quota("a", "cpu", 12))
        tenants = [tenant("lab"), *(tenant(name, "lab", *quotas) for name in ("x", "y", "z"))]
        held = [Holder(1, "x", {A: 2}, 5, since=0), Holder(2, "x", {A: 6}, 6), Holder(3, "y", {A: 2}, -1, since=900)]
        both = [Holder(4, "y", {CPU: 24}, 9), Holder(5, "z", {A: 2}, 9)]
        assert found(scene(tenants, [*held, *both], Asker("y", {A: 2}, 9))) == [(1, NOMINAL)]
        both[0] = Holder(4, "y", {CPU: 25}, 9)
        assert found(scene(tenants, [*held, *both], Asker("y", {A: 2}, 9))) == [(3, WITHIN)]

    def test_a_weight_divides(self) -> None:
        """x's 5 with weight 4 are less than z's 3."""
        held = [Holder(1, "x", {A: 5}), Holder(2, "z", {A: 3})]
        assert found(pool(*held, asks=Asker("y", {A: 1}), x=Fraction(4))) == [(2, INITIAL)]

    def test_weight_0_is_asked_first_and_asks_only_its_like(self) -> None:
        held = [Holder(1, "x", {A: 1}), Holder(2, "z", {A: 7})]
        assert found(pool(*held, asks=Asker("y", {A: 1}), x=Fraction(0))) == [(1, INITIAL)]
        assert found(pool(*held, asks=Asker("y", {A: 1}), y=Fraction(0))) is None
        zero = Fraction(0)
        assert found(pool(*held, asks=Asker("y", {A: 1}), x=zero, y=zero)) is None  # 1 against 1
        held = [Holder(1, "x", {A: 3}), Holder(2, "z", {A: 5})]
        assert found(pool(*held, asks=Asker("y", {A: 1}), x=zero, y=zero)) == [(1, INITIAL)]  # 1 against 3

    def test_the_greatest_part_of_any_resource_is_the_share(self) -> None:
        """x borrows 2 of 8 GPUs and 60 of 100 cpu: 0.6. y asks for 4 GPUs: 0.5. z has 6 GPUs: 0.75."""
        quotas = (gpus(8), Quota("a", "cpu", 100))
        nothing = (gpus(0), Quota("a", "cpu", 0))
        tenants = [tenant("lab", None, *quotas), *(tenant(name, "lab", *nothing) for name in ("x", "y", "z"))]
        held = [Holder(1, "x", {A: 2, CPU: 60}), Holder(2, "z", {A: 6})]
        assert found(scene(tenants, held, Asker("y", {A: 2}))) == [(2, INITIAL)]
        held = [Holder(1, "x", {A: 2, CPU: 80}), Holder(2, "z", {A: 6})]
        assert found(scene(tenants, held, Asker("y", {A: 2}))) == [(1, INITIAL)]

    def test_lower_priorities_only(self) -> None:
        tenants = [tenant("lab", None, 8), tenant("x", "lab"), tenant("y", "lab", reclaim=Reclaim.LOWER_PRIORITY)]
        held = [Holder(1, "x", {A: 4}, priority=4), Holder(2, "x", {A: 4}, priority=5)]
        assert found(scene(tenants, held, Asker("y", {A: 4}, 5))) == [(1, FINAL)]
        assert found(scene(tenants, held, Asker("y", {A: 4}, 4))) is None


class TestHierarchies:
    """org 8 for all; wing with a and c, hall with d and e, b beside them. None has anything of its own."""

    TENANTS = (
        tenant("org", None, 8),
        tenant("wing", "org"),
        tenant("a", "wing"),
        tenant("c", "wing"),
        tenant("hall", "org"),
        tenant("d", "hall"),
        tenant("e", "hall"),
        tenant("b", "org"),
    )

    def test_shares_are_compared_below_where_the_ways_part(self) -> None:
        """c 2, d 3, e 3. a asks for 2: wing would have 4/8, hall has 6/8, and without d's run 3/8. By the share before."""
        held = [Holder(1, "c", {A: 2}), Holder(2, "d", {A: 3}), Holder(3, "e", {A: 3})]
        assert found(scene(self.TENANTS, held, Asker("a", {A: 2}))) == [(2, INITIAL)]

    def test_a_sibling_of_its_own_wing_is_compared_with_itself_alone(self) -> None:
        """c 4 of wing's 6, b 4: with 2 more wing has 6/8 against b's 4. Inside it, a's 2/8 are less than c's 4."""
        held = [Holder(1, "c", {A: 4}), Holder(2, "b", {A: 4})]
        assert found(scene(self.TENANTS, held, Asker("a", {A: 2}))) == [(1, INITIAL)]

    def test_an_inner_tenant_comes_before_a_leaf_of_the_same_share(self) -> None:
        held = [Holder(1, "b", {A: 4}, priority=-1), Holder(2, "d", {A: 2}, since=5), Holder(3, "e", {A: 2})]
        assert found(scene(self.TENANTS, held, Asker("a", {A: 1}))) == [(2, FINAL)]

    @pytest.mark.parametrize(("beside", "victim"), [("lab", (3, WITHIN)), ("hall", (1, NOMINAL))])
    def test_its_own_wing_comes_before_a_leaf_and_after_another_wing_of_the_same_share(
        self, beside: str, victim: Taken
    ) -> None:
        """x borrows 4 of 12 GPUs, as does hall if it is under it; y and wing 12 of 36 cpu. y has run 3 of its own to ask."""
        quotas = (gpus(4), Quota("a", "cpu", 12))
        tenants = [tenant("lab"), tenant("wing", "lab"), tenant("hall", "lab")]
        tenants += [tenant(name, parent, *quotas) for name, parent in (("x", beside), ("y", "wing"), ("z", "lab"))]
        held = [Holder(1, "x", {A: 2}, 5, since=0), Holder(2, "x", {A: 6}, 6), Holder(3, "y", {A: 2}, -1, since=900)]
        both = [Holder(4, "y", {CPU: 24}, 9), Holder(5, "z", {A: 2}, 9)]
        assert found(scene(tenants, [*held, *both], Asker("y", {A: 2}, 9))) == [victim]

    def test_of_two_inner_tenants_of_the_same_share_the_first_candidate_decides(self) -> None:
        tenants = [*self.TENANTS, tenant("annex", "org"), tenant("f", "annex")]
        held = [Holder(1, "d", {A: 2}), Holder(2, "e", {A: 2}), Holder(3, "f", {A: 2}, -1, 500), Holder(4, "f", {A: 2})]
        assert found(scene(tenants, held, Asker("a", {A: 1}))) == [(3, FINAL)]

    def test_who_is_under_an_inner_tenant_that_borrows_nothing_is_safe(self) -> None:
        """hall has 4 of its own, and d borrows them all from it: that is no business of others."""
        tenants = [each for each in self.TENANTS if each.name not in ("hall", "org")]
        tenants += [tenant("org", None, 4), tenant("hall", "org", 4)]
        held = [Holder(1, "d", {A: 4}, -5), Holder(2, "b", {A: 4})]
        assert found(scene(tenants, held, Asker("a", {A: 1}))) == [(2, INITIAL)]
        held = [Holder(1, "d", {A: 5}, -5), Holder(2, "b", {A: 3}, preemptible=False)]
        assert found(scene(tenants, held, Asker("a", {A: 1}))) is None  # 1 against 1
        assert found(scene(tenants, [Holder(1, "d", {A: 6}), held[1]], Asker("a", {A: 1}))) == [(1, INITIAL)]

    def test_its_own_wing_is_gone_through_though_it_borrows_nothing(self) -> None:
        """wing has 4, and c borrows 2 of them from it. a has the 4 of them lent: takes 2 back within wing."""
        tenants = [tenant("org"), tenant("wing", "org", 0), tenant("a", "wing", 4), tenant("c", "wing", 0)]
        held = [Holder(1, "c", {A: 2}), Holder(2, "c", {A: 2}, since=5)]
        assert found(scene(tenants, held, Asker("a", {A: 2}))) == [(2, NOMINAL)]

    def test_three_levels(self) -> None:
        """bay under wing: a asks from bay, d runs in hall, two levels up and down again."""
        tenants = [
            tenant("org", None, 8),
            tenant("wing", "org"),
            tenant("bay", "wing"),
            tenant("a", "bay"),
            tenant("hall", "org"),
            tenant("nook", "hall"),
            tenant("d", "nook"),
        ]
        held = [Holder(1, "d", {A: 4}), Holder(2, "d", {A: 4}, since=5)]
        assert found(scene(tenants, held, Asker("a", {A: 4}))) == [(2, FINAL)]
        assert found(scene(tenants, held, Asker("a", {A: 5}))) is None


class TestPuttingBack:
    def test_an_own_victim_stays_that_makes_another_legal(self) -> None:
        """y 4 of its own runs 4 of them, by 1 and 3; x borrows 4. y asks for 4: with runs 1 and 2 out it is within its own 4.

        As y's share is the least, x's run of 4 is asked first, by shares: y has 4/8, x 4/8, which is not less. Then y's own: run 1,
        run 2. That is room enough: nobody of x has to go.
        """
        tenants = [tenant("lab"), tenant("x", "lab", 0), tenant("y", "lab", 4), tenant("z", "lab", 4)]
        held = [Holder(1, "y", {A: 1}, -1), Holder(2, "y", {A: 3}, -1), Holder(3, "x", {A: 4})]
        assert found(scene(tenants, held, Asker("y", {A: 4}))) == [(1, WITHIN), (2, WITHIN)]

    def test_it_is_not_put_back_though_there_would_be_room(self) -> None:
        """y, of weight 1/8, has 4 of its own and 2 in use; x borrows 5 by one run. y asks for 4.

        With what it asks for y has 2 more than its own: 2/8 by 1/8 is 2, so its own run goes first. Then it is within its own, and
        takes back what x borrows: 5, which would be room for its own run too. But with that y is above its own, and its share the
        larger one.
        """
        tenants = [tenant("lab"), tenant("x", "lab", 0), tenant("y", "lab", 4, weight=Fraction(1, 8)), tenant("z", "lab", 4)]
        held = [Holder(1, "y", {A: 2}, -1), Holder(2, "x", {A: 5}), Holder(3, "z", {A: 1})]
        given = scene(tenants, held, Asker("y", {A: 4}))
        assert found(given) == [(1, WITHIN), (2, NOMINAL)]
        naive = Naive(given)
        assert naive.fits([2])
        assert not naive.legal([(2, NOMINAL)])
        assert not naive.legal([(2, FINAL)])
        assert not naive.legal([(2, INITIAL)])

    def test_who_was_refused_at_first_may_be_all_that_it_takes(self) -> None:
        """Two of 1, then by the share before it one of 6: it alone will do."""
        held = [Holder(1, "x", {A: 1}, -1), Holder(2, "x", {A: 1}, -1), Holder(3, "x", {A: 6})]
        assert found(pool(*held, asks=Asker("y", {A: 4}))) == [(3, INITIAL)]

    def test_hundreds_that_are_alike(self) -> None:
        held = [Holder(number, "x", {A: 1}, since=number) for number in range(1, 301)]
        given = pool(*held, asks=Asker("y", {A: 100}), total=300)
        assert search(given) == [(number, FINAL) for number in range(300, 200, -1)]
