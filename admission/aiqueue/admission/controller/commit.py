"""A Plan of the engine as rows of the ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiqueue.admission.engine.plan import Admission, Plan
from aiqueue.queue.records import Configuration
from aiqueue.queue.store.codec import tolerations_to_json
from aiqueue.queue.store.plans import AdmissionRow, EvictionRow, PlanRows

Template = dict[str, Any]


def rows_of(
    plan: Plan,
    seq: int,
    configuration: Configuration,
    resource_version: Callable[[str], str],
    template: Callable[[str], Template | None],
) -> PlanRows:
    """The rows to commit.

    Args:
        plan: what the engine decided.
        seq: counts the Plans of the term.
        configuration: that it was decided on.
        resource_version: of the Job (by uid) whose spec the Plan was decided on.
        template: `nodeSelector` and `tolerations` of that Job exactly as they stand; None if it is not at hand.
    """
    return PlanRows(
        seq=seq,
        config_revision=plan.config_revision,
        decided_at=plan.now,
        admissions=[_admission(admission, configuration, resource_version, template) for admission in plan.admissions],
        evictions=[
            EvictionRow(
                run_id=eviction.run_id,
                workload_id=eviction.workload_id,
                attempt=eviction.attempt,
                outcome=eviction.outcome,
                message=eviction.message,
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
    template: Callable[[str], Template | None],
) -> AdmissionRow:
    workload = admission.workload
    stands = template(workload.uid)
    return AdmissionRow(
        workload_id=workload.id,
        attempt=admission.attempt,
        tenant=admission.tenant,
        namespace=workload.namespace,
        queue_name=workload.queue_name,
        resource_version=resource_version(workload.uid),
        allocations=admission.allocations,
        original={
            pod_set.name: stands
            or {
                "nodeSelector": dict(pod_set.node_selector),
                "tolerations": tolerations_to_json(pod_set.tolerations),
            }
            for pod_set in workload.pod_sets
        },
        injected={
            pod_set.name: injected(list(admission.flavors.get(pod_set.name, {}).values()), configuration)
            for pod_set in workload.pod_sets
        },
    )


def injected(flavors: list[str], configuration: Configuration) -> Template:
    """What the flavors of a pod set add to its template: their node labels and their tolerations, each flavor once."""
    labels: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    for name in dict.fromkeys(flavors):
        flavor = configuration.flavors[name]
        labels.update(flavor.node_labels)
        tolerations += [item for item in tolerations_to_json(flavor.tolerations) if item not in tolerations]
    return {"nodeSelector": labels, "tolerations": tolerations}
