"""What is wrong with a Job by itself, and what may not change while it runs: each rule with its sentence."""

from __future__ import annotations

from typing import Any

import pytest

from aiqueue.admission.webhook import rules
from aiqueue.admission.webhook.reviews import Answer
from fix_submitted import ABSENT, judged, review_of, submitted_job

NAME = "at most 63 lower-case letters, digits, '-' and '.', with a letter or digit at both ends"
DURATION = 'write a duration in whole seconds such as "90s", "10m", "1h30m" or "7d"'
ABOVE_ZERO = 'write a duration above zero such as "90s", "10m" or "1h30m"'
ANNOTATION = "metadata.annotations[aiqueue.dev/{}] is {}: "
LESS = "write less than 4, the pods that run at once, or remove the annotation"
REQUESTS = "spec.template.spec.containers[0].resources.requests[nvidia.com/gpu]"
QUANTITY = 'write a quantity such as 8, "500m" or "64Gi"'
WHEN = "only while spec.suspend is true; suspend it first, then change it in a second request"
ANY = f"may be added, changed or removed {WHEN}"

FORM: list[tuple[dict[str, Any], str]] = [
    (
        {"queue": "Train_1"},
        f"metadata.labels[aiqueue.dev/queue] is 'Train_1': write the name of a queue of this namespace: {NAME}",
    ),
    (
        {"queue": "train."},
        f"metadata.labels[aiqueue.dev/queue] is 'train.': write the name of a queue of this namespace: {NAME}",
    ),
    ({"queue": ""}, "metadata.labels[aiqueue.dev/queue] is '': write the name of a queue of this namespace"),
    (
        {"class_name": "Normal"},
        f"metadata.labels[aiqueue.dev/class] is 'Normal': write the name of a class, {NAME}, or remove the label",
    ),
    ({"class_name": ""}, "metadata.labels[aiqueue.dev/class] is '': write the name of a class or remove the label"),
    ({"notes": {"min-parallelism": "two"}}, ANNOTATION.format("min-parallelism", "'two'") + "write a whole number above zero"),
    ({"notes": {"min-parallelism": "0"}}, ANNOTATION.format("min-parallelism", "'0'") + "write a whole number above zero"),
    ({"notes": {"min-parallelism": "-1"}}, ANNOTATION.format("min-parallelism", "'-1'") + "write a whole number above zero"),
    ({"notes": {"min-parallelism": "4"}, "pods": 4}, ANNOTATION.format("min-parallelism", "'4'") + LESS),
    ({"notes": {"min-parallelism": "5"}, "pods": 8, "completions": 4}, ANNOTATION.format("min-parallelism", "'5'") + LESS),
    (
        {"notes": {"min-parallelism": "1"}, "pods": 4, "completions": 1},
        ANNOTATION.format("min-parallelism", "'1'") + "remove the annotation: no more than one pod runs at once",
    ),
    ({"notes": {"max-runtime": "1 hour"}}, ANNOTATION.format("max-runtime", "'1 hour'") + DURATION),
    ({"notes": {"max-runtime": "0s"}}, ANNOTATION.format("max-runtime", "'0s'") + ABOVE_ZERO),
    ({"notes": {"max-runtime": "200000d"}}, ANNOTATION.format("max-runtime", "'200000d'") + "write at most 100 years"),
    ({"notes": {"estimated-runtime": "-5m"}}, ANNOTATION.format("estimated-runtime", "'-5m'") + DURATION),
    ({"notes": {"estimated-runtime": "0m"}}, ANNOTATION.format("estimated-runtime", "'0m'") + ABOVE_ZERO),
    ({"notes": {"checkpoint": "1.5h"}}, ANNOTATION.format("checkpoint", "'1.5h'") + DURATION),
    ({"notes": {"checkpoint": "0s"}}, ANNOTATION.format("checkpoint", "'0s'") + ABOVE_ZERO),
    (
        {"notes": {"hold": "yes"}},
        ANNOTATION.format("hold", "'yes'") + 'write "true" to hold the Job or "false" to release it',
    ),
    (
        {"pods": 0},
        "spec.parallelism is 0: write 1 or more: the Job waits until then, since it asks for no pods",
    ),
    (
        {"gpus": "8 GPUs"},
        f"{REQUESTS} is '8 GPUs': {QUANTITY}",
    ),
    (
        {"gpus": -1},
        f"{REQUESTS} is -1: write an amount of zero or more",
    ),
    (
        {"gpus": 2**62, "pods": 2},
        f"spec.template.spec: nvidia.com/gpu of 2 pods is {2**63}: ask for at most {2**63 - 1} base units in all",
    ),
]


