"""Break aiqueue's controllers for a while on real parts, and check that nothing was lost.

    python -m soak --minutes=60 [--seed=TEXT] [--folder=FOLDER]

Run with `tests` on PYTHONPATH, as `make soak` does. Progress goes to stderr and one line of JSON with figures to stdout. Exit status 1 says
that an invariant does not hold: sentences say which and of what, and the folder with logs, ledger and cluster is kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from random import SystemRandom

from aiqueue.queue.errors import AiqueueError
from soak import soak, world


def options() -> argparse.Namespace:
    """From the command line."""
    parser = argparse.ArgumentParser(prog="soak", description="Break aiqueue's controllers for a while and check invariants.")
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to go on (default 5)")
    parser.add_argument("--seed", default="", help="repeats the choices of an earlier soak")
    parser.add_argument("--folder", type=Path, help="for logs and evidence; kept (default a temporary one, kept on failure)")
    parser.add_argument("--every", type=int, default=50, help="kills between two checks (default 50)")
    parser.add_argument("--rest-seconds", type=float, default=120.0, help="that ledger and cluster may take to come to rest")
    chosen = parser.parse_args()
    if chosen.minutes <= 0 or chosen.every <= 0:
        parser.error("--minutes and --every: write numbers above zero")
    return chosen


def main() -> int:
    """Soak, print the figures, and answer the exit status."""
    chosen = options()
    seed = chosen.seed or str(SystemRandom().randrange(2**32))
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="aiqueue-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()

    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    say(f"seed {seed}: repeat it with make soak MINUTES={chosen.minutes:g} SEED={seed}")
    try:
        with world.of_its_own(folder) as made, soak.begun(made, seed) as soaked:
            found = soak.drive(soaked, 60 * chosen.minutes, chosen.every, say, rest_seconds=chosen.rest_seconds)
            if found:
                soaked.keep_evidence(found)
            told = soaked.told()
    except AiqueueError as error:
        say(f"could not go on: {error}; evidence is in {folder}")
        return 1
    print(json.dumps({"soak": told, "minutes": round((time.monotonic() - began) / 60, 1), "broken": sorted(found)}))
    for name, sentences in found.items():
        say(f"{name} does not hold: {len(sentences)} objects")
        for sentence in sentences[:20]:
            say(f"  {sentence}")
    if found:
        say(f"evidence is in {folder}; the choices are repeated by SEED={seed}")
        return 1
    if chosen.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
