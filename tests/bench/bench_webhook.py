"""What aiqueue's doors cost those who create Jobs: prints one JSON line.

    python tests/bench/bench_webhook.py [--rates 300,100] [--seconds 3] [--rounds 4]

A real etcd, API server and Postgres, one `aiqueue webhook`, and three modes in turn, since a machine is never equally
busy for long: no door, the policies, the policies and the webhook. In each round and mode creates are sent in a closed loop
(how many a second?) and in open loops at fixed rates (how late is the answer?). It fails if a create failed, or if
the doors were not asked about exactly the creates of their mode; whatever the figures, it does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from aiqueue.queue.errors import AiqueueError
from stand.printing import OfMachine, Say, progress
from webhook import report
from webhook.rounds import Block, Measured, Plan, Rounds
from webhook.scene import Mode, Webhook, stage

#: Back and forth, so that a drift of the machine is shared out, with few changes of mode.
_THERE = (Mode.NOTHING, Mode.POLICIES, Mode.BOTH)
_BACK = tuple(reversed(_THERE))


def options() -> argparse.Namespace:
    """What was asked on the command line."""
    parser = argparse.ArgumentParser(description="Measure what the policies and the webhook cost those who create Jobs.")
    parser.add_argument(
        "--rates", type=_numbers, default="300,100", help="creates a second, an open loop for each (default %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=3, help="of each open loop (default %(default)s)")
    parser.add_argument("--closed-seconds", type=float, default=1, help="of each closed loop (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=4, help="how often each mode is measured (default %(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="of the client (default %(default)s)")
    parser.add_argument("--refused-rate", type=float, default=100, help="refused creates a second (default %(default)s)")
    parser.add_argument(
        "--queues",
        type=_counts,
        default="10,100,1000",
        help="sizes of the webhook's ledger; the last is for creates (default %(default)s)",
    )
    chosen = parser.parse_args()
    bounds = {"rates": 10_000.0, "seconds": 60.0, "closed_seconds": 60.0, "rounds": 100, "connections": 500, "queues": 10_000}
    for name, most in (*bounds.items(), ("refused_rate", 10_000.0)):
        values = getattr(chosen, name)
        for value in values if isinstance(values, list) else [values]:
            if not 0 < value <= most:
                parser.error(f"--{name.replace('_', '-')} {value:g}: write more than 0 and at most {most:g}")
    return chosen


def _numbers(text: str) -> list[float]:
    return [float(each) for each in text.split(",")]


def _counts(text: str) -> list[int]:
    return [int(each) for each in text.split(",")]


def measure(chosen: argparse.Namespace, sizes: list[int], folder: Path, say: Say) -> report.Found:
    """Set everything up, go through the rounds, and end it all."""
    blocks: list[Block] = []
    refused: list[tuple[Measured, Measured]] = []
    alone: dict[int, list[Measured]] = {size: [] for size in sizes}
    plan = Plan(chosen.rates, chosen.seconds, chosen.closed_seconds, chosen.connections, chosen.refused_rate)
    with stage(folder, sizes, say) as (scene, webhooks):
        main: Webhook = webhooks[sizes[-1]]
        rounds = Rounds(scene, main, plan)
        for number in range(chosen.rounds):
            for mode in _BACK if number % 2 else _THERE:
                say(f"round {number + 1} of {chosen.rounds}: {mode}")
                blocks.append(rounds.block(mode))
        for number in range(max(1, chosen.rounds // 2)):
            say(f"refused creates, {number + 1}")
            refused.append(rounds.refusals())
            for size, webhook in webhooks.items():
                say(f"the webhook alone with {size} queues, {number + 1}")
                alone[size].append(rounds.reviews(webhook))
        say("ending it all")
    return report.Found(blocks, refused, alone)


def main() -> int:
    """Measure and print."""
    chosen = options()
    sizes: list[int] = chosen.queues
    machine = OfMachine()
    steps = 4 + chosen.rounds * len(_THERE) + max(1, chosen.rounds // 2) * (1 + len(sizes))
    try:
        with tempfile.TemporaryDirectory(prefix="aiqueue-bench-") as folder, progress(steps) as say:
            found = measure(chosen, sizes, Path(folder), say)
    except AiqueueError as error:
        print(f"could not measure: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"benchmark": "webhook", "options": vars(chosen), "machine": machine.told(), **report.make(found)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
