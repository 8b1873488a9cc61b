"""The closed lists of words: states, outcomes, reasons and policies.

They are the same in code, in tables (CHECK constraints are made from them), in the CLI, in Events and in `simulate`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class WorkloadState(StrEnum):
    """Where a workload stands. `LIVE_STATES` and `TERMINAL_STATES` divide them."""

    PENDING = "Pending"  # waits for admission
    RESERVED = "Reserved"  # quota is held, waits for a gate such as an autoscaler
    ADMITTED = "Admitted"  # has an open run
    EVICTING = "Evicting"  # notice was given, still running until its deadline
    RELEASING = "Releasing"  # being suspended, pods are going
    HELD = "Held"  # waits for a person to release it
    FINISHED = "Finished"  # the Job completed
    FAILED = "Failed"  # the Job failed
    EXPIRED = "Expired"  # ended by its maxRuntime or maxTotalRuntime
    CANCELLED = "Cancelled"  # deleted, or no longer asks to be managed


LIVE_STATES = (
    WorkloadState.PENDING,
    WorkloadState.RESERVED,
    WorkloadState.ADMITTED,
    WorkloadState.EVICTING,
    WorkloadState.RELEASING,
    WorkloadState.HELD,
)
TERMINAL_STATES = (WorkloadState.FINISHED, WorkloadState.FAILED, WorkloadState.EXPIRED, WorkloadState.CANCELLED)


class RunOutcome(StrEnum):
    """How a run ended, or `Running` while it is open."""

    RUNNING = "Running"
    FINISHED = "Finished"
    FAILED = "Failed"
    PREEMPTED = "Preempted"  # for a workload with a better claim
    DRAINED = "Drained"  # its tenant or queue is being emptied
    NOT_READY = "NotReady"  # the gang was not wholly ready in time
    EXPIRED = "Expired"  # maxRuntime
    CANCELLED = "Cancelled"  # deleted, or suspended by its owner


class Reason(StrEnum):
    """Why a workload waits: exactly one for each pending workload."""

    QUEUE_NOT_FOUND = "QueueNotFound"
    QUEUE_CLOSED = "QueueClosed"
    TENANT_CLOSED = "TenantClosed"
    WORKLOAD_HELD = "WorkloadHeld"
    CLASS_NOT_ALLOWED = "ClassNotAllowed"
    INVALID_REQUEST = "InvalidRequest"
    RESOURCE_NOT_COVERED = "ResourceNotCovered"
    NO_MATCHING_FLAVOR = "NoMatchingFlavor"
    EXCEEDS_CEILING = "ExceedsCeiling"  # can never fit today's limits
    WAITING_FOR_QUOTA = "WaitingForQuota"
    BEHIND_HEAD = "BehindHead"  # Strict
    BEHIND_STARVING_GANG = "BehindStarvingGang"
    BEHIND_CLAIM = "BehindClaim"
    WAITING_FOR_VICTIMS = "WaitingForVictims"
    BACKOFF = "Backoff"
    PENDING_EVALUATION = "PendingEvaluation"


# Reasons that belong to one workload rather than to a shape within a tenant: stored as override rows.
OVERRIDE_REASONS = frozenset(
    {
        Reason.QUEUE_NOT_FOUND,
        Reason.QUEUE_CLOSED,
        Reason.WORKLOAD_HELD,
        Reason.CLASS_NOT_ALLOWED,
        Reason.INVALID_REQUEST,
        Reason.WAITING_FOR_VICTIMS,
        Reason.BACKOFF,
    }
)


class ObjectState(StrEnum):
    """State of a tenant or a queue, written by an administrator."""

    ACTIVE = "Active"
    HOLD = "Hold"  # nothing new is admitted, what runs goes on
    DRAIN = "Drain"  # Hold, and what runs is evicted with grace


class Queueing(StrEnum):
    """Whether the head of a tenant that cannot be admitted blocks the rest."""

    STRICT = "Strict"
    BEST_EFFORT = "BestEffort"


class OrderKey(StrEnum):
    """One key of the order inside a tenant."""

    PRIORITY = "priority"
    USAGE = "usage"
    SUBMITTED = "submitted"


class WithinTenant(StrEnum):
    """Which workloads of its own tenant a workload may preempt."""

    NEVER = "Never"
    LOWER_PRIORITY = "LowerPriority"
    LOWER_OR_NEWER_EQUAL_PRIORITY = "LowerOrNewerEqualPriority"


class Reclaim(StrEnum):
    """Which workloads of other tenants a workload may preempt to take lent capacity back."""

    NEVER = "Never"
    LOWER_PRIORITY = "LowerPriority"
    ANY = "Any"


class PreemptionRule(StrEnum):
    """By which rule a run has to make room for a workload."""

    WITHIN_TENANT = "WithinTenant"  # the tenant's own order: lower priority, or equal and newer
    WITHIN_NOMINAL = "WithinNominal"  # the preemptor's tenant takes back its own nominal from who borrows
    FINAL_SHARE = "FinalShare"  # who borrows has, without the run, still as large a share as the preemptor's with it
    INITIAL_SHARE = "InitialShare"  # who borrows has, with the run, a larger share than the preemptor's with what it asks for


class Fungibility(StrEnum):
    """Whether the search over flavors stops at one that is possible but not free."""

    MAY_STOP_SEARCH = "MayStopSearch"
    TRY_NEXT_FLAVOR = "TryNextFlavor"


class ActionKind(StrEnum):
    """What the cluster must see."""

    UNSUSPEND = "Unsuspend"  # start the run: suspend false, node selector, tolerations, run annotation
    SUSPEND = "Suspend"  # stop the run, or a Job that runs without one
    RESTORE = "Restore"  # put the template back as it was before the run
    ANNOUNCE = "Announce"  # give notice of the end of the run: Event, and evict-at on the Job and its pods; best effort
    EXPIRE = "Expire"  # end the Job for good, since the run is over its time: activeDeadlineSeconds


class EventReason(StrEnum):
    """What a Kubernetes Event says that aiqueue did with a Job."""

    ADMITTED = "Admitted"  # its run began
    EVICTION_NOTICE = "EvictionNotice"  # its run has to end, and when
    EVICTED = "Evicted"  # it was suspended, and its pods are going
    REQUEUED = "Requeued"  # its pods are gone and it waits again
    HELD = "Held"  # its pods are gone and it waits for its owner
    EXPIRED = "Expired"  # it was ended for good, being over its time


class AuditVerb(StrEnum):
    """What an entry of the audit table records."""

    CREATED = "Created"
    UPDATED = "Updated"
    DELETED = "Deleted"
    ADOPTED = "Adopted"
    REGISTERED = "Registered"


def quoted(words: Iterable[str]) -> str:
    """SQL list of our own constant words."""
    return ", ".join(f"'{word}'" for word in words)
