"""What the door says besides refusals, and what it keeps of what it was asked."""

from __future__ import annotations

import pytest

from aiqueue.admission.engine import Door, door
from aiqueue.queue.records import Class, PodSet, Tenant, shape_of
from aiqueue.queue.words import ObjectState, Reason
from fix_builders import GPU, make_configuration, make_queue, make_tenant
from fix_submitted import team_configuration

ONE = (PodSet("main", 1, {GPU: 1}),)


@pytest.mark.parametrize(
    ("queue", "asked", "name"),
    [("train", None, "normal"), ("train", "urgent", "urgent"), ("open", None, ""), ("lost", "urgent", "urgent")],
)
def test_the_class_in_effect(queue: str, asked: str | None, name: str) -> None:
    found = Door(team_configuration()).effective_class("team-a", queue, asked)
    assert found is not None
    assert found.name == name


def test_a_class_that_does_not_exist_is_not_in_effect() -> None:
    known = make_configuration(queues=[make_queue(default_class="gone")])
    assert Door(known).effective_class("team-a", "train", None) is None
    assert Door(known).effective_class("team-a", "train", "none") is None


def test_work_without_a_class_has_the_built_in_one() -> None:
    assert Door(make_configuration()).effective_class("team-a", "train", None) == Class("")


@pytest.mark.parametrize(
    ("tenants", "sentence"),
    [
        ([make_tenant()], None),
        ([make_tenant(state=ObjectState.DRAIN)], "tenant research is in state Drain"),
        ([make_tenant(parent="lab"), Tenant("lab", state=ObjectState.HOLD)], "tenant lab is in state Hold"),
        ([make_tenant(parent="gone")], "tenant research takes no work: its parent gone does not exist"),
        ([], None),
    ],
)
def test_a_closed_tenant_is_told_apart(tenants: list[Tenant], sentence: str | None) -> None:
    asked = Door(make_configuration(tenants))
    assert asked.closed_tenant("team-a", "train") == sentence
    if tenants:
        assert asked.refusal("team-a", "train", None, ONE) is None


def test_queues_are_told_by_namespace() -> None:
    known = make_configuration(queues=[make_queue("b"), make_queue("a"), make_queue("c", namespace="team-b")])
    asked = Door(known)
    assert [list(asked.queues_of(each)) for each in ("team-a", "team-b", "team-c")] == [["a", "b"], ["c"], []]


def test_the_door_comes_before_the_class_and_the_class_before_the_size() -> None:
    known = make_configuration(queues=[make_queue(state=ObjectState.HOLD), make_queue("open", allowed_classes=())])
    asked = Door(known)
    huge = (PodSet("main", 1, {GPU: 10**6}),)
    reasons = [asked.refusal("team-a", queue, cls, huge) for queue, cls in (("train", "x"), ("open", "x"), ("open", None))]
    assert [each.reason for each in reasons if each is not None] == [
        Reason.QUEUE_CLOSED,
        Reason.CLASS_NOT_ALLOWED,
        Reason.EXCEEDS_CEILING,
    ]


def test_what_it_remembers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_REMEMBERED", 8)
    asked = Door(make_configuration())
    for number in range(1, 100):
        pod_sets = (PodSet("main", 1, {GPU: number}),)
        told = asked.refusal("team-a", "train", None, pod_sets, shape=shape_of(pod_sets, None))
        assert (told is None) == (number <= 32)
        assert asked.refusal("team-a", f"queue-{number}", None, pod_sets) is not None
        assert len(asked._routes) <= 8
        assert len(asked._shapes) <= 8


@pytest.mark.parametrize(("least", "refused"), [(32, None), (33, Reason.EXCEEDS_CEILING), (None, Reason.EXCEEDS_CEILING)])
def test_elastic_work_is_judged_at_its_least_size(least: int | None, refused: Reason | None) -> None:
    """Tenant research has 32 GPUs."""
    told = Door(make_configuration()).refusal("team-a", "train", None, [PodSet("main", 40, {GPU: 1}, least)])
    assert (told.reason if told is not None else None) is refused
    if told is not None:
        assert told.shortfalls[0].requested == (least or 40)
