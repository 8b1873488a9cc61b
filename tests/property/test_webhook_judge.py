"""Whatever comes, it is answered; and what is answered is what the engine would say."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqueue.admission.engine import ConfigurationChanged, Door, Engine, WorkloadPending
from aiqueue.admission.webhook import reviews
from aiqueue.admission.webhook.judge import Judge
from aiqueue.admission.webhook.reviews import Answer, Review, UnreadableReview
from aiqueue.queue.records import Configuration, Decision, Workload
from aiqueue.queue.words import ObjectState, Reason, WorkloadState
from fix_builders import at
from fix_engine_worlds import EPOCHS, Kind, backlogs, configurations
from fix_jobs import whole_jobs
from fix_submitted import NAMESPACE, Source, asked, submitted_job, team_configuration

NEVER = (
    Reason.QUEUE_NOT_FOUND,
    Reason.QUEUE_CLOSED,
    Reason.CLASS_NOT_ALLOWED,
    Reason.RESOURCE_NOT_COVERED,
    Reason.NO_MATCHING_FLAVOR,
    Reason.EXCEEDS_CEILING,
)
anything: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=20),
        st.sampled_from(("CREATE", "UPDATE", "batch", "v1", "jobs", "1h", "true", "x" * 5000, "\x00", "\ud800")),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=20), inner, max_size=3)),
    max_leaves=8,
)
sources = st.sampled_from(
    (
        Source.of(team_configuration()),
        Source.of(Configuration(1)),
        Source(None, None),
        Source(team_configuration(), None, 60),
        Source(Configuration(1), team_configuration()),
    )
)
REAL = (
    json.loads(asked(submitted_job(class_name="normal", pods=4, notes={"max-runtime": "48h", "min-parallelism": "2"}))),
    json.loads(
        asked(
            submitted_job("open", gpus=64, pod={"nodeSelector": {"zone": "a"}, "tolerations": [{"operator": "Exists"}]}),
            submitted_job(suspend=False, status={"conditions": [{"type": "Complete", "status": "True"}]}),
        )
    ),
)


def decoded(body: bytes) -> tuple[Review | None, str]:
    """The review, or the sentence that says why it is none."""
    try:
        return reviews.decode(body), ""
    except UnreadableReview as error:
        return None, str(error)


def answered(body: bytes, source: Source) -> Answer | None:
    """What is answered, having checked that it is well formed; None where it is said to be no review."""
    review, sentence = decoded(body)
    if review is None:
        assert 0 < len(sentence) < 1200
        assert sentence.isprintable()
        return None
    judge = Judge(source)
    reads = source.reads
    quick = judge.quick(review)
    assert source.reads == reads, "quick never reads the ledger"
    assert quick is None or quick.allowed or quick.code == 422 or review.operation == "UPDATE", "nor refuses on data"
    answer = judge.thorough(review)
    if quick is not None:
        assert answer == quick
    written = json.loads(reviews.encode(review, answer))
    response = written["response"]
    assert (written["apiVersion"], written["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert response["uid"] == review.uid
    assert response["allowed"] is answer.allowed
    if not answer.allowed:
        assert response["status"]["code"] in (403, 422)
        assert 0 < len(response["status"]["message"]) <= reviews.MAX_MESSAGE
        assert response["status"]["message"].startswith("Job ")
        assert response["status"]["message"].isprintable()
    told = response.get("warnings", [])
    assert len(told) <= reviews.MAX_WARNINGS
    assert all(len(each.encode()) <= reviews.MAX_WARNING_BYTES and each.isprintable() for each in told)
    return answer


def paths(content: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where every value in it stands."""
    found = [here]
    if isinstance(content, dict):
        found += [each for key, value in content.items() for each in paths(value, (*here, key))]
    elif isinstance(content, list):
        found += [each for index, value in enumerate(content) for each in paths(value, (*here, index))]
    return found


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real review with some of its values replaced or left out, and perhaps with a byte changed."""
    content = {"root": deepcopy(draw(st.sampled_from(REAL)))}
    for _ in range(draw(st.integers(1, 3))):
        places = paths(content)[2:]  # not the review itself
        *way, last = draw(st.sampled_from(places))
        part: Any = content
        for step in way:
            part = part[step]
        if draw(st.booleans()):
            part[last] = draw(anything)
        else:
            del part[last]
        if not content["root"]:
            break
    body = bytearray(json.dumps(content["root"]).encode())
    if draw(st.integers(0, 4)) == 0:
        body[draw(st.integers(0, len(body) - 1))] = draw(st.integers(0, 255))
    return bytes(body)


@given(st.binary(max_size=200), sources)
def test_any_bytes(body: bytes, source: Source) -> None:
    assert answered(body, source) is None


@given(anything, sources)
def test_any_json(content: Any, source: Source) -> None:
    answered(json.dumps(content).encode(), source)


@given(anything, anything, sources)
def test_any_json_for_an_object(content: Any, old: Any, source: Source) -> None:
    answer = answered(asked(content, old), source)
    assert answer is None or answer.allowed


@given(mutated(), sources)
def test_a_real_review_with_something_changed(body: bytes, source: Source) -> None:
    answered(body, source)


@given(whole_jobs, st.one_of(st.none(), whole_jobs), sources)
def test_any_job(content: dict[str, Any], old: dict[str, Any] | None, source: Source) -> None:
    assert answered(asked(content, old), source) is not None


@given(whole_jobs, sources)
def test_an_update_that_changes_nothing_is_allowed(content: dict[str, Any], source: Source) -> None:
    assert answered(asked(content, content), source) == Answer(allowed=True)


@given(whole_jobs, sources, st.dictionaries(st.text(max_size=5).map("example.com/{}".format), st.text(max_size=5)))
def test_and_so_is_one_that_changes_what_is_none_of_ours(
    content: dict[str, Any], source: Source, foreign: dict[str, str]
) -> None:
    changed = deepcopy(content)
    for field in ("labels", "annotations"):
        changed["metadata"][field] = changed["metadata"].get(field, {}) | foreign
    changed["metadata"]["finalizers"] = ["example.com/keep"]
    assert answered(asked(changed, content), source) == Answer(allowed=True)


def opened(configuration: Configuration) -> Configuration:
    """The same with every tenant Active: a closed one hides what else is to be said."""
    tenants = {name: replace(tenant, state=ObjectState.ACTIVE) for name, tenant in configuration.tenants.items()}
    return replace(configuration, tenants=tenants)


def verdict_of(configuration: Configuration, workload: Workload) -> Decision | None:
    """What an engine says that knows nothing but this workload."""
    engine = Engine()
    engine.observe(ConfigurationChanged(configuration))
    engine.observe(WorkloadPending(workload))
    plan = engine.decide(at(EPOCHS))
    engine.confirm(plan, range(len(plan.admissions)))
    return engine.verdict(workload.id)


@settings(max_examples=200)
@given(configurations(Kind()).map(opened), backlogs())
def test_the_door_says_what_the_engine_says(configuration: Configuration, backlog: list[Workload]) -> None:
    door = Door(configuration)
    for workload in backlog:
        free = replace(workload, held_by_owner=False, invalid=None, not_before=None, state=WorkloadState.PENDING)
        told = door.refusal(free.namespace, free.queue_name, free.class_name, free.pod_sets)
        verdict = verdict_of(configuration, free)
        expected = verdict if verdict is not None and verdict.reason in NEVER else None
        assert (told is None) == (expected is None)
        if told is not None and expected is not None:
            assert replace(told, workload_id=None) == replace(expected, workload_id=None)
        assert door.refusal(free.namespace, free.queue_name, free.class_name, free.pod_sets) == told, "and says it again"


@settings(max_examples=200)
@given(configurations(Kind()), backlogs())
def test_what_gets_past_a_closed_tenant_waits_for_nothing_else_that_never_comes(
    configuration: Configuration, backlog: list[Workload]
) -> None:
    door = Door(configuration)
    for workload in backlog:
        free = replace(workload, held_by_owner=False, invalid=None, not_before=None)
        verdict = verdict_of(configuration, free)
        closed = door.closed_tenant(free.namespace, free.queue_name)
        if door.refusal(free.namespace, free.queue_name, free.class_name, free.pod_sets) is None:
            assert verdict is None or verdict.reason not in NEVER
        if verdict is not None and verdict.reason is Reason.TENANT_CLOSED:
            assert closed == verdict.message
        elif verdict is None:
            assert closed is None


@pytest.mark.parametrize("gpus", [1, 32, 33])
@pytest.mark.parametrize("queue", ["train", "open", "lost"])
@pytest.mark.parametrize("class_name", [None, "normal", "urgent", "none"])
def test_the_sentence_of_a_refusal_is_that_of_the_verdict(gpus: int, queue: str, class_name: str | None) -> None:
    """From the bytes of the review to the sentence, against an engine told what the controller would observe."""
    configuration = team_configuration()
    review = reviews.decode(asked(submitted_job(queue, class_name, gpus=gpus)))
    assert review.job is not None
    seen = review.job.observation
    workload = Workload(
        id=1,
        uid="u",
        namespace=NAMESPACE,
        name=seen.name,
        queue_name=seen.queue_name or "",
        class_name=seen.class_name,
        pod_sets=seen.pod_sets,
        shape=seen.shape,
        created_at=at(0),
        observed_at=at(0),
    )
    answer = Judge(Source.of(configuration)).thorough(review)
    verdict = verdict_of(configuration, workload)
    assert answer.allowed is (verdict is None)
    if verdict is not None:
        assert answer.sentence == f"Job team-a/fit: {verdict.message}; what would change it: {verdict.would_change}"
