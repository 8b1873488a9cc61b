"""What observing writes: each change with its guards, on a real ledger, by a login with the controller's rights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import IntegrityError

from aiqueue.queue.database import transaction
from aiqueue.queue.errors import LedgerConflict, TermLost
from aiqueue.queue.records import Allocation
from aiqueue.queue.store import actions, housekeeping, known, observing, work
from aiqueue.queue.store.changes import (
    AdoptedRun,
    Changes,
    ClosedRun,
    NewAction,
    NewWorkload,
    SeenAgain,
    StartedRun,
    StoppedRun,
    Vanished,
)
from aiqueue.queue.store.observing import Written
from aiqueue.queue.words import ActionKind, RunOutcome, WorkloadState
from fix_follow import AFTER, CHANGED, GPU, OURS, make_seen
from fix_terms import expire, take_over

pytestmark = pytest.mark.integration

ALLOCATIONS = (Allocation("main", "h100", GPU, 8),)


@pytest.fixture
def writer(controller_ledger: Engine) -> Engine:
    """The ledger under term 1."""
    assert take_over(controller_ledger) == 1
    return controller_ledger


def write(writer: Engine, **changes: Any) -> Written:
    with transaction(writer) as connection:
        return observing.write(connection, 1, 1, Changes(**changes))


def rows(owner: Engine, statement: str) -> list[Mapping[str, Any]]:
    with transaction(owner) as connection:
        return [dict(row) for row in connection.execute(text(statement)).mappings()]


def row(owner: Engine, statement: str) -> Mapping[str, Any]:
    (found,) = rows(owner, statement)
    return found


def adopt(writer: Engine, uid: str = "uid-1", name: str = "job-1", **changes: Any) -> tuple[int, int]:
    """A new workload with an adopted run; returns the ids of both."""
    seen = make_seen(uid=uid, name=name, suspended=False)
    adopted = AdoptedRun(
        uid,
        **({"tenant": "research", "namespace": "team-a", "queue_name": "train"} | changes),
        allocations=ALLOCATIONS,
        why="old",
    )
    written = write(writer, new=[NewWorkload(seen)], adopted=[adopted])
    return written.workload_ids[uid], written.adopted[uid][0]


def closed(run_id: int, workload_id: int, state: WorkloadState = WorkloadState.PENDING) -> ClosedRun:
    return ClosedRun(run_id, workload_id, RunOutcome.PREEMPTED, "for another", state)


def test_a_new_workload_is_read_back_as_it_was_seen(ledger: Engine, writer: Engine) -> None:
    seen = make_seen(user="alice", owner="CronJob/nightly", active=1, stamp=OURS)
    written = write(writer, new=[NewWorkload(seen, WorkloadState.HELD)])
    with transaction(writer) as connection:
        (record,) = work.load_pending(connection)
        back = known.load(connection, 1)["uid-1"]
    assert record.pod_sets == seen.pod_sets
    assert (record.shape, record.user, record.state, record.attempt) == (seen.shape, "alice", WorkloadState.HELD, 0)
    assert record.submitted == (AFTER, written.observed_at["uid-1"], "uid-1")
    assert (back.status, back.stamp, back.run) == ((True, 1, 0, 0, 0, 0), str(OURS), None)
    assert row(ledger, "SELECT owner, user_name FROM workload") == {"owner": "CronJob/nightly", "user_name": "alice"}


def test_one_live_workload_has_a_name_and_a_uid_is_known_once(ledger: Engine, writer: Engine) -> None:
    first = write(writer, new=[NewWorkload(make_seen())])
    with pytest.raises(IntegrityError, match="uq_workload_live_name"):
        write(writer, new=[NewWorkload(make_seen(uid="uid-2"))])
    with pytest.raises(IntegrityError, match="uq_workload_cluster_id_uid"):
        write(writer, new=[NewWorkload(make_seen(name="job-2"))])
    write(writer, vanished=[Vanished(first.workload_ids["uid-1"])], new=[NewWorkload(make_seen(uid="uid-2"))])
    assert rows(ledger, "SELECT uid, state FROM workload ORDER BY id") == [
        {"uid": "uid-1", "state": "Cancelled"},
        {"uid": "uid-2", "state": "Pending"},
    ]


@pytest.mark.parametrize("pod_sets", [False, True])
def test_what_is_asked_for_is_replaced_only_when_it_is_the_owners_wish(ledger: Engine, writer: Engine, pod_sets: bool) -> None:
    first = make_seen()
    identity = write(writer, new=[NewWorkload(first)]).workload_ids["uid-1"]
    again = make_seen(CHANGED, queue_name="other", class_name="urgent", invalid="no", active=2, held_by_owner=True)
    write(writer, seen=[SeenAgain(identity, again, WorkloadState.HELD, False, pod_sets=pod_sets)])
    kept = again if pod_sets else first
    stored = row(ledger, "SELECT shape, queue_name, class_name, invalid, active, state, hold_requested FROM workload")
    assert stored == {
        "shape": kept.shape,
        "queue_name": "other",  # its label is nobody's but the owner's
        "class_name": kept.class_name,
        "invalid": kept.invalid,
        "active": 2,
        "state": "Held",
        "hold_requested": True,
    }
    with transaction(writer) as connection:
        assert work.load_pending(connection)[0].pod_sets == kept.pod_sets


def test_the_time_of_a_state_is_that_of_its_beginning(ledger: Engine, writer: Engine) -> None:
    identity = write(writer, new=[NewWorkload(make_seen())]).workload_ids["uid-1"]
    times = []
    for state in (WorkloadState.PENDING, WorkloadState.FINISHED, WorkloadState.FINISHED, WorkloadState.PENDING):
        write(writer, seen=[SeenAgain(identity, make_seen(), state, False)])
        times.append(row(ledger, "SELECT state_since, ended_at FROM workload"))
    assert [each["ended_at"] is not None for each in times] == [False, True, True, False]
    assert times[1] == times[2]
    assert len({each["state_since"] for each in times}) == 3


def test_an_adopted_run_holds_quota_and_is_audited(ledger: Engine, writer: Engine) -> None:
    identity, run_id = adopt(writer)
    with transaction(writer) as connection:
        (run,) = work.load_open_runs(connection)
        assert housekeeping.usage(connection) == {("research", "h100", GPU): 8}
    assert (run.id, run.workload.id, run.attempt, run.adopted) == (run_id, identity, 1, True)
    assert run.allocations == ALLOCATIONS
    assert row(ledger, "SELECT state, attempt FROM workload") == {"state": "Admitted", "attempt": 1}
    audit = row(ledger, "SELECT name, after, session_role FROM audit WHERE verb = 'Adopted'")
    assert audit["name"] == "team-a/job-1"
    assert audit["after"] == {"run": run_id, "why": "old"}


def test_a_workload_has_one_open_run(writer: Engine) -> None:
    adopt(writer)
    adopted = AdoptedRun("uid-1", "research", "team-a", "train", ALLOCATIONS, "again")
    with pytest.raises(IntegrityError, match="uq_run_open_workload"):
        write(writer, adopted=[adopted])


def test_what_cannot_be_adopted_whole_is_a_conflict(ledger: Engine, writer: Engine) -> None:
    with pytest.raises(LedgerConflict):
        adopt(writer, tenant="nobody")
    seen = make_seen(suspended=False)
    lost = AdoptedRun("uid-1", "research", "team-a", "train", (Allocation("main", "gone", GPU, 8),), "old")
    with pytest.raises(LedgerConflict, match="flavor"):
        write(writer, new=[NewWorkload(seen)], adopted=[lost])
    assert rows(ledger, "SELECT 1 FROM workload UNION ALL SELECT 1 FROM run") == []


def test_the_quota_comes_back_when_the_run_is_closed_and_not_before(ledger: Engine, writer: Engine) -> None:
    def used() -> int:
        with transaction(writer) as connection:
            return sum(housekeeping.usage(connection).values())

    identity, run_id = adopt(writer)
    write(writer, stopped=[StoppedRun(run_id, identity, RunOutcome.PREEMPTED, "for another")])
    assert used() == 8
    assert row(ledger, "SELECT state FROM workload") == {"state": "Releasing"}
    write(writer, vanished=[Vanished(identity)])
    assert used() == 8
    write(writer, closed=[closed(run_id, identity)])
    assert used() == 0
    assert row(ledger, "SELECT state FROM workload") == {"state": "Cancelled"}
    assert row(ledger, "SELECT outcome, message FROM run") == {"outcome": "Preempted", "message": "for another"}


@pytest.mark.parametrize("wrong", ["closed already", "another's", "unknown", "twice"])
def test_only_an_open_run_of_the_workload_is_closed(ledger: Engine, writer: Engine, wrong: str) -> None:
    identity, run_id = adopt(writer)
    other, other_run = adopt(writer, uid="uid-2", name="job-2")
    good = closed(other_run, other)
    bad = closed(run_id, identity)
    if wrong == "closed already":
        write(writer, closed=[bad])
    given = {
        "closed already": [bad, good],
        "another's": [closed(run_id, other), good],
        "unknown": [closed(run_id + 100, identity), good],
        "twice": [bad, bad, good],
    }[wrong]
    before = rows(ledger, "SELECT * FROM run ORDER BY id")
    with pytest.raises(LedgerConflict, match="to be closed"):
        write(writer, closed=given)
    assert rows(ledger, "SELECT * FROM run ORDER BY id") == before


def times(writer: Engine) -> tuple[int | None, int | None]:
    """(checkpoint, max-runtime) of the one workload, as the engine is told of it, waiting or running."""
    with transaction(writer) as connection:
        (workload,) = [*work.load_pending(connection), *(run.workload for run in work.load_open_runs(connection))]
        row = known.load(connection, 1)[workload.uid]
    assert (row.checkpoint_seconds, row.max_runtime_seconds) == (workload.checkpoint_seconds, workload.max_runtime_seconds)
    return workload.checkpoint_seconds, workload.max_runtime_seconds


def test_what_its_owner_says_of_time_is_followed_whether_it_waits_or_runs(writer: Engine) -> None:
    century = 100 * 366 * 86_400
    write(writer, new=[NewWorkload(make_seen(checkpoint_seconds=60))])
    assert times(writer) == (60, None)
    waits = make_seen(checkpoint_seconds=90, max_runtime_seconds=century)
    write(writer, seen=[SeenAgain(1, waits, WorkloadState.PENDING, False)])
    assert times(writer) == (90, century)
    write(writer, adopted=[AdoptedRun("uid-1", "research", "team-a", "train", ALLOCATIONS, "old")])
    runs = make_seen(CHANGED, suspended=False, max_runtime_seconds=30)
    write(writer, seen=[SeenAgain(1, runs, WorkloadState.ADMITTED, False)])
    assert times(writer) == (None, 30)


def let_runs_last(owner: Engine, seconds: float) -> None:
    """Let every run have begun exactly so long before it is closed, whenever that is."""
    with transaction(owner) as connection:
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION back_date() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                " NEW.opened_at := NEW.closed_at - make_interval(secs => TG_ARGV[0]::double precision); RETURN NEW; END $$"
            )
        )
        connection.execute(
            text(
                "CREATE OR REPLACE TRIGGER back_date BEFORE UPDATE ON run FOR EACH ROW WHEN (NEW.closed_at IS NOT NULL)"
                f" EXECUTE FUNCTION back_date('{seconds}')"
            )
        )


@pytest.mark.parametrize(
    ("seconds", "counted"),
    [(0.0, 0), (0.000001, 1), (59.999999, 60), (60.0, 60), (60.000001, 61), (-5.0, 0), (3e9, 3_000_000_000)],
)
def test_a_closed_run_counts_the_seconds_that_it_was_open_rounded_up(
    ledger: Engine, writer: Engine, seconds: float, counted: int
) -> None:
    identity, run_id = adopt(writer)
    let_runs_last(ledger, seconds)
    write(writer, closed=[closed(run_id, identity)])
    with transaction(writer) as connection:
        assert work.load_pending(connection)[0].ran_seconds == counted


def test_the_runs_of_a_workload_add_up_also_where_it_is_over_already(ledger: Engine, writer: Engine) -> None:
    identity, run_id = adopt(writer)
    let_runs_last(ledger, 60.5)
    write(writer, closed=[closed(run_id, identity)])
    (again, _) = write(writer, adopted=[AdoptedRun("uid-1", "research", "team-a", "train", ALLOCATIONS, "old")]).adopted[
        "uid-1"
    ]
    with transaction(writer) as connection:
        (run,) = work.load_open_runs(connection)
    assert run.workload.ran_seconds == 61
    write(writer, vanished=[Vanished(identity)])
    before = row(ledger, "SELECT state, state_since, ended_at FROM workload")
    write(writer, closed=[closed(again, identity)])
    assert row(ledger, "SELECT state, state_since, ended_at FROM workload") == before
    assert row(ledger, "SELECT ran_seconds FROM workload") == {"ran_seconds": 122}


def test_starting_and_stopping_are_noted_once(ledger: Engine, writer: Engine) -> None:
    identity, run_id = adopt(writer)
    first = row(ledger, "SELECT started_at FROM run")
    write(writer, started=[StartedRun(run_id)])
    write(writer, stopped=[StoppedRun(run_id, identity, RunOutcome.CANCELLED, "by its owner", owner_suspended=True)])
    stopped = row(ledger, "SELECT started_at, stopped_at, evict_outcome, evict_message FROM run")
    write(writer, stopped=[StoppedRun(run_id, identity, RunOutcome.PREEMPTED, "by us")])
    assert row(ledger, "SELECT started_at, stopped_at, evict_outcome, evict_message FROM run") == stopped
    assert stopped["started_at"] == first["started_at"]
    assert stopped["evict_outcome"] == "Cancelled"
    assert row(ledger, "SELECT owner_suspended FROM workload") == {"owner_suspended": True}


def test_an_action_asked_for_twice_is_one_and_one_that_is_done_may_be_asked_for_again(ledger: Engine, writer: Engine) -> None:
    _, run_id = adopt(writer)
    wanted = NewAction("uid-1", run_id, 1, ActionKind.SUSPEND, "7")
    first = write(writer, actions=[wanted]).action_ids
    assert write(writer, actions=[wanted]).action_ids == first
    assert len(rows(ledger, "SELECT 1 FROM action")) == 1
    again = write(writer, actions=[wanted], done_actions=list(first.values())).action_ids
    assert again != first
    with transaction(writer) as connection:
        assert [each.id for each in actions.load_open(connection, 1)] == list(again.values())


def test_closing_a_run_forgets_what_was_to_be_done_for_it_but_for_its_template(writer: Engine) -> None:
    identity, run_id = adopt(writer)
    write(writer, actions=[NewAction("uid-1", run_id, 1, ActionKind.SUSPEND)])
    write(writer, closed=[closed(run_id, identity)], actions=[NewAction("uid-1", run_id, 1, ActionKind.RESTORE)])
    with transaction(writer) as connection:
        (left,) = actions.load_open(connection, 1)
    assert (left.kind, left.run_id) == (ActionKind.RESTORE, run_id)


def test_what_is_over_is_archived_once_its_template_is_back_and_what_still_holds_quota_stays(
    ledger: Engine, writer: Engine
) -> None:
    over, over_run = adopt(writer)
    held, _ = adopt(writer, uid="uid-2", name="job-2")
    write(writer, new=[NewWorkload(make_seen(uid="uid-3", name="job-3"))])
    write(
        writer,
        closed=[closed(over_run, over, WorkloadState.FINISHED)],
        vanished=[Vanished(held)],
        actions=[NewAction("uid-1", over_run, 1, ActionKind.RESTORE)],
    )
    with transaction(writer) as connection:
        assert housekeeping.archive(connection, 1, after_seconds=0) == []
        done = [action.id for action in actions.load_open(connection, 1)]
    write(writer, done_actions=done)
    with transaction(writer) as connection:
        assert housekeeping.archive(connection, 1, after_seconds=3600) == []
    with transaction(writer) as connection:
        assert housekeeping.archive(connection, 1, after_seconds=0) == ["uid-1"]
    assert rows(ledger, "SELECT uid FROM workload ORDER BY id") == [{"uid": "uid-2"}, {"uid": "uid-3"}]
    archived = row(ledger, "SELECT * FROM archived_workload")
    assert (archived["id"], archived["state"], archived["pod_sets"][0]["requests"]) == (over, "Finished", {GPU: 4})
    run = row(ledger, "SELECT * FROM archived_run")
    assert (run["id"], run["tenant"], run["outcome"]) == (over_run, "research", "Preempted")
    assert run["allocations"] == [["main", "h100", GPU, 8]]
    with transaction(writer) as connection:
        assert housekeeping.usage(connection) == {("research", "h100", GPU): 8}
    write(writer, new=[NewWorkload(make_seen())])  # its Job is still there and asks again


def test_a_batch_is_written_whole_or_not_at_all(ledger: Engine, writer: Engine) -> None:
    identity, run_id = adopt(writer)
    with pytest.raises(LedgerConflict):
        write(
            writer,
            new=[NewWorkload(make_seen(uid="uid-2", name="job-2"))],
            vanished=[Vanished(identity)],
            stopped=[StoppedRun(run_id, identity, RunOutcome.CANCELLED, "")],
            closed=[closed(run_id + 1, identity)],
        )
    assert rows(ledger, "SELECT uid, state FROM workload") == [{"uid": "uid-1", "state": "Admitted"}]
    assert row(ledger, "SELECT stopped_at FROM run") == {"stopped_at": None}


def test_a_batch_costs_a_fixed_number_of_statements(writer: Engine) -> None:
    counted: list[int] = []
    for number in (1, 200):
        new = [NewWorkload(make_seen(uid=f"uid-{number}-{each}", name=f"job-{number}-{each}")) for each in range(number)]
        statements: list[str] = []

        def note(*arguments: Any, into: list[str] = statements) -> None:
            into.append(arguments[2])

        event.listen(writer, "before_cursor_execute", note)
        write(writer, new=new)
        event.remove(writer, "before_cursor_execute", note)
        counted.append(len(statements))
    assert counted[0] == counted[1]


def test_the_writes_of_a_term_that_is_over_leave_no_trace(ledger: Engine, writer: Engine) -> None:
    identity, run_id = adopt(writer)
    expire(ledger)
    take_over(writer, "two")
    with pytest.raises(TermLost):
        write(writer, closed=[closed(run_id, identity)])
    assert row(ledger, "SELECT closed_at FROM run") == {"closed_at": None}


def test_a_round_looks_at_its_own_rows_only_however_many_wait(writer: Engine) -> None:
    many = 8000  # fewer may as well be read all at once
    new = [NewWorkload(make_seen(uid=f"uid-{number}", name=f"job-{number}")) for number in range(many)]
    ids = write(writer, new=new).workload_ids
    moved = [
        SeenAgain(ids[f"uid-{number}"], make_seen(uid=f"uid-{number}", resource_version="101"), WorkloadState.PENDING, False)
        for number in range(0, many, 100)
    ]
    gone = [Vanished(ids[f"uid-{number}"], WorkloadState.CANCELLED) for number in range(1, many, 100)]
    with transaction(writer) as connection:
        observing.write(connection, 1, 1, Changes(seen=moved, vanished=gone))
        read = connection.execute(text("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'workload'"))
        assert read.scalar_one() == 0
