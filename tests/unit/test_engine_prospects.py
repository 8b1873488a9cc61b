"""Whether who waits could have others put out, and what keeps it from that."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

import pytest

from aiqueue.admission.engine import ConfigurationChanged, Engine, RunOpened, WorkloadPending
from aiqueue.admission.engine.candidates import Asking
from aiqueue.admission.engine.instants import age_of
from aiqueue.admission.engine.prospects import Prospects, prospects_of
from aiqueue.admission.engine.runs import OpenRun, Runs
from aiqueue.admission.engine.terms import terms_of
from aiqueue.admission.engine.tree import build_tree
from aiqueue.queue.errors import NotFound
from aiqueue.queue.records import Class, Quota, Run, Tenant
from aiqueue.queue.words import Reclaim, WithinTenant
from fix_builders import GPU, at, make_configuration, make_run, make_workload

CLASSES = [
    Class("low", 10),
    Class("normal", 100),
    Class("safe", 10, preemptible=False),
    Class("young", 10, min_runtime_seconds=600, grace_period_seconds=30),
    Class("younger", 10, min_runtime_seconds=900, grace_period_seconds=30),
]
LAB = Tenant("lab")
RESEARCH = Tenant("research", "lab", quotas=(Quota("h100", GPU, 8), Quota("a100", GPU, 8)))
PRODUCT = Tenant("product", "lab", quotas=(Quota("h100", GPU, 8),))
H100 = ("h100", GPU)
known = partial(Prospects, tenant="research", within_tenant=WithinTenant.LOWER_PRIORITY, reclaim=Reclaim.ANY)


def held(number: int, gpus: int, class_name: str, *, tenant: str = "product", flavor: str = "h100", **changes: object) -> Run:
    workload = make_workload(number, gpus=gpus, class_name=class_name)
    return make_run(number, workload, gpus=gpus, tenant=tenant, flavor=flavor, **changes)


def prospects(
    tenants: Sequence[Tenant], *runs: Run, claimed: int | None = None, classes: Sequence[Class] = CLASSES
) -> Prospects:
    """Those of work of class normal in research that waits for GPUs of h100."""
    configuration = make_configuration(tenants, classes=classes)
    nodes = build_tree(configuration.tenants)
    entered = Runs()
    for run in runs:
        entered.enter(OpenRun(run.id, run, run.opened_at, terms_of(configuration, run.workload), run.evict_at), nodes)
    if claimed is not None:
        entered.open[claimed].claimant = 99
    asking = Asking(nodes["research"], (), 100, age_of(make_workload(50, created=50)))
    return prospects_of(asking, {H100}, entered.open.values(), nodes, at(100))


def test_lower_priority_of_its_own_tenant() -> None:
    runs = [held(1, 4, "low", tenant="research"), held(2, 4, "normal", tenant="research")]
    assert prospects([LAB, RESEARCH, PRODUCT], *runs) == known(eligible=1)
    never = replace(RESEARCH, within_tenant=WithinTenant.NEVER)
    assert prospects([LAB, never, PRODUCT], *runs) == known(within_tenant=WithinTenant.NEVER)


def test_equal_priority_of_its_own_tenant_where_it_is_older() -> None:
    policy = WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY
    tenants = [LAB, replace(RESEARCH, within_tenant=policy), PRODUCT]
    newer = make_run(3, make_workload(3, class_name="normal", created=60), tenant="research")
    older = make_run(4, make_workload(4, class_name="normal", created=40), tenant="research")
    assert prospects(tenants, newer, older) == known(within_tenant=policy, eligible=1)


@pytest.mark.parametrize(("reclaim", "eligible"), [(Reclaim.ANY, 2), (Reclaim.LOWER_PRIORITY, 1), (Reclaim.NEVER, 0)])
def test_others_that_borrow(reclaim: Reclaim, eligible: int) -> None:
    runs = [held(1, 6, "low"), held(2, 6, "normal")]
    found = prospects([LAB, replace(RESEARCH, reclaim=reclaim), PRODUCT], *runs)
    assert found == known(reclaim=reclaim, eligible=eligible)


def test_others_that_do_not_borrow_are_left_alone() -> None:
    assert prospects([LAB, RESEARCH, PRODUCT], held(1, 8, "low")) == known()
    team = Tenant("team", "lab", quotas=(Quota("h100", GPU, 2),))
    under = replace(PRODUCT, parent="team")
    assert prospects([LAB, RESEARCH, team, under], held(1, 10, "low")) == known()
    assert prospects([LAB, RESEARCH, team, under], held(1, 11, "low")) == known(eligible=1)


def test_runs_of_another_flavor_or_another_tree_do_not_count() -> None:
    elsewhere = replace(PRODUCT, parent=None)
    assert prospects([LAB, RESEARCH, elsewhere], held(1, 12, "low"), held(2, 1, "low", evict_at=at(130))) == known()
    assert prospects([LAB, RESEARCH, PRODUCT], held(1, 4, "low", tenant="research", flavor="a100")) == known()


def test_what_keeps_it_from_them() -> None:
    evicting: datetime = at(130)
    runs = [
        held(1, 4, "safe"),
        held(2, 4, "young"),
        held(3, 4, "younger"),
        held(4, 4, "low", evict_at=evicting),
        held(5, 4, "low"),
    ]
    assert prospects([LAB, RESEARCH, PRODUCT], *runs, claimed=5) == known(
        protected=2, protected_until=at(570), not_preemptible=1, leaving=2
    )


@pytest.mark.parametrize(("seconds", "eligible"), [(70, 1), (71, 0)])
def test_a_run_may_be_asked_from_the_very_moment_on(seconds: int, eligible: int) -> None:
    """Opened at 0, asked at 100, with a grace of 30."""
    changed = [replace(each, min_runtime_seconds=seconds + 60) if each.name == "young" else each for each in CLASSES]
    found = prospects([LAB, RESEARCH, PRODUCT], held(1, 12, "young"), classes=changed)
    assert (found.eligible, found.protected) == (eligible, 1 - eligible)


def test_the_engine_says_them_of_who_waits_for_quota_and_of_nobody_else() -> None:
    engine = Engine()
    engine.observe(ConfigurationChanged(make_configuration([RESEARCH, LAB], classes=CLASSES)))
    engine.observe(RunOpened(held(1, 8, "safe", tenant="research")))
    engine.observe(WorkloadPending(make_workload(50, gpus=4, class_name="normal")))
    engine.observe(WorkloadPending(make_workload(51, gpus=99, class_name="normal")))
    assert engine.prospects(50) is None  # nothing was decided yet
    plan = engine.decide(at(100))
    engine.confirm(plan, [2])  # on a100
    assert [admission.workload.id for admission in plan.admissions] == [50]
    engine.observe(WorkloadPending(make_workload(52, gpus=8, class_name="normal")))
    engine.confirm(engine.decide(at(101)), [])
    assert engine.prospects(52) == known(not_preemptible=1)
    assert engine.prospects(51) is None  # it can never fit
    assert engine.prospects(50) is None  # it runs
    assert engine.exposure(50).run_id == 2
    with pytest.raises(NotFound, match="workload 52 has no open run"):
        engine.exposure(52)
