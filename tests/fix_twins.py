"""A Job under runs of ours, and its twin that nobody but the owner touches: whatever happens, the owner's template is the twin's.

Everything is the product's own but what decides (the test does) and the Job controller, which leaves these Jobs to somebody else
(`managedBy`) so that the test may play it, at the moment of its choice: through jobs/status of a real API server. What is observed,
committed, written into Jobs and put back goes through the product's own steps, one at a time, so that a test can end the process
between any two.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine

from aiqueue.admission.controller import commit
from aiqueue.admission.controller.actor import Actor, Again
from aiqueue.admission.controller.confirm import Confirmer, Question
from aiqueue.admission.controller.facts import ActionEnded, Inbox, Result
from aiqueue.admission.controller.hands import JobHands
from aiqueue.admission.controller.standing import standings
from aiqueue.admission.controller.term import Term
from aiqueue.admission.engine.events import RunOpened
from aiqueue.admission.engine.plan import Admission, Eviction, Plan
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.jobs import observe
from aiqueue.admission.kube.watches import EventType
from aiqueue.admission.retelling import Retelling
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.queue import documents
from aiqueue.queue.database import transaction
from aiqueue.queue.observations import Observation
from aiqueue.queue.records import Allocation, Flavor, Toleration
from aiqueue.queue.store import actions, configuration, plans, work
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.codec import tolerations_to_json
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import RunOutcome, WorkloadState
from fix_managed import send
from fix_terms import Observer

MERGE_PATCH = "application/merge-patch+json"
RUN = "aiqueue.dev/run"
_OURS = (RUN, "aiqueue.dev/evict-at", "aiqueue.dev/stopped")
_MOST_ROUNDS = 60
_number = itertools.count(1)


class Asking(Confirmer):
    """Questions are kept until the test has them asked."""

    def __init__(self) -> None:
        super().__init__(Inbox(), threads=0)
        self.open: dict[tuple[str, ...], Question] = {}

    def ask(self, question: Question) -> None:
        self.open.setdefault(question.key, question)


class Deeds(Actor):
    """Nothing waits here to be done: what the ledger asks for is due, until it is done, which somebody has yet to hear."""

    def __init__(self, twins: Twins) -> None:
        done = (Result.DONE, "")
        super().__init__(lambda _: done, Inbox(), threads=0, trusted=lambda: True, now=twins.term.clock.now)
        self._twins = twins

    def take_back(self, workload_id: int, run_id: int) -> bool:
        done = self._twins.ended
        return done is None or (done.action.workload_id, done.action.run_id) != (workload_id, run_id)


@dataclass
class Twins:
    """See the module. `it` is the Job under test.

    Attributes:
        wish: the size that the owner asked for last.
        slipped: somebody else started it, so that it runs as it stands.
        due: actions as they were when they were first known, as a process holds them that lives on.
        started: how often a run of ours was seen to be started.
        ended: what was done and nobody has heard of.
    """

    cluster: DevCluster
    client: KubeClient
    namespace: str
    owner_ledger: Engine
    term: Term
    build: Callable[..., Observer]
    flavors: list[Flavor]
    document: dict[str, Any]
    name: str = ""
    uid: str = ""
    seq: int = 0
    started: int = 0
    observer: Observer = field(init=False)
    hands: JobHands = field(init=False)
    asking: Asking = field(init=False)
    due: dict[int, Action] = field(default_factory=dict)
    ended: ActionEnded | None = None

    def __post_init__(self) -> None:
        number = next(_number)
        self.name = f"it-{number}"
        self.seq = number * 1000
        self.flavors = [replace(each, name=f"{each.name}-{number}") for each in self.flavors]
        self._configure()
        spec = {**self.document["spec"], "suspend": True, "managedBy": "example.com/played"}
        labels = {"aiqueue.dev/queue": "train"}
        self._create(self.name, spec, {"labels": labels})
        self._create(f"{self.name}-twin", spec, {})
        self.uid = self.job()["metadata"]["uid"]
        self.begin()
        self.tell()
        self.follow()

    # The cluster, its owner, and who plays the Job controller.

    def job(self, which: str = "") -> dict[str, Any]:
        """The Job as the API server returns it, or its twin."""
        return self._send("GET", self.name + which)

    def edit(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
        """The owner edits the spec of both by what he sees of each; False where the server refuses it for the one under test.

        `change` makes a merge patch of the spec from the spec.
        """
        try:
            self._patch(self.name, {"spec": change(self.job()["spec"])})
        except HarnessError:
            return False
        twin = f"{self.name}-twin"
        self._patch(twin, {"spec": change(self.job("-twin")["spec"])})
        return True

    def annotate(self, key: str, value: str | None) -> None:
        """The owner annotates the Job."""
        self._patch(self.name, {"metadata": {"annotations": {key: value}}})

    def label(self, queue: str | None) -> None:
        """The owner moves the Job to a queue, or out of all."""
        self._patch(self.name, {"metadata": {"labels": {"aiqueue.dev/queue": queue}}})

    def suspend(self, suspended: bool) -> None:
        """Somebody sets spec.suspend. No policy is in force here."""
        self._patch(self.name, {"spec": {"suspend": suspended}})

    def control(self) -> None:
        """What the Job controller would write next: the pods of a Job that runs, or that those of a suspended one are gone."""
        job = self.job()
        status, now = job.get("status", {}), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        wanted = "True" if job["spec"]["suspend"] else "False"
        conditions = [{"type": "Suspended", "status": wanted, "lastTransitionTime": now, "lastProbeTime": now}]
        if wanted == "True":
            if not status.get("conditions") and not status.get("startTime"):
                return
            status = {"conditions": conditions, "startTime": None, "active": 0, "ready": 0, "terminating": 0}
        else:
            pods = job["spec"]["parallelism"]
            begun = {"startTime": now} if "startTime" not in status else {}
            status = {**begun, "conditions": conditions, "active": pods, "ready": pods}
        self._send("PATCH", f"{self.name}/status", {"status": status})

    # The controller, step by step.

    def begin(self) -> None:
        """A process begins, with what the ledger holds and nothing else."""
        self.observer = self.build()
        step = self.observer.step
        self.asking = Asking()
        step.confirmer = self.asking
        step.client = self.client
        step.actor = Deeds(self)
        with self.term.transaction() as connection:
            for event in Retelling.of(connection).events():
                step.engine.observe(event)
        self.hands = JobHands(self.client, self.term, partial(observe, cluster="default"), self.observer.jobs.get)
        self.due = {}
        self.ended = None
        self.observer.jobs.replace([], "0")

    def tell(self) -> None:
        """The watch tells how the Job is."""
        job = self.client.get_job(self.namespace, self.name)
        assert job is not None
        labelled = job.metadata.labels is not None and job.metadata.labels.queue is not None
        self.observer.jobs.apply(EventType.MODIFIED if labelled else EventType.DELETED, job)

    def follow(self) -> None:
        """What the watch told is followed. After a Job that left the watch is asked, as the confirmer would."""
        step = self.observer.step
        job = self.observer.jobs.get(self.uid)
        if job is not None:
            step.look([observe(job, cluster="default")])
        elif self.uid in step.mirror.known:
            step.absent([self.uid])

    def confirm(self) -> None:
        """The questions that are open are asked, and the answers heard."""
        for key, question in list(self.asking.open.items()):
            answer = question.ask()
            if answer is not None:
                del self.asking.open[key]
                self.observer.step.hear([answer])

    @property
    def known(self) -> Known | None:
        """What the process knows of the ledger's row."""
        return self.observer.step.mirror.known.get(self.uid)

    def admit(self, flavor: int, size: int) -> bool:
        """A Plan admits it at a size to a flavor; False where it does not wait to be admitted."""
        row = self.known
        if row is None or row.state is not WorkloadState.PENDING or row.run is not None:
            return False
        with self.term.transaction() as connection:
            (workload,) = work.load_pending(connection, ids=[row.id])
        if workload.invalid is not None:
            return False
        count = workload.pod_sets[0].count
        admission = Admission(
            workload,
            "research",
            row.attempt + 1,
            (Allocation("main", self.flavors[flavor].name, "cpu", 10),),
            {"main": {"cpu": self.flavors[flavor].name}},
            {"main": 1 + size % count},
        )
        (run_id,) = self._commit(admissions=(admission,))
        self.observer.step.mirror.admitted(self.uid, run_id, admission.attempt)
        with self.term.transaction() as connection:
            for run in work.load_open_runs(connection, ids=[run_id]):
                self.observer.step.engine.observe(RunOpened(run))
        self.todo()
        return True

    def evict(self, outcome: RunOutcome) -> bool:
        """A Plan ends its run; False where there is none to end."""
        row = self.known
        if row is None or row.run is None or row.run.evict_at is not None:
            return False
        at = self.term.clock.now()
        self._commit(evictions=(Eviction(row.run.id, row.id, row.run.attempt, outcome, at, "room is needed"),))
        self.observer.step.mirror.evicting(self.uid, outcome, at, "room is needed")
        return True

    def todo(self) -> list[Action]:
        """What is yet to be done to it by the ledger, in order, each as it was when this process first knew of it."""
        with self.term.transaction() as connection:
            found = [action for action in actions.load_open(connection, 1) if action.uid == self.uid]
        for action in found:
            self.due.setdefault(action.id, action)
        return [self.due[action.id] for action in found]

    def act(self) -> bool:
        """The oldest action is tried once, and the cycle hears how it ended; False where nothing is due."""
        return self.attempt() and self.hear()

    def attempt(self) -> bool:
        """The oldest action is tried once, and nobody has heard yet how it ended; False where nothing is due."""
        todo = self.todo()
        if not todo or self.ended is not None:
            return False
        ended = self.hands(todo[0])
        if not isinstance(ended, Again):
            self._check_started(todo[0], *ended)
            self.ended = ActionEnded(todo[0], *ended)
        return True

    def hear(self) -> bool:
        """The cycle hears how what was tried ended."""
        if self.ended is not None:
            fact, self.ended = self.ended, None
            self.observer.step.hear([fact])
        return True

    def act_late(self) -> bool:
        """A thread that was held up tries an action that the ledger has dropped meanwhile; nobody listens any more."""
        current = {action.id for action in self.todo()}
        dropped = [action for key, action in self.due.items() if key not in current]
        if not dropped:
            return False
        ended = self.hands(dropped[-1])
        if not isinstance(ended, Again):
            self._check_started(dropped[-1], *ended)
        return True

    # What has to hold.

    def _check_started(self, action: Action, result: Result, why: str) -> None:
        """A run that was started runs its owner's template, on the nodes of its flavor, and nothing of an earlier run's."""
        if result is not Result.DONE or why or action.kind != "Unsuspend":
            return
        self.started += 1
        flavor = next(each for each in self.flavors if each.name in self._flavors_of(action))
        spec, own = self.job()["spec"], self.job("-twin")["spec"]
        theirs, written = own["template"]["spec"], spec["template"]["spec"]
        assert written.get("nodeSelector", {}) == {**theirs.get("nodeSelector", {}), **flavor.node_labels}
        tolerations = list(theirs.get("tolerations", []))
        said = [_meaning(each) for each in tolerations]
        for each in tolerations_to_json(flavor.tolerations):
            if _meaning(each) not in said:
                said.append(_meaning(each))
                tolerations.append(each)
        assert written.get("tolerations", []) == tolerations
        pods = min(spec["parallelism"], spec.get("completions", spec["parallelism"]))
        asked = min(own["parallelism"], own.get("completions", own["parallelism"]))
        size = action.injected["main"].get("parallelism", asked)
        assert pods == min(size, spec.get("completions", size))

    def _flavors_of(self, action: Action) -> set[str]:
        with self.term.transaction() as connection:
            runs = work.load_open_runs(connection, ids=[action.run_id or 0])
        return {allocation.flavor for run in runs for allocation in run.allocations}

    def settle(self) -> None:
        """The owner stops it, and everything that follows is done: nothing is open, nothing is left to do."""
        self.hear()
        for _ in range(_MOST_ROUNDS):
            job = self.job()
            if not job["spec"]["suspend"]:
                self.suspend(True)
            self.control()
            self.tell()
            self.follow()
            self.confirm()
            for _ in range(len(self.todo())):
                self.act()
                self.tell()
                self.follow()
            row = self.known
            at_rest = (row is None or row.run is None) and not self.todo() and not self.asking.open
            if at_rest and self.job()["spec"]["suspend"] and self.observed().suspended:
                return
        raise AssertionError(f"not at rest after {_MOST_ROUNDS} rounds: {self.known}, {self.todo()}, {self.job()}")

    def observed(self) -> Observation:
        """The Job as it is now."""
        job = self.client.get_job(self.namespace, self.name)
        assert job is not None
        return observe(job, cluster="default")

    def check_restored(self) -> None:
        """The Job is what its owner made of it, as the server writes it, byte for byte."""
        ours, theirs = self.job(), self.job("-twin")
        notes = ours["metadata"].get("annotations", {})
        assert not [key for key in _OURS if key in notes], notes
        assert _text(ours) == _text(theirs), f"{_text(ours)}\n{_text(theirs)}"

    # Help.

    def _configure(self) -> None:
        parts = []
        for flavor in self.flavors:
            spec = {"nodeLabels": dict(flavor.node_labels), "tolerations": tolerations_to_json(flavor.tolerations)}
            parts.append({"kind": "Flavor", "metadata": {"name": flavor.name}, "spec": spec})
        quotas = [{"flavor": each.name, "resources": [{"name": "cpu", "nominal": 64}]} for each in self.flavors]
        parts.append({"kind": "Tenant", "metadata": {"name": "research"}, "spec": {"quotas": quotas}})
        for queue in ("train", "other"):
            metadata = {"name": queue, "namespace": self.namespace}
            parts.append({"kind": "Queue", "metadata": metadata, "spec": {"tenant": "research"}})
        texts = "\n---\n".join(json.dumps({"apiVersion": "aiqueue.dev/v1", **each}) for each in parts)
        with transaction(self.owner_ledger) as connection:
            configuration.apply(connection, documents.read_documents(texts, "test"), claimed_by="test")

    def _commit(self, **what: Any) -> tuple[int, ...]:
        self.seq += 1
        step = self.observer.step
        plan = Plan(self.term.clock.now() + timedelta(), step.context.configuration.revision, **what)
        standing = standings(plan, self.observer.jobs, self.term, 1)
        rows = commit.rows_of(plan, self.seq, step.context.configuration, step.mirror.resource_version, standing)
        with self.term.transaction() as connection:
            return plans.commit(connection, self.term.number, 1, rows).run_ids

    def _path(self, name: str) -> str:
        return f"/apis/batch/v1/namespaces/{self.namespace}/jobs" + (f"/{name}" if name else "")

    def _send(self, method: str, name: str, body: object = None) -> dict[str, Any]:
        content = "application/json" if method != "PATCH" else MERGE_PATCH
        return send(self.cluster, self.cluster.kubeconfig, method, self._path(name), body, content_type=content)

    def _create(self, name: str, spec: dict[str, Any], metadata: dict[str, Any]) -> None:
        metadata = {**metadata, "name": name, "namespace": self.namespace}
        self._send("POST", "", {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec})

    def _patch(self, name: str, change: dict[str, Any]) -> None:
        self._send("PATCH", name, change)


def _meaning(toleration: dict[str, Any]) -> tuple[Any, ...]:
    read = Toleration(toleration.get("key", ""), toleration.get("operator") or "Equal", toleration.get("value", ""))
    return (read, toleration.get("effect", ""), toleration.get("tolerationSeconds"))


def _text(job: dict[str, Any]) -> str:
    """Template and size as the server writes them; what it derives of the Job's own name and uid reads the same for both.

    The deadline that ends a Job for good stays, whatever becomes of the Job.
    """
    spec, metadata = job["spec"], job["metadata"]
    written = json.dumps([spec["parallelism"], spec.get("completions"), spec["template"]])
    return written.replace(metadata["uid"], "UID").replace(f'"{metadata["name"]}"', '"NAME"')
