"""From one look to all that differs in it. Pure: the same look gives the same differences, in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiqueue.admission.doctor import bookkeeping, jobs, surroundings
from aiqueue.admission.doctor.differences import Difference
from aiqueue.admission.doctor.kinds import Kind, Severity
from aiqueue.admission.doctor.snapshots import ClusterSnapshot, LedgerSnapshot, Look
from aiqueue.queue.store.clusters import Cluster
from aiqueue.queue.store.doctor import OpenAction

_ORDER = {kind: number for number, kind in enumerate(Kind)}
_SEVEREST = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFORMATION: 2}


def compare(look: Look, cluster_name: str, policies: Sequence[str] = ()) -> list[Difference]:
    """All that differs, the severest first, then by kind and name.

    Args:
        look: what was seen.
        cluster_name: what the ledger is to know the cluster by.
        policies: `Kind/name` of the admission policies and bindings that have to be there.
    """
    return sorted(
        _found(look, cluster_name, policies), key=lambda each: (_SEVEREST[each.severity], _ORDER[each.kind], each.object)
    )


def _found(look: Look, cluster_name: str, policies: Sequence[str]) -> Iterator[Difference]:
    ledger, cluster = look.ledger, look.cluster
    yield from surroundings.leading(ledger)
    if cluster is None:
        yield from bookkeeping.differences(ledger, None)
        return
    apart = surroundings.belonging(ledger, cluster, cluster_name)
    if apart is not None:
        yield apart
    if apart is None and ledger.cluster is not None:
        yield from surroundings.older(ledger, cluster)
        for case in cases(ledger, cluster, ledger.cluster):
            yield from jobs.differences(case)
    yield from bookkeeping.differences(ledger, cluster if apart is None else None)
    if apart is None or apart.kind is Kind.CLUSTER_UNKNOWN:
        yield from surroundings.around(ledger, cluster.surroundings, policies)


def cases(ledger: LedgerSnapshot, cluster: ClusterSnapshot, registered: Cluster) -> Iterator[jobs.Case]:
    """Every Job that the ledger or the cluster knows, by uid."""
    actions: dict[str, list[OpenAction]] = {}
    for action in ledger.actions:
        actions.setdefault(action.uid, []).append(action)
    for uid in sorted(ledger.known.keys() | cluster.jobs.keys()):
        yield jobs.Case(
            uid,
            ledger,
            registered,
            cluster.jobs.get(uid) or cluster.at_large.get(uid),
            ledger.known.get(uid),
            cluster.pods.get(uid, ()),
            actions.get(uid, ()),
        )
