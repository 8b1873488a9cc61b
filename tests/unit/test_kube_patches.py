"""Patches that start, stop and restore."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from aiqueue.admission.kube import patches, templates
from aiqueue.admission.kube.errors import FlavorConflict
from aiqueue.queue.observations import RunStamp
from aiqueue.queue.records import Flavor, Toleration
from fix_merge import merged

STAMP = RunStamp("0f8fad5b-d9cb-469f-a165-70867728950e", 12, 3)


def test_every_patch_names_the_object_and_its_version() -> None:
    made = (
        patches.unsuspend("u", "7", STAMP, {}, None),
        patches.announce("u", "7", datetime(2026, 1, 1, tzinfo=UTC)),
        patches.suspend("u", "7", STAMP),
        patches.suspend("u", "7", None),
        patches.restore("u", "7", {}, None),
        patches.forget_start("u", "7"),
    )
    for patch in made:
        assert (patch["metadata"]["uid"], patch["metadata"]["resourceVersion"]) == ("u", "7")


def test_forgetting_the_start_touches_nothing_else() -> None:
    before = {"spec": {"suspend": True}, "status": {"startTime": "2026-01-01T00:00:00Z", "failed": 1}}
    after = merged(before, patches.forget_start("u", "7"))
    assert after == {
        "metadata": {"uid": "u", "resourceVersion": "7"},
        "spec": {"suspend": True},
        "status": {"failed": 1},
    }


def test_unsuspend() -> None:
    gpu = Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")
    patch = patches.unsuspend("u", "7", STAMP, {"gpu": "h100"}, (gpu,), parallelism=3)
    assert patch == {
        "metadata": {
            "uid": "u",
            "resourceVersion": "7",
            "annotations": {
                "aiqueue.dev/run": str(STAMP),
                "aiqueue.dev/evict-at": None,
                "aiqueue.dev/stopped": None,
                "aiqueue.dev/hold": None,
            },
        },
        "spec": {
            "suspend": False,
            "parallelism": 3,
            "template": {
                "spec": {
                    "nodeSelector": {"gpu": "h100"},
                    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                }
            },
        },
    }


def test_an_unsuspend_without_a_flavor_leaves_the_template_alone() -> None:
    assert patches.unsuspend("u", "7", STAMP, {}, None)["spec"] == {"suspend": False}


def test_suspend_always_writes_something_and_says_that_it_was_us() -> None:
    ours = {"aiqueue.dev/run": str(STAMP), "aiqueue.dev/stopped": str(STAMP)}
    assert patches.suspend("u", "7", STAMP)["metadata"]["annotations"] == ours
    his = {"aiqueue.dev/run": str(STAMP), "aiqueue.dev/stopped": None}
    assert patches.suspend("u", "7", STAMP, by_owner=True)["metadata"]["annotations"] == his
    assert patches.suspend("u", "7", STAMP)["spec"] == {"suspend": True}
    assert "annotations" not in patches.suspend("u", "7", None)["metadata"]


def test_notice_is_given_in_utc() -> None:
    at = datetime(2026, 11, 21, 12, 0, 0, 5, tzinfo=timezone(timedelta(hours=2)))
    annotations = {"aiqueue.dev/evict-at": "2026-11-21T10:00:00.000005Z"}
    assert patches.announce("u", "7", at)["metadata"]["annotations"] == annotations
    assert patches.announce_to_pod("p", at) == {"metadata": {"uid": "p", "annotations": annotations}}


def test_a_job_over_its_time_is_given_a_deadline_that_is_past_and_nothing_else() -> None:
    patch = patches.expire("u", "7", STAMP)
    assert patch["spec"] == {"activeDeadlineSeconds": 1}
    assert patch["metadata"]["annotations"] == {"aiqueue.dev/run": str(STAMP), "aiqueue.dev/stopped": str(STAMP)}


@pytest.mark.parametrize("selector", [{}, {"zone": "a"}, {"zone": "a", "gpu": "h100"}])
@pytest.mark.parametrize("tolerations", [(), (Toleration("k", "", "v"), Toleration("", "Exists", toleration_seconds=0))])
def test_restore_undoes_unsuspend(selector: dict[str, str], tolerations: tuple[Toleration, ...]) -> None:
    before: dict[str, Any] = {
        "metadata": {"uid": "u", "resourceVersion": "7", "annotations": {"mine": "1"}},
        "spec": {"suspend": True, "parallelism": 4, "template": {"spec": {"containers": [{"name": "c"}]}}},
    }
    if selector:
        before["spec"]["template"]["spec"]["nodeSelector"] = selector
    if tolerations:
        before["spec"]["template"]["spec"]["tolerations"] = [templates.toleration_to_wire(each) for each in tolerations]
    added = {"gpu": "h100", "pool": "spot"}
    union = templates.union(tolerations, (Toleration("spot", "Exists"),))
    running = merged(before, patches.unsuspend("u", "7", STAMP, added, union, parallelism=2))
    assert running["spec"]["template"]["spec"]["nodeSelector"] == selector | added
    stopped = merged(running, patches.suspend("u", "7", STAMP))
    after = merged(stopped, patches.restore("u", "7", dict.fromkeys(added) | selector, tolerations, parallelism=4))
    if not selector:
        # The API server drops an empty map.
        assert after["spec"]["template"]["spec"].pop("nodeSelector") == {}
    assert after == before


def test_union_keeps_the_jobs_own_and_adds_what_is_new() -> None:
    own = (Toleration("a", "", "1"), Toleration("a", "", "1"))
    added = (Toleration("a", "Equal", "1"), Toleration("b", "Exists"), Toleration("b", "Exists"), Toleration("a", "", "2"))
    assert templates.union(own, added) == (*own, Toleration("b", "Exists"), Toleration("a", "", "2"))


def test_a_toleration_goes_to_the_wire_and_back() -> None:
    for toleration in (
        Toleration("k", "Equal", "v", "NoSchedule", 0),
        Toleration("", "Exists", toleration_seconds=300),
        Toleration("k", "", "v"),
    ):
        assert templates.toleration_from_wire(templates.toleration_to_wire(toleration)) == toleration
    assert templates.toleration_to_wire(Toleration("k", "Exists", toleration_seconds=0)) == {
        "key": "k",
        "operator": "Exists",
        "tolerationSeconds": 0,
    }


def test_flavors_of_one_pod_set_must_agree() -> None:
    gpu = Flavor("gpu", {"zone": "a", "gpu": "h100"})
    cpu = Flavor("cpu", {"zone": "a", "cpu": "genoa"})
    assert patches.node_labels((gpu, cpu)) == {"zone": "a", "gpu": "h100", "cpu": "genoa"}
    with pytest.raises(FlavorConflict, match=r"flavor 'other' wants the node label zone to be 'b' and flavor 'gpu' wants 'a'"):
        patches.node_labels((gpu, Flavor("other", {"zone": "b"})))


def test_who_claims_a_job_sets_its_size_where_that_is_not_its_owners_and_nothing_else() -> None:
    assert "spec" not in patches.claim("u", "7", STAMP)
    assert patches.claim("u", "7", STAMP, parallelism=2)["spec"] == {"parallelism": 2}
