"""A Plan of the engine as rows of the ledger."""

from __future__ import annotations

from collections.abc import Callable

from aiqueue.admission.controller.rewriting import Standing, rewriting
from aiqueue.admission.engine.plan import Admission, Eviction, Plan
from aiqueue.queue.records import Configuration
from aiqueue.queue.store.plans import AdmissionRow, EvictionRow, PlanRows


def rows_of(
    plan: Plan,
    seq: int,
    configuration: Configuration,
    resource_version: Callable[[str], str],
    standing: Callable[[str], Standing],
    *,
    why: Callable[[Eviction], str] = lambda eviction: eviction.message,
) -> PlanRows:
    """The rows to commit.

    Args:
        plan: what the engine decided.
        seq: counts the Plans of the term.
        configuration: that it was decided on.
        resource_version: of the Job (by uid) whose spec the Plan was decided on.
        standing: that Job as it stands.
        why: a run is told to end.
    """
    return PlanRows(
        seq=seq,
        config_revision=plan.config_revision,
        decided_at=plan.now,
        admissions=[_admission(admission, configuration, resource_version, standing) for admission in plan.admissions],
        evictions=[
            EvictionRow(
                run_id=eviction.run_id,
                workload_id=eviction.workload_id,
                attempt=eviction.attempt,
                outcome=eviction.outcome,
                message=why(eviction),
                evict_at=eviction.evict_at,
                preempted_by=eviction.preempted_by,
                rule=eviction.rule,
            )
            for eviction in plan.evictions
        ],
        claims=plan.claims,
        withdrawn_claims=plan.withdrawn_claims,
        decisions=plan.decisions,
        withdrawn_shapes=plan.withdrawn_shapes,
        withdrawn_workloads=plan.withdrawn_workloads,
    )


def _admission(
    admission: Admission,
    configuration: Configuration,
    resource_version: Callable[[str], str],
    standing: Callable[[str], Standing],
) -> AdmissionRow:
    workload = admission.workload
    stands = standing(workload.uid)
    rewritten = rewriting(admission, configuration, stands)
    version = resource_version(workload.uid)
    return AdmissionRow(
        workload_id=workload.id,
        attempt=admission.attempt,
        tenant=admission.tenant,
        namespace=workload.namespace,
        queue_name=workload.queue_name,
        # Decided on one version and rewritten by another: act is to look at the Job, and to correct what is put back, first.
        resource_version=version if version == stands.resource_version else "",
        allocations=admission.allocations,
        original=rewritten.original,
        injected=rewritten.injected,
    )
