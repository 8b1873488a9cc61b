"""Worlds in which work may have to make room for other work, drawn on top of those of `fix_engine_worlds`.

What is laid over: policies of tenants, contracts of classes, work that is elastic, saves itself or may run only so long; and
histories in which those who were told to end do so, early, in time or late.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from aiqueue.queue.records import Class, Configuration, PodSet, Workload, shape_of
from aiqueue.queue.words import OrderKey, Queueing, Reclaim, WithinTenant
from fix_engine_worlds import (
    CONFIGURATION_BYTES,
    DOORS,
    FLAVORS,
    ORDERS,
    PRIORITY,
    SUBMITTED,
    WORKLOAD_BYTES,
    Dice,
    History,
    Kind,
    Op,
    configuration,
    shapes,
    workload,
)

CONTRACT_BYTES = 64
NAMES = ("low", "mid", "high", "top")
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
        limited = kind.limits and not dice.below(8)
        found[name] = Class(
            name,
            5 * number - 5,
            preemptible=not kind.protected or dice.mostly(True, False, of=8),
            min_runtime_seconds=dice.mostly(0, 5, 40, of=6) if kind.protected else 0,
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
        policies = replace(tenant, within_tenant=dice.pick(kind.withins), reclaim=dice.pick(kind.reclaims))
        tenants[name] = replace(policies, queueing=Queueing.BEST_EFFORT) if kind.best_effort else policies
    queues = {
        key: replace(queue, default_class=dice.mostly(None, *NAMES[:3], of=6), allowed_classes=None)
        for key, queue in known.queues.items()
    }
    return Configuration(known.revision, FLAVORS, tenants, queues, classes(dice, kind))


def demanding(known: Workload, data: bytes, kind: Contracts) -> Workload:
    """The same work under some class, and perhaps elastic, saved now and then, or limited."""
    dice = Dice(data)
    class_name = dice.pick([None, "low", "mid", "high", "top", "low", "high"])
    pod_sets = elastic(known.pod_sets, dice) if kind.elastic else known.pod_sets
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
    )


def elastic(pod_sets: Sequence[PodSet], dice: Dice) -> tuple[PodSet, ...]:
    """Now and then a pod set makes do with fewer pods."""
    found = []
    for each in pod_sets:
        count = dice.mostly(each.count, each.count + 2, of=3)
        found.append(replace(each, count=count, min_count=dice.mostly(None, 1, count - 1 or 1, of=5)))
    return tuple(found)


def contracts(kind: Contracts) -> st.SearchStrategy[Configuration]:
    """One configuration."""
    size = CONFIGURATION_BYTES + CONTRACT_BYTES
    return st.binary(min_size=size, max_size=size).map(lambda data: contracted(data, kind))


#: What happens beside work that comes: `leave` ends one who was told to end, `lapse` lets time pass to a deadline.
OPS = (
    *("pend",) * 8,
    *("decide",) * 7,
    *("leave",) * 4,
    *("drop", "close", "close", "back", "gone", "hold", "lapse", "lapse", "used", "adopt"),
)
FIRST = ("pend", "pend", "pend", "pend", "decide", "pend", "pend", "decide")
SIZE = 2 + 2 * WORKLOAD_BYTES


@st.composite
def struggles(
    draw: st.DrawFn, kind: Contracts = USUAL, *, adopts: bool = True, edits: bool = False, least: int = 12, most: int = 36
) -> History:
    """A configuration, work that comes, and what becomes of it."""
    first = draw(contracts(kind))
    known = draw(shapes())
    whats = tuple(what for what in OPS if adopts or what != "adopt") + ("edit",) * 3 * edits
    ops = []
    for index, data in enumerate(draw(st.lists(st.binary(min_size=SIZE, max_size=SIZE), min_size=least, max_size=most))):
        what = FIRST[index] if index < len(FIRST) else whats[data[0] % len(whats)]
        ops.append(Op(what, about(what, data, known, kind)))
    return first, ops


def about(what: str, data: bytes, known: Sequence[tuple[PodSet, ...]], kind: Contracts) -> Any:
    """What an operation is about."""
    if what == "pend":
        return demanding(workload(1 + data[1] % 24, data[2 : 2 + WORKLOAD_BYTES], known), data[2 + WORKLOAD_BYTES :], kind)
    if what == "used":
        return (f"q{data[1] % len(DOORS)}", (data[2] + 1) * 4)
    return data[1:] if what == "edit" else data[1] % 21
