"""docs/preemption.md says what there is: every word of the closed lists, the defaults as they are, and a Job that can be submitted."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiqueue.admission.kube import names
from aiqueue.admission.kube.events import Event
from aiqueue.queue.records import Class, Tenant
from aiqueue.queue.units import format_duration
from aiqueue.queue.words import EventReason, Fungibility, PreemptionRule, Reclaim, WithinTenant
from fix_submitted import judged

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "preemption.md").read_text()
(EXAMPLE,) = (yaml.safe_load(each) for each in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))


@pytest.mark.parametrize("word", [*PreemptionRule, *WithinTenant, *Reclaim, *Fungibility, *EventReason], ids=str)
def test_every_word_is_explained(word: str) -> None:
    assert re.search(rf"\b{word}\b", PAGE)


def test_defaults_are_those_that_are_told() -> None:
    """In the page a duration has no `_seconds`, and names are those of a document."""
    section = PAGE.partition("## What a class promises")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]*?)`? \|", section, re.MULTILINE))
    known: dict[str, Any] = {field.name: field.default for field in fields(Class)}
    assert told.keys() >= {"preemptible", "minRuntime", "gracePeriod", "maxRuntime", "maxTotalRuntime"}
    for name, default in told.items():
        snake = re.sub(r"([A-Z])", lambda found: "_" + found.group(1).lower(), name)
        actual = known.get(snake, known.get(f"{snake}_seconds"))
        if isinstance(actual, bool):
            shown = str(actual).lower()
        elif actual is None:
            shown = "none"
        else:
            shown = str(actual) if snake in known else format_duration(actual)
        assert default == shown, name
    tenant = Tenant("research")
    assert f"`{tenant.within_tenant}` (the default)" in PAGE
    assert f"`{tenant.reclaim}` (the default)" in PAGE
    assert f"`{tenant.when_can_preempt}` (the default)" in PAGE


@pytest.mark.parametrize("reason", EventReason, ids=str)
def test_what_needs_attention_is_marked_as_it_is_sent(reason: EventReason) -> None:
    warns = Event("team-a", "fit", "uid", reason, "").kind == "Warning"
    assert (f"| {reason} (Warning) |" in PAGE) is warns


def test_the_example_shows_the_annotation_to_the_program_and_is_accepted() -> None:
    (volume,) = EXAMPLE["spec"]["template"]["spec"]["volumes"]
    (item,) = volume["downwardAPI"]["items"]
    assert item["fieldRef"]["fieldPath"] == f"metadata.annotations['{names.EVICT_AT_ANNOTATION}']"
    (container,) = EXAMPLE["spec"]["template"]["spec"]["containers"]
    (mount,) = container["volumeMounts"]
    assert mount["name"] == volume["name"]
    assert f"`{mount['mountPath']}/{item['path']}`" in PAGE
    assert "subPath" not in mount
    answer = judged({**EXAMPLE, "metadata": {**EXAMPLE["metadata"], "namespace": "team-a"}})
    assert (answer.allowed, answer.warnings) == (True, ())


def test_what_it_points_to_is_there() -> None:
    for path in re.findall(r"(examples/[\w./-]+\.yaml)", PAGE):
        assert (ROOT / path).exists(), path
