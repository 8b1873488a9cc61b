"""What `apply` lets through, the engine can stand on; what it refuses, it refuses for a reason that goes when it is put right."""

from fractions import Fraction

from hypothesis import event, given, settings
from hypothesis import strategies as st

from aiqueue.admission.engine import ConfigurationChanged, Engine, WorkloadPending
from aiqueue.queue.consistency import check, check_change, with_objects
from aiqueue.queue.documents import ObjectName, Record, name_of
from aiqueue.queue.oversights import oversights
from aiqueue.queue.records import Class, Configuration, Flavor, Queue, Quota, Tenant
from aiqueue.queue.words import Fungibility, ObjectState, OrderKey, Queueing, Reason, Reclaim
from fix_builders import GPU, at, make_workload

NAMES = ("a", "b", "c", "d")
FLAVORS = ("x", "y", "z")
LIMITS = st.sampled_from([None, None, None, 0, 1, 5])
AMOUNTS = st.sampled_from([*[0, 1, 3, 5] * 8, 2**62])
SHUT_FOR_GOOD = {Reason.QUEUE_NOT_FOUND, Reason.CLASS_NOT_ALLOWED}


@st.composite
def quotas(draw: st.DrawFn, is_root: bool) -> tuple[Quota, ...]:
    """Quotas of some flavors, the first two in a group of their own."""
    found = []
    for flavor in draw(st.lists(st.sampled_from(FLAVORS), unique=True, max_size=3)):
        for resource in (GPU, "cpu") if flavor != "z" else ("memory",):
            limits = (None, None) if is_root else (draw(LIMITS), draw(LIMITS))
            found.append(Quota(flavor, resource, draw(AMOUNTS), *limits))
    return tuple(found)


@st.composite
def tenants(draw: st.DrawFn, name: str, parents: tuple[str, ...]) -> Tenant:
    parent = draw(st.sampled_from([None, *parents]))
    return Tenant(
        name,
        parent,
        weight=draw(st.sampled_from([Fraction(0), Fraction(1), Fraction(1, 2)])),
        quotas=draw(quotas(parent is None)),
        queueing=draw(st.sampled_from(Queueing)),
        order=draw(st.sampled_from([Tenant("t").order, (OrderKey.SUBMITTED,)])),
        when_can_borrow=draw(st.sampled_from(Fungibility)),
        when_can_preempt=draw(st.sampled_from(Fungibility)),
        reclaim=draw(st.sampled_from(Reclaim)),
        state=draw(st.sampled_from(ObjectState)),
        usage_weights=draw(st.sampled_from([{}, {GPU: Fraction(0)}, {"typo": Fraction(1)}])),
    )


queues = st.builds(
    Queue,
    st.just("team-a"),
    st.sampled_from(["q", "r"]),
    st.sampled_from(NAMES),
    st.sampled_from([Fraction(0), Fraction(1), Fraction(3)]),
    st.sampled_from([*[None, "normal"] * 5, "gone"]),
)
FIXED: tuple[Record, ...] = (Class("normal"), *(Flavor(name, {"pool": name}) for name in FLAVORS))


@st.composite
def worlds(draw: st.DrawFn) -> list[Record]:
    """All tenants, mostly without circles, and some queues."""
    anyhow = draw(st.sampled_from([False, False, False, True]))
    found: list[Record] = [draw(tenants(name, NAMES if anyhow else NAMES[:index])) for index, name in enumerate(NAMES)]
    return found + draw(st.lists(queues, max_size=2))


changes = st.lists(st.one_of(st.sampled_from(NAMES).flatmap(lambda name: tenants(name, NAMES)), queues), max_size=3)


def configured(records: list[Record]) -> Configuration:
    return with_objects(Configuration(1), [*FIXED, *records])


@given(worlds())
@settings(max_examples=300)
def test_what_is_consistent_leads_all_work_to_a_leaf_of_a_tree(records: list[Record]) -> None:
    configuration = configured(records)
    errors = check(configuration)
    engine = Engine()
    engine.observe(ConfigurationChanged(configuration))
    for number, (_, name) in enumerate(configuration.queues, 1):
        engine.observe(WorkloadPending(make_workload(number, queue=name)))
    engine.decide(at(100))
    verdicts = [engine.verdict(number) for number in range(1, 1 + len(configuration.queues))]
    adrift = [
        verdict
        for verdict in verdicts
        if verdict is not None and (verdict.reason in SHUT_FOR_GOOD or "its parent" in verdict.message)
    ]
    event(f"consistent: {not errors}, with queues: {bool(verdicts)}")
    assert errors or not adrift


@given(worlds(), st.sets(st.sampled_from(NAMES)))
@settings(max_examples=300)
def test_warnings_are_sentences_about_what_was_written(records: list[Record], written: set[str]) -> None:
    configuration = configured(records)
    if check(configuration):
        return
    places = {ObjectName("Tenant", name): f"{name}.yaml" for name in written}
    found = oversights(configuration, places)
    assert {each.where for each in found} <= set(places.values())
    assert len({str(each) for each in found}) == len(found)
    assert all("\n" not in str(each) and each.value and each.why for each in found)


@given(worlds(), changes)
@settings(max_examples=300)
def test_a_change_is_refused_exactly_for_what_it_makes_worse_or_names(before: list[Record], change: list[Record]) -> None:
    old = configured(before)
    new = with_objects(old, change)
    places = {name_of(each): f"{name_of(each)} in file" for each in change}
    refused = check_change(old, new, places)
    wrong = check(new, places)
    event(f"refused: {bool(refused)}, wrong before: {bool(check(old))}")
    assert all(str(error) in {str(each) for each in wrong} for error in refused)
    if not check(old):
        assert [str(error) for error in refused] == [str(error) for error in wrong]
    assert {str(error) for error in wrong if error.where in places.values()} <= {str(error) for error in refused}
    assert check_change(old, old, {}) == []
