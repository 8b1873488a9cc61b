"""Steps that several acts of the story have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiqueue.cli.demonstration import facts, jobs
from aiqueue.cli.demonstration.jobs import NAMESPACE
from aiqueue.cli.demonstration.stage import Stage


def create(stage: Stage, document: dict[str, Any]) -> None:
    """Create a Job as a person would."""
    stage.kubectl("create", "-f", stage.write(document))


def explain(stage: Stage, name: str) -> str:
    """Show what `aiqueue explain` says of a workload; return that on one line."""
    return " ".join(stage.aiqueue("explain", "workload", f"{NAMESPACE}/{name}").split())


def show_nodes(stage: Stage) -> list[facts.NodeUse]:
    """Show the nodes with GPUs, and who uses those."""
    use = facts.nodes(stage)
    rows: list[Sequence[str]] = [("NODE", "GPUS", "IN USE", "BY")]
    rows += [(each.name, str(each.gpus), str(each.used), ", ".join(each.jobs) or "-") for each in use]
    stage.voice.table(rows)
    return use


def verdict(stage: Stage, name: str) -> dict[str, Any] | None:
    """What was decided on a workload that waits; None while nobody did."""
    listed = stage.ledger("get", "workloads", "-n", NAMESPACE, "--state", "Pending")["items"]
    if all(each["metadata"]["name"] != name or each["status"]["reason"] == "PendingEvaluation" for each in listed):
        return None
    decision: dict[str, Any] | None = stage.ledger("explain", "workload", f"{NAMESPACE}/{name}")["explanation"]["stored"]
    return decision


def await_running(stage: Stage, name: str, pods: int) -> None:
    """Wait until so many pods of a Job run."""
    stage.await_(lambda: facts.running(stage, name) == pods, f"{pods} running pods of {name}")


def await_complete(stage: Stage, name: str) -> None:
    """Wait until a Job is complete."""
    stage.await_(lambda: facts.condition(stage.job(name), "Complete"), f"the end of {name}")


def finish(stage: Stage, name: str) -> None:
    """Let the pods of a Job come to their end, which nobody is shown, and wait until it is complete."""
    selector = f"batch.kubernetes.io/job-name={name}"
    stage.cluster.kubectl("annotate", "pods", f"--namespace={NAMESPACE}", f"--selector={selector}", jobs.ENDS_NOW)
    await_complete(stage, name)


def require_held(stage: Stage, name: str) -> None:
    """A Job that waits is suspended and has no pod at all."""
    stage.require(bool(stage.job(name)["spec"].get("suspend")), True, f"{name} being suspended")
    stage.require(len(stage.pods(name)), 0, f"the number of pods of {name}")
