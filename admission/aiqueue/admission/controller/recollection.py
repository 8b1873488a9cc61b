"""What a term begins with: all that the ledger holds, and an engine and a mirror that were told of it.

It is read in one transaction and changes nothing, so a controller that still waits for the first list of Jobs reads it meanwhile. Nobody
but this term writes to runs and workloads, and it has not begun to: what was read stays true until the leader goes by it. Of
configuration that moved in between, it hears as of any that moves later.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from aiqueue.admission.controller import watchdog
from aiqueue.admission.controller.mirror import Mirror
from aiqueue.admission.controller.term import Term
from aiqueue.admission.controller.watchdog import Step
from aiqueue.admission.engine.engine import Engine
from aiqueue.admission.retelling import Retelling
from aiqueue.queue.database import allow_seconds
from aiqueue.queue.records import Configuration
from aiqueue.queue.store import actions, known
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.usage import UsageKey
from aiqueue.queue.usage import Usage

READ_SECONDS = 120  # a large ledger is read in one transaction that holds no lock
_TURN_SECONDS = 0.0002


@dataclass(frozen=True, slots=True)
class Recollection:
    """What one transaction read, and what was made of it.

    Attributes:
        cluster_id: whose workloads and actions these are.
        undone: actions that are yet to be done, oldest first.
        counts: of what was read, for the log.
        read_seconds, build_seconds: how long that took.
    """

    cluster_id: int
    configuration: Configuration
    usages: Mapping[UsageKey, Usage]
    engine: Engine
    mirror: Mirror
    undone: tuple[Action, ...]
    counts: Mapping[str, int]
    read_seconds: float
    build_seconds: float


def recollect(term: Term, cluster_id: int, *, max_admissions: int) -> Recollection:
    """Read the ledger and build engine and mirror.

    Args:
        term: whose sessions to use.
        cluster_id: whose Jobs are led.
        max_admissions: of each Plan of the engine.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    began = time.monotonic()
    with Step("reads the ledger", READ_SECONDS), _kept():
        with term.transaction() as connection:
            allow_seconds(connection, READ_SECONDS)
            held = Retelling.of(connection)
            rows = known.load(connection, cluster_id)
            undone = tuple(actions.load_open(connection, cluster_id))
        watchdog.beat()
        read = time.monotonic()
        mirror, engine = Mirror(rows, undone), Engine(max_admissions=max_admissions)
        for event in held.events():
            engine.observe(event)
    counts = {
        "pending": len(held.pending),
        "runs": len(held.runs),
        "claims": len(held.claims),
        "actions": len(undone),
        "known": len(rows),
    }
    took = (read - began, time.monotonic() - read)
    return Recollection(cluster_id, held.configuration, dict(held.usages), engine, mirror, undone, counts, *took)


@contextmanager
def _kept() -> Iterator[None]:
    """Do not look for garbage among the millions of objects that are made here, now or later: they are here to stay.

    What an earlier recollection left behind is looked for once, when the next one begins. Meanwhile the thread that lists Jobs, and waits
    for its turn after each few kilobytes, gets it sooner than threads do by default.
    """
    gc.unfreeze()
    gc.collect()
    collects, turn_seconds = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(min(turn_seconds, _TURN_SECONDS))
    try:
        yield
        gc.freeze()
    finally:
        sys.setswitchinterval(turn_seconds)
        if collects:
            gc.enable()
