"""What the reflector, the client and the wire make of an API server that is half there, by themselves and in short times."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from aiqueue.admission.kube import client, deadlines, errors
from aiqueue.admission.kube.client import KubeClient, job_path
from aiqueue.admission.kube.reflector import Reflector
from aiqueue.admission.kube.store import JobStore
from aiqueue.admission.kube.wire import NO_ANSWER, Request, Wire
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.waiting import until
from fix_kube import WAIT_SECONDS, create_jobs, job_document
from fix_managed import await_right
from fix_proxy import ApiProxy
from fix_proxy_faults import Fault, answer, page, slow

pytestmark = pytest.mark.e2e


@dataclass
class Reading:
    """A client, and what reads by it, behind a proxy."""

    cluster: DevCluster
    namespace: str
    proxy: ApiProxy
    client: KubeClient

    def create(self, *names: str) -> None:
        create_jobs(self.cluster, *(job_document(self.namespace, name) for name in names))

    @contextmanager
    def reflecting(self, **options: Any) -> Iterator[tuple[Reflector, JobStore]]:
        store, jitter = JobStore(), Random(1)
        reflector = Reflector(self.client, f"aiqueue.dev/queue={self.namespace}", store, rng=jitter, **options)
        reflector.start()
        try:
            self.until(lambda: reflector.state.connected_since is not None, "the first watch")
            yield reflector, store
        finally:
            assert reflector.stop()

    def until(self, probe: Any, what: str) -> None:
        until(probe, seconds=WAIT_SECONDS, what=what, longest_pause_seconds=0.05)


@pytest.fixture
def reading(cluster: DevCluster, kube_namespace: str, tmp_path: Path) -> Iterator[Reading]:
    # With a token, which a proxy can carry on, as it cannot a certificate.
    account = f"{kube_namespace}:default"
    cluster.kubectl(
        "create", "clusterrolebinding", kube_namespace, "--clusterrole=cluster-admin", f"--serviceaccount={account}"
    )
    await_right(cluster, f"system:serviceaccount:{account}")
    with ApiProxy(cluster) as proxy:
        given = cluster.service_account_kubeconfig(kube_namespace, "default")
        through = KubeClient.from_kubeconfig(proxy.kubeconfig(given, tmp_path))
        yield Reading(cluster, kube_namespace, proxy, through)
        through.close()


@pytest.mark.parametrize("how", ["frozen", "in bits"])
def test_a_watch_over_which_nothing_comes_any_more_is_given_up(
    reading: Reading, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Nobody hangs up: only that the server does not end it in time tells. Of an event that comes in bits for ever, too."""
    monkeypatch.setattr(client, "WATCH_MARGIN_SECONDS", 2.0)
    if how == "in bits":
        reading.proxy.befall(slow(0.0, (1, 0.1)), verb="watch", times=1)
    with reading.reflecting(watch_seconds=(1, 1), healthy_seconds=0.5) as (reflector, store):
        if how == "frozen":
            reading.proxy.freeze_watches()
        reading.create("late")
        reading.until(lambda: store.by_name(reading.namespace, "late"), "the Job that was made meanwhile")
        assert reflector.state.failures == 1
        assert reflector.state.relists == 0


def test_the_state_says_since_when_nothing_has_gone_well(reading: Reading) -> None:
    """Watches that are cut at once mend nothing; one that lasts does."""
    with reading.reflecting(watch_seconds=(300, 300), healthy_seconds=3600.0) as (reflector, _):
        assert reflector.state.failing_since is None
        before = time.monotonic()
        reading.proxy.down("dropping")
        reading.until(lambda: reflector.state.failures >= 2, "two failures")
        since = reflector.state.failing_since
        assert since is not None
        assert before <= since <= time.monotonic()
        reading.proxy.up()
        reading.until(lambda: reflector.state.connected_since is not None, "a watch")
        assert reflector.state.failing_since is None
        reading.proxy.cut_watches()
        reading.until(lambda: reflector.state.failing_since is not None, "it to be cut")
        assert reflector.state.failing_since == since
        reflector._watch_seconds, reflector._healthy_seconds = (2, 2), 0.5
        connects = reflector.state.connects
        reading.until(lambda: reflector.state.connects >= connects + 2, "a watch that lasted, and the next")
        reading.proxy.cut_watches()
        reading.until(lambda: reflector.state.failing_since is not None, "another cut")
        assert reflector.state.failing_since != since


