"""The administrator's objects in the ledger: applied whole or not at all, audited, and never deleted from under work."""

from collections.abc import Iterable
from fractions import Fraction
from threading import Thread

import pytest
from sqlalchemy import Engine, event, text

from aiqueue.cli.harness import databases
from aiqueue.queue.database import transaction
from aiqueue.queue.documents import Document, InvalidDocuments, ObjectName, Record, read_documents, to_document
from aiqueue.queue.errors import AiqueueError, InvalidInput, NotFound, StillReferenced
from aiqueue.queue.records import Class, Flavor, Queue, Quota, Taint, Tenant, Toleration
from aiqueue.queue.store import configuration
from aiqueue.queue.words import ObjectState, OrderKey, RunOutcome, WorkloadState
from fix_rows import Rows

pytestmark = pytest.mark.integration

FLAVOR = Flavor("h100", {"gpu": "h100"}, (Taint("gpu"),), (Toleration("gpu", "Exists"),), ("zone", "host"))
LAB = Tenant("lab", quotas=(Quota("h100", "cpu", 1_000_000),))
RESEARCH = Tenant(
    "research",
    parent="lab",
    weight=Fraction(1, 8),
    quotas=(Quota("h100", "nvidia.com/gpu", 64, 32, 16), Quota("h100", "cpu", 800_000)),
    order=(OrderKey.USAGE, OrderKey.SUBMITTED),
    usage_weights={"nvidia.com/gpu": Fraction(1, 2)},
)
NORMAL, URGENT = Class("normal", 100, True, 600, 120, 86400, 3 * 86400), Class("urgent", 1000)
TRAIN = Queue("team-a", "train", "research", Fraction(3), "normal", ("urgent", "normal"))
# Each refers to the ones after it: the order of documents must not matter.
EVERYTHING: tuple[Record, ...] = (TRAIN, RESEARCH, LAB, URGENT, NORMAL, FLAVOR)


def apply(ledger: Engine, given: Iterable[Record | Document], *, allow_drain: bool = False) -> dict[str, str]:
    """Apply in one transaction; the verb for each object."""
    with transaction(ledger) as connection:
        changes = configuration.apply(connection, given, claimed_by="ana", allow_drain=allow_drain)
    return {str(change.name): change.verb for change in changes}


def revision(ledger: Engine) -> int:
    with ledger.connect() as connection:
        return configuration.revision(connection)


def refusals(ledger: Engine, given: Iterable[Record | Document]) -> list[str]:
    """Every sentence that refuses `given`; the ledger must stay as it was."""
    before = revision(ledger)
    with pytest.raises(InvalidInput) as caught:
        apply(ledger, given)
    assert revision(ledger) == before
    return [str(each) for each in (caught.value.errors if isinstance(caught.value, InvalidDocuments) else [caught.value])]


def delete(ledger: Engine, kind: str, name: str, namespace: str | None = None) -> None:
    with transaction(ledger) as connection:
        configuration.delete(connection, kind, name, namespace, claimed_by="ana")


@pytest.fixture
def full(ledger: Engine) -> Engine:
    """A ledger that holds `EVERYTHING`, at revision 1."""
    apply(ledger, EVERYTHING)
    return ledger


def test_what_is_applied_is_loaded(ledger: Engine) -> None:
    verbs = apply(ledger, EVERYTHING)
    assert set(verbs.values()) == {"created"}
    with ledger.connect() as connection:
        loaded = configuration.load(connection)
    assert loaded.revision == 1
    assert loaded.flavors == {"h100": FLAVOR}
    assert loaded.tenants == {"lab": LAB, "research": RESEARCH}
    assert loaded.classes == {"normal": NORMAL, "urgent": URGENT}
    assert loaded.queues == {("team-a", "train"): TRAIN}
    assert loaded.tenants["research"].quotas == RESEARCH.quotas  # in the administrator's order


