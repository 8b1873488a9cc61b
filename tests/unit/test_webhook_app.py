"""What the application answers when something in it goes wrong or takes too long: a verdict that lets the Job in."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from aiqueue.admission.webhook import app, reviews
from aiqueue.admission.webhook.app import Application
from aiqueue.admission.webhook.judge import Judge, Known
from aiqueue.admission.webhook.refusals import RefusalLog
from aiqueue.admission.webhook.reviews import Answer, Review
from aiqueue.queue.errors import LedgerError
from fix_prompt import prompt
from fix_reviews import job, review

BODY = json.dumps(review(job("team-a", "train"))).encode()


class Fine:
    """A process with nothing to say about itself."""

    draining = False

    def sick(self) -> list[str]:
        return []

    def problems(self) -> list[str]:
        return []

    def remarks(self) -> list[str]:
        return []


class Source:
    """Knows nothing, and does on a read what the test says."""

    def __init__(self, read: Callable[[], Known]) -> None:
        self._read = read

    def current(self) -> Known | None:
        return None

    def read_through(self) -> Known:
        return self._read()


@pytest.fixture
def applications() -> Iterator[Callable[[Callable[[], Known]], Application]]:
    made: list[Application] = []

    def make(read: Callable[[], Known]) -> Application:
        made.append(Application(Judge(Source(read)), Fine()))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def post(application: Application, body: bytes = BODY) -> tuple[int, bytes]:
    """Send a review to the application itself."""
    sent: list[dict[str, Any]] = []
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": app.PATH, "root_path": "", "query_string": b"", "headers": headers}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope, receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])


def test_a_fault_of_ours_lets_the_job_in_and_is_logged(applications: Callable[[Callable[[], Known]], Application]) -> None:
    def broken() -> Known:
        raise RuntimeError("a bug")

    with capture_logs() as logged:
        status, answer = asyncio.run(post(applications(broken)))
    response = json.loads(answer)["response"]
    assert status == 200
    assert response["allowed"] is True
    assert "its log says why" in response["warnings"][0]
    (line,) = logged
    assert (line["event"], line["log_level"]) == ("review failed", "error")
    assert line["exc_info"]
    assert "template" not in str(line)  # no whole objects


@pytest.mark.parametrize(("part", "expected"), [("decode", 400), ("encode", 200)])
def test_a_fault_in_reading_or_writing_is_no_500(
    applications: Callable[[Callable[[], Known]], Application],
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    expected: int,
) -> None:
    sound, broken = getattr(reviews, part), [True]

    def once(*given: Any) -> Any:
        if broken.pop() if broken else False:
            raise RuntimeError("a bug")
        return sound(*given)

    def away() -> Known:
        raise LedgerError("away")

    monkeypatch.setattr(reviews, part, once)
    with capture_logs() as logged:
        status, answer = asyncio.run(post(applications(away)))
    assert status == expected
    assert b"its log says why" in answer
    assert logged[0]["log_level"] == "error"


def test_a_verdict_that_takes_too_long_lets_the_job_in_in_time(
    applications: Callable[[Callable[[], Known]], Application],
) -> None:
    released = threading.Event()

    def slow() -> Known:
        released.wait(60)
        raise RuntimeError

    try:
        status, answer = prompt(lambda: asyncio.run(post(applications(slow))), 2)
    finally:
        released.set()
    assert status == 200
    assert json.loads(answer)["response"]["allowed"] is True
    assert "in time" in json.loads(answer)["response"]["warnings"][0]


def test_beyond_its_bound_it_sends_the_api_server_away(applications: Callable[[Callable[[], Known]], Application]) -> None:
    released = threading.Event()

    def slow() -> Known:
        released.wait(30)
        raise RuntimeError

    async def crowd() -> list[tuple[int, bytes]]:
        application = applications(slow)
        asked = [asyncio.create_task(post(application)) for _ in range(app.MOST_REVIEWS + 3)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        answers = [await each for each in done]
        released.set()
        return answers + [await each for each in asked if each not in done]

    with capture_logs():  # hundreds of tracebacks take long to print
        answers = asyncio.run(crowd())
    statuses = [status for status, _ in answers]
    assert statuses.count(503) == 3
    assert statuses.count(200) == app.MOST_REVIEWS
    assert b"reviews are in hand already" in answers[0][1]


def test_the_log_of_refusals_is_bounded_and_counts_the_rest() -> None:
    asked = Review("1", "CREATE", "team-a", "alice")
    log = RefusalLog()
    with capture_logs() as logged:
        for _ in range(1000):
            log.add(asked, Answer(allowed=False, sentence="x" * 10_000, code=403))
    assert 50 <= len(logged) < 100
    assert all(len(line["why"]) <= 400 for line in logged)
    log._left = 1
    with capture_logs() as later:
        log.add(asked, Answer(allowed=False, sentence="no", code=403))
    assert later[0]["others_not_logged"] + len(logged) == 1000
    assert {"operation", "namespace", "user", "uid", "code", "why"} <= set(later[0])
