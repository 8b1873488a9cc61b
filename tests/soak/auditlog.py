"""Which Jobs were started, when and for which run, as the API server's audit log has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from soak.jobs import RUN

#: A start behind the ledger's back says such an attempt, so that it is not taken for the controller's.
BEHIND_ITS_BACK = 900_000


@dataclass(slots=True)
class Starts:
    """PATCHes that started a Job, or took over one that somebody else had started.

    Attributes:
        unsuspends: run id -> (uid of the Job, how often that was done). 0 where whoever asked was killed before the answer: the server
            then logs a failure, whatever it did.
        claims: ids of runs that took over a Job, or may have.
    """

    log: Path
    unsuspends: dict[int, tuple[str, int]] = field(default_factory=dict)
    claims: set[int] = field(default_factory=set)
    _read: int = 0
    _file: int = 0

    def __post_init__(self) -> None:
        self._read = self.log.read_bytes().rfind(b"\n") + 1

    def update(self, ledger_uid: str) -> None:
        """Read what was written since; a half-written last line is left for the next time."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            whole, mark, _ = log.read().rpartition(b"\n")
        self._read += len(whole + mark)
        for line in whole.splitlines():
            if b'"resource":"jobs"' in line and b'"verb":"patch"' in line and ledger_uid.encode() in line:
                self._take(json.loads(line), ledger_uid)

    def _take(self, entry: Mapping[str, Any], ledger_uid: str) -> None:
        request = entry.get("requestObject") or {}
        metadata, spec = request.get("metadata") or {}, request.get("spec") or {}
        annotations = metadata.get("annotations") or {}
        stamp = annotations.get(RUN)
        code = int(entry["responseStatus"].get("code", 0))
        refused = HTTPStatus.BAD_REQUEST <= code < HTTPStatus.INTERNAL_SERVER_ERROR
        if not stamp or refused or entry.get("objectRef", {}).get("subresource"):
            return
        ledger, run, attempt = stamp.split("/")
        if ledger != ledger_uid or int(attempt) >= BEHIND_ITS_BACK:
            return
        if spec.get("suspend") is False:
            _, times = self.unsuspends.get(int(run), ("", 0))
            self.unsuspends[int(run)] = (str(metadata.get("uid")), times + (code == HTTPStatus.OK))
        elif "suspend" not in spec:  # what somebody else had started is made the run's, or is ended in its name
            self.claims.add(int(run))
