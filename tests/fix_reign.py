"""Several controllers of one ledger that lead one after the other: who led when, and what each sent to the API server meanwhile.

Each controller has a token of its own, by which the API server's audit log tells them apart.
"""

from __future__ import annotations

import json
import re
import secrets
import signal
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from fix_controller import ControllerProcess, Stage

_CREDENTIAL = "authentication.kubernetes.io/credential-id"
_WRITES = ("create", "update", "patch", "delete")


#: A tenant that has room for one Job.
SHORT = """
apiVersion: aiqueue.dev/v1
kind: Class
metadata: {{name: brief}}
spec: {{priority: {priority}, gracePeriod: 2s}}
---
apiVersion: aiqueue.dev/v1
kind: Tenant
metadata: {{name: narrow}}
spec:
  quotas:
  - flavor: h100
    resources: [{{name: nvidia.com/gpu, nominal: 8}}]
---
apiVersion: aiqueue.dev/v1
kind: Queue
metadata: {{name: narrow, namespace: {namespace}}}
spec: {{tenant: narrow}}
"""


#: Has the ledger keep every term, and not only the newest.
CHRONICLE = (
    "CREATE TABLE test_reign (term bigint PRIMARY KEY, holder text NOT NULL, elected_at timestamptz NOT NULL)",
    """CREATE FUNCTION test_note_reign() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
      INSERT INTO public.test_reign VALUES (NEW.term, NEW.holder, NEW.elected_at);
      RETURN NULL;
    END $$""",
    """CREATE TRIGGER test_note_reign AFTER UPDATE ON leader FOR EACH ROW WHEN (NEW.term > OLD.term)
    EXECUTE FUNCTION test_note_reign()""",
)


@dataclass(slots=True)
class Contender:
    """A controller that leads at times.

    Attributes:
        process: of the controller.
        credential: how the audit log names its token.
        points: where it stops by itself, once each.
    """

    process: ControllerProcess
    credential: str
    points: tuple[str, ...] = ()

    def fired(self) -> list[str]:
        """Points at which it stopped, in their order."""
        return re.findall(r"^fault stop at (\S+)$", self.process.said(), re.MULTILINE)

    @property
    def left(self) -> int:
        """At how many points it is yet to stop."""
        return len(self.points) - len(self.fired())

    @property
    def stopped(self) -> bool:
        return self.process.stopped()

    def stop(self) -> None:
        self.process.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.signal(signal.SIGCONT)


@dataclass(slots=True)
class Reign:
    """A term: who had it, and since when."""

    term: int
    contender: Contender
    since: datetime


@dataclass(slots=True)
class Court:
    """The contenders of one stage."""

    stage: Stage
    contenders: list[Contender] = field(default_factory=list)
    reigns: list[Reign] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    busy_until: float = 0.0  # by the monotonic clock: whoever leads has enough to do until then

    def join(self, *points: str, **settings: str) -> Contender:
        """Start a controller that stops at these points."""
        kubeconfig = self.stage.cluster.service_account_kubeconfig("aiqueue-system", "aiqueue-controller")
        faults = ",".join(f"{point}=stop" for point in points)
        process = self.stage.start(kubeconfig=str(kubeconfig), faults=faults, **settings)
        self.contenders.append(Contender(process, _credential(kubeconfig), points))
        return self.contenders[-1]

    def __post_init__(self) -> None:
        self.stage.do(*CHRONICLE)

    def leader(self) -> Contender | None:
        """Whose the newest term is; None before the first. Every term since is noted, also one that nobody saw while it lasted."""
        since = self.reigns[-1].term if self.reigns else 0
        for row in self.stage.rows("SELECT * FROM test_reign WHERE term > :since ORDER BY term", since=since):
            (found,) = [each for each in self.contenders if f"-{each.process.pid}-" in row["holder"]]
            self.reigns.append(Reign(row["term"], found, row["elected_at"]))
        return self.reigns[-1].contender if self.reigns else None

    def create_job(self) -> str:
        """A Job that is to run; names are not used twice."""
        self.jobs.append(f"job-{secrets.token_hex(4)}")
        self.stage.create_job(self.jobs[-1], gpus=1)
        return self.jobs[-1]

    def delete_job(self) -> None:
        """Delete the oldest Job; its pods take a second to go."""
        self.stage.cluster.api.call(
            "DELETE",
            f"/apis/batch/v1/namespaces/{self.stage.namespace}/jobs/{self.jobs.pop(0)}",
            {"propagationPolicy": "Background"},
        )

    def put_out(self) -> None:
        """A Job that another puts out with notice, one that its limit ends, and a change of the configuration for both."""
        mark = secrets.token_hex(4)
        self.stage.apply(SHORT.format(priority=secrets.randbelow(100), namespace=self.stage.namespace))
        self.stage.create_job(f"victim-{mark}", queue="narrow", labels={"aiqueue.dev/class": "brief"})
        self.stage.create_job(f"limited-{mark}", gpus=1, annotations={"aiqueue.dev/max-runtime": "2s"})
        self.stage.create_job(f"urgent-{mark}", queue="narrow", runtime="1s", labels={"aiqueue.dev/class": "urgent"})

    def started(self, name: str) -> int:
        """How often a Job was started, by the audit log so far."""
        return len(self.stage.unsuspends(self.stage.job(name)["metadata"]["uid"]))

    def settled(self) -> bool:
        """Whether nothing is left to be done, and every Job runs."""
        (row,) = self.stage.rows(
            "SELECT (SELECT count(*) FROM action) AS undone, (SELECT count(*) FROM run r JOIN workload w ON w.id = r.workload_id"
            " WHERE w.name = ANY(:jobs) AND r.closed_at IS NULL AND r.started_at IS NOT NULL) AS running",
            jobs=self.jobs,
        )
        return bool(row["undone"] == 0 and row["running"] == len(self.jobs))

    def sent(self) -> list[tuple[dict[str, Any], Contender, Contender | None]]:
        """Accepted writes to Jobs and pods, each with the contender that sent it and the one whose the term was."""
        found = []
        for entry in self.stage.audit():
            if entry["verb"] not in _WRITES or entry["objectRef"]["resource"] not in ("jobs", "pods"):
                continue
            credential = (entry["user"].get("extra") or {}).get(_CREDENTIAL, [""])[0]
            sender = [each for each in self.contenders if each.credential == credential]
            if not sender or entry.get("responseStatus", {}).get("code", 0) >= 300:
                continue
            at = datetime.fromisoformat(entry["requestReceivedTimestamp"])
            turn = [reign.contender for reign in self.reigns if reign.since <= at]
            found.append((entry, sender[0], turn[-1] if turn else None))
        return found


def _credential(kubeconfig: Path) -> str:
    token = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"]
    payload = token.split(".")[1]
    claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return f"JTI={claims['jti']}"
