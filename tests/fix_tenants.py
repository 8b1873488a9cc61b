"""Tenants, queues and Jobs of a user under one controller on the real control plane, and what became of the Jobs.

The stage is shared by all tests of a module: each has tenants and queues of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from fix_command import Command
from fix_controller import Stage, job
from fix_managed import Actor

FLAVOR = "{apiVersion: aiqueue.dev/v1, kind: Flavor, metadata: {name: h100}, spec: {nodeLabels: {aiqueue.dev/pool: h100}}}"


@dataclass(slots=True)
class Floor:
    """A stage with a controller at work, and alice, who submits to its namespace."""

    stage: Stage
    alice: Actor
    aiqueue: Command

    @property
    def namespace(self) -> str:
        return self.stage.namespace

    def tenant(self, name: str, gpus: int | None = None, limits: str = "", **spec: str) -> None:
        """Apply a tenant with a nominal of so many GPUs, and none where it is None.

        Args:
            name: its name, and where it has quota and a parent that of its queue.
            gpus: its nominal.
            limits: further text of its quota.
            spec: further fields.
        """
        fields = [f"{field}: {value}" for field, value in spec.items()]
        if gpus is not None:
            fields.append(f"quotas: [{{flavor: h100, resources: [{{name: nvidia.com/gpu, nominal: {gpus}{limits}}}]}}]")
        what = f"{{apiVersion: aiqueue.dev/v1, kind: Tenant, metadata: {{name: {name}}}, spec: {{{', '.join(fields)}}}}}"
        self.stage.apply(what)

    def queue(self, name: str, state: str = "Active") -> None:
        """Apply the queue that has the name of its tenant."""
        metadata = f"{{name: {name}, namespace: {self.namespace}}}"
        spec = f"{{tenant: {name}, state: {state}}}"
        self.stage.apply(f"{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {metadata}, spec: {spec}}}")

    def submit(self, name: str, queue: str, gpus: int, **options: Any) -> dict[str, Any]:
        """Create a Job as alice, of one pod for each 8 GPUs, and wait until the ledger has it."""
        pods = max(1, gpus // 8)
        stored = self.alice.create(job(self.namespace, name, queue=queue, pods=pods, gpus=gpus // pods, **options))
        self.stage.until(lambda: self.stage.workload(name)["state"], f"{name} to be in the ledger")
        return stored

    def until_running(self, *names: str) -> None:
        """Wait until Jobs are admitted and all of their pods are ready."""
        for name in names:
            self.stage.until_state(name, "Admitted")
        for name in names:
            self.stage.until_running(name, self.stage.job(name)["spec"]["parallelism"])

    def until_waiting(self, name: str, reason: str) -> dict[str, Any]:
        """Wait until the ledger says why a Job waits, see that nothing of it runs, and return the explanation of now."""

        def stored() -> bool:
            decision = self.explained(name)["stored"]
            return decision is not None and decision["reason"] == reason

        self.stage.until(lambda: self.stage.workload(name)["state"], f"{name} to be in the ledger")
        self.stage.until(stored, f"{name} to wait for {reason}")
        self.assert_untouched(name)
        now = self.explained(name)
        assert now["decision"]["reason"] == reason
        return now

    def assert_untouched(self, name: str) -> None:
        """Nothing of a Job ever ran."""
        assert self.stage.job(name)["spec"]["suspend"] is True
        assert self.stage.pods(name) == []
        assert self.stage.runs(name) == []

    def explained(self, name: str) -> dict[str, Any]:
        """What `aiqueue explain -o json` says."""
        said = self.aiqueue("explain", "workload", f"{self.namespace}/{name}", "-o", "json").json()["explanation"]
        assert isinstance(said, dict)
        return said

    def sentences(self, name: str) -> list[str]:
        """The lines of `aiqueue explain`."""
        return [line.strip() for line in self.aiqueue("explain", "workload", f"{self.namespace}/{name}").out.splitlines()]

    def end(self, name: str) -> None:
        """Let the pods of a Job end by themselves."""
        pods = [pod["metadata"]["name"] for pod in self.stage.pods(name)]
        self.alice.kubectl("annotate", "pod", *pods, f"-n={self.namespace}", "aiqueue.dev/dev-end=now")
        self.stage.until_state(name, "Finished")

    def outcomes(self, *names: str) -> list[str]:
        """How the runs of these Jobs ended."""
        return [run["outcome"] for name in names for run in self.stage.runs(name)]


@pytest.fixture
def floor(led: Stage, alice: Actor) -> Floor:
    """The shared stage of a module with alice on it."""
    led.apply(FLAVOR)
    return Floor(led, alice, Command(led.installed.admin_url))
