"""`aiqueue demo`: see `aiqueue.cli.demonstration`."""

from __future__ import annotations

from typing import Annotated

import typer

from aiqueue.queue.errors import AiqueueError


class LibraryMissing(AiqueueError):
    """The extra `dev` is not installed."""


def run(
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the cluster and the database running, and say how to use them.")
    ] = False,
) -> None:
    """Show aiqueue at work on a cluster and a database of its own: about a minute, and all of it real.

    Everything told is read back from the API server or from Postgres, and checked. Exit codes: 0 all was as told; 1 something
    was not, said in a sentence. The first time builds the cluster's programs, which takes 5 to 10 minutes.
    """
    try:
        from aiqueue.cli.demonstration.performance import perform
    except ModuleNotFoundError as error:
        raise LibraryMissing(f"`aiqueue demo` needs the Python package {error.name!r}: pip install 'aiqueue[dev]'") from error
    perform(keep=keep)
