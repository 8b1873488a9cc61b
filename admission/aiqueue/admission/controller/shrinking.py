"""What a run holds follows its pods down: when fewer completions are left than pods run at once, the rest is given back.

While its Job goes on, a run needs room for the pods that there are, going or not, and for those that may still be made:

    max(min(pods at once, completions that are left), active + terminating)

and never for more than before. Of a Job without completions (a work queue) no pod is made once one has succeeded, and of none once it is
decided how the Job ends. When nothing of that is left the run is about to be closed, and is not written once more. A run whose Job is
stopped keeps what it holds until its pods are gone: then all of it is free at once.

The status of a Job is believed as it is: it counts a pod among the succeeded no sooner than it leaves it out of the active ones. What is
told late gives room back late, and nothing else. No I/O: it fills `Changes`.
"""

from __future__ import annotations

from dataclasses import replace

from aiqueue.admission.controller.readiness import gang_of, wanted
from aiqueue.queue.observations import Observation
from aiqueue.queue.records import PodSet
from aiqueue.queue.store.changes import Changes, ClosedRun, ResizedRun
from aiqueue.queue.store.known import Known, OpenRun


def needed(seen: Observation) -> int:
    """For how many pods a Job that goes on needs room."""
    to_come = 0 if seen.ending else wanted(seen)
    return max(to_come, seen.active + seen.terminating)


def still_needed(seen: Observation) -> tuple[PodSet, ...]:
    """The pod sets of a running Job that is met under way, at the size that it still needs."""
    pods = needed(seen)
    return tuple(replace(each, count=min(each.count, pods)) for each in seen.pod_sets)


class Sizes:
    """The pods for which this term has let runs hold room, where that is less than all of them.

    Only so that the same is not written again with every observation: what the ledger has is the truth, and telling it twice is harmless.
    """

    def __init__(self) -> None:
        self._pods: dict[int, int] = {}

    def look(self, changes: Changes, seen: Observation, known: Known, run: OpenRun) -> bool:
        """Add that a run needs less, now that its Job was seen to go on; answers whether it does."""
        pods = needed(seen)
        # All that a run held goes when it is closed, which is about to be: the last pods are not counted down to nothing first.
        if not pods or pods >= self._pods.get(run.id, gang_of(seen)):
            return False
        counts = {each.name: min(each.count, pods) for each in seen.pod_sets}
        changes.resized.append(ResizedRun(run.id, known.id, counts, {each.name: each.requests for each in seen.pod_sets}))
        return True

    def written(self, changes: Changes) -> None:
        """The ledger has these changes."""
        for resized in changes.resized:
            self._pods[resized.run_id] = sum(resized.counts.values())
        self._forget(changes.closed)

    def _forget(self, closed: list[ClosedRun]) -> None:
        for each in closed:
            self._pods.pop(each.run_id, None)
