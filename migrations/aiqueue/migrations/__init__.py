"""Schema of the ledger as Alembic versions, usable from a checkout and from the installed wheel.

Purpose: bring a database to the schema this program was built for (`upgrade`), or say that it is not there (`check`).

Invariants:
- one linear history with a single head; every version goes up and down;
- versions expand first and contract one release later, so that an older controller goes on working while they run;
- only one process migrates at a time (an advisory lock for the length of the transaction), and waits at most
  `LOCK_TIMEOUT_SECONDS` for a table lock, so a migration never keeps a controller waiting behind itself for long;
- where a controller works (`bring_up`), each version has a transaction of its own and is tried again, and what takes long on a large
  table is done ahead of it without keeping anybody waiting;
- roles are cluster-wide in Postgres: version 0001 creates them where they are missing, and going down revokes what they were
  granted in this database but leaves the roles, which other databases may use.

Failure modes: a failed version rolls back whole, and those before it stay. Whatever was done ahead of it changes nothing for a program of
any version, and is done already when it is tried again. A database that is newer than the program is refused by `upgrade`, `bring_up`
and `check`, with a sentence that names its revision.
"""

from __future__ import annotations

from aiqueue.migrations.live import bring_up
from aiqueue.migrations.schema import check, current_revision, head_revision, upgrade

__all__ = ["bring_up", "check", "current_revision", "head_revision", "upgrade"]