@pytest.mark.parametrize(("content", "sentence"), FORM)
def test_a_malformed_job_is_refused_when_it_is_made(content: dict[str, Any], sentence: str) -> None:
    assert judged(submitted_job(**content)) == Answer(False, f"Job team-a/fit: {sentence}", 422)


@pytest.mark.parametrize(("content", "sentence"), FORM)
def test_and_when_a_change_makes_it_malformed(content: dict[str, Any], sentence: str) -> None:
    old = submitted_job(pods=4)
    assert judged(submitted_job(**{"pods": 4} | content), old) == Answer(False, f"Job team-a/fit: {sentence}", 422)


@pytest.mark.parametrize("content", [content for content, _ in FORM])
def test_what_was_malformed_before_is_no_reason_to_refuse_another_change(content: dict[str, Any]) -> None:
    old = submitted_job(**content)
    answer = judged(old | {"metadata": old["metadata"] | {"finalizers": ["example.com/keep"]}}, old)
    assert answer == Answer(True)


@pytest.mark.parametrize("content", [content for content, _ in FORM if content.get("queue", "train") == "train"])
def test_but_it_is_when_the_job_gets_its_queue(content: dict[str, Any]) -> None:
    job = submitted_job(**content)
    assert not judged(job, submitted_job(queue=None, **content)).allowed


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"notes": {"min-parallelism": "3", "max-runtime": "1h30m", "estimated-runtime": "10m", "checkpoint": "90s"}, "pods": 4},
        {"notes": {"hold": "true"}},
        {"notes": {"hold": "false"}},
        {"class_name": "normal"},
        {"pods": ABSENT},
        {"completions": 0},
        {"pods": 0, "completions": 0},
        {"gpus": "0.5"},
        {"name": ABSENT, "metadata": {"name": ABSENT, "generateName": "fit-"}},
        {"metadata": {"labels": {"aiqueue.dev/queue": "open"}, "annotations": None}},
    ],
)
def test_a_well_formed_job_passes(content: dict[str, Any]) -> None:
    assert judged(submitted_job(**content)) == Answer(True)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    answer = judged(submitted_job("Train", "Normal", notes={"hold": "1", "checkpoint": "x", "max-runtime": "y"}, pods=0))
    wrong = [each.partition(" is ")[0] for each in answer.sentence.removeprefix("Job team-a/fit: ").split("; ")]
    assert wrong == [
        "metadata.labels[aiqueue.dev/queue]",
        "metadata.labels[aiqueue.dev/class]",
        "spec.parallelism",
        "metadata.annotations[aiqueue.dev/max-runtime]",
        "metadata.annotations[aiqueue.dev/checkpoint]",
        "metadata.annotations[aiqueue.dev/hold]",
    ]


def test_a_job_without_a_name_is_called_by_its_prefix() -> None:
    answer = judged(submitted_job(notes={"hold": "1"}, metadata={"name": ABSENT, "generateName": "fit-"}))
    assert answer.sentence.startswith("Job team-a/fit-*: metadata.annotations[aiqueue.dev/hold] is '1': ")


RUNNING: list[tuple[dict[str, Any], str]] = [
    (
        {"queue": "open"},
        f"metadata.labels[aiqueue.dev/queue] is 'open': the Job runs in queue train, and the label {ANY}",
    ),
    (
        {"queue": None},
        f"metadata.labels[aiqueue.dev/queue] is missing: the Job runs in queue train, and the label {ANY}",
    ),
    (
        {"class_name": "urgent"},
        f"metadata.labels[aiqueue.dev/class] is 'urgent': the Job runs with 'normal', and the label {ANY}",
    ),
    (
        {"class_name": None},
        f"metadata.labels[aiqueue.dev/class] is missing: the Job runs with 'normal', and the label {ANY}",
    ),
    ({"pods": 9}, f"spec.parallelism is 9: the Job runs with quota for 8, and its size may change {WHEN}"),
    ({"pods": 7}, f"spec.parallelism is 7: the Job runs with quota for 8, and its size may change {WHEN}"),
    (
        {"completions": 8},
        f"spec.completions is 8: the Job runs with 6, and no more pods run than are to complete: it may change {WHEN}",
    ),
    (
        {"notes": {"max-runtime": "2h", "min-parallelism": "1"}},
        f"metadata.annotations[aiqueue.dev/max-runtime] is '2h': the Job runs with '1h', and the annotation {ANY}",
    ),
    (
        {"notes": {"min-parallelism": "1"}},
        f"metadata.annotations[aiqueue.dev/max-runtime] is missing: the Job runs with '1h', and the annotation {ANY}",
    ),
    (
        {"notes": {"max-runtime": "1h", "min-parallelism": "2"}},
        f"metadata.annotations[aiqueue.dev/min-parallelism] is '2': the Job runs with '1', and the annotation {ANY}",
    ),
]
AS_ADMITTED: dict[str, Any] = {
    "class_name": "normal",
    "pods": 8,
    "completions": 6,
    "notes": {"max-runtime": "1h", "min-parallelism": "1"},
}


