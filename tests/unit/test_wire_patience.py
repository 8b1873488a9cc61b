"""Whoever cannot reach the API server, or is sent away by it, tries again later and alone; a connection that is dead is found out."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus

import pytest
from kubernetes import client as official

from aiqueue.admission.controller.actor import Actor, Ended
from aiqueue.admission.controller.facts import Inbox, Result
from aiqueue.admission.controller.lane import Lane
from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.wire import Request, Wire
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.store.actions import Action
from fix_follow import make_action

CONNECTIONS = 4


def client_of(host: str) -> KubeClient:
    configuration = official.Configuration()
    configuration.host = host
    configuration.verify_ssl = False
    return KubeClient(configuration)


class Failures:
    """When a wire said that it could not connect."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def failed(self) -> None:
        self.at.append(time.monotonic())


@contextmanager
def running(host: str, failures: Failures) -> Iterator[Wire]:
    """A wire that always has something to send and never gets to it."""
    client = client_of(host)
    request = Request("/", b"{}", lambda _: None)
    wire = Wire(client, CONNECTIONS, pull=lambda: request, waiting=lambda: CONNECTIONS, failed=failures.failed)
    wire.start()
    wire.wake()
    yield wire
    wire.stop(1.0)
    client.close()


@contextmanager
def hanging_up() -> Iterator[tuple[int, list[float]]]:
    """A port where whoever connects is hung up on, and when that was."""
    taken: list[float] = []

    def serve() -> None:
        with suppress(OSError):  # it is closed
            while True:
                connection, _ = server.accept()
                taken.append(time.monotonic())
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield int(server.getsockname()[1]), taken
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_connections_that_fail_are_tried_again_later_and_one_at_a_time() -> None:
    failures = Failures()
    with hanging_up() as (port, taken), running(f"https://127.0.0.1:{port}", failures):
        until(lambda: len(failures.at) >= 3, seconds=60, what="three failures")
        tries = len(taken)
    first, second, third = failures.at[:3]
    assert min(second - first, third - second) >= 0.5
    assert tries <= CONNECTIONS + 2


def test_a_connection_asks_whether_the_other_end_is_still_there() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with server, running(f"http://127.0.0.1:{server.getsockname()[1]}", Failures()) as wire:
        until(lambda: bool(wire._all), seconds=60, what="a connection")
        (connection, *_) = wire._all
        assert connection._transport is not None
        its_socket = connection._transport.get_extra_info("socket")
        assert its_socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.parametrize(
    "status", [HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE]
)
def test_the_hands_wait_before_they_try_what_an_overwhelmed_server_sent_away(status: HTTPStatus) -> None:
    did: list[float] = []

    def hands(_action: Action) -> Ended:
        did.append(time.monotonic())
        return Result.DONE, ""

    actor = Actor(hands, Inbox(), threads=1, trusted=lambda: True, now=lambda: datetime.now(UTC))
    lane = Lane(actor, client_of("http://127.0.0.1:9"), lambda _: ("/", b"{}"), connections=1)
    actor.open_lane(lambda: None)
    actor.start()
    actor.submit([make_action(1)])
    action = actor.begin_start()
    assert action is not None
    began = time.monotonic()
    lane._answered(action, status)
    until(lambda: bool(did), seconds=60, what="the hands to try")
    actor.stop()
    lane.stop()
    assert did[0] - began >= 0.5
