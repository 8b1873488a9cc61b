"""Admission: who may run, decided purely (`engine`), on one side of the Kubernetes wire (`kube`), by a process (`controller`).

Purpose: `engine` turns events into Plans and does no input or output; `kube` knows the wire and decides nothing; `controller` joins
them round the ledger, in three loops. Each package's docstring is its design note.

Invariants: arrows point from here to `aiqueue.queue` and never back; the engine imports neither of its neighbours, a database,
a clock nor a logger (import-linter contracts).

Failure modes: see `controller`.
"""
