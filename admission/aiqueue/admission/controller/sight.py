"""Keeps what surrounds Jobs (`kube.surroundings`) up to date, and says whose Jobs are to be looked at again when it moves.

A controller does not lead before it has seen both kinds whole: what it admitted would be counted too small. Losing sight of them later
is no reason to stop: what was seen last is gone by, what runs goes on, and readiness says so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping

from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.kinds import LIMIT_RANGES, RUNTIME_CLASSES
from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.reflector import Reflector
from aiqueue.admission.kube.store import JobStore
from aiqueue.admission.kube.surroundings import Surroundings
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import TERMINAL_STATES

_OUT_OF_SIGHT_SECONDS = 60.0


class Sight:
    """The surroundings of a cluster's Jobs and the reflectors that fill them. Start it once, stop it once.

    Args:
        client: of the cluster.
        wake: called when something moved.
    """

    def __init__(self, client: KubeClient, wake: Callable[[], object]) -> None:
        self.surroundings = Surroundings(wake)
        kinds = ((LIMIT_RANGES, self.surroundings.limit_ranges), (RUNTIME_CLASSES, self.surroundings.runtime_classes))
        self._reflectors = {kind.name: Reflector(client, "", sink, rng=random.Random(), kind=kind) for kind, sink in kinds}

    def start(self) -> None:
        """Begin to look."""
        for each in self._reflectors.values():
            each.start()

    def stop(self) -> None:
        """Look no more."""
        for each in self._reflectors.values():
            each.stop()

    @property
    def synced(self) -> bool:
        """Whether everything was seen whole once."""
        return self.surroundings.synced

    def missing(self, seconds: float) -> str | None:
        """A sentence where something was never seen whole and could not be listed for so long; None else."""
        for name, each in self._reflectors.items():
            state = each.state
            if state.synced or state.failing_since is None:
                continue
            away = time.monotonic() - state.failing_since
            if away >= seconds:
                return f"{name} could not be listed for {away:.0f} s ({state.last_error})"
        return None

    def problems(self) -> list[str]:
        """What is not seen, in sentences."""
        found: list[str] = []
        for name, each in self._reflectors.items():
            state = each.state
            if not state.synced:
                found.append(f"{name} have not been listed yet: {state.last_error or 'the first list is under way'}")
            elif not state.running and state.last_error:
                found.append(f"{name} are not watched any more: {state.last_error}")
            elif state.failing_since is not None and (away := time.monotonic() - state.failing_since) > _OUT_OF_SIGHT_SECONDS:
                found.append(
                    f"{name} have not been watched for {away:.0f} s, so what changes there is not seen: {state.last_error}"
                )
        return found


def concerned(surroundings: Surroundings, jobs: JobStore, known: Mapping[str, Known]) -> Iterator[Job]:
    """Jobs that are yet to be started, and whose pods would be other than before now that something around them moved.

    What runs keeps what it was admitted with.
    """
    moved = surroundings.moved()
    if not moved:
        return
    for job in jobs.snapshot():
        row = known.get(job.metadata.uid)
        if row is None or row.state in TERMINAL_STATES or (row.run is not None and row.run.started):
            continue
        if moved.concerns(job):
            yield job
