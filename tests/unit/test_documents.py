"""Documents: every field with its default, and every mistake with a sentence."""

from fractions import Fraction
from textwrap import dedent, indent

import pytest

from aiqueue.queue.documents import InvalidDocuments, ObjectName, Record, name_of, read_documents, to_document
from aiqueue.queue.documents.yaml_text import MAX_BYTES
from aiqueue.queue.errors import InvalidDocument, InvalidInput
from aiqueue.queue.records import Class, Flavor, Queue, Quota, Taint, Tenant, Toleration
from aiqueue.queue.words import Fungibility, ObjectState, OrderKey, Queueing, Reclaim, WithinTenant

HEAD = {
    "Flavor": "apiVersion: aiqueue.dev/v1\nkind: Flavor\nmetadata: {name: x}\n",
    "Tenant": "apiVersion: aiqueue.dev/v1\nkind: Tenant\nmetadata: {name: x}\n",
    "Queue": "apiVersion: aiqueue.dev/v1\nkind: Queue\nmetadata: {name: x, namespace: ns}\n",
    "Class": "apiVersion: aiqueue.dev/v1\nkind: Class\nmetadata: {name: x}\n",
}


def one(kind: str, spec: str = "{}") -> Record:
    """The record of one document of `kind` with `spec`."""
    (document,) = read_documents(f"{HEAD[kind]}spec: {spec}\n", "file.yaml")
    assert document.record is not None
    return document.record


def block(text: str) -> str:
    """Lines of a mapping that stands under a field."""
    return indent(dedent(text), "  ")


def refused(text: str) -> list[str]:
    """Every sentence that refuses `text`."""
    with pytest.raises(InvalidInput) as caught:
        read_documents(text, "file.yaml")
    return [str(each) for each in (caught.value.errors if isinstance(caught.value, InvalidDocuments) else [caught.value])]


def complaint(kind: str, spec: str) -> str:
    """The only sentence that refuses a document of `kind` with `spec`, without its place."""
    (sentence,) = refused(f"{HEAD[kind]}spec: {spec}\n")
    place = f"file.yaml, document 1 ({kind} x): "
    assert sentence.startswith(place)
    return sentence.removeprefix(place)


def test_every_field_of_a_tenant() -> None:
    spec = block(
        """
          parent: lab
          weight: 2.125
          quotas:
          - flavor: h100
            resources:
            - {name: nvidia.com/gpu, nominal: 64, borrowingLimit: 32, lendingLimit: 16}
            - {name: cpu, nominal: 800.0009}
          - flavor: a100
            resources:
            - {name: cpu, nominal: 1500m}
            - {name: nvidia.com/gpu, nominal: "8"}
          queueing: Strict
          order: [usage, submitted]
          flavorFungibility: {whenCanBorrow: TryNextFlavor, whenCanPreempt: MayStopSearch}
          preemption: {withinTenant: LowerOrNewerEqualPriority, reclaim: LowerPriority}
          state: Hold
          starvationBound: 2h
          usageHalfLife: 1d
          usageWeights: {nvidia.com/gpu: 1, cpu: 0.05}
        """
    )
    assert one("Tenant", spec) == Tenant(
        name="x",
        parent="lab",
        weight=Fraction(17, 8),
        quotas=(
            Quota("h100", "nvidia.com/gpu", 64, 32, 16),
            Quota("h100", "cpu", 800_000),
            Quota("a100", "cpu", 1500),
            Quota("a100", "nvidia.com/gpu", 8),
        ),
        queueing=Queueing.STRICT,
        order=(OrderKey.USAGE, OrderKey.SUBMITTED),
        when_can_borrow=Fungibility.TRY_NEXT_FLAVOR,
        when_can_preempt=Fungibility.MAY_STOP_SEARCH,
        within_tenant=WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY,
        reclaim=Reclaim.LOWER_PRIORITY,
        state=ObjectState.HOLD,
        starvation_bound_seconds=7200,
        usage_half_life_seconds=86400,
        usage_weights={"nvidia.com/gpu": Fraction(1), "cpu": Fraction(1, 20)},
    )


def test_every_field_of_a_queue() -> None:
    spec = "{tenant: t, weight: 0, defaultClass: a, allowedClasses: [a, b], state: Hold}"
    assert one("Queue", spec) == Queue("ns", "x", "t", Fraction(0), "a", ("a", "b"), ObjectState.HOLD)


def test_every_field_of_a_class() -> None:
    spec = (
        "{priority: -5, preemptible: false, minRuntime: 10m, gracePeriod: 2m, maxRuntime: 24h, maxTotalRuntime: 72h,"
        " readyTimeout: 5m, recoveryTimeout: 0s, requeueLimit: 0}"
    )
    assert one("Class", spec) == Class("x", -5, False, 600, 120, 86400, 3 * 86400, 300, 0, 0)


