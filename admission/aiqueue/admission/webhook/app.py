"""What is answered to whom: the API server's questions about Jobs, and the probes.

A review that can be read is always answered with 200 and a verdict: whatever goes wrong here allows the Job, with a warning, and
is logged. A request that is no review gets a status of its own and a sentence.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Protocol

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from aiqueue.admission.webhook import reviews
from aiqueue.admission.webhook.judge import Judge
from aiqueue.admission.webhook.refusals import RefusalLog
from aiqueue.admission.webhook.reviews import Answer, Review, UnreadableReview

_log = structlog.get_logger()
PATH = "/validate/jobs"
#: The API server takes no larger object, and a review carries at most two of them.
MOST_BYTES = 3 * 2**20
#: A body must have come by then: the API server itself gives up after two seconds.
BODY_SECONDS = 5.0
#: Reviews in hand at once; beyond it the API server is sent away and goes on without us.
MOST_REVIEWS = 256
#: Threads in which refusals are confirmed with the ledger.
_THREADS = 64
#: A verdict that takes longer is of no use to the API server.
_VERDICT_SECONDS = 1.7
#: After a body that is too large this much more is read and thrown away, so that the sender gets to see the answer.
_LINGER_BYTES = 16 * 2**20
_LINGER_SECONDS = 2.0
_UNCHECKED = Answer(allowed=True, warnings=("aiqueue could not check this Job: its log says why",))


class Condition(Protocol):
    """How the process is."""

    @property
    def draining(self) -> bool:
        """Whether it was asked to stop."""

    def sick(self) -> list[str]:
        """Why it should be started anew, in sentences."""

    def problems(self) -> list[str]:
        """Why it cannot do its work yet or any more, in sentences."""

    def remarks(self) -> list[str]:
        """What is wrong and yet keeps it from nothing, in sentences."""


class TooLarge(Exception):
    """The body is larger than `MOST_BYTES`."""


class Application:
    """The ASGI application; `close` it at the end."""

    def __init__(self, judge: Judge, condition: Condition) -> None:
        self._judge = judge
        self._condition = condition
        self._in_hand = 0
        self._refusals = RefusalLog()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="confirm")
        self._routes = Starlette(
            routes=[
                Route(PATH, self._validate, methods=["POST"]),
                Route("/healthz", self._healthz, methods=["GET"]),
                Route("/readyz", self._readyz, methods=["GET"]),
            ],
            exception_handlers={HTTPException: self._not_here},
        )
        self._routes.router.redirect_slashes = False  # an address that is nearly right is wrong

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._routes(scope, receive, send)

    def close(self) -> None:
        """Let go of the threads; what they still do is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _validate(self, request: Request) -> Response:
        if self._in_hand >= MOST_REVIEWS:
            return self._said(HTTPStatus.SERVICE_UNAVAILABLE, f"{MOST_REVIEWS} reviews are in hand already: ask again")
        self._in_hand += 1
        try:
            return await self._reviewed(request)
        finally:
            self._in_hand -= 1

    async def _reviewed(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            sentence = f"the content type is {kind[:100]!r}: send an AdmissionReview as application/json"
            return self._said(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, sentence)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
        except TooLarge:
            return _Lingering(f"the body is larger than {MOST_BYTES} bytes: no review of a Job is\n")
        except TimeoutError:
            return self._said(HTTPStatus.REQUEST_TIMEOUT, f"the body did not come within {BODY_SECONDS:g} s", close=True)
        except ClientDisconnect:
            return self._said(HTTPStatus.BAD_REQUEST, "the body ended early", close=True)
        return await self._judged(body)

    async def _judged(self, body: bytes) -> Response:
        try:
            review = reviews.decode(body)
        except UnreadableReview as error:
            return self._said(HTTPStatus.BAD_REQUEST, str(error))
        except Exception:  # noqa: BLE001 -- without a uid there is nothing to allow; the API server goes on without us
            _log.exception("body not readable", bytes=len(body))
            return self._said(HTTPStatus.BAD_REQUEST, "aiqueue could not read this review: its log says why")
        answer = await self._verdict(review)
        try:
            content = reviews.encode(review, answer)
        except Exception:  # noqa: BLE001 -- as in _verdict
            self._failed(review)
            answer = _UNCHECKED
            content = reviews.encode(review, answer)
        if not answer.allowed:
            self._refusals.add(review, answer)
        return Response(content, media_type="application/json", headers=self._headers())

    async def _verdict(self, review: Review) -> Answer:
        try:
            answer = self._judge.quick(review)
            if answer is None:
                async with asyncio.timeout(_VERDICT_SECONDS):
                    answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._judge.thorough, review)
        except TimeoutError:
            return Answer(allowed=True, warnings=("aiqueue did not come to a verdict in time: the Job waits unchecked",))
        except Exception:  # noqa: BLE001 -- a fault of ours must not stop anybody's Job
            self._failed(review)
            return _UNCHECKED
        return answer

    @staticmethod
    def _failed(review: Review) -> None:
        _log.exception("review failed", uid=review.uid[:64], namespace=review.namespace[:64], operation=review.operation)

    async def _healthz(self, _request: Request) -> Response:
        return self._sentences(self._condition.sick(), [])

    async def _readyz(self, _request: Request) -> Response:
        return self._sentences(self._condition.problems(), self._condition.remarks())

    async def _not_here(self, _request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.BAD_REQUEST
        return self._said(status, f"ask for POST {PATH}, GET /healthz or GET /readyz")

    def _sentences(self, problems: list[str], remarks: list[str]) -> Response:
        if problems:
            return self._said(HTTPStatus.SERVICE_UNAVAILABLE, "\n".join(problems))
        return self._said(HTTPStatus.OK, "\n".join(["ok", *remarks]))

    def _said(self, status: int, sentence: str, *, close: bool = False) -> Response:
        return PlainTextResponse(f"{sentence}\n", status, headers=self._headers(close=close))

    def _headers(self, *, close: bool = False) -> dict[str, str]:
        """While draining every answer is the last of its connection, so that clients go elsewhere without an error."""
        return {"Connection": "close"} if close or self._condition.draining else {}


async def _body(request: Request) -> bytes:
    """The whole body.

    Raises:
        TooLarge: it is, or says that it will be.
    """
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > MOST_BYTES:
        raise TooLarge
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_BYTES:
            raise TooLarge
        chunks.append(chunk)
    return b"".join(chunks)


class _Lingering(PlainTextResponse):
    """413: answers first, then reads on for a while; a connection closed with unread bytes would be reset, answer and all."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, headers={"Connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
        except TimeoutError:
            pass  # long enough
        await send({"type": "http.response.body", "body": b"", "more_body": False})
