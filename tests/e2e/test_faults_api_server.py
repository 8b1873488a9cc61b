"""An API server that is down, slow, overwhelmed, lying or half heard: one controller lives through it all and ends up right.

All tests share one controller, which is never started again. Each of them ends with `Scene.settled`: ready again, nothing left to do, every
Job that has a run started once for it, and all quota back once the Jobs are gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import pytest

from aiqueue.cli.harness.cluster import DevCluster
from fix_controller import ControllerProcess, Stage, job, staged
from fix_ledger import Copies
from fix_managed import Teams
from fix_proxy import ApiProxy
from fix_proxy_faults import (
    GARBAGE,
    LOST,
    TRUNCATED,
    Effort,
    Fault,
    Verb,
    answer,
    disorderly,
    doubled,
    page,
    reversed_order,
    slow,
    status_object,
)

pytestmark = pytest.mark.e2e

#: How long an outage lasts. More than 30 s lets every back-off reach its bound, and the controller give its term up.
OUTAGE_SECONDS = float(os.environ.get("AIQUEUE_TEST_OUTAGE_SECONDS", "12"))
#: Of all requests together, whatever is wrong. A controller that spins sends thousands.
MOST_A_SECOND = 60
MOST_CPU = 0.5  # of one processor, while nothing can be done
MOST_GROWTH_BYTES = 64 << 20


@dataclass
class Scene:
    """A controller that speaks to its API server through a proxy."""

    stage: Stage
    proxy: ApiProxy
    controller: ControllerProcess

    def readiness(self) -> str:
        """What /readyz answers."""
        return self.controller.readiness().strip()

    def until_ready(self) -> None:
        self.stage.until(lambda: self.readiness() == "ok", "readiness to recover", seconds=120)

    def settled(self, *names: str) -> None:
        """Nothing is wrong any more: see the module's first lines."""
        stage = self.stage
        self.proxy.relent()
        self.until_ready()
        stage.until(lambda: not stage.rows("SELECT 1 FROM action"), "nothing to be left to do")
        for name in names:
            self.started_as_often_as_decided(name)
        stage.delete_jobs()
        stage.until(lambda: stage.used() == 0, "all quota to come back")
        assert not self.controller.ended()
        assert len(stage.controllers) == 1

    def started_as_often_as_decided(self, name: str) -> None:
        """Each run of the Jobs of a name was started exactly once: told from the audit log of the API server."""
        uids = self.stage.rows(
            "SELECT w.uid, count(r.id) AS runs FROM workload w LEFT JOIN run r ON r.workload_id = w.id"
            " WHERE w.namespace = :ns AND w.name = :name GROUP BY w.uid",
            ns=self.stage.namespace,
            name=name,
        )
        for row in uids:
            found = self.stage.unsuspends(row["uid"])
            stamps = [each["requestObject"]["metadata"]["annotations"]["aiqueue.dev/run"] for each in found]
            assert len(set(stamps)) == len(stamps) <= row["runs"], "no run is started twice"