def test_loading_takes_one_statement_however_much_there_is(full: Engine) -> None:
    apply(full, [Tenant(f"t{index}", parent="lab", quotas=(Quota("h100", "cpu", index),)) for index in range(50)])
    statements: list[str] = []
    with full.connect() as connection:
        event.listen(connection, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
        assert len(configuration.load(connection).tenants) == 52
    assert len(statements) == 1


def test_an_empty_ledger_is_an_empty_configuration(ledger: Engine) -> None:
    with ledger.connect() as connection:
        loaded = configuration.load(connection)
    assert (loaded.revision, loaded.tenants, loaded.queues) == (0, {}, {})


def test_what_is_the_same_writes_nothing(full: Engine) -> None:
    assert set(apply(full, EVERYTHING).values()) == {"unchanged"}
    assert revision(full) == 1
    with full.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM audit")).scalar_one() == len(EVERYTHING)


def test_an_object_is_replaced_whole_and_keeps_its_id(full: Engine) -> None:
    def ids() -> list[int]:
        with full.connect() as connection:
            return list(connection.execute(text("SELECT id FROM tenant ORDER BY name")).scalars())

    before = ids()
    bare = Tenant("research", parent="lab")
    assert apply(full, [bare, TRAIN]) == {"Tenant research": "configured", "Queue team-a/train": "unchanged"}
    with full.connect() as connection:
        assert configuration.load(connection).tenants["research"] == bare
    assert ids() == before
    assert revision(full) == 2


def test_moving_and_renaming_within_one_apply(full: Engine) -> None:
    apply(full, [Tenant("new", parent="lab"), Queue("team-a", "train", "new", allowed_classes=("normal",))])
    with full.connect() as connection:
        assert configuration.load(connection).queues["team-a", "train"] == Queue(
            "team-a", "train", "new", allowed_classes=("normal",)
        )


def test_every_change_is_audited_with_what_was_and_what_is(full: Engine) -> None:
    apply(full, [Class("urgent", 7)])
    delete(full, "Queue", "train", "team-a")
    with full.connect() as connection:
        rows = connection.execute(
            text("SELECT verb, kind, name, before, after, claimed_by, login, session_role FROM audit ORDER BY id DESC LIMIT 2")
        ).all()
        me = connection.execute(text("SELECT session_user")).scalar_one()
    assert rows[0][:5] == ("Deleted", "Queue", "team-a/train", to_document(TRAIN), None)
    assert rows[1][:5] == ("Updated", "Class", "urgent", to_document(URGENT), to_document(Class("urgent", 7)))
    assert rows[0][5:] == ("ana", me, me)


def test_listeners_hear_of_a_change_when_it_is_committed_and_of_nothing_else(full: Engine, ledger_url: str) -> None:
    with databases.connection(ledger_url) as listening:
        listening.execute(f"LISTEN {configuration.CHANNEL}")
        apply(full, EVERYTHING)
        refusals(full, [Queue("a", "b", "nobody")])
        apply(full, [Class("urgent", 8)])
        assert [notice.payload for notice in listening.notifies(timeout=60, stop_after=1)] == ["2"]


def test_a_rolled_back_apply_leaves_nothing(ledger: Engine) -> None:
    with ledger.connect() as connection:
        configuration.apply(connection, EVERYTHING, claimed_by=None)
        connection.rollback()
    assert revision(ledger) == 0


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (Tenant("x", parent="reserch"), "Tenant x: spec.parent is 'reserch': there is no such Tenant: did you mean research?"),
        (Tenant("x", quotas=(Quota("b200", "cpu", 1),)), "Tenant x: spec.quotas[].flavor is 'b200': there is no such Flavor"),
        (Queue("n", "q", "nobody"), "Queue n/q: spec.tenant is 'nobody': there is no such Tenant: apply a Tenant of that name"),
        (Queue("n", "q", "lab"), "Queue n/q: spec.tenant is 'lab': name a tenant without children: lab has research"),
        (Queue("n", "q", "research", default_class="norml"), "Queue n/q: spec.defaultClass is 'norml': there is no such Class"),
        (Queue("n", "q", "research", allowed_classes=("a",)), "Queue n/q: spec.allowedClasses is 'a': there is no such Class"),
        (
            Tenant("kid", parent="research"),
            "Tenant kid: spec.parent is 'research': choose a parent without queues: queue team-a/train",
        ),
        (Tenant("lab", parent="research"), "Tenant lab: spec.parent is 'research': break the circle lab -> research -> lab"),
        (
            Tenant("leaf", parent="lab", quotas=(Quota("h100", "cpu", 2000, None, 3000),)),
            "Tenant leaf: lendingLimit of h100 cpu is '3': write at most its nominal, 2",
        ),
        (Tenant("y", state=ObjectState.DRAIN), "Tenant y: spec.state is 'Drain': what runs there would be evicted"),
    ],
)
def test_what_does_not_fit_together_is_refused(full: Engine, given: Record, sentence: str) -> None:
    assert any(each.startswith(sentence) for each in refusals(full, [given]))


def test_documents_are_named_by_their_place(full: Engine) -> None:
    documents = read_documents(
        "{apiVersion: aiqueue.dev/v1, kind: Class, metadata: {name: c}}\n---\n"
        "{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {name: q, namespace: n}, spec: {tenant: nobody, defaultClass: d}}\n",
        "queues.yaml",
    )
    assert [sentence.partition(": ")[0] for sentence in refusals(full, documents)] == ["queues.yaml, document 2 (Queue q)"] * 2


