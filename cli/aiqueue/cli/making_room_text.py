"""Who makes room for whom, by which right and until when, as lines for people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from aiqueue.admission.engine.exposure import Exposure, Taker
from aiqueue.admission.engine.plan import Eviction
from aiqueue.admission.engine.prospects import Prospects
from aiqueue.cli.ages import age, human
from aiqueue.cli.listings.query import amounts, instant, until
from aiqueue.cli.printers import table_lines
from aiqueue.queue.store import views
from aiqueue.queue.units import format_amount, format_duration
from aiqueue.queue.words import Reclaim, WithinTenant

_SHOWN_TAKERS = 5


def claim_lines(claim: views.ClaimView, now: datetime) -> Iterator[str]:
    """What a workload claims, and who makes room for it."""
    yield ""
    held: dict[str, int] = {}
    for each in claim.allocations:
        held[each.resource] = held.get(each.resource, 0) + each.amount
    flavors = ", ".join(sorted({each.flavor for each in claim.allocations}))
    size = ", ".join(f"{count} pod{'s' if count != 1 else ''} of {name}" for name, count in sorted(claim.counts.items()))
    yield f"It claims {amounts(held)} of {flavors} for {size}, since {instant(claim.claimed_at)}, {age(claim.claimed_at, now)} ago"
    yield from table_lines(
        "Who makes room for it",
        ("WORKLOAD", "TENANT", "HOLDS", "STATE", "UNTIL", "BECAUSE"),
        [
            (
                f"{run.namespace}/{run.name}",
                run.tenant,
                _held(run),
                str(run.leaving(now) or run.outcome),
                instant(run.evict_at) or "",
                str(run.evict_rule or run.evict_outcome or run.outcome),
            )
            for run in claim.victims
        ],
    )


def _held(run: views.RunView) -> str:
    held: dict[str, int] = {}
    for (_, resource), amount in run.held.items():
        held[resource] = held.get(resource, 0) + amount
    return amounts(held)


def why_nobody(prospects: Prospects) -> str:
    """What keeps a workload that waits for quota from having others put out, in a sentence."""
    tenant, within, reclaim = prospects.tenant, prospects.within_tenant, prospects.reclaim
    if within is WithinTenant.NEVER and reclaim is Reclaim.NEVER:
        return f"withinTenant and reclaim of tenant {tenant} are Never"
    if prospects.eligible:
        return (
            f"{_runs(prospects.eligible)} might be asked, but that would not make room enough,"
            " or would leave their tenants a smaller share than its own"
        )
    if prospects.protected:
        return (
            f"{_runs(prospects.protected)} that might be asked {'is' if prospects.protected == 1 else 'are'} within"
            f" minRuntime, the first until {instant(prospects.protected_until)}"
        )
    kept = []
    if prospects.leaving:
        kept.append(f"{_runs(prospects.leaving)} that hold{'s' if prospects.leaving == 1 else ''} it must end already")
    if prospects.not_preemptible:
        kept.append(f"{_runs(prospects.not_preemptible)} that might be asked may not be preempted, by class")
    kept += [_nobody_within(tenant, within), _nobody_beyond(tenant, reclaim)]
    return "; ".join(kept)


def _nobody_within(tenant: str, within: WithinTenant) -> str:
    if within is WithinTenant.NEVER:
        return f"withinTenant of tenant {tenant} is Never"
    newer = " or is newer" if within is WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY else ""
    return f"nobody of tenant {tenant} who could be asked has less priority{newer}"


def _nobody_beyond(tenant: str, reclaim: Reclaim) -> str:
    if reclaim is Reclaim.NEVER:
        return f"reclaim of tenant {tenant} is Never"
    return "no other tenant borrows it" + (" for work of less priority" if reclaim is Reclaim.LOWER_PRIORITY else "")


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"


def exposure_lines(exposure: Exposure, tenant: str, now: datetime) -> Iterator[str]:
    """Who could have a run put out, and from when."""
    yield ""
    yield "Who could have it put out"
    if not exposure.preemptible or exposure.candidate_from is None:
        yield "  nobody: its class is not preemptible"
        return
    yield f"  its tenant   {_by_its_tenant(exposure)}"
    for taker in exposure.takers[:_SHOWN_TAKERS]:
        yield f"  others       {_by_another(taker, exposure, tenant)}"
    if len(exposure.takers) > _SHOWN_TAKERS:
        yield f"               and {len(exposure.takers) - _SHOWN_TAKERS} more tenants"
    if not exposure.takers:
        yield f"  others       nobody: tenant {tenant} borrows nothing of it that another may take back"
    if exposure.by_tenant is WithinTenant.NEVER and not exposure.takers:
        return
    if exposure.candidate_from > now:
        yield f"  from when    {instant(exposure.candidate_from)}, in {until(exposure.candidate_from, now)}: until then its minRuntime protects it"
    else:
        yield "  from when    now"
    yield f"  it would end by {instant(exposure.deadline)} at the soonest"


def _by_its_tenant(exposure: Exposure) -> str:
    match exposure.by_tenant:
        case WithinTenant.NEVER:
            return "nobody: withinTenant is Never"
        case WithinTenant.LOWER_PRIORITY:
            return f"work of a priority above {exposure.priority}"
        case WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY:
            return f"work of a priority above {exposure.priority}, or of {exposure.priority} that is older"


def _by_another(taker: Taker, exposure: Exposure, tenant: str) -> str:
    borrowed = {(each.flavor, each.resource): each.amount for each in exposure.borrowing if each.tenant == tenant}
    what = ", ".join(
        f"{format_amount(resource, borrowed.get((flavor, resource), 0))} {resource} of {flavor}"
        for flavor, resource in taker.pairs
    )
    above = "" if taker.above is None else f" for work of a priority above {taker.above}"
    return f"tenant {taker.tenant} may take back what tenant {tenant} borrows, {what}{above}"


def told_next(eviction: Eviction, now: datetime) -> str:
    """What the next Plan tells a run."""
    why = f"it {eviction.message}" if eviction.preempted_by is not None else eviction.message
    return f"The next Plan has it end by {instant(eviction.evict_at)}, in {until(eviction.evict_at, now)}: {why}"


def ending_lines(run: views.RunView, now: datetime) -> Iterator[str]:
    """Of an open run that has to end: by when, why, by which right, and how far that has come."""
    if run.evict_at is None and run.stopped_at is None:
        return
    if run.evict_at is not None:
        why = f": {run.evict_message}" if run.evict_message else ""
        by = f" for {run.preempted_by}" if run.preempted_by else ""
        yield f"  must end   by {instant(run.evict_at)} ({run.evict_outcome}{by}){why}"
    if run.evict_rule is not None:
        yield f"  by right   {run.evict_rule}"
    if run.evict_noticed_at is not None:
        yield f"  told       {instant(run.evict_noticed_at)}, {age(run.evict_noticed_at, now)} ago"
    yield f"  now        {_state(run, now)}"


def _state(run: views.RunView, now: datetime) -> str:
    match run.leaving(now):
        case views.Leaving.NOTICED:
            return f"it runs on for {until(run.evict_at, now)}"
        case views.Leaving.SUSPENDING:
            return "its time is over: its Job is being stopped"
        case _:
            return f"its Job was stopped at {instant(run.stopped_at)}, and its pods are going"


def eviction_lines(run: views.RunView) -> Iterator[str]:
    """How a run that is over was put out."""
    yield ""
    yield f"Run {run.attempt} was put out ({run.outcome})" + (f" for {run.preempted_by}" if run.preempted_by else "")
    if run.evict_message:
        yield f"  why        it {run.evict_message}" if run.preempted_by else f"  why        {run.evict_message}"
    if run.evict_rule is not None:
        yield f"  by right   {run.evict_rule}"
    if run.evict_noticed_at is not None:
        yield f"  told       {instant(run.evict_noticed_at)}, to end by {instant(run.evict_at)}"
    if run.stopped_at is not None:
        yield f"  stopped    {instant(run.stopped_at)}"
    yield f"  room free  {instant(run.closed_at)}"
    lost = run.lost_seconds
    if lost is not None:
        since = "its last checkpoint" if run.checkpoint_seconds else "its start"
        every = f", as it saves every {format_duration(run.checkpoint_seconds)}" if run.checkpoint_seconds else ""
        yield f"  lost       {human(lost)} of work since {since}{every}"
