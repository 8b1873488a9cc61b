"""Jobs that a new term has yet to look at, because nothing of them seems to have moved.

A term begins with all Jobs there are to be looked at, nearly all of which wait as the ledger says that they do. Nothing is to be found
out about these but by a newer aiqueue that understands them otherwise, so they are looked at after what is new, a few in each round, and
work is admitted meanwhile. What is admitted of them is safe all the same: their version was not followed in this term, so act
looks at the Job before it starts it, and starts it only if it still asks for what was decided.

Everything else is looked at first: Jobs that run or ran, that the ledger does not know, or knows at another version.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.store import JobStore
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import WorkloadState

_A_ROUND = 1000


class Arrears:
    """Uids of Jobs that are to be looked at, in the order in which they were told of."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._uids: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._uids)

    def urgent(self, told: Iterable[Job], known: Mapping[str, Known]) -> Iterator[Job]:
        """Those that are to be looked at now; the others are kept for `some`."""
        for job in told:
            if _waits_unchanged(job, known.get(job.metadata.uid)):
                self._uids[job.metadata.uid] = None
            else:
                yield job

    def some(self) -> Iterator[Job]:
        """A few of those that were kept, as they are by now; each is given once. What is gone was told of as absent."""
        some = list(islice(self._uids, _A_ROUND))
        for uid in some:
            del self._uids[uid]
        return (job for job in map(self._jobs.get, some) if job is not None)


def _waits_unchanged(job: Job, row: Known | None) -> bool:
    if row is None or row.state is not WorkloadState.PENDING or row.run is not None or row.stamp is not None:
        return False
    return job.metadata.resource_version == row.resource_version and job.spec.suspend is True
