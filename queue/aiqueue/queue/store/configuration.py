"""The administrator's objects in the ledger: load, apply, delete.

Every write locks the configuration revision first, so writers queue up and each sees all that the one before it did; the
revision moves once for a transaction that changed something, and `NOTIFY aiqueue_config` tells who listens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from json import dumps
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from aiqueue.queue.consistency import check_change, children_of, drained_by_move, find, listed, with_objects
from aiqueue.queue.documents import Document, ObjectName, Record, name_of, raise_if_any, to_document
from aiqueue.queue.errors import InvalidDocument, InvalidInput, NotFound, StillReferenced
from aiqueue.queue.records import Configuration, Queue, Tenant
from aiqueue.queue.store import objects
from aiqueue.queue.store.references import referrers_to
from aiqueue.queue.words import AuditVerb, ObjectState

#: Channel that is notified, with the new revision as payload, when a change of the configuration commits.
CHANNEL = "aiqueue_config"
CREATED, CONFIGURED, UNCHANGED, DELETED = "created", "configured", "unchanged", "deleted"
# Text for JSON, so that None is SQL's NULL rather than JSON's null.
_AUDIT = text(
    "INSERT INTO audit (claimed_by, verb, kind, name, before, after)"
    " VALUES (:claimed_by, :verb, :kind, :name, CAST(:before AS jsonb), CAST(:after AS jsonb))"
)
_TABLES = {"Flavor": "flavor", "Class": "class", "Tenant": "tenant", "Queue": "queue"}


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one object: `verb` is created, configured, unchanged or deleted."""

    verb: str
    name: ObjectName


def load(connection: Connection) -> Configuration:
    """Everything an administrator wrote, with its revision, as of one instant."""
    return objects.read(connection)


def revision(connection: Connection) -> int:
    """The revision of the configuration: it grows with each transaction that changed something."""
    return int(connection.execute(text("SELECT revision FROM config_revision")).scalar_one())


def apply(
    connection: Connection,
    given: Iterable[Record | Document],
    *,
    claimed_by: str | None,
    allow_drain: bool = False,
) -> list[Change]:
    """Make the ledger hold `given`, all or nothing, in the caller's transaction.

    An object that is known is replaced whole, one that is the same writes nothing. The order does not matter. Nothing is
    deleted. Lowering a quota below what is used evicts nobody by itself.

    Args:
        connection: in a transaction that the caller commits, or rolls back on any error.
        given: records, or documents whose places are named in errors (those without a record are passed over).
        claimed_by: who asks, as far as the operating system knows; kept in the audit beside the database's login.
        allow_drain: whether state Drain may be written, which evicts what runs.

    Returns:
        One change for each object, in the order given.

    Raises:
        InvalidInput: an object is given twice, is to be drained without leave, or the whole would not fit together; an
            InvalidDocuments if several things are wrong.
    """
    places: dict[ObjectName, str] = {}
    wanted: dict[ObjectName, Record] = {}
    errors: list[InvalidInput] = []
    for each in given:
        record = each.record if isinstance(each, Document) else each
        if record is None:
            continue
        name = name_of(record)
        where = each.where if isinstance(each, Document) else str(name)
        if name in wanted:
            errors.append(
                InvalidDocument("metadata.name", name.path, f"write it once: {places[name]} is the same", where=where)
            )
        wanted[name], places[name] = record, where
    _lock(connection)
    current = load(connection)
    changed = {name: record for name, record in wanted.items() if find(current, name) != record}
    after = with_objects(current, changed.values())
    contradictions = check_change(current, after, places)
    errors.extend(contradictions)
    if not allow_drain:
        errors.extend(_drains(changed, places))
        if not contradictions:
            errors.extend(_moves_under_drain(current, after, places))
    errors.extend(_runs_of_parents(connection, current, after, places))
    raise_if_any(errors)
    changes = [
        Change(UNCHANGED if name not in changed else CREATED if find(current, name) is None else CONFIGURED, name)
        for name in wanted
    ]
    if changed:
        objects.write(connection, list(changed.values()))
        _audit(connection, {name: (find(current, name), record) for name, record in changed.items()}, claimed_by)
        _bump(connection)
    return changes


