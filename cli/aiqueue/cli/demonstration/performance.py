"""The demo from its start to its end: an environment that is gone afterwards, the story, and its summary."""

from __future__ import annotations

import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from aiqueue.cli.demonstration import making_room, story
from aiqueue.cli.demonstration.stage import Stage
from aiqueue.cli.demonstration.voice import Voice
from aiqueue.cli.harness import build, installed, processes
from aiqueue.cli.harness.environment import DevEnvironment
from aiqueue.queue.errors import AiqueueError


def perform(*, keep: bool) -> None:
    """Start an environment, tell the story, and end it all again unless it is to be kept.

    Raises:
        AiqueueError: something could not be started, or was not as told.
    """
    began = time.monotonic()
    build.provide()
    folder = Path(tempfile.mkdtemp(prefix="aiqueue-demo-"))
    voice = Voice()
    environment = DevEnvironment(folder / "environment", throwaway=not keep)
    with _ended(environment, folder, keep=keep):
        print("Starting Kubernetes, Postgres and aiqueue on loopback ...", flush=True)
        starting = time.monotonic()
        installed.enlist()
        environment.up()
        up_seconds = time.monotonic() - starting
        timings = story.tell(Stage(environment, voice, folder), up_seconds)
        _sum_up(voice, timings, time.monotonic() - began)
    if keep:
        _say_how_to_use(voice, environment)


def _sum_up(voice: Voice, timings: story.Timings, seconds: float) -> None:
    voice.act("In short")
    voice.table(
        [
            ("JOB", "ASKED FOR", "STARTED"),
            (story.FINETUNE, "2 x 8 GPUs", f"{timings.finetune:.2f} s after it was asked for"),
            (story.REINDEX, "4 x 8 cpu", f"{timings.reindex:.2f} s after it was asked for"),
            (
                story.PRETRAIN,
                "4 x 8 GPUs",
                f"whole, after {timings.waited:.1f} s: admitted {timings.handed_over:.2f} s after the GPUs came back",
            ),
            (story.BACKUP, "no queue", "without aiqueue"),
            (
                making_room.EVALUATE,
                "2 x 8 GPUs",
                (
                    f"on what it had lent: after a grace of {timings.room.grace:.0f} s, "
                    f"admitted {timings.room.handed_over:.2f} s after the GPUs came back"
                ),
            ),
            (
                making_room.HOTFIX,
                "1 x 8 GPUs",
                (
                    f"before {making_room.TUNE}, which lost {timings.room.lost:.0f} s of work; "
                    f"{making_room.DISTILL} would have lost {timings.room.spared:.0f} s"
                ),
            ),
        ]
    )
    voice.say(f"All of it was read back from the API server and Postgres, and was as told: {seconds:.0f} s in all.")


def _say_how_to_use(voice: Voice, environment: DevEnvironment) -> None:
    folder = shlex.quote(str(environment.folder))
    voice.act("It is left running")
    voice.printed(
        f'to use it:  eval "$(aiqueue dev env --folder {folder})"\nto end it:  aiqueue dev down --purge --folder {folder}'
    )


@contextmanager
def _ended(environment: DevEnvironment, folder: Path, *, keep: bool) -> Iterator[None]:
    """End the environment whatever happens in the block, unless all went well and it is to be kept.

    After an error the logs are kept and named; after Ctrl-C or SIGTERM nothing is.
    """
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    except AiqueueError:
        _end(environment)
        print(f"the logs are in {environment.folder}: remove it when you have seen them", file=sys.stderr)
        raise
    except BaseException:
        _end(environment)
        processes.remove_tree(folder)
        raise
    else:
        if not keep:
            _end(environment)
            processes.remove_tree(folder)
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(environment: DevEnvironment) -> None:
    """Stop all of it; a second Ctrl-C must not leave half of it running. Each program is given a bounded time."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    print("\nStopping all of it ...", file=sys.stderr, flush=True)
    environment.down()


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)
