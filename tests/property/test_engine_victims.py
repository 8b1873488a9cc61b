"""The search for victims, against the rules worked out the slow way, on trees and holders that are drawn."""

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from aiqueue.admission.engine.candidates import SHARE_RUNS
from aiqueue.queue.records import Quota, Tenant
from aiqueue.queue.words import Reclaim, WithinTenant
from fix_engine_quotas import Pair, Quotas, Tree
from fix_engine_shares import count, counted
from fix_engine_victims import FINAL, INITIAL, NOMINAL, WITHIN, Asker, Holder, Naive, Scene, Stage, Taken, allocations
from fix_engine_worlds import WEIGHTS, Dice

EXAMPLES = settings(max_examples=300)
LAYOUTS: tuple[tuple[Pair, ...], ...] = (
    (("a", "gpu"),),
    (("a", "gpu"), ("b", "gpu")),
    (("a", "gpu"), ("a", "cpu")),
    (("a", "gpu"), ("a", "cpu"), ("b", "gpu")),
)
TREES: tuple[dict[str, str | None], ...] = (
    {"lab": None, "t0": "lab", "t1": "lab", "t2": "lab"},
    {"lab": None, "wing": "lab", "t0": "wing", "t1": "wing", "t2": "lab"},
    {"lab": None, "wing": "lab", "bay": "wing", "t0": "bay", "t1": "bay", "t2": "wing", "t3": "lab"},
    {"lab": None, "wing": "lab", "hall": "lab", "t0": "wing", "t1": "wing", "t2": "hall", "t3": "hall"},
    {"t0": None, "t1": None},
)
LIMITS = (*[None] * 9, 0, 1, 3)
RECLAIMS = (*[Reclaim.ANY] * 6, Reclaim.LOWER_PRIORITY, Reclaim.LOWER_PRIORITY, Reclaim.NEVER)
LOWER, NEWER = WithinTenant.LOWER_PRIORITY, WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY
WITHINS = (LOWER, LOWER, NEWER, NEWER, WithinTenant.NEVER)


def tenants(dice: Dice, layout: tuple[Pair, ...]) -> dict[str, Tenant]:
    """A tree, or two tenants that stand alone."""
    found = {}
    for name, parent in dice.pick(TREES).items():
        nominals = (2, 0, 4, 1, 3, 0) if name.startswith("t") else (4, 2, 6, 0)
        quotas = tuple(
            Quota(*pair, dice.pick(nominals) * (3 if name == "lab" else 1), dice.pick(LIMITS), dice.pick(LIMITS))
            for pair in layout
        )
        if parent is None:
            quotas = tuple(replace(each, borrowing_limit=None, lending_limit=None) for each in quotas)
        within, reclaim = dice.pick(WITHINS), dice.pick(RECLAIMS)
        found[name] = Tenant(name, parent, dice.pick(WEIGHTS), quotas, within_tenant=within, reclaim=reclaim)
    return found


def amounts(dice: Dice, layout: tuple[Pair, ...], most: int) -> dict[Pair, int]:
    """Of one pair, or of several."""
    pairs = [pair for pair in layout if dice.below(3)] or [dice.pick(layout)]
    return {pair: 2 + dice.below(most) - dice.below(2) for pair in pairs}


def holders(dice: Dice, layout: tuple[Pair, ...], known: dict[str, Tenant], size: int) -> list[Holder]:
    """Runs, mostly such as fit; a few were told to end, and somebody may claim what these leave."""
    leaves = [name for name in known if name.startswith("t")]
    tree = Tree(known)
    found: list[Holder] = []
    for number in range(1, size + 1):
        held = Holder(
            number,
            dice.pick(leaves),
            amounts(dice, layout, 5),
            priority=dice.below(3),
            since=dice.below(4) * 100,
            created=dice.below(6),
            preemptible=dice.mostly(True, False, of=12),
            min_runtime=dice.mostly(0, 800, 801, 1200, of=16),
            grace=dice.pick((0, 0, 100)),
            checkpoint=dice.mostly(None, 70, of=5),
            attempt=dice.mostly(1, SHARE_RUNS, SHARE_RUNS + 1, of=8),
            evict_at=dice.mostly(None, 1000 + dice.below(3), of=8),
        )
        now = Quotas(tree, [(each.tenant, allocations(each.amounts)) for each in found])
        if now.fits(held.tenant, held.amounts) or not dice.below(12):
            found.append(held)
    leaving = [each.number for each in found if each.evict_at is not None]
    if leaving and not dice.below(3):
        claim = Holder(
            50, dice.pick(leaves), amounts(dice, layout, 5), dice.below(2), 900, dice.below(6), claims=tuple(leaving[:2])
        )
        found.append(replace(claim, preemptible=True))
    return found


def drawn(seed: int, most: int = 8) -> Scene:
    """A scene. Its figures are spread evenly, which those that hypothesis draws are not."""
    dice = Dice(Random(seed).randbytes(2000))
    layout = dice.pick(LAYOUTS)
    known = tenants(dice, layout)
    leaves = [name for name in known if name.startswith("t")]
    asker = Asker(dice.pick(leaves), amounts(dice, layout, 5), dice.pick((2, 2, 1, 0)), dice.below(6))
    found = Scene(known, tuple(holders(dice, layout, known, most)), asker)
    return replace(found, asker=replace(asker, amounts=more(dice, found)))


