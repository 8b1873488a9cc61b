"""Sees the first Job that is started after a moment, by a watch of its own."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.watches import EventType
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.queue.errors import AiqueueError
from aiqueue.queue.observations import RunStamp


@dataclass(frozen=True, slots=True)
class Started:
    """A Job as it was seen unsuspended: its run, and when, by the clock of the machine."""

    run_id: int
    at: float


class Witness:
    """Watches until a Job is unsuspended by a run that is newer than those known. End it with `close`."""

    def __init__(self, kubeconfig: Path, resource_version: str, *, newer_than_run: int, seconds: int) -> None:
        self._client = KubeClient.from_kubeconfig(kubeconfig, connections=2, component="bench")
        self._newer_than = newer_than_run
        self._seen = threading.Event()
        self._started: Started | None = None
        self._failure = ""
        self._watch = self._client.watch_jobs(resource_version=resource_version, timeout_seconds=seconds)
        self._thread = threading.Thread(target=self._follow, name="witness", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for event in self._watch:
                job = event.object
                if event.type is not EventType.MODIFIED or job is None or job.spec.suspend or job.metadata.annotations is None:
                    continue
                stamp = RunStamp.parse(job.metadata.annotations.run or "")
                if stamp is not None and stamp.run_id > self._newer_than:
                    self._started = Started(stamp.run_id, time.time())
                    return
            self._failure = "the watch ended before"
        except AiqueueError as error:
            self._failure = str(error)
        finally:
            self._seen.set()

    def started(self, seconds: float) -> Started:
        """The first Job that was started.

        Raises:
            HarnessError: none was in time.
        """
        self._seen.wait(seconds)
        if self._started is None:
            raise HarnessError(f"no Job was seen started within {seconds:g} s {self._failure}".rstrip())
        return self._started

    def close(self) -> None:
        """End the watch."""
        self._watch.close()
        self._thread.join(10)
        self._client.close()
