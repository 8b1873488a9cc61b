"""What a term knows of the ledger's workloads."""

from __future__ import annotations

from aiqueue.admission.controller.mirror import Mirror
from aiqueue.queue.words import RunOutcome, WorkloadState
from fix_follow import AFTER, make_known, make_open_run, make_running, make_seen


def test_the_occupant_of_a_name_is_its_live_workload_of_another_uid() -> None:
    mirror = Mirror({"uid-1": make_known()})
    assert mirror.occupant(make_seen()) is None
    assert mirror.occupant(make_seen(uid="uid-2")) == mirror.known["uid-1"]
    assert mirror.occupant(make_seen(uid="uid-2", name="job-2")) is None
    mirror.update([make_known(state=WorkloadState.CANCELLED)])
    assert mirror.occupant(make_seen(uid="uid-2")) is None
    mirror.update([make_known(uid="uid-2", id=12), make_known(state=WorkloadState.FINISHED)])
    assert mirror.occupant(make_seen()) == mirror.known["uid-2"]


def test_a_committed_plan_is_known_at_once() -> None:
    mirror = Mirror({"uid-1": make_known()})
    mirror.admitted("uid-1", 7, 1)
    admitted = mirror.known["uid-1"]
    assert (admitted.state, admitted.run) == (WorkloadState.ADMITTED, make_open_run(id=7, attempt=1))
    mirror.evicting("uid-1", RunOutcome.DRAINED, AFTER, "drained")
    evicting = mirror.known["uid-1"]
    run = evicting.run
    assert evicting.state is WorkloadState.EVICTING
    assert run is not None
    assert (run.evict_at, run.evict_outcome, run.evict_message) == (AFTER, RunOutcome.DRAINED, "drained")


def test_evicting_what_is_on_its_way_out_changes_no_state() -> None:
    mirror = Mirror({"uid-1": make_running(state=WorkloadState.RELEASING)})
    mirror.evicting("uid-1", RunOutcome.DRAINED, AFTER, "drained")
    assert mirror.known["uid-1"].state is WorkloadState.RELEASING


def test_only_what_lives_or_holds_quota_is_needed_in_the_cluster() -> None:
    rows = [
        make_known(),
        make_known(uid="over", state=WorkloadState.FINISHED),
        make_running(uid="gone", state=WorkloadState.CANCELLED),
    ]
    assert [row.uid for row in Mirror({row.uid: row for row in rows}).needed()] == ["uid-1", "gone"]


def test_the_version_that_was_followed_is_that_of_the_last_look() -> None:
    mirror = Mirror({"uid-1": make_known()})
    assert mirror.resource_version("uid-1") == ""
    mirror.followed(make_seen(resource_version="7"))
    assert mirror.resource_version("uid-1") == "7"


def test_a_workload_is_found_by_its_id() -> None:
    mirror = Mirror({"uid-1": make_known(), "uid-2": make_known(id=12, uid="uid-2", name="job-2")})
    mirror.update([make_known(id=13, uid="uid-3", name="job-3")])
    assert [mirror.uid_of(number) for number in (11, 12, 13)] == ["uid-1", "uid-2", "uid-3"]


def test_nothing_is_remembered_of_jobs_that_the_ledger_does_not_have() -> None:
    """Finished Jobs stay in a cluster for long after their workloads left the hot table, and are listed again and again."""
    mirror = Mirror({"uid-1": make_known(state=WorkloadState.FINISHED)})
    mirror.followed(make_seen())
    mirror.forget(["uid-1"])
    mirror.followed(make_seen())
    mirror.followed(make_seen(uid="uid-2", finished=WorkloadState.FINISHED))
    assert mirror.resource_version("uid-1") == mirror.resource_version("uid-2") == ""
    assert (mirror.known, mirror._uids, mirror._names, mirror._versions) == ({}, {}, {}, {})
