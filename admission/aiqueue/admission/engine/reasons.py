"""The sentences: for each reason its message, what would change it, and the evidence; and for each eviction why.

A sentence holds only what the verdict rests on, so it changes when a figure in it changed and at no other time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction

from aiqueue.queue.records import Claim, Decision, Holder, Shortfall, Workload
from aiqueue.queue.units import format_amount, format_duration
from aiqueue.queue.words import ObjectState, PreemptionRule, Reason

MAX_HOLDERS = 5
MAX_VICTIMS = 5
RELEASE = 'the annotation aiqueue.dev/hold set to "false"'
NEXT_LOOK = "nothing is needed: it is looked at next"


def _amount(shortfall: Shortfall, amount: int) -> str:
    return f"{format_amount(shortfall.resource, amount)} {shortfall.resource}"


def by_flavor(shortfalls: Sequence[Shortfall]) -> dict[str, list[Shortfall]]:
    """Shortfalls of each flavor, in the order tried."""
    found: dict[str, list[Shortfall]] = {}
    for each in shortfalls:
        found.setdefault(each.flavor, []).append(each)
    return found


def least_short(shortfalls: Sequence[Shortfall]) -> Shortfall:
    """Of the flavor that lacks the least part of what is requested, the resource that lacks most; the first of equals."""
    worst = [max(of_one, key=_part) for of_one in by_flavor(shortfalls).values()]
    return min(worst, key=_part)


def _part(shortfall: Shortfall) -> Fraction:
    return Fraction(shortfall.short, shortfall.requested)


def not_covered(tenant: str, shape: str, pod_set: str, resource: str, listed: Sequence[str]) -> Decision:
    """An extended resource that no quota of the tenant lists."""
    known = f"; it has quota for {', '.join(listed)}" if listed else "; it has no quota at all"
    return Decision(
        Reason.RESOURCE_NOT_COVERED,
        f"pod set {pod_set} requests {resource}, and tenant {tenant} has no quota for that{known}",
        f"a quota for {resource} in tenant {tenant}, or a request without it",
        tenant,
        shape,
        details={"pod_set": pod_set, "resource": resource},
    )


def no_matching_flavor(tenant: str, shape: str, pod_set: str, refused: Sequence[tuple[str, str]]) -> Decision:
    """Pods that may run on none of the flavors; `refused` is (flavor, why)."""
    return Decision(
        Reason.NO_MATCHING_FLAVOR,
        f"pod set {pod_set} may run on no flavor of tenant {tenant}: " + "; ".join(f"{name}: {why}" for name, why in refused),
        f"a toleration, node selector or affinity that lets pod set {pod_set} run on {' or '.join(name for name, _ in refused)}",
        tenant,
        shape,
        details={"pod_set": pod_set, "flavors": dict(refused)},
    )


def no_matching_flavors_together(tenant: str, shape: str, clashes: Sequence[tuple[str, str, str]]) -> Decision:
    """Pods that need two flavors at once, all of which contradict each other; `clashes` is (pod set, flavor, flavor)."""
    pod_set = clashes[0][0]
    pairs = "; ".join(f"{one} and {other}" for name, one, other in clashes if name == pod_set)
    return Decision(
        Reason.NO_MATCHING_FLAVOR,
        f"pod set {pod_set} needs two flavors of tenant {tenant} at once and no node has the labels of both: {pairs}",
        f"flavors in tenant {tenant} whose node labels go together, or quota for all that pod set {pod_set} requests in one flavor",
        tenant,
        shape,
        details={"pod_set": pod_set, "contradicting": [[one, other] for name, one, other in clashes if name == pod_set]},
    )


def exceeds_ceiling(tenant: str, shape: str, shortfalls: Sequence[Shortfall], *, together: bool) -> Decision:
    """More than the tenant could ever use; `together`: only counting the other pod sets of the workload too."""
    first = least_short(shortfalls)
    others = [
        f"{flavor}: {_amount(worst, worst.short)} too much"
        for flavor, of_one in by_flavor(shortfalls).items()
        if flavor != first.flavor and (worst := max(of_one, key=_part))
    ]
    whole = ", counting all pod sets," if together else ""
    return Decision(
        Reason.EXCEEDS_CEILING,
        f"needs {_amount(first, first.requested)} of flavor {first.flavor}{whole} and tenant {tenant} can never have more than "
        f"{format_amount(first.resource, first.available)}: exceeds it by {format_amount(first.resource, first.short)}"
        + "".join(f"; {each}" for each in others),
        f"{_amount(first, first.short)} of {first.flavor} less requested, or that much more quota in tenant {tenant}",
        tenant,
        shape,
        shortfalls=tuple(shortfalls),
        details={"ceiling": first.available, "exceeds_by": first.short},
    )


def waiting(
    tenant: str,
    shape: str,
    shortfalls: Sequence[Shortfall],
    *,
    nominal: int,
    ceiling: int,
    freed_in: str,
    holders: Sequence[Holder],
) -> Decision:
    """No room now. `nominal` and `ceiling` are those of the least short flavor's resource, `freed_in` where room must come from."""
    first = least_short(shortfalls)
    others = [
        f"{flavor}: short by {_amount(worst, worst.short)}"
        for flavor, of_one in by_flavor(shortfalls).items()
        if flavor != first.flavor and (worst := max(of_one, key=_part))
    ]
    resource = first.resource
    return Decision(
        Reason.WAITING_FOR_QUOTA,
        f"needs {_amount(first, first.requested)} of flavor {first.flavor}, tenant {tenant} has "
        f"{format_amount(resource, first.available)} of {format_amount(resource, ceiling)} free: "
        f"short by {format_amount(resource, first.short)}" + "".join(f"; {each}" for each in others),
        f"{format_amount(resource, first.short)} more {resource} of {first.flavor} freed in {freed_in}, "
        f"or its nominal raised to {format_amount(resource, nominal + first.short)}"
        + (f" in {tenant}" if freed_in != tenant else ""),
        tenant,
        shape,
        shortfalls=tuple(shortfalls),
        holders=tuple(holders),
    )


