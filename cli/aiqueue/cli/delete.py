"""`aiqueue delete`: take objects out of the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from aiqueue.cli.apply import ApplyOutput, print_changes
from aiqueue.cli.exits import WrongUsage, say
from aiqueue.cli.files import read_objects
from aiqueue.cli.kinds import NAMES, find_kind, split_name
from aiqueue.cli.ledger import claimed_by, writing
from aiqueue.queue.documents import ObjectName, name_of
from aiqueue.queue.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiqueue.queue.records import Tenant

# What refers to others goes before them.
_ORDER = ("Queue", "Tenant", "Class", "Flavor")


def delete(
    kind: Annotated[str | None, typer.Argument(help="flavor, tenant, queue or class")] = None,
    name: Annotated[str | None, typer.Argument(help="Its name; of a queue also NAMESPACE/NAME.")] = None,
    *,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Namespace of a queue.")] = None,
    filename: Annotated[list[str] | None, typer.Option("--filename", "-f", help="Delete what these files name.")] = None,
    ignore_not_found: Annotated[bool, typer.Option(help="Pass over what is not there.")] = False,
    output: Annotated[ApplyOutput, typer.Option("--output", "-o")] = ApplyOutput.TABLE,
) -> None:
    """Delete flavors, tenants, queues or classes, all or nothing.

    Refused while other objects, live workloads, or runs that are not archived yet refer to them.
    """
    if (kind is None) == (not filename) or (filename and namespace):
        raise WrongUsage("say what to delete: `aiqueue delete KIND NAME [-n NAMESPACE]` or `aiqueue delete -f FILE`")
    names = _named(kind, name, namespace) if kind is not None else _in_files(filename or [])
    from aiqueue.queue.store import configuration

    deleted: list[ObjectName] = []
    with writing() as connection:
        for each in _ordered(names, configuration.load(connection).tenants):
            try:
                configuration.delete(connection, each.kind, each.name, each.namespace or None, claimed_by=claimed_by())
            except NotFound as error:
                if not ignore_not_found:
                    raise
                say(str(error))
            else:
                deleted.append(each)
    print_changes([("deleted", each.kind, each.path) for each in deleted], output, dry_run=False)


def _named(kind: str, name: str | None, namespace: str | None) -> list[ObjectName]:
    found = find_kind(kind)
    if not found.document:
        known = ", ".join(sorted({each.singular for each in NAMES.values() if each.document}))
        raise WrongUsage(f"a {found.singular} cannot be deleted here: {known} can")
    namespace, name = split_name(found, name, namespace)
    if name is None:
        raise WrongUsage(f"name the {found.singular} to delete")
    if found.namespaced and namespace is None:
        raise WrongUsage(f"say in which namespace {found.singular} {name} is: -n NAMESPACE")
    if not found.namespaced and namespace is not None:
        raise WrongUsage(f"a {found.singular} belongs to no namespace: leave out -n")
    return [ObjectName(found.document, name, namespace or "")]


def _in_files(filename: list[str]) -> list[ObjectName]:
    return [name_of(document.record) for document in read_objects(filename) if document.record is not None]


def _ordered(names: list[ObjectName], tenants: Mapping[str, Tenant]) -> list[ObjectName]:
    """Referrers first: queues before tenants, children before their parents."""

    def depth(name: ObjectName) -> int:
        steps, at = 0, tenants.get(name.name) if name.kind == "Tenant" else None
        while at is not None and at.parent is not None and steps <= len(tenants):
            steps, at = steps + 1, tenants.get(at.parent)
        return steps

    return sorted(names, key=lambda name: (_ORDER.index(name.kind), -depth(name), name))
