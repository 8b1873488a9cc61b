"""What a failure of Postgres means, as a sentence for whoever can mend it."""

from __future__ import annotations

import psycopg

_DISTRUSTED = ("certificate verify failed", "does not match host name", "root certificate file", "server does not support SSL")
READ_ONLY = "25006"
#: SQLSTATE, or the class that it begins with -> what it means. What the server said follows.
_MEANINGS = {
    READ_ONLY: "the ledger is read-only: see default_transaction_read_only, and whether this server is a standby",
    "25P03": "the ledger ended a session that stood still in the middle of a transaction",
    "25P04": "the ledger ended a session whose transaction took too long: see transaction_timeout",
    "40001": "the ledger could not bring this transaction in line with another, and took it back",
    "40P01": "the ledger took this transaction back, since it and another session waited for one another",
    "53100": "the disk of the ledger is full",
    "53300": "the ledger takes no more connections: see max_connections and the role's CONNECTION LIMIT",
    "53": "the ledger is out of resources",
    "54": "the ledger is at one of its limits: see whether its disk is full",
    "55P03": "somebody keeps a table or row of the ledger locked: pg_blocking_pids() in pg_stat_activity tells who",
    "57014": "the ledger did not finish a statement in time",
    "58": "the ledger's server has trouble with its files: see its log",
    "XX": "the ledger's server is in trouble: see its log",
}
_UNREACHABLE = "the ledger cannot be reached or ended the session"


def meaning(error: BaseException | None) -> str:
    """A sentence on an error of the driver: what it means, and what the server said of it."""
    state = getattr(error, "sqlstate", None) or ""
    meant = _MEANINGS.get(state) or _MEANINGS.get(state[:2])
    if meant is None:
        return f"{_UNREACHABLE}: {explained(error)}"
    return f"{meant} ({explained(error).partition(chr(10))[0]})"


def is_passing(error: BaseException | None) -> bool:
    """Whether it is about how the server fares rather than about the statement: the same may succeed another time."""
    state = getattr(error, "sqlstate", None) or ""
    return isinstance(error, psycopg.OperationalError) or state in _MEANINGS or state[:2] in _MEANINGS


def explained(error: BaseException | None) -> str:
    """What libpq says of a connection that failed, and what to do where it is about trust."""
    said = str(error).strip()
    if not any(sign in said for sign in _DISTRUSTED):
        return said
    return (
        f"{said}; the server must serve TLS with a certificate for its host name: name the file of the authority that signed it "
        "in PGSSLROOTCERT, or sslrootcert in the database URL"
    )
