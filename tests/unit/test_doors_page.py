"""docs/doors.md quotes what the doors say: each sentence there is one that is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from aiqueue.queue.settings import Settings
from aiqueue.queue.words import ObjectState
from fix_builders import make_queue
from fix_submitted import judged, submitted_job, team_configuration

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "doors.md").read_text()
BEFORE = "Job team-a/fit: "
CLOSED = team_configuration((make_queue("closed", state=ObjectState.HOLD),))
OTHER_GPU = {"containers": [{"name": "main", "image": "none", "resources": {"limits": {"amd.com/gpu": 1}}}]}


@pytest.mark.parametrize(
    "submitted",
    [
        {"queue": "trian"},
        {"queue": "closed"},
        {"class_name": "norml"},
        {"class_name": "urgent"},
        {"pods": 5, "gpus": 8},
        {"pod": OTHER_GPU},
        {"queue": "Train_1"},
        {"pods": 4, "notes": {"min-parallelism": "4"}},
        {"notes": {"max-runtime": "1 hour"}},
        {"notes": {"hold": "yes"}},
    ],
    ids=str,
)
def test_refusals_are_quoted_as_they_are_said(submitted: dict[str, Any]) -> None:
    answer = judged(submitted_job(**submitted), configuration=CLOSED)
    assert not answer.allowed
    assert f"`{answer.sentence.removeprefix(BEFORE)}`" in PAGE


def test_the_guard_of_a_running_job_is_quoted_as_it_is_said() -> None:
    running = submitted_job(pods=4, suspend=False)
    answer = judged(submitted_job(pods=2, suspend=False), running)
    assert not answer.allowed
    assert f"`{answer.sentence.removeprefix(BEFORE)}`" in PAGE


@pytest.mark.parametrize(
    ("submitted", "state"),
    [
        ({"notes": {"max-runtim": "1h"}}, ObjectState.ACTIVE),
        ({}, ObjectState.HOLD),
        ({"queue": "trian"}, ObjectState.ACTIVE),
    ],
    ids=str,
)
def test_warnings_are_quoted_as_they_are_said(submitted: dict[str, Any], state: ObjectState) -> None:
    (warning,) = judged(submitted_job(**submitted), configuration=team_configuration(state=state)).warnings
    assert f"`{warning.removeprefix(BEFORE)}`" in PAGE


def test_the_sentence_of_the_policies_is_theirs() -> None:
    quoted = "only aiqueue may set spec.suspend to false"
    assert f"`{quoted}`" in PAGE
    policy = (ROOT / "manifests" / "policies" / "managed-jobs.yaml").read_text()
    assert quoted in re.sub(r"'\s*\+ '", "", policy)


def test_settings_have_the_defaults_that_are_told() -> None:
    told = dict(re.findall(r"^\| `AIQUEUE_(WEBHOOK_\w+)` \| (?:`(.*?)`)? *\|", PAGE, re.MULTILINE))
    fields = {name.upper(): field.default for name, field in Settings.model_fields.items() if name.startswith("webhook_")}
    assert told.keys() == fields.keys()
    for name, default in fields.items():
        shown = "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)
        assert told[name].lower() == shown.lower(), name


def test_what_it_points_to_is_there() -> None:
    for path in re.findall(r"`(manifests/[\w./-]+)`", PAGE):
        assert (ROOT / path).exists(), path
