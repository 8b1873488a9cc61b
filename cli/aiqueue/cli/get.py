"""`aiqueue get`: list what the ledger holds."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from aiqueue.cli.exits import WrongUsage, say
from aiqueue.cli.kinds import Kind, complete, find_kind, split_name
from aiqueue.cli.ledger import now_of, reading
from aiqueue.cli.printers import Listing, Output, PlainPrinter, TerminalPrinter, printer_for
from aiqueue.queue.errors import LedgerError, NotFound

if TYPE_CHECKING:
    from aiqueue.cli.listings import Answer, Query

WATCH_SECONDS = 2.0
#: Columns that time alone moves.
_PASSING = frozenset({"AGE", "WAITED", "OPENED", "RAN", "ENDS", "USAGE"})
#: A watch outlives a ledger that is away this many times in a row (about two minutes, the pause doubles).
WATCH_FAILURES = 6
MAX_LIMIT = 100_000


def get(
    kind: Annotated[
        str,
        typer.Argument(
            help="workloads, runs, claims, tenants, queues, classes, flavors, clusters, decisions or audit",
            autocompletion=complete,
        ),
    ],
    name: Annotated[str | None, typer.Argument(help="Only this one; also NAMESPACE/NAME.")] = None,
    *,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Only this namespace; all by default.")] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", "-A", help="All namespaces, which is the default.")
    ] = False,
    queue: Annotated[str | None, typer.Option(help="Only workloads of this queue.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only what belongs to this tenant; workloads: or to one below it.")] = None,
    state: Annotated[str | None, typer.Option(help="Only workloads in this state, or runs with this outcome.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is over, with the archive.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, max=MAX_LIMIT, help="At most this many; 500 by default.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o")] = Output.TABLE,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, and show changes, until interrupted.")] = False,
) -> None:
    """List workloads, runs, claims, tenants, queues, classes, flavors, clusters, decisions or the audit.

    Live workloads and open runs are shown unless --all, --state or a name asks for more.
    """
    found = find_kind(kind)
    if namespace is not None and all_namespaces:
        raise WrongUsage("-n and -A contradict each other: leave one out")
    namespace, name = split_name(found, name, namespace)
    given = {
        "name": name,
        "namespace": namespace,
        "queue": queue,
        "tenant": tenant,
        "state": state,
        "all": everything,
        "limit": limit,
    }
    for option, value in given.items():
        if value not in (None, False) and option not in found.options:
            what = "a name" if option == "name" else f"--{option}"
            raise WrongUsage(f"{what} does not apply to {found.plural}: leave it out")
    from aiqueue.cli.listings import Query

    query = Query(name, namespace, queue, tenant, state, everything)
    if limit is not None:
        query = Query(name, namespace, queue, tenant, state, everything, limit)
    if watch:
        if output not in (Output.TABLE, Output.WIDE):
            raise WrongUsage(f"--watch shows tables: leave out -o {output}")
        _watch(found, query, wide=output is Output.WIDE)
    else:
        _once(found, query, output)


def _once(kind: Kind, query: Query, output: Output) -> None:
    answer = _ask(kind, query)
    if not answer.listing.rows and query.name is not None:
        where = f"{query.namespace}/" if query.namespace else ""
        raise NotFound(f"there is no {kind.singular} {where}{query.name}")
    if answer.listing.rows or output in (Output.JSON, Output.YAML):
        printer_for(output).print(answer.listing)
    else:
        say(f"no {kind.plural} found")
    if answer.cut:
        say(f"only the first {query.limit} are shown: raise --limit or ask for less")


def _ask(kind: Kind, query: Query) -> Answer:
    from aiqueue.cli.listings import answer

    with reading() as connection:
        return answer(connection, kind.plural, query, now_of(connection))


def _watch(kind: Kind, query: Query, *, wide: bool) -> None:
    if sys.stdout.isatty():
        from rich.live import Live

        table = TerminalPrinter(wide=wide).table
        with Live(auto_refresh=False, screen=False) as live:
            _repeat(kind, query, lambda listing: live.update(table(listing, live.console.width), refresh=True))
    else:
        _repeat(kind, query, _Changes(wide=wide).show)


class _Changes:
    """In a pipe: the heading and all rows once, then each row that is new or differs in more than its ages."""

    def __init__(self, *, wide: bool) -> None:
        self._printer = PlainPrinter(wide=wide)
        self._known: dict[str, tuple[str, ...]] | None = None

    def show(self, listing: Listing) -> None:
        """Print what changed since the last time."""
        heading, *lines = self._printer.lines(listing)
        ages = {index for index, column in enumerate(listing.columns) if column.title in _PASSING}
        lasting = {row.name: tuple(cell for index, cell in enumerate(row.cells) if index not in ages) for row in listing.rows}
        if self._known is None:
            print(heading)
        for row, line in zip(listing.rows, lines, strict=True):
            if (self._known or {}).get(row.name) != lasting[row.name]:
                print(line)
        for gone in (self._known or {}).keys() - lasting.keys():
            print(f"{gone} is gone from the list")
        sys.stdout.flush()
        self._known = lasting


def _repeat(kind: Kind, query: Query, show: Callable[[Listing], None]) -> None:
    """Ask again and again. Ends by Ctrl-C, or when the ledger stays away."""
    failures = 0
    try:
        while True:
            try:
                show(_ask(kind, query).listing)
                failures = 0
            except LedgerError as error:
                failures += 1
                if failures > WATCH_FAILURES:
                    raise
                say(f"{error}; trying again")
            time.sleep(WATCH_SECONDS * 2**failures * random.uniform(0.9, 1.1))
    except KeyboardInterrupt:
        return
