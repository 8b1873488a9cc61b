"""A thousand things happen one after another, and then everything is over: nothing is held, claimed or remembered any more."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from aiqueue.admission.engine import WorkloadGone
from fix_engine_contracts import CONTRACT_BYTES, OPS, SIZE, USUAL, about, contracted, shapes_of
from fix_engine_ledger import Ledger
from fix_engine_quotas import Holding, Quotas, total
from fix_engine_shares import count, counted
from fix_engine_worlds import CONFIGURATION_BYTES, Op

STEPS = 1000
BATCH = 40  # runs are closed in lots of so many


def lived(dice: Random) -> Ledger:
    """A ledger after a thousand steps, in each of which what is let in was there."""
    ledger = Ledger(contracted(dice.randbytes(CONFIGURATION_BYTES + CONTRACT_BYTES), USUAL))
    known = shapes_of(dice.randbytes(4))
    for step in range(STEPS):
        what, data = dice.choice(OPS), dice.randbytes(SIZE)
        plans = len(ledger.plans)
        ledger.play(Op(what, about(what, 100 + step, data, known=known, kind=USUAL)))
        if len(ledger.plans) > plans:
            check_there(ledger)
    return ledger


def check_there(ledger: Ledger) -> None:
    before, plan = ledger.befores[-1], ledger.plans[-1]
    held: list[Holding] = [(run.tenant, run.allocations) for run in before.runs.values()]
    for admission in plan.admissions:
        now = Quotas(before.configuration.tenants, held)
        assert all(n <= now.available(admission.tenant, pair) for pair, n in total(admission.allocations).items())
        held.append((admission.tenant, admission.allocations))
    assert dict(ledger.engine.claims()) == ledger.claims


def end(ledger: Ledger) -> None:
    """Nothing comes any more: what runs ends, and so does what waits for it; what can never go is taken away."""
    for _ in range(100):
        ledger.decide()
        for run_id in sorted(ledger.runs)[:BATCH]:
            ledger.close(run_id, back=False)
        if not ledger.runs:
            break
    for number in sorted(ledger.pending):
        del ledger.pending[number]
        ledger.engine.observe(WorkloadGone(number))
    for _ in range(10):
        plan = ledger.decide()
        if plan.empty and plan.wake_at is None:
            return
        ledger.now += 1
    raise AssertionError("never comes to rest")


def check_forgotten(ledger: Ledger) -> None:
    """Also where nobody looks from outside."""
    engine = ledger.engine
    assert engine.usage() == {}
    assert dict(engine.claims()) == {}
    assert (ledger.shapes, ledger.overrides, ledger.claims) == ({}, {}, {})
    runs, backlog, claims = engine._runs, engine._backlog, engine._claims
    assert (runs.open, runs.of_workload, runs.of_tenant, runs.held) == ({}, {}, {}, {})
    assert (claims.of_workload, claims.lapsed) == ({}, {})
    assert backlog.pending == {}
    assert (len(backlog.alarms), len(backlog.turns)) == (0, 0)
    for node in engine._nodes.values():
        for cell in node.cells.values():
            assert (cell.usage, cell.actual, len(cell.lot), len(cell.holders)) == (0, None, 0, 0)


@counted(preempts=60, withdraws=40)
@settings(max_examples=8)
@given(st.integers(0, 2**32))
def test_a_thousand_steps_leave_nothing_behind(seed: int) -> None:
    ledger = lived(Random(seed))
    end(ledger)
    check_forgotten(ledger)
    count(**ledger.had())
