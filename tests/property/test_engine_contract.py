"""The contract: who is put out for whom, when, and by which right; and nobody for nothing."""

from dataclasses import replace
from itertools import combinations

from hypothesis import event, given, settings

from aiqueue.admission.engine import Plan
from aiqueue.queue.records import Allocation, Claim, Workload
from aiqueue.queue.words import PreemptionRule, RunOutcome
from fix_engine_contracts import PLAIN, struggles
from fix_engine_ledger import Before, played, told
from fix_engine_rights import Replay, Rights, Turn, candidate_from, class_of, deadline
from fix_engine_shares import count, counted
from fix_engine_worlds import History

MOST_VICTIMS = 6  # of those whose subsets are all tried

#: More than elsewhere: who is put out by shares is rare.
EXAMPLES = settings(max_examples=300)


@counted(preempts=20, deep=10)
@EXAMPLES
@given(struggles(edits=True))
def test_nobody_is_put_out_but_by_contract_and_for_a_claim(history: History) -> None:
    ledger = played(history)
    for before, plan, eviction in told(ledger, RunOutcome.PREEMPTED):
        run = before.runs[eviction.run_id]
        cls = class_of(before.configuration, run.workload)
        assert cls.preemptible
        assert plan.now >= candidate_from(cls, run)
        assert eviction.evict_at == deadline(cls, run, plan.now)
        assert run.evict_at is None
        assert (eviction.workload_id, eviction.attempt) == (run.workload.id, run.attempt)
        [claim] = [claim for claim in plan.claims if claim.workload_id == eviction.preempted_by]
        assert run.id in claim.run_ids
        claimant = before.pending[claim.workload_id]
        assert Rights(before.configuration, claim.tenant, claimant).allowed(run)
        assert eviction.rule is not None
        assert (eviction.rule is PreemptionRule.WITHIN_TENANT) == (run.tenant == claim.tenant)
        assert f"{claimant.namespace}/{claimant.name}" in eviction.message
        assert claim.tenant in eviction.message
    for before, plan in zip(ledger.befores, ledger.plans, strict=True):
        check_once(before, plan)
    count(**ledger.had())


def check_once(before: Before, plan: Plan) -> None:
    """Each is told once, waited for by one claim, and what a claim waits for is told to end."""
    evicted = [eviction.run_id for eviction in plan.evictions]
    assert len(set(evicted)) == len(evicted)
    assert all(before.runs[run_id].evict_at is None for run_id in evicted)
    claimants = [claim.workload_id for claim in plan.claims]
    assert len(set(claimants)) == len(claimants)
    assert not set(claimants) & {admission.workload.id for admission in plan.admissions}
    assert not set(claimants) & set(plan.withdrawn_claims)
    known = {each.workload_id: each for each in before.claims.values()} | {each.workload_id: each for each in plan.claims}
    ended = {*plan.withdrawn_claims, *(admission.workload.id for admission in plan.admissions)}
    waited = [run_id for number, claim in known.items() if number not in ended for run_id in claim.run_ids]
    open_ones = [run_id for run_id in waited if run_id in before.runs]
    assert len(set(open_ones)) == len(open_ones)
    for claim in plan.claims:
        assert claim.claimed_at == plan.now
        for run_id in claim.run_ids:
            assert run_id in evicted or run_id not in before.runs or before.runs[run_id].evict_at is not None


def least(claim: Claim, workload: Workload) -> list[Allocation]:
    """What a claim would take at the least size that its workload makes do with."""
    counts = {each.name: min(each.min_count or each.count, each.count) for each in workload.pod_sets}
    return [
        replace(each, amount=each.amount // claim.counts[each.pod_set] * counts[each.pod_set]) for each in claim.allocations
    ]


def single(before: Before, plan: Plan) -> tuple[Claim, Replay, list[Turn]] | None:
    """The one claim that a Plan makes, where it does nothing else, and those who make room for it in their turns."""
    if len(plan.claims) != 1 or plan.admissions or plan.withdrawn_claims:
        return None
    [claim] = plan.claims
    held = [each for each in before.claims.values() if each.workload_id != claim.workload_id]
    waited = {run_id for each in held for run_id in each.run_ids}
    runs = {number: run for number, run in before.runs.items() if number not in waited}
    if any(run.tenant not in before.configuration.tenants for run in runs.values()):
        return None
    workload = before.pending[claim.workload_id]
    rights = Rights(before.configuration, claim.tenant, workload)
    replay = Replay(rights, least(claim, workload), [(each.tenant, each.allocations) for each in held], runs)
    rules = {each.run_id: each.rule for each in plan.evictions if each.preempted_by == claim.workload_id}
    leaving: list[Turn] = [(runs[number], None) for number in claim.run_ids if number in runs and number not in rules]
    return claim, replay, leaving + [(runs[number], rule) for number, rule in rules.items()]


@counted(alone=15, preempts=20, WithinNominal=2, WithinTenant=5, FinalShare=1, InitialShare=1)
@EXAMPLES
@given(struggles(PLAIN, adopts=False))
def test_each_is_put_out_by_its_right_when_its_turn_comes_and_nobody_for_nothing(history: History) -> None:
    check_turns(history)


@counted(alone=15, preempts=20)
@EXAMPLES
@given(struggles(replace(PLAIN, elastic=True), adopts=False))
def test_for_elastic_work_nobody_is_put_out_but_for_the_least_it_makes_do_with(history: History) -> None:
    check_turns(history)


def check_turns(history: History) -> None:
    """Where a Plan makes one claim and nothing else, so that the turns are known. No fewer of them would do, by the same rights."""
    ledger = played(history)
    alone = False
    for before, plan in zip(ledger.befores, ledger.plans, strict=True):
        found = single(before, plan)
        if found is None:
            continue
        alone = True
        claim, replay, turns = found
        event(f"victims {min(len(turns), 6)}")
        assert replay.legal(turns)
        gone = [run.id for run, _ in turns]
        assert replay.fits(gone)
        assert replace(replay, place=claim.allocations).fits(gone)
        for size in range(len(turns)) if len(turns) <= MOST_VICTIMS else ():
            for fewer in combinations(turns, size):
                assert not (replay.fits([run.id for run, _ in fewer]) and replay.legal(fewer)), "fewer would do"
    count(alone=alone, **ledger.had())
