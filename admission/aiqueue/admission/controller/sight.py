"""Keeps what surrounds Jobs (`kube.surroundings`) up to date, and says whose Jobs are to be looked at again when it moves.

A controller does not lead before it has seen both kinds whole and watches them: what it admitted would be counted too small. Losing sight of
them later is no reason to stop: what was seen last is gone by, what runs goes on, and readiness says so. Which right is missing is said, and
logged once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping

import structlog

from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.kinds import LIMIT_RANGES, RUNTIME_CLASSES
from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.reflector import Reflector, ReflectorState
from aiqueue.admission.kube.store import JobStore
from aiqueue.admission.kube.surroundings import Surroundings
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import TERMINAL_STATES

_log = structlog.get_logger()
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
        self._resources = {kind.name: kind.path.rpartition("/")[2] for kind, _ in kinds}
        self._told: set[str] = set()  # of which a missing right was logged
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
        """Whether everything was seen whole once, and is watched or was."""
        return self.surroundings.synced and all(each.state.connects for each in self._reflectors.values())

    def missing(self, seconds: float) -> str | None:
        """A sentence where something could never be listed and watched for so long, or may not be at all; None else."""
        for name, each in self._reflectors.items():
            state = each.state
            if state.connects or state.failing_since is None:
                continue
            if state.forbidden:
                return self._lacking(name, state)
            away = time.monotonic() - state.failing_since
            if away >= seconds:
                return f"{name} could not be listed and watched for {away:.0f} s ({state.last_error})"
        return None

    def _lacking(self, name: str, state: ReflectorState) -> str:
        """What to do where a right is missing; logged the first time."""
        said = (
            f"this account has no right to see {name}, without which nobody leads ({state.last_error}): apply the manifests of this"
            f" version again, whose ClusterRole aiqueue-controller has list and watch of {self._resources[name]}"
        )
        if name not in self._told:
            self._told.add(name)
            _log.warning("a right is missing", why=said)
        return said

    def problems(self) -> list[str]:
        """What is not seen, in sentences."""
        found: list[str] = []
        for name, each in self._reflectors.items():
            state = each.state
            if state.forbidden and not state.connects:
                found.append(self._lacking(name, state))
            elif not state.synced:
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
