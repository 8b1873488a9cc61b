"""The owners of Jobs and their administrator: one random act after the other, in a thread."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiqueue.admission.kube.errors import KubeError
from aiqueue.cli.harness.api import Answer
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.queue.errors import AiqueueError
from aiqueue.queue.words import ObjectState
from soak import jobs
from soak.auditlog import BEHIND_ITS_BACK
from soak.door import Door
from soak.jobs import CLASS, DEV_END, DEV_EXIT_CODE, DEV_READY, HOLD, QUEUE, RUN, Wish
from soak.tenants import CLASSES, IMPATIENT, QUEUES, Administrator
from soak.world import World

_MERGE = "application/merge-patch+json"
_LIST_SECONDS = 0.7
#: What the webhook says of a queue that is held or drained.
_CLOSED = "is in state"
Job = Mapping[str, Any]


class Owners:
    """Acts at random on the Jobs of a world, about so many times a second.

    Attributes:
        wishes: uid -> what its owner has in the Job where a run writes.
        acts: how often each kind of act went through.
        door: the webhook, where there is one.
    """

    def __init__(
        self, world: World, administrator: Administrator, seed: str, *, live: int = 24, per_second: float = 4.0
    ) -> None:
        self.world = world
        self.administrator = administrator
        self.wishes: dict[str, Wish] = {}
        self.acts: Counter[str] = Counter()
        self.fault: str | None = None
        self.door: Door | None = None
        self._rng = random.Random(f"{seed}/owners")
        self._live = live
        self._pause_seconds = 1 / per_second
        self._numbers = itertools.count(1)
        self._backs = itertools.count(BEHIND_ITS_BACK)
        self._working = threading.Event()
        self._idle = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="owners", daemon=True)
        self._jobs: list[Job] = []
        self._kinds: dict[Callable[[], str | None], float] = {
            self._create: 8,
            self._edit: 1.6,
            self._end_pods: 2.5,
            self._suspend: 1.2,
            self._resume: 1.6,
            self._delete: 1.0,
            self._recreate: 1.0,
            self._hold: 0.5,
            self._relabel: 0.8,
            self._reclass: 0.4,
            self._scale: 0.6,
            self._leave: 0.4,
            self._return: 0.6,
            self._start_behind: 0.6,
            self._create_unready: 1.0,
            self._sicken: 1.2,
            self._orphan: 0.8,
            self._bury: 1.0,
            self._create_wrong: 0.8,
        }
        self._orphans: dict[str, str] = {}  # uid of a Job that left its pods behind -> its namespace

    def __enter__(self) -> Owners:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._working.set()
        self._thread.join(30)

    def work(self) -> None:
        """Begin to act, or go on."""
        self._idle.clear()
        self._working.set()

    def rest(self) -> None:
        """Do nothing more until `work`; returns when the last act is over."""
        self._working.clear()
        self._idle.wait(30)

    def submit(self, job: dict[str, Any]) -> str:
        """Create a Job; answers its uid."""
        made = self.world.api.call("POST", jobs.path(job["metadata"]["namespace"]), job)
        return self._made(made)

    def _submit_where_open(self, job: dict[str, Any]) -> None:
        """Submit a Job, if need be to another queue than it names: the webhook turns away who comes to one that is closed."""
        others = self._rng.sample(sorted(QUEUES), len(QUEUES))
        for queue in others:
            try:
                self.submit(job)
            except HarnessError as error:
                if _CLOSED not in str(error):
                    raise
                job["metadata"]["labels"][QUEUE] = queue
            else:
                return

    def _made(self, job: Job) -> str:
        uid = str(job["metadata"]["uid"])
        self.wishes[uid] = Wish.of(job)
        return uid

    def _run(self) -> None:
        since = 0
        while not self._stopping.is_set():
            if not self._working.is_set():
                self._idle.set()
                self._working.wait(0.2)
                continue
            try:
                if since % max(1, int(_LIST_SECONDS / self._pause_seconds)) == 0:
                    self._look()
                since += 1
                self._act()
            except (OSError, AiqueueError, KubeError) as error:  # refused, or another was faster: the next act is another
                self.acts["refused"] += 1
                self.fault = str(error)
                self._hear(self.fault)
            self._stopping.wait(self._pause_seconds * self._rng.uniform(0.5, 1.5))

    def _look(self) -> None:
        self._jobs = [
            each for namespace in self.world.namespaces for each in self.world.api.call("GET", jobs.path(namespace))["items"]
        ]

    def _act(self) -> None:
        kinds, weights = list(self._kinds), list(self._kinds.values())
        if sum(not jobs.state_of(each) for each in self._jobs) >= self._live:
            weights = [0 if "create" in kind.__name__ else weight for kind, weight in zip(kinds, weights, strict=True)]
        (kind,) = self._rng.choices(kinds, weights)
        done = kind()
        if done is not None:
            self.acts[done] += 1

    def _some(self, fits: Callable[[Job], bool]) -> Job | None:
        found = [each for each in self._jobs if not jobs.state_of(each) and fits(each)]
        return self._rng.choice(found) if found else None

    def _patch(self, job: Job, body: dict[str, Any], *, exactly: bool = True) -> bool:
        """Whether it went through; `exactly` on the version that was looked at."""
        metadata = job["metadata"]
        if exactly:
            body.setdefault("metadata", {})["resourceVersion"] = metadata["resourceVersion"]
        answer = self._ask("PATCH", job, body)
        return answer.status == HTTPStatus.OK

    def _ask(self, method: str, job: Job, body: object = None) -> Answer:
        where = jobs.path(job["metadata"]["namespace"], job["metadata"]["name"])
        kind = _MERGE if method == "PATCH" else "application/json"
        answer = self.world.api.ask(method, where, body, content_type=kind)
        self._hear(answer.body.decode(errors="replace") if answer.status >= HTTPStatus.BAD_REQUEST else "")
        return answer

    def _hear(self, said: str) -> None:
        if self.door is not None:
            self.door.hear(said)

    def _create(self) -> str:
        namespace = self._rng.choice(self.world.namespaces)
        self._submit_where_open(jobs.at_random(self._rng, namespace, f"job-{next(self._numbers)}"))
        return "create"

    def _edit(self) -> str:
        self.administrator.edit(self._rng)
        return "edit"

    def _end_pods(self) -> str | None:
        job = self._some(lambda each: not _suspended(each) and bool(each["status"].get("active")))
        if job is None:
            return None
        self._note_pods(self._pods(job["metadata"]["namespace"], job["metadata"]["uid"]), {DEV_END: "now"})
        return "end"

    def _pods(self, namespace: str, uid: str) -> list[Job]:
        pods: list[Job] = self.world.api.call("GET", f"/api/v1/namespaces/{namespace}/pods?{_of(uid)}")["items"]
        return pods

    def _note_pods(self, pods: list[Job], annotations: dict[str, str]) -> None:
        for pod in pods:
            where = f"/api/v1/namespaces/{pod['metadata']['namespace']}/pods/{pod['metadata']['name']}"
            self.world.api.ask("PATCH", where, _noting(annotations), content_type=_MERGE)

    def _create_unready(self) -> str:
        namespace = self._rng.choice(self.world.namespaces)
        self._submit_where_open(jobs.unready(self._rng, namespace, f"unready-{next(self._numbers)}"))
        return "create unready"

    def _sicken(self) -> str | None:
        """One pod of a gang in which it matters is ready no more, or fails."""
        names = {each.name for each in IMPATIENT}
        job = self._some(lambda each: not _suspended(each) and _class(each) in names and bool(each["status"].get("active")))
        pods = self._pods(job["metadata"]["namespace"], job["metadata"]["uid"]) if job else []
        if not pods:
            return None
        fails = self._rng.random() < 0.4
        self._note_pods([self._rng.choice(pods)], {DEV_EXIT_CODE: "1", DEV_END: "now"} if fails else {DEV_READY: "never"})
        return "fail a pod" if fails else "sicken"

    def _orphan(self) -> str | None:
        """Delete a Job and leave its pods behind: one that the ledger started, so that they hold their quota until they are gone."""
        job = self._some(lambda each: not _suspended(each) and _managed(each) and _started_by_ledger(each))
        if job is None:
            return None
        metadata = job["metadata"]
        exactly = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        if self._ask("DELETE", job, {"propagationPolicy": "Orphan", "preconditions": exactly}).status >= HTTPStatus.BAD_REQUEST:
            return None
        self._orphans[metadata["uid"]] = metadata["namespace"]
        return "orphan"

    def _bury(self) -> str | None:
        """End the pods of a Job that left them behind, half the time in peace, and take them away."""
        if not self._orphans:
            return None
        uid = self._rng.choice(sorted(self._orphans))
        namespace = self._orphans[uid]
        if self._rng.random() < 0.5:
            self._note_pods(self._pods(namespace, uid), {DEV_END: "now"})
        self.world.api.call("DELETE", f"/api/v1/namespaces/{namespace}/pods?{_of(uid)}")
        del self._orphans[uid]
        return "bury"

    def _create_wrong(self) -> str | None:
        if self.door is None:
            return None
        namespace, name = self._rng.choice(self.world.namespaces), f"wrong-{next(self._numbers)}"
        return "create wrong" if self.submit_wrong(jobs.wrong(self._rng, namespace, name)) else None

    def submit_wrong(self, job: dict[str, Any]) -> bool:
        """Submit a Job that the webhook is to turn away; answers whether it was let in."""
        assert self.door is not None
        began = time.monotonic()
        answer = self.world.api.ask("POST", jobs.path(job["metadata"]["namespace"]), job)
        self._hear(answer.body.decode(errors="replace") if answer.status >= HTTPStatus.BAD_REQUEST else "")
        if let_in := self.door.judge(job["metadata"]["name"], began, answer):
            self._made(answer.json())
        return let_in

    def _suspend(self) -> str | None:
        job = self._some(lambda each: not _suspended(each))
        return "suspend" if job and self._patch(job, {"spec": {"suspend": True}}, exactly=False) else None

    def _resume(self) -> str | None:
        job = self._some(lambda each: _suspended(each) and _notes(each).get(HOLD) != "false")
        return "resume" if job and self._patch(job, _noting({HOLD: "false"}), exactly=False) else None

    def _hold(self) -> str | None:
        job = self._some(_suspended)
        return "hold" if job and self._patch(job, _noting({HOLD: "true"}), exactly=False) else None

    def _delete(self) -> str | None:
        job = self._some(lambda _: True)
        if job is None:
            return None
        how = self._rng.choice(["Background", "Foreground"])
        return "delete" if self._ask("DELETE", job, {"propagationPolicy": how}).status < HTTPStatus.BAD_REQUEST else None

    def _recreate(self) -> str | None:
        job = self._some(lambda _: True)
        if job is None:
            return None
        metadata = job["metadata"]
        self._ask("DELETE", job, {"propagationPolicy": "Background"})
        self._submit_where_open(jobs.at_random(self._rng, metadata["namespace"], metadata["name"]))
        return "recreate"

    def _relabel(self) -> str | None:
        job = self._some(lambda each: _suspended(each) and _managed(each))
        body = {"metadata": {"labels": {QUEUE: self._rng.choice(sorted(QUEUES))}}}
        return "relabel" if job and self._patch(job, body) else None

    def _reclass(self) -> str | None:
        job = self._some(lambda each: _suspended(each) and _managed(each))
        body = {"metadata": {"labels": {CLASS: self._rng.choice(CLASSES).name}}}
        return "reclass" if job and self._patch(job, body) else None

    def _scale(self) -> str | None:
        """While a run's writing may be in the Job, nobody could tell what the owner has."""
        job = self._some(lambda each: _suspended(each) and _managed(each) and RUN not in _notes(each))
        if job is None or "aiqueue.dev/min-parallelism" in _notes(job):
            return None
        pods = self._rng.randrange(1, 5)
        if not self._patch(job, {"spec": {"parallelism": pods}}):
            return None
        uid = job["metadata"]["uid"]
        known = self.wishes[uid]
        self.wishes[uid] = Wish(known.node_selector, known.tolerations, pods)
        return "scale"

    def _leave(self) -> str | None:
        job = self._some(lambda each: _suspended(each) and _managed(each))
        return "leave" if job and self._patch(job, {"metadata": {"labels": {QUEUE: None}}}) else None

    def _return(self) -> str | None:
        job = self._some(lambda each: _suspended(each) and not _managed(each))
        body = {"metadata": {"labels": {QUEUE: self._rng.choice(sorted(QUEUES))}}}
        return "return" if job and self._patch(job, body) else None

    def _start_behind(self) -> str | None:
        """Start a Job that waits behind the ledger's back: with its stamp, so that it is adopted, or without, so that it is stopped."""
        job = self._some(lambda each: _suspended(each) and _managed(each) and RUN not in _notes(each))
        if job is None:
            return None
        metadata = job["metadata"]
        stamped = self._rng.random() < 0.8
        if stamped and not self.world.rows("SELECT 1 FROM run UNION ALL SELECT 1 FROM archived_run LIMIT 1"):
            return None  # a stamp of a run that was never given out would tell of a restored ledger
        body: dict[str, Any] = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "spec": {"suspend": False}}
        if stamped:
            body["metadata"]["annotations"] = {RUN: f"{self.world.ledger_uid}/1/{next(self._backs)}"}
        self.world.controller.patch_job(metadata["namespace"], metadata["name"], body)
        return "adopt" if stamped else "slip"

    def provoke(self, point: str) -> None:
        """Let something happen of which a controller has to reach a point; it may be refused, or need a second time."""
        namespace = self.world.namespaces[0]
        number = next(self._numbers)
        try:
            if point.startswith("configure"):
                self.administrator.edit(self._rng)
            elif "expire" in point:
                self.submit(jobs.make(namespace, f"limited-{number}", annotations={"aiqueue.dev/max-runtime": "1s"}))
            elif point.startswith("commit") or "unsuspend" in point:
                self.submit(jobs.make(namespace, f"short-{number}", class_name="urgent", runtime="1s"))
            elif number % 3:
                self.administrator.turn((namespace, "train"), ObjectState.DRAIN)
            else:
                self.administrator.open_up()
                self.submit(jobs.make(namespace, f"victim-{number}", class_name="urgent", pods=2))
        except (OSError, AiqueueError, KubeError) as error:
            self.fault = str(error)
            if _CLOSED in self.fault:
                self.administrator.open_up()


def _notes(job: Job) -> Mapping[str, str]:
    return job["metadata"].get("annotations") or {}


def _noting(annotations: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"annotations": annotations}}


def _suspended(job: Job) -> bool:
    return bool(job["spec"].get("suspend"))


def _managed(job: Job) -> bool:
    return QUEUE in (job["metadata"].get("labels") or {})


def _class(job: Job) -> str:
    return str((job["metadata"].get("labels") or {}).get(CLASS, ""))


def _of(uid: str) -> str:
    return f"labelSelector=batch.kubernetes.io%2Fcontroller-uid%3D{uid}"


def _started_by_ledger(job: Job) -> bool:
    attempt = _notes(job).get(RUN, "").rpartition("/")[2]
    return attempt.isdigit() and int(attempt) < BEHIND_ITS_BACK and bool(job["status"].get("active"))
