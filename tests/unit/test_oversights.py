"""What is allowed and has no effect as written: a warning each, and none for what is usual."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from aiqueue.queue.consistency import check, with_objects
from aiqueue.queue.documents import Record, name_of, read_documents
from aiqueue.queue.oversights import oversights
from aiqueue.queue.records import Class, Configuration, Flavor, Queue, Quota, Taint, Tenant
from aiqueue.queue.words import Fungibility, ObjectState, OrderKey, Queueing, Reclaim, WithinTenant

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GPU = "nvidia.com/gpu"
H100, A100 = Flavor("h100", {"pool": "h100"}), Flavor("a100", {"pool": "a100"})
LAB = Tenant("lab", quotas=(Quota("h100", GPU, 8), Quota("a100", GPU, 8)))
USUAL: tuple[Record, ...] = (H100, A100, LAB)
BOTH = (Quota("h100", GPU, 4), Quota("a100", GPU, 4))
ONE = (Quota("h100", GPU, 4),)


def warnings(*written: Record, stored: tuple[Record, ...] = USUAL) -> list[str]:
    """The warnings on objects that are written beside those that are stored."""
    configuration = with_objects(with_objects(Configuration(0), stored), written)
    assert check(configuration) == []
    return [str(each) for each in oversights(configuration, {name_of(each): str(name_of(each)) for each in written})]


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        (Tenant("r", weight=Fraction(2), quotas=ONE), "Tenant r: spec.weight is 2: a root shares with nobody"),
        (
            Tenant("r", quotas=ONE, reclaim=Reclaim.NEVER),
            "Tenant r: spec.preemption.reclaim is Never: nobody borrows from a tenant without a parent",
        ),
        (
            Tenant("r", quotas=BOTH, when_can_borrow=Fungibility.TRY_NEXT_FLAVOR),
            "Tenant r: spec.flavorFungibility.whenCanBorrow is TryNextFlavor: a tenant without a parent never borrows",
        ),
        (
            Tenant("t", "lab", quotas=ONE, when_can_borrow=Fungibility.TRY_NEXT_FLAVOR),
            "Tenant t: spec.flavorFungibility.whenCanBorrow is TryNextFlavor: no two of its flavors list the same resources",
        ),
        (
            Tenant("t", "lab", quotas=ONE, when_can_preempt=Fungibility.MAY_STOP_SEARCH),
            "Tenant t: spec.flavorFungibility.whenCanPreempt is MayStopSearch: no two of its flavors",
        ),
        (
            Tenant(
                "t",
                "lab",
                quotas=BOTH,
                when_can_preempt=Fungibility.MAY_STOP_SEARCH,
                within_tenant=WithinTenant.NEVER,
                reclaim=Reclaim.NEVER,
            ),
            "Tenant t: spec.flavorFungibility.whenCanPreempt is MayStopSearch: its preemption never takes from anybody",
        ),
        (
            Tenant("t", "lab", quotas=ONE, usage_weights={GPU: Fraction(2)}, order=(OrderKey.SUBMITTED,)),
            "Tenant t: spec.usageWeights is {nvidia.com/gpu: 2}: usage is not in spec.order",
        ),
        (
            Tenant("t", "lab", quotas=ONE, usage_weights={"nvidia.com/gpus": Fraction(1, 2)}),
            "Tenant t: spec.usageWeights.nvidia.com/gpus is 0.5: no quota of its tree lists that resource",
        ),
        (
            Tenant("t", "lab", quotas=ONE, usage_weights={GPU: Fraction(0)}),
            "Tenant t: spec.usageWeights is {nvidia.com/gpu: 0}: all its resources count for nothing",
        ),
        (
            Tenant("t", "lab", quotas=(Quota("h100", "memory", 0),)),
            "Tenant t: nominal of h100 memory is 0: nobody in its tree has any to lend",
        ),
        (
            Tenant("r", quotas=(Quota("h100", GPU, 0),)),
            "Tenant r: nominal of h100 nvidia.com/gpu is 0: it has no parent to borrow from",
        ),
        (
            Tenant("t", "lab", quotas=(Quota("h100", GPU, 0, 0),)),
            "Tenant t: nominal of h100 nvidia.com/gpu is 0: its borrowingLimit is 0 too",
        ),
        (
            Tenant("t", "lab", quotas=(Quota("h100", GPU, 4), Quota("a100", "cpu", 1000))),
            (
                "Tenant t: spec.quotas is h100 beside a100: no node is both (pool is h100 and a100): a pod that asks for"
                " nvidia.com/gpu and cpu never runs here"
            ),
        ),
        (Queue("ns", "q", "t", Fraction(3)), "Queue ns/q: spec.weight is 3: the order of tenant t does not look at usage"),
        (Queue("ns", "q", "bare"), "Queue ns/q: spec.tenant is bare: that tenant has no quotas"),
        (Class("c", preemptible=False, min_runtime_seconds=600), "Class c: spec.minRuntime is 10m: it protects from other"),
        (
            Flavor("a100", {"pool": "h100"}),
            (
                "Flavor a100: spec.nodeLabels is {pool: h100}: flavor h100 has the same labels and taints, and both have quota of"
                " nvidia.com/gpu"
            ),
        ),
    ],
)
def test_what_has_no_effect_is_told_with_the_value_and_the_reason(written: Record, sentence: str) -> None:
    stored = (*USUAL, Tenant("bare"))
    if isinstance(written, Queue) and written.tenant == "t":
        stored += (Tenant("t", "lab", quotas=ONE, order=(OrderKey.SUBMITTED,)),)
    (said,) = warnings(written, stored=stored)
    assert said.startswith(sentence)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"queueing": Queueing.STRICT}, "spec.queueing is Strict"),
        ({"order": (OrderKey.SUBMITTED,)}, "spec.order is [submitted]"),
        ({"reclaim": Reclaim.NEVER}, "spec.preemption is {withinTenant: LowerPriority, reclaim: Never}"),
        ({"starvation_bound_seconds": 60}, "spec.starvationBound is 1m"),
        ({"usage_half_life_seconds": 60}, "spec.usageHalfLife is 1m"),
        ({"usage_weights": {GPU: Fraction(1)}}, "spec.usageWeights is {nvidia.com/gpu: 1}"),
        (
            {"when_can_borrow": Fungibility.TRY_NEXT_FLAVOR},
            "spec.flavorFungibility is {whenCanBorrow: TryNextFlavor, whenCanPreempt: TryNextFlavor}",
        ),
    ],
)
def test_settings_of_leaves_do_nothing_on_a_tenant_with_children(changes: dict[str, Any], field: str) -> None:
    (said,) = warnings(replace(LAB, **changes), stored=(*USUAL, Tenant("t", "lab", quotas=BOTH)))
    assert said == f"Tenant lab: {field}: it is for tenants that queues feed: write it on t, or leave it out"


def test_a_quota_of_an_inner_tenant_that_no_leaf_lists() -> None:
    (said,) = warnings(Tenant("t", "lab", quotas=ONE), LAB)
    assert said.startswith("Tenant lab: nominal of a100 nvidia.com/gpu is 8: no leaf of the tree under lab lists it")


@pytest.mark.parametrize("state", [ObjectState.HOLD, ObjectState.DRAIN])
def test_a_tenant_under_one_that_takes_no_work(state: ObjectState) -> None:
    stored = (*USUAL, Tenant("lab", quotas=LAB.quotas, state=state), Tenant("wing", "lab"))
    (said,) = warnings(Tenant("t", "wing", quotas=BOTH), stored=stored)
    assert said == f"Tenant t: spec.state is Active: nothing is admitted in it while lab above it is in state {state}"


@pytest.mark.parametrize(
    "written",
    [
        Tenant("t", "lab", quotas=BOTH, weight=Fraction(0), when_can_borrow=Fungibility.TRY_NEXT_FLAVOR),
        Tenant("t", "lab", quotas=(Quota("h100", GPU, 0, 4),)),
        Tenant("t", "lab", quotas=(Quota("h100", GPU, 4, 10**6, 0),)),
        Tenant("t", "lab", quotas=BOTH, starvation_bound_seconds=0, usage_weights={GPU: Fraction(2)}),
        Tenant("t", "lab", quotas=(*BOTH, Quota("anywhere", "cpu", 0))),
        Tenant("t", "lab", quotas=ONE, reclaim=Reclaim.NEVER, within_tenant=WithinTenant.NEVER),
        Queue("ns", "q", "team", Fraction(3)),
        Queue("ns", "q", "team", Fraction(0)),
        Class("c", min_runtime_seconds=600),
        Flavor("spot", {"pool": "h100"}, (Taint("spot"),)),
        Flavor("h100-too", {"pool": "h100"}),
    ],
)
def test_what_has_an_effect_is_not_warned_of(written: Record) -> None:
    more = (
        Flavor("anywhere"),
        Tenant("cpus", "lab", quotas=(Quota("anywhere", "cpu", 1),)),
        Tenant("team", "lab", quotas=BOTH),
    )
    assert warnings(written, stored=(*USUAL, *more)) == []


def test_objects_that_were_not_written_now_are_not_warned_of() -> None:
    assert warnings(Class("c"), stored=(*USUAL, Tenant("r", weight=Fraction(2), quotas=ONE))) == []


def test_the_examples_are_without_warnings() -> None:
    records = [each.record for each in read_documents((EXAMPLES / "tenants.yaml").read_text(), "tenants.yaml")]
    assert warnings(*[record for record in records if record is not None], stored=()) == []
