"""What the lane cannot start is left to the hands, whatever kept it from it. Nobody listens where it would connect."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from kubernetes import client as official

from aiqueue.admission.controller.actor import Actor, Ended
from aiqueue.admission.controller.facts import Inbox, Result
from aiqueue.admission.controller.lane import Lane, Opening
from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness import ports
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.errors import LedgerError
from aiqueue.queue.store.actions import Action
from fix_follow import make_action


class Stand:
    """An actor with a lane; `did` are the actions that came to the hands."""

    def __init__(self, opening: Opening) -> None:
        (port,) = ports.choose(1)
        configuration = official.Configuration()
        configuration.host = f"http://127.0.0.1:{port}"
        self.did: list[int] = []
        self.lock = threading.Lock()
        self.actor = Actor(self._hands, Inbox(), threads=1, trusted=lambda: True, now=lambda: datetime.now(UTC))
        self.lane = Lane(self.actor, KubeClient(configuration), opening, connections=2)

    def _hands(self, action: Action) -> Ended:
        with self.lock:
            self.did.append(action.id)
        return Result.DONE, ""


@pytest.fixture
def failure() -> Exception:
    return RuntimeError("nobody thought of this")


@pytest.fixture
def stand(failure: Exception) -> Iterator[Stand]:
    def opening(action: Action) -> tuple[str, bytes]:
        if action.id % 2:
            raise failure
        return "/apis/batch/v1/namespaces/team/jobs/train", b"{}"

    made = Stand(opening)
    made.actor.start()
    made.lane.start()
    yield made
    made.lane.stop()
    made.actor.stop()


@pytest.mark.parametrize("failure", [RuntimeError("nobody thought of this"), LedgerError("a fault of the ledger's")])
def test_what_the_lane_fails_at_is_done_by_the_hands_and_the_lane_goes_on(stand: Stand) -> None:
    actions = [make_action(number, workload=number) for number in range(1, 9)]
    stand.actor.submit(actions[:4])
    until(lambda: len(stand.did) == 4, seconds=60, what="four actions to be done")
    stand.actor.submit(actions[4:])
    until(lambda: len(stand.did) == 8, seconds=60, what="the rest to be done")
    assert sorted(stand.did) == [action.id for action in actions]
