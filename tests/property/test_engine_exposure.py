"""What is said of who could be put out, and by whom, covers whatever the search for victims does."""

from dataclasses import replace
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from aiqueue.admission.engine.exposure import exposure_of
from aiqueue.admission.engine.prospects import prospects_of
from aiqueue.queue.records import Quota, Tenant
from aiqueue.queue.words import Reclaim, WithinTenant
from fix_builders import at
from fix_engine_shares import count, counted
from fix_engine_victims import Asker, Holder, Scene, Stage

TREES: tuple[dict[str, str | None], ...] = (
    {"lab": None, "t0": "lab", "t1": "lab", "t2": "lab"},
    {"lab": None, "wing": "lab", "t0": "wing", "t1": "wing", "t2": "lab"},
    {"lab": None, "wing": "lab", "hall": "lab", "t0": "wing", "t1": "wing", "t2": "hall"},
)
PAIRS = (("a", "gpu"), ("b", "gpu"))
LEAVES = ("t0", "t1", "t2")


def tenants(dice: Random) -> dict[str, Tenant]:
    found = {}
    for name, parent in dice.choice(TREES).items():
        nominals = range(6) if name in LEAVES else (0, 0, 4)
        quotas = tuple(Quota(*pair, dice.choice(nominals)) for pair in PAIRS)
        reclaim = dice.choice((Reclaim.ANY, Reclaim.ANY, *Reclaim))
        found[name] = Tenant(name, parent, quotas=quotas, within_tenant=dice.choice(list(WithinTenant)), reclaim=reclaim)
    return found


def holder(dice: Random, number: int) -> Holder:
    return Holder(
        number,
        dice.choice(LEAVES),
        {pair: dice.randint(1, 4) for pair in dice.choice((PAIRS[:1], PAIRS[:1], PAIRS[1:], PAIRS))},
        priority=dice.randint(0, 2),
        since=dice.choice((0, 100, 900)),
        created=dice.randint(0, 3),
        preemptible=dice.random() < 0.8,
        min_runtime=dice.choice((0, 0, 0, 100, 101, 1001)),
        evict_at=1010 if dice.random() < 0.1 else None,
    )


def scene(seed: int) -> Scene:
    """Its figures are spread evenly, which those that hypothesis draws are not."""
    dice = Random(seed)
    found = Scene(
        tenants(dice),
        tuple(holder(dice, number) for number in range(1, dice.randint(3, 9))),
        Asker(dice.choice(LEAVES), {PAIRS[0]: 1}, dice.randint(0, 2), dice.randint(0, 3)),
    )
    free = Stage(found).asking.leaf.cell(PAIRS[0]).left()  # a little more than there is
    return replace(found, asker=replace(found.asker, amounts={PAIRS[0]: max(0, free) + dice.randint(1, 2)}))


@counted(finds=15, others=5, none=15)
@settings(max_examples=500)
@given(st.integers(0, 2**40).map(scene))
def test_whoever_is_put_out_was_said_to_be_exposed(scene: Scene) -> None:
    stage = Stage(scene)
    asking, now = stage.asking, at(scene.now)
    needed = {(cell.flavor, cell.resource) for cell, amount in asking.takes if cell.left() < amount}
    told = {run_id: exposure_of(run, stage.nodes, now) for run_id, run in stage.runs.open.items()}
    prospects = prospects_of(asking, needed, stage.runs.open.values(), stage.nodes, now)
    victims = stage.find()
    for number, rule in victims or ():
        exposure, tenant = told[number], scene.holder(number).tenant
        if rule is None:
            assert exposure.evict_at is not None
            continue
        assert exposure.preemptible
        assert exposure.candidate_from is not None
        assert exposure.candidate_from <= now
        if tenant == scene.asker.tenant:
            newer = exposure.by_tenant is WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY
            assert exposure.by_tenant is not WithinTenant.NEVER
            assert scene.asker.priority > exposure.priority or (newer and scene.asker.priority == exposure.priority)
        else:
            taker = next(each for each in exposure.takers if each.tenant == scene.asker.tenant)
            assert taker.above is None or scene.asker.priority > taker.above
    assert prospects.eligible + prospects.leaving >= len(victims or ())
    count(
        finds=victims is not None,
        others=any(scene.holder(number).tenant != scene.asker.tenant and rule for number, rule in victims or ()),
        none=not prospects.eligible and not prospects.leaving,
    )
