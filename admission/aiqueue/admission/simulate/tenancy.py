"""Whose quota the jobs of a trace run on: the cluster of a trace, and a scenario made of both.

    single      one tenant with the whole cluster, one queue: no tenants, so to speak
    isolated    each tenant of the trace alone with its quota; nothing is lent
    cohort      the same tenants under one root: what one leaves unused any other may borrow, without limit

All else is equal: one flavor, one class without limits of time, one queue for each tenant, order [priority, submitted]. Quota is
of `nvidia.com/gpu` alone, so cpu limits nobody. A cluster larger than its tenants' quotas together leaves the rest unused under
both isolated and cohort, so what differs between the two is lending alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from aiqueue.admission.simulate.scenario import Edit, Scenario, SimulatedJob
from aiqueue.admission.simulate.tracefile import GPU, InvalidTrace, Trace, TraceErrors
from aiqueue.queue.consistency import listed
from aiqueue.queue.documents import Record, raise_if_any
from aiqueue.queue.documents.problems import MISSING, Phrase
from aiqueue.queue.records import Class, Flavor, PodSet, Queue, Quota, Tenant, shape_of
from aiqueue.queue.units import MAX_AMOUNT
from aiqueue.queue.words import OrderKey, Queueing

FLAVOR = "cluster"
CLASS = "trace"
QUEUE = "jobs"
#: The tenant that has everything, and the root of a cohort.
WHOLE = "cluster"
_MAX_BYTES = 16 * 1024 * 1024


class Tenancy(StrEnum):
    """How the cluster of a trace is shared out. See the module."""

    SINGLE = "single"
    ISOLATED = "isolated"
    COHORT = "cohort"


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a trace ran on. `quotas` is devices by tenant, empty where the file has none."""

    source: str
    total_gpus: int
    quotas: Mapping[str, int]