@pytest.mark.parametrize(
    "body", [b"{}", b'{"kind":"JobList","metadata":{},"items":[]}', b'{"kind":"Status","metadata":{"resourceVersion":"9"}}']
)
def test_what_is_no_list_empties_nothing(reading: Reading, body: bytes) -> None:
    reading.create("kept")
    with reading.reflecting() as (reflector, store):
        rule = reading.proxy.befall(Fault(body=body), verb="list", times=2)
        reading.proxy.befall(answer(410), verb="watch", times=1)
        reading.proxy.cut_watches()
        reading.until(lambda: rule.hits == 2 and reflector.state.relists, "two lists that are none, and one that is")
        assert [job.metadata.name for job in store.drain(0.0).upserts] == ["kept"]
        assert not store.drain(0.0).absent


def test_only_the_api_servers_own_word_counts(reading: Reading) -> None:
    """A load balancer without a backend says 404 of every path, and a server of APIs it does not serve yet: no Job is gone by that."""
    reading.create("there")
    where = (reading.namespace, "there")
    assert reading.client.get_job(reading.namespace, "nowhere") is None
    with pytest.raises(errors.NotFound):
        reading.client.patch_job(reading.namespace, "nowhere", {"metadata": {}})
    nothing = json.dumps(
        {"kind": "Status", "code": 404, "reason": "NotFound", "message": "the server could not find it"}
    ).encode()
    for fault in (page(404), page(400), page(409), page(410), page(422), Fault(forward=False, status=404, body=nothing)):
        reading.proxy.befall(fault, times=2)
        with pytest.raises(errors.Unavailable):
            reading.client.get_job(*where)
        with pytest.raises(errors.Unavailable):
            reading.client.patch_job(*where, {"metadata": {}})
    assert reading.client.get_job(*where) is not None


def test_an_answer_that_never_gets_whole_is_given_up(reading: Reading, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "REQUEST_SECONDS", 0.5)
    reading.create("slow")
    reading.proxy.befall(slow(0.0, (1, 0.05)), times=1)
    began = time.monotonic()
    with pytest.raises(errors.Unavailable, match=r"it was not there after 0\.5 s"):
        reading.client.get_job(reading.namespace, "slow")
    assert time.monotonic() - began < 10
    assert reading.client.get_job(reading.namespace, "slow") is not None


def test_a_server_that_fails_is_left_alone_and_said_to_fail(reading: Reading) -> None:
    """Reading and writing apart; a webhook of somebody's that fails is not the server's failure."""
    reading.create("job")
    webhook = {"kind": "Status", "code": 500, "message": 'Internal error occurred: failed calling webhook "theirs"'}
    rules = [
        reading.proxy.befall(Fault(forward=False, status=500, body=json.dumps(webhook).encode()), verb="patch", times=10),
        reading.proxy.befall(answer(500), verb="patch", times=10),
    ]
    for rule in rules:
        assert reading.client.resting() == 0
        assert reading.client.problems() == []
        while rule.times:
            with pytest.raises(errors.Unavailable):
                reading.client.patch_job(reading.namespace, "job", {"metadata": {}})
            assert reading.client.get_job(reading.namespace, "job") is not None
    assert reading.client.resting() > 0
    (said,) = reading.client.problems()
    assert said.startswith("the API server carries out no change (for ")
    assert "10 times in a row" in said
    reading.client.patch_job(reading.namespace, "job", {"metadata": {}})
    assert reading.client.resting() == 0
    assert reading.client.problems() == []


def test_a_page_that_says_all_is_well_started_nothing(reading: Reading) -> None:
    reading.create("job")
    reading.proxy.befall(page(200, "<html>all is well"), verb="patch", times=1)
    heard: list[int] = []
    body = json.dumps({"metadata": {"annotations": {"aiqueue.dev/estimated-runtime": "1s"}}}).encode()
    left = [Request(job_path(reading.namespace, "job"), body, heard.append) for _ in range(2)]
    wire = Wire(
        reading.client,
        1,
        pull=lambda: left.pop() if left else None,
        waiting=lambda: len(left),
        failed=lambda: None,
    )
    wire.start()
    reading.until(lambda: len(heard) == 2, "two answers")
    wire.stop()
    assert heard == [NO_ANSWER, 200]
