"""Frozen records of the domain: what an administrator writes, what is submitted, and what is decided.

Amounts are integers in the base unit of the resource (`aiqueue.queue.units`), times are aware UTC datetimes with
microseconds, durations are seconds. Mappings in a record are never mutated after it is built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from fractions import Fraction
from json import dumps
from typing import Any

from aiqueue.queue.words import (
    Fungibility,
    ObjectState,
    OrderKey,
    Queueing,
    Reason,
    Reclaim,
    RunOutcome,
    WithinTenant,
    WorkloadState,
)


@dataclass(frozen=True, slots=True)
class Taint:
    """A node taint. `effect` is NoSchedule, PreferNoSchedule or NoExecute."""

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True)
class Toleration:
    """A pod toleration with the meaning of core/v1: an empty key with Exists tolerates everything, an empty effect every effect."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class NodeRequirement:
    """One `matchExpressions` entry: operator is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Flavor:
    """One kind of capacity: the nodes that carry its labels."""

    name: str
    node_labels: Mapping[str, str] = field(default_factory=dict)
    node_taints: tuple[Taint, ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    topology_levels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quota:
    """What a tenant has of one resource of one flavor. A limit of None is no limit."""

    flavor: str
    resource: str
    nominal: int
    borrowing_limit: int | None = None
    lending_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """A node of the tenant tree. `quotas` are in the administrator's order, which is the order of preference of the flavors."""

    name: str
    parent: str | None = None
    weight: Fraction = Fraction(1)
    quotas: tuple[Quota, ...] = ()
    queueing: Queueing = Queueing.BEST_EFFORT
    order: tuple[OrderKey, ...] = (OrderKey.PRIORITY, OrderKey.USAGE, OrderKey.SUBMITTED)
    when_can_borrow: Fungibility = Fungibility.MAY_STOP_SEARCH
    when_can_preempt: Fungibility = Fungibility.TRY_NEXT_FLAVOR
    within_tenant: WithinTenant = WithinTenant.LOWER_PRIORITY
    reclaim: Reclaim = Reclaim.ANY
    state: ObjectState = ObjectState.ACTIVE
    starvation_bound_seconds: int = 3600
    usage_half_life_seconds: int = 7 * 86400
    usage_weights: Mapping[str, Fraction] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A namespaced door to one leaf tenant. `allowed_classes` of None allows every class."""

    namespace: str
    name: str
    tenant: str
    weight: Fraction = Fraction(1)
    default_class: str | None = None
    allowed_classes: tuple[str, ...] | None = None
    state: ObjectState = ObjectState.ACTIVE


@dataclass(frozen=True, slots=True)
class Class:
    """Priority plus the preemption contract. A maximum of None is no limit."""

    name: str
    priority: int = 0
    preemptible: bool = True
    min_runtime_seconds: int = 0
    grace_period_seconds: int = 30
    max_runtime_seconds: int | None = None
    max_total_runtime_seconds: int | None = None
    ready_timeout_seconds: int = 600
    recovery_timeout_seconds: int = 600
    requeue_limit: int = 5


@dataclass(frozen=True, slots=True)
class Configuration:
    """Everything an administrator wrote, at one revision. Queues are keyed by (namespace, name), the rest by name."""

    revision: int
    flavors: Mapping[str, Flavor] = field(default_factory=dict)
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    queues: Mapping[tuple[str, str], Queue] = field(default_factory=dict)
    classes: Mapping[str, Class] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodSet:
    """Pods of one template. `requests` are per pod, after init containers, sidecars, overhead and limits were counted in.

    `affinity_terms` is the required node affinity: a disjunction of conjunctions, empty when there is none.
    """

    name: str
    count: int
    requests: Mapping[str, int]
    min_count: int | None = None
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    affinity_terms: tuple[tuple[NodeRequirement, ...], ...] = ()


def shape_of(pod_sets: Sequence[PodSet], class_name: str | None) -> str:
    """Name workloads that any scheduler must treat alike but for their place in the queue: 40 hexadecimal digits.

    Two workloads of one shape are decided on as one, so it must be beyond anybody to find two that share a shape and differ.
    """
    canonical = dumps([class_name, list(pod_sets)], default=_fields, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=20).hexdigest()


def _fields(record: PodSet | Toleration | NodeRequirement) -> dict[str, Any]:
    # asdict would copy every value first, which takes several times as long as all the rest.
    return {each.name: getattr(record, each.name) for each in fields(record)}


@dataclass(frozen=True, slots=True)
class Workload:
    """What is admitted whole. `submitted` is (creationTimestamp, first observed, uid), kept over evictions but for those as NotReady."""

    id: int
    uid: str
    namespace: str
    name: str
    queue_name: str
    class_name: str | None
    pod_sets: tuple[PodSet, ...]
    shape: str
    created_at: datetime
    observed_at: datetime
    state: WorkloadState = WorkloadState.PENDING
    attempt: int = 0
    cluster: str = "default"
    held_by_owner: bool = False
    invalid: str | None = None  # the sentence that says what is wrong with it, for InvalidRequest
    not_before: datetime | None = None  # back-off after an eviction
    user: str = ""
    checkpoint_seconds: int | None = None  # how often it saves its work, counted from the start of a run
    max_runtime_seconds: int | None = None  # its owner's limit on each run
    ran_seconds: int = 0  # how long its closed runs were open, in all, rounded up
    requeues: int = 0  # how often it was put back because its gang was not ready, since it was last released
    requeued_at: datetime | None = None  # when that last was

    @property
    def since(self) -> datetime:
        """From when its age counts: its creation, or its last eviction as NotReady."""
        return self.requeued_at or self.created_at

    @property
    def submitted(self) -> tuple[datetime, datetime, str]:
        """Age: older sorts first, and no two workloads are equal."""
        return (self.since, self.observed_at, self.uid)


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a run holds of one resource of one flavor for one pod set: the total over its pods."""

    pod_set: str
    flavor: str
    resource: str
    amount: int


