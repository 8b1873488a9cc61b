"""The owners of Jobs and their administrator: one random act after the other, in a thread."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from aiqueue.admission.kube.errors import KubeError
from aiqueue.cli.harness.api import Answer
from aiqueue.queue.errors import AiqueueError
from aiqueue.queue.words import ObjectState
from soak import jobs
from soak.auditlog import BEHIND_ITS_BACK
from soak.jobs import CLASS, DEV_END, HOLD, QUEUE, RUN, Wish
from soak.tenants import CLASSES, QUEUES, Administrator
from soak.world import World

_MERGE = "application/merge-patch+json"
_LIST_SECONDS = 0.7
Job = Mapping[str, Any]


class Owners:
    """Acts at random on the Jobs of a world, about so many times a second.

    Attributes:
        wishes: uid -> what its owner has in the Job where a run writes.
        acts: how often each kind of act went through.
    """

    def __init__(
        self, world: World, administrator: Administrator, seed: str, *, live: int = 24, per_second: float = 4.0
    ) -> None:
        self.world = world
        self.administrator = administrator
        self.wishes: dict[str, Wish] = {}
        self.acts: Counter[str] = Counter()
        self.fault: str | None = None
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
        }

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
            self._stopping.wait(self._pause_seconds * self._rng.uniform(0.5, 1.5))

    def _look(self) -> None:
        self._jobs = [
            each for namespace in self.world.namespaces for each in self.world.api.call("GET", jobs.path(namespace))["items"]
        ]

    def _act(self) -> None:
        kinds, weights = list(self._kinds), list(self._kinds.values())
        if sum(not jobs.state_of(each) for each in self._jobs) >= self._live:
            weights[0] = 0
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
        return self.world.api.ask(method, where, body, content_type=kind)

    def _create(self) -> str:
        namespace = self._rng.choice(self.world.namespaces)
        self.submit(jobs.at_random(self._rng, namespace, f"job-{next(self._numbers)}"))
        return "create"

    def _edit(self) -> str:
        self.administrator.edit(self._rng)
        return "edit"

    def _end_pods(self) -> str | None:
        job = self._some(lambda each: not _suspended(each) and bool(each["status"].get("active")))
        if job is None:
            return None
        namespace = job["metadata"]["namespace"]
        uid = job["metadata"]["uid"]
        where = f"/api/v1/namespaces/{namespace}/pods"
        for pod in self.world.api.call("GET", f"{where}?labelSelector=batch.kubernetes.io%2Fcontroller-uid%3D{uid}")["items"]:
            body = {"metadata": {"annotations": {DEV_END: "now"}}}
            self.world.api.ask("PATCH", f"{where}/{pod['metadata']['name']}", body, content_type=_MERGE)
        return "end"

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
        self.submit(jobs.at_random(self._rng, metadata["namespace"], metadata["name"]))
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


def _notes(job: Job) -> Mapping[str, str]:
    return job["metadata"].get("annotations") or {}


def _noting(annotations: dict[str, str]) -> dict[str, Any]:
    return {"metadata": {"annotations": annotations}}


def _suspended(job: Job) -> bool:
    return bool(job["spec"].get("suspend"))


def _managed(job: Job) -> bool:
    return QUEUE in (job["metadata"].get("labels") or {})
