"""Files of a simulation: what they mean, and what is said of those that mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from aiqueue.admission.simulate.reading import Reading, read
from aiqueue.queue.documents import InvalidDocuments
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.records import shape_of
from fix_simulate import GPU, SECOND, Document, class_, flavor, job, one_tenant, queue, reading, tenant, text_of


def refused(*documents: Document) -> list[str]:
    """The sentences with which documents are refused."""
    with pytest.raises(InvalidInput) as caught:
        reading(*documents)
    error = caught.value
    return [str(each) for each in (error.errors if isinstance(error, InvalidDocuments) else (error,))]


def node(name: Any = "n1", *, at: str | None = None, **status: Any) -> Document:
    notes = {} if at is None else {"annotations": {"simulate.aiqueue.dev/at": at}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, **notes}, "status": status}


def test_a_job_is_what_the_controller_sees() -> None:
    document = job("a", 2, pods=3, arrival="1m", runtime="1h30m", of_class="high", checkpoint="10m", fails="true")
    document["spec"]["template"]["spec"]["tolerations"] = [{"key": "spot", "operator": "Exists"}]
    (read_job,) = reading(*one_tenant(), document).scenario.jobs
    assert (read_job.namespace, read_job.name, read_job.queue_name, read_job.class_name) == ("team-a", "a", "train", "high")
    assert (read_job.arrival_us, read_job.runtime_us) == (60 * SECOND, 5400 * SECOND)
    assert (read_job.checkpoint_us, read_job.fails, read_job.held, read_job.invalid) == (600 * SECOND, True, False, None)
    (pod_set,) = read_job.pod_sets
    assert (pod_set.count, dict(pod_set.requests)) == (3, {GPU: 2, "pods": 1})
    assert pod_set.tolerations[0].key == "spot"
    assert shape_of(read_job.pod_sets, "high") == read_job.shape


def test_what_is_not_said_has_defaults() -> None:
    (read_job,) = reading(job("a", namespace=None)).scenario.jobs
    assert (read_job.namespace, read_job.class_name, read_job.arrival_us, read_job.checkpoint_us) == ("default", None, 0, None)
    assert not read_job.fails


def test_objects_of_one_time_are_one_edit() -> None:
    scenario = reading(queue(), tenant(at="30s", gpus=2), tenant(), class_(at="30s"), flavor()).scenario
    assert [edit.at_us for edit in scenario.edits] == [0, 30 * SECOND]
    assert [[type(each).__name__ for each in edit.records] for edit in scenario.edits] == [
        ["Flavor", "Queue", "Tenant"],
        ["Class", "Tenant"],
    ]


def test_the_order_of_documents_matters_only_among_jobs_of_one_arrival() -> None:
    objects = [*one_tenant(), tenant(at="1m"), tenant("other"), queue("other", of="other")]
    jobs = [job("b"), job("a"), job("late", arrival="5s"), job("c")]
    mixed = [jobs[0], *reversed(objects), *jobs[1:]]
    assert reading(*mixed) == reading(*objects, *jobs) == reading(*jobs, *objects)
    assert [each.name for each in reading(*mixed).scenario.jobs] == ["b", "a", "c", "late"]


def test_files_are_read_one_after_the_other() -> None:
    both = read([("one.yaml", text_of(*one_tenant(), job("b"))), ("two.yaml", text_of(job("a")))])
    assert [each.name for each in both.scenario.jobs] == ["b", "a"]


def test_lists_of_every_kind() -> None:
    plain = reading(*one_tenant(), job("a"), job("b"), node())
    items = [{key: value for key, value in job(name).items() if key in ("metadata", "spec")} for name in "ab"]
    listed = reading(
        {"apiVersion": "v1", "kind": "List", "items": one_tenant()},
        {"apiVersion": "batch/v1", "kind": "JobList", "items": items},
        {"apiVersion": "v1", "kind": "NodeList", "items": [{"metadata": {"name": "n1"}}]},
        {"apiVersion": "batch/v1", "kind": "JobList", "items": []},
    )
    assert listed == plain == Reading(plain.scenario)


def test_what_is_left_out_is_told_once() -> None:
    found = reading(
        *one_tenant(),
        job("mine"),
        job("one", queue=None, runtime=None),
        job("two", queue=None),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}},
    )
    assert [each.name for each in found.scenario.jobs] == ["mine"]
    assert found.warnings == (
        "passed over: scene.yaml, document 7 (Namespace team-a) is a Namespace of v1",
        "left out: 2 Jobs that have no label aiqueue.dev/queue, which aiqueue leaves alone",
    )
    assert reading(job("one", queue=None)).warnings == (
        "left out: 1 Job that has no label aiqueue.dev/queue, which aiqueue leaves alone",
    )


def test_what_has_no_effect_is_told_once_as_apply_tells_it() -> None:
    found = reading(flavor(), tenant(weight=3), tenant(at="5s", gpus=2, weight=3), queue(), tenant(at="9s"))
    (warning,) = found.warnings
    assert warning.startswith("warning: scene.yaml, document 2 (Tenant research): spec.weight is 3: ")


def test_what_a_cluster_would_store_and_aiqueue_not_understand_is_simulated_as_invalid() -> None:
    document = job("a", annotations={"aiqueue.dev/max-runtime": "soon"})
    document["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["cpu"] = "plenty"
    document["spec"]["parallelism"] = 10**30
    (read_job,) = reading(document).scenario.jobs
    assert read_job.invalid is not None
    for each in ("max-runtime", "plenty", "spec.parallelism"):
        assert each in read_job.invalid


AT = "metadata.annotations[simulate.aiqueue.dev/at]"
OF_JOB = "metadata.annotations[simulate.aiqueue.dev/{}]"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (job("a", runtime=None), f"{OF_JOB.format('runtime')} is missing: write how long the Job really takes, such as 5m"),
        (job("a", runtime="long"), f"{OF_JOB.format('runtime')} is 'long': write a duration in whole seconds"),
        (job("a", arrival="-1s"), f"{OF_JOB.format('arrival')} is '-1s': write a duration"),
        (job("a", checkpoint="0s"), f"{OF_JOB.format('checkpoint')} is '0s': write how often the Job saves its work"),
        (job("a", fails="yes"), f'{OF_JOB.format("fails")} is \'yes\': write "true" or "false"'),
        (job("a", arival="5s"), f"{OF_JOB.format('arival')} is '5s': did you mean simulate.aiqueue.dev/arrival?"),
        (job("a", at="5s"), f"{AT} is '5s': remove it; known here: simulate.aiqueue.dev/arrival"),
        (job("a", annotations={"simulate.aiqueue.dev/runtime": 5}), f"{OF_JOB.format('runtime')} is 5: put it in quotes"),
        (job("", runtime="5m"), "metadata.name is missing: write the name of the Job"),
        ({"apiVersion": "batch/v1", "kind": "Job"}, "the Job is not what a Job of batch/v1 has there"),
        (tenant(at="noon"), f"{AT} is 'noon': write a duration"),
        (node(None), "metadata.name is missing: write the name of the Node"),
        (node(allocatable={"cpu": "some"}), "status.allocatable.cpu is 'some': write a quantity"),
        (node(capacity=[1]), "status.capacity is [1]: write a mapping of resources to quantities"),
        (node(at="never"), f"{AT} is 'never': write a duration"),
    ],
)
def test_a_wrong_document_is_told_with_its_place(document: Document, said: str) -> None:
    (sentence,) = refused(*one_tenant(), document)
    name = document.get("metadata", {}).get("name")
    assert sentence.startswith("scene.yaml, document 4 (")
    assert f"({document['kind']}" + (f" {name}" if name else "") in sentence
    assert said in sentence


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("parallelism", "two", "spec.parallelism is not what a Job of batch/v1 has there: Expected int | null, got str"),
        ("template", None, "spec.template is not what a Job of batch/v1 has there"),
    ],
)
def test_a_job_of_another_form_is_refused(field: str, value: object, said: str) -> None:
    document = job("a")
    document["spec"][field] = value
    (sentence,) = refused(document)
    assert said in sentence


def test_an_annotation_of_a_job_means_nothing_on_an_object() -> None:
    wrong = tenant()
    wrong["metadata"]["annotations"] = {"simulate.aiqueue.dev/runtime": "5m"}
    (sentence,) = refused(wrong)
    assert "simulate.aiqueue.dev/runtime] is '5m': remove it; known here: simulate.aiqueue.dev/at" in sentence


def test_every_mistake_is_told() -> None:
    with pytest.raises(InvalidDocuments) as caught:
        read(
            [("one.yaml", text_of(job("a", runtime=None), class_(priority="high"))), ("two.yaml", text_of(job("b", fails="1")))]
        )
    assert [error.where.split(" (")[0] for error in caught.value.errors] == ["one.yaml, document 2", "two.yaml, document 1"]
    with pytest.raises(InvalidDocuments) as caught:
        read([("one.yaml", text_of(job("a", runtime=None))), ("two.yaml", text_of(job("b", fails="1")))])
    assert len(caught.value.errors) == 2


def test_a_name_is_given_once() -> None:
    (sentence,) = refused(job("a"), job("b"), job("a"))
    assert (
        "document 3 (Job a): metadata.name is 'team-a/a': give each Job a name of its own: scene.yaml, document 1" in sentence
    )
    (sentence,) = refused(*one_tenant(), tenant(at="30s"), tenant(at="30s", gpus=3))
    assert "metadata.name is 'research': write it once for each time" in sentence
    assert sentence.endswith("scene.yaml, document 4 (Tenant research) is for 30s too")
    (sentence,) = refused(tenant(), flavor(), tenant())
    assert sentence.endswith("scene.yaml, document 1 (Tenant research) is for 0s too")


def test_objects_of_each_time_must_fit_together() -> None:
    (sentence,) = refused(flavor(), tenant("child", parent="lab"))
    assert "document 2 (Tenant child): spec.parent is 'lab': there is no such Tenant" in sentence
    (sentence,) = refused(flavor(), tenant("child"), tenant("child", at="90s", parent="lab"))
    assert "at 1m30s: scene.yaml, document 3 (Tenant child): spec.parent is 'lab': there is no such Tenant" in sentence
    # A parent that comes later comes too late.
    (sentence,) = refused(flavor(), tenant("child", parent="lab"), tenant("lab", None, at="1s"))
    assert "spec.parent is 'lab'" in sentence
    assert reading(flavor(at="5s"), tenant("child", at="5s", parent="lab"), tenant("lab", None)).scenario.edits


def test_what_is_no_yaml_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"scene\.yaml: line 2, column"):
        read([("scene.yaml", "{")])
