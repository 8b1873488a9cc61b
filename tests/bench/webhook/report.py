"""What is printed: plain values made of what was measured, pooled over rounds and with the spread between them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stand.printing import MIB, percentile
from webhook.rounds import Block, Measured
from webhook.scene import Mode


@dataclass(frozen=True, slots=True)
class Found:
    """All that was measured."""

    blocks: Sequence[Block]
    #: A closed and an open loop.
    refused: Sequence[tuple[Measured, Measured]]
    #: The webhook asked directly, for each number of queues.
    sizes: Mapping[int, Sequence[Measured]]


def _pooled(measured: Sequence[Measured]) -> list[float]:
    return [each for one in measured for each in one.outcome.latencies_ms]


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": round(statistics.median(values), 2),
        "lowest": round(min(values), 2),
        "highest": round(max(values), 2),
        "rounds": [round(each, 2) for each in values],
    }


def _latency(measured: Sequence[Measured]) -> dict[str, Any]:
    pooled = _pooled(measured)
    count = len(pooled)
    return {
        "requests": count,
        "p50_ms": round(percentile(pooled, 50), 2),
        "p90_ms": round(percentile(pooled, 90), 2),
        "p99_ms": round(percentile(pooled, 99), 2),
        "max_ms": round(max(pooled), 2),
        "p99_ms_of_rounds": _spread([percentile(one.outcome.latencies_ms, 99) for one in measured]),
        "sent_late": sum(one.outcome.late for one in measured),
        "sent_latest_ms": max(one.outcome.latest_ms for one in measured),
    }


def _cost(measured: Sequence[Measured]) -> dict[str, Any]:
    count = len(_pooled(measured))
    totals = {name: sum(one.cpu[name] for one in measured) for name in measured[0].cpu}
    totals["client"] = sum(one.outcome.cpu_seconds for one in measured)
    return {
        "cpu_seconds": {name: round(total, 2) for name, total in totals.items()},
        "cpu_ms_per_request": {name: round(total / count * 1000, 3) for name, total in totals.items()},
        "resident_mib": {name: round(max(one.resident[name] for one in measured) / MIB) for name in measured[0].resident},
    }


def _throughput(measured: Sequence[Measured]) -> dict[str, Any]:
    return {"per_second": _spread([one.outcome.count / one.outcome.seconds for one in measured]), **_cost(measured)}


def _added(more: Sequence[Measured], less: Sequence[Measured]) -> dict[str, Any]:
    def of(percent: float) -> Callable[[Sequence[float]], float]:
        return lambda values: percentile(values, percent)

    found: dict[str, Any] = {
        f"p{percent}_ms": round(of(percent)(_pooled(more)) - of(percent)(_pooled(less)), 2) for percent in (50, 90, 99)
    }
    found["p99_ms_of_rounds"] = _spread(
        [
            percentile(one.outcome.latencies_ms, 99) - percentile(other.outcome.latencies_ms, 99)
            for one, other in zip(more, less, strict=True)
        ]
    )
    return found


def _seen_by_server(measured: Sequence[Measured]) -> dict[str, Any]:
    """What the API server's own histogram says of the webhook."""
    asked = sum(one.counts.asked for one in measured)
    return {
        "asked": asked,
        "mean_ms": round(sum(one.counts.asked_seconds for one in measured) / asked * 1000, 2),
        "within_5_ms_percent": round(sum(one.counts.asked_quickly for one in measured) / asked * 100, 2),
    }


def _noise(measured: Sequence[Measured]) -> dict[str, float]:
    wall = sum(one.wall for one in measured)
    return {
        "cores_used_by_others": round(sum(one.others for one in measured) / wall, 2),
        "cores_stolen": round(sum(one.stolen for one in measured) / wall, 2),
    }


def _at(rate: float, blocks: Sequence[Block]) -> dict[str, Any]:
    """Latency in each mode at one rate, and what the doors add to it."""
    opened = {mode: [block.opened[rate] for block in blocks if block.mode is mode] for mode in Mode}
    nothing, policies, both = opened[Mode.NOTHING], opened[Mode.POLICIES], opened[Mode.BOTH]
    return {
        "noise": _noise([*nothing, *policies, *both]),
        **{str(mode): _latency(measured) | _cost(measured) for mode, measured in opened.items()},
        "added_by_webhook": _added(both, policies),
        "added_by_policies": _added(policies, nothing),
        "added_by_both": _added(both, nothing),
        "webhook_seen_by_server": _seen_by_server(both),
    }


def make(found: Found) -> dict[str, Any]:
    """The figures, by name."""
    closed = {mode: [block.closed for block in found.blocks if block.mode is mode] for mode in Mode}
    refused_closed, refused_opened = [one for one, _ in found.refused], [one for _, one in found.refused]
    return {
        "latency_at": {f"{rate:g}": _at(rate, found.blocks) for rate in found.blocks[0].opened},
        "throughput": {str(mode): _throughput(measured) for mode, measured in closed.items()},
        "refused": {
            "latency": _latency(refused_opened) | _cost(refused_opened),
            "throughput": _throughput(refused_closed),
        },
        "webhook_alone_with_queues": {
            str(size): _latency(measured) | _cost(measured) for size, measured in found.sizes.items()
        },
    }