def read_cluster(path: Path) -> Cluster:
    """Read the JSON file of a trace's cluster.

    It is an object with `total_gpus`, or `nodes` and `gpus_per_node`, or all three; and `tenant_quota_gpus`, an object of devices
    by tenant, which may be null or missing. Other fields are passed over.

    Raises:
        InvalidInput: it cannot be read, or a field is missing, ill-typed or contradicts another; several errors are told.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise InvalidTrace("--cluster", str(path), f"name a file of at most {_MAX_BYTES} bytes")
        content = json.loads(data)
    except OSError as error:
        raise InvalidTrace("--cluster", str(path), f"it cannot be read ({error.strerror or error}): name a file") from None
    except (ValueError, RecursionError) as error:
        raise InvalidTrace("--cluster", str(path), f"it is no JSON ({error}): write an object with total_gpus") from None
    if not isinstance(content, dict):
        raise InvalidTrace("the file", Phrase("no object"), "write a JSON object with total_gpus", where=str(path))
    errors = TraceErrors(str(path))
    total = _total(content, errors)
    quotas = _quotas(content, errors)
    raise_if_any(errors.errors)
    if sum(quotas.values()) > total:
        fix = f"together the quotas are {sum(quotas.values())}: lower them to the cluster's {total}, or raise total_gpus"
        raise InvalidTrace("tenant_quota_gpus", Phrase("too much"), fix, where=str(path))
    return Cluster(str(path), total, quotas)


def _total(content: Mapping[str, Any], errors: TraceErrors) -> int:
    """How many devices there are; 0, and an error, where the fields do not say."""
    found: dict[str, int] = {}
    for field in ("total_gpus", "nodes", "gpus_per_node"):
        value = content.get(field)
        if value is None:
            continue
        if _is_count(value) and value > 0:
            found[field] = value
        else:
            errors.add(field, value, "write a whole number of 1 or more")
    by_node = found["nodes"] * found["gpus_per_node"] if {"nodes", "gpus_per_node"} <= found.keys() else None
    total = found.get("total_gpus", by_node)
    if total is None:
        if not errors.errors:
            errors.add("total_gpus", MISSING, "write how many devices the cluster has")
        return 0
    if by_node not in (None, total):
        errors.add("total_gpus", total, f"write nodes times gpus_per_node, {by_node}, or correct those")
    return total


def _quotas(content: Mapping[str, Any], errors: TraceErrors) -> dict[str, int]:
    given = content.get("tenant_quota_gpus")
    if given is None:
        return {}
    if not isinstance(given, dict):
        errors.add("tenant_quota_gpus", given, "write an object of devices by tenant")
        return {}
    for tenant, amount in given.items():
        if not _is_count(amount):
            errors.add(f"tenant_quota_gpus.{tenant}", amount, "write a whole number of 0 or more")
        if not (0 < len(tenant) <= 253 and tenant.isprintable()):
            errors.add("tenant_quota_gpus", tenant, "write a name of 1 to 253 printable characters")
    return given


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_AMOUNT


def scenario_of(
    trace: Trace, cluster: Cluster, *, tenants: Tenancy = Tenancy.SINGLE, queueing: Queueing = Queueing.BEST_EFFORT
) -> Scenario:
    """The jobs of a trace under quotas of its cluster, all of which exist from second 0.

    Raises:
        InvalidTrace: the tenants are not to be one, and the cluster gives some of them, or all, no quota.
    """
    records: list[Record] = [Flavor(FLAVOR), Class(CLASS)]
    if tenants is Tenancy.SINGLE:
        records.append(_tenant(WHOLE, cluster.total_gpus, queueing))
        records.append(Queue(WHOLE, QUEUE, WHOLE, default_class=CLASS))
    else:
        _check_quotas(trace, cluster, tenants)
        root = _root_name(cluster) if tenants is Tenancy.COHORT else None
        if root is not None:
            records.append(Tenant(root, queueing=queueing, order=_ORDER))
        for name, amount in sorted(cluster.quotas.items()):
            records.append(_tenant(name, amount, queueing, parent=root))
            records.append(Queue(name, QUEUE, name, default_class=CLASS))
    return Scenario((Edit(0, tuple(records)),), _jobs(trace, tenants), {GPU: cluster.total_gpus})


_ORDER = (OrderKey.PRIORITY, OrderKey.SUBMITTED)


def _tenant(name: str, amount: int, queueing: Queueing, *, parent: str | None = None) -> Tenant:
    return Tenant(name, parent, quotas=(Quota(FLAVOR, GPU, amount),), queueing=queueing, order=_ORDER)


def _check_quotas(trace: Trace, cluster: Cluster, tenants: Tenancy) -> None:
    if not cluster.quotas:
        fix = f"write devices by tenant, or replay it with --tenants {Tenancy.SINGLE}: {tenants} needs them"
        raise InvalidTrace("tenant_quota_gpus", MISSING, fix, where=cluster.source)
    without = [name for name in trace.tenants if name not in cluster.quotas]
    if without:
        fix = f"write a quota for {listed(without)}, whose jobs are in {trace.source}, or say --tenants {Tenancy.SINGLE}"
        raise InvalidTrace("tenant_quota_gpus", Phrase(f"without {len(without)} of the tenants"), fix, where=cluster.source)


def _root_name(cluster: Cluster) -> str:
    """A name for the root that no tenant has."""
    name = WHOLE
    while name in cluster.quotas:
        name += "-root"
    return name


def _jobs(trace: Trace, tenants: Tenancy) -> list[SimulatedJob]:
    shapes: list[tuple[tuple[PodSet, ...], str]] = [(each, shape_of(each, CLASS)) for each in trace.shapes]
    single = WHOLE if tenants is Tenancy.SINGLE else None
    return [
        SimulatedJob(single or job.tenant, job.name, QUEUE, CLASS, *shapes[job.shape], job.arrival_us, job.runtime_us)
        for job in trace.jobs
    ]