@pytest.mark.parametrize(("change", "sentence"), RUNNING)
@pytest.mark.parametrize("suspending", [False, True])
def test_what_a_run_was_admitted_with_stays_while_it_runs(change: dict[str, Any], sentence: str, suspending: bool) -> None:
    old = submitted_job(**AS_ADMITTED, suspend=False)
    new = submitted_job(**AS_ADMITTED | change, suspend=suspending)
    assert judged(new, old) == Answer(False, f"Job team-a/fit: {sentence}", 403)


def test_nor_may_it_change_as_it_starts() -> None:
    answer = judged(submitted_job(pods=2, suspend=False), submitted_job(pods=1))
    assert answer == Answer(
        False, f"Job team-a/fit: spec.parallelism is 2: the Job runs with quota for 1, and its size may change {WHEN}", 403
    )


def test_a_size_left_out_is_one() -> None:
    old = submitted_job(pods=ABSENT, suspend=False)
    assert judged(submitted_job(pods=1, suspend=False), old) == Answer(True)
    assert not judged(submitted_job(pods=2, suspend=False), old).allowed


@pytest.mark.parametrize("change", [change for change, _ in RUNNING if change.get("class_name") != "urgent"])
def test_and_may_change_while_it_is_suspended(change: dict[str, Any]) -> None:
    old = submitted_job(**AS_ADMITTED)
    answer = judged(submitted_job(**AS_ADMITTED | change), old)
    assert answer.allowed, answer.sentence


@pytest.mark.parametrize("condition", ["Complete", "Failed"])
@pytest.mark.parametrize("change", [change for change, _ in RUNNING if "notes" in change])
def test_and_once_it_has_ended(change: dict[str, Any], condition: str) -> None:
    ended = {"conditions": [{"type": condition, "status": "True"}]}
    old = submitted_job(**AS_ADMITTED, suspend=False, status=ended)
    assert judged(submitted_job(**AS_ADMITTED | change, suspend=False, status=ended), old).allowed


def test_a_running_job_enters_no_queue() -> None:
    old = submitted_job(queue=None, suspend=False)
    answer = judged(submitted_job("train", "normal", suspend=False, pods=4, notes={"max-runtime": "1h"}), old)
    sentence = f"the Job runs in no queue, and the label {ANY}"
    assert answer == Answer(False, f"Job team-a/fit: metadata.labels[aiqueue.dev/queue] is 'train': {sentence}", 403)


@pytest.mark.parametrize(
    "change",
    [
        {"suspend": True},
        {"notes": AS_ADMITTED["notes"] | {"checkpoint": "5m", "estimated-runtime": "2h"}},
        {"labels": {"a": "b"}},
    ],
)
def test_the_rest_may_change_while_it_runs(change: dict[str, Any]) -> None:
    old = submitted_job(**AS_ADMITTED, suspend=False)
    assert judged(submitted_job(**{**AS_ADMITTED, "suspend": False, **change}), old) == Answer(True)


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({}, False),
        ({"notes": {"checkpoint": "9m"}}, False),
        ({"suspend": False}, False),
        ({"queue": "open"}, True),
        ({"class_name": "urgent"}, True),
        ({"pods": 2}, True),
        ({"gpus": 2}, True),
        ({"notes": {"min-parallelism": "1"}, "pods": 2}, True),
        ({"pod": {"nodeSelector": {"zone": "a"}}}, True),
    ],
)
def test_data_are_asked_only_of_what_they_decide(change: dict[str, Any], anew: bool) -> None:
    review = review_of(submitted_job(**change), submitted_job())
    assert review.job is not None
    assert rules.asks_anew(review.job, review.old) is anew
