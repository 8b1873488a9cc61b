"""What must hold whatever dies: each invariant is a function that answers a sentence for every object that breaks it.

Some must hold at any time, since they are about what happened (`ALWAYS`). The others are about how ledger and cluster stand, and hold once
both have come to rest (`AT_REST`): a moment at which all of them hold has to come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from typing import Any

from soak import ceilings
from soak.auditlog import BEHIND_ITS_BACK
from soak.evidence import Evidence, Run, requests_of
from soak.jobs import DEV_ONLY_INDEX, DEV_READY, EVICT_AT, HOLD, QUEUE, RUN, STOPPED, Wish, ending, state_of
from soak.pods import alive

Invariant = Callable[[Evidence], Iterator[str]]
#: The watch tells of a pod's end a moment after it, on a busy machine a longer one. Deaf pods live for longer than this.
_TOLD_WITHIN = timedelta(seconds=1.5)
_ENDS = {"Complete": ("Finished",), "Failed": ("Failed", "Expired")}


def no_job_lost(seen: Evidence) -> Iterator[str]:
    """Every labelled Job of the cluster is a workload in the right state, and every live workload has its Job."""
    rows = {row.uid: row for row in sorted(seen.workloads, key=lambda row: (row.live, row.id))}
    runs = seen.open_runs()
    for uid, job in seen.jobs.items():
        metadata = job["metadata"]
        name, over = f"Job {metadata['namespace']}/{metadata['name']} ({uid})", state_of(job)
        if QUEUE not in metadata.get("labels", {}) or metadata.get("deletionTimestamp"):
            continue
        row = rows.get(uid)
        if row is None:
            yield f"{name} is in the cluster, and no workload of the ledger is it"
        elif over and uid not in runs and row.state not in _ENDS[over]:
            yield f"{name} is {over}, and its workload is {row.state}"
        elif not over and (wrong := _not_right(job, row.state, runs.get(uid))):
            yield f"{name} {wrong}"
    for row in seen.workloads:
        if row.live and row.uid not in seen.jobs:
            yield f"workload {row.job} ({row.uid}) is {row.state}, and no Job of the cluster is it"


def _not_right(job: Mapping[str, Any], state: str, run: Run | None) -> str:
    """What is wrong with the state of a Job that is not over; an empty text if nothing is."""
    held = job["metadata"].get("annotations", {}).get(HOLD) == "true"
    if not job["spec"].get("suspend"):
        fits = state in ("Admitted", "Evicting") and run is not None
        return "" if fits else f"runs, and its workload is {state}{'' if run else ' without an open run'}"
    if run is not None:
        return f"is suspended, and run {run.id} of it is open"
    if state == "Expired":  # its time was up, whoever suspended it then
        return ""
    if state not in ("Pending", "Held") or (held and state != "Held"):
        return f"is suspended{' and held' if held else ''}, and its workload is {state}"
    return ""


def none_admitted_twice(seen: Evidence) -> Iterator[str]:
    """Attempts count up by one, no two runs of a Job are open at once, and each run unsuspends its Job once."""
    yield from _attempts(seen)
    yield from _unsuspends(seen)


def _attempts(seen: Evidence) -> Iterator[str]:
    of_workload: dict[int, list[Run]] = defaultdict(list)
    of_job: dict[str, list[Run]] = defaultdict(list)
    for run in seen.runs:
        of_workload[run.workload_id].append(run)
        of_job[run.uid].append(run)
    for row in seen.workloads:
        attempts = [run.attempt for run in of_workload[row.id]]
        if attempts != list(range(1, row.attempt + 1)):
            yield f"workload {row.job} is at attempt {row.attempt}, and its runs are of attempts {attempts}"
    for each in of_job.values():
        for earlier, later in pairwise(sorted(each, key=lambda run: (run.opened_at, run.id))):
            if earlier.closed_at is None or earlier.closed_at > later.opened_at:
                yield f"{later.name} was opened while run {earlier.id} was open"


def _unsuspends(seen: Evidence) -> Iterator[str]:
    runs = {run.id: run for run in seen.runs}
    for run_id, (uid, times) in seen.unsuspends.items():
        owner = runs.get(run_id)
        if owner is None or owner.uid != uid or owner.adopted:
            yield f"Job {uid} was unsuspended for run {run_id}, and the ledger has no such run of it"
        elif times > 1:
            yield f"{owner.name} unsuspended its Job {times} times"
    for run in seen.runs:
        if run.started_at and not run.adopted and run.id not in seen.unsuspends and run.id not in seen.claims:
            yield f"{run.name} was started, and nobody unsuspended its Job"


def none_in_part(seen: Evidence) -> Iterator[str]:
    """A run that was started has all the pods that it was admitted with, and holds quota for just these."""
    for run in seen.open_runs().values():
        job = seen.jobs.get(run.uid)
        if job is None or run.started_at is None or run.stopped_at is not None or state_of(job) or job["spec"].get("suspend"):
            continue
        pods = seen.pods.get(run.uid, ())
        succeeded = sum(pod["status"].get("phase") == "Succeeded" for pod in pods)
        living = sum(alive(pod) for pod in pods)
        size = min(int(job["spec"].get(field, 1)) for field in ("parallelism", "completions"))
        needed = min(size, int(job["spec"].get("completions", 1)) - succeeded)
        if living != needed:
            yield f"{run.name} has {living} pods alive, and {needed} are to run ({succeeded} of its pods succeeded)"
        requests = requests_of(job)
        for (_, resource), amount in run.held.items():
            request = requests.get(resource, 1)
            if amount % request or not needed <= amount // request <= size:
                yield f"{run.name} holds {amount} of {resource}, and {needed} of its {size} pods of {request} each are to run"


def usage_agrees(seen: Evidence) -> Iterator[str]:
    """What open runs hold is what queues are said to use, and covers what runs in the cluster."""
    held: dict[tuple[str, str], int] = defaultdict(int)
    rates = {(rate.queue, rate.resource): rate.rate for rate in seen.rates}
    for run in seen.open_runs().values():
        for (_, resource), amount in run.held.items():
            held[run.queue or "", resource] += amount
    for key in sorted(held.keys() | rates.keys()):
        if held[key] != rates.get(key, 0):
            yield f"queue {key[0]} is said to use {rates.get(key, 0)} of {key[1]}, and its open runs hold {held[key]}"
    yield from _uncovered(seen)


def _uncovered(seen: Evidence) -> Iterator[str]:
    runs = seen.open_runs()
    for uid, pods in seen.pods.items():
        job = seen.jobs.get(uid)
        living = sum(alive(pod) for pod in pods)
        if not living or (job is not None and QUEUE not in job["metadata"].get("labels", {})):
            continue
        if uid not in runs:
            yield f"{living} pods of Job {uid} are alive ({pods[0]['metadata']['name']}), and no run of it is open"
        elif job is not None:
            for (_, resource), amount in runs[uid].held.items():
                used = living * requests_of(job).get(resource, 1)
                if used > amount:
                    yield f"{runs[uid].name} holds {amount} of {resource}, and its pods that are alive ask for {used}"


def no_ceiling_passed(seen: Evidence) -> Iterator[str]:
    """No admission raised what a tenant uses above a ceiling of its time."""
    yield from ceilings.passed(seen.runs, seen.edits, seen.resizes)


def no_action_left(seen: Evidence) -> Iterator[str]:
    """Nothing that is due is yet to be done, and nothing is to be done for a run that is over."""
    for action in seen.actions:
        if action.due:
            yield f"action {action.id}, {action.kind} of {action.job}, is due and was not done"
        elif not action.run_open:
            yield f"action {action.id}, {action.kind} of {action.job}, waits for a run that is not open"


def no_run_of_the_finished(seen: Evidence) -> Iterator[str]:
    """No run is open whose Job is over or gone."""
    for run in seen.open_runs().values():
        job = seen.jobs.get(run.uid)
        if job is None and not any(alive(pod) for pod in seen.pods.get(run.uid, ())):
            yield f"{run.name} is open, and its Job and its pods are gone"
        elif job is not None and state_of(job):
            yield f"{run.name} is open, and its Job is {state_of(job)}"


def released_when_gone(seen: Evidence) -> Iterator[str]:
    """Whenever quota was given back, no pod of the run was alive."""
    of_job: dict[str, list[Any]] = defaultdict(list)
    for life in seen.lives:
        of_job[life.job_uid].append(life)
    for run in seen.runs:
        if run.closed_at is None:
            continue
        for life in of_job[run.uid]:
            if life.seen_at < run.closed_at and (life.ended_at is None or life.ended_at > run.closed_at + _TOLD_WITHIN):
                yield f"{run.name} gave its quota back at {run.closed_at}, and its pod {life.name} was alive until {life.ended_at}"


def templates_are_their_owners(seen: Evidence) -> Iterator[str]:
    """A Job that waits stands as its owner wrote it."""
    waiting = {row.uid for row in seen.workloads if row.state in ("Pending", "Held")} - seen.open_runs().keys()
    for uid in sorted(waiting & seen.jobs.keys() & seen.wishes.keys()):
        job = seen.jobs[uid]
        metadata = job["metadata"]
        if not job["spec"].get("suspend"):
            continue
        if Wish.of(job) != seen.wishes[uid]:
            yield f"Job {metadata['namespace']}/{metadata['name']} waits as {Wish.of(job)}, and its owner has {seen.wishes[uid]}"
        notes = metadata.get("annotations", {})
        left = sorted({RUN, EVICT_AT, STOPPED} & notes.keys())
        if int(notes.get(RUN, "0").rpartition("/")[2]) >= BEHIND_ITS_BACK:
            continue  # stopped again before anybody saw it run: a stamp that no run of the ledger wrote is left alone
        if left:
            yield f"Job {metadata['namespace']}/{metadata['name']} waits, and still has {', '.join(left)}"


def none_waits_for_the_unready(seen: Evidence) -> Iterator[str]:
    """No gang stands longer than its class allows without being wholly ready, and none is taken for ready that never can be."""
    runs = {run.id: run for run in seen.runs}
    for gang in seen.gangs:
        run = runs[gang.run_id]
        job = seen.jobs.get(run.uid)
        if job is None or job["metadata"].get("deletionTimestamp") or job["spec"].get("suspend") or ending(job):
            continue
        notes = job["spec"]["template"]["metadata"].get("annotations", {})
        never = notes.get(DEV_READY) == "never" and DEV_ONLY_INDEX not in notes
        if gang.overdue:
            yield f"{run.name} stands past the time that its class gives it, and its gang is not wholly ready"
        elif gang.ready and never and not job["status"].get("succeeded"):
            yield f"{run.name} is said to be wholly ready, and its pods never are"


def back_offs_are_waited_out(seen: Evidence) -> Iterator[str]:
    """Who was put back is not admitted again before his time, unless he was released."""
    for run in seen.runs:
        not_before = seen.back_offs.get((run.workload_id, run.attempt))
        if not_before is not None and not run.adopted and run.opened_at < not_before:
            yield f"{run.name} was opened at {run.opened_at}, and its workload was to wait until {not_before}"


def the_door_is_kept(seen: Evidence) -> Iterator[str]:
    """While the webhook stands no wrong Job is let in; whether or not it does, nobody is held up by it; and it does not end by itself."""
    yield from seen.complaints


def nothing_unexpected(seen: Evidence) -> Iterator[str]:
    """No controller ended by itself or complained of what nobody expected."""
    yield from seen.unexpected


ALWAYS: tuple[Invariant, ...] = (
    none_admitted_twice,
    no_ceiling_passed,
    released_when_gone,
    back_offs_are_waited_out,
    the_door_is_kept,
    nothing_unexpected,
)
AT_REST: tuple[Invariant, ...] = (
    no_job_lost,
    none_in_part,
    usage_agrees,
    no_action_left,
    no_run_of_the_finished,
    templates_are_their_owners,
    none_waits_for_the_unready,
)


def broken(seen: Evidence, invariants: tuple[Invariant, ...] = ALWAYS + AT_REST) -> dict[str, list[str]]:
    """By the name of each invariant that does not hold, its sentences."""
    found = {each.__name__: list(each(seen)) for each in invariants}
    return {name: sentences for name, sentences in found.items() if sentences}