def more(dice: Dice, scene: Scene) -> dict[Pair, int]:
    """What is asked for, but of one pair mostly a little more than there is, as far as that can be had at all."""
    amounts = dict(scene.asker.amounts)
    pair = dice.pick(sorted(amounts))
    now = Naive(scene).quotas((), asked=False)
    short = max(0, now.available(scene.asker.tenant, pair)) + 1 + dice.below(3)
    if dice.below(8) and short <= now.potential(scene.asker.tenant, pair):
        amounts[pair] = short
    return amounts


def scenes(most: int = 8) -> st.SearchStrategy[Scene]:
    return st.integers(0, 2**40).map(partial(drawn, most=most))


def had(scene: Scene, found: list[Taken] | None) -> None:
    """Count what an example had."""
    rules = Counter(rule for _, rule in found or [])
    count(
        finds=found is not None,
        several=len(found or []) > 1,
        of_others=bool(rules[NOMINAL] + rules[FINAL] + rules[INITIAL]),
        by_shares=bool(rules[FINAL] + rules[INITIAL]),
        initial=bool(rules[INITIAL]),
        mixed=bool(rules[WITHIN]) and len(rules) > 1,
        leaving=bool(rules[None]),
        put_out_often=any(
            scene.holder(number).attempt > SHARE_RUNS for number, rule in found or [] if rule in (WITHIN, NOMINAL)
        ),
        beside_claims=found is not None and any(each.claims is not None for each in scene.holders),
    )


@counted(finds=20, several=2, of_others=8, by_shares=5, initial=1, mixed=1, leaving=4, put_out_often=1, beside_claims=2)
@EXAMPLES
@given(scenes(16))
def test_it_finds_what_the_rules_say(scene: Scene) -> None:
    """The same victims in the same order by the same rules; and wherever there are some, there was hope."""
    stage = Stage(scene)
    hopeful, found = stage.hopeful(), stage.find()
    assert found == Naive(scene).search()
    assert hopeful or found is None
    had(scene, found)


@counted(finds=20, several=3)
@EXAMPLES
@given(scenes(12))
def test_nothing_is_left_behind(scene: Scene) -> None:
    """The tree is as it was, so that whoever asks again hears the same."""
    stage = Stage(scene)
    before = stage.usage()
    stage.hopeful()
    assert stage.usage() == before
    found = stage.find()
    assert stage.usage() == before
    assert stage.find() == found
    stage.candidates = stage.anew()
    assert stage.find() == found
    had(scene, found)


@counted(finds=20, several=2, by_shares=5)
@EXAMPLES
@given(scenes())
def test_what_it_finds_is_legal_makes_room_and_no_part_of_it_is(scene: Scene) -> None:
    found, naive = Stage(scene).find(), Naive(scene)
    if found is not None:
        assert naive.legal(found)
        assert naive.fits([number for number, _ in found])
        assert len(found) > 6 or not naive.lesser(found)
    had(scene, found)


# It comes to an end.


@dataclass
class Struggle:
    """Workloads that never end, and of which each takes what it can get; who is put out leaves at once and asks again.

    Attributes:
        running: by number.
        evictions: how often somebody was put out.
        by_shares: how often each was by the rules on shares.
    """

    tenants: dict[str, Tenant]
    workloads: list[Holder]
    running: dict[int, Holder] = field(default_factory=dict)
    attempts: Counter[int] = field(default_factory=Counter)
    evictions: int = 0
    by_shares: Counter[int] = field(default_factory=Counter)
    now: float = 1000

    def step(self, order: list[Holder]) -> bool:
        """Let the first that can begin do so; answers whether any could."""
        for each in order:
            if each.number in self.running:
                continue
            asker = Asker(each.tenant, each.amounts, each.priority, each.created, each.number)
            stage = Stage(Scene(self.tenants, tuple(self.running.values()), asker, self.now))
            fits = all(cell.left() >= amount for cell, amount in stage.asking.takes)
            found = [] if fits else stage.find()
            if found is not None:
                for number, rule in found:
                    del self.running[number]
                    self.by_shares[number] += rule in (FINAL, INITIAL)
                self.evictions += len(found)
                self.attempts[each.number] += 1
                self.now += 1
                self.running[each.number] = replace(each, since=self.now, attempt=self.attempts[each.number])
                return True
        return False


def struggle(seed: int) -> Struggle:
    dice = Dice(Random(seed).randbytes(1000))
    layout = dice.pick(LAYOUTS)
    known = tenants(dice, layout)
    leaves = [name for name in known if name.startswith("t")]
    return Struggle(
        {name: replace(each, reclaim=Reclaim.ANY) for name, each in known.items()},
        [
            Holder(number, dice.pick(leaves), amounts(dice, layout, 8), priority=dice.below(3), created=dice.below(6))
            for number in range(1, 4 + dice.below(4))
        ],
    )


@counted(puts_out=12, several=3)
@EXAMPLES
@given(st.integers(0, 2**40), st.randoms())
def test_nobody_is_put_out_for_ever(seed: int, random: Random) -> None:
    """Whoever is asked first, workloads come to rest: each is put out by shares a few times, and so rarely by other rules between."""
    on = struggle(seed)
    bound = SHARE_RUNS * len(on.workloads) ** 2
    order = list(on.workloads)
    random.shuffle(order)
    while on.step(order):
        assert on.evictions <= bound
        assert max(on.by_shares.values(), default=0) <= SHARE_RUNS
        random.shuffle(order)
    count(puts_out=on.evictions > 0, several=on.evictions > 1)
