"""Orders for the client's process (`client.py`), and what it answers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from aiqueue.cli.harness.errors import HarnessError
from webhook import client

#: On top of what the order itself should take.
GRACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Order:
    """What to send. With `rate` an open loop of `count` requests, without it a closed loop of `seconds`.

    Attributes:
        port: on loopback.
        ca_file: who signed the server's certificate.
        token: to show, if any.
        requests: path and body; taken in turn, `client.NUMBER` replaced by a number of its own in each request.
        first_number: numbers go up from here.
        connections: opened before the clock starts, and never more.
        status: expected of every answer.
        text: expected in every answer.
        rate: requests a second.
    """

    port: int
    ca_file: str
    token: str
    requests: Sequence[tuple[str, str]]
    first_number: int
    connections: int
    status: int
    text: str
    rate: float | None = None
    count: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an order."""

    latencies_ms: Sequence[float]
    statuses: Mapping[str, int]
    late: int
    latest_ms: float
    unexpected: str
    seconds: float
    cpu_seconds: float

    @property
    def count(self) -> int:
        return len(self.latencies_ms)


def run(order: Order) -> Outcome:
    """Carry out an order in a fresh process.

    Raises:
        HarnessError: an answer was not as expected, a connection broke, or the client did not end in time.
    """
    expected = order.count / order.rate if order.rate else order.seconds
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(Path(client.__file__))],
            input=json.dumps(asdict(order)),
            capture_output=True,
            text=True,
            check=False,
            timeout=expected + GRACE_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise HarnessError(f"the client did not end within {error.timeout:g} s") from error
    if done.returncode != 0:
        raise HarnessError(f"the client failed: {done.stderr.strip()[-1000:]}")
    outcome = Outcome(**json.loads(done.stdout))
    if outcome.unexpected:
        raise HarnessError(f"an answer was not {order.status} with {order.text!r} ({outcome.statuses}): {outcome.unexpected}")
    if order.rate and outcome.count != order.count:
        raise HarnessError(f"{outcome.count} of {order.count} requests were answered")
    return outcome
