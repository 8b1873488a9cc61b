"""What the ledger says of itself: actions, claims, and what is counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta

from aiqueue.admission.doctor.differences import Difference, Mend
from aiqueue.admission.doctor.kinds import Kind, Severity
from aiqueue.admission.doctor.snapshots import ClusterSnapshot, LedgerSnapshot
from aiqueue.admission.engine.tree import build_tree
from aiqueue.queue.observations import Observation
from aiqueue.queue.store.doctor import OpenAction
from aiqueue.queue.units import format_amount
from aiqueue.queue.words import ActionKind, WorkloadState

OVERDUE_AFTER = timedelta(minutes=10)


def differences(ledger: LedgerSnapshot, cluster: ClusterSnapshot | None) -> Iterator[Difference]:
    """What differs within the ledger; `cluster` None judges no action by its Job."""
    jobs = {**cluster.at_large, **cluster.jobs} if cluster is not None else None
    for action in ledger.actions:
        why = _moot(ledger, action, jobs)
        if why is not None:
            yield _without_end(action, why)
        elif action.due_at + OVERDUE_AFTER < ledger.now:
            yield _overdue(ledger, action)
    yield from _claims(ledger)
    yield from _rates(ledger)
    yield from _usage(ledger)
    yield from ceilings(ledger)


def _moot(ledger: LedgerSnapshot, action: OpenAction, jobs: Mapping[str, Observation] | None) -> str | None:
    """Why nothing can carry out an action, None where something can."""
    if action.run_id is None and action.kind is not ActionKind.SUSPEND:
        return "it is of no run"
    if action.run_id is not None and not action.run_open and action.kind is not ActionKind.RESTORE:
        return f"its run {action.run_id} is closed"
    if jobs is None or action.run_open:  # what is to be done for an open run is judged with the run
        return None
    seen = jobs.get(action.uid)
    if seen is None or seen.finished is not None:
        return "its Job is gone" if seen is None else "its Job is over"
    ours = seen.stamp is not None and seen.stamp.ledger == ledger.uid
    if action.kind is ActionKind.SUSPEND:
        return "its Job is suspended already" if seen.suspended else None
    return None if ours and seen.suspended else "its Job does not hold what a run wrote, or runs again"


def _without_end(action: OpenAction, why: str) -> Difference:
    return Difference(
        Kind.ACTION_WITHOUT_END,
        Severity.WARNING,
        f"action/{action.namespace}/{action.name}/{action.id}",
        f"{action.kind} is still to be done, and nothing can do it: {why}",
        "somebody wrote to the ledger by hand, or nobody has led since",
        "the action is deleted",
        Mend.DELETE_ACTION,
        action.uid,
        action.id,
    )


def _overdue(ledger: LedgerSnapshot, action: OpenAction) -> Difference:
    led = not ledger.leader.expired
    return Difference(
        Kind.ACTION_OVERDUE,
        Severity.WARNING,
        f"action/{action.namespace}/{action.name}/{action.id}",
        f"{action.kind} was to be done at {action.due_at.isoformat()}, and is not",
        "the API server or a policy refuses it: the controller's log says why" if led else "no controller leads",
        "nothing is to be written: a controller tries it again when it begins to lead; if that does not help, see its log",
        Mend.LEAD_ANEW,
        action.uid,
        action.id,
    )


def _claims(ledger: LedgerSnapshot) -> Iterator[Difference]:
    for claim in ledger.claims:
        if claim.state is not WorkloadState.PENDING:
            kind, what = Kind.CLAIM_WITHOUT_CLAIMANT, f"it claims room and does not wait: it is {claim.state}"
        elif not claim.open_run_ids:
            kind, what = Kind.CLAIM_WITHOUT_RUNS, "it claims room, and all the runs that were to leave it have ended"
        else:
            continue
        yield Difference(
            kind,
            Severity.ERROR,
            f"claim/{claim.namespace}/{claim.name}",
            f"{what}; nobody else gets that room",
            "somebody wrote to the ledger by hand, or nobody has led since",
            "the claim is deleted: who needs room is decided anew",
            Mend.DELETE_CLAIM,
            row=claim.workload_id,
        )


def _rates(ledger: LedgerSnapshot) -> Iterator[Difference]:
    for fact in ledger.rates:
        rate, held = format_amount(fact.resource, fact.rate), format_amount(fact.resource, fact.held)
        yield Difference(
            Kind.RATE_DIFFERS,
            Severity.ERROR,
            f"queue/{fact.namespace}/{fact.queue}/{fact.resource}",
            f"its usage goes by {rate} of {fact.resource}, and its open runs hold {held}",
            "runs were opened or closed by hand, or by a controller of an older version",
            "the usage of the queue is counted again from its runs",
            Mend.COUNT_USAGE,
        )


def _usage(ledger: LedgerSnapshot) -> Iterator[Difference]:
    for key in sorted(ledger.held.keys() | ledger.engine_holds.keys()):
        held, counted = ledger.held.get(key, 0), ledger.engine_holds.get(key, 0)
        if held != counted:
            tenant, flavor, resource = key
            yield Difference(
                Kind.USAGE_DIFFERS,
                Severity.ERROR,
                f"tenant/{tenant}/{flavor}/{resource}",
                f"open runs hold {format_amount(resource, held)}, and the engine counts {format_amount(resource, counted)}",
                "a defect of aiqueue: an engine built anew from the ledger must count the same",
                "report it, with the output of this command",
            )


def ceilings(ledger: LedgerSnapshot) -> Iterator[Difference]:
    """Where more is used than the tree of tenants lets: nobody is put out for it, and nobody gets more."""
    nodes = build_tree(ledger.configuration.tenants)
    for (tenant, flavor, resource), amount in sorted(ledger.held.items()):
        if tenant in nodes:
            nodes[tenant].cell((flavor, resource)).add(amount)
    for name, node in sorted(nodes.items()):
        for (flavor, resource), cell in sorted(node.cells.items()):
            over = -cell.room()
            if over <= 0 or (cell.parent is not None and cell.borrowing_limit is None):
                continue
            yield Difference(
                Kind.ABOVE_CEILING,
                Severity.INFORMATION,
                f"tenant/{name}/{flavor}/{resource}",
                f"it uses {format_amount(resource, cell.usage)} of {resource} of {flavor},"
                f" {format_amount(resource, over)} more than it may",
                "its quota was lowered, or running Jobs were adopted",
                "nothing has to be done: nobody is put out for it, and nothing more is admitted until it is below",
            )
