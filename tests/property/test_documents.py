"""Whatever can be written is read back; whatever is read is a document or a refusal."""

from fractions import Fraction
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqueue.queue.documents import Record, read_documents, to_document
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.records import Class, Flavor, Queue, Quota, Taint, Tenant, Toleration
from aiqueue.queue.units import MAX_AMOUNT, MAX_DURATION_SECONDS
from aiqueue.queue.words import Fungibility, ObjectState, OrderKey, Queueing, Reclaim, WithinTenant

names = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]{1,10})?", fullmatch=True)
namespaces = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
keys = st.from_regex(r"([a-z0-9]{1,8}\.[a-z]{2,3}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?", fullmatch=True)
values = st.from_regex(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,20}[A-Za-z0-9])?)?", fullmatch=True)
resources = st.one_of(st.sampled_from(["cpu", "memory", "pods", "nvidia.com/gpu", "hugepages-2Mi"]), keys)
amounts = st.integers(0, MAX_AMOUNT)
durations = st.integers(0, MAX_DURATION_SECONDS)
weights = st.integers(0, 1_000_000_000).map(lambda thousandths: Fraction(thousandths, 1000))
effects = st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute"])


@st.composite
def tolerations(draw: st.DrawFn) -> Toleration:
    exists = draw(st.booleans())
    effect = draw(st.one_of(st.just(""), effects))
    return Toleration(
        key=draw(st.one_of(st.just(""), keys) if exists else keys),
        operator="Exists" if exists else "Equal",
        value="" if exists else draw(values),
        effect=effect,
        toleration_seconds=draw(st.one_of(st.none(), st.integers(0, 2**31 - 1))) if effect == "NoExecute" else None,
    )


flavors = st.builds(
    Flavor,
    name=names,
    node_labels=st.dictionaries(keys, values, max_size=4),
    node_taints=st.lists(
        st.builds(Taint, keys, values, effects), max_size=3, unique_by=lambda taint: (taint.key, taint.effect)
    ).map(tuple),
    tolerations=st.lists(tolerations(), max_size=3).map(tuple),
    topology_levels=st.lists(keys, max_size=4, unique=True).map(tuple),
)


@st.composite
def quotas(draw: st.DrawFn, is_root: bool) -> tuple[Quota, ...]:
    """Groups of flavors, each of the same resources."""
    limits = st.none() if is_root else st.one_of(st.none(), amounts)
    flavor_names = draw(st.lists(names, max_size=4, unique=True))
    resource_names = draw(st.lists(resources, min_size=2, max_size=4, unique=True))
    groups = [resource_names[:1], resource_names[1:]]
    return tuple(
        Quota(flavor, resource, draw(amounts), draw(limits), draw(limits))
        for flavor in flavor_names
        for resource in draw(st.permutations(groups[draw(st.integers(0, 1))]))
    )


@st.composite
def tenants(draw: st.DrawFn) -> Tenant:
    name = draw(names)
    parent = draw(st.one_of(st.none(), names.filter(lambda other: other != name)))
    order = (*draw(st.lists(st.sampled_from([OrderKey.PRIORITY, OrderKey.USAGE]), unique=True)), OrderKey.SUBMITTED)
    return Tenant(
        name=name,
        parent=parent,
        weight=draw(weights),
        quotas=draw(quotas(parent is None)),
        queueing=draw(st.sampled_from(Queueing)),
        order=order,
        when_can_borrow=draw(st.sampled_from(Fungibility)),
        when_can_preempt=draw(st.sampled_from(Fungibility)),
        within_tenant=draw(st.sampled_from(WithinTenant)),
        reclaim=draw(st.sampled_from(Reclaim)),
        state=draw(st.sampled_from(ObjectState)),
        starvation_bound_seconds=draw(durations),
        usage_half_life_seconds=draw(st.integers(1 if OrderKey.USAGE in order else 0, MAX_DURATION_SECONDS)),
        usage_weights=draw(st.dictionaries(resources, weights, max_size=3)),
    )


@st.composite
def queues(draw: st.DrawFn) -> Queue:
    allowed = draw(st.one_of(st.none(), st.lists(names, min_size=1, max_size=4, unique=True).map(tuple)))
    default = draw(st.one_of(st.none(), names if allowed is None else st.sampled_from(allowed)))
    return Queue(
        draw(namespaces), draw(names), draw(names), draw(weights), default, allowed, draw(st.sampled_from(ObjectState))
    )


