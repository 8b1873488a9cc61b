"""Claims: room that is being vacated is its preemptor's, nothing is over-committed meanwhile, and every claim ends."""

from hypothesis import event, given

from aiqueue.admission.engine import Plan
from aiqueue.queue.records import Claim, Configuration
from aiqueue.queue.words import Reason
from fix_engine_contracts import CALM, USUAL, struggles
from fix_engine_ledger import Ledger
from fix_engine_quotas import Holding, Quotas, total
from fix_engine_shares import count, counted
from fix_engine_worlds import EXAMPLES, History, Op


def steps(history: History) -> Ledger:
    """Play a history and check what holds after every Plan."""
    first, ops = history
    ledger = Ledger(first)
    for op in [*ops, Op("decide", 1)]:
        plans = len(ledger.plans)
        ledger.play(op)
        for plan in ledger.plans[plans:]:
            check_really_there(ledger, plan)
            check_told(ledger, plan)
    return ledger


def check_really_there(ledger: Ledger, plan: Plan) -> None:
    """Nothing is let in past what the algebra allows beside all that still runs, whether that makes room or not."""
    before = ledger.befores[-1]
    held: list[Holding] = [(run.tenant, run.allocations) for run in before.runs.values()]
    for admission in plan.admissions:
        now = Quotas(before.configuration.tenants, held)
        for pair, amount in total(admission.allocations).items():
            assert amount <= now.available(admission.tenant, pair)
        held.append((admission.tenant, admission.allocations))


def check_told(ledger: Ledger, plan: Plan) -> None:
    """What the engine knows of claims is what the ledger does, and who claims is told whom it waits for."""
    assert dict(ledger.engine.claims()) == ledger.claims
    assert ledger.claims.keys() <= ledger.pending.keys()
    for number in ledger.claims:
        verdict = ledger.engine.verdict(number)
        assert verdict is not None
        assert verdict.reason is Reason.WAITING_FOR_VICTIMS
    for number, verdict in ledger.verdicts().items():
        if verdict is not None and verdict.reason is Reason.WAITING_FOR_VICTIMS:
            assert number in ledger.claims
        if verdict is not None and verdict.reason is Reason.BEHIND_CLAIM:
            assert ledger.claims
            ledger.seen.add("behind a claim")
    if plan.wake_at != plan.now:
        assert {number: ledger.told(number) for number in ledger.pending} == ledger.verdicts()


def fits(ledger: Ledger, configuration: Configuration, claim: Claim) -> bool:
    """Whether a claim has its room, as agreed."""
    agreed = Quotas(configuration.tenants, ledger.agreed())
    return all(agreed.available(claim.tenant, pair) >= 0 for pair in total(claim.allocations))


@counted(preempts=20, borrows=20, deep=10, withdraws=5)
@EXAMPLES
@given(struggles(edits=True))
def test_nothing_is_let_in_that_is_not_there_and_who_claims_is_told(history: History) -> None:
    ledger = steps(history)
    count(**ledger.had(), behind_a_claim="behind a claim" in ledger.seen)


@counted(preempts=20, behind=2)
@EXAMPLES
@given(struggles(USUAL, adopts=False))
def test_nobody_slips_in_where_somebody_claims(history: History) -> None:
    """With all who make room gone and all who claim let in, there is room for everything: after every Plan, whoever it lets in."""
    first, ops = history
    ledger = Ledger(first)
    admits = False
    for op in [*ops, Op("decide", 1)]:
        plans = len(ledger.plans)
        ledger.play(op)
        for plan in ledger.plans[plans:]:
            for claim in ledger.claims.values():
                assert fits(ledger, first, claim)
            admits = admits or bool(plan.admissions and ledger.claims)
    reasons = {verdict.reason for verdict in ledger.verdicts().values() if verdict is not None}
    event(f"lets others in beside claims: {admits}")
    count(**ledger.had(), behind=Reason.BEHIND_CLAIM in reasons or admits)


def rest(ledger: Ledger) -> None:
    """Decide until there is nothing to do."""
    for _ in range(100):
        if ledger.decide().empty:
            return
    raise AssertionError("never comes to rest")


@counted(preempts=20, claims=5)
@EXAMPLES
@given(struggles(USUAL, adopts=False))
def test_who_claims_is_let_in_as_soon_as_its_room_is_there(history: History) -> None:
    """Once those are gone whom it waits for, and in the Plan that follows, whoever else waits for the same."""
    first, ops = history
    ledger = Ledger(first)
    for op in ops:
        ledger.play(op)
    rest(ledger)
    claims = dict(ledger.claims)
    for number in ledger.told_to_end():
        ledger.close(number, back=number % 2 == 0)
    plan = ledger.decide()
    admitted = {admission.workload.id: admission for admission in plan.admissions}
    assert claims.keys() <= admitted.keys()
    for number, claim in claims.items():
        assert admitted[number].tenant == claim.tenant
        assert all(admitted[number].counts[name] >= pods for name, pods in claim.counts.items())
    count(**ledger.had(), claims=bool(claims))


@counted(preempts=20, claims=5)
@EXAMPLES
@given(struggles(CALM, adopts=False))
def test_a_claim_ends_with_who_made_it(history: History) -> None:
    """Gone, or held: the next Plan withdraws it, and once those who were told have left nothing remembers it."""
    first, ops = history
    ledger = Ledger(first)
    for op in ops:
        ledger.play(op)
    rest(ledger)
    claims = dict(ledger.claims)
    for number in range(len(claims)):
        ledger.forgo(number)
    kept = {number for number in claims if number in ledger.pending and not ledger.pending[number].held_by_owner}
    plan = ledger.decide()
    assert set(plan.withdrawn_claims) >= claims.keys() - kept
    assert not ledger.claims.keys() & (claims.keys() - kept)
    count(**ledger.had(), claims=bool(claims))
