"""The figures of a run of the benchmark: of the executor and of the ledger, which share the machine's clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from baseline import world
from baseline.ledger import Kept, Limits, Span, held, sweep
from baseline.orders import Outcome
from stand.places import LEAVES, PLACES
from stand.printing import percentile

#: A create that was sent later than this after it was due was late.
LATE_SECONDS = 0.1
#: Cores of all leaf tenants together.
TOTAL_CPU = world.NOMINAL_CPU * len(PLACES)
LIMITS = Limits(
    leaf=(world.NOMINAL_CPU + world.BORROWING_CPU) * world.MILLI,
    tree=world.NOMINAL_CPU * LEAVES * world.MILLI,
    tree_of=world.TREE_OF,
)


def wall(outcome: Outcome) -> float:
    """Seconds from when the first create was due to the end of the last Job."""
    return max(lived.done for lived in outcome.jobs)


def lateness(due: Sequence[world.Due], outcome: Outcome) -> Mapping[str, float]:
    """How long after they were due creates were sent; none is left out."""
    late = [lived.sent - each.seconds for each, lived in zip(due, outcome.jobs, strict=True)]
    return {
        "late": sum(each > LATE_SECONDS for each in late),
        **{f"p{percent}_ms": round(percentile(late, percent) * 1000, 1) for percent in (50, 99)},
        "max_ms": round(max(late) * 1000, 1),
        "last_sent_seconds": round(max(lived.sent for lived in outcome.jobs), 2),
        "last_due_seconds": round(max(each.seconds for each in due), 2),
    }


def _summary(values: Sequence[float]) -> Mapping[str, float]:
    return {
        "mean": round(sum(values) / len(values), 3),
        **{f"p{percent}": round(percentile(values, percent), 3) for percent in (50, 99)},
        "max": round(max(values), 3),
    }


def waits(due: Sequence[world.Due], outcome: Outcome, kept: Sequence[Kept]) -> Mapping[str, Any]:
    """Seconds to the first admission by class: from the create to the unsuspend that the watch saw, and as the ledger has it."""
    seen: dict[str, list[float]] = defaultdict(list)
    kept_of: dict[str, list[float]] = defaultdict(list)
    ends: dict[str, list[float]] = defaultdict(list)
    for each, lived in zip(due, outcome.jobs, strict=True):
        name = world.KINDS[each.kind].name
        seen[name].append(lived.unsuspended - lived.sent)
        ends[name].append(lived.done - lived.sent)
    for run in kept:
        if run.attempt == 1:
            kept_of[run.class_name].append(run.opened_at - run.observed_at)
    return {
        name: {
            "create_to_unsuspended": _summary(seen[name]),
            "observed_to_run_opened": _summary(kept_of[name]),
            "create_to_done": _summary(ends[name]),
        }
        for name in seen
    }


def use(due: Sequence[world.Due], outcome: Outcome, kept: Sequence[Kept]) -> Mapping[str, Any]:
    """The share of the quota that was used, over the wall time; fails if anybody ever held more than it may.

    `ledger` counts from when quota was taken to when it was given back, `executor` while the executor ran Jobs, `work` what Jobs needed,
    without what was lost by evictions and what came late.

    Raises:
        HarnessError: a tenant held more than its limit.
    """
    all_there_was = wall(outcome) * TOTAL_CPU
    runs = [
        Span(begin, end, each.place.tenant, world.KINDS[each.kind].cpu * world.MILLI)
        for each, lived in zip(due, outcome.jobs, strict=True)
        for begin, end in lived.spans
    ]
    by_ledger, by_executor = sweep(held(kept), LIMITS), sweep(runs, LIMITS)
    return {
        "ledger": round(by_ledger.integral / world.MILLI / all_there_was, 3),
        "executor": round(by_executor.integral / world.MILLI / all_there_was, 3),
        "work": round(world.cpu_seconds(due) / all_there_was, 3),
        "most_cpu_of_leaf": by_ledger.most_of_leaf / world.MILLI,
        "most_cpu_of_tree": by_ledger.most_of_tree / world.MILLI,
        "never_exceeded": True,
    }


def holding(due: Sequence[world.Due], outcome: Outcome, kept: Sequence[Kept]) -> Mapping[str, Any]:
    """Where the time goes in which the last run of each Job holds quota, in seconds by class.

    Until the watch saw it unsuspended, until the executor said that it was complete, and until the ledger had its quota back.
    """
    last = {run.job: run for run in kept if run.outcome == "Finished"}
    parts: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for each, lived in zip(due, outcome.jobs, strict=True):
        run = last[f"{each.place.namespace}/{each.name}"]
        begin, end = (outcome.began + when for when in lived.spans[-1])
        parts[run.class_name].append((begin - run.opened_at, end - begin, run.closed_at - end))
    return {
        name: {
            what: _summary(values)
            for what, values in zip(
                ("opened_to_unsuspended", "unsuspended_to_ended", "ended_to_closed"), zip(*some, strict=True), strict=True
            )
        }
        for name, some in parts.items()
    }


def admissions(kept: Sequence[Kept]) -> Mapping[str, Any]:
    """How often Jobs were let in and put out."""
    attempts: Counter[str] = Counter()
    for run in kept:
        attempts[run.job] = max(attempts[run.job], run.attempt)
    evicted = [run for run in kept if run.outcome == "Preempted"]
    other = Counter(run.outcome for run in kept if run.outcome not in ("Finished", "Preempted"))
    return {
        "admissions": len(kept),
        "evictions": len(evicted),
        "evictions_by_rule": dict(Counter(str(run.rule) for run in evicted)),
        "evictions_by_class": dict(Counter(run.class_name for run in evicted)),
        "never_started": sum(run.started_at is None for run in evicted),
        "other_ends": dict(other),
        "jobs_by_attempts": {str(number): count for number, count in sorted(Counter(attempts.values()).items())},
        "seconds_to_give_back": _summary([run.closed_at - run.opened_at for run in evicted]) if evicted else {},
    }
