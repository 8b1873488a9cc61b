"""What the cluster is asked about one Job before it is believed of it. Each answer is a fact, or None: to be asked again.

**A start that came to nothing gives its quota back.** Whoever is to start a Job may find it changed. By the time it is observed that may
have been taken back, and a suspended Job that asks for what was decided on looks like one whose start is on its way. Its run is *idle*
(`mirror.idle_start`) when its start ended in this term without starting it, or the ledger had no start of it to be done when the term was
rebuilt: that it was started is written together with that this is done, so this one was not. Nobody begins the start of an idle run
again, for the Job may have changed in more than what is compared; the run is closed and the workload decided on anew.

The watch may be late, so a run is not closed because its Job looks idle there: a GET has to show the Job suspended, without a mark of
the run and without pods, at the very version that the watch told last. Whatever else it shows, nothing is said before the watch has told
of it too: else what is older would be followed after what is newer, and decided on. The next start carries the version that was closed
on, so it comes to nothing only if the Job really changes again: who goes round does so no faster than its owner.

**A run is not closed while somebody is at its start.** Whoever starts a Job may meet a conflict, look by himself, find the change taken back
that is only now observed, and start the Job that asks again for what was decided on. So where a Job was changed before it started, the
start is taken back from the actor first; of one that is being done it is first to be heard what became of it, and the Job is looked at again.

Asked after are idle runs only, where their Jobs were looked at and nothing followed: never of a start that goes well. Those that are to end
are stopped as any other, which marks the Job.
"""

from __future__ import annotations

from functools import partial

from aiqueue.admission.controller.actor import Actor
from aiqueue.admission.controller.confirm import Question
from aiqueue.admission.controller.facts import Fact, JobFound, JobGone, PodsGone, Unstarted
from aiqueue.admission.controller.follow import Context, PodCheck
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.store import JobStore
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.store.known import Known, OpenRun


def of_absent(client: KubeClient, context: Context, row: Known) -> Question:
    """Whether a Job is gone that the watch took away, or what became of it."""
    return Question(("job", row.uid), partial(_is_gone, client, context, row))


def of_pods(client: KubeClient, check: PodCheck) -> Question:
    """Whether none of a Job's pods is alive."""
    return Question(("pods", check.uid, str(check.run_id)), partial(_are_pods_gone, client, check))


def of_idle(client: KubeClient, context: Context, jobs: JobStore, row: Known, run: OpenRun) -> Question:
    """Whether the Job of an idle run is untouched by it, at the version that is told in `jobs`."""
    return Question(("start", row.uid, str(run.id)), partial(_is_unstarted, client, context, jobs, row, run))


def of_start_in_hand(client: KubeClient, context: Context, actor: Actor, row: Known) -> Question:
    """How a Job is that was changed, once nobody is at its start any more."""
    return Question(("in hand", row.uid), partial(_is_let_go, client, context, actor, row))


def is_untouched(seen: Observation, context: Context, run: OpenRun) -> bool:
    """Whether a Job is suspended and neither a start nor a stop of this run was written into it."""
    stamp = RunStamp(context.ledger_uid, run.id, run.attempt)
    return seen.suspended and seen.finished is None and stamp not in (seen.stamp, seen.stopped)


def _is_gone(client: KubeClient, context: Context, row: Known) -> Fact | None:
    """Gone, found without its label, or (None) to be asked again: it runs on unlabelled, so no watch will tell of its end."""
    job = client.get_job(row.namespace, row.name)
    if job is None or job.metadata.uid != row.uid:
        return JobGone(row.uid)
    seen = context.see(job)
    at_large = seen.queue_name is None and row.run is not None
    return None if at_large and (seen.running or (seen.finished and seen.active + seen.terminating)) else JobFound(seen)


def _are_pods_gone(client: KubeClient, check: PodCheck) -> Fact | None:
    alive = any(pod.alive for pod in client.pods_of(check.uid, check.namespace))
    return None if alive else PodsGone(check.uid, check.run_id)


def _is_let_go(client: KubeClient, context: Context, actor: Actor, row: Known) -> Fact | None:
    return None if actor.is_at(row.id) else _is_gone(client, context, row)


def _is_unstarted(client: KubeClient, context: Context, jobs: JobStore, row: Known, run: OpenRun) -> Fact | None:
    """Untouched, or what became of it instead; None while the watch has yet to tell of it, or pods are left of somebody else's start."""
    job = client.get_job(row.namespace, row.name)
    told = jobs.get(row.uid)
    if job is None or job.metadata.uid != row.uid:
        return JobGone(row.uid) if told is None else None
    seen = context.see(job)
    if seen.queue_name is None:  # it left, which is told as that it is there no more
        return JobFound(seen) if told is None else None
    if told is None or told.metadata.resource_version != seen.resource_version:
        return None
    if not is_untouched(seen, context, run):
        return JobFound(seen)
    return None if seen.active or seen.terminating else Unstarted(row.uid, run.id, seen.resource_version)
