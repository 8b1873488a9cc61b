"""Observations, known workloads and what following them needs: everything has a default but what the test is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aiqueue.admission.controller.follow import Context
from aiqueue.admission.controller.unknown import UnknownJobs
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import Allocation, Configuration, Flavor, PodSet, Queue, Quota, Tenant, shape_of
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.clusters import Cluster
from aiqueue.queue.store.known import Known, OpenRun
from aiqueue.queue.words import ActionKind, WorkloadState

GPU = "nvidia.com/gpu"
OUR_LEDGER = "00000000-0000-4000-8000-000000000001"
OTHER_LEDGER = "00000000-0000-4000-8000-000000000002"
REGISTERED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
BEFORE = REGISTERED - timedelta(days=1)
AFTER = REGISTERED + timedelta(days=1)
ASKED = (PodSet("main", 2, {GPU: 4}),)
CHANGED = (PodSet("main", 2, {GPU: 8}),)
STEERED = (PodSet("main", 2, {GPU: 4}, node_selector={"pool": "h100"}),)
RUN = 71
ATTEMPT = 3
OURS = RunStamp(OUR_LEDGER, RUN, ATTEMPT)
OLDER = RunStamp(OUR_LEDGER, RUN - 1, ATTEMPT - 1)
FOREIGN = RunStamp(OTHER_LEDGER, 5, 1)


def make_seen(pod_sets: tuple[PodSet, ...] = ASKED, **changes: Any) -> Observation:
    """A labelled Job, created suspended after its cluster was registered, that nobody has touched."""
    values: dict[str, Any] = {
        "cluster": "default",
        "uid": "uid-1",
        "namespace": "team-a",
        "name": "job-1",
        "resource_version": "100",
        "queue_name": "train",
        "class_name": None,
        "pod_sets": pod_sets,
        "created_at": AFTER,
        "suspended": True,
    } | changes
    return Observation(shape=shape_of(values["pod_sets"], values["class_name"]), **values)


def make_known(run: OpenRun | None = None, **changes: Any) -> Known:
    """The row of `make_seen`'s Job: Pending, or Admitted where it has a run."""
    values: dict[str, Any] = {
        "id": 11,
        "uid": "uid-1",
        "namespace": "team-a",
        "name": "job-1",
        "queue_name": "train",
        "class_name": None,
        "shape": shape_of(ASKED, None),
        "state": WorkloadState.PENDING if run is None else WorkloadState.ADMITTED,
        "attempt": 0 if run is None else run.attempt,
        "observed_at": AFTER,
        "resource_version": "100",
        "status": (True, 0, 0, 0, 0, 0),
        "stamp": None,
        "hold_requested": False,
        "release_requested": False,
        "owner_suspended": False,
        "invalid": None,
    } | changes
    return Known(run=run, **values)


def make_open_run(**changes: Any) -> OpenRun:
    """Run `RUN`, decided and not yet seen to be started."""
    return replace(OpenRun(id=RUN, attempt=ATTEMPT, started=False), **changes)


def make_running(**changes: Any) -> Known:
    """A row whose run was started: its Job runs two pods under our stamp."""
    run = make_open_run(started=True, **changes.pop("run", {}))
    return make_known(run, **({"status": (False, 2, 0, 2, 0, 0), "stamp": str(OURS)} | changes))


def make_context(*, per_minute: int = 10, queues: Sequence[str] = ("train",)) -> Context:
    """Cluster `default`, and tenant research behind these queues of team-a."""
    tenant = Tenant("research", quotas=(Quota("h100", GPU, 8),))
    configuration = Configuration(
        1,
        {"h100": Flavor("h100")},
        {"research": tenant},
        {("team-a", name): Queue("team-a", name, "research") for name in queues},
    )
    return Context(
        OUR_LEDGER, Cluster(1, "default", "kube-system-uid", REGISTERED), configuration, UnknownJobs(per_minute), assign, AFTER
    )


def assign(_configuration: Configuration, _tenant: str, pod_sets: Sequence[PodSet]) -> tuple[Allocation, ...]:
    """All of it from flavor h100."""
    return tuple(
        Allocation(each.name, "h100", resource, amount * each.count)
        for each in pod_sets
        for resource, amount in each.requests.items()
    )


def make_action(number: int, *, workload: int = 1, kind: ActionKind = ActionKind.UNSUSPEND, **changes: Any) -> Action:
    """Action `number`, of run `number` of a workload."""
    values: dict[str, Any] = {
        "id": number,
        "workload_id": workload,
        "uid": f"uid-{workload}",
        "namespace": "team-a",
        "name": f"job-{workload}",
        "queue_name": "train",
        "run_id": number,
        "attempt": number,
        "kind": kind,
        "resource_version": "1",
        "shape": "",
        "stamp": RunStamp(OUR_LEDGER, number, number),
        "original": {},
        "injected": {},
    } | changes
    return Action(**values)
