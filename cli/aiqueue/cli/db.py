"""`aiqueue db`: the schema of the ledger."""

from __future__ import annotations

import typer

from aiqueue.cli.exits import say
from aiqueue.cli.ledger import UPGRADE_TIMEOUT_SECONDS, migrating, reading

app = typer.Typer(help="Bring the ledger to the schema of this program, or check it.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Migrate the database to the schema of this program, each version in a transaction of its own, beneath controllers that work.

    The database must exist and the login must own it. The four roles are made if they are missing, no logins.
    """
    from aiqueue.migrations import bring_up, head_revision

    with migrating(timeout_seconds=UPGRADE_TIMEOUT_SECONDS) as database:
        before, after = bring_up(database, say=say)
    if before == after:
        print(f"{after}: nothing to do")
    else:
        print(f"{before or 'empty'} -> {after}")
    if after != head_revision():
        say("this is not the revision of this program: see `aiqueue db check`")


@app.command()
def check() -> None:
    """Say whether the ledger has the schema of this program; exit code 3 if not."""
    from aiqueue.migrations import check as check_schema

    with reading() as connection:
        print(check_schema(connection))
