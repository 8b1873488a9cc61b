"""The AdmissionReview of admission.k8s.io/v1: requests in, answers out.

A request is read in two steps. Its envelope must be right, or there is nobody to answer (`UnreadableReview`). The object in it
need not be: a Job of a newer API or nonsense sent by hand is let through with a warning, since a webhook that cannot read a
Job has no business refusing it. What is echoed is only the uid, which is bounded, and what the answer says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from aiqueue.admission.kube import objects
from aiqueue.admission.kube.templates import clean
from aiqueue.admission.webhook import submitted
from aiqueue.admission.webhook.submitted import SubmittedJob, TooManyParts
from aiqueue.queue.errors import AiqueueError

API_VERSION = "admission.k8s.io/v1"
KIND = "AdmissionReview"
FORBIDDEN, INVALID = 403, 422  # by what the ledger or the running Job says; by what stands in the Job
MAX_MESSAGE = 2048  # characters
MAX_WARNINGS = 8
MAX_WARNING_BYTES = 256  # the API server cuts off longer ones where it is given many

_UID = re.compile(r"[!-~]{1,128}", re.ASCII)
_REASONS = {FORBIDDEN: "Forbidden", INVALID: "Invalid"}
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)


class UnreadableReview(AiqueueError):
    """The request is no AdmissionReview of admission.k8s.io/v1, so there is no uid to answer to."""


class _Resource(objects.Object, frozen=True):
    group: str = ""
    version: str = ""
    resource: str = ""


class _User(objects.Object, frozen=True):
    username: str = ""


class _Request(objects.Object, frozen=True):
    uid: str = ""
    operation: str = ""
    namespace: str = ""
    resource: _Resource = _Resource()
    sub_resource: str = ""
    user_info: _User = _User()
    object: msgspec.Raw = msgspec.Raw(b"null")
    old_object: msgspec.Raw = msgspec.Raw(b"null")


class _Envelope(objects.Object, frozen=True):
    api_version: str = ""
    kind: str = ""
    request: _Request | None = None


class _Status(objects.Object, frozen=True):
    code: int
    message: str
    reason: str


class _Response(objects.Object, frozen=True, omit_defaults=True):
    uid: str
    allowed: bool
    status: _Status | None = None
    warnings: tuple[str, ...] = ()


class _Answered(objects.Object, frozen=True):
    api_version: str
    kind: str
    response: _Response


_ENVELOPES = msgspec.json.Decoder(_Envelope)
_ANSWERS = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Review:
    """What the API server asks.

    Attributes:
        uid: names the request.
        operation: CREATE or UPDATE where there is something to judge.
        namespace: where the Job is, whatever stands in it.
        user: who asks, as the API server knows them; clean and bounded.
        job: the Job as it is to be stored; None where there is nothing to judge, or it cannot be read.
        old: the Job as it is stored, on an update; None on a create.
        unreadable: why the Job cannot be read, as a sentence, or "".
    """

    uid: str
    operation: str = ""
    namespace: str = ""
    user: str = ""
    job: SubmittedJob | None = None
    old: SubmittedJob | None = None
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server is told.

    Attributes:
        allowed: whether the request may go on.
        sentence: why it may not.
        code: HTTP status of a refusal: `FORBIDDEN` or `INVALID`.
        warnings: what the user is told all the same.
    """

    allowed: bool
    sentence: str = ""
    code: int = 0
    warnings: tuple[str, ...] = ()


def decode(body: bytes) -> Review:
    """Read a request. Whatever the bytes are, this answers or raises the one error.

    Raises:
        UnreadableReview: it is no AdmissionReview of admission.k8s.io/v1 with a request and a uid.
    """
    try:
        envelope = _ENVELOPES.decode(body)
    except _UNREADABLE as error:
        raise UnreadableReview(f"the body is no {KIND} of {API_VERSION}: {clean(str(error))}") from None
    if (envelope.api_version, envelope.kind) != (API_VERSION, KIND):
        said = f"{_shown(envelope.api_version)} {_shown(envelope.kind)}"
        raise UnreadableReview(f"the body is {said}: send {KIND} of {API_VERSION}")
    request = envelope.request
    if request is None:
        raise UnreadableReview(f"the {KIND} has no request: send one with request.uid")
    if not _UID.fullmatch(request.uid):
        raise UnreadableReview(f"request.uid is {_shown(request.uid)}: send 1 to 128 printable ASCII characters")
    return _review(request)


def _review(request: _Request) -> Review:
    namespace, user = clean(request.namespace)[: submitted.MAX_NAME], clean(request.user_info.username)
    asked = request.resource == _Resource("batch", "v1", "jobs") and not request.sub_resource
    if not asked or request.operation not in ("CREATE", "UPDATE"):
        return Review(request.uid, clean(request.operation), namespace, user)
    try:
        job = submitted.read(request.object)
        old = submitted.read(request.old_object) if request.operation == "UPDATE" else None
    except (*_UNREADABLE, TooManyParts) as error:
        sentence = f"aiqueue could not read this Job and checked nothing of it: {clean(str(error))}"
        return Review(request.uid, request.operation, namespace, user, unreadable=sentence)
    return Review(request.uid, request.operation, namespace, user, job, old)


def encode(review: Review, answer: Answer) -> bytes:
    """The answer as JSON. Texts are cut to their bounds, and have no control characters left."""
    status = None
    if not answer.allowed:
        code = answer.code or FORBIDDEN
        status = _Status(code, bounded(answer.sentence, MAX_MESSAGE), _REASONS.get(code, "Forbidden"))
    warnings = tuple(_warning(each) for each in answer.warnings[:MAX_WARNINGS])
    return _ANSWERS.encode(_Answered(API_VERSION, KIND, _Response(review.uid, answer.allowed, status, warnings)))


def bounded(text: str, characters: int) -> str:
    """Printable text of at most so many characters."""
    shortened = text if len(text) <= characters else text[: characters - 1] + "…"
    if shortened.isprintable():
        return shortened
    return "".join(letter if letter.isprintable() else "?" for letter in shortened)


def _warning(text: str) -> str:
    kept = bounded(text, MAX_WARNING_BYTES)
    if len(kept.encode()) <= MAX_WARNING_BYTES:
        return kept
    return kept.encode()[: MAX_WARNING_BYTES - 3].decode(errors="ignore") + "…"


def _shown(text: str) -> str:
    return repr(bounded(text, 64))