def test_the_lending_limit_of_an_inner_tenant_is_that_of_its_subtree(full: Engine) -> None:
    top = Tenant("top")
    inner = Tenant("inner", parent="top", quotas=(Quota("h100", "cpu", 1000, None, 7000),))
    kids = [Tenant(f"kid{n}", parent="inner", quotas=(Quota("h100", "cpu", 3000, None, 3000),)) for n in (1, 2)]
    apply(full, [top, inner, *kids])
    # One kid keeps a thousand to itself: a thousand less reaches the parent.
    shy = Tenant("kid1", parent="inner", quotas=(Quota("h100", "cpu", 3000, None, 2000),))
    (sentence,) = refusals(full, [shy])
    assert sentence == "Tenant inner: lendingLimit of h100 cpu is '7': write at most what it and its children offer, 6"


def test_an_object_given_twice_is_refused(ledger: Engine) -> None:
    (sentence,) = refusals(ledger, [NORMAL, Class("normal", 3)])
    assert sentence.startswith("Class normal: metadata.name is 'normal': write it once")


def test_a_circle_among_new_tenants_is_refused_once(ledger: Engine) -> None:
    ring = [Tenant("a", parent="b"), Tenant("b", parent="c"), Tenant("c", parent="a"), Tenant("hanger-on", parent="a")]
    (sentence,) = refusals(ledger, ring)
    assert "break the circle a -> b -> c -> a" in sentence


def test_draining_needs_leave_and_is_then_written(full: Engine) -> None:
    draining = Queue("team-a", "train", "research", state=ObjectState.DRAIN)
    refusals(full, [draining])
    assert apply(full, [draining], allow_drain=True) == {"Queue team-a/train": "configured"}
    # What already drains is not written again, so it needs no leave.
    assert apply(full, [draining]) == {"Queue team-a/train": "unchanged"}


def test_moving_a_tenant_under_one_that_drains_needs_leave_too(full: Engine) -> None:
    apply(full, [Tenant("old", state=ObjectState.DRAIN)], allow_drain=True)
    moved = Tenant("research", parent="old")
    (sentence,) = refusals(full, [moved])
    assert sentence.startswith("Tenant research: spec.parent is 'old': old is being drained, so what runs in research")
    assert apply(full, [moved], allow_drain=True) == {"Tenant research": "configured"}


def test_what_a_delete_left_wrong_does_not_refuse_other_changes(full: Engine) -> None:
    inner = Tenant("inner", parent="lab", quotas=(Quota("h100", "cpu", 1000, None, 4000),))
    apply(full, [inner, Tenant("kid", parent="inner", quotas=(Quota("h100", "cpu", 3000),))])
    delete(full, "Tenant", "kid")
    assert apply(full, [Class("other")]) == {"Class other": "created"}
    (sentence,) = refusals(full, [inner])
    assert sentence.startswith("Tenant inner: lendingLimit of h100 cpu is '4'")


def test_a_tenant_that_still_runs_something_gets_no_children(full: Engine, rows: Rows) -> None:
    rows.run(rows.workload("w", state=WorkloadState.ADMITTED), tenant="research", allocations=[("h100", "cpu", 1)])
    moved: list[Record] = [Tenant("other", parent="lab"), Queue("team-a", "train", "other"), Tenant("kid", parent="research")]
    (sentence,) = refusals(full, moved)
    assert sentence.startswith("Tenant kid: spec.parent is 'research': wait until its 1 open runs have ended")


def test_a_quota_may_be_lowered_below_what_is_used(full: Engine, rows: Rows) -> None:
    rows.run(rows.workload("w", state=WorkloadState.ADMITTED), tenant="research", allocations=[("h100", "cpu", 500_000)])
    assert apply(full, [Tenant("research", parent="lab", quotas=(Quota("h100", "cpu", 0),))]) == {
        "Tenant research": "configured"
    }


@pytest.mark.parametrize(
    ("kind", "name", "referrer"),
    [
        ("Flavor", "h100", "Flavor h100 is still referred to by quota of tenant lab, quota of tenant research"),
        ("Class", "normal", "Class normal is still referred to by queue team-a/train"),
        ("Tenant", "lab", "Tenant lab is still referred to by child research"),
        ("Tenant", "research", "Tenant research is still referred to by queue team-a/train"),
    ],
)
def test_what_configuration_refers_to_is_not_deleted(full: Engine, kind: str, name: str, referrer: str) -> None:
    with pytest.raises(StillReferenced) as caught:
        delete(full, kind, name)
    assert str(caught.value) == referrer
    assert revision(full) == 1


