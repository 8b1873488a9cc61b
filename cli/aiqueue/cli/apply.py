"""`aiqueue apply`: make the ledger hold what files say."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from aiqueue.cli.exits import say
from aiqueue.cli.files import read_objects
from aiqueue.cli.ledger import claimed_by, writing
from aiqueue.cli.printers import Column, JsonPrinter, Listing, NamePrinter, Row
from aiqueue.queue.documents import name_of


class ApplyOutput(StrEnum):
    """How `apply` and `delete` print what they did."""

    TABLE = "table"
    JSON = "json"
    NAME = "name"


Files = Annotated[
    list[str],
    typer.Option("--filename", "-f", help="A file, a folder (its *.yaml and *.yml), or - for stdin. May be repeated."),
]


def apply(
    *,
    filename: Files,
    allow_drain: Annotated[bool, typer.Option(help="Allow state Drain, which evicts what runs.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Check and show what would change, and change nothing.")] = False,
    output: Annotated[ApplyOutput, typer.Option("--output", "-o")] = ApplyOutput.TABLE,
) -> None:
    """Create or replace flavors, tenants, queues and classes, all or nothing.

    What is applied replaces the whole object of that name. Nothing is deleted. All errors of all documents are shown; what
    is allowed and has no effect as written is a warning.
    """
    documents = read_objects(filename)
    from aiqueue.queue.oversights import oversights
    from aiqueue.queue.store import configuration

    places = {name_of(document.record): document.where for document in documents if document.record is not None}
    with writing(keep=not dry_run) as connection:
        changes = configuration.apply(connection, documents, claimed_by=claimed_by(), allow_drain=allow_drain)
        warnings = oversights(configuration.load(connection), places)
    for warning in warnings:
        say(f"warning: {warning}")
    if dry_run:
        say("dry run: nothing was changed")
    print_changes([(change.verb, change.name.kind, change.name.path) for change in changes], output, dry_run=dry_run)


def print_changes(changes: list[tuple[str, str, str]], output: ApplyOutput, *, dry_run: bool) -> None:
    """Print (verb, kind, path) of each object."""
    if output is ApplyOutput.TABLE:
        for verb, kind, path in changes:
            print(f"{kind.lower()}/{path} {verb}" + (" (dry run)" if dry_run else ""))
        return
    rows = [
        Row(f"{kind.lower()}/{path}", (), {"kind": kind, "name": path, "change": verb, "dryRun": dry_run})
        for verb, kind, path in changes
    ]
    (JsonPrinter() if output is ApplyOutput.JSON else NamePrinter()).print(Listing([Column("NAME")], rows))