@pytest.fixture(scope="module")
def beset(
    gpu_cluster: DevCluster, teams: Teams, ledger_copies: Copies, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    url, folder = ledger_copies.take(), tmp_path_factory.mktemp("beset")
    with staged(gpu_cluster, teams.take(), url, folder) as stage, ApiProxy(gpu_cluster) as proxy:
        stage.tenants(gpus=32)
        through = proxy.kubeconfig(stage.installed.controller_kubeconfig, folder)
        yield Scene(stage, proxy, stage.lead(kubeconfig=str(through)))
    ledger_copies.give_back(url)


@pytest.fixture
def scene(beset: Scene) -> Iterator[Scene]:
    yield beset
    beset.proxy.up()
    beset.proxy.relent()  # also of a test that failed
    beset.stage.delete_jobs()


def test_down_for_a_while(scene: Scene) -> None:
    """Connections are refused, then dropped, then kept without an answer. What happened meanwhile is made up for."""
    stage, proxy = scene.stage, scene.proxy
    for name in ("stays", "goes", "ends"):
        stage.create_job(name)
        stage.until_running(name)
    scene.until_ready()
    before, began = Effort.of(scene.controller.pid), time.monotonic()

    def has_lasted(part: float) -> Callable[[], bool]:
        return lambda: time.monotonic() - began >= OUTAGE_SECONDS * part

    proxy.down("refusing")
    stage.create_job("new")
    stage.delete_job("goes")
    (pod,) = stage.pods("ends")
    stage.cluster.kubectl("annotate", "pod", pod["metadata"]["name"], f"-n={stage.namespace}", "aiqueue.dev/dev-end=now")
    stage.until(has_lasted(0.3), "the server to be away for a while")
    proxy.down("dropping")
    stage.until(lambda: "the API server has not been reached for" in scene.readiness(), "readiness to tell")
    stage.until(has_lasted(0.8), "the server to drop connections for a while", seconds=OUTAGE_SECONDS + 60)
    connects, lasted = proxy.count("connect", since=began), time.monotonic() - began
    assert connects <= 15 + lasted / 2
    proxy.down("silent")
    stage.until(has_lasted(1.0), "the server to be silent for a while", seconds=OUTAGE_SECONDS + 60)
    after, took = Effort.of(scene.controller.pid), time.monotonic() - began
    assert proxy.peak(since=began) <= MOST_A_SECOND
    assert after.cpu_seconds - before.cpu_seconds <= MOST_CPU * took
    assert after.resident_bytes - before.resident_bytes <= MOST_GROWTH_BYTES
    proxy.up()
    stage.until_running("new")
    stage.until(lambda: stage.workload("ends")["state"] == "Finished", "what ended to be noticed")
    stage.until(lambda: stage.workload("goes")["state"] == "Cancelled", "what was deleted to be noticed")
    stage.until(lambda: stage.used() == 16, "two Jobs to hold what they have")
    assert len(stage.runs("stays")) == 1
    scene.settled("stays", "goes", "ends", "new")


def test_slow(scene: Scene) -> None:
    """Headers come late and bodies in bits, those of lists and of the watch too: all takes longer, and nothing else changes."""
    stage, proxy = scene.stage, scene.proxy
    began = time.monotonic()
    proxy.befall(slow(0.3, (400, 0.02)))
    proxy.cut_watches()
    for number in range(4):
        stage.create_job(f"slow-{number}")
    for number in range(4):
        stage.until_running(f"slow-{number}")
    stage.cluster.kubectl("patch", "job", "slow-0", f"-n={stage.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    stage.until_state("slow-0", "Held")
    assert proxy.peak(since=began) <= MOST_A_SECOND
    scene.settled(*(f"slow-{number}" for number in range(4)))


REFUSALS: dict[str, Fault] = {
    "429": answer(429, retry_after=1),
    "409": answer(409),
    "500": answer(500),
    "503": answer(503),
    "nothing is here": page(404),
    "bad request": page(400),
    "maintenance": page(200, "<html>we are back soon"),
    "truncated": TRUNCATED,
    "garbage": GARBAGE,
    "lost": LOST,
}


@pytest.mark.parametrize("what", REFUSALS)
def test_answers_that_are_none(scene: Scene, what: str) -> None:
    """One Job ends and another starts while the first few patches, gets and lists of pods fare badly, done by the server or not."""
    stage, proxy = scene.stage, scene.proxy
    first, second = (f"{which}-{list(REFUSALS).index(what)}" for which in ("first", "second"))
    stage.create_job(first, pods=4)
    stage.until_running(first, pods=4)
    stage.create_job(second)
    stage.until_state(second, "Pending")
    began = time.monotonic()
    verbs: tuple[Verb, ...] = ("patch", "get", "list")
    rules = {
        verb: proxy.befall(REFUSALS[what], verb=verb, path="/jobs/" if verb != "list" else "/pods", times=2) for verb in verbs
    }
    stage.delete_job(first)
    stage.until_running(second)
    stage.until_state(first, "Cancelled")
    stage.until(lambda: stage.used() == 8, "the quota of the first to come back")
    assert rules["patch"].hits >= 1
    assert rules["list"].hits == 2
    assert proxy.peak(since=began) <= MOST_A_SECOND
    scene.settled(first, second)
    assert len(stage.runs(second)) == 1


def test_every_fifth_request_fails(scene: Scene) -> None:
    """A server that half works is worked with: no request waits for another that failed."""
    stage, proxy = scene.stage, scene.proxy
    names = [f"fifth-{number}" for number in range(8)]
    began = time.monotonic()
    for fault in (answer(500), LOST, TRUNCATED, answer(429, retry_after=1)):
        proxy.befall(fault, path="/jobs", fraction=0.05)
    for name in names:
        stage.create_job(name, gpus=4, runtime="1s")
    for name in names:
        stage.until_state(name, "Finished")
    assert proxy.peak(since=began) <= MOST_A_SECOND
    scene.settled(*names)
    assert all(len(stage.runs(name)) == 1 for name in names)


def test_watches_that_end(scene: Scene) -> None:
    """Cleanly, within an event, with an ERROR, and since they are too old: what comes after is heard, and lists do not follow one another."""
    stage, proxy = scene.stage, scene.proxy
    began = time.monotonic()
    stage.create_job("cut")
    stage.until_running("cut")
    proxy.cut_watches()
    stage.create_job("cleanly")
    stage.until_running("cleanly")
    stage.until(lambda: proxy.watches > 0, "a watch")
    proxy.cut_watches(within=True)
    stage.create_job("within")
    stage.until_running("within")
    stage.until(lambda: proxy.watches > 0, "another watch")
    assert proxy.count("list", "/apis/batch/v1/jobs", since=began) == 0
    proxy.tell_watches({"type": "ERROR", "object": status_object(410)})
    stage.until(lambda: proxy.count("list", "/apis/batch/v1/jobs", since=began) >= 1, "a list")
    proxy.befall(answer(410), verb="watch", times=1)
    proxy.befall(answer(410), verb="list", path="/apis/batch/v1/jobs", times=1)
    stage.create_job("too-old")
    stage.until_running("too-old")
    assert proxy.count("list", "/apis/batch/v1/jobs", since=began) <= 3, "one for the ERROR, two for the watch"
    assert proxy.peak(since=began) <= MOST_A_SECOND
    scene.settled("cut", "cleanly", "within", "too-old")


@pytest.mark.parametrize("how", ["doubled", "reversed", "disorderly"])
def test_events_out_of_order(scene: Scene, how: str) -> None:
    """While Jobs are made, started, ended, deleted and made again, events come twice, in the wrong order, late and again."""
    stage, proxy = scene.stage, scene.proxy
    meddler = {"doubled": doubled, "reversed": reversed_order, "disorderly": disorderly(Random(7))}[how]
    proxy.meddle(meddler, gather_seconds=0.0 if how == "doubled" else 0.4)
    ending, lasting, again = ([f"{how}-{what}-{number}" for number in range(3)] for what in ("ends", "lasts", "again"))
    for name in ending:
        stage.create_job(name, gpus=1, runtime="1s")
    for name in lasting + again:
        stage.create_job(name, gpus=1)
    stage.until_running(again[0])
    for _ in range(2):
        for name in again:
            recreate(stage, name)
    for name in ending:
        stage.until_state(name, "Finished")
    for name in lasting + again:
        until_started(stage, name)
    # All three lives of a name are over but the last.
    for name in again:
        rows = stage.rows("SELECT state FROM workload WHERE namespace = :ns AND name = :name", ns=stage.namespace, name=name)
        live = [row["state"] for row in rows if row["state"] not in ("Cancelled", "Finished", "Failed")]
        assert live == ["Admitted"]
    stage.until(lambda: stage.used() == 6, "the usage to be that of what runs")
    scene.settled(*ending, *lasting, *again)


def until_started(stage: Stage, name: str) -> None:
    """Wait until a Job runs as far as it is up to us.

    A Job made again at once may wait minutes for its pods: Kubernetes' own controller still expects events of those before.
    """
    stage.until_state(name, "Admitted")
    stage.until(lambda: not stage.job(name)["spec"]["suspend"], f"{name} to be started")


def recreate(stage: Stage, name: str) -> None:
    """Delete a Job and make another of its name, as soon as the name is free."""
    stage.delete_job(name)
    stage.until(lambda: not stage.cluster.api.is_ok(stage._path("jobs", name)), f"{name} to be gone")
    stage.create_job(name, gpus=1)


PATIENT = """
apiVersion: aiqueue.dev/v1
kind: Class
metadata: {name: patient}
spec: {gracePeriod: 1h}
"""


def test_made_again_under_one_name_at_every_stage(scene: Scene) -> None:
    """While its run is admitted, evicting or releasing, several times at once, with events in disorder: the last life counts."""
    stage, proxy = scene.stage, scene.proxy
    stage.apply(PATIENT)
    proxy.meddle(disorderly(Random(11)), gather_seconds=0.2)
    for _ in range(4):  # not even seen, perhaps, or just being started
        stage.create_job("admitted", gpus=1)
        stage.delete_job("admitted")
        stage.until(lambda: not stage.cluster.api.is_ok(stage._path("jobs", "admitted")), "the name to be free")
    stage.create_job("admitted", gpus=1)
    until_started(stage, "admitted")
    recreate(stage, "admitted")
    stage.create_job("evicting", pods=3, labels={"aiqueue.dev/class": "patient"})
    stage.until_running("evicting", pods=3)
    stage.create_job("urgent", pods=4, labels={"aiqueue.dev/class": "urgent"}, gpus=7)
    stage.until_state("evicting", "Evicting")
    recreate(stage, "evicting")
    until_started(stage, "urgent")
    until_started(stage, "evicting")
    stage.cluster.kubectl("patch", "job", "urgent", f"-n={stage.namespace}", "--type=merge", '-p={"spec":{"suspend":true}}')
    recreate(stage, "urgent")
    for name in ("admitted", "evicting", "urgent"):
        until_started(stage, name)
    stage.until(lambda: stage.used() == 3, "the usage to be that of what runs")
    scene.settled("admitted", "evicting", "urgent")


def test_a_namespace_deleted_and_made_again(scene: Scene, teams: Teams) -> None:
    """Its running and waiting Jobs are gone and their quota back; the same names mean new Jobs afterwards, to the same queue."""
    stage, proxy = scene.stage, scene.proxy
    api = stage.cluster.api
    (doomed,) = teams.make(1)
    stage.apply(
        f"{{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {{name: train, namespace: {doomed}}}, spec: {{tenant: research}}}}"
    )
    path = f"/api/v1/namespaces/{doomed}"

    def states() -> list[str]:
        rows = stage.rows("SELECT state FROM workload WHERE namespace = :ns ORDER BY id", ns=doomed)
        return [str(row["state"]) for row in rows]

    def create() -> None:
        """One Job that runs and one that waits: neither is older where both are of one second."""
        before = states()
        for name, pods, state in (("runs", 3, "Admitted"), ("waits", 2, "Pending")):
            api.call("POST", f"/apis/batch/v1/namespaces/{doomed}/jobs", job(doomed, name, pods=pods))
            before = [*before, state]
            stage.until(lambda wanted=before: same(wanted), f"{name} to be {state}")  # type: ignore[misc]

    def same(wanted: list[str]) -> bool:
        found = states()
        return found[-1:] == wanted[-1:] and len(found) == len(wanted)

    create()
    proxy.befall(LOST, verb="patch", times=1)
    api.call("DELETE", path)
    stage.until(lambda: not api.is_ok(path), "the namespace to be gone", seconds=120)
    # Its pods go before it, so that a Job may have failed by the time that it is deleted.
    stage.until(lambda: set(states()) <= {"Cancelled", "Failed"}, "its Jobs to be gone")
    stage.until(lambda: stage.used() == 0, "their quota to come back")
    api.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": doomed}})
    stage.until(lambda: api.is_ok(f"{path}/serviceaccounts/default"), "the service account of the namespace")
    create()
    assert states()[2:] == ["Admitted", "Pending"]
    assert stage.used() == 24
    api.call("DELETE", f"/apis/batch/v1/namespaces/{doomed}/jobs", {"propagationPolicy": "Background"})
    scene.settled()