def test_what_work_refers_to_is_not_deleted(full: Engine, rows: Rows) -> None:
    rows.run(
        rows.workload("w", state=WorkloadState.ADMITTED, class_name="urgent"),
        tenant="research",
        allocations=[("h100", "cpu", 1)],
    )
    apply(full, [Tenant("research", parent="lab"), Tenant("lab"), Queue("team-a", "train", "research")])
    for kind, name, namespace, work in (
        ("Queue", "train", "team-a", "live workload team-a/w, open run of workload team-a/w"),
        ("Class", "urgent", None, "live workload team-a/w"),
        ("Flavor", "h100", None, "open run of workload team-a/w"),
    ):
        with pytest.raises(StillReferenced) as caught:
            delete(full, kind, name, namespace)
        assert str(caught.value).endswith(f"is still referred to by {work}")


def test_ended_runs_keep_their_tenant_until_they_are_archived(full: Engine, rows: Rows) -> None:
    workload = rows.workload("w", state=WorkloadState.FINISHED, ended=9)
    rows.run(workload, tenant="research", closed=9, outcome=RunOutcome.FINISHED, allocations=[("h100", "cpu", 1)])
    delete(full, "Queue", "train", "team-a")
    with pytest.raises(
        StillReferenced, match="ended run, not yet archived, of workload team-a/w; ended runs let go of it when"
    ):
        delete(full, "Tenant", "research")
    with full.begin() as connection:
        connection.execute(text("DELETE FROM run"))
    delete(full, "Tenant", "research")


def test_at_most_five_referrers_of_a_sort_are_named(full: Engine, rows: Rows) -> None:
    for number in range(7):
        rows.workload(f"w{number}")
    with pytest.raises(StillReferenced) as caught:
        delete(full, "Queue", "train", "team-a")
    assert str(caught.value).count("live workload team-a/") == 5
    assert "more of the sort live workload" in str(caught.value)


def test_what_is_not_there_cannot_be_deleted(full: Engine) -> None:
    with pytest.raises(NotFound, match="there is no Queue named team-a/nope"):
        delete(full, "Queue", "nope", "team-a")
    with pytest.raises(NotFound, match="there is no Tenant named nope"):
        delete(full, "Tenant", "nope")


def test_everything_can_be_deleted_from_the_leaves_up(full: Engine) -> None:
    for kind, name, namespace in (
        ("Queue", "train", "team-a"),
        ("Tenant", "research", None),
        ("Tenant", "lab", None),
        ("Class", "normal", None),
        ("Class", "urgent", None),
        ("Flavor", "h100", None),
    ):
        delete(full, kind, name, namespace)
    assert revision(full) == 7
    with full.connect() as connection:
        loaded = configuration.load(connection)
    assert [*loaded.flavors, *loaded.tenants, *loaded.queues, *loaded.classes] == []


def test_two_writers_at_once_each_see_what_the_other_did(full: Engine) -> None:
    """One deletes the class that the other begins to use: whoever comes second is refused."""
    outcomes: list[str] = []

    def use() -> None:
        try:
            apply(full, [Queue("team-b", "q", "research", default_class="urgent")])
            outcomes.append("used")
        except AiqueueError as error:
            outcomes.append(str(error))

    apply(full, [Queue("team-a", "train", "research")])
    with transaction(full) as connection:
        configuration.delete(connection, "Class", "urgent", claimed_by=None)
        second = Thread(target=use)
        second.start()
        _wait_until_somebody_waits(full)
    second.join(timeout=60)
    assert outcomes == ["Queue team-b/q: spec.defaultClass is 'urgent': there is no such Class: apply a Class of that name too"]


def _wait_until_somebody_waits(ledger: Engine) -> None:
    """Until another session waits for a lock; each query takes its turn at the server, so this does not spin."""
    with ledger.connect() as connection:
        for _ in range(20_000):
            waiting = connection.execute(
                text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
            ).scalar_one()
            if waiting:
                return
            connection.rollback()
    raise AssertionError("nobody waits for the configuration's lock")


def test_changes_name_their_objects(ledger: Engine) -> None:
    with transaction(ledger) as connection:
        changes = configuration.apply(connection, EVERYTHING, claimed_by=None)
    assert changes[0] == configuration.Change("created", ObjectName("Queue", "train", "team-a"))
    assert [change.name.name for change in changes] == [record.name for record in EVERYTHING]