def test_every_field_of_a_flavor() -> None:
    spec = block(
        """
          nodeLabels: {nvidia.com/gpu.product: NVIDIA-H100-80GB-HBM3, empty: ""}
          nodeTaints: [{key: gpu, value: "yes", effect: NoExecute}, {key: only}]
          tolerations: [{operator: Exists}, {key: gpu, value: "yes", effect: NoExecute, tolerationSeconds: 30}]
          topologyLevels: [topology.kubernetes.io/zone, kubernetes.io/hostname]
        """
    )
    assert one("Flavor", spec) == Flavor(
        name="x",
        node_labels={"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "empty": ""},
        node_taints=(Taint("gpu", "yes", "NoExecute"), Taint("only")),
        tolerations=(Toleration(operator="Exists"), Toleration("gpu", "Equal", "yes", "NoExecute", 30)),
        topology_levels=("topology.kubernetes.io/zone", "kubernetes.io/hostname"),
    )


def test_defaults() -> None:
    assert one("Tenant") == Tenant("x")
    assert one("Class") == Class(
        "x", grace_period_seconds=30, ready_timeout_seconds=600, recovery_timeout_seconds=600, requeue_limit=5
    )
    assert one("Queue", "{tenant: t}") == Queue("ns", "x", "t")
    assert one("Flavor") == Flavor("x")


def test_null_is_as_good_as_absent() -> None:
    assert one("Tenant", "{parent: null, weight: ~, quotas: null, order: null, usageWeights: null}") == Tenant("x")


def test_a_missing_spec_is_all_defaults() -> None:
    (document,) = read_documents(HEAD["Class"], "file.yaml")
    assert document.record == Class("x")


@pytest.mark.parametrize(
    ("kind", "spec", "sentence"),
    [
        ("Tenant", "{wieght: 2}", "spec.wieght is not a known field: did you mean weight?"),
        ("Tenant", "{parent: Lab}", "spec.parent is 'Lab': write lower case"),
        ("Tenant", "{parent: x}", "spec.parent is 'x': name another tenant"),
        ("Tenant", "{weight: -1}", "spec.weight is -1: write a number from 0"),
        ("Tenant", "{weight: 0.0005}", "spec.weight is 0.0005: write a number from 0"),
        ("Tenant", "{weight: .nan}", "spec.weight is nan: write a number from 0"),
        ("Tenant", "{weight: true}", "spec.weight is True: write a number from 0"),
        ("Tenant", "{weight: '1e999999999'}", "spec.weight is '1e999999999': write a number from 0"),
        ("Tenant", "{queueing: strict}", "spec.queueing is 'strict': did you mean Strict?"),
        ("Tenant", "{queueing: 7}", "spec.queueing is 7: write one of Strict, BestEffort"),
        ("Tenant", "{order: [priority]}", "spec.order is [priority]: end it with submitted"),
        ("Tenant", "{order: []}", "spec.order is []: end it with submitted"),
        ("Tenant", "{order: [usage, usage, submitted]}", "spec.order[1] is 'usage': list it once"),
        ("Tenant", "{usageHalfLife: 0s}", "spec.usageHalfLife is '0s': write a longer one"),
        ("Tenant", "{starvationBound: 60}", "spec.starvationBound is 60: write a duration"),
        ("Tenant", "{preemption: Any}", "spec.preemption is 'Any': write a mapping of fields"),
        ("Tenant", "{preemption: {reclaim: any}}", "spec.preemption.reclaim is 'any': did you mean Any?"),
        ("Tenant", "{quotas: {}}", "spec.quotas is a mapping of 0 fields: write a list"),
        ("Tenant", "{quotas: [{flavor: a, resources: []}]}", "spec.quotas[0].resources is empty: list at least one"),
        (
            "Tenant",
            "{quotas: [{flavor: a, resources: [{name: cpu}]}]}",
            "spec.quotas[0].resources[0].nominal is missing: write how much",
        ),
        (
            "Tenant",
            "{quotas: [{flavor: a, resources: [{name: cpu, nominal: lots}]}]}",
            "spec.quotas[0].resources[0].nominal is 'lots': write a quantity",
        ),
        (
            "Tenant",
            "{quotas: [{flavor: a, resources: [{name: nvidia.com/gpu, nominal: 0.5}]}]}",
            "spec.quotas[0].resources[0].nominal is 0.5: write 0 or a whole number of base units of nvidia.com/gpu",
        ),
        (
            "Tenant",
            "{quotas: [{flavor: a, resources: [{name: cpu, nominal: 1}, {name: cpu, nominal: 2}]}]}",
            "spec.quotas[0].resources is 'cpu': list each resource of a flavor once",
        ),
        (
            "Tenant",
            "{quotas: [{flavor: a, resources: [{name: cpu, nominal: 1}]}, {flavor: a, resources: [{name: memory, nominal: 2}]}]}",
            "spec.quotas[1].flavor is 'a': list each flavor once",
        ),
        (
            "Tenant",
            (
                "{quotas: [{flavor: a, resources: [{name: cpu, nominal: 1}]},"
                " {flavor: b, resources: [{name: cpu, nominal: 1}, {name: memory, nominal: 2}]}]}"
            ),
            "spec.quotas[1].resources is cpu, memory: list what flavor a lists (cpu), or nothing of it",
        ),
        (
            "Tenant",
            "{quotas: [{flavor: a, resources: [{name: cpu, nominal: 1, borrowingLimit: 1}]}]}",
            "spec.quotas[0].resources[0].borrowingLimit is 1: remove it, or write spec.parent",
        ),
        (
            "Tenant",
            "{quotas: [{flavor: a, resources: [{name: cpu, nominal: 1, lendingLimit: 0}]}]}",
            "spec.quotas[0].resources[0].lendingLimit is 0: remove it, or write spec.parent",
        ),
        ("Queue", "{}", "spec.tenant is missing: write the name of the tenant"),
        ("Queue", "{tenant: 12}", "spec.tenant is 12: put it in quotes"),
        ("Queue", "{tenant: t, allowedClasses: []}", "spec.allowedClasses is empty: list at least one class"),
        ("Queue", "{tenant: t, allowedClasses: [a, a]}", "spec.allowedClasses[1] is 'a': list it once"),
        ("Queue", "{tenant: t, defaultClass: c, allowedClasses: [a]}", "spec.defaultClass is 'c': add it to"),
        ("Queue", "{tenant: t, state: Closed}", "spec.state is 'Closed': write one of Active, Hold, Drain"),
        ("Class", "{priority: 2147483648}", "spec.priority is 2147483648: write a whole number from -2147483648 to 2147483647"),
        ("Class", "{priority: 1.5}", "spec.priority is 1.5: write a whole number"),
        ("Class", "{priority: true}", "spec.priority is True: write a whole number"),
        ("Class", "{preemptible: 1}", "spec.preemptible is 1: write true or false"),
        ("Class", "{requeueLimit: -1}", "spec.requeueLimit is -1: write a whole number from 0"),
        ("Class", "{maxRuntime: 0s}", "spec.maxRuntime is '0s': write at least 1s"),
        ("Class", "{maxRuntime: 2h, maxTotalRuntime: 1h}", "spec.maxTotalRuntime is '1h': write at least maxRuntime, 2h"),
        ("Class", "{maxRuntime: 1h, minRuntime: 2h}", "spec.minRuntime is '2h': write at most maxRuntime, 1h"),
        ("Class", "{minRuntime: 2h, maxTotalRuntime: 1h}", "spec.minRuntime is '2h': write at most maxTotalRuntime, 1h"),
        (
            "Flavor",
            "{nodeTaints: [{key: a, value: x}, {key: a, value: y, effect: NoExecute}, {key: a, value: y}]}",
            "spec.nodeTaints[2] is a second a:NoSchedule: keep one",
        ),
        (
            "Flavor",
            "{topologyLevels: [zone, kubernetes.io/hostname, rack]}",
            "spec.topologyLevels is [zone, kubernetes.io/hostname, rack]: put kubernetes.io/hostname last",
        ),
        ("Flavor", "{nodeLabels: {'a b': c}}", "spec.nodeLabels.a b is not a label's key: write a name"),
        ("Flavor", "{nodeLabels: {a: 1}}", "spec.nodeLabels.a is 1: put it in quotes"),
        ("Flavor", "{nodeLabels: {a: 'x y'}}", "spec.nodeLabels.a is 'x y': write at most 63"),
        ("Flavor", "{nodeTaints: [{value: x}]}", "spec.nodeTaints[0].key is missing"),
        ("Flavor", "{nodeTaints: [{key: a, effect: Never}]}", "spec.nodeTaints[0].effect is 'Never': write one of NoSchedule"),
        ("Flavor", "{tolerations: [{value: x}]}", "spec.tolerations[0].key is missing: write the key, or operator: Exists"),
        ("Flavor", "{tolerations: [{key: a, operator: Exists, value: x}]}", "spec.tolerations[0].value is 'x': remove it"),
        (
            "Flavor",
            "{tolerations: [{key: a, tolerationSeconds: 3}]}",
            "spec.tolerations[0].tolerationSeconds is 3: remove it, or write effect: NoExecute",
        ),
        ("Flavor", "{topologyLevels: [a, a]}", "spec.topologyLevels[1] is 'a': list it once"),
        ("Flavor", "{topologyLevels: zone}", "spec.topologyLevels is 'zone': write a list"),
        ("Flavor", "[]", "spec is a list of 0: write a mapping of fields"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_its_fix(kind: str, spec: str, sentence: str) -> None:
    assert complaint(kind, spec).startswith(sentence)


def test_a_half_life_of_zero_is_fine_where_usage_is_not_in_the_order() -> None:
    tenant = one("Tenant", "{usageHalfLife: 0s, order: [priority, submitted]}")
    assert isinstance(tenant, Tenant)
    assert tenant.usage_half_life_seconds == 0


def test_flavors_of_the_same_resources_form_a_group_whatever_their_order() -> None:
    quotas = "[{flavor: a, resources: [{name: cpu, nominal: 1}, {name: memory, nominal: 1}]}, "
    quotas += "{flavor: b, resources: [{name: memory, nominal: 1}, {name: cpu, nominal: 1}]}, "
    quotas += "{flavor: c, resources: [{name: nvidia.com/gpu, nominal: 1}]}]"
    tenant = one("Tenant", f"{{quotas: {quotas}}}")
    assert isinstance(tenant, Tenant)
    assert [quota.flavor for quota in tenant.quotas] == ["a", "a", "b", "b", "c"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "file.yaml: line 2, column 1 is not YAML: "),
        ("\x00", "file.yaml: the text is not YAML: "),
        ("\ud800", "file.yaml: character 1 is not Unicode: save the file as UTF-8"),
        ("- 1", "file.yaml, document 1: the document is a list of 1: write a mapping"),
        ("hello", "file.yaml, document 1: the document is 'hello': write a mapping"),
        ("{}", "file.yaml, document 1: apiVersion is missing: write for example aiqueue.dev/v1"),
        ("{apiVersion: aiqueue.dev/v2, kind: Tenant}", "file.yaml, document 1 (Tenant): apiVersion is 'aiqueue.dev/v2': write"),
        (
            "{apiVersion: aiqueue.dev/v1, kind: Tennant}",
            "file.yaml, document 1 (Tennant): kind is 'Tennant': did you mean Tenant?",
        ),
        ("{apiVersion: aiqueue.dev/v1, kind: Pod}", "file.yaml, document 1 (Pod): kind is 'Pod': write one of"),
        (HEAD["Tenant"] + "specs: {}", "file.yaml, document 1 (Tenant x): specs is not a known field: did you mean spec?"),
        ("a: 1\na: 2", "file.yaml, document 1: a is given twice (again in line 2): keep one of them"),
        ("a: &a [*a]", "file.yaml: line 1 is *a, which contains itself"),
        ("[" * 65 + "]" * 65, "file.yaml: line 1 is nested deeper than 64: flatten it"),
        ("? [a]\n: b", "file.yaml, document 1: a key in the document is not text"),
        ("a: !!python/object:os.system x", "file.yaml, document 1: a is 'x': it cannot be read as"),
        ("a: !!set {b}", "file.yaml, document 1: a is tagged tag:yaml.org,2002:set"),
        ("a: *b", "file.yaml: line 1, column 4 is not YAML: found undefined alias"),
        (HEAD["Tenant"].replace("{name: x}", "{}"), "file.yaml, document 1 (Tenant): metadata.name is missing"),
        (
            HEAD["Tenant"].replace("name: x", "name: x, namespace: y"),
            "file.yaml, document 1 (Tenant x): metadata.namespace is 'y'",
        ),
        (HEAD["Tenant"].replace("name: x", "name: 3"), "file.yaml, document 1 (Tenant): metadata.name is 3: put it in quotes"),
        (HEAD["Tenant"].replace("name: x", f"name: {'x' * 64}"), "file.yaml, document 1 (Tenant): metadata.name is 'xxx"),
    ],
)
def test_what_is_no_document_is_refused(text: str, sentence: str) -> None:
    assert refused(text)[0].startswith(sentence)


def test_a_queue_needs_its_namespace() -> None:
    (sentence,) = refused("{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {name: q}, spec: {tenant: t}}")
    assert "metadata.namespace is missing" in sentence


def test_all_mistakes_of_all_documents_are_told() -> None:
    text = f"{HEAD['Class']}spec: {{priority: x, preemptible: y}}\n---\n{HEAD['Tenant']}spec: {{weight: z}}\n"
    sentences = refused(text)
    assert [sentence.partition(" is ")[0] for sentence in sentences] == [
        "file.yaml, document 1 (Class x): spec.priority",
        "file.yaml, document 1 (Class x): spec.preemptible",
        "file.yaml, document 2 (Tenant x): spec.weight",
    ]


def test_an_object_given_twice_is_refused() -> None:
    (sentence,) = refused(f"{HEAD['Class']}\n---\n{HEAD['Class']}")
    assert sentence == ("file.yaml, document 2 (Class x): Class x is given twice: keep one; the first is file.yaml, document 1")


def test_aliases_that_expand_without_bound_are_refused_at_once() -> None:
    bomb = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    bomb += "".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(10))
    assert "past 500000 values, aliases expanded" in refused(bomb)[0]


def test_merge_keys_that_expand_without_bound_are_refused_at_once() -> None:
    bomb = "a: &a {x: 1, y: 2, z: 3, w: 4}\n"
    bomb += "".join(f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{', '.join([f'*{chr(97 + i)}'] * 10)}]}}\n" for i in range(10))
    assert "past 500000 values, aliases expanded" in refused(bomb)[0]


