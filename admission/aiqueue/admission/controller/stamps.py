"""Which of two runs of one ledger came later: run ids only grow, and each start of a Job writes its run's id on it."""

from __future__ import annotations

from aiqueue.queue.observations import RunStamp

SUPERSEDED = "the Job carries a later run"


def superseded(stamp: RunStamp | None, on_job: RunStamp | None) -> bool:
    """Whether a Job was started by a later run than this one, of the same ledger.

    A ledger that was restored from an older backup still has the earlier run open: nothing may be done to the Job in its name.
    """
    return stamp is not None and on_job is not None and on_job.ledger == stamp.ledger and on_job.run_id > stamp.run_id
