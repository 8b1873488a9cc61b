"""Closed lists of the doctor: what can differ, and how bad it is."""

from __future__ import annotations

from enum import StrEnum


class Severity(StrEnum):
    """How bad a difference is."""

    INFORMATION = "Information"  # good to know; nothing has to be done
    WARNING = "Warning"  # something will not work as somebody meant it
    ERROR = "Error"  # quota leaks, work stands still, or something runs that should not


class Kind(StrEnum):
    """What differs."""

    # Ledger and cluster as a whole
    LEDGER_OLDER = "LedgerOlder"  # unfinished Jobs carry runs it never gave out: it was restored from an older backup
    CLUSTER_DIFFERS = "ClusterDiffers"  # the ledger knows another cluster by this name, or this one by another
    CLUSTER_UNKNOWN = "ClusterUnknown"  # no controller ever led this cluster
    CLUSTER_UNCLAIMED = "ClusterUnclaimed"  # the cluster does not say which ledger runs it, and no controller leads without
    CLUSTER_OF_ANOTHER = "ClusterOfAnother"  # the cluster says that another ledger runs it
    NOBODY_LEADS = "NobodyLeads"  # the lease ran out and nobody took it over
    SCHEMA_DIFFERS = "SchemaDiffers"  # the database is not at the newest migration of this program
    NOT_LOOKED_AT = "NotLookedAt"  # the account has no right to see something

    # Jobs and runs
    RUNNING_WITHOUT_RUN = "RunningWithoutRun"  # a labelled Job runs and holds no quota
    ANOTHER_LEDGERS_JOB = "AnotherLedgersJob"  # a running Job was started by another ledger
    JOB_UNKNOWN = "JobUnknown"  # a labelled Job waits and the ledger does not know it
    RUN_OF_FINISHED_JOB = "RunOfFinishedJob"  # a run holds quota though its Job is over
    RUN_OF_GONE_JOB = "RunOfGoneJob"  # a run holds quota though its Job and all its pods are gone
    RUN_OF_SUSPENDED_JOB = (
        "RunOfSuspendedJob"  # a run holds quota though its Job is suspended, no pod is left and nothing is to come
    )
    RUN_NEVER_STARTED = "RunNeverStarted"  # a run was decided on, and nothing is left that would start it
    RUN_NOT_STOPPED = (
        "RunNotStopped"  # a run was stopped or its time is up, its Job runs, and nothing is left that would stop it
    )
    ORPHANED_PODS = "OrphanedPods"  # pods live on though their Job is gone, over or suspended
    TEMPLATE_NOT_RESTORED = "TemplateNotRestored"  # a waiting Job still holds what a run wrote, and nothing is to put it back

    # Workloads
    WORKLOAD_WITHOUT_JOB = "WorkloadWithoutJob"  # it lives in the ledger, and its Job does not exist
    WORKLOAD_OF_FINISHED_JOB = "WorkloadOfFinishedJob"  # it lives in the ledger, and its Job is over
    WORKLOAD_ENDED = "WorkloadEnded"  # it is over in the ledger, and its Job waits or runs
    STATE_DIFFERS = "StateDiffers"  # its state says that it has a run and it has none, or the other way round

    # What is to be done, and what is counted
    ACTION_WITHOUT_END = "ActionWithoutEnd"  # an action that nothing can carry out any more
    ACTION_OVERDUE = "ActionOverdue"  # an action that is older than ten minutes
    CLAIM_WITHOUT_CLAIMANT = "ClaimWithoutClaimant"  # room is claimed by what does not wait
    CLAIM_WITHOUT_RUNS = "ClaimWithoutRuns"  # room is claimed that nobody vacates any more
    USAGE_DIFFERS = "UsageDiffers"  # the engine and the ledger count what runs hold differently
    RATE_DIFFERS = "RateDiffers"  # the decayed usage of a queue goes by another rate than its open runs hold
    ABOVE_CEILING = "AboveCeiling"  # more is used than a tenant may: adopted runs, or a quota that was lowered

    # What surrounds them
    POLICY_MISSING = "PolicyMissing"  # a policy or its binding is not on the cluster
    CONTROLLER_USER_DIFFERS = "ControllerUserDiffers"  # the policies take another account for the controller, or none
    QUEUE_WITHOUT_NAMESPACE = "QueueWithoutNamespace"  # a queue of a namespace that does not exist