@st.composite
def classes(draw: st.DrawFn) -> Class:
    most = draw(st.one_of(st.none(), st.integers(1, MAX_DURATION_SECONDS)))
    total = draw(st.one_of(st.none(), st.integers(most or 1, MAX_DURATION_SECONDS)))
    return Class(
        name=draw(names),
        priority=draw(st.integers(-(2**31), 2**31 - 1)),
        preemptible=draw(st.booleans()),
        min_runtime_seconds=draw(st.integers(0, most or total or MAX_DURATION_SECONDS)),
        grace_period_seconds=draw(durations),
        max_runtime_seconds=most,
        max_total_runtime_seconds=total,
        ready_timeout_seconds=draw(st.integers(1, MAX_DURATION_SECONDS)),
        recovery_timeout_seconds=draw(durations),
        requeue_limit=draw(st.integers(0, 2**31 - 1)),
    )


records = st.one_of(flavors, tenants(), queues(), classes())


@given(records)
def test_a_record_is_read_back_from_its_document(record: Record) -> None:
    text = yaml.safe_dump(to_document(record))
    (document,) = read_documents(text, "file")
    assert document.record == record


documents = st.fixed_dictionaries(
    {
        "apiVersion": st.just("aiqueue.dev/v1"),
        "kind": st.sampled_from(["Flavor", "Tenant", "Queue", "Class"]),
        "metadata": st.fixed_dictionaries({"name": names}, optional={"namespace": names}),
    }
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.dates(), st.binary(max_size=5)
)
trees: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(st.text(max_size=10), st.integers()), inner, max_size=4)
    ),
    max_leaves=15,
)
known_fields = st.sampled_from(
    [
        "parent",
        "weight",
        "quotas",
        "flavor",
        "resources",
        "name",
        "nominal",
        "borrowingLimit",
        "lendingLimit",
        "queueing",
        "order",
        "flavorFungibility",
        "whenCanBorrow",
        "preemption",
        "reclaim",
        "state",
        "starvationBound",
        "usageHalfLife",
        "usageWeights",
        "tenant",
        "defaultClass",
        "allowedClasses",
        "priority",
        "preemptible",
        "minRuntime",
        "maxRuntime",
        "readyTimeout",
        "requeueLimit",
        "nodeLabels",
        "nodeTaints",
        "tolerations",
        "topologyLevels",
        "key",
        "operator",
    ]
)
specs: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(known_fields, inner, max_size=6)),
    max_leaves=15,
)


def _reads_or_refuses(text: str) -> None:
    """Read it; anything but documents or InvalidInput fails the test by itself."""
    try:
        read_documents(text, "file")
    except InvalidInput:
        return


@given(documents, specs)
@settings(max_examples=300)
def test_a_document_with_anything_in_it_is_read_or_refused(document: dict[str, Any], spec: Any) -> None:
    _reads_or_refuses(yaml.safe_dump({**document, "spec": spec}))


@given(trees)
def test_any_yaml_is_read_or_refused(tree: Any) -> None:
    _reads_or_refuses(yaml.safe_dump(tree))


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
@settings(max_examples=300)
def test_any_text_is_read_or_refused(text: str) -> None:
    _reads_or_refuses(text)


@given(
    st.lists(
        st.sampled_from([*list("[]{}:,-?&*!|>'\"%@#<=~ \n\t"), "a", "1", "<<", "---\n", "&a ", "*a ", "!!int ", "!!map "]),
        max_size=60,
    )
)
@settings(max_examples=500)
def test_any_marks_of_yaml_are_read_or_refused(marks: list[str]) -> None:
    _reads_or_refuses("".join(marks))


@pytest.mark.parametrize(
    "tag", ["int", "float", "bool", "null", "timestamp", "binary", "omap", "pairs", "set", "str", "seq", "map", "merge"]
)
@pytest.mark.parametrize("body", ["''", "x", "-", "0x", "0b", "1:", ":1", "9" * 100, "{}", "[]"])
def test_any_tag_on_anything_is_read_or_refused(tag: str, body: str) -> None:
    _reads_or_refuses(f"apiVersion: v1\nkind: Thing\nspec: !!{tag} {body}\n")
