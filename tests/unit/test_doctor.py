"""What the doctor calls which damage, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from aiqueue.admission.doctor.differences import Mend
from aiqueue.admission.doctor.examining import Examiner
from aiqueue.admission.doctor.kinds import Kind, Severity
from aiqueue.admission.doctor.mending import to_be_mended
from aiqueue.admission.doctor.snapshots import Look, Surroundings
from aiqueue.admission.doctor.surroundings import schema
from aiqueue.cli import doctor_text
from aiqueue.cli.doctor import shipped_policies
from aiqueue.queue.records import Configuration, Quota, Tenant
from aiqueue.queue.store.clusters import Cluster
from aiqueue.queue.store.doctor import RateFact
from aiqueue.queue.words import ActionKind, WorkloadState
from fix_doctor import (
    CONSISTENT,
    DAMAGES,
    NOW,
    POLICIES,
    SURROUNDINGS,
    Damage,
    Piece,
    evicting,
    found,
    look_at,
    make_leader,
    running,
    starting,
    waiting,
)
from fix_follow import GPU, OTHER_LEDGER, REGISTERED

#: What no damage to one Job brings about.
_OF_THE_WHOLE = {
    Kind.CLUSTER_DIFFERS,
    Kind.CLUSTER_UNKNOWN,
    Kind.CLUSTER_UNCLAIMED,
    Kind.CLUSTER_OF_ANOTHER,
    Kind.NOBODY_LEADS,
    Kind.SCHEMA_DIFFERS,
    Kind.NOT_LOOKED_AT,
    Kind.USAGE_DIFFERS,
    Kind.RATE_DIFFERS,
    Kind.ABOVE_CEILING,
    Kind.POLICY_MISSING,
    Kind.CONTROLLER_USER_DIFFERS,
    Kind.QUEUE_WITHOUT_NAMESPACE,
}


@pytest.mark.parametrize("condition", CONSISTENT, ids=lambda each: each.__name__)
def test_what_is_as_it_should_be_is_not_told(condition: Callable[[int], Piece]) -> None:
    assert found(look_at(condition(100))) == []


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.name)
def test_a_damage_is_named(damage: Damage) -> None:
    (told,) = found(look_at(damage.change(damage.of(100))))
    assert (told.kind, told.safe) == (damage.kind, damage.safe)
    assert told.what
    assert told.cause
    assert told.repair


def test_every_kind_is_brought_about() -> None:
    assert {damage.kind for damage in DAMAGES} | _OF_THE_WHOLE == set(Kind)


def test_a_run_without_leader_is_said_to_be_unwatched() -> None:
    gone = replace(running(100), seen=None, pods=())
    told = {each.kind: each for each in found(look_at(gone, leader=make_leader(expires_at=NOW)))}
    assert told.keys() == {Kind.RUN_OF_GONE_JOB, Kind.NOBODY_LEADS}
    assert told[Kind.RUN_OF_GONE_JOB].cause == "the Job was deleted while no controller led"
    assert not told[Kind.NOBODY_LEADS].safe


def test_pods_are_named_one_by_one_with_their_nodes() -> None:
    (told,) = found(look_at(replace(running(100), seen=None)))
    assert told.what == (
        "the Job is gone and 2 pods of it may still hold a node: team-a/job-100-0 on gpu-1; team-a/job-100-1 on gpu-1"
    )
    assert told.repair.endswith("the run gives its quota back when they are gone")


@pytest.mark.parametrize(
    ("ledger", "kind", "safe"),
    [
        ({"rates": [RateFact("team-a", "train", GPU, 3, 4)]}, Kind.RATE_DIFFERS, True),
        ({"held": {("research", "h100", GPU): 4}}, Kind.USAGE_DIFFERS, False),
        ({"held": {("research", "h100", GPU): 9}, "engine_holds": {("research", "h100", GPU): 9}}, Kind.ABOVE_CEILING, False),
        ({"cluster": Cluster(1, "default", "another", REGISTERED)}, Kind.CLUSTER_DIFFERS, False),
        ({"cluster": None, "other_name": "blue"}, Kind.CLUSTER_DIFFERS, False),
        ({"cluster": None}, Kind.CLUSTER_UNKNOWN, False),
    ],
)
def test_what_is_wrong_with_a_ledger(ledger: dict[str, Any], kind: Kind, *, safe: bool) -> None:
    (told,) = found(look_at(**ledger))
    assert (told.kind, told.safe) == (kind, safe)


@pytest.mark.parametrize(
    ("changes", "kind", "about"),
    [
        ({"policies": frozenset(POLICIES[:1])}, Kind.POLICY_MISSING, POLICIES[1]),
        ({"policy_user": ""}, Kind.CONTROLLER_USER_DIFFERS, "ConfigMap/aiqueue-system/aiqueue-policy"),
        ({"policy_user": "eve"}, Kind.CONTROLLER_USER_DIFFERS, "ConfigMap/aiqueue-system/aiqueue-policy"),
        ({"namespaces": frozenset({"team-b"})}, Kind.QUEUE_WITHOUT_NAMESPACE, "queue/team-a/train"),
        ({"claimed_by": OTHER_LEDGER}, Kind.CLUSTER_OF_ANOTHER, "ConfigMap/aiqueue-system/aiqueue-ledger"),
        ({"claimable": False, "claimed_by": ""}, Kind.CLUSTER_UNCLAIMED, "ConfigMap/aiqueue-system/aiqueue-ledger"),
        ({"namespaces": None, "forbidden": ("namespaces",)}, Kind.NOT_LOOKED_AT, "namespaces"),
    ],
)
def test_what_is_wrong_around(changes: dict[str, Any], kind: Kind, about: str) -> None:
    (told,) = found(look_at(surroundings=replace(SURROUNDINGS, **changes)))
    assert (told.kind, told.object, told.safe) == (kind, about, False)


def test_an_account_without_rights_is_told_nothing_that_it_cannot_see() -> None:
    assert found(look_at(surroundings=Surroundings())) == []


def test_servers_without_mutating_policies_lack_none() -> None:
    there = replace(SURROUNDINGS, policies=frozenset(POLICIES[:1]), served=frozenset({"ValidatingAdmissionPolicy"}))
    assert found(look_at(surroundings=there)) == []


def test_jobs_are_not_compared_with_another_clusters_ledger() -> None:
    """All would seem gone, and a repair would end them."""
    rows = [waiting(100), running(101), starting(102)]
    there = look_at(*(replace(each, seen=None, pods=()) for each in rows), cluster=Cluster(1, "default", "another", REGISTERED))
    assert [each.kind for each in found(there)] == [Kind.CLUSTER_DIFFERS]


def test_without_a_cluster_the_ledger_is_compared_with_itself() -> None:
    moot = waiting(100).does(ActionKind.UNSUSPEND, run_open=False, run_id=4)
    whole = look_at(running(101), moot, rates=[RateFact("team-a", "train", GPU, 3, 4)])
    told = found(Look(whole.ledger, None))
    assert [each.kind for each in told] == [Kind.RATE_DIFFERS, Kind.ACTION_WITHOUT_END]


def test_a_tenant_is_above_its_ceiling_where_its_borrowing_limit_is_passed() -> None:
    tenants = {
        "root": Tenant("root"),
        "a": Tenant("a", "root", quotas=(Quota("h100", GPU, 4, borrowing_limit=2),)),
        "b": Tenant("b", "root", quotas=(Quota("h100", GPU, 8),)),
    }
    held = {("a", "h100", GPU): 7}
    told = found(look_at(configuration=Configuration(1, {}, tenants), held=held, engine_holds=held))
    assert [(each.kind, each.severity, each.object) for each in told] == [
        (Kind.ABOVE_CEILING, Severity.INFORMATION, f"tenant/a/h100/{GPU}")
    ]
    assert "it uses 7 of" in told[0].what
    assert "1 more than it may" in told[0].what


def test_the_severest_come_first() -> None:
    policy = replace(SURROUNDINGS, namespaces=frozenset())
    moot = waiting(100).does(ActionKind.UNSUSPEND, run_open=False, run_id=4)
    told = found(look_at(moot, waiting(101).row(state=WorkloadState.ADMITTED), surroundings=policy))
    assert [each.severity for each in told] == [Severity.ERROR, Severity.WARNING, Severity.WARNING]


def test_an_end_that_is_just_due_is_not_late() -> None:
    late = evicting(100).without(ActionKind.SUSPEND)
    assert found(look_at(late.run(evict_at=NOW - timedelta(seconds=59)))) == []
    assert [each.mend for each in found(look_at(late.run(evict_at=NOW - timedelta(seconds=61))))] == [Mend.WRITE_STOP]


def test_only_what_was_told_and_is_still_so_is_mended() -> None:
    told = found(look_at(running(100).row(state=WorkloadState.PENDING), replace(waiting(101), seen=None)))
    now = found(look_at(replace(waiting(101), seen=None), replace(waiting(102), seen=None)))
    assert [each.object for each in to_be_mended(told, now)] == ["workload/team-a/job-101"]


class _Looks(Examiner):
    """Looks that were taken before."""

    def __init__(self, *looks: Look) -> None:
        super().__init__(_no_ledger, "default", None, POLICIES, pause_seconds=0.0)
        self.left = list(looks)

    def look(self) -> Look:
        return self.left.pop(0)


def _no_ledger() -> Any:
    raise AssertionError("nothing is read")


def test_only_what_every_look_shows_is_told() -> None:
    lost = starting(100).without(ActionKind.UNSUSPEND)
    passing, later = replace(running(101), seen=None, pods=()), replace(waiting(102), seen=None)
    examiner = _Looks(look_at(lost, passing), look_at(lost, running(101), later), look_at(lost, later))
    assert [(each.kind, each.row) for each in examiner.examine()] == [(Kind.RUN_NEVER_STARTED, 100)]
    assert examiner.left == []


def test_one_look_is_enough_where_nothing_differs() -> None:
    examiner = _Looks(look_at(running(100)), look_at())
    assert examiner.examine() == []
    assert len(examiner.left) == 1


def test_what_is_told_fits_the_terminal() -> None:
    told = found(look_at(*(replace(running(number), seen=None) for number in range(100, 130))))
    lines = doctor_text._told(told, 72)
    assert max(map(len, lines)) <= 72
    assert lines[:3] == [
        "",
        "OrphanedPods",
        "  job/team-a/job-100: the Job is gone and 2 pods of it may still hold a",
    ]
    assert "  and 10 more: -o wide tells of all" in lines
    assert [line for line in lines if line.startswith("  likely cause   ")]


def test_the_schema_is_told_as_the_check_says_it() -> None:
    told = schema("the ledger is at revision 0001, this program needs 0005: run `aiqueue db upgrade`")
    assert (told.kind, told.alarming, told.safe) == (Kind.SCHEMA_DIFFERS, True, False)
    assert "aiqueue db upgrade" in told.what


def test_the_policies_that_have_to_be_there_are_those_of_the_manifests() -> None:
    shipped = shipped_policies()
    assert {"MutatingAdmissionPolicy/aiqueue-take-in", "ValidatingAdmissionPolicyBinding/aiqueue-managed-jobs"} <= set(shipped)
    assert len([each for each in shipped if "Binding/" in each]) * 2 == len(shipped)
