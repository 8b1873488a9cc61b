"""Terms: who may write to the ledger as its controller.

A term is one row of `leader`. Every write of a controller begins with `fence`, which locks that row FOR SHARE as long as the
write lasts, so a take-over (which changes the row) comes wholly before or wholly after it. The lease lives in a row of its own:
renewals never wait for writes. Take-over: wait for the lease to run out, end the sessions that were registered for older terms,
raise the term. Leases are compared with the database's clock, and with nothing else. All other times are the ledger's, which goes on
steadily where that clock is stepped: sessions of a term carry the clock of its holder (`carry_clock`), and a renewal leaves in
`renewed_at` how late it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from aiqueue.queue.errors import LedgerError, TermLost
from aiqueue.queue.store.statements import text

_TERMINATE_WAIT_MILLISECONDS = 2000
#: No lease is longer (`Settings.lease_seconds`), so one that ends later than that was given before the clock was stepped back.
_LONGEST_LEASE_SECONDS = 60
_ASKING = "aiqueue_asking"


@dataclass(frozen=True, slots=True)
class Leader:
    """The current term as the ledger shows it."""

    term: int
    holder: str
    expires_at: datetime
    now: datetime
    renewed_at: datetime

    @property
    def expired(self) -> bool:
        """Whether the term may be taken over."""
        return self.expires_at <= self.now


def current(connection: Connection) -> Leader:
    """Read the current term; term 0 is nobody's."""
    row = connection.execute(
        text(
            "SELECT l.term, l.holder, s.expires_at, clock_timestamp(), s.renewed_at FROM leader l"
            " JOIN leader_lease s ON s.id = l.id WHERE l.id = 1"
        )
    ).one()
    return Leader(*row)


def take_over(connection: Connection, holder: str, lease_seconds: float, at: datetime | None = None) -> int | None:
    """Become leader if the lease ran out, in the caller's transaction. Returns the new term, None if the lease is still good.

    `at` is the ledger's time, as the caller knows it; that of the database's clock if he does not.

    Raises:
        LedgerError: a session of the old term could not be ended.
    """
    lease = connection.execute(
        text(
            "SELECT term, expires_at NOT BETWEEN clock_timestamp() AND clock_timestamp() + make_interval(secs => :longest)"
            " FROM leader_lease WHERE id = 1 FOR UPDATE SKIP LOCKED"
        ),
        {"longest": _LONGEST_LEASE_SECONDS},
    ).one_or_none()
    if lease is None or not lease[1]:
        return None
    old_term = int(lease[0])
    end_sessions(connection, old_term)
    term = connection.execute(
        text(
            "UPDATE leader SET term = term + 1, holder = :holder, elected_at = clock_timestamp() WHERE id = 1 AND term = :old"
            " RETURNING term"
        ),
        {"holder": holder, "old": old_term},
    ).scalar_one()
    connection.execute(
        text(
            "UPDATE leader_lease SET term = :term,"
            " renewed_at = greatest(renewed_at, coalesce(CAST(:at AS timestamptz), clock_timestamp())),"
            " expires_at = clock_timestamp() + make_interval(secs => :lease) WHERE id = 1"
        ),
        {"term": term, "lease": lease_seconds, "at": at},
    )
    connection.execute(text("DELETE FROM leader_backend WHERE term <= :old"), {"old": old_term})
    return int(term)


def end_sessions(connection: Connection, up_to_term: int) -> int:
    """End every database session but this one that was registered for a term of `up_to_term` or older. Returns how many.

    Raises:
        LedgerError: one of them does not end in time.
    """
    ended = connection.execute(
        text(
            "SELECT a.pid, pg_terminate_backend(a.pid, :wait) FROM leader_backend b"
            " JOIN pg_stat_activity a ON a.pid = b.pid AND a.backend_start = b.backend_start"
            " WHERE b.term <= :term AND a.pid <> pg_backend_pid()"
        ),
        {"wait": _TERMINATE_WAIT_MILLISECONDS, "term": up_to_term},
    ).all()
    stuck = [pid for pid, gone in ended if not gone]
    if stuck:
        raise LedgerError(f"database sessions {stuck} of an older term do not end: see pg_stat_activity")
    return len(ended)


def renew(connection: Connection, term: int, lease_seconds: float, at: datetime | None = None) -> datetime:
    """Extend the lease of `term` and return the database's clock. `at` is the ledger's time, as for `take_over`.

    Raises:
        TermLost: it is no longer the current term.
    """
    now = connection.execute(
        text(
            "UPDATE leader_lease SET"
            " renewed_at = greatest(renewed_at, coalesce(CAST(:at AS timestamptz), clock_timestamp())),"
            " expires_at = clock_timestamp() + make_interval(secs => :lease) WHERE id = 1 AND term = :term"
            " RETURNING clock_timestamp()"
        ),
        {"term": term, "lease": lease_seconds, "at": at},
    ).scalar_one_or_none()
    if now is None:
        raise TermLost(f"term {term} is over: another controller leads")
    return now  # type: ignore[no-any-return]  # the driver gives a datetime


def resign(connection: Connection, term: int) -> None:
    """Give the lease up so that a standby need not wait for it to run out. Does nothing if the term is over already."""
    connection.execute(
        text("UPDATE leader_lease SET expires_at = clock_timestamp() WHERE id = 1 AND term = :term"), {"term": term}
    )


def carry_clock(session: dict[Any, Any], asking: Callable[[], Callable[[datetime], datetime]]) -> None:
    """Have a session tell the time of a clock of its holder's.

    Args:
        session: its `info`.
        asking: called before the database's clock is read; what it returns makes the ledger's time of what was read.
    """
    session[_ASKING] = asking


def fence(connection: Connection, term: int) -> datetime:
    """Begin a write of `term`: hold off any take-over until the transaction ends. Returns the ledger's time.

    Raises:
        TermLost: it is no longer the current term.
    """
    asking = connection.info.get(_ASKING)
    time_of = None if asking is None else asking()
    row = connection.execute(
        text("SELECT clock_timestamp() FROM leader WHERE id = 1 AND term = :term FOR SHARE"), {"term": term}
    ).one_or_none()
    if row is None:
        raise TermLost(f"term {term} is over: another controller leads")
    read: datetime = row[0]
    return read if time_of is None else time_of(read)


REGISTER_SESSION = (
    "INSERT INTO leader_backend (term, pid, backend_start)"
    " SELECT %s, pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid() ON CONFLICT DO NOTHING"
)