def behind_head(tenant: str, shape: str, head: Workload) -> Decision:
    """A Strict tenant whose head waits for quota."""
    name = f"{head.namespace}/{head.name}"
    return Decision(
        Reason.BEHIND_HEAD,
        f"tenant {tenant} is Strict and its head {name} waits for quota: nothing behind it is admitted",
        f"{name} admitted or gone, a higher priority than it has, or tenant {tenant} made BestEffort",
        tenant,
        shape,
        details={"head": name, "head_id": head.id},
    )


def behind_starving_gang(tenant: str, shape: str, gang: Workload, starves_in: str, bound_seconds: int) -> Decision:
    """There is room, but a workload of this tenant, or of another it would borrow from, was passed over for as long as it may be."""
    name = f"{gang.namespace}/{gang.name}"
    waited = f"has waited for quota longer than the starvation bound {format_duration(bound_seconds)} of tenant {starves_in}"
    if starves_in == tenant:
        message = f"would fit, but {name} before it {waited}, and this would delay it further"
    else:
        message = f"would fit by borrowing, but {name} of tenant {starves_in} {waited}, and this would delay it further"
    own = "" if starves_in == tenant else f", quota of tenant {tenant} itself to run in"
    return Decision(
        Reason.BEHIND_STARVING_GANG,
        message,
        f"{name} admitted or gone{own}, or a longer starvationBound in tenant {starves_in}",
        tenant,
        shape,
        details={"gang": name, "gang_id": gang.id} | ({} if starves_in == tenant else {"gang_tenant": starves_in}),
    )


def behind_claim(tenant: str, shape: str, claimant: Workload, claimant_tenant: str) -> Decision:
    """It would fit, but runs are leaving that room, or have left it, for another workload."""
    name = f"{claimant.namespace}/{claimant.name}"
    of = "" if claimant_tenant == tenant else f" of tenant {claimant_tenant}"
    return Decision(
        Reason.BEHIND_CLAIM,
        f"would fit, but the room is being vacated for {name}{of}, which claims it",
        f"{name} admitted or gone, or more room than it claims",
        tenant,
        shape,
        details={"claimant": name, "claimant_id": claimant.id} | ({"claimant_tenant": claimant_tenant} if of else {}),
    )


def pending_evaluation(tenant: str, shape: str) -> Decision:
    """Not looked at since it came or something it waits for moved."""
    return Decision(
        Reason.PENDING_EVALUATION,
        "has not been looked at since it came or since something it waits for moved",
        NEXT_LOOK,
        tenant,
        shape,
    )


def tenant_closed(tenant: str, shape: str, closer: str, state: ObjectState, fault: str | None) -> Decision:
    """The tenant or one above it takes no work."""
    if fault is not None:
        message, change = f"tenant {closer} takes no work: {fault}", f"tenant {closer} given a parent that exists, or none"
    else:
        message, change = f"tenant {closer} is in state {state}", f"tenant {closer} set to Active"
    return Decision(Reason.TENANT_CLOSED, message, change, tenant, shape, details={"closed_by": closer})


def queue_not_found(namespace: str, queue: str) -> tuple[str, str]:
    """No such queue: message and what would change it."""
    return (
        f"there is no queue {queue} in namespace {namespace}",
        f"queue {namespace}/{queue} created, or the label aiqueue.dev/queue set to one that exists",
    )


def queue_leads_nowhere(queue: str, tenant: str, children: Sequence[str]) -> tuple[str, str]:
    """The queue's tenant does not exist, or is no leaf: message and what would change it."""
    why = f"which is no leaf: it has {', '.join(children)} under it" if children else "which does not exist"
    return f"queue {queue} feeds tenant {tenant}, {why}", f"queue {queue} pointed to a leaf tenant"


def queue_closed(queue: str, state: ObjectState) -> tuple[str, str]:
    """The queue takes no work: message and what would change it."""
    return f"queue {queue} is in state {state}", f"queue {queue} set to Active"


