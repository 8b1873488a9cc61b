"""What this term knows of the ledger's workloads: a cache that only the cycle writes, after the ledger did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from aiqueue.queue.observations import Observation
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.known import Known, OpenRun
from aiqueue.queue.words import TERMINAL_STATES, ActionKind, RunOutcome, WorkloadState


class Mirror:
    """Known workloads by uid, the uid that occupies each live name, the newest resourceVersion that was followed, and starts.

    `undone` are actions that an earlier engine asked for: the starts among them (handed down) may be on their way to Jobs of any version.
    What was decided, not started, and is not among them is on its way to nobody (idle): see `questions`.
    """

    def __init__(self, known: Mapping[str, Known], undone: Iterable[Action] = ()) -> None:
        self.known: dict[str, Known] = {}
        self._uids: dict[int, str] = {}  # by workload id
        self._names: dict[tuple[str, str], str] = {}
        self._versions: dict[str, str] = {}
        self._handed_down = {action.run_id for action in undone if action.kind is ActionKind.UNSUSPEND}
        runs = ((row.uid, row.run) for row in known.values() if row.run is not None)
        self._idle = {uid: run.id for uid, run in runs if not run.started and run.id not in self._handed_down}
        self.update(known.values())

    def update(self, rows: Iterable[Known]) -> None:
        """Take rows over as the ledger has them now."""
        for row in rows:
            self.known[row.uid] = row
            self._uids[row.id] = row.uid
            name = (row.namespace, row.name)
            if row.state not in TERMINAL_STATES:
                self._names[name] = row.uid
            elif self._names.get(name) == row.uid:
                del self._names[name]

    def forget(self, uids: Iterable[str]) -> None:
        """Drop rows that left the hot table."""
        for uid in uids:
            row = self.known.pop(uid, None)
            self._versions.pop(uid, None)
            self._idle.pop(uid, None)
            if row is not None:
                self._uids.pop(row.id, None)
            if row is not None and self._names.get((row.namespace, row.name)) == uid:
                del self._names[row.namespace, row.name]

    def occupant(self, seen: Observation) -> Known | None:
        """The live workload that has the name of this Job but another uid: its Job is gone."""
        uid = self._names.get((seen.namespace, seen.name))
        return self.known[uid] if uid is not None and uid != seen.uid else None

    def uid_of(self, workload_id: int) -> str:
        """The uid of a known workload."""
        return self._uids[workload_id]

    def followed(self, seen: Observation) -> None:
        """Remember the version that the ledger's idea of this Job agrees with, if the ledger has one."""
        if seen.uid in self.known:
            self._versions[seen.uid] = seen.resource_version

    def is_handed_down(self, run_id: int) -> bool:
        """Whether an earlier engine asked for the start of this run, and nobody has told yet what became of it."""
        return run_id in self._handed_down

    def start_ended(self, uid: str, run_id: int | None, *, in_vain: bool) -> None:
        """What became of the start of this run is known; if it was in vain, its Job is followed as if it was never seen."""
        self._handed_down.discard(run_id)
        run = self.known[uid].run if uid in self.known else None
        if in_vain and run is not None and run.id == run_id:
            self._idle[uid] = run.id
            self._versions.pop(uid, None)

    def is_idle(self, uid: str, run_id: int) -> bool:
        """Whether nothing is on its way that would start this run."""
        return self._idle.get(uid) == run_id

    def idle_start(self, uid: str) -> OpenRun | None:
        """The open run of this Job if it was not started, nothing is on its way that would start it, and nobody told it to end."""
        run = self.known[uid].run if uid in self._idle and uid in self.known else None
        if run is None or not self.is_idle(uid, run.id) or run.started or run.stopped or run.evict_outcome is not None:
            return None
        return run

    def resource_version(self, uid: str) -> str:
        """The newest version of a Job that was followed; empty if none was in this term, which makes act look first."""
        return self._versions.get(uid, "")

    def admitted(self, uid: str, run_id: int, attempt: int) -> None:
        """A Plan that admits this workload was committed."""
        row = self.known[uid]
        self._idle.pop(uid, None)
        run = OpenRun(id=run_id, attempt=attempt, started=False, succeeded_before=row.status[4])
        self.known[uid] = replace(row, state=WorkloadState.ADMITTED, attempt=attempt, run=run)

    def evicting(self, uid: str, outcome: RunOutcome, evict_at: datetime, message: str) -> None:
        """A Plan that evicts the run of this workload was committed."""
        row = self.known[uid]
        if row.run is None:
            return
        run = replace(row.run, evict_at=evict_at, evict_outcome=outcome, evict_message=message)
        state = WorkloadState.EVICTING if row.state is WorkloadState.ADMITTED else row.state
        self.known[uid] = replace(row, state=state, run=run)

    def needed(self) -> list[Known]:
        """Workloads whose Job must be in the cluster, or whose run is open."""
        return [row for row in self.known.values() if row.state not in TERMINAL_STATES or row.run is not None]
