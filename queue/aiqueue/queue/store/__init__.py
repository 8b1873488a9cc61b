"""Transactions of the ledger, named in the domain's words.

Purpose: every read and write of the ledger is a function of this package; it takes a connection in the caller's transaction.

    configuration  what administrators write: load, apply, delete        views      what people read
    leadership     terms: take over, renew, resign, fence                clusters   identity of ledger and clusters
    observing      what was seen of Jobs, runs closed and adopted        plans      Plans: runs opened, decisions, actions
    actions        the outbox                                            known, work  live rows read back
    housekeeping   archive, old plans, what open runs hold as SQL sees it
    usage          decayed usage of queues: folded where runs are opened and closed, read, compared and repaired

Invariants: whatever a controller writes begins with `leadership.fence`; a batch is written whole or not at all; sets of rows go to
the server in one statement each, as JSON, so a write costs a fixed number of round trips.

Failure modes: rows that are not as the caller believes raise `LedgerConflict` and the caller rebuilds what it believes.
"""
