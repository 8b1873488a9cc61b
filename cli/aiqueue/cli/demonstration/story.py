"""The acts of the demo, in order. Each does something, waits for what follows, checks it and shows it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from aiqueue.cli import resources
from aiqueue.cli.demonstration import facts, jobs, making_room, steps
from aiqueue.cli.demonstration.jobs import GPU, NAMESPACE
from aiqueue.cli.demonstration.stage import NotAsTold, Stage
from aiqueue.cli.harness import databases, installed

NODES, GPUS_A_NODE = 4, 8
FINETUNE, PRETRAIN, REINDEX, BACKUP, TYPO = (
    each["metadata"]["name"] for each in (jobs.FINETUNE, jobs.PRETRAIN, jobs.REINDEX, jobs.BACKUP, jobs.TYPO)
)
NO_SUCH_QUEUE = f"there is no queue trian in namespace {NAMESPACE}"
TOO_MUCH = f"needs 40 {GPU} of flavor h100 and tenant research can never have more than 32: exceeds it by 8"
NOT_YOURS_TO_START = "only aiqueue may set spec.suspend to false"


@dataclass(slots=True)
class Timings:
    """What the summary tells, in seconds."""

    finetune: float = 0.0
    reindex: float = 0.0
    #: From the moment that quota came back to the admission of who waited for it, by the ledger's clock.
    handed_over: float = 0.0
    waited: float = 0.0
    room: making_room.Timings = field(default_factory=making_room.Timings)


def tell(stage: Stage, up_seconds: float) -> Timings:
    """Tell all of it; `up_seconds` is how long the environment took to start.

    Raises:
        NotAsTold: something is not as told.
        HarnessError: a command failed.
    """
    timings = Timings()
    _cluster(stage, up_seconds)
    _tenants(stage)
    _gang_starts(stage, timings)
    _gang_is_held(stage)
    _others_go_on(stage, timings)
    _unlabelled_is_left_alone(stage)
    alice = _alice(stage)
    _what_is_wrong_is_refused(stage, alice)
    _without_the_webhook(stage, alice)
    _nobody_gets_round(stage, alice)
    _gang_starts_whole(stage, timings)
    making_room.tell(stage, timings.room)
    return timings


def _cluster(stage: Stage, up_seconds: float) -> None:
    stage.voice.act("A cluster and a database of its own")
    version = stage.cluster.api.call("GET", "/version")["gitVersion"]
    with databases.connection(stage.environment.database_url) as session:
        postgres = session.info.parameter_status("server_version")
    stage.voice.say(f"Kubernetes {version}, Postgres {postgres} and aiqueue on them, ready in {up_seconds:.0f} s:")
    use = steps.show_nodes(stage)
    stage.require([each.gpus for each in use], [GPUS_A_NODE] * NODES, "GPUs of each node")


def _tenants(stage: Stage) -> None:
    stage.voice.act("Two tenants share it")
    stage.aiqueue("apply", "-f", resources.examples_path() / "tenants.yaml")
    printed = stage.aiqueue("get", "tenants")
    for share in (f"h100:{GPU}=0/{NODES * GPUS_A_NODE}", "cpu-only:cpu=0/64"):
        stage.require(share in printed, True, f"the share {share} in the list of tenants")


def _gang_starts(stage: Stage, timings: Timings) -> None:
    stage.voice.act(f"A gang of 2 x 8 GPUs of tenant research: Job {FINETUNE}")
    steps.create(stage, jobs.FINETUNE)
    steps.await_running(stage, FINETUNE, 2)
    use = steps.show_nodes(stage)
    stage.require(sum(each.used for each in use), 16, "the number of GPUs in use")
    timings.finetune = facts.seconds_to_start(stage, FINETUNE)
    stage.voice.say(
        f"The API server stored it suspended, for its label {jobs.QUEUE_LABEL}; aiqueue admitted both pods and started it "
        f"{timings.finetune:.2f} s after it was asked for."
    )


def _gang_is_held(stage: Stage) -> None:
    stage.voice.act(f"A gang of 4 x 8 GPUs is held whole: Job {PRETRAIN}")
    steps.create(stage, jobs.PRETRAIN)

    decision = stage.await_(lambda: steps.verdict(stage, PRETRAIN), f"a verdict on {PRETRAIN}")
    stage.require(decision["reason"], "WaitingForQuota", f"the reason why {PRETRAIN} waits")
    short = [int(each["requested"]) - int(each["available"]) for each in decision["shortfalls"] if each["resource"] == GPU]
    stage.require(short, [16], f"what {PRETRAIN} is short of")
    stage.require([each["name"] for each in decision["holders"]], [FINETUNE], f"who holds what {PRETRAIN} waits for")
    steps.require_held(stage, PRETRAIN)
    use = steps.show_nodes(stage)
    free = facts.free_nodes(use)
    stage.require(len(free), 2, "the number of nodes without a pod")
    stage.voice.say(
        f"No GPU of {free[0]} and {free[1]} is in use, and still no part of {PRETRAIN} is started: two of its pods could only wait "
        "for the other two. Why it waits, and for whom:"
    )
    steps.explain(stage, PRETRAIN)


def _others_go_on(stage: Stage, timings: Timings) -> None:
    stage.voice.act(f"Others are not in its way: Job {REINDEX} of tenant ops, 4 x 8 cpu")
    steps.create(stage, jobs.REINDEX)
    steps.await_complete(stage, REINDEX)
    timings.reindex = facts.seconds_to_start(stage, REINDEX)
    stage.kubectl("get", "job", REINDEX, PRETRAIN)
    steps.require_held(stage, PRETRAIN)
    stage.voice.say(f"Started {timings.reindex:.2f} s after it was asked for, and done; {PRETRAIN} waits on.")


def _unlabelled_is_left_alone(stage: Stage) -> None:
    stage.voice.act(f"What asks for no queue is left alone: Job {BACKUP}, without the label")
    steps.create(stage, jobs.BACKUP)
    steps.await_complete(stage, BACKUP)
    job = stage.job(BACKUP)
    by_us = [each for each in facts.writes(stage, BACKUP) if each.by_controller]
    stage.require(
        facts.condition(job, "Suspended") or bool(job["spec"].get("suspend")), False, f"{BACKUP} being suspended ever"
    )
    stage.require(facts.ours(job), [], f"annotations of aiqueue's on {BACKUP}")
    stage.require(by_us, [], f"requests of aiqueue's that changed {BACKUP}")
    known = [each["metadata"]["name"] for each in stage.ledger("get", "workloads", "--all")["items"]]
    stage.require(BACKUP in known, False, f"{BACKUP} being in the ledger")
    stage.kubectl("get", "job", BACKUP)
    stage.voice.say("Never suspended, no annotation, not in the ledger: aiqueue does not know of it.")


def _what_is_wrong_is_refused(stage: Stage, alice: Path) -> None:
    stage.voice.act("What could never run is refused at once: alice misspells her queue, then asks for a node too many")
    for document, sentence in ((jobs.TYPO, NO_SUCH_QUEUE), (jobs.OVERSIZED, TOO_MUCH)):
        said = stage.refused("create", "-f", stage.write(document), kubeconfig=alice, aside="as alice")
        stage.require(sentence in said, True, f"the sentence {sentence!r} in what the API server said")
        name = document["metadata"]["name"]
        stage.require(stage.is_stored(name), False, f"{name} being stored")


def _without_the_webhook(stage: Stage, alice: Path) -> None:
    stage.voice.act("While the webhook is down nobody is blocked, and nothing gets by: the same Job again")
    with installed.stopped(stage.environment, installed.WEBHOOK):
        stage.kubectl("create", "-f", stage.write(jobs.TYPO), kubeconfig=alice, aside="as alice, the webhook stopped")
        decision = stage.await_(lambda: steps.verdict(stage, TYPO), f"a verdict on {TYPO}")
        stage.require(decision["reason"], "QueueNotFound", f"the reason why {TYPO} waits")
        stage.require(decision["message"], NO_SUCH_QUEUE, f"what {TYPO} is told")
        steps.require_held(stage, TYPO)
        steps.explain(stage, TYPO)
        stage.kubectl("delete", "job", TYPO, kubeconfig=alice, aside="as alice")
    stage.voice.say("Stored suspended, without a pod, and told the sentence that it would have been refused with.")


def _nobody_gets_round(stage: Stage, alice: Path) -> None:
    stage.voice.act(f"Nobody gets round it: alice tries to start {PRETRAIN} herself")
    patch = ("patch", "job", PRETRAIN, "--type=merge", "-p", '{"spec":{"suspend":false}}')
    said = stage.refused(*patch, kubeconfig=alice, aside="as alice")
    stage.require(NOT_YOURS_TO_START in said, True, f"the sentence {NOT_YOURS_TO_START!r} in what the API server said")
    steps.require_held(stage, PRETRAIN)


def _gang_starts_whole(stage: Stage, timings: Timings) -> None:
    stage.voice.act(f"{FINETUNE} comes to its end, and {PRETRAIN} starts whole")
    steps.finish(stage, FINETUNE)
    steps.await_running(stage, PRETRAIN, 4)
    use = steps.show_nodes(stage)
    stage.require([(each.used, each.jobs) for each in use], [(GPUS_A_NODE, (PRETRAIN,))] * NODES, "what each node runs")
    started = [each for each in facts.writes(stage, PRETRAIN) if each.by_controller and each.starts]
    stage.require(len(started), 1, f"the number of requests that started {PRETRAIN}")
    before, after = facts.run_of(stage, FINETUNE), facts.run_of(stage, PRETRAIN)
    stage.require((before.outcome, before.gpus), ("Finished", 16), f"the run of {FINETUNE}, and its GPUs,")
    stage.require((after.outcome, after.gpus), ("Running", 32), f"the run of {PRETRAIN}, and its GPUs,")
    if before.closed_at is None or before.closed_at > after.opened_at:
        raise NotAsTold(f"not as told: {PRETRAIN} was admitted before {FINETUNE} had given its GPUs back")
    timings.handed_over = (after.opened_at - before.closed_at).total_seconds()
    timings.waited = facts.seconds_to_start(stage, PRETRAIN)
    stage.aiqueue("get", "workloads", "--all")


def _alice(stage: Stage) -> Path:
    """A user who may do with Jobs what the role `edit` allows, and nothing else: her kubeconfig."""
    cluster = stage.cluster
    cluster.kubectl("create", "rolebinding", "alice", "--clusterrole=edit", "--user=alice", f"--namespace={NAMESPACE}")
    alice = cluster.user_kubeconfig("alice")
    stage.await_(lambda: _may_patch(stage, alice), "alice's right to edit Jobs")
    return alice


def _may_patch(stage: Stage, kubeconfig: Path) -> bool:
    """Whether RBAC lets this user change Jobs; it takes a moment to hear of a new binding."""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": NAMESPACE, "verb": "patch", "group": "batch", "resource": "jobs"}},
    }
    asked = ("create", "--filename=-", "--validate=false", "--output=jsonpath={.status.allowed}")
    return stage.cluster.kubectl(*asked, stdin=json.dumps(review), kubeconfig_file=kubeconfig) == "true"
