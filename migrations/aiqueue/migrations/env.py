"""Alembic environment: runs on the connection it is given, in that connection's transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from aiqueue.queue import tables
from aiqueue.queue.database import open_database


def run(connection: Connection) -> None:
    """Run what the command asked for on `connection`."""
    context.configure(
        connection=connection, target_metadata=tables.Base.metadata, compare_type=True, compare_server_default=True
    )
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    url = context.config.get_main_option("sqlalchemy.url") or ""
    with open_database(url, application_name="aiqueue-migrate", pool_size=1).connect() as opened:
        run(opened)
        opened.commit()