def class_unknown(name: str, queue: str) -> tuple[str, str]:
    """The class does not exist: message and what would change it."""
    return f"there is no class {name}, asked for through queue {queue}", f"class {name} created, or another class"


def class_not_allowed(name: str, queue: str, allowed: Sequence[str]) -> tuple[str, str]:
    """The class exists and the queue refuses it: message and what would change it."""
    choice = f"one of {', '.join(allowed)}" if allowed else "none"
    return (
        f"queue {queue} does not allow class {name}; it allows {choice}",
        f"an allowed class, or {name} allowed in queue {queue}",
    )


def held(requeues: int = 0, limit: int | None = None) -> tuple[str, str]:
    """Its owner, an operator or its class holds it: message and what would change it.

    Args:
        requeues: how often it was put back because its gang was not ready.
        limit: how often its class lets that be; None where nobody asks.
    """
    if limit is None or requeues <= limit:
        return "is held", "the hold released"
    often = f"its gang was not ready {requeues} time{'s' if requeues != 1 else ''}"
    return f"is held: {often}, and its class requeues it {limit} at most (requeueLimit)", RELEASE


def invalid(sentence: str) -> tuple[str, str]:
    """The request itself is wrong: message and what would change it."""
    return sentence, "the request corrected"


def backoff(until: datetime, requeues: int = 0, limit: int = 0) -> tuple[str, str]:
    """It waits after an eviction: message and what would change it.

    Args:
        until: when it may be admitted again.
        requeues: how often it was put back because its gang was not ready; 0 where that is not why it waits.
        limit: how often its class lets that be before it is held.
    """
    waits = f"waits after an eviction until {until.isoformat()}"
    if not requeues:
        return waits, "nothing but time"
    # More often than its class lets it: its owner released it while it still ran, or the limit was lowered meanwhile.
    often = f"requeue {requeues} of {limit} (requeueLimit)" if requeues <= limit else f"requeue {requeues}"
    return f"{waits}: its gang was not ready, {often}", f"time, or {RELEASE}"


def waiting_for_victims(claim: Claim, victims: Sequence[tuple[str, datetime]]) -> tuple[str, str]:
    """It claims room that runs are leaving: message and what would change it.

    Args:
        claim: its claim.
        victims: the runs that have not ended yet, as (namespace/name, when it has to end).
    """
    if not victims:
        return "the room it claims is vacated, and not wholly free for it yet", NEXT_LOOK
    dated = any(until.date() != claim.claimed_at.date() for _, until in victims)
    ordered = sorted(victims, key=lambda each: (each[1], each[0]))
    named = ", ".join(f"{name} until {_instant(until, dated=dated)}" for name, until in ordered[:MAX_VICTIMS])
    if len(ordered) == 1:
        return f"waits for one run to make room: {named}; past that its pods are still going", "that run over and its pods gone"
    more = len(ordered) - MAX_VICTIMS
    rest = f" and {more} more, the last until {_instant(ordered[-1][1], dated=dated)}" if more > 0 else ""
    return (
        f"waits for {len(ordered)} runs to make room: {named}{rest}; past that their pods are still going",
        "those runs over and their pods gone",
    )


def _instant(moment: datetime, *, dated: bool) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ" if dated else "%H:%M:%SZ")


def makes_room(
    claimant: Workload, tenant: str, rule: PreemptionRule, victim_tenant: str, *, equal_priority: bool = False
) -> str:
    """Why a run has to end for another workload: for whom, and by which right.

    Args:
        claimant: for whom.
        tenant: its own.
        rule: the right by which it takes the room.
        victim_tenant: that of the run.
        equal_priority: the two are of one tenant and priority, and the claimant is the older.
    """
    for_whom = f"makes room for {claimant.namespace}/{claimant.name} of tenant {tenant}"
    match rule:
        case PreemptionRule.WITHIN_TENANT if equal_priority:
            return f"{for_whom}: it has the same priority and is older"
        case PreemptionRule.WITHIN_TENANT:
            return f"{for_whom}: its priority is higher"
        case PreemptionRule.WITHIN_NOMINAL:
            return f"{for_whom}, which takes back its own nominal quota that tenant {victim_tenant} borrows"
        case PreemptionRule.FINAL_SHARE:
            return f"{for_whom}, whose share with it is no larger than the one tenant {victim_tenant} keeps without this run"
        case PreemptionRule.INITIAL_SHARE:
            return f"{for_whom}, whose share with it is smaller than the one tenant {victim_tenant} has with this run"


def time_is_up(limit_seconds: int) -> str:
    """Why a run has to end for good: it has lasted as long as it may."""
    return f"its time is up: this run may last no longer than {format_duration(limit_seconds)}"


def not_ready(timeout_seconds: int, *, again: bool) -> str:
    """Why a run has to end at once: its gang was not ready in time, or not ready again."""
    once, name = ("again ", "recoveryTimeout") if again else ("", "readyTimeout")
    return f"its gang was not wholly ready {once}within {format_duration(timeout_seconds)} ({name})"
