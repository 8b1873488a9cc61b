"""What Postgres does for aiqueue, and how it grows: prints one JSON line.

    python tests/bench/bench_ledger.py [--archived 1000000] [--live 100000] [--queues 300]

A Postgres of its own that waits for its disk at each commit, and no cluster. Measured:

- commits: Plans of 1, 10, 100 and 500 admissions, and batches of 1, 10, 100 and 1000 new, started and ended workloads, through the
  very functions of the controller, in a fenced term; beside them transactions of a single small row.
- growth: bytes of a finished workload in the archive, after 10,000, 100,000 and all; and the hot tables while workloads come and go.
- lists: every list of `aiqueue get`, with its options, and `aiqueue explain`, over a ledger of so many archived and live workloads: what
  the database takes, the whole list, and the whole command with the start of its process.

Rows are copies of ones that the product wrote; they are compared before anything is measured on them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from aiqueue.queue.errors import AiqueueError
from ledger import commits, filling, growth, lists, world
from ledger.ground import ground
from ledger.life import Life
from stand.printing import OfMachine, Say, progress

SIZES = (1, 10, 100, 500, 1000)
#: Workloads that the product writes, of which the others are copies.
SAMPLE = 1000
#: Of a thousand live workloads, how many run.
RUNNING = 40
GROWN = (10_000, 100_000)


def options() -> argparse.Namespace:
    """What was asked on the command line."""
    parser = argparse.ArgumentParser(description="Measure what Postgres does for aiqueue, and how it grows.")
    parser.add_argument("--archived", type=int, default=1_000_000, help="finished workloads (default %(default)s)")
    parser.add_argument("--live", type=int, default=100_000, help="live workloads (default %(default)s)")
    parser.add_argument("--queues", type=int, default=300, help="queues (default %(default)s)")
    parser.add_argument(
        "--commits",
        type=int,
        default=5000,
        help="workloads of each size of commit, and less of one alone (default %(default)s)",
    )
    parser.add_argument("--churn", type=int, default=20, help="rounds of 5000 workloads that come and go (default %(default)s)")
    parser.add_argument("--times", type=int, default=20, help="how often each list is asked for (default %(default)s)")
    parser.add_argument(
        "--commands", type=int, default=2, help="how often by the command, but for the first (default %(default)s)"
    )
    parser.add_argument("--only", default="", help="of the lists, those whose command has this in it (default: all)")
    chosen = parser.parse_args()
    for name, least, most in (
        ("archived", SAMPLE, 10_000_000),
        ("live", SAMPLE, 1_000_000),
        ("queues", 30, 10_000),
        ("commits", 0, 100_000),
        ("churn", 0, 1000),
        ("times", 0, 1000),
        ("commands", 0, 1000),
    ):
        value = getattr(chosen, name)
        if not least <= value <= most:
            parser.error(f"--{name} {value}: write a whole number from {least} to {most}")
    return chosen


def measure(chosen: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """All there is to print."""
    found: dict[str, Any] = {}
    with ground(folder, world.records(chosen.queues)) as made:
        revision = made.number("SELECT revision FROM config_revision")
        life = Life(made, chosen.queues, revision)
        say("writing a sample")
        sample = filling.write_sample(made, life, pending=SAMPLE - RUNNING, running=RUNNING, ended=SAMPLE)
        say(f"{chosen.live} live workloads")
        copies = chosen.live // SAMPLE - 1
        filling.copy(made, filling.LIVE, sample, range(1, copies + 1), copies)
        life.moved(filling.settle(made, chosen.queues))
        copies, done, grown = chosen.archived // SAMPLE - 1, 0, []
        for size in sorted({*(each for each in GROWN if each < chosen.archived), chosen.archived}):
            say(f"{size} archived workloads")
            filling.copy(made, filling.ARCHIVE, sample, range(done + 1, size // SAMPLE), copies)
            done = size // SAMPLE - 1
            grown.append(growth.of_archive(made))
        filling.count_on(made)
        filling.require_alike(
            made, sample, [*(filling.LIVE if chosen.live > SAMPLE else ()), *(filling.ARCHIVE if done else ())]
        )
        made.vacuum()
        if chosen.times:
            found["lists"] = lists.measure(made, chosen.times, chosen.commands, chosen.only, say)
        if chosen.commits:
            found["commits"] = commits.commits(made, life, SIZES, chosen.commits, say)
        found["growth"] = {"archive": grown, "indexes": growth.indexes(made, growth.ARCHIVED)}
        if chosen.churn:
            found["growth"]["churn"] = growth.churn(made, life, chosen.churn, 500, say)
    return found


def main() -> int:
    """Measure and print."""
    chosen = options()
    machine = OfMachine()
    try:
        with tempfile.TemporaryDirectory(prefix="aiqueue-bench-") as folder, progress(20) as say:
            found = measure(chosen, Path(folder) / "postgres", say)
    except AiqueueError as error:
        print(f"could not measure: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"benchmark": "ledger", "options": vars(chosen), "machine": machine.told(), **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
