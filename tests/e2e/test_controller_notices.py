"""Notice and expiry, one action at a time on a real Job: what the Job, its pods and its owner are told, and what is left alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from aiqueue.admission.controller.actor import Again
from aiqueue.admission.controller.facts import Result
from aiqueue.admission.controller.notices import Notices
from aiqueue.admission.kube.events import Event, Events
from aiqueue.admission.kube.names import FIELD_MANAGER
from aiqueue.admission.kube.patches import instant
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.store.actions import Action
from aiqueue.queue.words import ActionKind, EventReason, RunOutcome, WorkloadState
from fix_kube import WAIT_SECONDS, create_jobs, job_document
from fix_workbench import Bench, result

pytestmark = pytest.mark.e2e

GRACE = 600.0
NOTE = "aiqueue.dev/evict-at"


def pods(bench: Bench) -> list[dict[str, Any]]:
    """The pods of the Job as stored."""
    where = f"/api/v1/namespaces/{bench.namespace}/pods?labelSelector=batch.kubernetes.io/job-name%3Dit"
    found = bench.cluster.api.call("GET", where)["items"]
    assert isinstance(found, list)
    return found


def told(bench: Bench) -> list[str | None]:
    """What the annotation of each pod says."""
    return [pod["metadata"].get("annotations", {}).get(NOTE) for pod in pods(bench)]


def written(bench: Bench) -> list[Any]:
    """What of the Job and its pods we own and since when; others write to them too."""
    job = bench.cluster.api.call("GET", f"/apis/batch/v1/namespaces/{bench.namespace}/jobs/it")
    fields = [field for each in (job, *pods(bench)) for field in each["metadata"]["managedFields"]]
    return [field for field in fields if field["manager"] == FIELD_MANAGER]


def running(bench: Bench, count: int = 1) -> Action:
    """Start the Job and wait for its pods, which wait for a node of their flavor; returns its unsuspend."""
    action = bench.admit()
    assert result(bench.hands(action)) is Result.DONE
    until(lambda: bench.seen().active == count, seconds=WAIT_SECONDS, what="the Job to run", longest_pause_seconds=0.1)
    return action


def replaced(bench: Bench, **spec: Any) -> None:
    """Another Job in place of the one of the bench."""
    bench.kubectl("delete")
    create_jobs(bench.cluster, job_document(bench.namespace, "it", **spec))


def noticed(bench: Bench, action: Action, outcome: RunOutcome = RunOutcome.DRAINED) -> Action:
    """Have the run end in a while; returns its notice."""
    bench.evict(action, outcome, grace_seconds=GRACE)
    return bench.action(ActionKind.ANNOUNCE)


def test_job_and_pods_are_told_until_when_they_may_run(bench: Bench) -> None:
    replaced(bench, parallelism=3, completions=3)
    notice = noticed(bench, running(bench, 3))
    heard: list[Event] = []
    bench.hands._notices._tell = heard.append
    assert bench.hands(notice) == (Result.DONE, "")
    assert notice.evict_at is not None
    assert told(bench) == [instant(notice.evict_at)] * 3
    job = bench.cluster.api.call("GET", f"/apis/batch/v1/namespaces/{bench.namespace}/jobs/it")
    assert datetime.fromisoformat(job["metadata"]["annotations"][NOTE]) == notice.evict_at
    assert [(each.reason, each.kind, each.uid) for each in heard] == [(EventReason.EVICTION_NOTICE, "Warning", notice.uid)]
    assert heard[0].note.startswith("drained: its pods are stopped at 20")
    assert not bench.seen().suspended
    assert result(bench.hands(bench.action(ActionKind.SUSPEND))) is Result.DONE
    assert bench.seen().stopped == notice.stamp


def test_a_notice_that_is_repeated_writes_nothing_anew(bench: Bench) -> None:
    notice = noticed(bench, running(bench))
    assert bench.hands(notice) == (Result.DONE, "")
    before = written(bench)
    assert before
    assert bench.hands(notice) == (Result.DONE, "")
    assert written(bench) == before


def test_a_job_that_moved_on_meanwhile_is_told_all_the_same(bench: Bench) -> None:
    notice = noticed(bench, running(bench))
    stale = bench.seen()
    bench.touch()
    looks = [stale]
    look = bench.hands.look
    access = bench.hands
    access.look = lambda action: looks.pop() if looks else look(action)  # type: ignore[method-assign]  # an old look, once
    assert bench.hands(notice) == (Result.DONE, "")
    assert told(bench) != [None]


@pytest.mark.parametrize("change", ["gone", "suspended", "of another run", "late"])
def test_nobody_is_told_what_does_not_concern_him(bench: Bench, change: str) -> None:
    action = running(bench)
    notice = noticed(bench, action)
    if change == "gone":
        replaced(bench)
    elif change == "suspended":
        bench.kubectl("patch", "--type=merge", '-p={"spec":{"suspend":true}}')
    elif change == "of another run":
        assert action.stamp is not None
        bench.kubectl("annotate", f"aiqueue.dev/run={action.stamp.ledger}/{action.stamp.run_id + 1}/2", "--overwrite")
    else:
        assert notice.evict_at is not None
        late = notice.evict_at + timedelta(seconds=1)
        bench.hands._notices = Notices(bench.client, bench.hands, lambda: late, lambda _event: None)
    assert result(bench.hands(notice)) is Result.MOOT
    job = bench.cluster.api.call("GET", f"/apis/batch/v1/namespaces/{bench.namespace}/jobs/it")
    assert NOTE not in job["metadata"].get("annotations", {})
    assert set(told(bench)) <= {None}


def test_a_term_that_is_not_trusted_gives_no_notice(bench: Bench) -> None:
    notice = noticed(bench, running(bench))
    bench.term._trusted_until = 0.0
    assert isinstance(bench.hands(notice), Again)
    assert told(bench) == [None]


def test_no_more_pods_are_told_than_there_is_time_for_and_the_rest_is_counted(bench: Bench) -> None:
    replaced(bench, parallelism=3, completions=3)
    notice = noticed(bench, running(bench, 3))
    assert notice.evict_at is not None
    some = bench.hands._notices._each(bench.client.pods_of(notice.uid, notice.namespace), notice.evict_at, until=0.0)
    assert list(some) == [None, None, None]
    assert told(bench) == [None, None, None]
    bench.hands.close()
    outcome = bench.hands(notice)
    assert isinstance(outcome, Again) or outcome == (Result.DONE, "")
    assert told(bench) == [None, None, None]


def test_a_job_over_its_time_fails_with_deadline_exceeded(bench: Bench) -> None:
    action = running(bench)
    expire = bench.evict(action, RunOutcome.EXPIRED)
    assert result(bench.hands(expire)) is Result.DONE
    until(lambda: bench.seen().finished, seconds=WAIT_SECONDS, what="the Job to end", longest_pause_seconds=0.1)
    seen = bench.seen()
    assert (seen.finished, seen.end_reason, seen.stopped) == (WorkloadState.FAILED, "DeadlineExceeded", action.stamp)
    assert result(bench.hands(expire)) is Result.MOOT


def test_a_deadline_of_the_owners_own_gives_way(bench: Bench) -> None:
    replaced(bench, activeDeadlineSeconds=3600)
    expire = bench.evict(running(bench), RunOutcome.EXPIRED)
    assert result(bench.hands(expire)) is Result.DONE
    assert bench.seen().deadline_seconds == 1
    until(lambda: bench.seen().finished, seconds=WAIT_SECONDS, what="the Job to end", longest_pause_seconds=0.1)


def test_a_suspended_job_is_given_no_deadline_that_would_end_it_when_it_is_resumed(bench: Bench) -> None:
    expire = bench.evict(running(bench), RunOutcome.EXPIRED)
    bench.kubectl("patch", "--type=merge", '-p={"spec":{"suspend":true}}')
    assert result(bench.hands(expire)) is Result.MOOT
    seen = bench.seen()
    assert (seen.deadline_seconds, seen.stopped) == (None, None)


def test_a_run_that_was_to_expire_before_it_started_is_stopped_like_any_other(bench: Bench) -> None:
    action = bench.admit()
    expire = bench.evict(action, RunOutcome.EXPIRED)
    assert result(bench.hands(action)) is Result.DONE or bench.seen().suspended
    if bench.seen().suspended:
        assert result(bench.hands(expire)) is Result.DONE
        seen = bench.seen()
        assert (seen.suspended, seen.stamp, seen.stopped, seen.deadline_seconds) == (True, action.stamp, action.stamp, None)


def test_events_are_stored_where_kubectl_shows_them_and_what_is_said_again_is_counted(bench: Bench) -> None:
    seen = bench.seen()
    events = Events.of(bench.client)
    events.start()
    note = Event(bench.namespace, "it", seen.uid, EventReason.EVICTION_NOTICE, "makes room for team-b/big: " + "é" * 2000)
    for _ in range(3):
        events.tell(note)
        until(lambda: events.waiting == 0, seconds=WAIT_SECONDS, what="it to be sent", longest_pause_seconds=0.01)
    events.tell(Event("no-such-namespace", "it", "none", EventReason.ADMITTED, "lost"))
    events.stop()
    assert (events.sent, events.failed, events.dropped) == (3, 1, 0)
    where = f"/api/v1/namespaces/{bench.namespace}/events?fieldSelector=reason%3DEvictionNotice"
    (stored,) = bench.cluster.api.call("GET", where)["items"]
    assert (stored["type"], stored["involvedObject"]["uid"], stored["series"]["count"]) == ("Warning", seen.uid, 3)
    assert stored["reportingComponent"] == "aiqueue.dev/controller"
    assert len(stored["message"].encode()) <= 1024
    assert stored["message"].startswith("makes room for team-b/big: é")
    described = bench.cluster.kubectl("describe", "job", "it", f"-n={bench.namespace}")
    assert "EvictionNotice" in described
    assert "aiqueue.dev/controller" in described


def test_an_event_that_was_cleared_away_is_told_anew(bench: Bench) -> None:
    events = Events.of(bench.client)
    events.start()
    note = Event(bench.namespace, "it", bench.seen().uid, EventReason.ADMITTED, "admitted")

    def stored() -> list[str]:
        where = f"/api/v1/namespaces/{bench.namespace}/events?fieldSelector=reason%3DAdmitted"
        return [each["metadata"]["name"] for each in bench.cluster.api.call("GET", where)["items"]]

    events.tell(note)
    until(lambda: events.sent == 1, seconds=WAIT_SECONDS, what="it to be sent", longest_pause_seconds=0.01)
    (first,) = stored()
    bench.cluster.kubectl("delete", "event", first, f"-n={bench.namespace}")
    events.tell(note)
    events.stop()
    assert (events.sent, events.failed) == (2, 0)
    (second,) = stored()
    assert second != first
