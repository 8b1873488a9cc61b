"""Worlds in which work may have to make room for other work, drawn on top of those of `fix_engine_worlds`.

What is laid over: policies of tenants, contracts of classes, work that is elastic, saves itself or may run only so long; and
histories in which those who were told to end do so, early, in time or late.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from hypothesis import strategies as st

from aiqueue.queue.records import Class, Configuration, PodSet, Quota, Toleration, Workload, shape_of
from aiqueue.queue.words import OrderKey, Queueing, Reclaim, WithinTenant
from fix_engine_worlds import (
    CONFIGURATION_BYTES,
    DOORS,
    FLAVORS,
    GPU,
    ORDERS,
    PRIORITY,
    SHAPE_BYTES,
    SUBMITTED,
    WORKLOAD_BYTES,
    Dice,
    History,
    Kind,
    Op,
    configuration,
    pod_sets,
    workload,
)

CONTRACT_BYTES, SEED_BYTES = 160, 4
NAMES = ("low", "mid", "high", "top")
EARLY = ("low", None, "low", "mid", "low", None, "high")
LATE = ("high", "top", "mid", None, "high", "low", "top")
FAR = 10**6


@dataclass(frozen=True)
class Contracts:
    """What to lay over a configuration.

    Attributes:
        kind: of the configuration below.
        limits: whether classes limit how long work runs.
        elastic: whether work may do with fewer pods.
        protected: whether some classes are not preemptible or have a minimal runtime.
        best_effort: whether nobody is Strict.
        withins, reclaims: the policies that are drawn.
    """

    kind: Kind
    limits: bool = True
    elastic: bool = True
    protected: bool = True
    best_effort: bool = False
    withins: tuple[WithinTenant, ...] = (
        WithinTenant.LOWER_PRIORITY,
        WithinTenant.LOWER_PRIORITY,
        WithinTenant.LOWER_OR_NEWER_EQUAL_PRIORITY,
        WithinTenant.NEVER,
    )
    reclaims: tuple[Reclaim, ...] = (Reclaim.ANY, Reclaim.ANY, Reclaim.LOWER_PRIORITY, Reclaim.NEVER)


USUAL = Contracts(Kind(bounds=(FAR, FAR, FAR, 40)))
#: Nobody starves, nothing is closed, and time alone changes no order: what happens is preemption.
CALM = Contracts(
    Kind(bounds=(FAR,), orders=tuple(order for order in ORDERS if OrderKey.USAGE not in order), closed=False),
    limits=False,
)
#: The same, nobody reserves, and of each tenant whoever is let in first is so by priority and age.
PLAIN = replace(CALM, kind=replace(CALM.kind, orders=((PRIORITY, SUBMITTED),)), elastic=False, best_effort=True)


def classes(dice: Dice, kind: Contracts) -> dict[str, Class]:
    """Four, of rising priority."""
    found = {}
    for number, name in enumerate(NAMES):
        limited = kind.limits and not dice.below(12)
        found[name] = Class(
            name,
            5 * number - 5,
            preemptible=not kind.protected or dice.mostly(True, False, of=12),
            min_runtime_seconds=dice.mostly(0, 5, 40, of=10) if kind.protected else 0,
            grace_period_seconds=dice.pick([30, 0, 3, 10]),
            max_runtime_seconds=dice.pick([20, 60]) if limited else None,
            max_total_runtime_seconds=50 if limited and dice.below(2) else None,
        )
    return found


def contracted(data: bytes, kind: Contracts) -> Configuration:
    """A configuration with contracts laid over it."""
    known, dice = configuration(data[:CONFIGURATION_BYTES], kind.kind), Dice(data[CONFIGURATION_BYTES:])
    tenants = {}
    for name, tenant in known.tenants.items():
        quotas = tuple(scarce(quota, dice) for quota in tenant.quotas)
        policies = replace(tenant, quotas=quotas, within_tenant=dice.pick(kind.withins), reclaim=dice.pick(kind.reclaims))
        tenants[name] = replace(policies, queueing=Queueing.BEST_EFFORT) if kind.best_effort else policies
    queues = {
        key: replace(queue, default_class=dice.mostly(None, *NAMES[:3], of=6), allowed_classes=None)
        for key, queue in known.queues.items()
    }
    return Configuration(known.revision, FLAVORS, tenants, queues, classes(dice, kind))


def scarce(quota: Quota, dice: Dice) -> Quota:
    """Some half of a quota, and mostly no limits."""
    kept = dice.mostly(False, True, of=3)
    limits = (quota.borrowing_limit, quota.lending_limit) if kept else (None, None)
    return Quota(quota.flavor, quota.resource, (quota.nominal + 1) // 2 + dice.below(2), *limits)


def covered(pod_set: PodSet, dice: Dice) -> PodSet:
    """The same, asking for one to three GPUs a pod and for nothing that nobody has, and mostly going anywhere."""
    known = {name: amount for name, amount in pod_set.requests.items() if name in (GPU, "cpu")}
    picky = dice.mostly(False, True, of=6)
    return replace(
        pod_set,
        requests={**known, GPU: min(known[GPU], 3) or 1},
        node_selector=pod_set.node_selector if picky else {},
        tolerations=pod_set.tolerations if picky else (Toleration("spot", "Exists"),),
    )


def demanding(known: Workload, data: bytes, kind: Contracts, *, early: bool = False) -> Workload:
    """The same work under some class, mostly a low one if it is early, and perhaps elastic, saved now and then, or limited."""
    dice = Dice(data)
    class_name = dice.pick(EARLY if early else LATE)
    pod_sets = tuple(covered(each, dice) for each in known.pod_sets)
    pod_sets = elastic(pod_sets, dice) if kind.elastic else pod_sets
    return replace(
        known,
        class_name=class_name,
        pod_sets=pod_sets,
        shape=shape_of(pod_sets, class_name),
        queue_name=known.queue_name if known.queue_name in DOORS else "q0",
        checkpoint_seconds=dice.mostly(None, 7, 20, of=4),
        max_runtime_seconds=dice.mostly(None, 15, 60, of=12) if kind.limits else None,
        not_before=None,
        held_by_owner=False,
        invalid=None,
    )


def elastic(pod_sets: Sequence[PodSet], dice: Dice) -> tuple[PodSet, ...]:
    """Now and then a pod set makes do with fewer pods."""
    found = []
    for each in pod_sets:
        count = dice.mostly(each.count, each.count + 2, of=3)
        found.append(replace(each, count=count, min_count=dice.mostly(None, 1, count - 1 or 1, of=5)))
    return tuple(found)


def noise(data: bytes, size: int) -> bytes:
    """Many bytes from few: worlds differ in all things at once, and what is drawn for one is quickly drawn and made small."""
    return b"".join(sha256(data + bytes([part])).digest() for part in range(size // 32 + 1))[:size]


def seeds() -> st.SearchStrategy[bytes]:
    """What to make noise of."""
    return st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES)


def contracts(kind: Contracts) -> st.SearchStrategy[Configuration]:
    """One configuration."""
    return seeds().map(lambda data: contracted(noise(data, CONFIGURATION_BYTES + CONTRACT_BYTES), kind))


def shapes_of(data: bytes) -> list[tuple[PodSet, ...]]:
    """A few."""
    known = noise(data, 4 * SHAPE_BYTES)
    return [pod_sets(known[start : start + SHAPE_BYTES]) for start in range(0, len(known), SHAPE_BYTES)]


#: What happens beside work that comes: `leave` ends one who was told to end, `lapse` lets time pass to a deadline,
#: `forgo` has one who claims held or gone.
OPS = (
    *("pend",) * 9,
    *("decide",) * 7,
    *("leave",) * 4,
    *("drop", "close", "close", "back", "gone", "hold", "forgo", "lapse", "lapse", "used", "adopt"),
)
FIRST = (*("pend",) * 6, "decide", "pend", "pend", "pend", "decide")
SIZE = 2 + 2 * WORKLOAD_BYTES


@st.composite
def struggles(
    draw: st.DrawFn, kind: Contracts = USUAL, *, adopts: bool = True, edits: bool = False, least: int = 24, most: int = 48
) -> History:
    """A configuration, work that comes, and what becomes of it."""
    first = draw(contracts(kind))
    known = shapes_of(draw(seeds()))
    whats = tuple(what for what in OPS if adopts or what != "adopt") + ("edit",) * 3 * edits
    ops = []
    for index, seed in enumerate(draw(st.lists(seeds(), min_size=least, max_size=most))):
        data = noise(seed, SIZE)
        what = FIRST[index] if index < len(FIRST) else whats[data[0] % len(whats)]
        ops.append(Op(what, about(what, index, data, known=known, kind=kind)))
    return first, ops


def about(what: str, index: int, data: bytes, *, known: Sequence[tuple[PodSet, ...]], kind: Contracts) -> Any:
    """What operation number `index` is about."""
    if what == "pend":
        number = 1 + (index if index < len(FIRST) else data[1] % 24)
        plain = workload(number, data[2 : 2 + WORKLOAD_BYTES], known)
        return demanding(plain, data[2 + WORKLOAD_BYTES :], kind, early=index < FIRST.index("decide"))
    if what == "used":
        return (f"q{data[1] % len(DOORS)}", (data[2] + 1) * 4)
    return data[1:] if what == "edit" else data[1] % 21
