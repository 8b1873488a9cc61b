"""A run comes to hold another amount while it is open: its last pods need less than all of them did."""

from __future__ import annotations

from aiqueue.admission.engine.backlog import Backlog
from aiqueue.admission.engine.claims import Claims
from aiqueue.admission.engine.preempting import refusal_of
from aiqueue.admission.engine.runs import OpenRun
from aiqueue.queue.records import Allocation


def resize(run: OpenRun, allocations: tuple[Allocation, ...], claims: Claims, backlog: Backlog) -> None:
    """Let an open run hold these, and have those looked at again for whom there is room now.

    A claim that waits for the run goes on waiting for its end, and what is free already is its claimant's too.
    """
    held, cells = claims.resize(run, allocations)
    if held is not None:
        backlog.claims_room(held.workload.id, refusal_of(held, claims))
    backlog.usage_moved(run.tenant)
    backlog.freed(cells)