def delete(connection: Connection, kind: str, name: str, namespace: str | None = None, *, claimed_by: str | None) -> Change:
    """Delete one object in the caller's transaction.

    Runs that ended keep their tenant and flavors until they are archived (setting `archive_after_seconds`), since the
    ledger bills from them; so does the object that they name.

    Raises:
        NotFound: there is no such object.
        StillReferenced: other objects, live workloads or runs refer to it; names up to five of each sort.
    """
    object_name = ObjectName(kind, name, namespace or "")
    _lock(connection)
    before = find(load(connection), object_name)
    if before is None:
        raise NotFound(f"there is no {kind} named {object_name.path}")
    where = "namespace = :namespace AND name = :name" if isinstance(before, Queue) else "name = :name"
    parameters = {"name": name} | ({"namespace": object_name.namespace} if isinstance(before, Queue) else {})
    table = _TABLES[kind]
    row_id = connection.execute(text(f'SELECT id FROM "{table}" WHERE {where}'), parameters).scalar_one()
    if referrers := referrers_to(connection, object_name, row_id):
        raise StillReferenced(_refusal(object_name, referrers))
    try:
        with connection.begin_nested():
            connection.execute(text(f'DELETE FROM "{table}" WHERE id = :id'), {"id": row_id})
    except IntegrityError:
        # The controller admitted something between the look and the delete.
        raise StillReferenced(_refusal(object_name, referrers_to(connection, object_name, row_id))) from None
    _audit(connection, {object_name: (before, None)}, claimed_by)
    _bump(connection)
    return Change(DELETED, object_name)


def _refusal(name: ObjectName, referrers: list[str]) -> str:
    hint = ""
    if any(referrer.startswith("ended run") for referrer in referrers):
        hint = "; ended runs let go of it when they are archived, some time after their workload is over"
    return f"{name} is still referred to by {', '.join(referrers) or 'work that was admitted just now'}{hint}"


def _lock(connection: Connection) -> None:
    connection.execute(text("SELECT revision FROM config_revision FOR UPDATE"))


def _bump(connection: Connection) -> None:
    """Count the change and tell listeners when it commits."""
    moved = connection.execute(text("UPDATE config_revision SET revision = revision + 1 RETURNING revision")).scalar_one()
    connection.execute(text("SELECT pg_notify(:channel, :revision)"), {"channel": CHANNEL, "revision": str(moved)})


def _audit(
    connection: Connection, changes: Mapping[ObjectName, tuple[Record | None, Record | None]], claimed_by: str | None
) -> None:
    rows: list[dict[str, Any]] = []
    for name, (before, after) in changes.items():
        verb = AuditVerb.CREATED if before is None else AuditVerb.DELETED if after is None else AuditVerb.UPDATED
        rows.append(
            {
                "claimed_by": claimed_by,
                "verb": str(verb),
                "kind": name.kind,
                "name": name.path,
                "before": None if before is None else dumps(to_document(before)),
                "after": None if after is None else dumps(to_document(after)),
            }
        )
    connection.execute(_AUDIT, rows)


def _drains(changed: Mapping[ObjectName, Record], places: Mapping[ObjectName, str]) -> Iterable[InvalidInput]:
    for name, record in changed.items():
        if isinstance(record, (Tenant, Queue)) and record.state is ObjectState.DRAIN:
            fix = "what runs there would be evicted: give --allow-drain if you mean it, or write Hold to let it go on"
            yield InvalidDocument("spec.state", str(record.state), fix, where=places[name])


def _moves_under_drain(before: Configuration, after: Configuration, places: Mapping[ObjectName, str]) -> Iterable[InvalidInput]:
    for tenant, drained in drained_by_move(before, after).items():
        fix = f"{drained} is being drained, so what runs in {tenant} would be evicted: give --allow-drain if you mean it"
        yield InvalidDocument("spec.parent", after.tenants[tenant].parent, fix, where=places[ObjectName("Tenant", tenant)])


def _runs_of_parents(
    connection: Connection, before: Configuration, after: Configuration, places: Mapping[ObjectName, str]
) -> Iterable[InvalidInput]:
    """Only leaves hold work: a tenant whose queues moved away may still have open runs, and then gets no children yet."""
    old, new = children_of(before.tenants), children_of(after.tenants)
    becoming = {parent for parent in new if parent not in old and parent in before.tenants}
    if not becoming:
        return
    query = text(
        "SELECT t.name, count(*) FROM run r JOIN tenant t ON t.id = r.tenant_id"
        " WHERE r.closed_at IS NULL AND t.name = ANY(:names) GROUP BY t.name ORDER BY t.name"
    )
    for tenant, count in connection.execute(query, {"names": sorted(becoming)}):
        child = ObjectName("Tenant", new[tenant][0])
        fix = f"wait until its {count} open runs have ended, or choose another parent for {listed(new[tenant])}"
        yield InvalidDocument("spec.parent", tenant, fix, where=places.get(child, str(child)))
