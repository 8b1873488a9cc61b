"""Webhooks that come, go, hang and change their certificate while a real API server asks them about Jobs.

The webhooks of a test that reads "no create failed" are registered with failurePolicy Fail wherever that would show a dropped
review; what is shipped is Ignore.
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

import pytest
import urllib3
from kubernetes import client as official
from kubernetes import config

from aiqueue.cli.harness import ports
from aiqueue.cli.harness.certificates import Authority
from fix_doors import Doors, WebhookProcess
from fix_managed import Actor, job

pytestmark = pytest.mark.e2e
loaders: Any = config  # untyped
THREADS = 4
PER_SECOND = 100
#: What the API server waits for a webhook, and what the rest of a create may take on a busy machine; by itself it would wait for 10.
HANGING_SECONDS = 2 + 6


class Creates:
    """Jobs for queue train, created by a user at a steady rate until stopped. Every answer but 201 is kept."""

    def __init__(self, user: Actor, namespace: str) -> None:
        settings = official.Configuration()
        loaders.load_kube_config(str(user.kubeconfig), client_configuration=settings)
        self._pool = urllib3.PoolManager(
            maxsize=THREADS,
            ca_certs=settings.ssl_ca_cert,
            cert_file=settings.cert_file,
            key_file=settings.key_file,
            retries=False,
            timeout=30,
        )
        self._url = f"{settings.host}/apis/batch/v1/namespaces/{namespace}/jobs"
        self._namespace = namespace
        self._numbers = itertools.count()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._create_all) for _ in range(THREADS)]
        self.created = 0
        self.failures: list[str] = []

    def __enter__(self) -> Creates:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for each in self._threads:
            each.join()
        self._pool.clear()

    def create(self, name: str, queue: str | None = "train") -> urllib3.BaseHTTPResponse:
        """Create one Job, labelled if a queue is given."""
        content = job(self._namespace, name, labels={"aiqueue.dev/queue": queue} if queue else None)
        body = json.dumps(content).encode()
        return self._pool.request("POST", self._url, body=body, headers={"Content-Type": "application/json"})

    def _create_all(self) -> None:
        while not self._stop.wait(THREADS / PER_SECOND):
            answer = self.create(f"load-{next(self._numbers)}")
            if answer.status == HTTPStatus.CREATED:
                self.created += 1
            else:
                self.failures.append(f"{answer.status}: {answer.data.decode(errors='replace')[:300]}")

    def await_more(self, doors: Doors, count: int) -> None:
        """Wait until so many more were created, or one failed."""
        wanted = self.created + count
        doors.until(lambda: self.created >= wanted or self.failures, f"{count} more Jobs to be created")


def open_two(doors: Doors, **change: Any) -> tuple[WebhookProcess, WebhookProcess]:
    """Two webhooks on one port, both asked."""
    (port,) = ports.choose(1)
    first, second = (doors.start(port=port, webhook_share_port="true", webhook_drain_seconds="2") for _ in range(2))
    for each in (first, second):
        doors.until(_loaded(each), "a configuration")
    doors.register(doors.await_ready(first), **change)
    return first, second


def _loaded(webhook: WebhookProcess) -> Callable[[], bool]:
    return lambda: "configuration loaded" in webhook.said() and "certificate served" in webhook.said()


def waits(doors: Doors, name: str) -> bool:
    """Whether a Job is stored suspended."""
    stored = json.loads(doors.cluster.kubectl("get", "job", name, f"-n={doors.namespace}", "-o=json"))
    return stored["spec"]["suspend"] is True and not stored["status"].get("active")


def test_killing_one_of_two_fails_no_create(doors: Doors, alice: Actor) -> None:
    first, second = open_two(doors)
    with Creates(alice, doors.namespace) as load:
        load.await_more(doors, 150)
        first.kill()
        load.await_more(doors, 250)
    assert load.failures == []
    assert first.ended()
    refused = load.create("other", queue="nowhere")
    assert refused.status == HTTPStatus.FORBIDDEN, refused.data
    assert b"nowhere" in refused.data
    assert not second.ended()


def test_stopping_one_of_two_drops_no_review(doors: Doors, alice: Actor) -> None:
    first, second = open_two(doors, failurePolicy="Fail", timeoutSeconds=20)
    with Creates(alice, doors.namespace) as load:
        load.await_more(doors, 100)
        first.signal(signal.SIGTERM)
        load.await_more(doors, 100)
        doors.until(first.ended, "its end")
        load.await_more(doors, 100)
    assert load.failures == []
    assert first.process.returncode == 0
    assert "Traceback" not in first.said() + second.said()


def test_a_new_certificate_drops_no_review(doors: Doors, alice: Actor) -> None:
    webhook = doors.await_ready(doors.start())
    doors.register(webhook, failurePolicy="Fail", timeoutSeconds=20)  # what is tried is not speed
    with Creates(alice, doors.namespace) as load:
        for served in (2, 3):
            load.await_more(doors, 50)
            Authority.open(doors.certificates).serving("tls")
            doors.until(lambda served=served: webhook.said().count("certificate served") == served, "the new certificate")  # type: ignore[misc]  # bound now
        load.await_more(doors, 100)
    assert load.failures == []


def test_a_webhook_that_is_down_stops_nobody(doors: Doors, alice: Actor) -> None:
    webhook = doors.open()
    load = Creates(alice, doors.namespace)
    assert load.create("before", queue="nowhere").status == HTTPStatus.FORBIDDEN
    webhook.kill()
    assert load.create("down", queue="nowhere").status == HTTPStatus.CREATED
    assert waits(doors, "down")
    plain = load.create("plain", queue=None)
    assert plain.status == HTTPStatus.CREATED
    assert plain.json()["spec"]["suspend"] is False


def test_a_webhook_that_hangs_stops_nobody_for_long(doors: Doors, alice: Actor) -> None:
    webhook = doors.open()
    load = Creates(alice, doors.namespace)
    webhook.signal(signal.SIGSTOP)

    def timed(name: str) -> tuple[int, float]:
        began = time.monotonic()
        return load.create(name, queue="nowhere").status, time.monotonic() - began

    names = [f"hung-{number}" for number in range(3)]
    with ThreadPoolExecutor(len(names)) as crowd:
        for name, (status, seconds) in zip(names, crowd.map(timed, names), strict=True):
            assert status == HTTPStatus.CREATED
            assert seconds < HANGING_SECONDS
            assert waits(doors, name)
    webhook.signal(signal.SIGCONT)
    doors.until(lambda: load.create("after", queue="nowhere").status == HTTPStatus.FORBIDDEN, "it to refuse again")
