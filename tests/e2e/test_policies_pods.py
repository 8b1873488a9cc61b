"""What the controller may write to pods: one annotation. Everybody else does with them what he could before."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from aiqueue.cli.harness.errors import HarnessError
from fix_managed import Actor, send

pytestmark = pytest.mark.e2e

EVICT_AT = "aiqueue.dev/evict-at"
WHEN = "2026-11-21T20:00:00.000000Z"


def make_pod(actor: Actor, namespace: str) -> str:
    """A pod that nobody's Job made; returns its path."""
    container = {"name": "main", "image": "registry.example/main:1", "resources": {"requests": {"cpu": "10m"}}}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": "it", "labels": {"app": "it"}, "annotations": {"mine": "yes"}},
        "spec": {"containers": [container]},
    }
    actor.create(pod)
    return f"/api/v1/namespaces/{namespace}/pods/it"


def patch(actor: Actor, path: str, change: object, content_type: str = "application/merge-patch+json") -> dict[str, Any]:
    return send(actor.cluster, actor.kubeconfig, "PATCH", path, change, content_type=content_type)


def test_the_controller_gives_notice_changes_and_takes_it_back(controller: Actor, alice: Actor, team: str) -> None:
    path = make_pod(alice, team)
    for value in (WHEN, WHEN.replace("20:00", "21:00"), None):
        stored = patch(controller, path, {"metadata": {"annotations": {EVICT_AT: value}}})
        assert stored["metadata"]["annotations"].get(EVICT_AT) == value
        assert stored["metadata"]["annotations"]["mine"] == "yes"


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": {"annotations": {"mine": "no"}}},
        {"metadata": {"annotations": {"mine": None}}},
        {"metadata": {"annotations": {"another": "one", EVICT_AT: WHEN}}},
        {"metadata": {"labels": {"app": "other"}}},
        {"metadata": {"labels": {"more": "yes"}}},
        {"metadata": {"finalizers": ["example.com/held"]}},
        {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "its", "uid": "1"}]}},
        {"spec": {"activeDeadlineSeconds": 1}},
        {"spec": {"tolerations": [{"key": "example.com/any", "operator": "Exists"}]}},
    ],
    ids=json.dumps,
)
def test_the_controller_writes_nothing_else(controller: Actor, alice: Actor, team: str, change: dict[str, Any]) -> None:
    path = make_pod(alice, team)
    with pytest.raises(HarnessError, match=re.escape("the aiqueue controller may write the annotation")):
        patch(controller, path, change)


def test_nor_an_image(controller: Actor, alice: Actor, team: str) -> None:
    path = make_pod(alice, team)
    change = [{"op": "replace", "path": "/spec/containers/0/image", "value": "registry.example/other:1"}]
    with pytest.raises(HarnessError, match=re.escape("the aiqueue controller may write the annotation")):
        patch(controller, path, change, "application/json-patch+json")
    patch(alice, path, change, "application/json-patch+json")


def test_its_owner_is_as_free_as_before(alice: Actor, team: str) -> None:
    path = make_pod(alice, team)
    for change in ({"metadata": {"annotations": {EVICT_AT: "soon", "mine": None}}}, {"metadata": {"labels": {"app": None}}}):
        patch(alice, path, change)