def test_a_text_past_its_bound_is_refused() -> None:
    (sentence,) = refused("#" * (MAX_BYTES + 1))
    assert sentence == f"file.yaml: its size is {MAX_BYTES + 1} bytes: split it: at most {MAX_BYTES} bytes are read at once"


def test_long_values_are_shortened_in_errors() -> None:
    assert len(complaint("Tenant", f"{{queueing: {'x' * 10_000}}}")) < 300


def test_anchors_and_merge_keys_work() -> None:
    text = f"{HEAD['Class']}spec: &base {{priority: 7, minRuntime: 1m}}\n---\n"
    text += "apiVersion: aiqueue.dev/v1\nkind: Class\nmetadata: {name: y}\n"
    text += "spec:\n  <<: [{priority: 8}, {priority: 9, gracePeriod: 5s}]\n  minRuntime: 2m\n"
    assert [document.record for document in read_documents(text, "f")] == [
        Class("x", priority=7, min_runtime_seconds=60),
        Class("y", priority=8, min_runtime_seconds=120, grace_period_seconds=5),
    ]


def test_other_peoples_documents_are_given_back_unread() -> None:
    text = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: j, namespace: n, annotations: {a: b}}\nspec: {anything: [1, 2]}\n"
    (document,) = read_documents(f"---\n---\n{text}", "file.yaml")
    assert (document.record, document.kind, document.name, document.namespace) == (None, "Job", "j", "n")
    assert document.annotations == {"a": "b"}
    assert document.content["spec"] == {"anything": [1, 2]}


