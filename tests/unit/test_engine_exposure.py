"""Who could have a running workload put out, by which right and from when."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from aiqueue.admission.engine.exposure import Borrowed, Exposure, Taker, exposure_of
from aiqueue.admission.engine.runs import OpenRun, Runs
from aiqueue.admission.engine.terms import terms_of
from aiqueue.admission.engine.tree import build_tree
from aiqueue.queue.records import Allocation, Class, Configuration, Quota, Run, Tenant
from aiqueue.queue.words import Reclaim, WithinTenant
from fix_builders import GPU, at, make_configuration, make_run, make_workload

NOW = at(100)
NORMAL = Class("normal", 100, min_runtime_seconds=600, grace_period_seconds=30, max_runtime_seconds=7200)
LAB = Tenant("lab")
RESEARCH = Tenant("research", "lab", quotas=(Quota("h100", GPU, 8),))
PRODUCT = Tenant("product", "lab", quotas=(Quota("h100", GPU, 8),))


def exposed(tenants: Sequence[Tenant], *runs: Run, cls: Class = NORMAL) -> Exposure:
    """How the first of the runs stands."""
    configuration: Configuration = make_configuration(tenants, classes=[cls])
    nodes = build_tree(configuration.tenants)
    entered = Runs()
    for run in runs:
        entered.enter(OpenRun(run.id, run, run.opened_at, terms_of(configuration, run.workload), run.evict_at), nodes)
    return exposure_of(entered.open[runs[0].id], nodes, NOW)


def run_of(number: int, gpus: int, *, tenant: str = "research") -> Run:
    return make_run(number, make_workload(number, gpus=gpus, class_name="normal"), gpus=gpus, tenant=tenant)


def test_within_its_own_nobody_else_may_take() -> None:
    found = exposed([LAB, RESEARCH, PRODUCT], run_of(1, 8))
    assert (found.workload_id, found.run_id, found.preemptible, found.priority) == (1, 1, True, 100)
    assert (found.by_tenant, found.borrowing, found.takers) == (WithinTenant.LOWER_PRIORITY, (), ())
    assert (found.evict_at, found.claimant) == (None, None)


def test_what_it_borrows_may_be_taken_back() -> None:
    found = exposed([LAB, RESEARCH, PRODUCT], run_of(1, 4), run_of(2, 7))
    assert found.borrowing == (Borrowed("research", "h100", GPU, 3),)
    assert found.takers == (Taker("product", Reclaim.ANY, None, (("h100", GPU),)),)


@pytest.mark.parametrize(
    ("reclaim", "takers"),
    [
        (Reclaim.NEVER, ()),
        (Reclaim.LOWER_PRIORITY, (Taker("product", Reclaim.LOWER_PRIORITY, 100, (("h100", GPU),)),)),
    ],
)
def test_the_policy_of_the_other_tenant_counts(reclaim: Reclaim, takers: tuple[Taker, ...]) -> None:
    assert exposed([LAB, RESEARCH, replace(PRODUCT, reclaim=reclaim)], run_of(1, 9)).takers == takers


def test_who_has_no_quota_for_what_is_borrowed_takes_nothing() -> None:
    other = replace(PRODUCT, quotas=(Quota("a100", GPU, 8), Quota("h100", "cpu", 8)))
    lender = replace(LAB, quotas=(Quota("h100", GPU, 8),))
    assert exposed([lender, RESEARCH, other], run_of(1, 9)).takers == ()


def test_only_what_the_run_itself_holds_exposes_it() -> None:
    wide = replace(RESEARCH, quotas=(Quota("h100", GPU, 8), Quota("a100", GPU, 0)))
    other = replace(PRODUCT, quotas=(Quota("h100", GPU, 8), Quota("a100", GPU, 8)))
    on_a100 = make_run(2, make_workload(2), gpus=4, flavor="a100")
    found = exposed([LAB, wide, other], run_of(1, 8), on_a100)
    assert (found.borrowing, found.takers) == ((), ())


def test_tenants_above_that_do_not_borrow_shield_from_those_beside_them() -> None:
    """On every level up to where the two meet something has to be borrowed."""
    team = Tenant("team", "lab")
    mate = Tenant("mate", "team", quotas=(Quota("h100", GPU, 8),))
    mine = replace(RESEARCH, parent="team")
    shielded = exposed([LAB, team, mine, mate, PRODUCT], run_of(1, 10))
    assert [taker.tenant for taker in shielded.takers] == ["mate"]
    assert shielded.borrowing == (Borrowed("research", "h100", GPU, 2),)
    beyond = exposed([LAB, team, mine, mate, PRODUCT], run_of(1, 17))
    assert [taker.tenant for taker in beyond.takers] == ["mate", "product"]
    assert beyond.borrowing == (Borrowed("research", "h100", GPU, 9), Borrowed("team", "h100", GPU, 1))


def test_every_level_has_to_borrow_something_that_the_other_has_quota_for() -> None:
    team = Tenant("team", "lab", quotas=(Quota("h100", GPU, 8),))
    mine = Tenant("research", "team", quotas=(Quota("h100", GPU, 8), Quota("h100", "cpu", 8)))
    lender = replace(LAB, quotas=(Quota("h100", "cpu", 100),))
    workload = make_workload(1, requests={GPU: 10, "cpu": 20}, class_name="normal")
    allocations = (Allocation("main", "h100", GPU, 10), Allocation("main", "h100", "cpu", 20))
    run = replace(make_run(1, workload), allocations=allocations)
    found = exposed([lender, team, mine, PRODUCT], run)
    assert [(each.tenant, each.resource) for each in found.borrowing] == [
        ("research", GPU),
        ("research", "cpu"),
        ("team", "cpu"),
    ]
    assert found.takers == ()
    both = replace(PRODUCT, quotas=(Quota("h100", GPU, 8), Quota("h100", "cpu", 8)))
    found = exposed([lender, team, mine, both], run)
    assert found.takers == (Taker("product", Reclaim.ANY, None, (("h100", GPU), ("h100", "cpu"))),)


def test_what_a_root_uses_beyond_its_quota_is_borrowed_from_nobody() -> None:
    found = exposed([LAB, RESEARCH, PRODUCT], run_of(1, 20))
    assert found.borrowing == (Borrowed("research", "h100", GPU, 12),)


def test_its_minimal_runtime_says_from_when_and_its_grace_until_when() -> None:
    found = exposed([RESEARCH], run_of(1, 1))
    assert (found.candidate_from, found.deadline, found.ends_at) == (at(570), at(600), at(7200))
    found = exposed([RESEARCH], run_of(1, 1), cls=replace(NORMAL, min_runtime_seconds=20, max_runtime_seconds=None))
    assert (found.candidate_from, found.deadline, found.ends_at) == (at(0), at(130), None)


def test_one_that_may_not_be_put_out_still_says_what_it_borrows() -> None:
    found = exposed([LAB, RESEARCH, PRODUCT], run_of(1, 9), cls=replace(NORMAL, preemptible=False))
    assert (found.preemptible, found.candidate_from, found.deadline) == (False, None, None)
    assert (found.by_tenant, found.takers) == (WithinTenant.NEVER, ())
    assert found.borrowing == (Borrowed("research", "h100", GPU, 1),)


def test_a_run_whose_tenant_is_gone_is_nobodys_to_take() -> None:
    found = exposed([PRODUCT], run_of(1, 9))
    assert (found.by_tenant, found.borrowing, found.takers) == (WithinTenant.NEVER, (), ())
