"""Whether somebody who waits could have others put out, and if not why: facts, for `explain`.

Only what the policies, the classes and the present borrowing say is looked at. Whether those who could be asked would make room
enough, and whether the shares allow it, is the search's to find out (`preemption.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from aiqueue.admission.engine.buckets import Pending
from aiqueue.admission.engine.candidates import Asking, Candidate
from aiqueue.admission.engine.exposure import borrows_up_to
from aiqueue.admission.engine.instants import micros, moment
from aiqueue.admission.engine.runs import OpenRun
from aiqueue.admission.engine.tree import Pair, TenantNode
from aiqueue.queue.records import Decision
from aiqueue.queue.words import Reason, Reclaim, WithinTenant


@dataclass(frozen=True, slots=True)
class Prospects:
    """The runs that hold what somebody waits for, by what keeps it from having them put out.

    Attributes:
        tenant: whose work waits.
        within_tenant: its policy towards its own work.
        reclaim: its policy towards others.
        eligible: runs that it might have put out now, if that makes room enough and the shares allow it.
        protected: runs that it may not have put out before their minimal runtime lets them go.
        protected_until: when the first of these may be asked.
        not_preemptible: runs that it might have put out were it not for their class.
        leaving: runs that were told to end, or whose room somebody claims.
    """

    tenant: str
    within_tenant: WithinTenant
    reclaim: Reclaim
    eligible: int = 0
    protected: int = 0
    protected_until: datetime | None = None
    not_preemptible: int = 0
    leaving: int = 0


def prospects_of_waiting(
    pending: Pending, verdict: Decision, runs: Iterable[OpenRun], nodes: Mapping[str, TenantNode], now: datetime
) -> Prospects | None:
    """Those of a workload that waits for quota by this verdict; None where it waits for something else."""
    node = pending.bucket.route.node
    if verdict.reason is not Reason.WAITING_FOR_QUOTA or node is None:
        return None
    pairs = {(each.flavor, each.resource) for each in verdict.shortfalls}
    return prospects_of(Asking(node, (), pending.bucket.route.priority, pending.entry), pairs, runs, nodes, now)


def prospects_of(
    asking: Asking, pairs: Collection[Pair], runs: Iterable[OpenRun], nodes: Mapping[str, TenantNode], now: datetime
) -> Prospects:
    """What the policies let somebody do about the runs of its tree.

    Args:
        asking: who waits; what it takes does not matter.
        pairs: the (flavor, resource) that it is short of.
        runs: all that are open.
        nodes: tenants by name.
        now: an aware datetime.
    """
    counts = dict.fromkeys(("eligible", "protected", "not_preemptible", "leaving"), 0)
    first: int | None = None
    lent: dict[str, bool] = {asking.leaf.name: True}
    for run in runs:
        node = nodes.get(run.tenant)
        if node is None or node.root is not asking.leaf.root:
            continue
        if not any((cell.flavor, cell.resource) in pairs for cell, _ in run.takes):
            continue
        if run.claimant is not None or run.evict_at is not None:
            counts["leaving"] += 1
            continue
        if node.name not in lent:
            lent[node.name] = borrows_up_to(node, asking.leaf, pairs)
        candidate = Candidate(run, node, (run.terms.priority, 0, -run.opened_us, run.workload.id, run.run_id))
        if not lent[node.name] or not asking.may_ask(candidate):
            continue
        if not run.terms.preemptible:
            counts["not_preemptible"] += 1
        elif (from_us := run.candidate_from_us()) > micros(now):
            counts["protected"] += 1
            first = from_us if first is None else min(first, from_us)
        else:
            counts["eligible"] += 1
    record = asking.leaf.record
    until = moment(first) if first is not None else None
    return Prospects(asking.leaf.name, record.within_tenant, record.reclaim, **counts, protected_until=until)
