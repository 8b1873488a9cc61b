"""What the ledger tells of a run of the benchmark, and that nobody ever had more than its quota."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.queue.database import transaction
from stand.parts import Stand

_RUNS = """
SELECT r.id, w.namespace || '/' || w.name, w.class_name, t.name, w.state, r.attempt, r.outcome, r.evict_rule,
       extract(epoch FROM w.observed_at)::float8, extract(epoch FROM r.opened_at)::float8,
       extract(epoch FROM r.started_at)::float8, extract(epoch FROM r.closed_at)::float8,
       (SELECT coalesce(sum(a.amount), 0) FROM allocation a WHERE a.run_id = r.id AND a.resource = 'cpu')::bigint
  FROM run r JOIN workload w ON w.id = r.workload_id JOIN tenant t ON t.id = r.tenant_id
 ORDER BY r.id
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A closed run as the ledger has it. Times are seconds since the epoch, `amount` is in millicores."""

    run: int
    job: str
    class_name: str
    tenant: str
    attempt: int
    outcome: str
    rule: str | None
    observed_at: float
    opened_at: float
    started_at: float | None
    closed_at: float
    amount: int


def read(ground: Stand, jobs: int) -> list[Kept]:
    """All runs.

    Raises:
        HarnessError: one is open, or not every workload is Finished.
    """
    found = []
    with transaction(ground.ledger) as connection:
        for run, job, class_name, tenant, state, attempt, outcome, rule, *times, amount in connection.execute(text(_RUNS)):
            observed_at, opened_at, started_at, closed_at = times
            if closed_at is None:
                raise HarnessError(f"run {run} of Job {job} is open in the ledger, though the Job has completed")
            if state != "Finished":
                raise HarnessError(f"Job {job} has completed, but its workload is {state} in the ledger")
            found.append(
                Kept(
                    run, job, class_name, tenant, attempt, outcome, rule, observed_at, opened_at, started_at, closed_at, amount
                )
            )
    finished = {kept.job for kept in found if kept.outcome == "Finished"}
    if len(finished) != jobs:
        raise HarnessError(f"of {jobs} Jobs {len(finished)} have a run that is Finished in the ledger")
    return found


@dataclass(frozen=True, slots=True)
class Span:
    """Something is held by a leaf tenant from one moment to another."""

    begin: float
    end: float
    tenant: str
    amount: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a leaf tenant may hold, and a tree all in all; and the tree of each leaf."""

    leaf: int
    tree: int
    tree_of: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Swept:
    """The most that any leaf tenant and any tree held at one moment, and what all held, integrated over time."""

    most_of_leaf: int
    most_of_tree: int
    integral: float


def sweep(spans: Iterable[Span], limits: Limits) -> Swept:
    """Go through all moments at which something was taken or given back. At one moment what is given back is so first.

    Raises:
        HarnessError: a leaf tenant or a tree held more than its limit.
    """
    moments: list[tuple[float, int, str]] = []
    integral = 0.0
    for span in spans:
        moments += [(span.begin, span.amount, span.tenant), (span.end, -span.amount, span.tenant)]
        integral += (span.end - span.begin) * span.amount
    leaves: dict[str, int] = defaultdict(int)
    trees: dict[str, int] = defaultdict(int)
    most_of_leaf = most_of_tree = 0
    # What is given back is less than nothing, so it sorts first.
    for when, amount, tenant in sorted(moments):
        tree = limits.tree_of[tenant]
        leaves[tenant] += amount
        trees[tree] += amount
        for name, held, most in ((tenant, leaves[tenant], limits.leaf), (tree, trees[tree], limits.tree)):
            if held > most:
                raise HarnessError(f"at {when:.6f} tenant {name} held {held} millicores of {most} that it may hold at most")
        most_of_leaf = max(most_of_leaf, leaves[tenant])
        most_of_tree = max(most_of_tree, trees[tree])
    return Swept(most_of_leaf, most_of_tree, integral)


def held(kept: Sequence[Kept]) -> list[Span]:
    """From when each run was opened to when it was closed."""
    return [Span(each.opened_at, each.closed_at, each.tenant, each.amount) for each in kept]
