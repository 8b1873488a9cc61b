"""Builders of the domain's records for tests: everything has a default but what the test is about."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from aiqueue.queue.records import (
    Allocation,
    Class,
    Configuration,
    Flavor,
    PodSet,
    Queue,
    Quota,
    Run,
    Tenant,
    Workload,
    shape_of,
)

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
GPU = "nvidia.com/gpu"


def at(seconds: float) -> datetime:
    """That many seconds after `START`."""
    return START + timedelta(seconds=seconds)


def make_quotas(amounts: Mapping[str, Mapping[str, int]]) -> tuple[Quota, ...]:
    """Quotas from flavor -> resource -> nominal, in that order."""
    return tuple(Quota(flavor, resource, nominal) for flavor, of_one in amounts.items() for resource, nominal in of_one.items())


def make_tenant(
    name: str = "research", quotas: Mapping[str, Mapping[str, int]] | tuple[Quota, ...] | None = None, **changes: Any
) -> Tenant:
    """A tenant that has 32 GPUs of flavor h100 unless told otherwise."""
    if quotas is None:
        quotas = {"h100": {GPU: 32}}
    return Tenant(name, quotas=quotas if isinstance(quotas, tuple) else make_quotas(quotas), **changes)


def make_queue(name: str = "train", tenant: str = "research", namespace: str = "team-a", **changes: Any) -> Queue:
    """Queue team-a/train of tenant research unless told otherwise."""
    return Queue(namespace, name, tenant, **changes)


def make_configuration(
    tenants: Iterable[Tenant] | None = None,
    queues: Iterable[Queue] | None = None,
    *,
    classes: Iterable[Class] = (),
    flavors: Iterable[Flavor] | None = None,
    revision: int = 1,
) -> Configuration:
    """Tenant research behind queue team-a/train unless told otherwise; flavors that quotas name exist without labels."""
    tenants = [make_tenant()] if tenants is None else list(tenants)
    queues = [make_queue()] if queues is None else list(queues)
    if flavors is None:
        flavors = [Flavor(name) for name in dict.fromkeys(quota.flavor for tenant in tenants for quota in tenant.quotas)]
    return Configuration(
        revision,
        {flavor.name: flavor for flavor in flavors},
        {tenant.name: tenant for tenant in tenants},
        {(queue.namespace, queue.name): queue for queue in queues},
        {each.name: each for each in classes},
    )


def make_workload(
    number: int = 1,
    *,
    gpus: int = 1,
    pods: int = 1,
    requests: Mapping[str, int] | None = None,
    pod_sets: Iterable[PodSet] | None = None,
    queue: str = "train",
    namespace: str = "team-a",
    class_name: str | None = None,
    created: float | None = None,
    **changes: Any,
) -> Workload:
    """Workload team-a/job-NUMBER of `pods` pods with `gpus` each, created NUMBER seconds after `START` unless told otherwise."""
    if pod_sets is None:
        pod_sets = (PodSet("main", pods, {GPU: gpus} if requests is None else requests),)
    pod_sets = tuple(pod_sets)
    moment = at(number if created is None else created)
    return Workload(
        id=number,
        uid=f"uid-{number:04}",
        namespace=namespace,
        name=changes.pop("name", f"job-{number}"),
        queue_name=queue,
        class_name=class_name,
        pod_sets=pod_sets,
        shape=shape_of(pod_sets, class_name),
        created_at=moment,
        observed_at=moment,
        **changes,
    )


def make_run(
    number: int, workload: Workload, *, gpus: int = 1, tenant: str = "research", flavor: str = "h100", **changes: Any
) -> Run:
    """An open run of a workload that holds `gpus`."""
    allocations = (Allocation("main", flavor, GPU, gpus),) if gpus else ()
    return Run(number, workload, workload.attempt + 1, tenant, START, allocations, **changes)
