"""Small worlds for the engine, drawn by hypothesis: configurations, workloads and histories. `fix_engine_player` plays them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeVar

from hypothesis import settings
from hypothesis import strategies as st

from aiqueue.queue.records import (
    Class,
    Configuration,
    Flavor,
    PodSet,
    Queue,
    Quota,
    Taint,
    Tenant,
    Toleration,
    Workload,
    shape_of,
)
from aiqueue.queue.words import Fungibility, ObjectState, OrderKey, Queueing, Reclaim
from fix_builders import at

T = TypeVar("T")
EXAMPLES = settings(max_examples=200)
GPU = "example.com/gpu"
EPOCHS = 50  # workloads are created in this many seconds before the first decide
FLAVORS = {
    "a": Flavor("a", {"kind": "a"}),
    "b": Flavor("b", {"kind": "b", "zone": "z"}, (Taint("spot"),)),
    "c": Flavor("c", {"zone": "y"}),  # contradicts b
}
CLASSES = {"low": Class("low", -1), "high": Class("high", 5)}
LIMITS = (None, None, None, None, 0, 1, 2, 5)
WEIGHTS = (Fraction(1), Fraction(1), Fraction(2), Fraction(1, 2), Fraction(3), Fraction(0))
PRIORITY, USAGE, SUBMITTED = OrderKey.PRIORITY, OrderKey.USAGE, OrderKey.SUBMITTED
ORDERS = (
    (PRIORITY, USAGE, SUBMITTED),
    (USAGE, SUBMITTED),
    (USAGE, PRIORITY, SUBMITTED),
    (PRIORITY, SUBMITTED),
    (SUBMITTED,),
)
# flavor -> resources: one group, two groups, groups of which flavors contradict, groups with pods
LAYOUTS: tuple[dict[str, tuple[str, ...]], ...] = (
    {"a": (GPU,), "b": (GPU,)},
    {"a": (GPU,)},
    {"a": (GPU,), "b": (GPU,), "c": ("cpu",)},
    {"a": (GPU, "cpu"), "b": (GPU, "cpu")},
    {"a": (GPU, "pods"), "b": (GPU,), "c": (GPU,)},
    {"b": (GPU,), "c": ("cpu", "pods"), "a": ("cpu", "pods")},
)
# tenant -> parent
TREES: tuple[dict[str, str | None], ...] = (
    {"lab": None, "wing": "lab", "t0": "wing", "t1": "wing", "t2": "lab", "t3": "lab"},
    {"lab": None, "wing": "lab", "bay": "wing", "t0": "bay", "t1": "bay", "t2": "wing", "t3": "lab"},
    {"lab": None, "t0": "lab", "t1": "lab", "t2": "lab", "t3": "lab"},
    {"lab": None, "wing": "lab", "t0": "wing", "t1": "wing", "hall": None, "t2": "hall", "t3": "hall"},
    {"lab": None, "wing": "lab", "bay": "lab", "t0": "wing", "t1": "wing", "t2": "bay", "t3": "bay"},
    {"lab": None, "t0": "lab", "t1": "lab", "t2": None, "t3": "lab"},
)
ALONE: dict[str, str | None] = dict.fromkeys(("t0", "t1", "t2", "t3"))
DOORS = {"q0": "t0", "q1": "t1", "q2": "t2", "q3": "t0", "q4": "t3", "q5": "t1"}
BUSY = ("q0", "q3", "q0", "q3", "q1", "q5", "q1", "q5", "q0", "q3", "q1", "q5", "q2", "q4", "q2", "q4", "q0", "nowhere")
CONFIGURATION_BYTES, WORKLOAD_BYTES, SHAPE_BYTES = 300, 12, 12


class Dice:
    """Choices read from bytes that hypothesis draws at once, which is much faster than to draw each; zeros choose what is usual."""

    def __init__(self, data: bytes) -> None:
        self._data = iter(data)

    def below(self, bound: int) -> int:
        return next(self._data, 0) % bound

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def mostly(self, usual: T, *others: T, of: int = 20) -> T:
        """The usual value, and each of the others once in `of`."""
        return self.pick([usual] * (of - len(others)) + list(others))

    def state(self) -> ObjectState:
        return self.mostly(ObjectState.ACTIVE, ObjectState.HOLD, ObjectState.DRAIN, of=80)


@dataclass(frozen=True)
class Kind:
    """What configurations to draw: with these starvation bounds and policies, in trees or not (None: either), perhaps closed."""

    bounds: tuple[int, ...] = (40, 10**6, 0, 60)
    trees: bool | None = None
    orders: tuple[tuple[OrderKey, ...], ...] = ORDERS
    reclaims: tuple[Reclaim, ...] = (Reclaim.NEVER, Reclaim.ANY, Reclaim.LOWER_PRIORITY)
    closed: bool = True


def quotas(dice: Dice, layout: dict[str, tuple[str, ...]], nominals: Sequence[int]) -> tuple[Quota, ...]:
    """Mostly all flavors of the layout, in its order or the other way round, with limits."""
    chosen = list(layout)[dice.mostly(0, 1, of=6) :]
    if dice.mostly(False, True, of=4):
        chosen.reverse()
    return tuple(
        Quota(flavor, resource, dice.pick(nominals) * (2 if resource == "pods" else 1), dice.pick(LIMITS), dice.pick(LIMITS))
        for flavor in chosen
        for resource in layout[flavor]
    )


def tenants(dice: Dice, kind: Kind) -> dict[str, Tenant]:
    """Four leaves t0 to t3: alone, or in one or two trees of up to four levels."""
    layout = dice.pick(LAYOUTS)
    in_trees = kind.trees if kind.trees is not None else dice.mostly(True, False, of=6)
    found: dict[str, Tenant] = {}
    for name, parent in (dice.pick(TREES) if in_trees else ALONE).items():
        if not name.startswith("t"):
            own = quotas(dice, layout, [4, 2, 6, 0]) if dice.below(2) else ()
            found[name] = Tenant(
                name, parent, dice.pick(WEIGHTS), own, state=dice.state() if kind.closed else ObjectState.ACTIVE
            )
            continue
        found[name] = Tenant(
            name,
            parent,
            dice.pick(WEIGHTS),
            quotas(dice, layout, [3, 2, 4, 1, 6, 0, 5, 8]),
            dice.pick(list(Queueing) if name in {"t0", "t2"} else list(Queueing)[::-1]),
            dice.pick(kind.orders),
            dice.mostly(Fungibility.MAY_STOP_SEARCH, Fungibility.TRY_NEXT_FLAVOR, of=4),
            reclaim=dice.pick(kind.reclaims),
            state=dice.state() if kind.closed else ObjectState.ACTIVE,
            starvation_bound_seconds=dice.pick(kind.bounds),
            usage_half_life_seconds=dice.pick([7 * 86400, 30, 5]),
            usage_weights=dice.mostly({}, {GPU: Fraction(0)}, {"cpu": Fraction(5, 2)}, of=8),
        )
    return found


def configuration(data: bytes, kind: Kind) -> Configuration:
    """Tenants, and queues q0 to q5 that lead to them."""
    dice = Dice(data)
    revision = 1 + dice.below(200)
    known = tenants(dice, kind)
    found = {}
    for name, tenant in DOORS.items():
        found["ns", name] = Queue(
            "ns",
            name,
            tenant,
            dice.pick([Fraction(1), Fraction(1), Fraction(1), Fraction(3), Fraction(1, 2), Fraction(0)]),
            dice.mostly(None, "low", "high", of=10),
            dice.mostly(None, ("low",)),
            dice.state() if kind.closed else ObjectState.ACTIVE,
        )
    return Configuration(revision, FLAVORS, known, found, CLASSES)


def edited(known: Configuration, data: bytes) -> Configuration:
    """One thing is edited: a quota, a weight, an order, a bound; or a tenant or a queue is held or let go on."""
    dice = Dice(data)
    what = dice.below(8)
    records, queues_known = dict(known.tenants), dict(known.queues)
    if what == 0:
        key = dice.pick(sorted(queues_known))
        queues_known[key] = replace(queues_known[key], weight=dice.pick(WEIGHTS), state=other(queues_known[key].state, dice))
    else:
        tenant = records[dice.pick(sorted(records))]
        if what < 5 and tenant.quotas:
            which = dice.below(len(tenant.quotas))
            quota = replace(tenant.quotas[which], nominal=dice.below(9), lending_limit=dice.pick(LIMITS))
            quota = replace(quota, borrowing_limit=dice.pick(LIMITS))
            tenant = replace(tenant, quotas=(*tenant.quotas[:which], quota, *tenant.quotas[which + 1 :]))
        elif what == 5:
            tenant = replace(tenant, weight=dice.pick(WEIGHTS), usage_half_life_seconds=dice.pick([5, 60]))
        elif what == 6:
            tenant = replace(tenant, order=dice.pick(ORDERS), queueing=dice.pick(list(Queueing)))
        else:
            tenant = replace(tenant, state=other(tenant.state, dice))
        records[tenant.name] = tenant
    return replace(known, revision=known.revision + 1, tenants=records, queues=queues_known)


def other(state: ObjectState, dice: Dice) -> ObjectState:
    """Let go on what is held; else hold or drain it, now and then."""
    if state is not ObjectState.ACTIVE:
        return ObjectState.ACTIVE
    return dice.mostly(ObjectState.ACTIVE, ObjectState.HOLD, ObjectState.DRAIN, of=3)


def depth(known: Configuration) -> int:
    """Levels of tenants from a root down to the lowest that a queue leads to."""

    def levels(name: str) -> int:
        parent = known.tenants[name].parent
        return 1 if parent is None else 1 + levels(parent)

    return max(levels(queue.tenant) for queue in known.queues.values())


def pod_sets(data: bytes) -> tuple[PodSet, ...]:
    """One pod set, seldom two."""
    dice = Dice(data)
    found = []
    for name in ("main", "more")[: dice.mostly(1, 2, of=4)]:
        requests = {GPU: dice.pick([2, 1, 3, 4, 0])}
        if dice.mostly(False, True, of=3):
            requests[dice.mostly("cpu", "example.com/other", of=6)] = dice.below(4)
        selector: dict[str, str] = dice.mostly({}, {"kind": "b"}, {"zone": "z"}, of=8)
        tolerations = dice.mostly((Toleration("spot", "Exists"),), (), of=3)
        found.append(PodSet(name, 1 + dice.below(2), requests, None, selector, tolerations))
    return tuple(found)


def workload(number: int, data: bytes, shapes: Sequence[tuple[PodSet, ...]]) -> Workload:
    """Workload `number` of one of the shapes; mostly nothing keeps it back."""
    dice = Dice(data)
    sets = dice.pick(shapes)
    class_name = dice.mostly(None, "low", "high", "high", "ghost", of=15)
    created = at(dice.below(EPOCHS + 1))
    return Workload(
        id=number,
        uid=f"uid-{number}",
        namespace="ns",
        name=f"job-{number}",
        queue_name=dice.pick(BUSY),
        class_name=class_name,
        pod_sets=sets,
        shape=shape_of(sets, class_name),
        created_at=created,
        observed_at=created,
        held_by_owner=dice.mostly(False, True),
        invalid=dice.mostly(None, "parallelism is 0: write 1 or more", of=30),
        not_before=dice.mostly(None, at(EPOCHS + 5), at(EPOCHS + 30)),
    )


def configurations(kind: Kind) -> st.SearchStrategy[Configuration]:
    """One configuration."""
    return st.binary(min_size=CONFIGURATION_BYTES, max_size=CONFIGURATION_BYTES).map(lambda data: configuration(data, kind))


@st.composite
def shapes(draw: st.DrawFn) -> list[tuple[PodSet, ...]]:
    """A few."""
    data = draw(st.binary(min_size=3 * SHAPE_BYTES, max_size=3 * SHAPE_BYTES))
    return [pod_sets(data[start : start + SHAPE_BYTES]) for start in range(0, len(data), SHAPE_BYTES)]


@st.composite
def backlogs(draw: st.DrawFn, most: int = 12) -> list[Workload]:
    """Workloads of a few shapes."""
    known = draw(shapes())
    drawn = draw(st.lists(st.binary(min_size=WORKLOAD_BYTES, max_size=WORKLOAD_BYTES), min_size=4, max_size=most))
    return [workload(number, data, known) for number, data in enumerate(drawn, 1)]


@dataclass(frozen=True)
class Op:
    """One thing that happens: what, and what it is about."""

    what: str
    about: object = None


History = tuple[Configuration, list[Op]]
USUAL = (
    *("pend",) * 9,
    *("decide",) * 4,
    *("drop",) * 2,
    *("close",) * 3,
    *("gone", "back", "adopt", "hold", "used", "used"),
)

FIRST = (*("pend",) * 7, "used", "used")


@st.composite
def histories(
    draw: st.DrawFn, *, edits: bool = False, reconfigure: bool = False, adopts: bool = True, kind: Kind | None = None
) -> History:
    """A first configuration and what follows: work that comes and goes, and decides; the configuration edited or replaced."""
    kind = kind or Kind()
    first = draw(configurations(kind))
    known = draw(shapes())
    whats = USUAL + ("edit",) * 4 * edits + ("configure",) * reconfigure
    if not adopts:
        whats = tuple(what for what in whats if what != "adopt")
    size = 2 + WORKLOAD_BYTES
    ops = []
    for index, data in enumerate(draw(st.lists(st.binary(min_size=size, max_size=size), min_size=12, max_size=36))):
        what = FIRST[index] if index < len(FIRST) else whats[data[0] % len(whats)]
        about: object = data[1] % 21
        if what == "pend":
            about = workload(1 + data[1] % 24, data[2:], known)
        elif what == "used":
            about = (f"q{index % 2 if index < len(FIRST) else data[1] % len(DOORS)}", (data[2] + 1) * 4)
        elif what == "edit":
            about = data[1:]
        elif what == "configure":
            about = draw(configurations(kind))
        ops.append(Op(what, about))
    return first, ops
