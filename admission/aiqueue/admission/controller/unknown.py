"""Running Jobs that nobody admitted: how many may be stopped before everything stops."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

_WINDOW = timedelta(minutes=1)


@dataclass(slots=True)
class UnknownJobs:
    """A wrong, empty or restored ledger would see a whole cluster of Jobs that it never admitted: stopping is rationed.

    At most `per_minute` of them are suspended in any minute. The first one beyond that sets `too_many`, which stays until no
    unknown Job runs any more: a person has to look.
    """

    per_minute: int
    _stopped_at: deque[datetime] = field(default_factory=deque)
    _running: dict[str, str] = field(default_factory=dict)
    too_many: bool = False

    def may_stop(self, uid: str, name: str, now: datetime) -> bool:
        """Whether this Job may be suspended now. Asking twice for one Job counts once."""
        if uid in self._running:
            return not self.too_many
        self._running[uid] = name
        while self._stopped_at and self._stopped_at[0] <= now - _WINDOW:
            self._stopped_at.popleft()
        if len(self._stopped_at) >= self.per_minute:
            self.too_many = True
        if self.too_many:
            return False
        self._stopped_at.append(now)
        return True

    def settled(self, uid: str) -> None:
        """The Job does not run any more, or has a run now."""
        self._running.pop(uid, None)
        if not self._running:
            self.too_many = False

    def sentence(self) -> str:
        """What a person reads when `too_many` is set."""
        some = ", ".join(sorted(self._running.values())[:5])
        return (
            f"TooManyUnknownJobs: {len(self._running)} labelled Jobs run that this ledger never admitted (for example {some}):"
            " is this the right ledger for this cluster? Suspend or delete them, or restore the ledger; until then nothing is started"
            " or stopped"
        )
