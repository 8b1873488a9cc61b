"""The acts in which capacity goes back to whoever has the better claim: lending, reclaim with notice and grace, least work lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiqueue.cli import resources
from aiqueue.cli.demonstration import facts, jobs, steps
from aiqueue.cli.demonstration.jobs import GPU, NAMESPACE
from aiqueue.cli.demonstration.stage import NotAsTold, Stage

PRETRAIN, EVALUATE, TUNE, DISTILL, HOTFIX = (
    each["metadata"]["name"] for each in (jobs.PRETRAIN, jobs.EVALUATE, jobs.TUNE, jobs.DISTILL, jobs.HOTFIX)
)
BORROWS = f"tenant product may take back what tenant research borrows, 16 {GPU} of h100"
TAKES_BACK = f"makes room for {NAMESPACE}/{EVALUATE} of tenant product, which takes back its own nominal quota that tenant research borrows"
HIGHER = f"makes room for {NAMESPACE}/{HOTFIX} of tenant research: its priority is higher"
#: Longer than who saves every second ever loses.
WORTH_SPARING = timedelta(seconds=3)


@dataclass(slots=True)
class Timings:
    """What the summary tells, in seconds."""

    #: From the notice that the borrower got to its end.
    grace: float = 0.0
    #: From the moment that its quota came back to the admission of the owner.
    handed_over: float = 0.0
    #: Work that was lost where the least was lost, and what it would have been with the other.
    lost: float = 0.0
    spared: float = 0.0


def tell(stage: Stage, timings: Timings) -> None:
    """Tell it, from where the whole cluster runs one gang.

    Raises:
        NotAsTold: something is not as told.
        HarnessError: a command failed.
    """
    _unused_is_lent(stage)
    age = _owner_comes_back(stage)
    _works_on_until_its_deadline(stage, timings, age)
    _least_work_is_lost(stage, timings)
    _comes_back_by_itself(stage)


def _unused_is_lent(stage: Stage) -> None:
    stage.voice.act("What its owner does not use is lent: half of the GPUs go to a new tenant, product, which has no work yet")
    stage.aiqueue("apply", "-f", resources.examples_path() / "preemption" / "lending.yaml")
    printed = stage.aiqueue("get", "tenants")
    for share in (f"h100:{GPU}=32/16", f"h100:{GPU}=0/16"):
        stage.require(share in printed, True, f"the share {share} in the list of tenants")
    stage.require(facts.running(stage, PRETRAIN), 4, f"the number of running pods of {PRETRAIN}")
    stage.voice.say(
        f"Nobody is put out for that: {PRETRAIN} runs on with all of its 32 GPUs, 16 of them borrowed. "
        "Who could take those back, and from when?"
    )
    said = steps.explain(stage, PRETRAIN)
    stage.require(BORROWS in said, True, f"the sentence {BORROWS!r} in what {PRETRAIN} is told")


def _owner_comes_back(stage: Stage) -> str:
    """Answers how old the ledger says the borrower is."""
    stage.voice.act(f"The owner comes back: Job {EVALUATE} of tenant product, 2 x 8 GPUs. The borrower gets notice, and time")
    age = str(facts.workload(stage, PRETRAIN)["createdAt"])
    steps.create(stage, jobs.EVALUATE)
    notices = stage.await_(lambda: _all_told(stage, PRETRAIN, pods=4), f"notice to {PRETRAIN} and its pods")
    _show_notices(stage, notices)
    stage.require([each.phase for each in notices], ["started"] + ["Running"] * 4, f"how {PRETRAIN} and its pods are")
    steps.require_held(stage, EVALUATE)
    said = steps.explain(stage, EVALUATE)
    for fact in ("It waits: WaitingForVictims", f"{NAMESPACE}/{PRETRAIN}", "Noticed", "WithinNominal"):
        stage.require(fact in said, True, f"{fact!r} in why {EVALUATE} waits")
    event = stage.await_(lambda: facts.event(stage, PRETRAIN, "EvictionNotice"), f"the Event of the notice to {PRETRAIN}")
    stage.require(TAKES_BACK in event, True, f"the sentence {TAKES_BACK!r} in the Event")
    stage.voice.say(
        f"The time is on the Job and on each pod, where a program reads it from a file (downward API). The Event on {PRETRAIN} says:"
    )
    stage.voice.say(event)
    return age


def _works_on_until_its_deadline(stage: Stage, timings: Timings, age: str) -> None:
    stage.voice.act(f"{PRETRAIN} works on until its deadline, and {EVALUATE} starts when its pods are gone")
    steps.await_running(stage, EVALUATE, 2)
    use = steps.show_nodes(stage)
    stage.require(sorted((each.used, each.jobs) for each in use), [(0, ())] * 2 + [(8, (EVALUATE,))] * 2, "what each node runs")
    victim, owner = facts.run_of(stage, PRETRAIN), facts.run_of(stage, EVALUATE)
    stage.require(
        (victim.outcome, victim.rule, victim.preempted_by),
        ("Preempted", "WithinNominal", f"{NAMESPACE}/{EVALUATE}"),
        f"how, by which right and for whom {PRETRAIN} ended",
    )
    told_at, evict_at, closed_at = _instants(victim, PRETRAIN)
    stopped_at = _stopped_at(stage, PRETRAIN)
    _in_order(
        (told_at, evict_at, stopped_at, closed_at, owner.opened_at), "notice, deadline, stop, pods gone, admission of the owner"
    )
    timings.grace = (evict_at - told_at).total_seconds()
    timings.handed_over = (owner.opened_at - closed_at).total_seconds()
    rows: list[Sequence[str]] = [("AFTER", "WHAT", "WHERE IT STANDS")]
    for at, what, where in (
        (told_at, f"{PRETRAIN} is told to end", "ledger"),
        (evict_at, "its deadline", "ledger"),
        (stopped_at, "it is suspended", "audit log of the API server"),
        (closed_at, "its pods are gone, and its quota is free", "ledger"),
        (owner.opened_at, f"{EVALUATE} is admitted", "ledger"),
    ):
        rows.append((f"{(at - told_at).total_seconds():.2f} s", what, where))
    stage.voice.table(rows)
    status = facts.workload(stage, PRETRAIN)
    stage.require((status["state"], status["createdAt"]), ("Pending", age), f"that {PRETRAIN} waits again, as old as before,")
    stage.voice.say(f"{PRETRAIN} waits again, at the place that its age gives it. What it is told:")
    said = steps.explain(stage, PRETRAIN)
    stage.require(TAKES_BACK in said, True, f"the sentence {TAKES_BACK!r} in what {PRETRAIN} is told")


def _least_work_is_lost(stage: Stage, timings: Timings) -> None:
    stage.voice.act(
        f"Urgent work puts out whoever loses least: Job {HOTFIX}; {TUNE} is older but saves its work, {DISTILL} never does"
    )
    for document in (jobs.TUNE, jobs.DISTILL):
        steps.create(stage, document)
        steps.await_running(stage, document["metadata"]["name"], 1)
    spared = facts.run_of(stage, DISTILL)
    stage.await_(lambda: facts.ledger_time(stage) - spared.opened_at > WORTH_SPARING, f"work of {DISTILL} that may be lost")
    steps.create(stage, jobs.HOTFIX)
    steps.await_running(stage, HOTFIX, 1)
    steps.show_nodes(stage)
    victim = facts.run_of(stage, TUNE)
    stage.require(
        (victim.outcome, victim.rule, victim.preempted_by),
        ("Preempted", "WithinTenant", f"{NAMESPACE}/{HOTFIX}"),
        f"how, by which right and for whom {TUNE} ended",
    )
    still = facts.run_of(stage, DISTILL)
    stage.require((still.outcome, still.evict_at), ("Running", None), f"that {DISTILL} runs on, and its deadline,")
    if victim.lost_seconds is None:
        raise NotAsTold(f"not as told: nobody says what {TUNE} lost")
    _, evict_at, _ = _instants(victim, TUNE)
    timings.lost, timings.spared = float(victim.lost_seconds), (evict_at - spared.opened_at).total_seconds()
    stage.require(timings.lost < timings.spared, True, f"that {TUNE} lost less than {DISTILL} would have")
    said = steps.explain(stage, TUNE)
    stage.require(HIGHER in said, True, f"the sentence {HIGHER!r} in what {TUNE} is told")
    stage.voice.say(
        f"{TUNE} lost {timings.lost:.0f} s of work, as it saves it every second; {DISTILL} would have lost {timings.spared:.0f} s."
    )


def _comes_back_by_itself(stage: Stage) -> None:
    stage.voice.act(f"{HOTFIX} comes to its end, and {TUNE} comes back by itself")
    steps.finish(stage, HOTFIX)
    steps.await_running(stage, TUNE, 1)
    runs = facts.runs_of(stage, TUNE)
    stage.require([each.outcome for each in runs], ["Preempted", "Running"], f"the runs of {TUNE}")
    stage.aiqueue("get", "workloads")


def _all_told(stage: Stage, name: str, *, pods: int) -> list[facts.Notice] | None:
    """What a Job and its pods were told; None while one of them was not, or not the same."""
    found = facts.notices(stage, name)
    deadlines = {each.evict_at for each in found}
    return found if len(found) == 1 + pods and len(deadlines) == 1 and None not in deadlines else None


def _show_notices(stage: Stage, notices: Sequence[facts.Notice]) -> None:
    rows: list[Sequence[str]] = [("JOB AND PODS", "IS", jobs.EVICT_AT)]
    rows += [(each.what, each.phase, each.evict_at.isoformat() if each.evict_at else "-") for each in notices]
    stage.voice.table(rows)


def _instants(run: facts.Run, name: str) -> tuple[datetime, datetime, datetime]:
    """When a run was told to end, by when, and when its quota was free."""
    if run.told_at is None or run.evict_at is None or run.closed_at is None:
        raise NotAsTold(f"not as told: the run of {name} was not told to end, or is not over")
    return run.told_at, run.evict_at, run.closed_at


def _stopped_at(stage: Stage, name: str) -> datetime:
    """When the API server took the one request of aiqueue's that suspended a Job."""

    def stops() -> list[facts.Write]:
        return [each for each in facts.writes(stage, name) if each.by_controller and each.stops]

    stage.await_(stops, f"the audit entry of the stop of Job {name}")
    stage.require(len(stops()), 1, f"the number of requests that stopped {name}")
    return stops()[0].received_at


def _in_order(instants: Sequence[datetime], told: str) -> None:
    if list(instants) != sorted(instants):
        raise NotAsTold(f"not as told: {told} came in another order: {', '.join(each.isoformat() for each in instants)}")
