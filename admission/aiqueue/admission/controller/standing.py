"""How the Jobs of a Plan stand when they are admitted, asked of the ledger once for the whole Plan."""

from __future__ import annotations

from collections.abc import Callable

from aiqueue.admission.controller.rewriting import Standing
from aiqueue.admission.controller.term import Term
from aiqueue.admission.engine.plan import Plan
from aiqueue.admission.kube.jobs import template_of
from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.store import JobStore
from aiqueue.queue.store import written
from aiqueue.queue.store.written import Written


def standings(plan: Plan, jobs: JobStore, term: Term, cluster_id: int) -> Callable[[str], Standing]:
    """How each Job that the Plan admits stands, by uid, with what the ledger knows of its last run where that may still be in it.

    Raises:
        KeyError: by what is returned, for a Job that the Plan does not admit.
        LedgerError: the ledger could not be asked.
    """
    found = {uid: jobs.get(uid) for uid in (admission.workload.uid for admission in plan.admissions)}
    stamped = [uid for uid, job in found.items() if job is None or _stamped(job)]
    earlier: dict[str, Written] = {}
    if stamped:
        with term.transaction() as connection:
            earlier = written.last(connection, cluster_id, stamped)
    return {uid: _standing(job, earlier.get(uid)) for uid, job in found.items()}.__getitem__


def _standing(job: Job | None, earlier: Written | None) -> Standing:
    if job is None:
        return Standing(earlier=earlier)
    pristine = not _stamped(job)
    return Standing(template_of(job), pristine, None if pristine else earlier, job.metadata.resource_version)


def _stamped(job: Job) -> bool:
    return job.metadata.annotations is not None and job.metadata.annotations.run is not None