def test_a_list_stands_for_its_items() -> None:
    items = "[{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: a}}, {apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: b}}]"
    documents = read_documents(f"{{apiVersion: v1, kind: List, items: {items}}}", "f")
    assert [document.record for document in documents] == [Class("a"), Class("b")]
    assert documents[1].where == "f, document 1, item 2 (Class b)"


def test_labels_annotations_and_status_are_read_and_not_kept() -> None:
    text = "apiVersion: aiqueue.dev/v1\nkind: Class\nmetadata: {name: x, labels: {a: b}, annotations: {c: 'd e'}}\nstatus: {z: 1}\n"
    (document,) = read_documents(text, "f")
    assert document.record == Class("x")
    assert document.annotations == {"c": "d e"}


def test_the_canonical_form_names_every_field() -> None:
    document = to_document(Tenant("x", parent="p", quotas=(Quota("f", "memory", 2048, 0, None),), weight=Fraction(1, 4)))
    assert document["metadata"] == {"name": "x"}
    assert document["spec"]["weight"] == 0.25
    assert document["spec"]["quotas"] == [
        {"flavor": "f", "resources": [{"name": "memory", "nominal": "2Ki", "borrowingLimit": 0}]}
    ]
    assert document["spec"]["preemption"] == {"withinTenant": "LowerPriority", "reclaim": "Any"}


def test_names_of_objects() -> None:
    assert str(name_of(Queue("ns", "q", "t"))) == "Queue ns/q"
    assert name_of(Class("c")) == ObjectName("Class", "c")


def test_one_mistake_is_that_error_itself() -> None:
    with pytest.raises(InvalidDocument) as caught:
        read_documents(f"{HEAD['Class']}spec: {{priority: x}}", "f")
    assert (caught.value.field, caught.value.value) == ("spec.priority", "x")
