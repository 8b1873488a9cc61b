"""Looks, and looks again: only what every look shows is told.

A controller may be in the middle of what looks wrong, and the cluster and the ledger are not read at one instant. So what the first look
shows is looked at twice more, a little apart, and told as the last look shows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from sqlalchemy import Connection

from aiqueue.admission.doctor.comparing import compare
from aiqueue.admission.doctor.differences import Difference
from aiqueue.admission.doctor.reading_cluster import ClusterReader
from aiqueue.admission.doctor.reading_ledger import read_ledger
from aiqueue.admission.doctor.snapshots import Look

LOOKS = 3
#: All looks together take longer than the longest pause after which a controller asks again whether pods are gone.
PAUSE_SECONDS = 3.0


@dataclass(slots=True)
class Examiner:
    """Looks at one ledger and one cluster.

    Attributes:
        reading: a transaction of the ledger that sees one instant.
        cluster_name: what the ledger is to know the cluster by.
        reader: of the cluster, None to look at ledger and engine alone.
        policies: `Kind/name` of the admission policies and bindings that have to be there.
        pause_seconds: between two looks.
        step: hears what goes on.
    """

    reading: Callable[[], AbstractContextManager[Connection]]
    cluster_name: str
    reader: ClusterReader | None
    policies: Sequence[str] = ()
    pause_seconds: float = PAUSE_SECONDS
    step: Callable[[str], None] = field(default=lambda _text: None)

    def look(self) -> Look:
        """One look at everything.

        Raises:
            KubeError: the cluster cannot be read.
            LedgerError: the ledger cannot be read.
        """
        cluster = self.reader.lists() if self.reader is not None else None
        with self.reading() as connection:
            ledger = read_ledger(connection, self.cluster_name, cluster, self.step)
        if cluster is not None and self.reader is not None:
            cluster = self.reader.asked(cluster, ledger.known, {action.uid for action in ledger.actions})
        return Look(ledger, cluster)

    def compare(self, look: Look) -> list[Difference]:
        """All that differs in a look."""
        return compare(look, self.cluster_name, self.policies)

    def examine(self) -> list[Difference]:
        """What differs and stays so.

        Raises:
            KubeError: the cluster cannot be read.
            LedgerError: the ledger cannot be read.
        """
        found = self.compare(self.look())
        for number in range(2, LOOKS + 1):
            if not found:
                break
            self.step(f"look {number} of {LOOKS}")
            time.sleep(self.pause_seconds)
            known = {each.key for each in found}
            found = [each for each in self.compare(self.look()) if each.key in known]
        return found

    def settle(self, accepted: Sequence[Difference], seconds: float) -> list[Difference]:
        """Look until nothing but what is accepted differs, or for so long, and tell what stays."""
        known = {each.key for each in accepted}
        until = time.monotonic() + seconds
        while any(each.key not in known for each in self.compare(self.look())) and time.monotonic() < until:
            self.step("waiting for a controller to do its part")
            time.sleep(min(self.pause_seconds, 1.0))
        return self.examine()