@dataclass(frozen=True, slots=True)
class Run:
    """One admission of a workload, from quota taken to quota released. Open while `closed_at` is None.

    `started_at`, `ready_at` and `unready_since` are when its Job was let go, when its whole gang was first ready, and since when it no
    longer is.
    """

    id: int
    workload: Workload
    attempt: int
    tenant: str
    opened_at: datetime
    allocations: tuple[Allocation, ...]
    adopted: bool = False
    evict_at: datetime | None = None
    outcome: RunOutcome = RunOutcome.RUNNING
    closed_at: datetime | None = None
    started_at: datetime | None = None
    ready_at: datetime | None = None
    unready_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Room that belongs to a pending workload while it is being vacated: until it is admitted, gone, or wants it no longer.

    Attributes:
        allocations: what it will hold.
        counts: pods by pod set.
        run_ids: runs that it waits for the end of; those that ended meanwhile are still named.
        claimed_at: when it was decided.
    """

    workload_id: int
    tenant: str
    allocations: tuple[Allocation, ...]
    counts: Mapping[str, int]
    run_ids: tuple[int, ...]
    claimed_at: datetime


@dataclass(frozen=True, slots=True)
class Shortfall:
    """How much is missing of what: `requested` does not fit in the `available` of the tenant."""

    tenant: str
    flavor: str
    resource: str
    requested: int
    available: int

    @property
    def short(self) -> int:
        """Amount that is missing."""
        return self.requested - self.available


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds what is waited for."""

    namespace: str
    name: str
    flavor: str
    resource: str
    amount: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The latest verdict on pending work: on a shape within a tenant, or on one workload where `workload_id` is set.

    Attributes:
        message: the reason as a sentence with its figures.
        would_change: what would change the verdict, as a sentence.
        shortfalls: of each flavor that was tried, what was missing.
        holders: up to five, largest first.
        details: further evidence by name, JSON values only.
    """

    reason: Reason
    message: str
    would_change: str
    tenant: str | None = None
    shape: str | None = None
    workload_id: int | None = None
    shortfalls: tuple[Shortfall, ...] = ()
    holders: tuple[Holder, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
