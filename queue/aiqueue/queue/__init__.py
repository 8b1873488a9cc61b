"""The ledger: configuration, queue, decisions and usage as rows in Postgres.

Purpose: the one place where what was asked, decided and used is true. `words`, `records`, `observations`, `units` and `errors` are
the domain and know no database; `documents` and `consistency` read and check what administrators write; `tables` and `store` are
the rows and the transactions over them, named in the domain's words; `settings` is what a process may be told.

States: of a workload and of a run in `words`; who changes them is said where it is done (`store.observing`, `store.plans`).

Invariants:
- quota is taken where a run is opened and given back where it is closed, nowhere else: usage is a sum over open runs;
- a workload is (cluster, uid); it has at most one open run, and (workload, attempt) names a run for ever;
- every write of a controller is fenced by its term (`store.leadership`);
- every change of the configuration bumps the revision and leaves an audit row in the same transaction (`store.configuration`);
- amounts are integers in base units, times are aware UTC with microseconds.

Failure modes: Postgres away is a `LedgerError` and nothing was written; a lost connection at COMMIT is resolved by looking up the
Plan (`store.plans.was_committed`); a schema of another version is refused (`aiqueue.migrations.check`).
"""
