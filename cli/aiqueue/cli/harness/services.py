"""The processes of aiqueue in an environment of the harness, in one shape: started side by side, each waited for until it is ready.

A process is ready when its /readyz answers 200; until then it says there what it lacks, and that is what a person is told.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiqueue.cli.harness.environment import DevEnvironment
from aiqueue.cli.harness.errors import HarnessError, ProgramFailed
from aiqueue.cli.harness.ports import LOOPBACK
from aiqueue.cli.harness.state import Record
from aiqueue.cli.harness.waiting import until

READY_SECONDS = 60.0
ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Service:
    """A process that goes on running.

    Attributes:
        name: for `aiqueue dev status` and `aiqueue dev logs`.
        argv: program and arguments.
        environment: makes its variables, besides PATH and HOME, when it is to be started; they may hold passwords.
        lacking: why it is not ready, in its own words; empty when it is.
    """

    name: str
    argv: tuple[str, ...]
    environment: Callable[[], Mapping[str, str]]
    lacking: Callable[[], str]


def start(environment: DevEnvironment, services: Sequence[Service], *, seconds: float = READY_SECONDS) -> None:
    """Start those that do not run, and return when all of them are ready. The environment's lock is held.

    Raises:
        HarnessError: one is not ready in time; says what it lacks.
        ProgramFailed: one ended; carries the tail of its log.
    """
    # All of them before the first is waited for: most of what they do at their start is reading files.
    started = [(each, _running(environment, each)) for each in services]
    for service, record in started:
        _await_ready(environment, service, record, seconds)


def readiness(port: int, ca_file: Path | None = None) -> str:
    """Why the process at this port of loopback is not ready; empty when it is.

    Args:
        port: where it answers /readyz.
        ca_file: who must have signed its certificate; None for plain HTTP.
    """
    try:
        connection = _connection(port, ca_file)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace").strip()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        return f"it does not answer: {error}"
    return "" if answer.status == http.HTTPStatus.OK else said


def _connection(port: int, ca_file: Path | None) -> http.client.HTTPConnection:
    if ca_file is None:
        return http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_SECONDS)
    context = ssl.create_default_context(cafile=str(ca_file))
    return http.client.HTTPSConnection(LOOPBACK, port, timeout=ANSWER_SECONDS, context=context)


def _running(environment: DevEnvironment, service: Service) -> Record:
    found = environment.find_service(service.name)
    return found or environment.start_service(service.name, service.argv, service.environment())


def _await_ready(environment: DevEnvironment, service: Service, record: Record, seconds: float) -> None:
    lacking = "it does not answer yet"

    def ready() -> bool:
        nonlocal lacking
        environment.require_service(record)
        lacking = service.lacking()
        return not lacking

    try:
        until(ready, seconds=seconds, what=f"readiness of the {service.name}", longest_pause_seconds=0.1)
    except ProgramFailed:
        raise
    except HarnessError as error:
        raise HarnessError(f"{error}: {lacking}; see `aiqueue dev logs {service.name}`") from error
