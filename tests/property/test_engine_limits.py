"""What limits a run, and how much of elastic work is let in."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import event, given
from hypothesis import strategies as st

from aiqueue.queue.records import PodSet, Run, Workload
from aiqueue.queue.words import RunOutcome
from fix_engine_contracts import FAR, PLAIN, Contracts, struggles
from fix_engine_ledger import Before, played, told
from fix_engine_places import Places
from fix_engine_quotas import Holding, Quotas
from fix_engine_rights import class_of
from fix_engine_shares import count, counted
from fix_engine_worlds import EXAMPLES, History, Kind

LIMITED = Contracts(Kind(bounds=(FAR,), closed=False))
ELASTIC = replace(PLAIN, elastic=True)


def limit_of(before: Before, run: Run) -> int | None:
    """How long a run may last, in seconds."""
    cls = class_of(before.configuration, run.workload)
    left = None if cls.max_total_runtime_seconds is None else max(0, cls.max_total_runtime_seconds - run.workload.ran_seconds)
    limits = (cls.max_runtime_seconds, run.workload.max_runtime_seconds, left)
    return min((each for each in limits if each is not None), default=None)


@counted(expires=20, preempts=10)
@EXAMPLES
@given(struggles(LIMITED, adopts=False), st.integers(0, 90))
def test_whose_time_is_up_is_told_its_grace_before(history: History, later: int) -> None:
    ledger = played(history)
    ledger.now += later
    plan = ledger.decide()
    requeued = False
    for before, asked, eviction in told(ledger, RunOutcome.EXPIRED):
        run = before.runs[eviction.run_id]
        limit = limit_of(before, run)
        assert limit is not None
        assert eviction.evict_at == max(asked.now, run.opened_at + timedelta(seconds=limit))
        grace = timedelta(seconds=class_of(before.configuration, run.workload).grace_period_seconds)
        assert asked.now >= max(run.opened_at, eviction.evict_at - grace)
        assert run.evict_at is None
        assert (eviction.preempted_by, eviction.rule) == (None, None)
        requeued = requeued or run.workload.ran_seconds > 0
    opened_now = {run.id for run in ledger.runs.values()} - ledger.befores[-1].runs.keys()
    for run in ledger.runs.values():
        limit = limit_of(ledger.befores[-1], run)
        if limit is None or run.evict_at is not None:
            continue
        grace = timedelta(seconds=class_of(ledger.configuration, run.workload).grace_period_seconds)
        due = max(run.opened_at, run.opened_at + timedelta(seconds=limit) - grace)
        assert due > ledger.time or run.id in opened_now, "it should have been told"
        assert run.id in opened_now or (plan.wake_at is not None and plan.wake_at <= due)
    count(requeued=requeued, **ledger.had())


def sizes(workload: Workload) -> list[tuple[int, ...]]:
    """Pods of each pod set at each size, the full one first."""
    deltas = [each.count - min(each.min_count or each.count, each.count) for each in workload.pod_sets]
    steps = sum(deltas)
    return [
        tuple(each.count - delta * step // (steps or 1) for each, delta in zip(workload.pod_sets, deltas, strict=True))
        for step in range(steps + 1)
    ]


def at_size(workload: Workload, counts: tuple[int, ...]) -> Workload:
    sets: list[PodSet] = [replace(each, count=n, min_count=None) for each, n in zip(workload.pod_sets, counts, strict=True)]
    return replace(workload, pod_sets=tuple(sets))


@counted(elastic=20, smaller=3, preempts=10)
@EXAMPLES
@given(struggles(ELASTIC, adopts=False))
def test_elastic_work_is_let_in_at_the_largest_size_that_fits(history: History) -> None:
    """Looked at where nobody claims anything, so that it is plain what fits. Never less than it makes do with, never more than it asks."""
    ledger = played(history)
    smaller = elastic = False
    for before, plan in zip(ledger.befores, ledger.plans, strict=True):
        places = Places(before.configuration, Quotas(before.configuration.tenants))
        held: list[Holding] = [(run.tenant, run.allocations) for run in before.runs.values()]
        for admission in plan.admissions:
            workload = admission.workload
            known = sizes(workload)
            counts = tuple(admission.counts[each.name] for each in workload.pod_sets)
            assert counts in known
            elastic = elastic or len(known) > 1
            smaller = smaller or counts != known[0]
            if counts != known[0] and not before.claims and not plan.claims:
                larger = at_size(workload, known[known.index(counts) - 1])
                now = Quotas(places.idle.tree, held)
                assert next(places.preferred(admission.tenant, larger, now), None) is None, "a larger size fits"
                event("looked for a larger size")
            check_amounts(workload, admission.counts, {(a.pod_set, a.resource): a.amount for a in admission.allocations})
            held.append((admission.tenant, admission.allocations))
        for claim in plan.claims:
            assert tuple(claim.counts[each.name] for each in before.pending[claim.workload_id].pod_sets) in sizes(
                before.pending[claim.workload_id]
            )
    count(elastic=elastic, smaller=smaller, **ledger.had())


def check_amounts(workload: Workload, counts: dict[str, int], held: dict[tuple[str, str], int]) -> None:
    """What is held is that of so many pods."""
    for each in workload.pod_sets:
        for resource, amount in each.requests.items():
            if (each.name, resource) in held:
                assert held[each.name, resource] == amount * counts[each.name]


@counted(elastic=20, preempts=5)
@EXAMPLES
@given(struggles(ELASTIC, adopts=False))
def test_whoever_claimed_is_let_in_at_no_less_than_it_claimed(history: History) -> None:
    ledger = played(history)
    elastic = False
    for before, plan in zip(ledger.befores, ledger.plans, strict=True):
        for admission in plan.admissions:
            claim = before.claims.get(admission.workload.id)
            if claim is not None and before.claimants[claim.workload_id].shape == admission.workload.shape:
                assert all(admission.counts[name] >= n for name, n in claim.counts.items())
            elastic = elastic or len(sizes(admission.workload)) > 1
    count(elastic=elastic, **ledger.had())
