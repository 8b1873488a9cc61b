"""What people read: every filter, every page, and the reason by which a workload waits."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text

from aiqueue.queue.database import transaction
from aiqueue.queue.documents import Record
from aiqueue.queue.records import Class, Flavor, PodSet, Queue, Quota, Tenant, shape_of
from aiqueue.queue.store import configuration, housekeeping, views
from aiqueue.queue.words import PreemptionRule, Reason, RunOutcome, WorkloadState
from fix_rows import Rows, at

pytestmark = pytest.mark.integration

GPU = "nvidia.com/gpu"


@pytest.fixture
def filled(ledger: Engine) -> Engine:
    """Two leaf tenants below one root, a queue each; the queue of `research` has a default class."""
    objects: list[Record] = [
        Flavor("h100"),
        Flavor("a100"),
        Class("normal", 10),
        Class("urgent", 99),
        Tenant("lab", quotas=(Quota("h100", GPU, 4),)),
        Tenant("research", parent="lab", quotas=(Quota("h100", GPU, 8), Quota("a100", GPU, 2))),
        Tenant("product", parent="lab", quotas=(Quota("h100", GPU, 16),)),
        Queue("team-a", "train", "research", default_class="normal"),
        Queue("team-b", "serve", "product"),
    ]
    with transaction(ledger) as connection:
        configuration.apply(connection, objects, claimed_by="ana")
    return ledger


def names(connection: Connection, wanted: views.WorkloadFilter) -> list[str]:
    return [view.name for view in views.list_workloads(connection, wanted).items]


def archive(ledger: Engine) -> None:
    """Move all that is over to the archive, as the controller does; nobody leads, which is term 0."""
    with ledger.begin() as connection:
        housekeeping.archive(connection, 0, after_seconds=0)


def test_a_workload_with_all_that_is_known_of_it(filled: Engine, rows: Rows) -> None:
    workload = rows.workload(
        "w",
        requests={GPU: 2, "cpu": 500},
        pods=4,
        state=WorkloadState.ADMITTED,
        created=10,
        attempt=2,
        user_name="ana",
        owner="CronJob/nightly",
    )
    rows.run(workload, tenant="product", attempt=1, opened=70, closed=80, outcome=RunOutcome.PREEMPTED)
    rows.run(workload, tenant="research", attempt=2, opened=90)
    with filled.connect() as connection:
        (view,) = views.list_workloads(connection, views.WorkloadFilter()).items
    assert (view.name, view.namespace, view.cluster, view.queue_name) == ("w", "team-a", "default", "train")
    assert (view.tenant, view.class_name, view.state, view.attempt) == ("research", "normal", WorkloadState.ADMITTED, 2)
    assert (view.pods, view.requests) == (4, {GPU: 8, "cpu": 2000})
    assert (view.user, view.owner) == ("ana", "CronJob/nightly")
    assert view.first_admitted_at == at(70)
    assert view.waited_seconds(at(500)) == 60
    assert view.reason is None
    assert view.shape == shape_of(view.pod_sets, None)


def test_a_run_says_more_of_the_tenant_than_the_queue(filled: Engine, rows: Rows) -> None:
    """The queue may have moved since the workload was admitted."""
    rows.run(rows.workload("w", state=WorkloadState.ADMITTED), tenant="product")
    with filled.connect() as connection:
        (view,) = views.list_workloads(connection, views.WorkloadFilter()).items
        assert view.tenant == "product"
        assert names(connection, views.WorkloadFilter(tenant="research")) == []


def test_why_a_workload_waits(filled: Engine, rows: Rows) -> None:
    shape = shape_of([PodSet("main", 1, {GPU: 1})], None)
    rows.workload("undecided", requests={GPU: 9})
    rows.workload("of-its-shape")
    own = rows.workload("of-its-own")
    rows.workload("elsewhere", namespace="team-b", queue="serve")
    rows.workload("running", state=WorkloadState.ADMITTED)
    rows.workload("queueless", queue="nope")
    rows.workload("wrong", requests={GPU: 9}, invalid="annotation checkpoint is 'x': write a duration")
    rows.decision(Reason.WAITING_FOR_QUOTA, tenant="research", shape=shape)
    rows.decision(Reason.BACKOFF, workload_id=own)
    with filled.connect() as connection:
        found = {view.name: view for view in views.list_workloads(connection, views.WorkloadFilter()).items}
    assert {name: view.reason for name, view in found.items()} == {
        "undecided": Reason.PENDING_EVALUATION,
        "of-its-shape": Reason.WAITING_FOR_QUOTA,
        "of-its-own": Reason.BACKOFF,
        "elsewhere": Reason.PENDING_EVALUATION,
        "running": None,
        "queueless": Reason.PENDING_EVALUATION,
        "wrong": Reason.PENDING_EVALUATION,
    }
    assert found["of-its-shape"].message == "because of WaitingForQuota"
    assert found["of-its-shape"].would_change == "more of it"
    assert found["running"].message is None
    assert found["queueless"].tenant is None
    assert found["wrong"].message == "annotation checkpoint is 'x': write a duration"


def test_filters(filled: Engine, rows: Rows) -> None:
    rows.workload("a1")
    rows.workload("a2", state=WorkloadState.HELD, queue="other")
    rows.workload("b1", namespace="team-b", queue="serve")
    rows.workload("b2", namespace="team-b", queue="serve", state=WorkloadState.ADMITTED)
    rows.workload("over", state=WorkloadState.FINISHED, ended=5)
    with filled.connect() as connection:
        for wanted, expected in (
            (views.WorkloadFilter(), {"a1", "a2", "b1", "b2"}),
            (views.WorkloadFilter(namespace="team-a"), {"a1", "a2"}),
            (views.WorkloadFilter(queue="serve"), {"b1", "b2"}),
            (views.WorkloadFilter(tenant="research"), {"a1"}),
            (views.WorkloadFilter(tenant="lab"), {"a1", "b1", "b2"}),
            (views.WorkloadFilter(tenant="nobody"), set()),
            (views.WorkloadFilter(state=WorkloadState.HELD), {"a2"}),
            (views.WorkloadFilter(state=WorkloadState.FINISHED), {"over"}),
            (views.WorkloadFilter(name="b1"), {"b1"}),
            (views.WorkloadFilter(namespace="team-a", name="b1"), set()),
            (views.WorkloadFilter(ended=True), {"a1", "a2", "b1", "b2", "over"}),
        ):
            assert set(names(connection, wanted)) == expected, wanted


def test_pages_of_everything_in_order_without_a_gap_or_a_double(filled: Engine, rows: Rows) -> None:
    for number in range(3):
        rows.workload(f"archived-{number}", ended=number, state=WorkloadState.FAILED)
    archive(filled)
    for number in range(5):
        rows.workload(f"pending-{number}", created=100 - number)
    for number in range(3):
        rows.workload(f"running-{number}", created=number, state=WorkloadState.ADMITTED)
    for number in range(4):
        rows.workload(f"over-{number}", ended=number, state=WorkloadState.FINISHED)
    expected = [
        *(f"running-{number}" for number in range(3)),
        *(f"pending-{number}" for number in reversed(range(5))),
        *(f"over-{number}" for number in reversed(range(4))),
        *(f"archived-{number}" for number in reversed(range(3))),
    ]
    for limit in (1, 2, 3, 4, 7, 15, 16):
        found: list[str] = []
        after: views.Cursor | None = None
        with filled.connect() as connection:
            for _ in range(20):
                page = views.list_workloads(connection, views.WorkloadFilter(ended=True), after=after, limit=limit)
                assert len(page.items) <= limit
                found.extend(view.name for view in page.items)
                after = page.next
                if after is None:
                    break
        assert found == expected, limit


def test_workloads_of_one_name_the_live_one_first(filled: Engine, rows: Rows) -> None:
    rows.workload("w", ended=1, state=WorkloadState.FAILED)
    archive(filled)
    rows.workload("w", ended=2, state=WorkloadState.FINISHED)
    rows.workload("w", created=3)
    rows.workload("w", namespace="team-b")
    with filled.connect() as connection:
        found = views.find_workloads(connection, "team-a", "w")
    assert [view.state for view in found] == [WorkloadState.PENDING, WorkloadState.FINISHED, WorkloadState.FAILED]
    assert [view.archived for view in found] == [False, False, True]
    assert found[2].pods == 1


def test_an_archived_workload_keeps_its_figures(filled: Engine, rows: Rows) -> None:
    workload = rows.workload("w", pods=3, requests={GPU: 2}, created=10, ended=100, state=WorkloadState.FINISHED)
    rows.run(workload, tenant="product", opened=40, closed=100, outcome=RunOutcome.FINISHED, allocations=[("h100", GPU, 6)])
    archive(filled)
    with filled.connect() as connection:
        (view,) = views.list_workloads(connection, views.WorkloadFilter(ended=True)).items
        (run,) = views.runs_of(connection, workload)
        assert names(connection, views.WorkloadFilter(tenant="lab", ended=True)) == ["w"]
    assert (view.tenant, view.pods, view.requests, view.waited_seconds(at(999))) == ("product", 3, {GPU: 6}, 30)
    assert (run.outcome, run.held, run.closed_at) == (RunOutcome.FINISHED, {("h100", GPU): 6}, at(100))


def test_runs_with_what_they_hold(filled: Engine, rows: Rows) -> None:
    preemptor = rows.workload("preemptor")
    first = rows.workload("first", state=WorkloadState.EVICTING)
    rows.run(first, tenant="research", attempt=1, opened=1, closed=2, outcome=RunOutcome.NOT_READY, message="3 of 4 were ready")
    rows.run(
        first,
        tenant="research",
        attempt=2,
        opened=3,
        allocations=[("h100", GPU, 4), ("a100", GPU, 1), ("h100", "cpu", 5)],
        evict_at=at(60),
        evict_outcome="Preempted",
        evict_message="for a better claim",
        preempted_by=preemptor,
        injected={"main": {"nodeSelector": {"gpu": "h100"}}},
    )
    rows.run(
        rows.workload("second", namespace="team-b", queue="serve", state=WorkloadState.ADMITTED), tenant="product", adopted=True
    )
    with filled.connect() as connection:
        open_runs = views.list_runs(connection, views.RunFilter()).items
        by_tenant = views.list_runs(connection, views.RunFilter(tenant="product")).items
        closed = views.list_runs(connection, views.RunFilter(outcome=RunOutcome.NOT_READY)).items
        of_first = views.runs_of(connection, first)
    assert [(run.name, run.attempt) for run in open_runs] == [("second", 1), ("first", 2)]
    assert [run.name for run in by_tenant] == ["second"]
    assert by_tenant[0].adopted
    assert [(run.name, run.message) for run in closed] == [("first", "3 of 4 were ready")]
    assert [run.attempt for run in of_first] == [2, 1]
    run = of_first[0]
    assert run.held == {("a100", GPU): 1, ("h100", GPU): 4, ("h100", "cpu"): 5}
    assert run.flavors == {"main": ["a100", "h100"]}
    assert (run.evict_outcome, run.preempted_by, run.evict_at) == (RunOutcome.PREEMPTED, "team-a/preemptor", at(60))
    assert run.injected == {"main": {"nodeSelector": {"gpu": "h100"}}}


def test_how_far_a_run_that_must_end_has_come(filled: Engine, rows: Rows) -> None:
    told: dict[str, Any] = {
        "evict_at": at(60),
        "evict_noticed_at": at(30),
        "evict_outcome": "Preempted",
        "evict_rule": "FinalShare",
    }
    found = {}
    steps: dict[str, dict[str, Any]] = {
        "untold": {},
        "told": told,
        "stopped": {**told, "stopped_at": at(61)},
        "over": {**told, "stopped_at": at(61), "closed": 70, "outcome": RunOutcome.PREEMPTED},
        "by-itself": {**told, "closed": 50, "outcome": RunOutcome.FINISHED},
        "owner": {"stopped_at": at(61), "closed": 70, "outcome": RunOutcome.CANCELLED},
    }
    for name, changes in steps.items():
        workload = rows.workload(name, state=WorkloadState.EVICTING, checkpoint_seconds=25 if name == "over" else None)
        rows.run(workload, tenant="research", opened=1, **changes)
        with filled.connect() as connection:
            (found[name],) = views.runs_of(connection, workload)
    assert {name: [view.leaving(at(second)) for second in (59, 60)] for name, view in found.items()} == {
        "untold": [None, None],
        "told": [views.Leaving.NOTICED, views.Leaving.SUSPENDING],
        "stopped": [views.Leaving.RELEASING] * 2,
        "over": [views.Leaving.GONE] * 2,
        "by-itself": [views.Leaving.GONE] * 2,
        "owner": [views.Leaving.GONE] * 2,
    }
    lost = {name: view.lost_seconds for name, view in found.items()}
    assert lost == {"untold": None, "told": None, "stopped": None, "over": 10, "by-itself": None, "owner": None}
    assert (found["told"].evict_rule, found["told"].evict_noticed_at) == (PreemptionRule.FINAL_SHARE, at(30))


def test_a_workload_that_must_end_says_for_whom(filled: Engine, rows: Rows) -> None:
    preemptor = rows.workload("preemptor", state=WorkloadState.FINISHED, ended=5)
    victim = rows.workload("victim", state=WorkloadState.EVICTING)
    told: dict[str, Any] = {
        "evict_at": at(60),
        "evict_outcome": "Preempted",
        "evict_rule": "WithinTenant",
        "evict_message": "makes room",
    }
    rows.run(victim, tenant="research", preempted_by=preemptor, **told)
    for _ in range(2):
        with filled.connect() as connection:
            (view,) = views.list_workloads(connection, views.WorkloadFilter(name="victim")).items
        assert (view.evict_at, view.evict_outcome, view.evict_rule) == (
            at(60),
            RunOutcome.PREEMPTED,
            PreemptionRule.WITHIN_TENANT,
        )
        assert (view.evict_message, view.preempted_by) == ("makes room", "team-a/preemptor")
        archive(filled)  # who asked may be long gone


def test_claims_with_those_who_make_room(filled: Engine, rows: Rows) -> None:
    claimants = [rows.workload(name, created=number) for number, name in enumerate(("first", "second"))]
    gone = rows.run(
        rows.workload("gone", state=WorkloadState.FINISHED, ended=9),
        tenant="research",
        opened=1,
        closed=9,
        outcome=RunOutcome.FINISHED,
    )
    open_runs = [
        rows.run(rows.workload(f"open-{number}", state=WorkloadState.EVICTING), tenant="product", evict_at=at(60 - number))
        for number in range(2)
    ]
    archive(filled)
    rows.claim(
        claimants[1], tenant="product", allocations=[("h100", GPU, 4)], run_ids=[open_runs[1], gone, open_runs[0]], claimed=5
    )
    rows.claim(claimants[0], tenant="research", run_ids=[gone], claimed=6)
    with filled.connect() as connection:
        second, first = views.list_claims(connection)
        assert views.claim_of(connection, claimants[0]) == first
        assert views.claim_of(connection, 10**9) is None
        assert views.list_claims(connection, limit=1) == [second]
        assert views.list_claims(connection, tenant="research") == [first]
        assert views.list_claims(connection, namespace="team-a", name="second") == [second]
        assert views.list_claims(connection, namespace="team-b") == []
    assert (first.name, first.tenant, first.claimed_at, first.left, first.until) == ("first", "research", at(6), (), None)
    assert [run.name for run in second.victims] == ["open-1", "gone", "open-0"]
    assert [run.name for run in second.left] == ["open-1", "open-0"]
    assert (second.until, second.counts) == (at(60), {"main": 1})
    assert [(each.pod_set, each.flavor, each.resource, each.amount) for each in second.allocations] == [
        ("main", "h100", GPU, 4)
    ]


def test_pages_of_runs(filled: Engine, rows: Rows) -> None:
    for number in range(3):
        over = rows.workload(f"over-{number}", state=WorkloadState.FINISHED, ended=2)
        rows.run(over, tenant="research", closed=2, outcome=RunOutcome.FINISHED)
        if number == 0:
            archive(filled)
    for number in range(3):
        rows.run(rows.workload(f"open-{number}", state=WorkloadState.ADMITTED), tenant="research")
    found: list[str] = []
    after: views.Cursor | None = None
    with filled.connect() as connection:
        for _ in range(10):
            page = views.list_runs(connection, views.RunFilter(closed=True), after=after, limit=2)
            found.extend(run.name for run in page.items)
            after = page.next
            if after is None:
                break
    assert found == ["open-2", "open-1", "open-0", "over-2", "over-1", "over-0"]


def test_tenants_count_what_is_below_them(filled: Engine, rows: Rows) -> None:
    rows.run(
        rows.workload("r1", state=WorkloadState.ADMITTED), tenant="research", allocations=[("h100", GPU, 3), ("a100", GPU, 1)]
    )
    rows.run(rows.workload("r2", state=WorkloadState.EVICTING), tenant="research", allocations=[("h100", GPU, 2)])
    rows.run(
        rows.workload("over", state=WorkloadState.FINISHED, ended=3),
        tenant="research",
        closed=3,
        outcome=RunOutcome.FINISHED,
        allocations=[("h100", GPU, 100)],
    )
    rows.workload("p1", namespace="team-b", queue="serve")
    rows.workload("p2", namespace="team-b", queue="serve", state=WorkloadState.HELD)
    rows.workload("lost", queue="nope")
    with filled.connect() as connection:
        found = views.list_tenants(connection)
        (only,) = views.list_tenants(connection, "product")
    assert [(view.record.name, view.depth) for view in found] == [("lab", 0), ("product", 1), ("research", 1)]
    lab, product, research = found
    assert only == product
    assert (lab.pending, lab.admitted) == (2, 2)
    assert (product.pending, product.admitted) == (2, 0)
    assert (research.pending, research.admitted) == (0, 2)
    assert research.used == {("h100", GPU): 5, ("a100", GPU): 1}
    assert lab.used == research.used
    assert lab.nominal == {("h100", GPU): 28, ("a100", GPU): 2}
    assert product.used == {}


def test_queues_classes_and_flavors(filled: Engine, rows: Rows) -> None:
    rows.run(rows.workload("r1", state=WorkloadState.ADMITTED), tenant="research", allocations=[("h100", GPU, 3)])
    rows.workload("p1")
    with filled.connect() as connection:
        queues = views.list_queues(connection)
        assert [(view.record.name, view.pending, view.admitted) for view in queues] == [("train", 1, 1), ("serve", 0, 0)]
        assert [view.record.name for view in views.list_queues(connection, namespace="team-b")] == ["serve"]
        assert [view.record.name for view in views.list_queues(connection, tenant="research")] == ["train"]
        assert views.list_queues(connection, name="nope") == []
        assert [view.record.name for view in views.list_classes(connection)] == ["urgent", "normal"]
        a100, h100 = views.list_flavors(connection)
    assert (a100.used, a100.nominal) == ({}, {GPU: 2})
    assert (h100.used, h100.nominal) == ({GPU: 3}, {GPU: 28})


def test_decisions_with_how_many_wait_by_them(filled: Engine, rows: Rows) -> None:
    shape = shape_of([PodSet("main", 1, {GPU: 1})], None)
    for number in range(3):
        rows.workload(f"w{number}")
    own = rows.workload("own")
    evidence = {
        "shortfalls": [{"tenant": "research", "flavor": "h100", "resource": GPU, "requested": 9, "available": 4}],
        "holders": [{"namespace": "n", "name": "m", "flavor": "h100", "resource": GPU, "amount": 5}],
        "details": {"x": 1},
    }
    rows.decision(Reason.WAITING_FOR_QUOTA, tenant="research", shape=shape, evidence=evidence)
    rows.decision(Reason.BACKOFF, workload_id=own)
    with filled.connect() as connection:
        by_shape, by_itself = views.list_decisions(connection)
        stored, override = views.decision_of(connection, own - 1), views.decision_of(connection, own)
        assert views.list_decisions(connection, tenant="product") == []
        assert len(views.list_decisions(connection, limit=1)) == 1
        assert views.decision_of(connection, 10**9) is None
    assert (by_shape.waiting, by_shape.workload, by_shape.decision.reason) == (3, None, Reason.WAITING_FOR_QUOTA)
    assert by_shape.decision.shortfalls[0].short == 5
    assert by_shape.decision.holders[0].name == "m"
    assert by_shape.decision.details == {"x": 1}
    assert (by_itself.waiting, by_itself.workload, by_itself.decision.tenant) == (1, "team-a/own", "research")
    assert stored == by_shape
    assert override == by_itself


def test_clusters_leader_and_audit(filled: Engine, rows: Rows) -> None:
    rows.run(rows.workload("w", state=WorkloadState.ADMITTED), tenant="research")
    rows.workload("x", cluster="other")
    with filled.connect() as connection:
        default, other = views.list_clusters(connection)
        assert (default.name, default.workloads, default.runs) == ("default", 1, 1)
        assert (other.name, other.workloads, other.runs) == ("other", 1, 0)
        assert not views.leader(connection).leads
        latest = views.list_audit(connection, limit=2)
        assert [entry.claimed_by for entry in latest] == ["ana", "ana"]
        assert latest[0].id > latest[1].id
        older = views.list_audit(connection, before_id=latest[1].id)
        assert len(older) == 7
        (entry,) = views.list_audit(connection, kind="Tenant", name="lab")
    assert entry.before is None
    assert entry.after is not None
    assert entry.after["kind"] == "Tenant"


@pytest.mark.parametrize(
    ("ask", "index"),
    [
        (lambda connection: views.list_workloads(connection, views.WorkloadFilter(), limit=10), "ix_workload_live_state"),
        (
            lambda connection: views.list_workloads(connection, views.WorkloadFilter(state=WorkloadState.HELD), limit=10),
            "ix_workload_live_state",
        ),
        (
            lambda connection: views.list_workloads(connection, views.WorkloadFilter(namespace="team-a", name="w7")),
            "uq_workload_live_name",
        ),
        (
            lambda connection: views.list_workloads(connection, views.WorkloadFilter(namespace="quiet"), limit=10),
            "ix_workload_live_queue",
        ),
    ],
)
def test_lists_of_live_work_use_its_indexes(
    filled: Engine, rows: Rows, ask: Callable[[Connection], object], index: str
) -> None:
    """With many rows that are over, and as many live ones, the planner goes by the partial indexes."""
    cluster = rows.cluster()
    with filled.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO workload (cluster_id, uid, namespace, name, queue_name, shape, created_at, state, resource_version,"
                " suspended, ended_at, state_since) SELECT :cluster, 'u' || n, 'team-a', 'w' || n, 'train', 's',"
                " clock_timestamp(), CASE WHEN n % 2 = 0 THEN 'Finished' ELSE 'Pending' END, '1', true, clock_timestamp(),"
                " clock_timestamp() FROM generate_series(1, 20000) n"
            ),
            {"cluster": cluster},
        )
    with filled.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text("VACUUM ANALYZE workload"))
    with filled.connect() as connection:
        before = _scans(connection, index)
        ask(connection)
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        connection.rollback()
        assert _scans(connection, index) > before


def _scans(connection: Connection, index: str) -> int:
    connection.execute(text("SELECT pg_stat_clear_snapshot()"))
    query = text("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = :index")
    return int(connection.execute(query, {"index": index}).scalar_one())
